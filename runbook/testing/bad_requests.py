"""Makes requests that must be refused, from the fields of deployment/request.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runbook.modelling import request

if TYPE_CHECKING:
    from decode import Field

# JSON has no word for these, or a parser may not hold them: the whole body is refused, not a field.
NOT_JSON = ("NaN", "Infinity", "-Infinity", "1e400", "9" * 5_000)


@dataclass(frozen=True)
class BadRequest:
    """A request that must be refused, with the status and the field that score.py must answer."""

    name: str
    body: bytes
    status: int
    field: str | None


def bad_requests() -> Iterator[BadRequest]:
    """Yield every field in every wrong way, then bodies that are wrong as a whole."""
    for field in request.fields():
        yield from _wrong_values(field)
        yield from _wrong_keys(field)
        yield from _wrong_numbers(field)
    yield from _bad_bodies()
    yield from _bad_lists()


def _wrong_values(field: Field) -> Iterator[BadRequest]:
    wrong: dict[str, Any] = {
        "too small": field.low - 1,
        "too large": field.high + 1,
        "far too large": max(10_000_000, 10 * field.high),
        "a word": "word",
        "a number as text": "1",
        "a truth value": True,
        "a list": [1],
        "an object": {"is": 1},
    }
    if field.whole:
        wrong |= {"a fraction": field.low + 0.5, "a whole number with a point": 1.0}
    if not field.nullable:
        wrong["null"] = None
    for name, value in wrong.items():
        body = _json({**request.EXAMPLE, field.name: value})
        yield BadRequest(f"{field.name}: {name}", body, 422, field.name)


def _wrong_keys(field: Field) -> Iterator[BadRequest]:
    without = {k: v for k, v in request.EXAMPLE.items() if k != field.name}
    yield BadRequest(f"{field.name}: missing", _json(without), 422, field.name)
    twice = _json(request.EXAMPLE)[:-1] + f', "{field.name}": {json.dumps(_valid(field))}}}'.encode()
    yield BadRequest(f"{field.name}: given twice", twice, 422, field.name)


def _wrong_numbers(field: Field) -> Iterator[BadRequest]:
    digits = _json({**request.EXAMPLE, field.name: 10**400})
    yield BadRequest(f"{field.name}: 400 digits", digits, 422, field.name)
    for literal in NOT_JSON:
        body = _json({**request.EXAMPLE, field.name: "?"}).replace(b'"?"', literal.encode())
        shown = literal if len(literal) < 10 else "5,000 digits"
        yield BadRequest(f"{field.name}: {shown}", body, 400, None)


def _bad_bodies() -> Iterator[BadRequest]:
    row = _json(request.EXAMPLE)
    first = request.FIELDS[0]
    yield BadRequest("an unknown field", _json({**request.EXAMPLE, "no_such_field": 1}), 422, "no_such_field")
    wide = chr(ord(first[0]) + 0xFEE0) + first[1:]
    full_width = row.replace(f'"{first}"'.encode(), f'"{wide}"'.encode())
    yield BadRequest("a field in full-width letters", full_width, 422, wide)
    yield BadRequest("no field", b"{}", 422, first)
    half = {"nothing": b"", "null": b"null", "a number": b"3", "half a request": row[: len(row) // 2]}
    for name, body in half.items():
        yield BadRequest(name, body, 400, None)
    yield BadRequest("a byte order mark", b"\xef\xbb\xbf" + row, 400, None)
    yield BadRequest("bytes that are not UTF-8", row[:-1] + b', "\xff\xfe": 1}', 400, None)
    yield BadRequest("100,000 open brackets", b"[" * 100_000, 400, None)
    yield BadRequest("a byte too many", row + b" " * (request.MAX_BYTES + 1 - len(row)), 413, None)


def _bad_lists() -> Iterator[BadRequest]:
    row = _json(request.EXAMPLE)
    field = request.field(request.FIELDS[0])
    wrong = _json({**request.EXAMPLE, field.name: field.low - 5})
    twice = row[:-1] + f', "{field.name}": {json.dumps(_valid(field))}}}'.encode()
    yield BadRequest("an empty list", b"[]", 422, None)
    yield BadRequest("a list of numbers", b"[1, 2]", 422, None)
    yield BadRequest("one wrong row of three", _list(row, row, wrong), 422, field.name)
    yield BadRequest("a list with a field given twice", _list(row, twice), 422, field.name)
    yield BadRequest(f"{request.MAX_ROWS + 1:,} rows", _list(*[row] * (request.MAX_ROWS + 1)), 413, None)


def _valid(field: Field) -> float:
    return int(field.low) if field.whole else field.low


def _list(*rows: bytes) -> bytes:
    return b"[" + b",".join(rows) + b"]"


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
