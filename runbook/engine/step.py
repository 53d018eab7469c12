"""One notebook through papermill: strict, recorded, always leaves evidence.

Papermill alone calls some failures green: an unknown parameter, ``sys.exit(0)`` half-way, and in the saved notebook a dead
kernel or a deadline. So the verdict here is our own: every code cell must have come back with an ``ok`` reply, and at least
one check must have held.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from runbook import check, git, handoff, paths, side_channel
from runbook.engine.event_log import EventLog, MaskedNotebooks
from runbook.engine.masking import Mask

# Seconds that a cell's last output may take after the cell has ended; nbclient's own 4 are short for a busy machine.
OUTPUT_SECONDS = 60
Status = Literal["passed", "failed", "not_needed", "not_run", "cancelled"]
OnCell = Callable[[int, int, str], None]
# What a step run leaves in its folder; the files of an earlier attempt are removed before the next.
EVIDENCE = ("executed.ipynb", "handoff.json", "result.json", "report.html")


@dataclass(frozen=True)
class Step:
    """One step of a plan: a notebook, and the stage it works on (None for the steps of CI)."""

    name: str
    stage: str | None

    @property
    def notebook(self) -> Path:
        """The notebook's path."""
        return paths.NOTEBOOKS / f"{self.name}.ipynb"

    @property
    def label(self) -> str:
        """The name of the step's folder below its run."""
        return f"{self.name}-{self.stage}" if self.stage else self.name


@dataclass(frozen=True)
class Limits:
    """Deadlines in seconds: of one cell, and the moment (time.monotonic) at which the whole run must have ended."""

    cell: float
    run_ends: float


@dataclass(frozen=True)
class Result:
    """The runner's own verdict on one step run; result.json holds exactly these fields."""

    run_id: str
    step: str
    stage: str | None
    target: str
    title: str
    status: Status
    started: str | None
    seconds: float | None
    cells_run: int
    cells: int
    error: dict[str, str | None] | None
    checks: list[dict[str, str]]
    not_needed: str | None
    parameters: dict[str, Any]
    inputs: dict[str, str]
    commit: str | None = None
    dirty: bool | None = None

    @property
    def green(self) -> bool:
        """Whether the run may go on after this step."""
        return self.status in ("passed", "not_needed")


class Execution:
    """What papermill does to one notebook, as its hooks tell it: which cell runs, which came back ok."""

    def __init__(self, cells: list[Any], limits: Limits, on_cell: OnCell, on_done: Callable[[Any, str], None]) -> None:
        self.code = [c for c in cells if c.cell_type == "code"]
        self.limits, self.on_cell, self.on_done = limits, on_cell, on_done
        self.current: str | None = None
        self.ok: set[str] = set()
        self.timed_out = ""
        self.cell_ends = math.inf

    def start(self, cell: Any, cell_index: int) -> None:
        """Note that a cell begins."""
        if cell.cell_type == "code":
            self.current = cell.id
            number = next((i for i, c in enumerate(self.code, 1) if c.id == cell.id), 0)
            if number:
                self.on_cell(number, len(self.code), cell.id)

    def executed(self, cell: Any, cell_index: int, execute_reply: dict[str, Any]) -> None:
        """Note that a cell came back, and how."""
        status = str(execute_reply["content"].get("status"))
        if status == "ok":
            self.ok.add(cell.id)
        self.on_done(cell, status)

    def timeout(self, cell: Any) -> int:
        """Return the seconds this cell may take: its own deadline or what is left of the run's, at least one."""
        left = self.limits.run_ends - time.monotonic()
        self.timed_out = (
            "the run's deadline" if left < self.limits.cell else f"the deadline of {self.limits.cell:.0f} s per cell"
        )
        seconds = max(1, int(min(self.limits.cell, left)))
        self.cell_ends = time.monotonic() + seconds
        return seconds

    @property
    def overdue(self) -> bool:
        """Whether the cell that runs has used up its time."""
        return time.monotonic() >= self.cell_ends

    @property
    def finished(self) -> int:
        """How many of the notebook's own code cells ran to their end."""
        return sum(c.id in self.ok for c in self.code)


def run(
    step: Step,
    target: str,
    run_id: str,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, str],
    limits: Limits,
    log: EventLog,
    mask: Mask,
    on_cell: OnCell,
) -> Result:
    """Run one step and return its verdict; leaves executed.ipynb and result.json in the step's folder whatever happens."""
    folder = paths.step_folder(run_id, step.name, step.stage)
    folder.mkdir(parents=True, exist_ok=True)
    for stale in EVIDENCE:
        (folder / stale).unlink(missing_ok=True)
    source = _notebook(step.notebook)
    commit = git.commit()

    def note(cell: Any, reply: str) -> None:
        action = "action" in cell.metadata.get("tags", [])
        key = _key(step, cell.id, parameters, inputs) if action else None
        log.write("action" if action else "cell", step.label, cell=cell.id, reply=reply, key=key)

    execution = Execution(source.cells, limits, on_cell, note)
    log.write("step_started", step.label, notebook=step.notebook.name, parameters=dict(parameters))
    side_channel.forget_operation()
    began, clock = dt.datetime.now(dt.UTC), time.monotonic()
    status, error = _execute(step, folder, dict(parameters), execution, mask)
    saved = folder / "executed.ipynb"
    executed = list(_notebook(saved).cells) if saved.exists() else []
    checks, reason = _lift(executed)
    if status == "passed" and not any(c["status"] == "passed" for c in checks) and reason is None:
        status, error = (
            "failed",
            {
                "class": "NothingChecked",
                "message": "No check was made: a step that did not check itself did not succeed.",
                "cell": None,
            },
        )
    if status == "passed" and hands_over(source.cells) and handoff.find(step.name, run_id, step.stage) is None:
        message = f"The notebook left no handoff in {folder}, though one of its cells saves one: other code ran."
        status, error = "failed", _error("NoHandoff", message, None)
    if status == "passed" and reason is not None:
        status = "not_needed"
    result = Result(
        run_id, step.name, step.stage, target, _title(source), status, began.isoformat(timespec="seconds"),
        round(time.monotonic() - clock, 2), execution.finished, len(execution.code), _masked(error, mask), checks, reason,
        dict(parameters), dict(inputs), *commit,
    )  # fmt: skip
    save(folder, result)
    log.write("step_ended", step.label, status=status, seconds=result.seconds, error=result.error)
    return result


def unfinished(
    step: Step,
    target: str,
    run_id: str,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, str],
    status: Status,
    error: Mapping[str, str | None],
    began: str,
    seconds: float,
) -> Result:
    """Return the verdict on a step that left none of its own; no cell and no check is known of it."""
    return Result(
        run_id, step.name, step.stage, target, step.name, status, began, seconds, 0, 0, dict(error), [], None,
        dict(parameters), dict(inputs), *git.commit(),
    )  # fmt: skip


def hands_over(cells: Sequence[Any]) -> bool:
    """Return whether one of a notebook's cells saves a handoff, without which no later step may go on."""
    return any("handoff.save(" in c.source for c in cells if c.cell_type == "code")


def save(folder: Path, result: Result) -> Path:
    """Write result.json."""
    return handoff.write_json(
        folder / "result.json", "result", {"schema_version": handoff.SCHEMA_VERSION, **asdict(result)}
    )


def load(folder: Path) -> Result | None:
    """Return what result.json says, or None when the step left none."""
    if not (folder / "result.json").exists():
        return None
    document = handoff.read_json(folder / "result.json", "result", "the run again")
    return Result(**{k: v for k, v in document.items() if k != "schema_version"})


def _execute(
    step: Step, folder: Path, parameters: dict[str, Any], execution: Execution, mask: Mask
) -> tuple[Status, dict[str, str | None] | None]:
    # Papermill imports the storage libraries of every cloud that is installed. Only what runs a notebook waits for it.
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from papermill.iorw import papermill_io

    from runbook.engine import kernel

    papermill_io.register(MaskedNotebooks.SCHEME, MaskedNotebooks(mask))
    try:
        papermill.execute_notebook(
            str(step.notebook),
            f"{MaskedNotebooks.SCHEME}{folder / 'executed.ipynb'}",
            parameters=parameters,
            engine_name=kernel.NAME,
            kernel_name="python3",
            progress_bar=False,
            cwd=str(paths.NOTEBOOKS),
            on_cell_start=execution.start,
            on_cell_executed=execution.executed,
            timeout_func=execution.timeout,
            iopub_timeout=OUTPUT_SECONDS,
        )
    except PapermillExecutionError as error:
        return "failed", _error(error.ename, error.evalue, execution.current)
    except CellTimeoutError:
        # nbclient raises the same class for its deadline and for output that does not arrive after the cell's end.
        if not execution.overdue:
            message = (
                f"The cell ended, but its output did not arrive within {OUTPUT_SECONDS} s. "
                "Most often it is too large: print or show less of it."
            )
            return "failed", _error("OutputLost", message, execution.current)
        return "failed", _stopped("DeadlineExceeded", f"The cell was stopped at {execution.timed_out}.", execution)
    except DeadKernelError:
        message = (
            "The kernel died while this cell ran: killed from outside, out of memory, or ended by the code itself."
        )
        return "failed", _stopped("KernelDied", message, execution)
    except KeyboardInterrupt:
        return "cancelled", _stopped("Cancelled", "The run was interrupted.", execution)
    except Exception as error:
        # Whatever else goes wrong around a notebook is the failure of its step, so that the run clears up and reports.
        return "failed", _stopped(type(error).__name__, str(error) or repr(error), execution)
    if execution.finished < len(execution.code):
        message = f"The notebook ended itself: {execution.finished} of {len(execution.code)} cells ran to their end."
        return "failed", _error("LeftEarly", message, execution.current)
    return "passed", None


def _key(step: Step, cell: str, parameters: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    # Same inputs, same key: two lines with one key in the log are one action that was asked for twice.
    facts = json.dumps([step.label, cell, dict(parameters), dict(inputs)], sort_keys=True)
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def _error(name: str, message: str, cell: str | None) -> dict[str, str | None]:
    return {"class": name, "message": message, "cell": cell}


def _stopped(name: str, message: str, execution: Execution) -> dict[str, str | None]:
    # A service does not stop because its caller was stopped.
    return _error(name, " ".join(filter(None, [message, side_channel.going_on()])), execution.current)


def _masked(error: dict[str, str | None] | None, mask: Mask) -> dict[str, str | None] | None:
    return error and {**error, "message": mask(error["message"] or "")}


def _notebook(path: Path) -> Any:
    import nbformat

    return nbformat.read(path, as_version=4)


def _lift(cells: list[Any]) -> tuple[list[dict[str, str]], str | None]:
    bundles = [o.data for c in cells if c.cell_type == "code" for o in c.outputs if o.output_type == "display_data"]
    checks = [dict(row) for bundle in bundles for row in bundle.get(check.MIME, [])]
    reasons = [str(bundle[check.NOT_NEEDED_MIME]["reason"]) for bundle in bundles if check.NOT_NEEDED_MIME in bundle]
    return checks, (reasons[-1] if reasons else None)


def _title(notebook: Any) -> str:
    lines = (line for c in notebook.cells if c.cell_type == "markdown" for line in c.source.splitlines())
    return next((line[2:].strip() for line in lines if line.startswith("# ")), "Untitled")
