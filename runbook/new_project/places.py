"""Writes the four places of a new project as text: dataset.py, request.py, the limits, and the pipelines of 20_train."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable

from runbook.modelling.description import BLANK, THINK
from runbook.new_project.profile import FIRST_DAY, Column, Profile


def dataset(profile: Profile) -> str:
    """Return the text of data/dataset.py."""
    group = _text(profile.group or "")
    if profile.group is None:
        group = _blank(
            "Which column says that rows belong together, such as a household? None: every row stands alone."
        )
    left_out = [f"#   {name}: {reason}" for name, reason in profile.left_out.items()]
    renamed = {c.field: c.column for c in profile.columns if c.field != c.column}
    codes = {c.field: {word: i for i, word in enumerate(c.words)} for c in profile.columns if c.words}
    if profile.label_codes != {"0": 0, "1": 1}:
        codes[profile.label] = profile.label_codes
    dates = {c.field: FIRST_DAY.isoformat() for c in profile.columns if c.kind == "date"}
    cases = [f'        "the example": ({_row(profile)}, None),']
    parts = [
        f'"""The facts about {profile.path.name}: what is true of this data set and of no other.\n',
        "`make check` holds this file against the data and lists what does not fit and what is still blank.",
        '"""\n',
        "from __future__ import annotations\n",
        "from typing import Any\n",
        "# The file beside this one. After a change of the data, write its new sha256 and number of rows here.",
        f"FILE = {_text(profile.path.name)}",
        f'SHA256 = "{profile.sha256}"',
        f"ROWS = {profile.rows}\n",
        "# The column to predict.",
        f"LABEL = {_text(profile.label)}\n",
        "# Rows with the same value in this column belong together: a split never parts them.",
        f"GROUP = {group}\n",
        "# The column that names a row in messages. None: messages give the row's number.",
        f"KEY = {_text(profile.key) if profile.key else None}\n",
        "# About this share of the groups becomes the holdout, chosen by a salted hash of GROUP.",
        "HOLDOUT_SHARE = 0.2",
        f'HOLDOUT_SALT = "{profile.sha256[:12]}"\n',
        "# Where a request field and its column have different names: {field: column}.",
        f"COLUMNS: dict[str, str] = {_dict(renamed)}\n",
        "# Text columns and the numbers that stand for their words in a request: {field: {word: code}}.",
        f"CODES: dict[str, dict[str, int]] = {_dict(codes)}\n",
        '# Date columns, and the day from which a request counts days: {field: "YYYY-MM-DD"}.',
        f"DATES: dict[str, str] = {_dict(dates)}\n",
        *(["# These columns are no inputs:", *left_out, ""] if left_out else []),
        '# Words for people: the subject of the model, one row, and the end of the sentence "1 means that the row ...".',
        f"TITLE = {_blank('What does the model predict? For example: Customers who leave.')}",
        f"ROW = {_blank('What is one row? For example: customer.')}",
        f"POSITIVE = {_blank('What does a row with 1 do? For example: leaves.')}\n",
        '# Rules of one line that a model must beat, besides "majority": {name: the one field that the rule looks at}.',
        f"BASELINES = {{{_text(profile.best_field + ' alone')}: {_text(profile.best_field)}}}\n\n",
        "def slices(table: Any) -> dict[str, Any]:",
        '    """Return the groups of rows on which a model is looked at separately: {name: mask}."""',
        "    return {",
        *_slices(profile.columns),
        "    }\n\n",
        "# Requests that the functional test sends by name, each with the prediction that must come back. None: the answer is",
        "# only compared with the model file. The values stand in the order of the request's fields.",
        "KNOWN_CASES: dict[str, dict[str, tuple[tuple[float | None, ...], int | None]]] = {",
        '    "known cases": {',
        *cases,
        "    },",
        "}",
    ]
    return "\n".join(parts) + "\n"


def request(profile: Profile) -> str:
    """Return the text of deployment/request.py."""
    fields = [line for column in profile.columns for line in _field(column)]
    example = [f'    "{c.field}": {_number(c.example)},' for c in profile.columns]
    parts = [
        '"""The request that an endpoint answers: its fields, their types, ranges and meaning.\n',
        "The ranges leave room beyond the data. After an edit, ``make swagger`` rewrites swagger.json.",
        '"""\n',
        "from __future__ import annotations\n",
        f"from typing import {'Annotated, Literal' if any(c.words for c in profile.columns) else 'Annotated'}\n",
        "import msgspec",
        "from msgspec import Meta\n\n",
        "class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):",
        '    """One request: numbers only, null where a field allows it.\n',
        '    The order of the fields is the order of the model\'s inputs. Each description completes "<field> is ...".',
        '    """\n',
        *fields,
        "\n",
        "# A valid request. It is shown in swagger.json and in hints, and it warms up every replica.",
        "EXAMPLE: dict[str, float | None] = {",
        *example,
        "}",
    ]
    return "\n".join(parts) + "\n"


def limits(profile: Profile) -> dict[str, tuple[float, str]]:
    """Return first limits that a model must hold, no stricter than always answering the share: {name: (value, worth)}."""
    share = profile.positive_share
    log_loss = -(share * math.log(share) + (1 - share) * math.log(1 - share))
    brier = share * (1 - share)
    accuracy = max(share, 1 - share)
    worth = "the value of always answering the share of 1"
    frequent = "the value of always answering the more frequent label"
    return {
        "cv_max_log_loss": (log_loss, worth),
        "cv_max_brier": (brier, worth),
        "cv_min_accuracy": (accuracy, frequent),
        "holdout_max_log_loss": (log_loss, worth),
        "holdout_max_brier": (brier, worth),
        "holdout_min_accuracy": (accuracy, frequent),
        "holdout_min_roc_auc": (0.5, "the value of guessing"),
    }


def base(name: str, profile: Profile) -> str:
    """Return the text of params/base.yml: the project's name and the limits, each marked as to be thought about."""
    lines = [
        "# Values of every target and stage. JupyterLab reads the parameters cells of 20 and 30 instead of this file: after a",
        "# change of a limit here, write it there too.",
        f"project: {name}",
        *[f"{key}: {value:.4f}  # {THINK} {worth}" for key, (value, worth) in limits(profile).items()],
    ]
    return "\n".join(lines) + "\n"


def _field(column: Column) -> Iterable[str]:
    null = ", null when unknown" if column.nullable else ""
    optional = " | None" if column.nullable else ""
    if column.words:
        codes = ", ".join(str(i) for i in range(len(column.words)))
        meaning = ", ".join(f"{i} ({word})" for i, word in enumerate(column.words)) + null
        kind = f"Literal[{codes}]"
        yield from _annotated(column.field, kind, f"description={_text(meaning)}", optional)
        return
    low, high = f"{column.low:g}", f"{column.high:.15g}"
    unit = "a whole number" if column.kind == "whole" else "a number"
    if column.kind == "date":
        unit = f"days since {FIRST_DAY.isoformat()},"
    meaning = f"{unit} from {low} to {high}{null}"
    kind = "float" if column.kind == "number" else "int"
    yield f"    # {column.column}, found: {column.found}. Correct range and meaning where you know better."
    yield from _annotated(
        column.field, kind, f"ge={column.low:.15g}, le={high}, description={_text(meaning)}", optional
    )


def _annotated(field: str, kind: str, meta: str, optional: str) -> Iterable[str]:
    line = f"    {field}: Annotated[{kind}, Meta({meta})]{optional}"
    if len(line) <= 100:
        yield line
        return
    yield f"    {field}: ("
    yield f"        Annotated[{kind}, Meta({meta})]{optional}"
    yield "    )"


def _slices(columns: tuple[Column, ...]) -> Iterable[str]:
    for column in columns:
        for code, word in enumerate(column.words[:4]):
            yield f'        {_text(f"{column.field} {word}")}: table["{column.field}"] == {code},'
    numeric = next((c for c in columns if c.kind in ("whole", "number") and c.example is not None), None)
    if numeric is not None:
        name, middle = numeric.field, f"{numeric.example:g}"
        yield f'        "{name} up to {middle}": table["{name}"] <= {middle},'
        yield f'        "{name} over {middle}": table["{name}"] > {middle},'


def _row(profile: Profile) -> str:
    values = ", ".join(_number(c.example) for c in profile.columns)
    return f"({values},)" if len(profile.columns) == 1 else f"({values})"


def _number(value: float | None) -> str:
    if value is None:
        return "None"
    return str(int(value)) if float(value).is_integer() else repr(float(f"{value:.6g}"))


def _blank(question: str) -> str:
    return _text(f"{BLANK} {question}")


def _dict(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=4) if value else "{}"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
