"""Decides which steps a resumed run can skip: those with the same inputs and a result that still exists."""

from __future__ import annotations

from typing import Any

from runbook import handoff, hint, paths, steps
from runbook.engine import manifest, step
from runbook.engine.step import Result, Step
from runbook.errors import RunError
from runbook.platform.base import Platform


def finished(
    s: Step, run_id: str, parameters: dict[str, Any], now: dict[str, str], platform: Platform
) -> Result | None:
    """Return the earlier verdict of a step that need not run again, or None; ``now`` is its inputs as they are now."""
    done = step.load(paths.step_folder(run_id, s.name, s.stage))
    if not done or not done.green or done.parameters != parameters or done.inputs != now:
        return None
    still_valid = steps.row(s.name).still_valid
    if still_valid is None:
        return done

    values = handoff.find(s.name, run_id, s.stage)
    valid = values is not None and still_valid(platform, s.stage, values)
    return done if valid else None


def refuse_stale(run_id: str, platform: Platform) -> None:
    """Raise RunError when prod was released by a newer run than this one."""
    # Going on with an old run would quietly put an old version back in front of everybody.
    endpoint = platform.find_endpoint("prod")
    released_by = endpoint.tags.get("released_by", run_id) if endpoint else run_id
    newer = manifest.find(released_by) if released_by != run_id else None
    if newer and newer.started > manifest.load(run_id).started:
        raise RunError(
            f"Run {run_id} is older than the last release to prod, made by run {released_by}. "
            f"Start a new run: {hint.line('run', 'all')}"
        )
