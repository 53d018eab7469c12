"""The endpoint verbs: they read the YAML files, prepare what a replica needs, and give the controller its orders."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from runbook import hint, paths
from runbook.errors import NotFound, PlatformError, UsageError
from runbook.platform import base, files
from runbook.platform.base import OWNER_TAG, Change, Keys, ModelVersion, Stage
from runbook.platform.local import (
    cluster,
    controller_client,
    deployment_settings,
    logs,
    names,
    registry,
    state_dir,
    teardown,
)
from runbook.platform.local.controller import state
from runbook.platform.local.controller.replica import START_S
from runbook.platform.local.controller.state import Deployment, Endpoint
from runbook.platform.local.controller.state_store import HISTORY
from runbook.platform.local.deployment_settings import Serving
from runbook.platform.local.haproxy import config
from runbook.platform.local.state_dir import LOCK_WAIT_S, Home

ORDER_S = 30.0


def create(of: Home, stage: Stage) -> Change[base.Endpoint]:
    """Make the endpoint of deployment/<stage>/endpoint.yml exist and answer; a new one has keys and no traffic."""
    document = files.endpoint(stage)
    name = _name(stage)
    tags = {str(key): str(value) for key, value in (document.get("tags") or {}).items()}
    kubernetes = "kubernetes" in str(document.get("$schema", "")).lower() or "compute" in document
    if kubernetes and cluster.find(of) is None:
        raise NotFound(
            f"The cluster that {name} runs on does not exist. Run first: {hint.RUNBOOK} step 50_create_cluster --stage {stage}"
        )
    call = f"local: create endpoint {name}"
    with of.lock(f"create {name}"):
        before = state.load(state.path(of, name))
        new = before is None
        if before is not None:
            _ours(before)
        else:
            _write_new_keys(of, name)
            profile: base.Profile = "kubernetes" if kubernetes else "managed"
            state.save(state.path(of, name), Endpoint(str(of.path), name, stage, profile, 0, tags, home_id=of.id))
    # A run that was killed may have left a deployment in progress; the run that goes on with it begins here, and waits.
    changed = controller_client.order(of, name, ORDER_S, verb="tag", wait_s=START_S, tags=tags).changed
    return Change(call, document, new or changed, controller_client.ensure(of, name).public())


def find(of: Home, stage: Stage) -> base.Endpoint | None:
    """Return the endpoint as its controller sees it now, or None; what had died is started again first."""
    name = _name(stage)
    return controller_client.ensure(of, name).public() if _exists(of, name) else None


def deploy(of: Home, stage: Stage, name: str, model: ModelVersion) -> Change[base.Deployment]:
    """Make a deployment serve ``model`` by deployment/<stage>/deployment.yml, and wait until its replicas are ready.

    The shipped files are copied first, so that a later edit of the checkout changes nothing that is live. Raises
    PlatformError with the replica's log when it does not start; what served before goes on.
    """
    endpoint = _needed(of, stage)
    names.name("deployment", name)
    document = deployment_settings.override(files.deployment(stage), name, model)
    digest = files.code_digest(stage)
    bytes_of_model = Path("models") / names.model(model.name) / names.version(model.version)
    settings = deployment_settings.read(document, stage, Path("endpoints") / endpoint / "code" / digest, bytes_of_model)
    new = Deployment(name, model.name, model.version, model.digest, digest, "creating", settings)
    before = controller_client.ensure(of, endpoint)
    call = f"local: deploy {name} to {endpoint}"
    found = before.deployments.get(name)
    if found is not None and found.same(new) and before.condition(name) == "ready":
        return Change(call, document, False, before.public_deployment(name))
    registry.provide(of, model)
    _snapshot(of, stage, endpoint, digest)
    patience = START_S + _busy_seconds(settings)
    answer = controller_client.order(of, endpoint, patience, verb="deploy", wait_s=patience, deployment=_plain(new))
    return Change(call, document, answer.changed, answer.state.public_deployment(name))


def longest_wait() -> float:
    """Return the seconds that one verb waits at most: for the lock, a controller, another order, and then its own."""
    nowhere = Path("nowhere")
    stages = ("dev", "prod")
    settings = [deployment_settings.read(files.deployment(stage), stage, nowhere, nowhere) for stage in stages]
    order = START_S + max(_busy_seconds(each) for each in settings)
    return LOCK_WAIT_S + START_S + 2 * order


def _busy_seconds(settings: Serving) -> float:
    """Return how long a replica may still be busy with what it was sent."""
    return (settings.queue_wait_ms + 2 * settings.scoring_timeout_ms) / 1000


def set_traffic(of: Home, stage: Stage, traffic: Mapping[str, int], tags: Mapping[str, str]) -> Change[base.Endpoint]:
    """Put traffic percentages and tags in force in one move; no request is lost."""
    endpoint = _needed(of, stage)
    for name, percent in traffic.items():
        names.name("deployment", name)
        if isinstance(percent, bool) or not isinstance(percent, int) or not 0 <= percent <= 100:
            raise UsageError(f"traffic of {name} is {percent!r}, expected a whole number of percent in 0..100.")
    if sum(traffic.values()) not in (0, 100):
        raise UsageError(f"traffic {dict(traffic)!r} sums to {sum(traffic.values())}, expected 0 or 100.")
    sent: dict[str, Any] = {"traffic": dict(traffic), "tags": dict(tags)}
    answer = controller_client.order(of, endpoint, ORDER_S, verb="traffic", **sent)
    return Change(f"local: set the traffic of {endpoint}", sent, answer.changed, answer.state.public())


def delete_deployment(of: Home, stage: Stage, name: str) -> Change[None]:
    """Make a deployment not exist; one with traffic is refused with PlatformError."""
    endpoint = _name(stage)
    call = f"local: delete deployment {name} of {endpoint}"
    if not _exists(of, endpoint):
        return Change(call, {}, False, None)
    before = controller_client.ensure(of, endpoint)
    found = before.deployments.get(name)
    if found is None:
        return Change(call, {}, False, None)
    _ours(before)
    patience = ORDER_S + _busy_seconds(found.serving)
    return Change(call, {}, controller_client.order(of, endpoint, patience, verb="delete", name=name).changed, None)


def delete(of: Home, stage: Stage) -> Change[None]:
    """Make an endpoint, its deployments, keys and logs not exist; nothing is started for it."""
    name = _name(stage)
    call = f"local: delete endpoint {name}"
    with of.lock(f"delete {name}"):
        before = state.load(state.path(of, name))
        if before is None:
            return Change(call, {}, False, None)
        _ours(before)
        teardown.stop_endpoint(of, name)
        # The state goes first: without it a half-deleted folder is no endpoint.
        state.path(of, name).unlink()
        shutil.rmtree(of.endpoint(name))
    return Change(call, {}, True, None)


def keys(of: Home, name: str) -> Keys:
    """Return the keys of the endpoint called ``name``."""
    document = state_dir.read_json(of.endpoint(name) / "keys.json")
    return Keys(document["primary"], document["secondary"])


def stage_keys(of: Home, stage: Stage) -> Keys:
    """Return the keys of a stage's endpoint; raises NotFound when there is none."""
    return keys(of, _needed(of, stage))


def secret_values(of: Home) -> list[str]:
    """Return every key of every endpoint of this home."""
    found = [keys(of, path.parent.name) for path in sorted(of.endpoints.glob("*/keys.json"))]
    return [key for pair in found for key in (pair.primary, pair.secondary)]


def log(of: Home, stage: Stage, name: str, lines: int) -> str:
    """Return the last lines that the replicas of a deployment wrote."""
    return logs.tail(of.endpoint(_needed(of, stage)) / "logs" / f"{names.name('deployment', name)}.log", lines)


def history(of: Home, stage: Stage, name: str, since: float) -> list[tuple[float, int, int]]:
    """Return (unix time, expected, ready) of a deployment since ``since``, beginning with what held at that moment."""
    try:
        lines = (of.endpoint(_needed(of, stage)) / HISTORY).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    found = [row for row in map(_history_row, lines) if row is not None]
    rows = [(r["t"], r["wanted"], r["ready"]) for r in found if r["deployment"] == name]
    earlier = [(since, wanted, ready) for t, wanted, ready in rows if t < since][-1:]
    return earlier + [row for row in rows if row[0] >= since]


def _history_row(line: str) -> dict[str, Any] | None:
    """Return one line of the history; None for a line that a full disk cut short."""
    try:
        row: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return row


def _name(stage: Stage) -> str:
    return names.name("endpoint", files.endpoint(stage).get("name", ""))


def _exists(of: Home, name: str) -> bool:
    return state.path(of, name).exists()


def _needed(of: Home, stage: Stage) -> str:
    name = _name(stage)
    if not _exists(of, name):
        raise NotFound(
            f"Endpoint {name} does not exist in {of.path}. Run first: {hint.RUNBOOK} step 60_deploy --stage {stage}"
        )
    return name


def _ours(endpoint: Endpoint) -> None:
    if OWNER_TAG not in endpoint.tags:
        raise PlatformError(
            f"Endpoint {endpoint.name} has no tag {OWNER_TAG}: somebody else made it, and it is left alone."
        )


def _write_new_keys(of: Home, name: str) -> None:
    pair = {"primary": secrets.token_urlsafe(32), "secondary": secrets.token_urlsafe(32)}
    state_dir.write_json(of.endpoint(name) / "keys.json", pair)
    state_dir.write(of.endpoint(name) / config.KEYS, "".join(f"{key}\n" for key in pair.values()).encode())


def _snapshot(of: Home, stage: Stage, endpoint: str, digest: str) -> None:
    """Copy the shipped files to the endpoint's code folder, in one move; nothing happens when they are there."""
    target = of.endpoint(endpoint) / "code" / digest
    if target.exists():
        return
    state_dir.private_folder(target.parent)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix="."))
    for source in files.shipped(stage):
        copy = temporary / source.relative_to(paths.DEPLOYMENT)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, copy)
    if files.code_digest(stage) != digest:
        shutil.rmtree(temporary)
        raise PlatformError(f"{paths.DEPLOYMENT} changed while it was copied. Deploy again.")
    os.replace(temporary, target)


def _plain(deployment: Deployment) -> Any:
    return msgspec.to_builtins(deployment)
