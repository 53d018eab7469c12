"""Plans of what 60, 90 and 95 change on an endpoint: the slot, the traffic to set, and the tags that go with it.

The endpoint itself records each release in four tags, so that a rollback needs no file of the run:
``released`` (the deployment), ``previous`` (the rollback target), ``released_by`` (the run) and ``released_in`` (the step).
A plan changes nothing. The notebook shows it with ``table``, carries it out, and checks the result.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook.platform.base import CHAMPION, Change, Deployment, Endpoint, ModelVersion, Platform

if TYPE_CHECKING:
    import pandas as pd

STEP = "90_release"
UNDO = "95_rollback"


@dataclass(frozen=True)
class Slot:
    """The slot that a deployment goes to, and the endpoint's traffic and tags while it is overwritten.

    ``changed`` is False when the live deployment is already exactly this. ``share`` is the slot's traffic now, in percent.
    ``is_rollback_target`` says that the slot must stop being the rollback target before it is overwritten.
    """

    name: str
    served: str
    share: int
    changed: bool
    is_rollback_target: bool
    traffic: Mapping[str, int]
    tags: Mapping[str, str]


def plan_deployment(endpoint: Endpoint, version: ModelVersion) -> Slot:
    """Return the slot for ``version``: the live one when it serves exactly this, else the one without traffic."""
    name = endpoint.slot_for(version)
    served = endpoint.live.name if endpoint.live else ""
    changed = name != served
    is_target = changed and endpoint.tags.get("previous") == name
    tags = {**endpoint.tags, "previous": ""} if is_target else dict(endpoint.tags)
    return Slot(name, served, endpoint.traffic.get(name, 0), changed, is_target, dict(endpoint.traffic), tags)


@dataclass(frozen=True)
class Release:
    """The traffic (percent per deployment) and tags that a release sets.

    ``needed`` is False when both are so already and this run did not make them so. ``rollback_target`` is empty when
    no deployment served before.
    """

    needed: bool
    traffic: Mapping[str, int]
    tags: Mapping[str, str]
    rollback_target: str


def plan(endpoint: Endpoint, slot: str, run_id: str, rollback_target_needed: bool = True) -> Release:
    """Return what a release of the deployment ``slot`` by this run asks of ``endpoint``; changes nothing.

    The rollback target is the other deployment with the most traffic now. Where all traffic is on ``slot`` already, it stays
    what the tags say. With ``rollback_target_needed=False`` a target that is gone is forgotten.
    """
    now = shares(endpoint.traffic)
    moved = now == {slot: 100}
    others = {name: share for name, share in now.items() if name != slot}
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


@dataclass(frozen=True)
class Rollback:
    """The traffic (percent per deployment) and tags that a rollback sets, and the version that prod's alias names then.

    ``needed`` is False when there is no release to undo. ``from_deployment`` serves now, ``target`` serves afterwards.
    ``target_required`` is False only for the first release of a run that is named: its deployment is taken out of service.
    ``champion`` and ``retired`` are None on dev, and where the alias is none of this run's business: ``champion`` must be
    champion afterwards, and ``retired`` must not be.
    """

    only_release_of: str
    needed: bool
    from_deployment: str
    target: Deployment | None
    target_required: bool
    traffic: Mapping[str, int]
    tags: Mapping[str, str]
    champion: Deployment | None
    retired: Deployment | None

    @property
    def target_name(self) -> str:
        """The name of the deployment that serves afterwards, or nothing."""
        return self.target.name if self.target else ""

    @property
    def expected_version(self) -> str:
        """The model version that answers afterwards, or ``None`` as the endpoint without traffic says it."""
        return self.target.model_version if self.target else "None"

    @property
    def moves_champion(self) -> bool:
        """Whether the alias has to follow the traffic."""
        return self.champion is not None or self.retired is not None


def plan_rollback(
    endpoint: Endpoint | None, run_id: str, only_release_of: str = "", deployed: Mapping[str, Any] | None = None
) -> Rollback:
    """Return what a rollback by this run asks of ``endpoint``; changes nothing.

    ``deployed`` is the handoff of 60_deploy in this run. With ``only_release_of``, only a release of that run is undone, and
    a run that has deployed counts as named. Otherwise the latest release is undone, unless this run has undone it already.
    An interrupted rollback has moved its traffic: then only the alias is left to move.
    """
    only = only_release_of or (run_id if deployed else "")
    if endpoint is None:
        return Rollback(only, False, "", None, False, {}, {}, None, None)

    live = endpoint.live
    serves = live.name if live else ""
    previous = endpoint.tags.get("previous", "")
    target = endpoint.deployment(previous)

    rolled_back = _says(endpoint, released_by=run_id, released_in=UNDO)
    if live is None:
        needed = False
    elif only:
        of_that_run = _says(endpoint, released=serves, released_by=only, released_in=STEP)
        # A run's last deployment may never have been released; an earlier release of the run then stays.
        of_its_last_deployment = deployed is None or deployed["deployment"] == serves
        needed = of_that_run and of_its_last_deployment
    else:
        needed = not rolled_back

    traffic, tags = dict(endpoint.traffic), dict(endpoint.tags)
    if needed:
        traffic = {target.name: 100} if target else {serves: 0}
        back = target.name if target else ""
        # The names are exchanged, so that a rollback can be rolled back.
        tags |= {"released": back, "previous": serves, "released_by": run_id, "released_in": UNDO}

    champion, retired = None, None
    if endpoint.stage == "prod" and (needed or rolled_back):
        champion = target if needed else live
        if champion is None:
            retired = live or target

    required = needed and (not only or previous != "")
    return Rollback(only, needed, serves, target, required, traffic, tags, champion, retired)


def _says(endpoint: Endpoint, **tags: str) -> bool:
    return tags.items() <= endpoint.tags.items()


def move_champion(platform: Platform, plan: Rollback) -> Change[ModelVersion] | Change[None] | None:
    """Make the alias champion follow a rollback on prod; returns what was sent, or None when there is nothing to send."""
    if plan.champion:
        return platform.promote_model(plan.champion.model_name, plan.champion.model_version)
    if plan.retired:
        version = platform.find_model(plan.retired.model_name, version=plan.retired.model_version)
        if version and CHAMPION in version.aliases:
            return platform.demote_model(version.name)
    return None


def champion(platform: Platform, plan: Rollback) -> str:
    """Return the version that is champion now, or ``none``; also ``none`` where the plan does not concern the alias."""
    concerned = plan.champion or plan.retired
    found = platform.find_model(concerned.model_name, alias=CHAMPION) if concerned else None
    return found.version if found else "none"


def shares(traffic: Mapping[str, int]) -> dict[str, int]:
    """Return the deployments that have traffic, with their percent."""
    return {name: percent for name, percent in traffic.items() if percent}


def table(endpoint: Endpoint | None, plan: Slot | Release | Rollback) -> pd.DataFrame:
    """Return a plan as a table: a row per deployment with its version, its traffic now and planned, and its role afterwards."""
    import pandas as pd

    rows = []
    names = sorted({d.name for d in endpoint.deployments} | set(plan.traffic)) if endpoint else []
    for name in names:
        found = endpoint.deployment(name) if endpoint else None
        now = endpoint.traffic.get(name, 0) if endpoint else 0
        rows.append(
            {
                "deployment": name,
                "version": found.model_version if found else "",
                "state": found.state if found else "does not exist",
                "percent now": now,
                "percent planned": plan.traffic.get(name, 0),
                "afterwards": _role(name, plan),
            }
        )
    columns = ["deployment", "version", "state", "percent now", "percent planned", "afterwards"]
    return pd.DataFrame(rows, columns=columns).set_index("deployment")


def _role(name: str, plan: Slot | Release | Rollback) -> str:
    if plan.traffic.get(name, 0):
        return "serves"
    if isinstance(plan, Slot) and plan.changed and plan.name == name:
        return "is overwritten"
    if plan.tags.get("previous") == name:
        return "rollback target"
    return ""


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
