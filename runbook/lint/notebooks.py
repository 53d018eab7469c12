"""Reads notebooks, params and deployment files and lists what breaks their rules; `runbook check` prints the list.

A notebook calls, shows and checks. Every problem names the file, the cell and what to do, so that the list can be worked
off without opening this module.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import nbformat

from runbook import paths, platform
from runbook.engine import params
from runbook.errors import AnatomyError, ParamsError

ROWS = ("Changes", "Needs", "Takes", "Checks", "Undo")
# The data scientist's workbench: the model is spelled out there, so the caps on cells do not hold.
WORKBENCH = ("00_explore", "20_train")
# What notebooks may take of the package: the engine runs them and is none of their business.
OWN_MODULES = {"check", "connect", "handoff", "modelling", "testing", "release"}
MAX_CELLS, MAX_LINES, MAX_WORDS = 40, 15, 110
# The one notebook that may read the holdout, and the functions that read it.
OPENS_HOLDOUT = "30_evaluate"
OPENERS = ("load", "holdout", "coded")
# The words of check(...) that say what is expected.
WISHES = ("wanted", "at_least", "at_most", "one_of")
RUN_PARAMETERS = ("target", "stage", "run_id")
FORBIDDEN = {
    "sys.exit": "papermill would call the run a success; let a check fail instead",
    "exit": "let a check fail instead",
    "quit": "let a check fail instead",
    "input": "a pipeline has nobody to answer; make it a parameter",
    "print": "show the value on the cell's last line, or check it",
}


def everything() -> list[str]:
    """Return every problem of notebooks, params files, deployment files and pipelines."""
    problems = [problem for path in params.notebooks() for problem in notebook(path)]
    problems += _params_files()
    problems += _deployment_files()
    problems += _pipelines()
    return problems


def notebook(path: Path) -> list[str]:
    """Return what breaks the anatomy of one notebook."""
    document = nbformat.read(path, as_version=4)
    problems = [*_opening(document), *_parameters(path), *_committed(document), *_code(document), *_checks(document)]
    if path.stem != OPENS_HOLDOUT:
        problems += _holdout(document)
    if path.stem not in WORKBENCH:
        problems += _caps(document)
    if path.stem == "20_train":
        problems += _choices(path, document)
    return [f"{path.name}: {problem}" for problem in problems]


def checks(path: Path) -> list[str]:
    """Return every check of a notebook as its name and its kinds of wish, such as "'the endpoint exists': expected"."""
    calls = [call for cell in _code_cells(nbformat.read(path, as_version=4)) for call in _check_calls(cell.source)]
    return [
        f"{ast.unparse(call.args[0])}: {', '.join(k.arg for k in call.keywords if k.arg in (*WISHES, 'needed'))}"
        for call in calls
    ]


def candidates(document: Any) -> list[str]:
    """Return the names of the candidates that 20_train spells out, or none when they are no literal dictionary."""
    for node in (node for cell in _code_cells(document) for node in _tree(cell.source).body):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            if ast.unparse(node.targets[0]) == "candidates":
                return [str(key.value) for key in node.value.keys if isinstance(key, ast.Constant)]
    return []


def _opening(document: Any) -> list[str]:
    first = document.cells[0] if document.cells else None
    if first is None or first.cell_type != "markdown" or not first.source.startswith("# "):
        return [
            "the first cell is not a title: expected '# Verb the object', one sentence, and the table of five rows."
        ]
    found = re.findall(r"^\|\s*\*\*(\w+)\*\*\s*\|", first.source, re.MULTILINE)
    problems = (
        [] if tuple(found) == ROWS else [f"the table under the title has rows {found}, expected {', '.join(ROWS)}."]
    )
    prose = "\n".join(c.source for c in document.cells if c.cell_type == "markdown")
    wanted = ("## Parameters", "## Setup", "## Before", "## After", "## Summary")
    missing = [h for h in wanted if not re.search(rf"^{h}\b", prose, re.MULTILINE)]
    return problems + [f"no section '{heading}'." for heading in missing]


def _parameters(path: Path) -> list[str]:
    try:
        declared = params.declared(path)
    except AnatomyError as error:
        return [str(error)]
    return [
        f"parameters cell: {name} is not declared; every notebook declares it."
        for name in RUN_PARAMETERS
        if name not in declared
    ]


def _committed(document: Any) -> list[str]:
    problems = []
    slug = re.compile(r"^[a-z0-9]+(-[a-z0-9]+)*$")
    for cell in document.cells:
        if not slug.match(cell.get("id", "")):
            problems.append(f"cell id {cell.get('id')!r}: expected a stable slug such as 'check-endpoint'.")
        if cell.cell_type == "code" and (cell.outputs or cell.execution_count):
            problems.append(
                f"cell {cell.id}: has outputs or a count; clear them before committing (reports are where outputs live)."
            )
        if cell.cell_type == "code" and "papermill" in cell.metadata:
            problems.append(f"cell {cell.id}: carries metadata of an execution; restore the cell from git.")
    return problems


def _code(document: Any) -> list[str]:
    problems = []
    for cell in _code_cells(document):
        where = f"cell {cell.id}"
        if "parameters" not in cell.metadata.get("tags", []) and not cell.source.startswith("# "):
            problems.append(f"{where}: the first line is no comment; the report folds the cell under that line.")
        try:
            tree = ast.parse(cell.source)
        except SyntaxError as error:
            problems.append(f"{where}: not Python: {error.msg}; no %magic and no !command.")
            continue
        problems += [f"{where}: {problem}" for node in ast.walk(tree) for problem in _statement(node)]
        problems += [f"{where}: {problem}" for call in _check_calls(cell.source) for problem in _empty_check(call)]
    return problems


def _code_cells(document: Any) -> list[Any]:
    return [cell for cell in document.cells if cell.cell_type == "code"]


def _tree(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError:
        return ast.Module([], [])  # _code has a problem for it


def _check_calls(source: str) -> list[ast.Call]:
    nodes = [node for node in ast.walk(_tree(source)) if isinstance(node, ast.Call)]
    return [node for node in nodes if ast.unparse(node.func) == "check" and node.args]


def _empty_check(call: ast.Call) -> list[str]:
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    found, name = given.get("found"), ast.unparse(call.args[0])
    if found is None:
        return [f"check {name} has no found=; it compares nothing."]
    if isinstance(found, ast.Constant):
        return [f"check {name} finds the constant {ast.unparse(found)}; look at what was made."]
    needed = given.get("needed")
    if isinstance(needed, ast.Constant) and not needed.value:
        return [f"check {name} is never needed, so it never fails; remove it or let needed= depend on the run."]

    wishes = [value for word, value in given.items() if word in WISHES]
    same = any(ast.dump(part) == ast.dump(found) for wish in wishes for part in ast.walk(wish))
    if same:
        return [f"check {name} compares {ast.unparse(found)} with itself; take the wish from another source."]
    return []


def _holdout(document: Any) -> list[str]:
    problems = []
    aliases = {"dataset"}
    for cell in _code_cells(document):
        for node in ast.walk(_tree(cell.source)):
            if isinstance(node, ast.ImportFrom) and node.module == "runbook.modelling":
                aliases |= {alias.asname for alias in node.names if alias.name == "dataset" and alias.asname}
            if reader := _reader(node, aliases):
                problems.append(
                    f"cell {cell.id}: {reader} reads the holdout; only {OPENS_HOLDOUT} may. Use dataset.training_set()."
                )
    return problems


def _reader(node: ast.AST, aliases: set[str]) -> str:
    if isinstance(node, ast.Attribute) and node.attr in OPENERS and ast.unparse(node.value) in aliases:
        return ast.unparse(node)
    if isinstance(node, ast.ImportFrom) and node.module == "runbook.modelling.dataset":
        taken = [alias.name for alias in node.names if alias.name in OPENERS]
        return ", ".join(f"dataset.{name}" for name in taken)
    if isinstance(node, ast.Constant) and str(node.value).endswith((".csv", ".csv.gz")):
        return repr(node.value)
    return ""


def _choices(path: Path, document: Any) -> list[str]:
    try:
        kind = params.declared(path).get("model_kind")
    except AnatomyError:
        return []  # _parameters has a problem for it
    named, wanted = candidates(document), list(kind.choices) if kind else []
    if not named or named == wanted[1:]:
        return []
    return [
        f"parameters cell: model_kind can choose {', '.join(wanted)}; expected auto and the candidates in their order, "
        f"{', '.join(named)}. Write auto|{'|'.join(named)} into its comment."
    ]


def _statement(node: ast.AST) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [f"defines {node.name}; logic lives in the package, tested."]
    if isinstance(node, ast.Try | ast.While):
        return [f"{type(node).__name__.lower()} in a notebook; one path, top to bottom."]
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        return [f"calls {name}(): {FORBIDDEN[name]}."] if name in FORBIDDEN else []
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "runbook":
        # "from runbook import check" and "from runbook.testing import cases" both name a part of the package.
        parts = (node.module or "").split(".")
        used = parts[1:2] or [alias.name for alias in node.names]
        strange = [name for name in used if name not in OWN_MODULES]
        if strange:
            allowed = ", ".join(sorted(OWN_MODULES))
            return [f"imports {', '.join(strange)} of runbook; notebooks use {allowed}."]
    return []


def _checks(document: Any) -> list[str]:
    code = _code_cells(document)
    checking = [c for c in code if re.search(r"^\s*(check|not_needed)\(", c.source, re.MULTILINE)]
    problems = (
        []
        if len(checking) * 4 >= len(code)
        else [f"{len(checking)} of {len(code)} code cells check; expected a quarter."]
    )
    for at, cell in enumerate(code):
        if "action" in cell.metadata.get("tags", []):
            follower = code[at + 1] if at + 1 < len(code) else None
            if follower not in checking:
                problems.append(f"cell {cell.id}: is an action and the next code cell checks nothing.")
    last = code[-1].source if code else ""
    if "summary()" not in last:
        problems.append("the last code cell does not call summary(); it proves that nobody left early.")
    return problems


def _caps(document: Any) -> list[str]:
    cells = document.cells
    code = [c for c in cells if c.cell_type == "code"]
    prose = [c for c in cells if c.cell_type == "markdown"]
    problems = [f"{len(cells)} cells, at most {MAX_CELLS}."] if len(cells) > MAX_CELLS else []
    if len(prose) < 0.9 * len(code):
        problems.append(f"{len(prose)} prose cells for {len(code)} code cells, expected at least 0.9 each.")
    for cell in code:
        lines = [line for line in cell.source.splitlines() if line.strip()]
        if len(lines) > MAX_LINES and "parameters" not in cell.metadata.get("tags", []):
            problems.append(f"cell {cell.id}: {len(lines)} lines, at most {MAX_LINES}; move logic into the package.")
    for cell in prose[1:]:
        words = len(cell.source.split())
        if words > MAX_WORDS:
            problems.append(f"cell {cell.id}: {words} words, at most {MAX_WORDS}.")
    alone = [
        c.id
        for before, c in zip(cells, cells[1:], strict=False)
        if c.cell_type == "code" and before.cell_type == "code"
    ]
    if len(alone) > 0.2 * len(code):
        problems.append(
            f"cells {', '.join(alone)} follow code, not prose; expected prose before four of five code cells."
        )
    return problems


def _params_files() -> list[str]:
    problems = []
    for target in platform.targets():
        for stage in (None, "dev", "prod"):
            try:
                params.layers(target, stage)
            except (ParamsError, AnatomyError) as error:
                problems.append(str(error))
    try:
        params.layers("local", None, [paths.PARAMS / "test.yml"])
    except (ParamsError, AnatomyError) as error:
        problems.append(str(error))
    return list(dict.fromkeys(problems))


def _deployment_files() -> list[str]:
    from runbook.lint import deployment_files

    return deployment_files.problems()


def _pipelines() -> list[str]:
    from runbook.lint import azure_pipelines

    return azure_pipelines.problems(paths.ROOT)
