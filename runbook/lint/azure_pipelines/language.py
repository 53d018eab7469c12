"""Reads an Azure Pipelines file and expands its templates, as the service does before a run starts.

Only the part of the language that pipelines/ uses is known; anything else is refused with AnatomyError, because a
construct that is read wrongly proves nothing. Every mapping keeps the place it was written at under ``AT``. Scalars
stay text, as in the service. Source: the Azure Pipelines YAML schema and its pages on templates and expressions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from runbook.errors import AnatomyError

AT = "__at__"
SECTIONS = ("stages", "jobs", "steps", "variables")
INSERT = re.compile(r"\$\{\{(.*?)\}\}")
TOKEN = re.compile(r"\s*('(?:[^']|'')*'|[A-Za-z_][\w.]*|-?[0-9][\w.]*|[(),\[\]])")

Functions = Mapping[str, Callable[..., Any]]


def load(root: Path, name: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the pipeline ``root/name`` with every template expanded for these values of its parameters.

    Raises AnatomyError for a file that is missing or not YAML, a parameter that does not fit, or an unknown construct.
    """
    document = read(root, name)
    return _expand_mapping(document, _Scope(root, name, _values(document, parameters or {}, document[AT])))


def read(root: Path, name: str) -> dict[str, Any]:
    """Return one file as it is written, unexpanded; raises AnatomyError when it is missing or not a YAML mapping."""
    try:
        node = yaml.compose((root / name).read_text(encoding="utf-8"), yaml.SafeLoader)
    except FileNotFoundError:
        raise AnatomyError(
            f"{name}:1: there is no such file, expected a pipeline or template, correct the name."
        ) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise AnatomyError(f"{name}:{line}: {error.problem}, expected YAML, correct this line.") from error
    if not isinstance(node, yaml.MappingNode):
        raise AnatomyError(f"{name}:1: not a mapping, expected 'key: value' lines at the top, see the other pipelines.")
    return dict(_plain(node, name))


def evaluate(text: str, names: Mapping[str, Any], functions: Functions) -> Any:
    """Return the value of an expression such as ``and(succeeded(), eq(variables['x'], 'y'))``.

    ``names`` are the roots that may be referred to; a miss inside them is None. Raises AnatomyError for anything else.
    """
    tokens = TOKEN.findall(text)
    if "".join(tokens) != re.sub(r"\s(?=(?:[^']*'[^']*')*[^']*$)", "", text):
        raise AnatomyError(f"expression {text.strip()!r} is not understood")
    value = _value(tokens, names, {**FUNCTIONS, **functions})
    if tokens:
        raise AnatomyError(f"expression {text.strip()!r}: {tokens[0]!r} is not understood")
    return value


@dataclass(frozen=True)
class _Scope:
    """What an expansion sees: the repository, the file it stands in, and the parameters of that file."""

    root: Path
    file: str
    parameters: Mapping[str, Any]

    def evaluate(self, text: str, where: str) -> Any:
        try:
            return evaluate(text, {"parameters": self.parameters}, {})
        except AnatomyError as error:
            raise AnatomyError(f"{where}: {error}, expected what language.py knows, write it more simply.") from None


def _plain(node: yaml.Node, file: str) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return node.value
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, file) for item in node.value]
    mapping = {AT: f"{file}:{node.start_mark.line + 1}"}
    for key, value in node.value:
        if key.value in mapping:
            line = key.start_mark.line + 1
            raise AnatomyError(
                f"{file}:{line}: '{key.value}' twice in one mapping, expected each key once, remove one of them."
            )
        mapping[key.value] = _plain(value, file)
    return mapping


def _expand_mapping(mapping: dict[str, Any], scope: _Scope) -> dict[str, Any]:
    expanded: dict[str, Any] = {}
    for key, value in mapping.items():
        if key in (AT, "parameters"):
            expanded[key] = value
        elif "${{" not in key:
            expanded[key] = _expand(value, scope, mapping[AT])
        elif _chosen(key, scope, mapping[AT]):
            expanded.update({k: v for k, v in _expand_mapping(value, scope).items() if k != AT})
    return expanded


def _chosen(key: str, scope: _Scope, where: str) -> bool:
    match = re.fullmatch(r"\$\{\{ if (.*) \}\}", key)
    if not match:
        raise AnatomyError(f"{where}: {key!r} is not known, expected 'if', write it more simply.")
    return _truth(scope.evaluate(match[1], where))


def _expand(value: Any, scope: _Scope, where: str) -> Any:
    if isinstance(value, dict):
        return _expand_mapping(value, scope)
    if isinstance(value, list):
        return [item for raw in value for item in _expand_item(raw, scope, where)]
    whole = INSERT.fullmatch(value)
    if whole:
        return scope.evaluate(whole[1], where)
    return INSERT.sub(lambda match: str(scope.evaluate(match[1], where)), value)


def _expand_item(item: Any, scope: _Scope, where: str) -> list[Any]:
    if not isinstance(item, dict):
        return [_expand(item, scope, where)]
    condition = next((key for key in item if key.startswith("${{")), "")
    if condition and len(item) == 2:
        chosen = item[condition] if _chosen(condition, scope, item[AT]) else []
        return [expanded for raw in chosen for expanded in _expand_item(raw, scope, item[AT])]
    return _include(item, scope) if "template" in item else [_expand_mapping(item, scope)]


def _include(item: dict[str, Any], scope: _Scope) -> list[Any]:
    unknown = set(item) - {AT, "template", "parameters"}
    if unknown:
        raise AnatomyError(f"{item[AT]}: {sorted(unknown)} beside template, expected only parameters, remove it.")
    # The service reads the path from the folder of the file that includes.
    name = (Path(scope.file).parent / item["template"]).as_posix()
    if not (scope.root / name).is_file():
        raise AnatomyError(f"{item[AT]}: template {item['template']} is not there, expected {name}, correct the path.")
    body = read(scope.root, name)
    given = item.get("parameters", {})
    values = {k: _expand(v, scope, item[AT]) for k, v in given.items() if k != AT} if given else {}
    inner = _Scope(scope.root, name, _values(body, values, item[AT]))
    section = [key for key in body if key in SECTIONS]
    if len(section) != 1 or set(body) - {AT, "parameters", *section}:
        raise AnatomyError(
            f"{name}:1: holds {sorted(set(body) - {AT})}, expected parameters and one of {', '.join(SECTIONS)}."
        )
    return list(_expand(body[section[0]], inner, body[AT]))


def _values(document: dict[str, Any], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    declared = {p["name"]: p for p in document.get("parameters", [])}
    unknown = sorted(set(given) - set(declared))
    if unknown:
        raise AnatomyError(
            f"{where}: parameter {unknown[0]} is given, expected one of {', '.join(declared) or 'none'}, remove it."
        )
    values = {}
    for name, parameter in declared.items():
        if name not in given and "default" not in parameter:
            raise AnatomyError(
                f"{where}: parameter {name} is missing, expected {parameter.get('type', 'string')}, pass it."
            )
        value = given.get(name, parameter.get("default"))
        if "values" in parameter and value not in parameter["values"]:
            raise AnatomyError(
                f"{where}: parameter {name} is {value!r}, expected one of {', '.join(parameter['values'])}, correct it."
            )
        values[name] = _truth(value) if parameter.get("type") == "boolean" else value
    return values


def _value(tokens: list[str], names: Mapping[str, Any], functions: Functions) -> Any:
    token = tokens.pop(0) if tokens else ""
    if token.startswith("'"):
        return token[1:-1].replace("''", "'")
    if token.lower() in ("true", "false"):
        return token.lower() == "true"
    if token[:1].isdigit() or token.startswith("-"):
        return token
    if tokens[:1] == ["("]:
        if token not in functions:
            raise AnatomyError(f"function {token!r} is not known")
        return functions[token](*_arguments(tokens, names, functions))
    return _reference(token, tokens, names, functions)


def _arguments(tokens: list[str], names: Mapping[str, Any], functions: Functions) -> list[Any]:
    found = []
    tokens.pop(0)
    while tokens and tokens[0] != ")":
        found.append(_value(tokens, names, functions))
        if tokens[:1] == [","]:
            tokens.pop(0)
    if not tokens:
        raise AnatomyError("a ')' is missing")
    tokens.pop(0)
    return found


def _reference(token: str, tokens: list[str], names: Mapping[str, Any], functions: Functions) -> Any:
    root, *path = token.split(".")
    if root not in names:
        raise AnatomyError(f"name {token!r} is not known")
    while tokens[:1] == ["["]:
        tokens.pop(0)
        path.append(_value(tokens, names, functions))
        if tokens[:1] != ["]"]:
            raise AnatomyError("a ']' is missing")
        tokens.pop(0)
    # The service would make nothing of a misspelt parameter, and run on without it.
    if root == "parameters" and path[:1] and path[0] not in names[root]:
        raise AnatomyError(f"parameter {path[0]!r} is not declared")
    found: Any = names[root]
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _truth(value: Any) -> bool:
    return value.lower() == "true" if isinstance(value, str) else bool(value)


def _same(left: Any, right: Any) -> bool:
    # The service compares text without regard to case, and turns the right side into the type of the left one.
    return _truth(right) is left if isinstance(left, bool) else str(left or "").lower() == str(right or "").lower()


FUNCTIONS: Functions = {
    "eq": _same,
    "ne": lambda left, right: not _same(left, right),
    "and": lambda *all_of: all(_truth(a) for a in all_of),
    "or": lambda *any_of: any(_truth(a) for a in any_of),
    "not": lambda value: not _truth(value),
    "in": lambda value, *others: any(_same(value, other) for other in others),
}
