"""The single truth about a request: its fields, their types, ranges and meaning, and what is wrong with a bad one.

Training data checks, request validation, swagger.json and the bad requests of the functional test are all read from
``Passenger``. ``python deployment/contract.py`` rewrites swagger.json beside this file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

MAX_ROWS = 1_000
MAX_BYTES = 262_144  # a thousand rows with room for generous whitespace
SWAGGER = Path(__file__).resolve().parent / "swagger.json"

_PORT = Meta(description="0 (Southampton), 1 (Cherbourg) or 2 (Queenstown), null when unknown")


class Passenger(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One request: seven numbers. Each description ends the sentence "<field> is ..."."""

    Pclass: Annotated[Literal[1, 2, 3], Meta(description="the class of the ticket: 1, 2 or 3")]
    Sex: Annotated[Literal[0, 1], Meta(description="0 (female) or 1 (male)")]
    Age: Annotated[float, Meta(ge=0, le=120, description="years from 0 to 120, null when unknown")] | None
    SibSp: Annotated[int, Meta(ge=0, le=20, description="siblings and spouses aboard, a whole number from 0 to 20")]
    Parch: Annotated[int, Meta(ge=0, le=20, description="parents and children aboard, a whole number from 0 to 20")]
    # The dearest ticket cost 512.3292; twice that may still be pounds, a value beyond is in another unit.
    Fare: Annotated[float, Meta(ge=0, le=1000, description="pounds from 0 to 1000, null when unknown")] | None
    Embarked: Annotated[Literal[0, 1, 2], _PORT] | None


FIELDS: tuple[str, ...] = Passenger.__struct_fields__
EXAMPLE: dict[str, float] = {"Pclass": 1, "Sex": 0, "Age": 38, "SibSp": 1, "Parch": 0, "Fare": 71.2833, "Embarked": 1}


class ContractError(Exception):
    """A request that breaks the contract: HTTP status, code for programs, field at fault, sentence for people."""

    def __init__(self, status: int, code: str, field: str | None, message: str) -> None:
        """Keep the parts of the answer."""
        super().__init__(message)
        self.status, self.code, self.field, self.message = status, code, field, message

    def body(self) -> dict[str, dict[str, str | None]]:
        """Return the JSON body of the answer."""
        return {"error": {"code": self.code, "field": self.field, "message": self.message}}


@dataclass(frozen=True)
class Field:
    """What the struct says about one field; ``schema`` is its JSON schema without the null."""

    name: str
    meaning: str
    whole: bool
    nullable: bool
    low: float
    high: float
    schema: Mapping[str, Any]


@dataclass(frozen=True)
class BadRequest:
    """A request that must be refused, with the status and the field that score.py must answer."""

    name: str
    body: bytes
    status: int
    field: str | None


def decode(body: bytes | str) -> tuple[list[Passenger], bool]:
    """Return the passengers of a request body and whether it was a list; raises ContractError for anything else.

    Status 400 is for what is not JSON, 413 for too much of it, 422 for a field; of several bad rows the first is named.
    """
    raw = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    if len(raw) > MAX_BYTES:
        raise ContractError(413, "too_many_bytes", None, f"The body has {len(raw)} bytes; wanted at most {MAX_BYTES}.")
    document = _parse(raw)
    many = isinstance(document, list)
    rows = document if many else [document]
    if not rows:
        raise ContractError(422, "no_rows", None, f"The list is empty; wanted 1 to {MAX_ROWS} passengers.")
    if len(rows) > MAX_ROWS:
        raise ContractError(413, "too_many_rows", None, f"The list has {len(rows)} rows; wanted at most {MAX_ROWS}.")
    passengers = [passenger(row, f"Row {i}: " if many else "") for i, row in enumerate(rows)]
    # JSON parsers keep the last of two equal keys without a word. No value of a valid row is text, so one colon more
    # than there are fields is a key given twice.
    if raw.count(b":") != len(rows) * len(FIELDS):
        twice = next((f for f in FIELDS if raw.count(f'"{f}"'.encode()) > len(rows)), None)
        raise ContractError(422, "duplicate_field", twice, f"{twice or 'A field'} is given twice; wanted once.")
    return passengers, many


def passenger(row: Any, where: str = "") -> Passenger:
    """Return one parsed JSON object as a Passenger; raises ContractError (422) whose message ``where`` opens."""
    if not isinstance(row, Mapping):
        raise ContractError(422, "not_an_object", None, f"{where}{_shown(row)} is no passenger; wanted an object.")
    for name in row:
        if name not in FIELDS:
            message = f"{where}{_shown(name)} is no field; wanted only {', '.join(FIELDS)}."
            raise ContractError(422, "unknown_field", str(name)[:40], message)
    try:
        return msgspec.convert(row, Passenger)
    except msgspec.ValidationError as error:
        path = re.search(r"`\$\.(\w+)", str(error))
        name = path[1] if path else next(f for f in FIELDS if f not in row)
        code, found = ("bad_value", f"is {_shown(row[name])}") if name in row else ("missing_field", "is missing")
        message = f"{where}{name} {found}; wanted: {name} is {field(name).meaning}."
        raise ContractError(422, code, name, message) from None


def field(name: str) -> Field:
    """Return what the struct says about the field ``name``."""
    schema: dict[str, Any] = msgspec.json.schema_components((Passenger,))[1]["Passenger"]["properties"][name]
    number: dict[str, Any] = schema.get("anyOf", [schema])[0]
    values = number.get("enum") or [number["minimum"], number["maximum"]]
    whole, nullable = number.get("type") != "number", "anyOf" in schema
    return Field(name, str(number["description"]), whole, nullable, min(values), max(values), number)


def bad_requests() -> Iterator[BadRequest]:
    """Yield requests that must be refused: every field in every wrong way, then bodies that are wrong as a whole."""
    for f in map(field, FIELDS):
        wrong: dict[str, Any] = {"too small": f.low - 1, "too large": f.high + 1, "far too large": 10_000_000}
        wrong |= {
            "a word": "male",
            "a number as text": "1",
            "a truth value": True,
            "a list": [1],
            "an object": {"is": 1},
        }
        wrong |= {"a fraction": f.low + 0.5, "a whole number with a point": 1.0} if f.whole else {}
        wrong |= {} if f.nullable else {"null": None}
        for name, value in wrong.items():
            yield BadRequest(f"{f.name}: {name}", _json({**EXAMPLE, f.name: value}), 422, f.name)
        yield BadRequest(f"{f.name}: missing", _json({k: v for k, v in EXAMPLE.items() if k != f.name}), 422, f.name)
        yield BadRequest(f"{f.name}: given twice", _json(EXAMPLE)[:-1] + f', "{f.name}": 1}}'.encode(), 422, f.name)
        yield BadRequest(f"{f.name}: 400 digits", _json({**EXAMPLE, f.name: 10**400}), 422, f.name)
        for literal in ("NaN", "Infinity", "-Infinity", "1e400", "9" * 5_000):
            body = _json({**EXAMPLE, f.name: "?"}).replace(b'"?"', literal.encode())
            yield BadRequest(f"{f.name}: {literal if len(literal) < 10 else '5,000 digits'}", body, 400, None)
    yield from _bad_bodies()


def swagger() -> dict[str, Any]:
    """Return the Swagger 2.0 document; the scoring server answers it from swagger.json beside score.py."""
    # Swagger 2.0 knows no null; x-nullable is its tools' word for it.
    fields = {f.name: {"type": "integer", **f.schema, "x-nullable": f.nullable} for f in map(field, FIELDS)}
    verdict = {"type": "integer", "enum": [0, 1], "description": "1 (survives) when probability is at least 0.5"}
    probability = {"type": "number", "minimum": 0, "maximum": 1, "description": "of survival"}
    version = {"type": "string", "description": "the version in the model registry"}
    error = _object(code={"type": "string"}, field={"type": "string", "x-nullable": True}, message={"type": "string"})
    refusals = {status: {"description": text, "schema": _ref("Error")} for status, text in _REFUSALS.items()}
    score = {
        "operationId": "score",
        "description": f"Scores one passenger. A list of 1 to {MAX_ROWS} passengers is answered by a list.",
        "security": [{"Bearer": []}],
        "parameters": [{"name": "passenger", "in": "body", "required": True, "schema": _ref("Passenger")}],
        "responses": {"200": {"description": "the verdict", "schema": _ref("Answer")}, **refusals, "default": _ROUTER},
    }
    return {
        "swagger": "2.0",
        "info": {"title": "Titanic survival", "version": "1.0"},
        "schemes": ["https", "http"],
        "consumes": ["application/json"],
        "produces": ["application/json"],
        "securityDefinitions": {"Bearer": {"type": "apiKey", "name": "Authorization", "in": "header"}},
        "paths": {"/score": {"post": score}},
        "definitions": {
            "Passenger": {**_object(**fields), "example": EXAMPLE},
            "Answer": _object(prediction=verdict, probability=probability, model_version=version),
            "Error": _object(error=error),
        },
    }


_ROUTER = {"description": "the router's own answer: no key, no replica, no time, or another word for score.py's status"}
_REFUSALS = {
    "400": "the body is not JSON",
    "405": "the method is not POST",
    "413": "too many rows or bytes",
    "415": "the Content-Type is not application/json",
    "422": "a field is missing, unknown or wrong",
}


def _parse(raw: bytes) -> dict[str, Any] | list[Any]:
    # The body is read as JSON before any field is looked at: what is not JSON is 400 even when a field is wrong, too.
    try:
        document = msgspec.json.decode(raw)
    except RecursionError:
        raise ContractError(
            400, "not_json", None, "The body is nested too deeply; wanted an object or a list."
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ContractError(400, "not_json", None, f"The body is not JSON: {error}.") from None
    if not isinstance(document, dict | list):
        raise ContractError(400, "not_an_object", None, f"The body is {_shown(document)}; wanted an object or a list.")
    return document


def _shown(value: Any) -> str:
    # Bounded before it becomes text: an answer never echoes a body.
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = "a huge number" if isinstance(value, int) and abs(value) > 10**15 else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/definitions/{name}"}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "additionalProperties": False, "properties": properties}


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _bad_bodies() -> Iterator[BadRequest]:
    row, wrong = _json(EXAMPLE), _json({**EXAMPLE, "Age": -5})
    yield BadRequest("an unknown field", _json({**EXAMPLE, "Cabin": "C85"}), 422, "Cabin")
    yield BadRequest("a field in full-width letters", row.replace(b'"Age"', '"Ａge"'.encode()), 422, "Ａge")
    yield BadRequest("no field", b"{}", 422, FIELDS[0])
    for name, body in {"nothing": b"", "null": b"null", "a number": b"3", "half a request": row[:40]}.items():
        yield BadRequest(name, body, 400, None)
    yield BadRequest("a byte order mark", b"\xef\xbb\xbf" + row, 400, None)
    yield BadRequest("bytes that are not UTF-8", row[:-1] + b', "\xff\xfe": 1}', 400, None)
    yield BadRequest("100,000 open brackets", b"[" * 100_000, 400, None)
    yield BadRequest("an empty list", b"[]", 422, None)
    yield BadRequest("a list of numbers", b"[1, 2]", 422, None)
    yield BadRequest("one wrong row of three", b"[" + b",".join([row, row, wrong]) + b"]", 422, "Age")
    yield BadRequest("a list with a field given twice", b"[" + row + b"," + row[:-1] + b', "Age": 1}]', 422, "Age")
    yield BadRequest("1,001 rows", b"[" + b",".join([row] * (MAX_ROWS + 1)) + b"]", 413, None)
    yield BadRequest("a byte too many", row + b" " * (MAX_BYTES + 1 - len(row)), 413, None)


if __name__ == "__main__":
    SWAGGER.write_text(json.dumps(swagger(), indent=2) + "\n", encoding="utf-8")
