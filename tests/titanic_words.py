"""Words that only the data set of this project may use: another model's pages, answers and cells must not hold them."""

from __future__ import annotations

import re

_COLUMNS = r"\b(?:Survived|Pclass|SibSp|Parch|Fare|Embarked)\b"
_PEOPLE = r"(?i:passenger|\btickets?\b|survivor|Cumings|\bKelly\b|women live)"
_NAME = r"(?i:titanic)"

COLUMNS_AND_PEOPLE = re.compile(f"{_COLUMNS}|{_PEOPLE}")
ALL = re.compile(f"{_COLUMNS}|{_PEOPLE}|{_NAME}")


def found(text: str, words: re.Pattern[str] = ALL) -> list[str]:
    """Return every place of ``text`` where one of the words stands, with what is around it."""
    return [text[max(0, m.start() - 40) : m.end() + 40].replace("\n", " ") for m in words.finditer(text)]
