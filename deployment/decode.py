"""Decodes a request body, and says what is wrong with a bad one.

The fields come from request.py. This file is shipped with score.py and needs msgspec and nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from request import EXAMPLE, Request

FIELDS: tuple[str, ...] = Request.__struct_fields__
_DECODER: msgspec.json.Decoder[Request | list[Request]] = msgspec.json.Decoder(Request | list[Request])

MAX_ROWS = 1_000
# A full list in which every row takes twice the room of the example, for long numbers and generous white space.
MAX_BYTES = max(262_144, 2 * MAX_ROWS * len(json.dumps(EXAMPLE)))


class ContractError(Exception):
    """A request that breaks the contract: HTTP status, code for programs, field at fault, sentence for people."""

    def __init__(self, status: int, code: str, field: str | None, message: str) -> None:
        """Keep the parts of the answer."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.field = field
        self.message = message

    def body(self) -> dict[str, dict[str, str | None]]:
        """Return the JSON body of the answer."""
        return {"error": {"code": self.code, "field": self.field, "message": self.message}}


@dataclass(frozen=True)
class Field:
    """The facts about one field of the struct; ``schema`` is its JSON schema without the null."""

    name: str
    meaning: str
    whole: bool
    nullable: bool
    low: float
    high: float
    schema: Mapping[str, Any]


def decode(body: bytes | str) -> tuple[list[Request], bool]:
    """Return the requests of a body and whether the body was a list.

    Raises ContractError for anything else. Its status is 400 for what is not JSON, 413 for too much of it, and 422 for a
    wrong field. Of several bad rows the first is named.
    """
    raw = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    if len(raw) > MAX_BYTES:
        message = f"The body has {len(raw)} bytes; expected at most {MAX_BYTES}."
        raise ContractError(413, "too_many_bytes", None, message)

    try:
        # A good body is read in one go, straight into requests.
        found = _DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _explained(raw)
    requests, many = (found, True) if isinstance(found, list) else ([found], False)
    _check_rows(requests)
    _check_keys(raw, len(requests))
    return requests, many


def _explained(raw: bytes) -> tuple[list[Request], bool]:
    """Read a body that is not as it should be row by row; raises the ContractError that names what is wrong."""
    document = _parse(raw)
    many = isinstance(document, list)
    rows: list[Any] = document if isinstance(document, list) else [document]
    _check_rows(rows)
    requests = [validated(row, f"Row {i}: " if many else "") for i, row in enumerate(rows)]
    _check_keys(raw, len(rows))
    return requests, many


def _check_rows(rows: Sequence[Any]) -> None:
    if not rows:
        raise ContractError(422, "no_rows", None, f"The list is empty; expected 1 to {MAX_ROWS} rows.")
    if len(rows) > MAX_ROWS:
        message = f"The list has {len(rows)} rows; expected at most {MAX_ROWS}."
        raise ContractError(413, "too_many_rows", None, message)


def _check_keys(raw: bytes, rows: int) -> None:
    # JSON parsers keep the last of two equal keys without a word. No value of a valid row is text, so one colon more
    # than there are fields is a key given twice.
    if raw.count(b":") != rows * len(FIELDS):
        twice = next((f for f in FIELDS if raw.count(f'"{f}"'.encode()) > rows), None)
        message = f"{twice or 'A field'} is given twice; expected once."
        raise ContractError(422, "duplicate_field", twice, message)


def validated(row: Any, where: str = "") -> Request:
    """Return one parsed JSON object as a Request; raises ContractError (422) whose message begins with ``where``."""
    if not isinstance(row, Mapping):
        message = f"{where}{_shown(row)} is not a request; expected an object."
        raise ContractError(422, "not_an_object", None, message)
    for name in row:
        if name not in FIELDS:
            message = f"{where}{_shown(name)} is not a field; expected only {', '.join(FIELDS)}."
            raise ContractError(422, "unknown_field", str(name)[:40], message)
    try:
        return msgspec.convert(row, Request)
    except msgspec.ValidationError as error:
        path = re.search(r"`\$\.(\w+)", str(error))
        name = path[1] if path else next(f for f in FIELDS if f not in row)
        code, found = "missing_field", "is missing"
        if name in row:
            code, found = "bad_value", f"is {_shown(row[name])}"
        message = f"{where}{name} {found}; expected: {name} is {field(name).meaning}."
        raise ContractError(422, code, name, message) from None


def field(name: str) -> Field:
    """Return the facts about the field ``name``; raises TypeError when its range or meaning is not given."""
    schema: dict[str, Any] = msgspec.json.schema_components((Request,))[1]["Request"]["properties"][name]
    number: dict[str, Any] = schema.get("anyOf", [schema])[0]
    try:
        values = number.get("enum") or [number["minimum"], number["maximum"]]
        meaning = str(number["description"])
    except KeyError as missing:
        raise TypeError(
            f"The field {name} in deployment/request.py has no {missing.args[0]}; expected Meta(ge=..., le=..., "
            "description=...) around a number, or Literal codes with a description."
        ) from None
    return Field(
        name=name,
        meaning=meaning,
        whole=number.get("type") != "number",
        nullable="anyOf" in schema,
        low=min(values),
        high=max(values),
        schema=number,
    )


def _parse(raw: bytes) -> dict[str, Any] | list[Any]:
    # The body is read as JSON before any field is looked at. Half a document is 400, also when a field in it is wrong.
    try:
        document = msgspec.json.decode(raw)
    except RecursionError:
        message = "The body is nested too deeply; expected an object or a list."
        raise ContractError(400, "not_json", None, message) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ContractError(400, "not_json", None, f"The body is not JSON: {error}.") from None
    if not isinstance(document, dict | list):
        message = f"The body is {_shown(document)}; expected an object or a list."
        raise ContractError(400, "not_an_object", None, message)
    return document


def _shown(value: Any) -> str:
    # The length is bounded before the value becomes text, so an answer never repeats a whole body.
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, int) and abs(value) > 10**15:
        return "a huge number"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."
