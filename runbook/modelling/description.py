"""Reads data/dataset.py, the facts about the data set, and refuses what is incomplete."""

from __future__ import annotations

import ast
import datetime as dt
import functools
import importlib.util
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook import paths
from runbook.errors import UsageError

# The mark of a value that only a person can give. `runbook new` writes it, `runbook check` lists it.
BLANK = "TODO:"
# The mark of a limit that works but that a person should decide.
THINK = "think about it:"

YES_NO = "This runbook takes yes/no models: the label holds 0 and 1 and nothing else"

KnownCases = Mapping[str, Mapping[str, tuple[tuple[float | None, ...], int | None]]]


@dataclass(frozen=True)
class Description:
    """The facts of data/dataset.py under their own names in lower case; ``file`` is the path of the data."""

    file: Path
    sha256: str
    rows: int
    label: str
    group: str | None
    key: str | None
    holdout_share: float
    holdout_salt: str
    columns: Mapping[str, str]
    codes: Mapping[str, Mapping[str, int]]
    dates: Mapping[str, str]
    title: str
    row: str
    positive: str
    baselines: Mapping[str, str]
    known_cases: KnownCases
    slices: Callable[[Any], dict[str, Any]]

    def column(self, field: str) -> str:
        """Return the column of the file that a request field is read from."""
        return self.columns.get(field, field)

    def training_values(self) -> dict[str, Any]:
        """Return the values that decide which rows training sees, for the training key.

        A new slice, known case, baseline or word is not among them: it makes no new model.
        """
        return {
            "sha256": self.sha256,
            "label": self.label,
            "group": self.group,
            "holdout_share": self.holdout_share,
            "holdout_salt": self.holdout_salt,
            "columns": dict(self.columns),
            "codes": {field: dict(codes) for field, codes in self.codes.items()},
            "dates": dict(self.dates),
        }


# The names that data/dataset.py must define, each with the types it may have.
TYPES: dict[str, tuple[type, ...]] = {
    "FILE": (str,),
    "SHA256": (str,),
    "ROWS": (int,),
    "LABEL": (str,),
    "GROUP": (str, type(None)),
    "KEY": (str, type(None)),
    "HOLDOUT_SHARE": (float,),
    "HOLDOUT_SALT": (str,),
    "COLUMNS": (dict,),
    "CODES": (dict,),
    "DATES": (dict,),
    "TITLE": (str,),
    "ROW": (str,),
    "POSITIVE": (str,),
    "BASELINES": (dict,),
    "KNOWN_CASES": (dict,),
}


@functools.cache
def description() -> Description:
    """Return the facts of data/dataset.py; raises UsageError that names the file, the line and what to write there."""
    return read(paths.DATASET)


def read(path: Path) -> Description:
    """Return the facts that the Python file ``path`` states; raises UsageError as ``description`` does."""
    module = _module(path)
    values: dict[str, Any] = {}
    for name, types in TYPES.items():
        if not hasattr(module, name):
            raise UsageError(f"{shown(path)} does not define {name}; expected {_words(types)}. Define it there.")
        value = getattr(module, name)
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise UsageError(f"{place(path, name)}: {name} is {value!r}; expected {_words(types)}.")
        if isinstance(value, str) and value.startswith(BLANK):
            raise UsageError(f"{place(path, name)}: {name} is still blank. {value.removeprefix(BLANK).strip()}")
        values[name.lower()] = value

    slices = getattr(module, "slices", None)
    if not callable(slices):
        raise UsageError(
            f"{shown(path)} does not define slices(table); expected a function that returns {{name: mask}}."
        )
    if not 0 < values["holdout_share"] < 1:
        where = place(path, "HOLDOUT_SHARE")
        raise UsageError(f"{where}: HOLDOUT_SHARE is {values['holdout_share']}; expected a share, such as 0.2.")
    for field, first_day in values["dates"].items():
        _refuse_bad_day(path, field, first_day)
    _refuse_bad_parts(path, values)
    return Description(**{**values, "file": path.parent / values["file"]}, slices=slices)


def place(path: Path, name: str) -> str:
    """Return "data/dataset.py:12", the line where ``name`` is defined; without a line when it is not.

    A name in a class is written with a point, for example "Request.Age".
    """
    body = ast.parse(path.read_text(encoding="utf-8")).body
    line = None
    for part in name.split("."):
        node = next((n for n in body if part in _defined(n)), None)
        if node is None:
            break
        line = node.lineno
        body = node.body if isinstance(node, ast.ClassDef) else []
    return shown(path) if line is None else f"{shown(path)}:{line}"


def place_of_error(path: Path, error: BaseException, name: str = "") -> str:
    """Return "data/dataset.py:12", the line that was running when ``error`` was raised, else the line of ``name``."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path]
    return f"{shown(path)}:{lines[-1]}" if lines else place(path, name)


def shown(path: Path) -> str:
    """Return a path as messages name it: from the project's folder where it lies there."""
    return str(path.relative_to(paths.ROOT)) if path.is_relative_to(paths.ROOT) else str(path)


def _defined(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    return {t.id for t in targets if isinstance(t, ast.Name)}


def marked(root: Path, mark: str) -> list[tuple[str, str]]:
    """Return ("data/dataset.py:12", the rest of the line) for every line of the four places that carries ``mark``."""
    files = [root / "data" / "dataset.py", root / "deployment" / "request.py", *sorted((root / "params").glob("*.yml"))]
    found = []
    for path in files:
        for number, line in enumerate(_lines(path), 1):
            if mark in line:
                name = line.split("=")[0].split(":")[0].strip()
                said = line.split(mark, 1)[1].strip().rstrip('",')
                found.append((f"{path.relative_to(root)}:{number}", f"{name}. {said}"))
    return found


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _module(path: Path) -> Any:
    if not path.exists():
        raise UsageError(
            f"{shown(path)} is missing: it holds the facts about the data. Restore it with: git checkout -- {shown(path)}"
        )
    spec = importlib.util.spec_from_file_location("dataset_description", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} cannot be loaded as a Python module.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise UsageError(f"{shown(path)}:{error.lineno}: {error.msg}. Mend that line first.") from error
    except Exception as error:  # the file is a person's own code, which may raise anything
        where = place_of_error(path, error)
        raise UsageError(f"{where}: {type(error).__name__}: {error}. Mend that line first.") from error
    return module


def _refuse_bad_parts(path: Path, values: Mapping[str, Any]) -> None:
    for name in ("columns", "baselines"):
        for key, value in values[name].items():
            if not (isinstance(key, str) and isinstance(value, str)):
                raise _bad_part(path, name.upper(), {key: value}, "text for text, such as {'age': 'Age in years'}")
    for field, codes in values["codes"].items():
        if not isinstance(codes, dict) or not all(isinstance(word, str) for word in codes):
            raise _bad_part(
                path, "CODES", {field: codes}, "a code for each word, such as {'sex': {'female': 0, 'male': 1}}"
            )
        if not all(type(code) is int for code in codes.values()):
            raise _bad_part(path, "CODES", {field: codes}, "whole numbers as codes")
    for group, cases in values["known_cases"].items():
        for name, case in cases.items() if isinstance(cases, dict) else [("", cases)]:
            if not _is_known_case(case):
                raise _bad_part(
                    path,
                    "KNOWN_CASES",
                    {group: {name: case}},
                    "a tuple of values and the prediction 0, 1 or None, such as {'a group': {'a case': ((1, 38.0), 1)}}",
                )


def _is_known_case(case: Any) -> bool:
    if not (isinstance(case, tuple) and len(case) == 2 and isinstance(case[0], tuple)):
        return False
    return case[1] is None or (type(case[1]) is int and case[1] in (0, 1))


def _bad_part(path: Path, name: str, part: dict[Any, Any], expected: str) -> UsageError:
    return UsageError(f"{place(path, name)}: {name} holds {part!r}; expected {expected}.")


def _refuse_bad_day(path: Path, field: str, first_day: Any) -> None:
    try:
        dt.date.fromisoformat(first_day)
    except (TypeError, ValueError):
        message = f"the first day of {field} is {first_day!r}; expected a date such as '2000-01-01'."
        raise UsageError(f"{place(path, 'DATES')}: {message}") from None


def _words(types: tuple[type, ...]) -> str:
    names = {
        str: "text",
        int: "a whole number",
        float: "a number with a point",
        dict: "a dictionary",
        type(None): "None",
    }
    return " or ".join(names[t] for t in types)
