"""Layers the params files, and checks every value against the notebook's own parameters cell.

resolved = the notebook's default < base.yml < gate.yml < <target>.yml < <stage>.yml < files given with -f < values given
with -p
"""

from __future__ import annotations

import ast
import difflib
import functools
import io
import json
import math
import re
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from runbook import paths, strict_yaml
from runbook.engine import waivers
from runbook.errors import AnatomyError, ParamsError
from runbook.platform import files as platform_files

TYPES: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool, "list": list}
RANGE = re.compile(r"(?<![\w.])(-?\d+(?:\.\d+)?)\.\.(-?\d+(?:\.\d+)?)(?![\w.])")
CHOICES = re.compile(r"(?<![\w|])(\w+(?:\|\w+)+)(?![\w|])")
# How limits are named, such as max_p99_ms and cv_min_accuracy.
LIMIT = re.compile(r"(^|_)(max|min)_")
# Characters of a refused value that its message repeats.
SHOWN = 60
# Keys of older releases: {beginning: what it is called now}.
RENAMED = {"sealed_": "holdout_"}
# The runner sets these itself, so that a file cannot send a step to another target than the one that was asked for.
RUNNER_OWNED = ("target", "stage", "run_id")


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: ``name: type = default  # meaning, unit, range``."""

    name: str
    type: str
    optional: bool
    default: Any
    meaning: str
    notebook: str = ""

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The numeric range written in the meaning as ``low..high``, or None."""
        found = RANGE.search(self.meaning)
        return (float(found[1]), float(found[2])) if found else None

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed words written in the meaning as ``a|b``, or none."""
        found = CHOICES.search(self.meaning)
        return tuple(found[1].split("|")) if found and self.type == "str" else ()

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with ``value``, or None."""
        if value is None:
            return None if self.optional else f"is missing, expected {self.type}"
        if type(value) is int and abs(value) >= 10**strict_yaml.MOST_DIGITS:
            return f"is a number of more than {strict_yaml.MOST_DIGITS} digits, expected {self.type}"
        if self.type == "float" and type(value) is int:
            value = float(value)
        if type(value) is not TYPES[self.type]:
            return f"is {value!r} ({type(value).__name__}), expected {self.type}"
        if isinstance(value, float) and not math.isfinite(value):
            return f"is {value!r}, expected a finite number"
        if self.bounds and isinstance(value, int | float) and not self.bounds[0] <= value <= self.bounds[1]:
            return f"is {value!r}, expected {self.bounds[0]:g} to {self.bounds[1]:g}"
        if self.choices and value not in self.choices:
            return f"is {value!r}, expected one of {', '.join(self.choices)}"
        return None


@functools.cache
def declared(notebook: Path) -> dict[str, Parameter]:
    """Return the parameters a notebook declares, in order; raises AnatomyError when the cell is missing or computes."""
    if not notebook.exists():
        raise AnatomyError(f"{notebook} is missing. The notebooks are: {', '.join(p.stem for p in notebooks())}.")
    # Plain JSON is enough for one cell, and `runbook plan` need not wait for a notebook library.
    document = json.loads(notebook.read_text(encoding="utf-8"))
    cells = [c for c in document["cells"] if "parameters" in c["metadata"].get("tags", [])]
    if len(cells) != 1:
        raise AnatomyError(
            f"{notebook.name}: {len(cells)} cells are tagged 'parameters', expected one. Tag the cell under '## Parameters'."
        )
    source = "".join(cells[0]["source"])
    comments = _comments(source)
    return {p.name: p for p in (_parameter(notebook, node, comments) for node in ast.parse(source).body)}


def notebooks() -> list[Path]:
    """Return every notebook of notebooks/ in running order."""
    return sorted(paths.NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def all_declared() -> dict[str, Parameter]:
    """Return every parameter any notebook declares; raises AnatomyError when one key has two types."""
    everything: dict[str, Parameter] = {}
    for notebook in notebooks():
        for name, parameter in declared(notebook).items():
            first = everything.setdefault(name, parameter)
            if first.type != parameter.type:
                raise AnatomyError(
                    f"{notebook.name}: {name} is {parameter.type}, elsewhere {first.type}: a key has one type everywhere."
                )
    return everything


def layers(target: str, stage: str | None, files: Iterable[Path] = (), overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Return the values of all layers over the defaults; raises ParamsError for an unknown key or a value that does not fit."""
    known = all_declared()
    named = [paths.PARAMS / f"{name}.yml" for name in ("base", target, *([stage] if stage else []))]
    values: dict[str, Any] = {}
    for path in [named[0], *_gate_file(), *named[1:], *files]:
        for key, value in _read(path).items():
            if path == paths.PARAMS / "azure.yml" and key in platform_files.COORDINATES and key not in known:
                continue  # the platform reads these itself
            if path == paths.PARAMS / "base.yml" and key == platform_files.PROJECT_KEY:
                continue
            _refuse_unknown(key, known, str(path))
            _refuse_misfit(known[key], value, str(path))
            values[key] = value
    waived()
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise ParamsError(f"-p {override}: expected key=value.")
        _refuse_unknown(key, known, f"-p {override}")
        if key in RUNNER_OWNED:
            raise ParamsError(f"-p {override}: {key} is set with --{key.replace('_', '-')}, not with -p.")
        values[key] = parse(known[key], text)
        _refuse_misfit(known[key], values[key], f"-p {override}")
    return {k: v for k, v in values.items() if k not in RUNNER_OWNED}


def waived() -> dict[str, waivers.Waiver]:
    """Return the limits that params/gate.yml loosens, by name; raises ParamsError where one may not be used."""
    known = all_declared()
    found: dict[str, waivers.Waiver] = {}
    for path in _gate_file():
        values = _read(path)
        for key, value in values.items():
            _refuse_unknown(key, known, str(path))
            _refuse_misfit(known[key], value, str(path))
        found |= waivers.waivers(path, values, known)
    return found


def _gate_file() -> list[Path]:
    path = paths.PARAMS / waivers.FILE
    return [path] if path.exists() else []


def for_step(notebook: Path, target: str, stage: str | None, run_id: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is injected into one notebook: only keys it declares; raises ParamsError for a value that does not fit."""
    wanted = declared(notebook)
    own = {"target": target, "run_id": run_id, **({"stage": stage} if stage else {})}
    chosen = {k: v for k, v in {**values, **own}.items() if k in wanted}
    for name, parameter in wanted.items():
        value = chosen.get(name, parameter.default)
        _refuse_misfit(parameter, value, notebook.name)
        if value is None and f"required on {target}" in parameter.meaning:
            raise ParamsError(
                f"{notebook.name}: {name} is missing, required on {target}. Set it in params/{target}.yml or with -p {name}=..."
            )
    return chosen


@dataclass(frozen=True)
class Given:
    """A value of one step that differs from the plain command's, or a limit that params/gate.yml loosens.

    ``plain`` is the plain command's value, or the loosened limit's default. ``source`` is -p or the params file that set
    it, for params/gate.yml with reason, owner and last day.
    """

    name: str
    value: Any
    plain: Any
    source: str


def given(
    notebook: Path, target: str, stage: str | None, files: Sequence[Path], overrides: Sequence[str]
) -> list[Given]:
    """Return the values that ``-f`` and ``-p`` change for one notebook, and the limits that params/gate.yml loosens.

    The plain command, without either, takes its values from the parameters cell and from params/ of the checkout: what
    was reviewed. Limits (``max_...``, ``min_...``) come first.
    """
    plain, used = layers(target, stage), layers(target, stage, files, overrides)
    sources = {key: path.name for path in files for key in _read(path)}
    sources |= {override.partition("=")[0]: "-p" for override in overrides}
    loosened, found = waived(), []
    for name, parameter in declared(notebook).items():
        before, now = (values.get(name, parameter.default) for values in (plain, used))
        if name not in RUNNER_OWNED and before != now:
            found.append(Given(name, now, before, sources.get(name, "")))
        elif name in loosened and now == loosened[name].value:
            found.append(Given(name, now, loosened[name].default, loosened[name].source))
    return sorted(found, key=lambda g: not LIMIT.search(g.name))


def parse(parameter: Parameter, text: str) -> Any:
    """Return ``text`` as the declared type: never a guess, so that a version '007' stays a string."""
    try:
        if parameter.optional and text in ("null", "None"):
            return None
        if parameter.type == "str":
            return text
        if parameter.type == "bool":
            return {"true": True, "false": False}[text.lower()]
        if parameter.type == "list":
            value = strict_yaml.load(text)
            return value if isinstance(value, list) else text
        return _number(parameter.type, text)
    except (ValueError, KeyError, yaml.YAMLError) as error:
        problem = f" ({strict_yaml.sentence(error)})" if isinstance(error, yaml.YAMLError) else ""
        shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text)} characters)"
        raise ParamsError(
            f"-p {parameter.name}={shown}: expected {parameter.type}{problem}. {parameter.meaning}"
        ) from None


def _number(kind: str, text: str) -> int | float:
    """Return a number written in decimals; raises ValueError for one that a YAML file would read otherwise, such as 010."""
    if kind == "float":
        if "_" in text:
            raise ValueError(text)
        return float(text)
    if not strict_yaml.INT.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise ParamsError(
            f"{path} is missing. The files of params/ are: {', '.join(p.name for p in sorted(paths.PARAMS.glob('*.yml')))}."
        )
    document = strict_yaml.read(path, ParamsError)
    if document is None:
        return {}
    if not isinstance(document, dict) or not all(isinstance(k, str) for k in document):
        raise ParamsError(f"{path}: expected flat 'key: value' lines.")
    nested = [k for k, v in document.items() if isinstance(v, dict)]
    if nested:
        raise ParamsError(f"{path}: {nested[0]} holds a mapping, expected flat 'key: value' lines.")
    return document


def _refuse_unknown(key: str, known: Mapping[str, Parameter], where: str) -> None:
    if key not in known:
        for old, new in RENAMED.items():
            now = new + key.removeprefix(old)
            if key.startswith(old) and now in known:
                raise ParamsError(f"{where}: the parameter '{key}' is called '{now}' now. Write the new name there.")
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(sorted(known))}."
        raise ParamsError(f"{where}: unknown parameter '{key}': no notebook declares it. {hint}")


def _refuse_misfit(parameter: Parameter, value: Any, where: str) -> None:
    problem = parameter.problem(value)
    if problem:
        raise ParamsError(
            f"{where}: {parameter.name} {problem}. {parameter.meaning}. Declared in the parameters cell of {parameter.notebook}."
        )


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("# ").strip() for t in tokens if t.type == tokenize.COMMENT}


def _parameter(notebook: Path, node: ast.stmt, comments: Mapping[int, str]) -> Parameter:
    where = f"{notebook.name}, parameters cell, line {node.lineno}"
    if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name) or node.value is None:
        raise AnatomyError(f"{where}: expected 'name: type = default  # meaning', found: {ast.unparse(node)}")
    words = [w.strip() for w in ast.unparse(node.annotation).split("|")]
    base = words[0].split("[")[0]
    if base not in TYPES or words[1:] not in ([], ["None"]):
        raise AnatomyError(
            f"{where}: type {ast.unparse(node.annotation)}, expected one of {', '.join(TYPES)}, with '| None' if it may be "
            "missing."
        )
    try:
        default = ast.literal_eval(node.value)
    except ValueError:
        raise AnatomyError(
            f"{where}: {node.target.id} is computed; expected a literal, because an injected value would not be recomputed."
        ) from None
    meaning = comments.get(node.end_lineno or node.lineno, "")
    if not meaning:
        raise AnatomyError(f"{where}: {node.target.id} has no comment; expected '# meaning, unit, range'.")
    parameter = Parameter(node.target.id, base, len(words) > 1, default, meaning, f"notebooks/{notebook.name}")
    problem = parameter.problem(default)
    if problem:
        raise AnatomyError(f"{where}: the default of {parameter.name} {problem}.")
    return parameter
