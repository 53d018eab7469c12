"""The facts about this data set: what is true of it and of no other.

The runbook reads this file when it loads and splits the rows, judges a model, tests an endpoint and writes a report.
The fields of a request, their types and ranges stand in deployment/request.py. ``runbook check`` holds both against
the file and lists what does not fit.
"""

from __future__ import annotations

from typing import Any

# The file beside this one. After a change of the data, write its new sha256 and number of rows here.
FILE = "titanic.csv"
SHA256 = "97c590906391d4156c8bd86908136a63ded53089482933af5908fc126a70a708"
ROWS = 891

# The column to predict. It holds 0 and 1; a column of two words gets its codes in CODES.
LABEL = "Survived"

# Rows with the same value in this column belong together: a split never parts them. None: every row stands alone.
GROUP = "Ticket"

# The column that names a row in messages. None: messages give the row's number.
KEY = "PassengerId"

# About this share of the groups becomes the holdout, chosen by a salted hash of GROUP.
HOLDOUT_SHARE = 0.2
HOLDOUT_SALT = "titanic-runbook-1"

# Where a request field and its column have different names: {field: column}.
COLUMNS: dict[str, str] = {}

# Text columns and the numbers that stand for their words in a request: {field: {word: code}}.
CODES: dict[str, dict[str, int]] = {
    "Sex": {"female": 0, "male": 1},
    "Embarked": {"S": 0, "C": 1, "Q": 2},
}

# Date columns, and the day from which a request counts days: {field: "YYYY-MM-DD"}.
DATES: dict[str, str] = {}

# Words for people: the subject of the model, one row, and the sentence "1 means that a passenger survives".
TITLE = "Titanic survival"
ROW = "passenger"
POSITIVE = "survives"

# Rules of one line that a model must beat, besides "majority": {name: the one field that the rule looks at}.
# A rule answers the share of positives on each side of the best single split of that field.
BASELINES = {"women live": "Sex"}


def slices(table: Any) -> dict[str, Any]:
    """Return the groups of rows on which a model is looked at separately: {name: mask}.

    ``table`` is a pandas.DataFrame with the request's fields as columns, null as NaN.
    """
    age = table["Age"]
    family = table["SibSp"] + table["Parch"]
    return {
        "women": table["Sex"] == 0,
        "men": table["Sex"] == 1,
        "class 1": table["Pclass"] == 1,
        "class 2": table["Pclass"] == 2,
        "class 3": table["Pclass"] == 3,
        "under 14": age < 14,
        "14 to 49": (age >= 14) & (age < 50),
        "50 and over": age >= 50,
        "age unknown": age.isna(),
        "alone": family == 0,
        "family of 2 to 4": (family >= 1) & (family <= 3),
        "family of 5 or more": family >= 4,
    }


# Requests that the functional test sends by name, each with the prediction that must come back. None: the answer is
# only compared with the model file. The values stand in the order of the request's fields.
_KELLY = (3, 1, 34.5, 0, 0, 7.8292, 2)
KNOWN_CASES: dict[str, dict[str, tuple[tuple[float | None, ...], int | None]]] = {
    "the article's payload": {"Mrs. Cumings lives": ((1, 0, 38, 1, 0, 71.2833, 2), 1)},
    "Mr. Kelly": {"Mr. Kelly dies": (_KELLY, 0)},
    "the article's six requests": {
        "request 1": (_KELLY, None),
        "request 2": ((3, 0, 40, 1, 1, 2.56, 0), None),
        "request 3": ((3, 0, 12, 1, 2, 300, 1), None),
        "request 4": ((3, 1, 18, 1, 5, 4.1, 0), None),
        "request 5": ((3, 0, 71, 0, 1, 72, 1), None),
        "request 6": ((3, 1, 26, 0, 0, 1.8, 2), None),
    },
    "passengers at the edges": {
        "Mrs. Cumings from Cherbourg": ((1, 0, 38, 1, 0, 71.2833, 1), None),
        "a man of the second class": ((2, 1, 35, 0, 0, 26.0, 0), None),
        "age unknown": ((3, 1, None, 0, 0, 8.05, 0), None),
        "fare unknown": ((3, 0, 22, 0, 0, None, 0), None),
        "port unknown": ((1, 0, 62, 0, 0, 80.0, None), None),
        "all three unknown": ((2, 0, None, 1, 2, None, None), None),
        "the youngest": ((3, 1, 0.17, 1, 2, 20.575, 0), None),
        "the oldest": ((1, 1, 80, 0, 0, 30.0, 0), None),
        "age 0": ((3, 0, 0, 0, 0, 7.75, 2), None),
        "age 120, no fare": ((1, 1, 120, 0, 0, 0, 1), None),
        "the dearest ticket": ((1, 0, 35, 0, 0, 512.3292, 1), None),
        "the largest family": ((3, 1, 40, 8, 9, 69.55, 0), None),
        "almost 14": ((2, 0, 13.99, 0, 1, 19.5, 0), None),
        "exactly 14": ((2, 0, 14, 0, 1, 19.5, 0), None),
    },
}
