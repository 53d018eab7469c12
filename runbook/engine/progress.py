"""Shows a run's progress: a bar and lines in a terminal, plain lines in CI, Azure DevOps' commands in a pipeline."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO, cast

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from runbook.engine import foreign_text
from runbook.engine.step import Result, Step

WORDS = {
    "passed": "passed",
    "failed": "FAILED",
    "not_needed": "not needed",
    "not_run": "not run",
    "cancelled": "CANCELLED",
}
STYLES = {"passed": "green", "not_needed": "green", "failed": "bold red", "cancelled": "bold red"}


class Outlet:
    """A stream whose reader may leave, as in ``runbook run | head -1`` or when a terminal is closed; then it is silent.

    A run goes on without its onlooker: what it finds out is in its report.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or drop the text when the reader has left; returns the number of characters."""
        try:
            return self._stream.write(text)
        except OSError:
            self._leave()
            return len(text)

    def flush(self) -> None:
        """Flush, or drop what is buffered when the reader has left."""
        try:
            self._stream.flush()
        except OSError:
            self._leave()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _leave(self) -> None:
        # What is still buffered, and what others write to the descriptor, has to go somewhere.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


def outlast_reader() -> None:
    """Let this process outlast the readers of its output: replaces sys.stdout and sys.stderr."""
    sys.stdout, sys.stderr = cast(TextIO, Outlet(sys.stdout)), cast(TextIO, Outlet(sys.stderr))


class Terminal:
    """Progress of one run; use as a context manager, so that the bar never survives an error."""

    def __init__(self) -> None:
        self._console = RichConsole(file=sys.stdout, highlight=False, soft_wrap=True, emoji=False)
        self._pipeline = "TF_BUILD" in os.environ
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("cell {task.completed} of {task.total}"),
            TimeElapsedColumn(),
        )
        self._bar = Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)
        self._task = self._bar.add_task("", total=1, visible=False)
        self._steps = 0
        self._clock = time.monotonic()

    def __enter__(self) -> Terminal:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def run_started(self, run_id: str, steps: int, page: Path) -> None:
        """Say where the report will be, before anything starts."""
        self._steps = steps
        self.note(f"Run {run_id}: {steps} step{'s' * (steps != 1)}")
        self.note(f"Report, written as the run goes on: {page}")

    def step_started(self, number: int, this: Step) -> None:
        """Say which step begins."""
        self._number, self._label = number, this.label
        self._bar.reset(self._task, description=f"{number:>2} of {self._steps}  {this.label}", total=1, visible=True)
        if self._pipeline:
            self._order(f"##[group]papermill {this.label}")
        if not self._console.is_terminal:
            self.note(f"{number:>2} of {self._steps}  {this.label:<26} started, {self._elapsed()} into the run")

    def cell_started(self, number: int, cells: int, cell: str) -> None:
        """Say which cell begins."""
        self._bar.update(self._task, completed=number, total=cells)
        if self._pipeline:
            self.note(f"   cell {number} of {cells}: {cell}")

    def step_ended(self, number: int, result: Result, page: Path) -> None:
        """Say how the step ended."""
        self._bar.update(self._task, visible=False)
        held = sum(c["status"] == "passed" for c in result.checks)
        status = result.status
        line = f"{number:>2} of {self._steps}  {self._label:<26} [{STYLES.get(status, 'dim')}]{WORDS[status]:<10}[/] "
        self._console.print(f"{line} {result.seconds or 0:6.1f} s  {held} checks held")
        if result.not_needed:
            self.note(f"          {result.not_needed}")
        if result.error:
            self.note(f"          {result.error['class']}: {result.error['message']}", style="red")
            self.note(f"          cell {result.error['cell']}; report: {page}")
        if self._pipeline:
            self._order("##[endgroup]")
            if result.error:
                problem = f"{self._label}: {result.error['class']}: {result.error['message'] or ''}"
                self._order(f"##vso[task.logissue type=error]{foreign_text.on_one_line(problem)}")

    def note(self, said: str, style: str | None = None) -> None:
        """Say something, which may quote text from elsewhere."""
        self._console.print(foreign_text.shown(said), markup=False, style=style)

    def _order(self, line: str) -> None:
        """Write a line that the agent of a pipeline obeys; what it quotes must be on one line and without orders."""
        self._console.print(line, markup=False)

    def _elapsed(self) -> str:
        seconds = int(time.monotonic() - self._clock)
        return f"{seconds // 60}:{seconds % 60:02d}"
