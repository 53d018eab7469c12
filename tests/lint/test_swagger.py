"""The committed swagger.json is what the fields of deployment/request.py say."""

from __future__ import annotations

import json

from runbook.lint import swagger
from runbook.modelling import request


def test_the_committed_swagger_is_current() -> None:
    committed = json.loads(swagger.SWAGGER.read_text())
    assert committed == swagger.swagger(), "Run: make swagger"


def test_swagger_says_what_the_struct_says() -> None:
    properties = swagger.swagger()["definitions"]["Request"]["properties"]
    assert list(properties) == list(request.FIELDS)
    for field in request.fields():
        said = properties[field.name]
        ends = (min(said["enum"]), max(said["enum"])) if "enum" in said else (said["minimum"], said["maximum"])
        assert ends == (field.low, field.high)
        assert said["type"] == ("integer" if field.whole else "number")
        assert bool(said["x-nullable"]) == field.nullable
