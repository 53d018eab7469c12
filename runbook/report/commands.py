"""The commands that a page offers: how to go on after a red or killed run, and how to undo what the run changed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runbook import hint, release
from runbook.report import evidence
from runbook.report.evidence import GREEN, Run, StepRun

RED = ("failed", "cancelled")


@dataclass(frozen=True)
class Command:
    """One command to paste: what it is for, and what it leads to."""

    purpose: str
    line: str
    leads: str = ""


def go_on(manifest: Mapping[str, Any], stopped: StepRun | None) -> Command | None:
    """Return how to go on with a run that did not end well at ``stopped``; a rehearsal is only repeated, so None."""
    if evidence.rehearsal(manifest):
        return None
    command, run_id = str(manifest["command"]), str(manifest["run_id"])
    try:
        words = shlex.split(command)
    except ValueError:
        return None  # not a command that this package has written
    by_step = words[1:2] == ["step"]
    if by_step and stopped and words[2:3] != [stopped.step]:
        # A pipeline runs every step by a command of its own, and the manifest holds the first.
        return Command("Go on with", hint.step(stopped.step, run_id, stopped.stage, str(manifest["target"])))
    return Command("Go on with", hint.again(command, run_id))


def undo(this: Run, row: Mapping[str, Any]) -> Command | None:
    """Return how to undo what this run changed for the callers of one stage, or None when it changed nothing for them."""
    stage = str(row["stage"])
    again = hint.step(release.UNDO, this.run_id, stage, str(this.manifest["target"]))
    if _released_in(this, row) == release.UNDO:
        ended = status(this, release.UNDO, stage) in GREEN
        return None if ended else Command("Undo", again, "the rollback was broken off: this ends it")
    if _released_in(this, row) != release.STEP:
        return None
    where = ["step", release.UNDO, "--stage", stage]
    where += [] if this.manifest["target"] == "local" else ["--target", str(this.manifest["target"])]
    # The page may be read when a newer run has released: its release is not this page's to undo.
    line = hint.line(*where, "-p", f"only_release_of={this.run_id}")
    if row["previous_version"]:
        return Command("Undo", line, f"back to model {row['previous_version']}")
    return Command("Undo", line, "nobody was served before: this takes the deployment out of service")


def broken_off(this: Run) -> list[Command]:
    """Return how to take back each release of this run that neither ended well nor was rolled back."""
    found = []
    for stage in ("dev", "prod"):
        row = next((r for r in this.manifest["endpoints"] if r["stage"] == stage), None)
        moved = row is None or _released_in(this, row) in (release.STEP, release.UNDO)
        red = status(this, release.STEP, stage) in RED
        if red and moved and status(this, release.UNDO, stage) not in GREEN:
            line = hint.step(release.UNDO, this.run_id, stage, str(this.manifest["target"]))
            found.append(Command(f"The release to {stage} was broken off. Take it back with", line))
    return [] if this.rehearsal else found


def taken_back(this: Run) -> list[str]:
    """Return a sentence for each stage on which a release of this run failed or was interrupted, and was undone."""
    said = {
        "passed": "The release to {} was rolled back.",
        "not_needed": "The release to {} had not moved any traffic.",
    }
    found = []
    for stage in ("dev", "prod"):
        undone = said.get(status(this, release.UNDO, stage))
        if undone and status(this, release.STEP, stage) in RED:
            found.append(undone.format(stage))
    return found


def status(this: Run, step: str, stage: str) -> str:
    """Return the status of one step run, not_run when this run does not hold it."""
    return next((s.status for s in this.steps if (s.step, s.stage) == (step, stage)), "not_run")


def _released_in(this: Run, row: Mapping[str, Any]) -> str:
    """Return the step of this run that last moved the traffic of a stage, or nothing."""
    if "released_by" in row:
        return str(row["released_in"]) if row["released_by"] == this.run_id else ""
    # Manifests of earlier releases do not say who moved the traffic.
    return release.STEP if status(this, release.STEP, str(row["stage"])) == "passed" else ""
