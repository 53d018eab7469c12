"""Lists the inputs of a step with their digests: when one has changed, a resumed run does the step again."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from runbook import paths, steps
from runbook.engine.step import Step
from runbook.errors import AnatomyError

# A step asks a platform for services, and what it finds is checked against the platform itself. So a mended verb of a
# platform does not make a finished training old. The table of steps is read by the runner: a new row changes no other step.
BOUNDARIES = ("runbook.platform", "runbook.steps")


def inputs(step: Step, order: Sequence[str], run_id: str) -> dict[str, str]:
    """Return {name: sha256} of a step's notebook, the modules behind it, the files it reads and the handoffs before it.

    ``order`` is the labels of the steps in running order; a step outside it comes after all of them. Raises AnatomyError
    when a module that the notebook imports cannot be found.
    """
    found = {"notebook": _sha256(step.notebook.read_bytes())}
    row = steps.row(step.name)
    for path in [*modules(step.notebook), *row.reads(step.stage)]:
        found[_shown(path)] = _sha256(path.read_bytes())
    for name, value in row.reads_values().items():
        found[name] = _sha256(json.dumps(value, sort_keys=True).encode())

    before = order[: order.index(step.label)] if step.label in order else order
    for path in sorted(paths.run_folder(run_id).glob("*/handoff.json")):
        if path.parent.name in before:
            handed = json.loads(path.read_text(encoding="utf-8"))["values"]
            found[f"{path.parent.name}/handoff.json"] = _sha256(json.dumps(handed, sort_keys=True).encode())
    return found


def modules(notebook: Path) -> list[Path]:
    """Return the modules of this package that a notebook imports, and those that they import in turn, sorted.

    ``BOUNDARIES`` and the modules below them are left out. Raises AnatomyError when a module cannot be found.
    """
    import nbformat

    cells = nbformat.read(notebook, as_version=4).cells
    source = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    waiting = [(notebook, source)]
    found: set[Path] = set()
    while waiting:
        user, text = waiting.pop()
        for path in _imported(user, text):
            if path not in found:
                found.add(path)
                waiting.append((path, path.read_text(encoding="utf-8")))
    return sorted(found)


def _imported(user: Path, text: str) -> Iterable[Path]:
    for node in ast.walk(ast.parse(text, filename=str(user))):
        if isinstance(node, ast.ImportFrom) and _ours(node.module):
            for alias in node.names:
                # "from runbook.testing import cases" names a module, "from runbook.check import check" a name in one.
                module = f"{node.module}.{alias.name}"
                path = _file(module) or _file(str(node.module))
                yield from _known(path, str(node.module), user)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if _ours(alias.name):
                    yield from _known(_file(alias.name), alias.name, user)


def _known(path: Path | None, module: str, user: Path) -> Iterable[Path]:
    if path is None:
        raise AnatomyError(
            f"{user.name} imports {module}, which is no module below {paths.ROOT / 'runbook'}. Correct the import, or "
            "restore the module with: git checkout -- runbook"
        )
    if not any(path.with_suffix("").is_relative_to(_path(boundary)) for boundary in BOUNDARIES):
        yield path


def _ours(module: str | None) -> bool:
    return module is not None and module.split(".")[0] == "runbook"


def _file(module: str) -> Path | None:
    path = _path(module)
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.exists():
            return candidate
    return None


def _path(module: str) -> Path:
    return paths.ROOT / module.replace(".", "/")


def _shown(path: Path) -> str:
    return str(path.relative_to(paths.ROOT)) if path.is_relative_to(paths.ROOT) else path.name


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
