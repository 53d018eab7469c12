"""Holds bodies against Microsoft's own resource types (Azure/bicep-types-az), the independent truth of these tests."""

from __future__ import annotations

import functools
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

VARIABLE = "RUNBOOK_AZURE_ML_TYPES"
PROVIDER = "Microsoft.MachineLearningServices"
Direction = Literal["request", "response"]
_REQUIRED, _READ_ONLY, _WRITE_ONLY = 1, 2, 4
# These four come from the address, not from the body.
_FROM_ADDRESS = ("id", "name", "type", "apiVersion")


def folder() -> Path | None:
    """Return the folder of <api-version>.json files, or None when the environment names none."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named and Path(named).is_dir() else None


@dataclass(frozen=True)
class Violation:
    """One member of one body that does not fit; ``rule`` is written without names and numbers, for comparing."""

    direction: Direction
    resource: str
    version: str
    where: str
    rule: str


def check(direction: Direction, path: str, version: str, body: Any) -> list[Violation] | None:
    """Return what does not fit in a resource's body, None when there is no type to hold it against."""
    types = load(version)
    resource = resource_type(path)
    if types is None or resource is None:
        return None
    function = path.rstrip("/").rsplit("/", 1)[-1]
    for entry in types:
        if entry["$type"] == "ResourceType" and entry["name"].lower() == f"{resource}@{version}".lower():
            return _checked(types, entry["body"], body, direction, resource, version, root=True)
    parent = resource_type(path.rstrip("/").rsplit("/", 1)[0]) or ""
    for entry in types:
        named = entry["$type"] == "ResourceFunctionType" and entry["name"].lower() == function.lower()
        if named and entry["resourceType"].lower() == parent.lower():
            part = entry.get("input" if direction == "request" else "output")
            return None if part is None else _checked(types, part, body, direction, f"{parent}/{function}", version)
    return None


def resource_type(path: str) -> str | None:
    """Return the type of an address: .../workspaces/W/computes/N is ".../workspaces/computes"."""
    found = re.search(rf"/providers/{PROVIDER}/(.+)$", path, re.IGNORECASE)
    if not found:
        return None
    return "/".join([PROVIDER, *found[1].split("/")[::2]])


@functools.cache
def load(version: str) -> list[dict[str, Any]] | None:
    """Return the types of one API version, or None when they are not here."""
    path = (folder() or Path("/nonexistent")) / f"{version}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _checked(
    types: list[Any], ref: Any, body: Any, direction: Direction, resource: str, version: str, root: bool = False
) -> list[Violation]:
    found: list[tuple[str, str]] = []
    if root and isinstance(body, dict):
        body = {k: v for k, v in body.items() if k not in _FROM_ADDRESS}
    _walk(types, _resolve(types, ref), body, "", direction, found, root)
    return [Violation(direction, resource, version, where, rule) for where, rule in found]


def _resolve(types: list[Any], ref: Any) -> Any:
    return types[int(ref["$ref"].split("/")[-1])]


def _walk(
    types: list[Any], kind: Any, value: Any, at: str, direction: Direction, found: list[Any], root: bool = False
) -> None:
    match kind["$type"]:
        case "ObjectType":
            _object(types, kind["properties"], kind.get("additionalProperties"), value, at, direction, found, root)
        case "DiscriminatedObjectType":
            _discriminated(types, kind, value, at, direction, found)
        case "ArrayType":
            if not isinstance(value, list):
                found.append((at, f"expected a list, found {type(value).__name__}"))
                return
            for number, item in enumerate(value):
                _walk(types, _resolve(types, kind["itemType"]), item, f"{at}[{number}]", direction, found)
        case "UnionType":
            _union(types, kind, value, at, direction, found)
        case "StringLiteralType":
            if value != kind["value"]:
                found.append((at, f"expected {kind['value']!r}"))
        case "StringType" | "IntegerType" | "BooleanType" as name:
            _plain(name, kind, value, at, found)


def _object(
    types: list[Any],
    properties: Any,
    rest: Any,
    value: Any,
    at: str,
    direction: Direction,
    found: list[Any],
    root: bool,
) -> None:
    if not isinstance(value, dict):
        found.append((at, f"expected an object, found {type(value).__name__}"))
        return
    hidden = _READ_ONLY if direction == "request" else _WRITE_ONLY
    for name, member in properties.items():
        required = member["flags"] & _REQUIRED and not member["flags"] & hidden
        if required and value.get(name) is None and not (root and name in _FROM_ADDRESS):
            found.append((f"{at}.{name}", "is required and missing"))
    for name, item in value.items():
        if name in properties:
            if item is not None:
                _walk(types, _resolve(types, properties[name]["type"]), item, f"{at}.{name}", direction, found)
        elif rest is not None:
            _walk(types, _resolve(types, rest), item, f"{at}.{name}", direction, found)
        else:
            found.append((f"{at}.{name}", "is not a member of the type"))


def _discriminated(types: list[Any], kind: Any, value: Any, at: str, direction: Direction, found: list[Any]) -> None:
    chosen = value.get(kind["discriminator"]) if isinstance(value, dict) else None
    if chosen not in kind["elements"]:
        found.append((f"{at}.{kind['discriminator']}", f"expected one of {sorted(kind['elements'])}, found {chosen!r}"))
        return
    element = _resolve(types, kind["elements"][chosen])
    properties = {**kind["baseProperties"], **element["properties"]}
    _object(types, properties, element.get("additionalProperties"), value, at, direction, found, False)


def _union(types: list[Any], kind: Any, value: Any, at: str, direction: Direction, found: list[Any]) -> None:
    for element in kind["elements"]:
        inner: list[Any] = []
        _walk(types, _resolve(types, element), value, at, direction, inner)
        if not inner:
            return
    found.append((at, f"fits none of the alternatives: {value!r}"))


def _plain(name: str, kind: Any, value: Any, at: str, found: list[Any]) -> None:
    wanted = {"StringType": str, "IntegerType": int, "BooleanType": bool}[name]
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        found.append((at, f"expected {wanted.__name__}, found {type(value).__name__}"))
    elif isinstance(value, str) and "pattern" in kind and not re.search(kind["pattern"], value):
        found.append((at, "does not match the pattern"))
