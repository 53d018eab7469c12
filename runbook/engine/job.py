"""One step as a job on the training compute: sent there by the platform, its evidence brought home."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from typing import Any

from runbook import handoff, paths, steps
from runbook.engine import params, step
from runbook.engine.masking import Mask
from runbook.engine.step import Result, Status, Step
from runbook.errors import PlatformError
from runbook.platform.base import Platform

LOG = "job.log"


def run(
    s: Step,
    target: str,
    run_id: str,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, str],
    platform: Platform,
    mask: Mask,
) -> Result | None:
    """Return the verdict of a step that ran as a job, or None when it is to be run here."""
    if not steps.row(s.name).wants_compute:
        return None
    folder = paths.step_folder(run_id, s.name, s.stage)
    folder.mkdir(parents=True, exist_ok=True)
    began, clock = dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), time.monotonic()

    def lost(status: Status, name: str, message: str) -> Result:
        # The job left no verdict of its own, so this one says what is known of it.
        error = {"class": name, "message": mask(message), "cell": None}
        seconds = round(time.monotonic() - clock, 2)
        result = step.unfinished(s, target, run_id, parameters, inputs, status, error, began, seconds)
        step.save(folder, result)
        return result

    def keep(log: str) -> None:
        if log:
            (folder / LOG).write_text(mask(log), encoding="utf-8")

    for stale in (*step.EVIDENCE, LOG):
        (folder / stale).unlink(missing_ok=True)
    try:
        sent = platform.run_step(s.name, run_id, arguments(parameters), folder)
    except PlatformError as error:
        # The notebook's own verdict does not hold what the compute said around it.
        keep(error.log or str(error))
        home = step.load(folder)
        return home if home and not home.green else lost("failed", "JobFailed", str(error))
    except KeyboardInterrupt:
        return lost("cancelled", "Cancelled", "The run was interrupted, and its job cancelled.")
    if sent is None:
        return None
    # A green job's log is evidence too: it holds what the compute said around the notebook.
    keep(getattr(sent.result, "log", ""))
    home = step.load(folder)
    if home is None:
        return lost("failed", "JobFailed", "The job ended without leaving a verdict.")
    if home.status == "passed" and handoff.find(s.name, run_id, s.stage) is None:
        return lost("failed", "NoHandoff", "The job passed and left no handoff: another notebook ran there.")
    return home


def arguments(parameters: Mapping[str, Any]) -> list[str]:
    """Return the resolved parameters as `runbook step` takes them; target, stage and run_id have options of their own."""
    words = {True: "true", False: "false", None: "null"}
    chosen = {k: v for k, v in parameters.items() if k not in params.RUNNER_OWNED}
    return [w for k, v in chosen.items() for w in ("-p", f"{k}={words[v] if v is None or isinstance(v, bool) else v}")]
