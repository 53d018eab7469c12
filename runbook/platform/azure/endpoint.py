"""Room of the online endpoints: managed for dev, Kubernetes for prod, from the files under deployment/."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from runbook import hint, paths
from runbook.errors import NotFound, PlatformError
from runbook.platform import files
from runbook.platform.azure import workspace
from runbook.platform.azure.diagnosis import explaining
from runbook.platform.azure.workspace import Workspace, body, load, ours, settle, state_of, state_word, wait
from runbook.platform.base import OWNER_TAG, Change, Deployment, Endpoint, Keys, ModelVersion, Profile, Stage

# Where the deployment remembers what it was made from; Azure itself keeps no digest of the files.
CODE_TAG = "runbook-code"
_CONTAINERS = ("inference-server", "storage-initializer")


def wanted(stage: Stage) -> Any:
    """Return the endpoint that deployment/<stage>/endpoint.yml describes."""
    return load("online_endpoint", paths.DEPLOYMENT / stage / "endpoint.yml", files.endpoint(stage))


def wanted_deployment(stage: Stage, name: str, model: ModelVersion) -> Any:
    """Return the deployment of deployment/<stage>/deployment.yml with the three overrides: name, version, digest."""
    path = paths.DEPLOYMENT / stage / "deployment.yml"
    entity = load("online_deployment", path, files.deployment(stage), name=name)
    entity.model = f"azureml:{model.name}:{model.version}"
    entity.environment_variables = {
        **entity.environment_variables,
        "MODEL_VERSION": model.version,
        "MODEL_SHA256": model.digest,
    }
    entity.tags = {**(entity.tags or {}), CODE_TAG: files.code_digest(stage)}
    return entity


def create(at: Workspace, stage: Stage) -> Change[Endpoint]:
    """Make the endpoint exist; a foreign one of that name is refused with PlatformError."""
    entity = wanted(stage)
    call = f"online_endpoints.begin_create_or_update({entity.name})"
    seconds, look = _settle(at, entity.name, workspace.ENDPOINT)
    present = _get(at, entity.name)
    sent = body(entity._to_rest_online_endpoint(at.location))
    if present is not None and not ours(present.tags):
        raise PlatformError(_foreign(entity.name))
    if present is None or present.provisioning_state == "Failed":
        with explaining(f"creating the endpoint {entity.name}"):
            poller = at.ml.online_endpoints.begin_create_or_update(entity)
            wait(poller, seconds, f"creating the endpoint {entity.name}", look)
        return Change(call, sent, changed=True, result=_read(at, stage))
    return Change(call, sent, changed=False, result=_read(at, stage))


def find(at: Workspace, stage: Stage) -> Endpoint | None:
    """Return the endpoint and its deployments as Azure sees them now, or None."""
    name = str(files.endpoint(stage)["name"])
    present = _get(at, name)
    if present is None:
        return None
    with explaining(f"reading the deployments of {name}"):
        deployments = tuple(_deployment(d) for d in at.ml.online_deployments.list(name))
    # A Kubernetes endpoint names its cluster; a managed one has none.
    profile: Profile = "kubernetes" if getattr(present, "compute", None) else "managed"
    # The SDK adds every deployment without traffic as 0; what is not served is left out.
    traffic = {str(k): int(v) for k, v in (present.traffic or {}).items() if v}
    tags = {str(k): str(v) for k, v in (present.tags or {}).items()}
    return Endpoint(name, stage, profile, present.scoring_uri or "", traffic, deployments, tags)


def deploy(at: Workspace, stage: Stage, name: str, model: ModelVersion) -> Change[Deployment]:
    """Make the deployment serve ``model``; one that failed is made again, and the failure brings its log home."""
    entity = wanted_deployment(stage, name, model)
    what = f"deploying {model.name}:{model.version} as {entity.endpoint_name}/{name}"
    call = f"online_deployments.begin_create_or_update({entity.endpoint_name}/{name})"
    seconds, look = _settle_deployment(at, stage, name, workspace.DEPLOYMENT)
    live = _read(at, stage).deployment(name)
    if live and live.state == "ready" and _serves(live, model, stage):
        return Change(call, _sent(at, entity), changed=False, result=live)
    sent = _sent(at, entity)
    with explaining(what, lambda: logs(at, stage, name)):
        poller = at.ml.online_deployments.begin_create_or_update(entity)
        wait(poller, seconds, what, look)
    ready = _read(at, stage).deployment(name)
    if ready is None or ready.state != "ready":
        raise PlatformError(f"{what}: afterwards Azure shows {ready}, expected state ready.", logs(at, stage, name))
    return Change(call, sent, changed=True, result=ready)


def set_traffic(at: Workspace, stage: Stage, traffic: Mapping[str, int], tags: Mapping[str, str]) -> Change[Endpoint]:
    """Make traffic and tags so in one request; what Azure does with the share of a missing deployment is refused here."""
    seconds, look = _settle(at, str(files.endpoint(stage)["name"]), workspace.ENDPOINT)
    before = _read(at, stage)
    call = f"online_endpoints.begin_create_or_update({before.name}, traffic={dict(traffic)})"
    ready = {d.name for d in before.deployments if d.state == "ready"}
    if sum(traffic.values()) not in (0, 100) or not _shares(traffic).keys() <= ready:
        raise PlatformError(
            f"Traffic {dict(traffic)} of {before.name}: expected 0 or 100 percent in all, and only to deployments that are "
            f"ready: {sorted(ready)}."
        )
    if _shares(before.traffic) == _shares(traffic) and tags.items() <= before.tags.items():
        return Change(call, {}, changed=False, result=before)
    with explaining(f"shifting the traffic of {before.name} to {dict(traffic)}"):
        entity = at.ml.online_endpoints.get(before.name)
        entity.traffic, entity.tags = dict(traffic), {**(entity.tags or {}), **tags}
        sent = body(entity._to_rest_online_endpoint(at.location))
        poller = at.ml.online_endpoints.begin_create_or_update(entity)
        wait(poller, seconds, f"shifting the traffic of {before.name}", look)
    return Change(call, sent, changed=True, result=_read(at, stage))


def delete_deployment(at: Workspace, stage: Stage, name: str) -> Change[None]:
    """Make the deployment not exist; one that has traffic is refused with PlatformError."""
    seconds, look = _settle_deployment(at, stage, name, workspace.DELETION)
    present = find(at, stage)
    call = f"online_deployments.begin_delete({present.name if present else stage}/{name})"
    if present is None or present.deployment(name) is None:
        return Change(call, {}, changed=False, result=None)
    if present.traffic.get(name):
        raise PlatformError(f"{present.name}/{name} has {present.traffic[name]} % of the traffic: move it away first.")
    with explaining(f"deleting the deployment {present.name}/{name}"):
        poller = at.ml.online_deployments.begin_delete(name, endpoint_name=present.name)
        wait(poller, seconds, f"deleting the deployment {present.name}/{name}", look)
    return Change(call, {}, changed=True, result=None)


def delete(at: Workspace, stage: Stage) -> Change[None]:
    """Make the endpoint and its deployments not exist; one without our tag is refused with PlatformError."""
    name = str(files.endpoint(stage)["name"])
    call = f"online_endpoints.begin_delete({name})"
    seconds, look = _settle(at, name, workspace.DELETION)
    present = _get(at, name)
    if present is None:
        return Change(call, {}, changed=False, result=None)
    if not ours(present.tags):
        raise PlatformError(_foreign(name))
    with explaining(f"deleting the endpoint {name}"):
        poller = at.ml.online_endpoints.begin_delete(name)
        wait(poller, seconds, f"deleting the endpoint {name}", look)
    return Change(call, {}, changed=True, result=None)


def keys(at: Workspace, stage: Stage) -> Keys:
    """Return the endpoint's keys; from now on the workspace knows them as secrets."""
    name = _read(at, stage).name
    with explaining(f"reading the keys of {name}"):
        found = at.ml.online_endpoints.get_keys(name)
    at.known_secrets.update((found.primary_key, found.secondary_key))
    return Keys(found.primary_key, found.secondary_key)


def logs(at: Workspace, stage: Stage, name: str, lines: int = 50) -> str:
    """Return the last lines of both containers: the one that serves, and the one that fetched model and code."""
    endpoint = str(files.endpoint(stage)["name"])
    parts = []
    for container in _CONTAINERS:
        with explaining(f"reading the log of {endpoint}/{name}"):
            text = at.ml.online_deployments.get_logs(name, endpoint, lines, container_type=container)
        parts.append(f"[{container}]\n{text.strip()}")
    return "\n".join(parts)


def _settle(at: Workspace, name: str, seconds: float) -> tuple[float, str]:
    """Wait for what goes on on the endpoint; returns the seconds left, and the command that shows the endpoint's state."""
    look = at.at.look(f"online-endpoint show --name {name}")
    return settle(lambda: state_of(_get(at, name)), seconds, f"the endpoint {name}", look), look


def _settle_deployment(at: Workspace, stage: Stage, name: str, seconds: float) -> tuple[float, str]:
    """Wait for what goes on on a deployment; returns the seconds left, and the command that shows its state."""
    endpoint = str(files.endpoint(stage)["name"])
    look = at.at.look(f"online-deployment show --name {name} --endpoint-name {endpoint}")

    def state() -> str | None:
        present = find(at, stage)
        found = present.deployment(name) if present else None
        return found.state if found else None

    return settle(state, seconds, f"the deployment {endpoint}/{name}", look), look


def _get(at: Workspace, name: str) -> Any | None:
    try:
        with explaining(f"reading the endpoint {name}"):
            return at.ml.online_endpoints.get(name)
    except NotFound:
        return None


def _read(at: Workspace, stage: Stage) -> Endpoint:
    found = find(at, stage)
    if found is None:
        name = files.endpoint(stage)["name"]
        raise NotFound(f"The endpoint {name} does not exist.\nNext: {hint.RUNBOOK} step 60_deploy --stage {stage}")
    return found


def _deployment(present: Any) -> Deployment:
    word = state_word(present.provisioning_state)
    state: Literal["creating", "ready", "failed"] = word if word in ("ready", "failed") else "creating"  # type: ignore[assignment]
    variables, model = present.environment_variables or {}, str(present.model or "")
    # Two spellings: a full resource id (.../models/NAME/versions/7) and the short azureml:NAME:7.
    parts = model.split("/")
    name = parts[-3] if "/versions/" in model else model.split(":")[1] if model.count(":") == 2 else ""
    version, digest = str(variables.get("MODEL_VERSION", "")), str(variables.get("MODEL_SHA256", ""))
    return Deployment(present.name, name, version, digest, (present.tags or {}).get(CODE_TAG, ""), state, None)


def _serves(live: Deployment, model: ModelVersion, stage: Stage) -> bool:
    return (live.model_version, live.model_digest, live.code_digest) == (
        model.version,
        model.digest,
        files.code_digest(stage),
    )


def _shares(traffic: Mapping[str, int]) -> dict[str, int]:
    return {name: share for name, share in traffic.items() if share}


def _sent(at: Workspace, entity: Any) -> dict[str, Any]:
    return body(entity._to_rest_object(location=at.location))


def _foreign(name: str) -> str:
    return (
        f"The endpoint {name} exists and does not carry the tag {OWNER_TAG}: somebody else made it, so it is left alone.\n"
        "Next: choose another name in deployment/STAGE/endpoint.yml and deployment.yml."
    )
