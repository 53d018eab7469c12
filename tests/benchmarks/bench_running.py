"""What it costs that every step is judged, masked and reported, beside papermill alone; and what the command costs."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from pathlib import Path

import papermill
from built import HOLDS, Builder
from sides import compare

from runbook import paths, report
from runbook.engine import step
from runbook.engine.event_log import EventLog
from runbook.engine.masking import Mask


def test_a_step_with_its_report_beside_papermill_alone(build: Builder, tmp_path: Path) -> None:
    notebook = build("20_train", HOLDS, *["sum(range(1000))"] * 20)
    runs = itertools.count()

    def alone() -> None:
        papermill.execute_notebook(str(notebook), str(tmp_path / "out.ipynb"), progress_bar=False)

    def judged() -> None:
        run_id = f"r{next(runs)}"
        limits, mask = step.Limits(60.0, time.monotonic() + 60.0), Mask()
        log = EventLog(tmp_path / "events.jsonl", run_id, mask)
        this = step.Step("20_train", None)
        result = step.run(this, "local", run_id, {"run_id": run_id}, {}, limits, log, mask, lambda *_: None)
        assert result.status == "passed", result.error
        report.step(paths.step_folder(run_id, "20_train", None))

    compare("A notebook of 22 cells", {"papermill": alone, "the runner, with its report": judged}, 8)


def test_the_command_beside_an_empty_python() -> None:
    def run(*words: str) -> None:
        subprocess.run([sys.executable, *words], check=True, capture_output=True, timeout=60)

    sides = {
        "python -c pass": lambda: run("-c", "pass"),
        "runbook --help": lambda: run("-m", "runbook.cli", "--help"),
        "runbook plan": lambda: run("-m", "runbook.cli", "plan"),
        "import azure.ai.ml": lambda: run("-c", "import azure.ai.ml"),
    }
    compare("Starting", sides, 8)
