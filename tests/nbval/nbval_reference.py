"""Renews the reference set: small copies of the notebooks whose key tables keep their outputs, which nbval then compares.

Run by `make reference`, on purpose, when a table has changed for a good reason: the difference then shows in review.
With the argument ``checks`` it only renews the list of the notebooks' checks, in a second.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml

from runbook import paths
from runbook.engine import params
from runbook.lint import notebooks

FOLDER = paths.ROOT / "tests" / "reference"
# The names of all checks of all notebooks, so that one that disappears shows in review.
CHECKS = FOLDER / "checks.txt"
# The cells whose outputs are kept: tables that must be the same on every machine.
KEPT = {
    "10_create_compute": (),
    "20_train": ("fields", "results", "choose-one", "check-parity"),
    "30_evaluate": ("baselines", "decision", "check-decision"),
    "40_register": (),
    "60_deploy": (),
    "70_functional_test": ("collect-cases", "check-article", "check-golden", "check-bad"),
}
ALL = (*KEPT, "80_stress_test", "90_release", "00_explore", "95_rollback", "99_teardown")


def prepare(name: str, into: Path) -> Path:
    """Write a notebook with the project's values and short loads injected, not executed, and return its path."""
    files = ("base.yml", "test.yml")
    values = {k: v for file in files for k, v in yaml.safe_load((paths.PARAMS / file).read_text()).items()}
    source = paths.NOTEBOOKS / f"{name}.ipynb"
    declared = nbformat.read(source, as_version=4)
    cell = next(c.source for c in declared.cells if "parameters" in c.metadata.get("tags", []))
    chosen = {k: v for k, v in values.items() if f"\n{k}:" in cell}
    path = into / f"{name}.ipynb"
    papermill.execute_notebook(str(source), str(path), parameters=chosen, prepare_only=True, progress_bar=False)
    return path


def every_check() -> str:
    """Return a line for each check of each notebook: its notebook, its name, and its kinds of wish."""
    lines = [f"{path.stem}: {line}" for path in params.notebooks() for line in notebooks.checks(path)]
    return "\n".join(lines) + "\n"


def strip(notebook: Any, kept: tuple[str, ...]) -> Any:
    """Clear every output but those of the kept cells, and all that papermill wrote about this execution."""
    notebook.metadata = {"kernelspec": notebook.metadata.kernelspec, "language_info": {"name": "python"}}
    for number, cell in enumerate(notebook.cells):
        cell.metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell["id"] = "injected-parameters"
        if cell.cell_type == "code" and cell.id not in kept:
            cell.outputs, cell.execution_count = [], None
        elif cell.cell_type == "code":
            cell.execution_count = number
            cell.outputs = [_portable(o) for o in cell.outputs]
    return notebook


def _portable(output: Any) -> Any:
    for kind in [k for k in output.get("data", {}) if k.startswith("image/")]:
        del output["data"][kind]
    return output


def main() -> None:
    """Write the list of checks, then run the notebooks in a home of their own and write the reference set."""
    FOLDER.mkdir(exist_ok=True)
    CHECKS.write_text(every_check(), encoding="utf-8")
    if sys.argv[1:] == ["checks"]:
        return
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"RUNBOOK_HOME": f"{home}/home", "RUNBOOK_REPORTS": f"{home}/reports"}
        try:
            for name, kept in KEPT.items():
                path = prepare(name, Path(home))
                command = [sys.executable, "-m", "papermill", str(path), str(path), "--no-progress-bar"]
                subprocess.run(command, check=True, env=environment, timeout=300)
                notebook = strip(nbformat.read(path, as_version=4), kept)
                nbformat.write(notebook, FOLDER / path.name)
        finally:
            subprocess.run(
                [str(Path(sys.executable).with_name("runbook")), "down"], check=True, env=environment, timeout=120
            )


if __name__ == "__main__":
    main()
