"""What lets a resumed run skip a step: the same inputs, and a result that still stands."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from runbook import handoff, manifest, repository, standing, step
from runbook.errors import RunError
from runbook.platform.base import Platform
from runbook.step import Result, Step


def inputs(s: Step, order: Sequence[str], run_id: str) -> dict[str, str]:
    """Return the digests of what a step run depends on: its notebook, and every handoff that steps before it have left.

    ``order`` is the labels of the steps in running order; a step outside it comes after all of them.
    """
    found = {"notebook": _sha256(s.notebook.read_bytes())}
    before = order[: order.index(s.label)] if s.label in order else order
    for path in sorted(repository.run_folder(run_id).glob("*/handoff.json")):
        if path.parent.name in before:
            values = json.loads(path.read_text(encoding="utf-8"))["values"]
            found[f"{path.parent.name}/handoff.json"] = _sha256(json.dumps(values, sort_keys=True).encode())
    return found


def finished(
    s: Step, run_id: str, parameters: dict[str, Any], now: dict[str, str], platform: Platform
) -> Result | None:
    """Return the earlier verdict of a step that need not run again, or None; ``now`` is its inputs as they are now."""
    done = step.load(repository.step_folder(run_id, s.name, s.stage))
    if not done or not done.green or done.parameters != parameters or done.inputs != now:
        return None
    if s.name == "10_create_compute" and not _ended(run_id):
        return None  # the training is still to come and needs the compute target; making it so costs nothing
    values = handoff.find(s.name, run_id, s.stage)
    return done if standing.stands(s.name, s.stage, values, platform) else None


def _ended(run_id: str) -> bool:
    trained = step.load(repository.step_folder(run_id, "20_train"))
    return trained is not None and trained.green


def refuse_stale(run_id: str, platform: Platform) -> None:
    """Raise RunError when prod was released by a newer run than this one."""
    # Going on with an old run would quietly put an old version back in front of everybody.
    endpoint = platform.find_endpoint("prod")
    released_by = endpoint.tags.get("released_by", run_id) if endpoint else run_id
    newer = manifest.find(released_by) if released_by != run_id else None
    if newer and newer.started > manifest.load(run_id).started:
        raise RunError(
            f"Run {run_id} is older than the last release to prod, made by run {released_by}. Start a new run: runbook run all"
        )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
