"""Loads the data set, holds every row against the request's fields, and splits it into training set and holdout.

data/dataset.py says what is true of the data. 20_train sees ``training_set()`` and nothing else; 30_evaluate alone opens
``holdout()``.
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import io
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn import metrics as sk

from runbook import paths
from runbook.errors import UsageError
from runbook.modelling import request
from runbook.modelling.description import YES_NO, Description, description, place, shown

# A model reads float32, which holds every whole number up to this one and not every one beyond.
FLOAT32_EXACT = 2**24

# A probability of at least this much is the prediction 1, here as in deployment/score.py.
THRESHOLD = 0.5

Floats = npt.NDArray[np.floating[Any]]

_openings = 0


def load(facts: Description | None = None) -> pd.DataFrame:
    """Return all rows, the holdout included, and count this as an opening of the holdout.

    The columns are those of ``coded``. Raises UsageError when the file is not the one that data/dataset.py describes.
    """
    global _openings
    _openings += 1
    return _read(facts or description())


def openings() -> int:
    """Return how often this process has read the holdout, by ``load`` or ``holdout``; a training must end with 0."""
    return _openings


def _read(facts: Description) -> pd.DataFrame:
    table = coded(raw(facts), facts)
    if len(table) != facts.rows:
        where = place(paths.DATASET, "ROWS")
        raise UsageError(
            f"{shown(facts.file)} has {len(table)} rows; expected {facts.rows} ({where}). Write the right number there."
        )
    return table


def raw(facts: Description) -> pd.DataFrame:
    """Return the file as it is, text columns as text; raises UsageError for another digest or a broken header."""
    if not facts.file.exists():
        where = place(paths.DATASET, "FILE")
        raise UsageError(f"{shown(facts.file)} is missing. Put it there, or name another file in {where}.")
    data = facts.file.read_bytes()
    if digest(data) != facts.sha256:
        raise UsageError(_other_bytes(facts, data))
    text = _decoded(facts.file, data)
    header = _header(facts.file, text)
    as_text = {facts.column(f) for f in (*facts.codes, *facts.dates)} | {facts.label}
    as_text |= {facts.group} if facts.group is not None else set()
    return pd.read_csv(
        io.StringIO(text),
        sep=separator(text),
        dtype=dict.fromkeys(as_text & set(header), str),
        na_values=[" "],
        low_memory=False,
    )


def coded(rows: pd.DataFrame, facts: Description | None = None) -> pd.DataFrame:
    """Return the columns key, the request's fields in their order, label and group, as far as the data set has them.

    ``rows`` has the columns of the file. Every row must be a valid request. Raises UsageError that names the row, the
    field and the line to mend.
    """
    facts = facts or description()
    _refuse_missing_columns(rows, facts)
    _refuse_wide_numbers()

    columns = {field: _values(rows[facts.column(field)], field, facts) for field in request.FIELDS}
    requests = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    for number, row in enumerate(requests):
        try:
            request.validated(row)
        except request.ContractError as error:
            raise UsageError(_bad_row(facts, _row_name(rows, number, facts), row, error)) from None

    table = pd.DataFrame(requests, index=rows.index)
    if facts.key is not None and facts.key not in table:
        table.insert(0, facts.key, rows[facts.key])
    if facts.group is not None and rows[facts.group].isna().any():
        first = int(rows[facts.group].isna().to_numpy().argmax())
        where = place(paths.DATASET, "GROUP")
        raise UsageError(
            f"{shown(facts.file)}, {_row_name(rows, first, facts)}: {facts.group}, the GROUP of {where}, is empty; expected a "
            "value in every row. Fill it in; a row that stands alone gets a value of its own."
        )
    table[facts.label] = _labels(rows[facts.label], facts)
    if facts.group is not None and facts.group not in table:
        table[facts.group] = rows[facts.group]
    return table


def all_rows() -> int:
    """Return the number of rows of the whole file."""
    return description().rows


def file_sha256() -> str:
    """Return the sha256 of the data file."""
    return description().sha256


def title() -> str:
    """Return the subject of the model in words."""
    return description().title


def outcomes(table: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Return the label [rows] as 0 and 1."""
    values: npt.NDArray[np.int64] = table[description().label].to_numpy(dtype=np.int64)
    return values


def groups(table: pd.DataFrame) -> pd.Series:
    """Return the group [rows] of every row; rows with equal fields form a group where the data set names no column."""
    facts = description()
    if facts.group is not None:
        return table[facts.group]
    contents = [row.tobytes().hex() for row in matrix(table)]
    return pd.Series(contents, index=table.index)


def in_holdout(group: object) -> bool:
    """Return whether the rows of this group belong to the holdout."""
    facts = description()
    number = int.from_bytes(hashlib.sha256(f"{facts.holdout_salt}:{group}".encode()).digest()[:8], "big")
    return number / 2**64 < facts.holdout_share


def training_set() -> pd.DataFrame:
    """Return the rows for exploring, choosing and fitting: everything outside the holdout."""
    table = _read(description())
    return table[~groups(table).map(in_holdout)].reset_index(drop=True)


def holdout() -> pd.DataFrame:
    """Return the rows that judge a candidate, and count this as an opening; only 30_evaluate may ask for them."""
    table = load()
    return table[groups(table).map(in_holdout)].reset_index(drop=True)


def matrix(table: pd.DataFrame) -> Floats:
    """Return float32 [rows, fields] in the request's order, NaN for null: what pipelines are trained on and answer."""
    rows: Floats = table[list(request.FIELDS)].to_numpy(dtype=np.float32)
    return rows


def slices(table: pd.DataFrame) -> dict[str, npt.NDArray[np.bool_]]:
    """Return the masks {name: [rows]} of the groups on which a model is looked at separately."""
    masks = description().slices(table)
    return {name: np.asarray(mask, dtype=bool) for name, mask in masks.items()}


def metrics(truth: npt.ArrayLike, probabilities: npt.ArrayLike) -> dict[str, float]:
    """Return log loss, Brier score, ROC AUC and accuracy of probabilities [rows] for outcomes [rows] of 0 and 1."""
    y = np.asarray(truth)
    p = np.asarray(probabilities, dtype=np.float64)
    return {
        "log_loss": float(sk.log_loss(y, p, labels=[0, 1])),
        "brier": float(sk.brier_score_loss(y, p)),
        "roc_auc": float(sk.roc_auc_score(y, p)),
        "accuracy": float(sk.accuracy_score(y, p >= THRESHOLD)),
    }


def digest(source: bytes | Path) -> str:
    """Return the sha256 of bytes or of a file, as 64 hexadecimal digits."""
    return hashlib.sha256(source if isinstance(source, bytes) else source.read_bytes()).hexdigest()


def separator(text: str) -> str:
    """Return the character that separates the columns of a CSV text: comma, semicolon or tab."""
    header = text.partition("\n")[0]
    return max(",;\t", key=header.count)


def _other_bytes(facts: Description, data: bytes) -> str:
    where = place(paths.DATASET, "SHA256")
    file = shown(facts.file)
    message = f"{file} has sha256 {digest(data)}; expected {facts.sha256} ({where}). "
    if digest(data.replace(b"\r\n", b"\n")) == facts.sha256:
        return message + (
            "Only the line ends differ: this checkout was made by a git that wrote Windows line ends (CRLF). Commit what "
            f"you have changed, then run: {paths.RENEW_CHECKOUT}"
        )
    return message + (
        f"If the change was not intended, run: git checkout -- {shlex.quote(str(file))}. If it was, write the new SHA256 "
        "and ROWS there."
    )


def _decoded(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{shown(path)} is not UTF-8 at byte {error.start}. Save it as UTF-8, then write its new SHA256."
        ) from None


def _header(path: Path, text: str) -> list[str]:
    rows = csv.reader(io.StringIO(text), delimiter=separator(text))
    header = next(rows, [])
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise UsageError(
            f"{shown(path)}:1: two columns are named {', '.join(map(repr, twice))}; expected different names."
        )
    count = 0
    for row in rows:
        count += bool(row)
        # pandas would fill a short row with nulls without a word.
        if row and len(row) != len(header):
            raise UsageError(
                f"{shown(path)}:{rows.line_num}: the row has {len(row)} values; expected {len(header)}, one for each column. "
                "Correct that row, then write the file's new SHA256."
            )
    if count == 0:
        raise UsageError(f"{shown(path)} has no rows; expected a header and rows. Put the data there.")
    return header


def _refuse_missing_columns(rows: pd.DataFrame, facts: Description) -> None:
    used = {f"the field {field} of deployment/request.py": facts.column(field) for field in request.FIELDS}
    used["LABEL"] = facts.label
    if facts.group is not None:
        used["GROUP"] = facts.group
    if facts.key is not None:
        used["KEY"] = facts.key
    for user, column in used.items():
        if column in rows.columns:
            continue
        where = place(paths.DATASET, user if user.isupper() else "COLUMNS")
        remedy = (
            "Name the right column there, or remove the field."
            if not user.isupper()
            else "Name the right column there."
        )
        raise UsageError(
            f"{facts.file.name} has no column {column!r}, which {user} is read from ({where}). It has: "
            f"{', '.join(map(str, rows.columns))}. {remedy}"
        )
    if facts.label in {facts.column(field) for field in request.FIELDS}:
        where = place(paths.DATASET, "LABEL")
        raise UsageError(
            f"The label {facts.label!r} ({where}) is also read by a field of deployment/request.py: a model would see "
            "the answer. Remove that field, or name another label."
        )


def _refuse_wide_numbers() -> None:
    for field in request.fields():
        if field.whole and max(abs(field.low), abs(field.high)) > FLOAT32_EXACT:
            where = place(paths.DEPLOYMENT / "request.py", "Request")
            raise UsageError(
                f"The field {field.name} ({where}) may reach {field.high:g}; a model reads float32, which holds whole numbers "
                f"exactly to {FLOAT32_EXACT:,}. Give it a narrower range, or count in a larger unit (thousands, days)."
            )


def _values(column: pd.Series, field: str, facts: Description) -> list[Any]:
    if field in facts.dates:
        return _days(column, field, facts)
    codes = facts.codes.get(field, {})
    whole = request.field(field).whole
    values: list[Any] = []
    for value in column.tolist():
        if pd.isna(value):
            values.append(None)
        elif isinstance(value, str):
            # A word without a code stays a word, and the check of the row refuses it by name.
            values.append(codes.get(value, value) if codes else _number_or_word(value, whole))
        elif whole and float(value).is_integer():
            # pandas reads whole numbers as floats when the column has a null.
            values.append(int(value))
        else:
            values.append(value)
    return values


def _number_or_word(value: str, whole: bool) -> float | str:
    # One word among the numbers of a column makes pandas read all of them as text.
    try:
        number = float(value)
    except ValueError:
        return value
    return int(number) if whole and number.is_integer() else number


def _days(column: pd.Series, field: str, facts: Description) -> list[int | None]:
    first = dt.date.fromisoformat(facts.dates[field])
    days: list[int | None] = []
    for number, value in enumerate(column.tolist(), 1):
        if pd.isna(value):
            days.append(None)
            continue
        try:
            days.append((dt.date.fromisoformat(str(value)[:10]) - first).days)
        except ValueError:
            where = place(paths.DATASET, "DATES")
            raise UsageError(
                f"{facts.file.name}, row {number}: {facts.column(field)} is {value!r}; expected a date like 2026-01-31, "
                f"because {where} lists {field}."
            ) from None
    return days


def _labels(column: pd.Series, facts: Description) -> list[int]:
    own = facts.codes.get(facts.label)
    codes = own or {"0": 0, "1": 1, "0.0": 0, "1.0": 1}
    expected = ", ".join(own or ("0", "1"))
    where = place(paths.DATASET, "LABEL")
    strange = sorted({"an empty cell" if pd.isna(v) else repr(v) for v in column.tolist() if v not in codes})
    if strange:
        raise UsageError(
            f"{facts.file.name}: the label {facts.label} ({where}) holds {', '.join(strange[:5])}; expected {expected}. "
            f"{YES_NO}. Words get their 0 and 1 in CODES."
        )
    labels = [codes[v] for v in column.tolist()]
    if set(labels) != {0, 1}:
        found = ", ".join(map(str, sorted(set(labels))))
        raise UsageError(
            f"{facts.file.name}: the label {facts.label} ({where}) is {found} in every row; expected rows with 0 and with 1. "
            f"{YES_NO}. Words get their 0 and 1 in CODES."
        )
    return labels


def _row_name(rows: pd.DataFrame, number: int, facts: Description) -> str:
    name = f"row {number + 1}"
    return name if facts.key is None else f"{name}, {facts.key} {rows[facts.key].iloc[number]}"


def _bad_row(facts: Description, name: str, row: dict[str, Any], error: Any) -> str:
    message = f"{facts.file.name}, {name}: {error.message}"
    field = error.field or ""
    where = place(paths.DEPLOYMENT / "request.py", f"Request.{field}")
    remedy = f"Mend the row, or widen the field in {where}."
    if row[field] is None:
        remedy = f"Fill the row in, or allow null for the field in {where}."
    elif isinstance(row[field], str):
        codes = place(paths.DATASET, "CODES")
        remedy = f"Mend the row, or give the word a code in {codes} (CODES) and in {where}."
    return f"The training data breaks the contract: {message} {remedy}"
