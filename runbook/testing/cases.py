"""The functional cases: what is sent to an endpoint, and what must come back."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runbook.modelling import dataset, onnx_model
from runbook.testing.scoring_client import Origin, Request

ARTICLE = "the article's payload"
KELLY = "Mr. Kelly"
SIX = "the article's six requests"
GOLDEN = "golden set"
LISTS = "lists"
BAD = "bad input"
SAME = "same meaning"
DOORS = "keys, paths and methods"

FIELDS: tuple[str, ...] = dataset.contract().FIELDS
# Most that an answered probability may differ from the one scored here.
TOLERANCE = 1e-6
LIMIT: int = dataset.contract().MAX_ROWS

Row = tuple[float | None, ...]

_CUMINGS: Row = (1, 0, 38, 1, 0, 71.2833, 2)
_KELLY: Row = (3, 1, 34.5, 0, 0, 7.8292, 2)
_SIX: tuple[Row, ...] = (
    _KELLY,
    (3, 0, 40, 1, 1, 2.56, 0),
    (3, 0, 12, 1, 2, 300, 1),
    (3, 1, 18, 1, 5, 4.1, 0),
    (3, 0, 71, 0, 1, 72, 1),
    (3, 1, 26, 0, 0, 1.8, 2),
)
# Real passengers, each null alone and all together, and both ends of what the data holds.
GOLDEN_ROWS: tuple[Row, ...] = (
    _CUMINGS,
    *_SIX,
    (1, 0, 38, 1, 0, 71.2833, 1),
    (2, 1, 35, 0, 0, 26.0, 0),
    (3, 1, None, 0, 0, 8.05, 0),
    (3, 0, 22, 0, 0, None, 0),
    (1, 0, 62, 0, 0, 80.0, None),
    (2, 0, None, 1, 2, None, None),
    (3, 1, 0.17, 1, 2, 20.575, 0),
    (1, 1, 80, 0, 0, 30.0, 0),
    (3, 0, 0, 0, 0, 7.75, 2),
    (1, 1, 120, 0, 0, 0, 1),
    (1, 0, 35, 0, 0, 512.3292, 1),
    (3, 1, 40, 8, 9, 69.55, 0),
    (2, 0, 13.99, 0, 1, 19.5, 0),
    (2, 0, 14, 0, 1, 19.5, 0),
)


@dataclass(frozen=True)
class Case:
    """One request and its wish; ``status`` is score.py's own, or the router's where the router answers itself.

    ``rows`` is the length of the wanted list (None: a single answer); ``field`` is the field an error must name.
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


def passenger(row: Row) -> dict[str, float | None]:
    """Return a row, in the contract's order, as the request it stands for."""
    return dict(zip(FIELDS, row, strict=True))


def article_cases() -> list[Case]:
    """Return the article's functional test, Mr. Kelly, and the six requests of its stress test."""
    known = [(ARTICLE, "Mrs. Cumings lives", _CUMINGS, 1), (KELLY, "Mr. Kelly dies", _KELLY, 0)]
    cases = [Case(group, name, _post(passenger(row)), predictions=[p]) for group, name, row, p in known]
    return cases + [Case(SIX, f"request {n}", _post(passenger(row))) for n, row in enumerate(_SIX, start=1)]


def golden_cases(onnx: Path) -> list[Case]:
    """Return the golden set, whose wanted probabilities are those of ``onnx`` (model.onnx) scored in this process.

    A row at the threshold has a wanted probability and no wanted verdict: another CPU may round it to the other side.
    """
    wanted = _predict(onnx, GOLDEN_ROWS)
    return [
        Case(GOLDEN, _words(row), _post(passenger(row)), predictions=_verdict(p), probabilities=[p])
        for row, p in zip(GOLDEN_ROWS, wanted, strict=True)
    ]


def list_cases(onnx: Path) -> list[Case]:
    """Return the golden set as lists of 1, 2, all and LIMIT rows; the wanted probabilities are those of ``onnx``."""
    wanted = _predict(onnx, GOLDEN_ROWS)
    return [_list_case(rows, wanted) for rows in (1, 2, len(GOLDEN_ROWS), LIMIT)]


def same_meaning_cases(onnx: Path) -> list[Case]:
    """Return ways to write Mrs. Cumings that mean the same, so the answer may not change."""
    p = _predict(onnx, [_CUMINGS])
    she = passenger(_CUMINGS)
    backwards = json.dumps(dict(reversed(she.items())))
    writings = {
        "fields in another order": backwards,
        "white space": json.dumps(she, indent=4).replace(":", " :\t"),
        "no white space": json.dumps(she, separators=(",", ":")),
        "Age 38.0 instead of 38": json.dumps(she | {"Age": 38.0}),
        "Fare 7.12833e1": json.dumps(she).replace("71.2833", "7.12833e1"),
        "an escaped letter in a name": json.dumps(she).replace('"Age"', '"\\u0041ge"'),
    }
    return [Case(SAME, name, Request(text.encode()), probabilities=p) for name, text in writings.items()]


def door_cases() -> list[Case]:
    """Return right bodies with a wrong key, path, method or Content-Type, and one unusual Content-Type that is right."""
    body = json.dumps(passenger(_KELLY)).encode()
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


def bad_cases(requests: Iterable[Any]) -> list[Case]:
    """Return a case per bad request of the contract: name, body, and the status and field that must come back."""
    return [Case(BAD, r.name, Request(r.body), status=r.status, field=r.field) for r in requests]


def _verdict(probability: float) -> list[int]:
    at_threshold = abs(probability - dataset.THRESHOLD) <= TOLERANCE
    return [] if at_threshold else [int(probability >= dataset.THRESHOLD)]


def _predict(onnx: Path, rows: Sequence[Row]) -> list[float]:
    table = np.array([[math.nan if v is None else v for v in row] for row in rows], dtype=np.float32)
    return [float(p) for p in onnx_model.predict(onnx, table)]


def _post(document: object) -> Request:
    return Request(json.dumps(document).encode())


def _list_case(rows: int, wanted: Sequence[float]) -> Case:
    request = _post([passenger(row) for row in itertools.islice(itertools.cycle(GOLDEN_ROWS), rows)])
    probabilities = list(itertools.islice(itertools.cycle(wanted), rows))
    return Case(LISTS, f"{rows:,} golden rows in one request", request, rows=rows, probabilities=probabilities)


def _words(row: Row) -> str:
    return ", ".join(f"{name} {'null' if v is None else f'{v:g}'}" for name, v in zip(FIELDS, row, strict=True))
