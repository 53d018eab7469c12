"""Builds deployment/swagger.json from the request's fields: `python -m runbook.lint.swagger` writes it anew."""

from __future__ import annotations

import json
from typing import Any

from runbook import paths
from runbook.modelling import request
from runbook.modelling.description import description

SWAGGER = paths.DEPLOYMENT / "swagger.json"

_ROUTER = {"description": "the router's own answer: no key, no replica, no time, or another word for score.py's status"}
_REFUSALS = {
    "400": "the body is not JSON",
    "405": "the method is not POST",
    "413": "too many rows or bytes",
    "415": "the Content-Type is not application/json",
    "422": "a field is missing, unknown or wrong",
}


def swagger() -> dict[str, Any]:
    """Return the Swagger 2.0 document that the scoring server answers from swagger.json beside score.py."""
    facts = description()
    return {
        "swagger": "2.0",
        "info": {"title": facts.title, "version": "1.0"},
        "schemes": ["https", "http"],
        "consumes": ["application/json"],
        "produces": ["application/json"],
        "securityDefinitions": {"Bearer": {"type": "apiKey", "name": "Authorization", "in": "header"}},
        "paths": {"/score": {"post": _score(facts.row)}},
        "definitions": {
            "Request": {**_object(**_fields()), "example": request.EXAMPLE},
            "Answer": _answer(facts.row, facts.positive),
            "Error": _error(),
        },
    }


def text() -> str:
    """Return the document as swagger.json holds it."""
    return json.dumps(swagger(), indent=2) + "\n"


def problems() -> list[str]:
    """Return what is wrong with the committed swagger.json: nothing, or that it does not follow from the fields."""
    if SWAGGER.exists() and SWAGGER.read_text(encoding="utf-8") == text():
        return []
    return ["deployment/swagger.json does not follow from deployment/request.py and data/dataset.py. Run: make swagger"]


def _score(row: str) -> dict[str, Any]:
    refusals = {status: {"description": words, "schema": _reference("Error")} for status, words in _REFUSALS.items()}
    return {
        "operationId": "score",
        "description": f"Scores one {row}. A list of 1 to {request.MAX_ROWS} requests is answered by a list.",
        "security": [{"Bearer": []}],
        "parameters": [{"name": "request", "in": "body", "required": True, "schema": _reference("Request")}],
        "responses": {
            "200": {"description": "the answer", "schema": _reference("Answer")},
            **refusals,
            "default": _ROUTER,
        },
    }


def _fields() -> dict[str, Any]:
    # Swagger 2.0 knows no null; x-nullable is its tools' word for it.
    return {f.name: {"type": "integer", **f.schema, "x-nullable": f.nullable} for f in request.fields()}


def _answer(row: str, positive: str) -> dict[str, Any]:
    meaning = f"1 (the {row} {positive}) when probability is at least 0.5"
    return _object(
        prediction={"type": "integer", "enum": [0, 1], "description": meaning},
        probability={
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "description": f"the probability that the {row} {positive}",
        },
        model_version={"type": "string", "description": "the version in the model registry"},
    )


def _error() -> dict[str, Any]:
    field = {"type": "string", "x-nullable": True}
    return _object(error=_object(code={"type": "string"}, field=field, message={"type": "string"}))


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/definitions/{name}"}


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(properties),
        "additionalProperties": False,
        "properties": properties,
    }


if __name__ == "__main__":
    SWAGGER.write_text(text(), encoding="utf-8")
