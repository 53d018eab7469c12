"""Lists the inputs of a step with their digests: when one has changed, a resumed run does the step again."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from runbook import paths
from runbook.engine.step import Step
from runbook.errors import AnatomyError
from runbook.modelling.description import description
from runbook.platform import files

# A step asks a platform for services, and what it finds is checked against the platform itself. So a mended verb of a
# platform does not make a finished training old.
BOUNDARY = "runbook.platform"


def inputs(step: Step, order: Sequence[str], run_id: str) -> dict[str, str]:
    """Return {name: sha256} of a step's notebook, the modules behind it, the files it reads and the handoffs before it.

    ``order`` is the labels of the steps in running order; a step outside it comes after all of them. Raises AnatomyError
    when a module that the notebook imports cannot be found.
    """
    found = {"notebook": _sha256(step.notebook.read_bytes())}
    for path in [*modules(step.notebook), *_files(step)]:
        found[_shown(path)] = _sha256(path.read_bytes())
    if step.name == "20_train":
        values = json.dumps(description().training_values(), sort_keys=True)
        found["data/dataset.py: what training reads"] = _sha256(values.encode())

    before = order[: order.index(step.label)] if step.label in order else order
    for path in sorted(paths.run_folder(run_id).glob("*/handoff.json")):
        if path.parent.name in before:
            handed = json.loads(path.read_text(encoding="utf-8"))["values"]
            found[f"{path.parent.name}/handoff.json"] = _sha256(json.dumps(handed, sort_keys=True).encode())
    return found


def modules(notebook: Path) -> list[Path]:
    """Return the modules of this package that a notebook imports, and those that they import in turn, sorted.

    Modules below ``BOUNDARY`` are left out. Raises AnatomyError when a module cannot be found.
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
    boundary = paths.ROOT / BOUNDARY.replace(".", "/")
    if not path.is_relative_to(boundary):
        yield path


def _ours(module: str | None) -> bool:
    return module is not None and module.split(".")[0] == "runbook"


def _file(module: str) -> Path | None:
    path = paths.ROOT / module.replace(".", "/")
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.exists():
            return candidate
    return None


def _files(step: Step) -> list[Path]:
    setup = paths.ENVIRONMENT_SETUP
    shipped_request = [paths.DEPLOYMENT / "request.py", paths.DEPLOYMENT / "decode.py"]
    lock = setup / "requirements.lock"
    reads: dict[str, Callable[[], list[Path]]] = {
        "10_create_compute": lambda: [setup / "compute.yml"],
        "20_train": lambda: [description().file, lock, *shipped_request, setup / "training-job.yml"],
        "30_evaluate": lambda: [description().file, lock, *shipped_request, paths.DATASET],
        "50_create_cluster": lambda: [setup / "cluster.yml"],
        "60_deploy": lambda: files.shipped(step.stage) if step.stage else [],
        "70_functional_test": lambda: [*shipped_request, paths.DATASET],
    }
    return reads[step.name]() if step.name in reads else []


def _shown(path: Path) -> str:
    return str(path.relative_to(paths.ROOT)) if path.is_relative_to(paths.ROOT) else path.name


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
