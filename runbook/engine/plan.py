"""Runs the steps of a plan in order, and stops at the first that is not green."""

from __future__ import annotations

import datetime as dt
import importlib
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from runbook import git, hint, paths, release, side_channel, steps
from runbook.engine import ci_artifact, inputs, job, lock, manifest, params, resume, step
from runbook.engine.event_log import EventLog
from runbook.engine.manifest import Manifest
from runbook.engine.masking import Mask
from runbook.engine.onlooker import Onlooker
from runbook.engine.step import Limits, Result, Status, Step
from runbook.errors import RunError, StepFailed, UsageError
from runbook.platform.base import Platform

# An interrupted release is taken back within this many seconds: a cancelled agent gives its clean-up five minutes.
UNDO_SECONDS = 240.0

# A cell that only computes may take this long.
CELL_SECONDS = 1800.0
# For what a verb does around its wait: requests with their retries, reading a log.
CELL_MARGIN_SECONDS = 600.0

PLANS = {plan: [Step(*named) for named in steps.in_plan(plan)] for plan in ("ci", "cd", "all")}


class Console(Protocol):
    """What the run tells its onlooker while it goes on."""

    def run_started(self, run_id: str, steps: int, page: Path) -> None:
        """Say where the report will be, before anything starts."""

    def step_started(self, number: int, this: Step) -> None:
        """Say which step begins."""

    def cell_started(self, number: int, cells: int, cell: str) -> None:
        """Say which cell begins."""

    def step_ended(self, number: int, result: Result, page: Path) -> None:
        """Say how the step ended."""

    def note(self, text: str) -> None:
        """Say one line."""


@dataclass(frozen=True)
class Request:
    """What was asked for: the plan or single step, where, and with which values and deadlines (seconds).

    Without ``cell_seconds`` a cell's deadline follows from the platform's own (see ``cell_deadline``).
    """

    name: str
    steps: Sequence[Step]
    target: str
    run_id: str
    command: str
    source: str | None = None
    files: tuple[Path, ...] = ()
    overrides: tuple[str, ...] = ()
    resume: bool = False
    here: bool = False
    cell_seconds: float | None = None
    run_seconds: float = 4 * 3600.0


def cell_deadline(platform: Platform) -> float:
    """Return the seconds that a cell may take: longer than the platform's longest wait, so that its own error comes first."""
    return max(CELL_SECONDS, platform.longest_wait + CELL_MARGIN_SECONDS)


def new_run_id() -> str:
    """Return the build id inside an Azure DevOps pipeline, else local-YYYYmmdd-HHMMSS-xxxx."""
    now = dt.datetime.now(dt.UTC).strftime("%Y%m%d-%H%M%S")
    return os.environ.get("BUILD_BUILDID") or f"local-{now}-{secrets.token_hex(2)}"


def resolve(request: Request) -> dict[Step, dict[str, Any]]:
    """Return what would be injected into each step, every value checked; raises ParamsError before anything starts."""
    return {
        s: params.for_step(
            s.notebook,
            request.target,
            s.stage,
            request.run_id,
            params.layers(request.target, s.stage, request.files, request.overrides),
        )
        for s in _with_undo(request)
    }


def _with_undo(request: Request) -> list[Step]:
    """Return the steps that were asked for, and those that run when one of them fails."""
    undoing = [undo for s in request.steps if (undo := _on_failure(s))]
    return [*request.steps, *undoing]


def _on_failure(s: Step) -> Step | None:
    name = steps.row(s.name).on_failure
    return Step(name, s.stage) if name else None


def run(request: Request, platform: Platform, console: Console) -> Manifest:
    """Run every step in order and return the manifest; leaves a report whatever happens.

    Holds the target's lock. Raises StepFailed, naming the step and its report, when a step is not green.
    """
    parameters = resolve(request)
    _load()
    with lock.hold(request.target, request.run_id, request.command) as killed, side_channel.opened(request.target):
        if request.resume:
            resume.refuse_stale(request.run_id, platform)
        this = _begin(request)
        # Keys that a platform reads in a kernel are not known to the platform object here.
        mask = Mask(lambda: [*platform.secrets(), *side_channel.secrets()])
        log = EventLog(this.folder / "events.jsonl", request.run_id, mask)
        log.write("run_started", plan=request.name, target=request.target, command=request.command)
        console.run_started(request.run_id, len(request.steps), this.folder / "index.html")
        if killed:
            console.note(
                f"Run {killed.run_id} did not end. To go on with it instead: {hint.again(killed.command, killed.run_id)}"
            )
        _say_unmasked(this, mask, log, console, again=True)
        clock = time.monotonic()
        # Whatever breaks the runner itself leaves this word in the manifest.
        outcome = "cancelled"
        try:
            failed = _run_steps(request, parameters, this, platform, console, log, mask)
            outcome = "cancelled" if failed and failed.status == "cancelled" else this.outcome()
        except KeyboardInterrupt:
            raise StepFailed(f"The run was interrupted.{_go_on(this, request.command)}") from None
        finally:
            _end(this, outcome, platform, clock, log, mask, console)
    if failed:
        raise StepFailed(_explain(failed, this, request.command))
    return this


def _load() -> None:
    """Import what runs notebooks and draws pages, so that `runbook plan` does not wait for it.

    A run calls this before it takes the lock: an interrupt in the middle of an import then leaves nothing half done.
    """
    for name in ("runbook.engine.kernel", "runbook.report"):
        importlib.import_module(name)


def _run_steps(
    request: Request,
    parameters: Mapping[Step, dict[str, Any]],
    this: Manifest,
    platform: Platform,
    console: Console,
    log: EventLog,
    mask: Mask,
) -> Result | None:
    from runbook import report

    cell_seconds = request.cell_seconds or cell_deadline(platform)
    whole = Limits(cell_seconds, time.monotonic() + request.run_seconds)
    order = [s.label for s in PLANS["all"]]
    failed: Result | None = None
    begun: set[str] = set()
    ran: set[str] = set()

    def execute(number: int, s: Step) -> Result:
        console.step_started(number, s)
        # Until there is a new verdict, an earlier one of the same step says nothing.
        this.record(s.name, s.stage, s.label, "not_run", None)
        this.save()
        with Onlooker(this.folder / s.label, s.label, log, mask, console.note):
            result = perform(s)
        _say_unmasked(this, mask, log, console)
        # First the record, then what is drawn from it.
        this.record(s.name, s.stage, s.label, result.status, result.seconds, result.commit, result.dirty)
        this.save()
        page = report.step(this.folder / s.label, console.note)
        report.run(this.folder, console.note)
        console.step_ended(number, result, page)
        return result

    def perform(s: Step) -> Result:
        began, clock = dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), time.monotonic()
        now: dict[str, str] = {}
        # Clearing up after a failure has time of its own, for it may be the run's deadline that failed.
        seconds = cell_seconds
        if failed and failed.status == "cancelled" and s.name in steps.undoing():
            seconds = min(seconds, UNDO_SECONDS)
        limits = Limits(seconds, time.monotonic() + seconds) if failed else whole
        status: Status
        try:
            now = inputs.inputs(s, order, request.run_id)
            away = None
            if not request.here:
                away = job.run(s, request.target, request.run_id, parameters[s], now, platform, mask)
            return away or step.run(
                s, request.target, request.run_id, parameters[s], now, limits, log, mask, console.cell_started
            )
        except KeyboardInterrupt:
            status, error = "cancelled", {"class": "Cancelled", "message": "The run was interrupted.", "cell": None}
        except Exception as problem:
            # A step without a verdict would keep the run from clearing up after it, so every error becomes one.
            message = mask(str(problem) or repr(problem))
            status, error = "failed", {"class": type(problem).__name__, "message": message, "cell": None}
        seconds = round(time.monotonic() - clock, 2)
        result = step.unfinished(s, request.target, request.run_id, parameters[s], now, status, error, began, seconds)
        step.save(this.folder / s.label, result)
        log.write("step_ended", s.label, status=status, seconds=seconds, error=error)
        return result

    def skip(s: Step) -> Result | None:
        # What was made again has to be cleared up again, whatever an earlier clearing up has left.
        again = failed or steps.row(s.name).always_after in ran
        done = None if again else _done(s, request, parameters, order, platform)
        if done is None:
            ran.add(s.name)
            return None
        this.record(s.name, s.stage, s.label, done.status, done.seconds, done.commit, done.dirty)
        # A runner killed right after the verdict left no page; the same evidence gives the same bytes.
        report.step(this.folder / s.label, console.note)
        console.note(f"{s.label}: {done.status} in this run already; what it depends on and what it made are unchanged")
        return done

    def attempt(number: int, s: Step) -> Result:
        status: Status
        try:
            return skip(s) or execute(number, s)
        except KeyboardInterrupt:
            # It came before or after the notebook; a verdict that the step has stays on record.
            status, error = "cancelled", {"class": "Cancelled", "message": "The run was interrupted.", "cell": None}
        except Exception as problem:
            # The evidence itself could not be written, for example because the disk is full.
            message = mask(str(problem) or repr(problem))
            status, error = "failed", {"class": type(problem).__name__, "message": message, "cell": None}
            this.record(s.name, s.stage, s.label, status, None)
        began = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        return step.unfinished(s, request.target, request.run_id, parameters[s], {}, status, error, began, 0.0)

    for number, s in enumerate(request.steps, 1):
        if failed and steps.row(s.name).always_after not in begun:
            this.record(s.name, s.stage, s.label, "not_run", None)
            continue
        begun.add(s.name)
        result = attempt(number, s)
        if not result.green and not failed:
            failed = result
            undo = _on_failure(s)
            if undo:
                if result.status == "cancelled":
                    console.note(f"{s.label} was interrupted: taking it back, which ends within {UNDO_SECONDS:.0f} s")
                attempt(number, undo)
    return failed


def _done(
    s: Step, request: Request, parameters: Mapping[Step, dict[str, Any]], order: list[str], platform: Platform
) -> Result | None:
    if not request.resume:
        return None
    user = Step(steps.row(s.name).made_for or s.name, s.stage)
    # Its own result is no longer asked for, but a step that runs again needs what this one made.
    if user != s and not _done(user, request, parameters, order, platform):
        return None
    return resume.finished(s, request.run_id, parameters[s], inputs.inputs(s, order, request.run_id), platform)


def _begin(request: Request) -> Manifest:
    folder = paths.run_folder(request.run_id)
    earlier = manifest.find(request.run_id)
    if earlier and earlier.files and earlier.status != "running":
        _refuse_changed(earlier)
    folder.mkdir(parents=True, exist_ok=True)
    this = earlier or Manifest(request.run_id, request.name, request.target, Mask()(request.command))
    if request.resume or not earlier:  # a single step that joins a run has values of its own
        this.params_files, this.overrides = [str(f) for f in request.files], list(request.overrides)
    if request.resume:
        # What runs from here on is the code of now; the steps that are done keep the commit of theirs.
        this.commit, this.dirty = git.commit()
        # How clearing up after an earlier attempt went says nothing of this one.
        planned = {s.label for s in request.steps}
        this.steps = [r for r in this.steps if r["folder"] in planned or r["status"] in ("passed", "not_needed")]
    this.files = {}  # what an earlier end has sealed is no evidence for what is going on now
    # Once a rehearsal, always one: a later step against the cloud itself does not make the earlier ones real.
    this.rehearsal = this.rehearsal or manifest.rehearses(request.target)
    if request.steps and request.steps[0].stage and request.source:
        this.source_run = ci_artifact.take(request.source, request.run_id)
    for s in _with_undo(request):
        values = params.given(s.notebook, request.target, s.stage, request.files, request.overrides)
        this.given[s.label] = [asdict(value) for value in values]
    for s in request.steps:
        if not any(r["folder"] == s.label for r in this.steps):
            this.record(s.name, s.stage, s.label, "not_run", None)
    this.status = "running"
    this.save()
    return this


def _refuse_changed(earlier: Manifest) -> None:
    """Raise RunError when files of an ended run were changed: new digests would make the changes evidence."""
    problems = earlier.changed(earlier.folder)
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems[:10])
        more = f"\n  and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise RunError(
            f"Run {earlier.run_id} is not as it was when it ended, so nothing is added to it:{listed}{more}\n"
            "Put back what was changed, or work in a new run: the same command without --run-id, or "
            f"{hint.line('run', 'all')}"
        )


def _say_unmasked(this: Manifest, mask: Mask, log: EventLog, console: Console, again: bool = False) -> None:
    """Say of every secret that is not masked: on the screen, in the events and on the pages; what is known only ``again``."""
    for name, reason in mask.refused().items():
        said = f"The value of {name} is not masked in reports, because {reason}. Give this secret another value."
        new = said not in this.unmasked
        if new:
            this.unmasked.append(said)
        if new or again:
            log.write("secret_not_masked", name=name, reason=reason)
            console.note(said)
    this.save()


def _end(
    this: Manifest, outcome: str, platform: Platform, clock: float, log: EventLog, mask: Mask, console: Console
) -> None:
    from runbook import report

    this.status = outcome
    this.seconds = round(time.monotonic() - clock, 2)
    this.endpoints, this.endpoints_problem = [], "not asked yet"
    log.write("run_ended", status=this.status, seconds=this.seconds)
    # Sealed before a platform is asked: one that does not answer must not cost the verdict or the digests.
    this.seal()
    this.save()
    try:
        this.endpoints, this.endpoints_problem = _endpoints(platform), None
    except KeyboardInterrupt:
        this.endpoints_problem = "the run was interrupted while it asked"
    except Exception as problem:
        # The verdict on the steps stands, whatever is wrong with the platform now.
        this.endpoints_problem = mask(str(problem) or repr(problem))
    if this.endpoints_problem:
        console.note(f"What serves now is not known: {this.endpoints_problem}")
    this.save()
    report.run(this.folder, console.note)
    report.runs(paths.reports(), console.note)


def _endpoints(platform: Platform) -> list[dict[str, Any]]:
    rows = []
    for stage in ("dev", "prod"):
        found = platform.find_endpoint(stage)
        if found:
            previous = found.deployment(found.tags.get("previous", ""))
            rows.append(
                {
                    "stage": stage,
                    "name": found.name,
                    "scoring_uri": found.scoring_uri,
                    "traffic": dict(found.traffic),
                    "model_version": found.live.model_version if found.live else None,
                    "previous_version": previous.model_version if previous else None,
                    "released_by": found.tags.get("released_by", ""),
                    "released_in": found.tags.get("released_in", ""),
                }
            )
    return rows


def _explain(failed: Result, this: Manifest, command: str) -> str:
    name = Step(failed.step, failed.stage).label
    what = failed.error["message"] if failed.error else failed.status
    row = next((r for r in this.steps if r["folder"] == name), None)
    if row and row["status"] != failed.status:  # it came between two steps, whose own verdicts stand
        return f"{what}{_go_on(this, command)}"
    return f"{name}: {failed.status}: {what}\n  Report: {this.folder / name / 'report.html'}{_go_on(this, command)}"


def _go_on(this: Manifest, command: str) -> str:
    lines = [f"To go on: {hint.again(command, this.run_id)}"]
    for stage in release.unfinished(this.folder):
        undo = hint.step(release.UNDO, this.run_id, stage, this.target)
        lines.append(f"The release to {stage} was broken off and not taken back. Take it back with: {undo}")
    return "".join(f"\n  {line}" for line in lines)


def single(name: str, stage: str | None) -> Step:
    """Return one step by name; raises UsageError when there is no such step or the stage does not fit it."""
    if name not in steps.NAMES:
        raise UsageError(f"No step {name!r}. The steps are: {', '.join(steps.NAMES)}.")

    stages = steps.row(name).stages
    if not stages:
        return Step(name, None)
    if stage is None:
        raise UsageError(f"{name} works on a stage: add {' or '.join(f'--stage {s}' for s in stages)}.")
    if stage not in stages:
        raise UsageError(f"{name} works on {' and '.join(stages)} only, not on {stage}.")
    return Step(name, stage)
