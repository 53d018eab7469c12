"""Makes the functional cases: each a request to an endpoint, and the answer that must come back."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runbook import paths
from runbook.errors import RunError, UsageError
from runbook.modelling import dataset, onnx_model, request
from runbook.modelling.description import description, place
from runbook.testing.bad_requests import bad_requests
from runbook.testing.scoring_client import Origin, Request

GOLDEN = "golden set"
LISTS = "lists"
BAD = "bad input"
SAME = "same meaning"
DOORS = "keys, paths and methods"

# Most that an answered probability may differ from the one scored here.
TOLERANCE = 1e-6
LIMIT: int = request.MAX_ROWS

Row = tuple[float | None, ...]


@dataclass(frozen=True)
class Case:
    """One request and the expected answer; ``status`` is score.py's own, or the router's where the router answers.

    ``rows`` is the length of the expected list (None: a single answer); ``field`` is the field an error must name.
    ``predictions`` and ``probabilities``, where given, hold one value per answer.
    """

    group: str
    name: str
    request: Request
    status: int = 200
    by: Origin = "score.py"
    field: str | None = None
    rows: int | None = None
    predictions: Sequence[int] = ()
    probabilities: Sequence[float] = ()


def document(row: Row) -> dict[str, float | None]:
    """Return a row, in the order of the fields, as the request it stands for."""
    return dict(zip(request.FIELDS, row, strict=True))


def known_groups() -> list[str]:
    """Return the groups of KNOWN_CASES in data/dataset.py."""
    return list(description().known_cases)


def known_cases() -> list[Case]:
    """Return the requests that data/dataset.py names, each with its prediction where one is given."""
    cases = []
    for group, named in description().known_cases.items():
        for name, (row, prediction) in named.items():
            _refuse_bad_case(group, name, row)
            predictions = () if prediction is None else (prediction,)
            cases.append(Case(group, name, _post(document(row)), predictions=predictions))
    return cases


def golden_rows() -> list[Row]:
    """Return the known rows, the example, both ends of every range, and every null alone and all together."""
    fields = request.fields()
    usual: Row = tuple(request.EXAMPLE[f.name] for f in fields)
    known = [row for named in description().known_cases.values() for row, _ in named.values()]

    def changed(index: int, value: float | None) -> Row:
        return (*usual[:index], value, *usual[index + 1 :])

    ends = [changed(i, _number(f.whole, end)) for i, f in enumerate(fields) for end in (f.low, f.high)]
    nulls = [changed(i, None) for i, f in enumerate(fields) if f.nullable]
    emptied: Row = tuple(None if f.nullable else v for f, v in zip(fields, usual, strict=True))
    # A row that is listed twice is sent once.
    return list(dict.fromkeys([*known, usual, *ends, *nulls, emptied]))


def fewest_golden_rows() -> int:
    """Return the fewest rows that a golden set may hold: the example, and each end of a field that is another value.

    The example of a yes/no field is itself an end, so that this field adds one row.
    """
    ends = {(f.name, float(end)) for f in request.fields() for end in (f.low, f.high)}
    example = {(name, float(value)) for name, value in request.EXAMPLE.items() if value is not None}
    return 1 + len(ends - example)


def golden_cases(onnx: Path) -> list[Case]:
    """Return the golden set, whose expected probabilities are those of ``onnx`` (model.onnx) scored in this process.

    A row at the threshold has an expected probability and no expected prediction: another CPU may round it to the other
    side.
    """
    rows = golden_rows()
    expected = _predict(onnx, rows)
    return [
        Case(GOLDEN, _words(row), _post(document(row)), predictions=_prediction(p), probabilities=[p])
        for row, p in zip(rows, expected, strict=True)
    ]


def list_cases(onnx: Path) -> list[Case]:
    """Return the golden set as lists of 1, 2, all and LIMIT rows; the expected probabilities are those of ``onnx``."""
    rows = golden_rows()
    expected = _predict(onnx, rows)
    return [_list_case(count, rows, expected) for count in (1, 2, len(rows), LIMIT)]


def same_meaning_cases(onnx: Path) -> list[Case]:
    """Return ways to write the example that mean the same, so the answer may not change.

    Raises RunError when a writing is the plain one: such a case would test nothing.
    """
    example = request.EXAMPLE
    plain = json.dumps(example)
    first = request.FIELDS[0]
    writings = {
        "fields in another order": json.dumps(dict(reversed(example.items()))),
        "white space": json.dumps(example, indent=4).replace(":", " :\t"),
        "no white space": json.dumps(example, separators=(",", ":")),
        "an escaped letter in a name": plain.replace(f'"{first}"', f'"\\u{ord(first[0]):04x}{first[1:]}"'),
    }
    decimal = next((f.name for f in request.fields() if not f.whole and example[f.name] is not None), None)
    if decimal is not None:
        number = float(example[decimal] or 0)
        written = f'"{decimal}": {json.dumps(example[decimal])}'
        writings[f"{decimal} with more decimals"] = plain.replace(written, f'"{decimal}": {number!r}00')
        writings[f"{decimal} with an exponent"] = plain.replace(written, f'"{decimal}": {number:.16e}')

    idle = [name for name, text in writings.items() if text == plain]
    if idle:
        raise RunError(f"{', '.join(idle)}: written like the plain example; expected another writing of it.")
    expected = _predict(onnx, [tuple(example.values())])
    return [Case(SAME, name, Request(text.encode()), probabilities=expected) for name, text in writings.items()]


def door_cases() -> list[Case]:
    """Return right bodies with a wrong key, path, method or Content-Type, and one unusual Content-Type that is right."""
    body = json.dumps(request.EXAMPLE).encode()
    with_charset = "application/json; charset=utf-8"
    return [
        Case(DOORS, "no key", Request(body, key="none"), status=401, by="router"),
        Case(DOORS, "wrong key", Request(body, key="wrong"), status=401, by="router"),
        Case(DOORS, "unknown path", Request(body, path="unknown"), status=404, by="router"),
        Case(DOORS, "GET", Request(method="GET"), status=405),
        Case(DOORS, "text/plain", Request(body, content_type="text/plain"), status=415),
        Case(DOORS, "no Content-Type", Request(body, content_type=None), status=415),
        Case(DOORS, "a Content-Type with a charset", Request(body, content_type=with_charset)),
    ]


def bad_cases() -> list[Case]:
    """Return a case per bad request: name, body, and the status and field that must come back."""
    return [Case(BAD, r.name, Request(r.body), status=r.status, field=r.field) for r in bad_requests()]


def _prediction(probability: float) -> list[int]:
    at_threshold = abs(probability - dataset.THRESHOLD) <= TOLERANCE
    return [] if at_threshold else [int(probability >= dataset.THRESHOLD)]


def _refuse_bad_case(group: str, name: str, row: Row) -> None:
    where = f"{place(paths.DATASET, 'KNOWN_CASES')}: the known case {name!r} of {group!r}"
    if len(row) != len(request.FIELDS):
        raise UsageError(
            f"{where} has {len(row)} values; expected {len(request.FIELDS)}: {', '.join(request.FIELDS)}. Correct it there."
        )
    try:
        request.validated(document(row))
    except request.ContractError as error:
        raise UsageError(f"{where} is not a valid request. {error.message} Correct it there.") from None


def _number(whole: bool, value: float) -> float:
    return int(value) if whole else value


def _predict(onnx: Path, rows: Sequence[Row]) -> list[float]:
    table = np.array([[math.nan if v is None else v for v in row] for row in rows], dtype=np.float32)
    return [float(p) for p in onnx_model.predict(onnx, table)]


def _post(body: object) -> Request:
    return Request(json.dumps(body).encode())


def _list_case(count: int, rows: Sequence[Row], expected: Sequence[float]) -> Case:
    body = _post([document(row) for row in itertools.islice(itertools.cycle(rows), count)])
    probabilities = list(itertools.islice(itertools.cycle(expected), count))
    return Case(LISTS, f"{count:,} golden rows in one request", body, rows=count, probabilities=probabilities)


def _words(row: Row) -> str:
    named = zip(request.FIELDS, row, strict=True)
    return ", ".join(f"{name} {'null' if v is None else f'{v:g}'}" for name, v in named)
