"""Looks at a CSV file and proposes how its columns become a request; refuses what a program cannot know."""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import io
import keyword
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
from sklearn.metrics import log_loss
from sklearn.tree import DecisionTreeClassifier

from runbook.errors import UsageError
from runbook.modelling.dataset import FLOAT32_EXACT, separator

Kind = Literal["whole", "number", "category", "date"]

YES_WORDS = {"1", "1.0", "yes", "y", "true", "t"}
NO_WORDS = {"0", "0.0", "no", "n", "false", "f"}

# A text column with more words than this is free text, not a category.
MAX_WORDS = 40
# Names of columns that identify a row: "id", "customer_id", "CustomerID", "row number".
NAMES_OF_KEYS = re.compile(r"((^|[^a-z])(id|key|uuid|number|nr)($|[^a-z]))|(?<=[a-z])(?-i:ID|Id)$", re.IGNORECASE)
FIRST_DAY = dt.date(1970, 1, 1)


@dataclass(frozen=True)
class Column:
    """A column that becomes a request field; ``low`` and ``high`` are the accepted range, with room beyond the data.

    ``words`` are the words of a category in the order of their codes. ``found`` is the range of the data, in words.
    """

    column: str
    field: str
    kind: Kind
    nullable: bool
    low: float
    high: float
    found: str
    example: float | None
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Profile:
    """Everything `runbook new` knows of a CSV file; ``left_out`` gives the reason for each column that is no field.

    ``data`` is the file with the line ends that git stores.
    ``best_field`` is the field whose best single split says most about the label.
    """

    path: Path
    data: bytes
    sha256: str
    rows: int
    label: str
    label_codes: dict[str, int]
    positive_share: float
    group: str | None
    key: str | None
    columns: tuple[Column, ...]
    left_out: dict[str, str]
    best_field: str


def profile(path: Path, label: str, group: str | None, positive: str | None = None) -> Profile:
    """Return the profile of a CSV file.

    ``positive`` is the word of the label that means 1, for a label whose two words do not say it. Raises UsageError for a
    file that is no CSV in UTF-8, two columns of one name, a missing column, or a label that is not yes/no.
    """
    # Git stores text with LF. A digest of CRLF bytes would hold here and in no clone.
    data = _bytes(path).replace(b"\r\n", b"\n")
    text = _text(path, data)
    header = _header(path, text)
    for option, column in (("--label", label), ("--group", group)):
        if column is not None and column not in header:
            raise UsageError(f"{path.name} has no column {column!r} ({option}). It has: {', '.join(header)}.")
    if group == label:
        raise UsageError(f"--group and --label both name {label!r}; a label cannot say which rows belong together.")

    table = _table(path, text)
    codes = _label_codes(table[label], label, positive)
    labels = table[label].map(lambda value: codes[str(value)])

    columns: list[Column] = []
    left_out: dict[str, str] = {}
    key: str | None = None
    for name in header:
        if name in (label, group):
            continue
        reason = _unusable(table[name], name)
        if reason is None:
            columns.append(_column(table[name], name, {c.field for c in columns}))
            continue
        left_out[name] = reason
        if key is None and reason.startswith("an identifier"):
            key = name
    if group is not None:
        left_out[group] = "the group: a model that sees it would learn the groups by heart"
    if not columns:
        raise UsageError(f"{path.name} has no column that a model could use: {_listed(left_out)}.")
    return Profile(
        path=path,
        data=data,
        sha256=hashlib.sha256(data).hexdigest(),
        rows=len(table),
        label=label,
        label_codes=codes,
        positive_share=float(labels.mean()),
        group=group,
        key=key,
        columns=tuple(columns),
        left_out=left_out,
        best_field=_best_field(table, columns, labels),
    )


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}. Name a CSV file with --data.") from error


def _text(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 at byte {error.start}. Save it as CSV in UTF-8.") from None


def _header(path: Path, text: str) -> list[str]:
    header = next(csv.reader(io.StringIO(text), delimiter=separator(text)), [])
    if len(header) < 2:
        raise UsageError(f"{path} has the header {header}; expected a CSV file with at least two named columns.")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise UsageError(f"{path}: two columns are named {', '.join(map(repr, twice))}. Rename one of them.")
    if any(not name.strip() for name in header):
        raise UsageError(f"{path}: column {header.index('') + 1 if '' in header else '?'} has no name. Name it.")
    return header


def _table(path: Path, text: str) -> pd.DataFrame:
    try:
        table = pd.read_csv(io.StringIO(text), sep=separator(text), dtype=str, na_values=[" "])
    except pd.errors.ParserError as error:
        raise UsageError(f"{path} is not a CSV file: {error}") from None
    if len(table) < 50:
        raise UsageError(f"{path} has {len(table)} rows; expected at least 50, or nothing can be judged.")
    return table


def _label_codes(column: pd.Series, label: str, positive: str | None) -> dict[str, int]:
    if column.isna().any():
        raise UsageError(
            f"The label {label!r} is missing in {int(column.isna().sum())} rows. Remove them: they teach nothing."
        )
    words = sorted(set(map(str, column.tolist())))
    if len(words) != 2:
        shown = ", ".join(words[:5]) + (", ..." if len(words) > 5 else "")
        raise UsageError(
            f"The label {label!r} has {len(words)} different values ({shown}); expected two. This runbook takes yes/no "
            "models: make a column of 0 and 1 from it, and name that column with --label."
        )
    if positive is not None:
        if positive not in words:
            raise UsageError(f"--positive is {positive!r}; expected one of the label's values, {' or '.join(words)}.")
        return {word: int(word == positive) for word in words}
    yes = [word for word in words if word.lower() in YES_WORDS]
    no = [word for word in words if word.lower() in NO_WORDS]
    if len(yes) != 1 or len(no) != 1:
        raise UsageError(
            f"The label {label!r} has the values {words[0]} and {words[1]}, which do not say which of them is 1. Add "
            f"--positive {words[0]} or --positive {words[1]}."
        )
    return {no[0]: 0, yes[0]: 1}


def _unusable(column: pd.Series, name: str) -> str | None:
    present = column.dropna()
    if present.empty:
        return "empty"
    if present.nunique() == 1 and len(present) == len(column):
        return f"always {present.iloc[0]!r}"
    numbers = pd.to_numeric(present, errors="coerce")
    whole = bool(numbers.notna().all() and (numbers % 1 == 0).all())
    is_text = bool(numbers.isna().any()) and not _dates(present)
    unique = present.nunique() == len(present) == len(column)
    if unique and (is_text or (whole and NAMES_OF_KEYS.search(name))):
        return "an identifier: every row has another value"
    if is_text and present.nunique() > MAX_WORDS:
        return f"free text: {present.nunique():,} different values"
    if whole and float(numbers.abs().max()) > FLOAT32_EXACT:
        return "whole numbers beyond 16,777,216, which float32 does not hold exactly: count in a larger unit"
    return None


def _column(column: pd.Series, name: str, taken: set[str]) -> Column:
    present = column.dropna()
    field = _field_name(name, taken)
    nullable = bool(column.isna().any())
    numbers = pd.to_numeric(present, errors="coerce")
    if numbers.notna().all():
        return _numeric(numbers, name, field, nullable)
    if _dates(present):
        days = [(dt.date.fromisoformat(str(v)[:10]) - FIRST_DAY).days for v in present]
        room = 3653
        low, high = float(min(days) - room), float(max(days) + room)
        found = f"{min(present)} to {max(present)}"
        return Column(name, field, "date", nullable, low, high, found, days[0])
    words = tuple(sorted(set(map(str, present))))
    example = float(words.index(str(present.iloc[0])))
    return Column(name, field, "category", nullable, 0, len(words) - 1, ", ".join(words), int(example), words)


def _numeric(numbers: pd.Series, name: str, field: str, nullable: bool) -> Column:
    least, most = float(numbers.min()), float(numbers.max())
    # A plausible new row may lie beyond the data: twice the largest value, and below zero only where the data are.
    high = _round_up(2 * most) if most > 0 else 0.0
    low = -_round_up(2 * -least) if least < 0 else 0.0
    if bool((numbers % 1 == 0).all()):
        high = min(high, float(FLOAT32_EXACT))
        found = f"{least:.0f} to {most:.0f}"
        return Column(name, field, "whole", nullable, low, max(high, 1.0), found, int(numbers.median()))
    return Column(name, field, "number", nullable, low, high, f"{least:g} to {most:g}", float(numbers.median()))


def _best_field(table: pd.DataFrame, columns: Sequence[Column], labels: pd.Series) -> str:
    def loss(column: Column) -> float:
        values = _numbers(table[column.column], column).to_numpy(dtype=float).reshape(-1, 1)
        tree = DecisionTreeClassifier(max_depth=1, random_state=0).fit(values, labels)
        return float(log_loss(labels, tree.predict_proba(values), labels=[0, 1]))

    return min(columns, key=loss).field


def _numbers(column: pd.Series, described: Column) -> pd.Series:
    if described.words:
        return column.map({word: float(code) for code, word in enumerate(described.words)})
    if described.kind == "date":
        return pd.to_datetime(column.str[:10], errors="coerce").map(
            lambda day: float("nan") if pd.isna(day) else float((day.date() - FIRST_DAY).days)
        )
    return pd.to_numeric(column, errors="coerce")


def _round_up(value: float) -> float:
    """Return the next value of the form 1, 2 or 5 times a power of ten. Example: 1,024 becomes 2,000."""
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    step = next(s for s in (1, 2, 5, 10) if s * power >= value * (1 - 1e-12))
    return float(step * power)


def _dates(present: pd.Series) -> bool:
    try:
        for value in present:
            dt.date.fromisoformat(str(value)[:10])
    except ValueError:
        return False
    return bool(present.map(lambda v: len(str(v)) >= 10).all())


def _field_name(name: str, taken: set[str]) -> str:
    field = re.sub(r"\W+", "_", name.strip(), flags=re.ASCII).strip("_") or "field"
    if field[0].isdigit() or keyword.iskeyword(field):
        field = f"field_{field}"
    number = 2
    unique = field
    while unique in taken:
        unique = f"{field}_{number}"
        number += 1
    return unique


def _listed(reasons: dict[str, str]) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in reasons.items())


def names(columns: Sequence[Column], kind: Kind) -> list[str]:
    """Return the fields of one kind, in order."""
    return [c.field for c in columns if c.kind == kind]
