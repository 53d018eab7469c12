"""A release as a plan: the traffic to set, the tags that go with it, and the deployment that a rollback returns to.

The endpoint itself records each release in four tags, so that a rollback needs no file of the run:
``released`` (the deployment), ``previous`` (the rollback target), ``released_by`` (the run) and ``released_in`` (the step).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runbook.platform.base import Endpoint

STEP = "90_release"
UNDO = "95_rollback"


@dataclass(frozen=True)
class Release:
    """The traffic (percent per deployment) and tags that a release sets.

    ``needed`` is False when both are so already and this run did not make them so. ``rollback_target`` is empty when
    nobody was served before.
    """

    needed: bool
    traffic: Mapping[str, int]
    tags: Mapping[str, str]
    rollback_target: str


def plan(endpoint: Endpoint, slot: str, run_id: str, rollback_target_needed: bool = True) -> Release:
    """Return what a release of the deployment ``slot`` by this run asks of ``endpoint``; changes nothing.

    The rollback target is whoever else has traffic now, the largest share first. Where all traffic is on ``slot``
    already, it stays what the tags say. With ``rollback_target_needed=False`` a target that is gone is forgotten.
    """
    shares = {name: share for name, share in endpoint.traffic.items() if share}
    moved = shares == {slot: 100}
    others = {name: share for name, share in shares.items() if name != slot}
    target = max(others, key=lambda name: others[name], default="")
    if moved:
        target = endpoint.tags.get("previous", "")
    if not rollback_target_needed and endpoint.deployment(target) is None:
        target = ""

    written = {"released": slot, "released_by": run_id, "released_in": STEP}
    tags = {**endpoint.tags}
    if not moved:
        tags |= written
    if not moved or target != endpoint.tags.get("previous", ""):
        tags["previous"] = target
    # A run that goes on after its traffic has moved is not idle: the move is its own.
    ours = written.items() <= endpoint.tags.items()
    return Release(not moved or ours or tags != dict(endpoint.tags), {slot: 100}, tags, target)


def unfinished(run: Path) -> list[str]:
    """Return the stages on which a release of the run in this folder neither ended well nor was rolled back.

    Reads what the steps left on disk, so that it also answers for a run whose runner was killed.
    """
    stages = []
    for stage in ("dev", "prod"):
        release, rollback = run / f"{STEP}-{stage}", run / f"{UNDO}-{stage}"
        begun = release / "executed.ipynb"
        if not begun.exists() or _green(release):
            continue
        # A rollback of an earlier attempt says nothing about this one.
        later = _green(rollback) and (rollback / "result.json").stat().st_mtime_ns >= begun.stat().st_mtime_ns
        if not later:
            stages.append(stage)
    return stages


def _green(step: Path) -> bool:
    try:
        result = json.loads((step / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(result, dict) and result.get("status") in ("passed", "not_needed")
