"""Makes a project for another data set: a copy of this one, with a model's files of this folder in the four places."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
from built import checkout

from runbook import paths

HERE = Path(__file__).parent
MODELS = ("breast_cancer", "orders")
# A model's file, and its place in a project.
PLACES = {
    "dataset.py": "data/dataset.py",
    "request.py": "deployment/request.py",
    "base.yml": "params/base.yml",
    "20_train.ipynb": "notebooks/20_train.ipynb",
}


@dataclass(frozen=True)
class Project:
    """A copy of this project in ``folder`` that is about ``model``."""

    model: str
    folder: Path

    def python(self, *words: str, seconds: int = 500) -> subprocess.CompletedProcess[str]:
        """Run Python in the copy, with the copy's package and its own home and reports."""
        environment = os.environ | {
            "PYTHONPATH": str(self.folder),
            "RUNBOOK_HOME": str(self.folder / "home"),
            "RUNBOOK_REPORTS": str(self.folder / "own-reports"),
        }
        return subprocess.run(
            [sys.executable, *words],
            capture_output=True,
            text=True,
            env=environment,
            cwd=self.folder,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
        )


def project(model: str, into: Path) -> Project:
    """Copy the working tree into ``into``, put the model's files in their places and renew the swagger."""
    checkout(paths.ROOT, into)
    (into / "data" / "titanic.csv").unlink(missing_ok=True)
    shutil.copy(HERE / model / f"{model}.csv", into / "data")
    for name, place in PLACES.items():
        if name.endswith(".ipynb"):
            replace_cells(into / place, HERE / model / name)
        else:
            shutil.copy(HERE / model / name, into / place)
    made = Project(model, into)
    written = made.python("-m", "runbook.lint.swagger")
    assert written.returncode == 0, written.stderr
    return made


def replace_cells(notebook: Path, own: Path) -> None:
    """Replace the cells of ``notebook`` by those of ``own`` with the same id; a cell without a counterpart is an error.

    A model's 20_train holds only the cells that spell out its data and pipelines. All others stay the project's.
    """
    document = json.loads(notebook.read_text(encoding="utf-8"))
    cells = {cell["id"]: cell for cell in document["cells"]}
    for cell in nbformat.read(own, as_version=4).cells:
        assert cells[cell.id]["cell_type"] == cell.cell_type, cell.id
        cells[cell.id]["source"] = cell.source.splitlines(keepends=True)
    notebook.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def lines(model: str) -> dict[str, int]:
    """Return the number of lines of each file of a model; of a notebook, those of its cells."""
    counts = {}
    for name in PLACES:
        text = (HERE / model / name).read_text(encoding="utf-8")
        if name.endswith(".ipynb"):
            text = "\n".join(cell.source for cell in nbformat.reads(text, as_version=4).cells)
        counts[name] = len(text.splitlines())
    return counts
