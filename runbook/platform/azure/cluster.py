"""Room of the prod cluster: AKS, the AzureML extension, a namespace, and the compute that attaches it to the workspace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runbook.errors import NotFound, PlatformError
from runbook.platform import files
from runbook.platform.azure import aks, capacity, workspace
from runbook.platform.azure.diagnosis import explaining
from runbook.platform.azure.workspace import Workspace, body, ours, settle, state_of, state_word, wait
from runbook.platform.base import OWNER_TAG, Change, Cluster

EXTENSION = "azureml"
_PROVIDER = ("Microsoft.ContainerService", "managedClusters")
PLAIN_HTTP = (
    "requests and keys travel unencrypted on whatever network the cluster is on (ssl_enabled: false, as in the article)"
)


def create(at: Workspace) -> Change[Cluster]:
    """Make the AKS cluster exist, after checking capacity and quota; of an existing one only the extension is looked for."""
    doc = files.cluster()
    room = capacity.of(doc, files.deployment("prod"))
    if room.fits < room.needed:
        raise PlatformError(
            f"The cluster {doc['name']} holds {room.fits} replicas; a release needs {room.needed} (blue and green at "
            "their most).\nNext: raise node_count or node_size in environment_setup/cluster.yml."
        )
    if doc["existing_resource_id"]:
        _expect_extension(at, doc)
    sent = {} if doc["existing_resource_id"] else _create_aks(at, doc)
    return Change(f"create {doc['name']}", sent, changed=bool(sent), result=_read(at, doc))


def install_extension(at: Workspace) -> Change[str]:
    """Make the AzureML extension stand on the cluster, and return its state; on a cluster that is not ours only look."""
    doc = files.cluster()
    call = f"extensions.begin_create({doc['name']}/{EXTENSION})"
    if doc["existing_resource_id"]:
        _expect_extension(at, doc)
        return Change(call, {}, changed=False, result="ready")
    sent = _create_extension(at, doc)
    state = state_of(_extension(at, _where(at, doc)))
    return Change(call, sent, changed=bool(sent), result=state or "missing")


def create_namespace(at: Workspace) -> Change[str]:
    """Make the namespace exist that the attached compute names, and return its state; a cluster that is not ours is left."""
    doc = files.cluster()
    call = f"managed_clusters.begin_run_command({doc['name']})"
    if doc["existing_resource_id"]:
        return Change(call, {}, changed=False, result="left to its owner")
    sent = _create_namespace(at, doc)
    return Change(call, sent, changed=bool(sent), result="ready")


def attach(at: Workspace) -> Change[Cluster]:
    """Make the cluster a compute of the workspace."""
    doc = files.cluster()
    sent = _attach(at, doc)
    return Change(f"compute.begin_create_or_update({doc['name']})", sent, changed=bool(sent), result=_read(at, doc))


def find(at: Workspace) -> Cluster | None:
    """Return the cluster as Azure sees it now (None when neither AKS nor compute exists); state says what is missing."""
    doc = files.cluster()
    attached, own = _attached(at, doc["name"]), None if doc["existing_resource_id"] else _aks(at, doc["name"])
    return None if attached is None and own is None else _cluster(at, doc, attached, own)


def tls() -> str:
    """Return how requests reach prod, as environment_setup/cluster.yml says: https, or a warning."""
    return "https" if files.cluster()["ssl_enabled"] else f"WARNING: {PLAIN_HTTP}"


def detach(at: Workspace) -> Change[str]:
    """Make the cluster no compute of the workspace; one that somebody else attached is refused with PlatformError."""
    doc = files.cluster()
    name = str(doc["name"])
    look = at.at.look(f"compute show --name {name}")
    seconds = settle(lambda: state_of(_attached(at, name)), workspace.DELETION, f"the attached compute {name}", look)
    attached = _attached(at, name)
    call = f"compute.begin_delete({name}, Detach)"
    if attached is None:
        return Change(call, {}, changed=False, result="detached")
    own = None if doc["existing_resource_id"] else _aks(at, name)
    if not ours(attached.tags) or (own and not ours(own.tags)):
        raise PlatformError(_foreign(name))
    with explaining(f"detaching {name}"):
        poller = at.ml.compute.begin_delete(name, action="Detach")
        wait(poller, seconds, f"detaching {name}", look)
    state = "detached" if _attached(at, name) is None else "attached"
    return Change(call, {}, changed=True, result=state)


def delete(at: Workspace) -> Change[None]:
    """Make the AKS cluster not exist when it is ours; an existing one stays. Refused while it is attached, or foreign."""
    doc = files.cluster()
    name = str(doc["name"])
    call = f"managed_clusters.begin_delete({name})"
    if doc["existing_resource_id"]:
        return Change(call, {}, changed=False, result=None)
    look = _look(at, name)
    seconds = settle(lambda: state_of(_aks(at, name)), workspace.DELETION, f"the AKS cluster {name}", look)
    own = _aks(at, name)
    if own is None:
        return Change(call, {}, changed=False, result=None)
    if not ours(own.tags):
        raise PlatformError(_foreign(name))
    if _attached(at, name) is not None:
        raise PlatformError(f"The cluster {name} is still attached to the workspace.\nNext: detach it first.")
    with explaining(f"deleting the AKS cluster {name}"):
        poller = at.aks.managed_clusters.begin_delete(at.at.resource_group, name)
        wait(poller, seconds, f"deleting the AKS cluster {name}", look)
    return Change(call, {}, changed=True, result=None)


def resource_id(at: Workspace, doc: Mapping[str, Any]) -> str:
    """Return the AKS cluster's resource id: the existing one's, or that of ours."""
    own = f"{at.at.group_id}/providers/{'/'.join(_PROVIDER)}/{doc['name']}"
    return str(doc["existing_resource_id"] or own)


def _read(at: Workspace, doc: Mapping[str, Any]) -> Cluster:
    own = None if doc["existing_resource_id"] else _aks(at, doc["name"])
    return _cluster(at, doc, _attached(at, doc["name"]), own)


def _cluster(at: Workspace, doc: Mapping[str, Any], attached: Any | None, own: Any | None) -> Cluster:
    room = capacity.of(doc, files.deployment("prod"))
    state = state_word(attached.provisioning_state) if attached else "not attached"
    if attached and own is None and not doc["existing_resource_id"]:
        state = "attached, but its AKS cluster is gone"
    details = {**room.words, "resource": resource_id(at, doc), "namespace": str(doc["namespace"])}
    details["tls"] = tls()
    return Cluster(doc["name"], state, ours(own.tags if own else None), room.fits, details)


def _create_aks(at: Workspace, doc: Mapping[str, Any]) -> dict[str, Any]:
    name = doc["name"]
    look = _look(at, name)
    seconds = settle(lambda: state_of(_aks(at, name)), workspace.CLUSTER, f"the AKS cluster {name}", look)
    present = _aks(at, name)
    if present and not ours(present.tags):
        raise PlatformError(_foreign(name))
    if present and present.properties.provisioning_state == "Succeeded":
        return {}
    entity = aks.cluster(doc, at.location)
    with explaining(f"creating the AKS cluster {name}"):
        if present is None:
            _expect_quota(at, doc)
        poller = at.aks.managed_clusters.begin_create_or_update(at.at.resource_group, name, entity)
        wait(poller, seconds, f"creating the AKS cluster {name}", look)
    return {"cluster": entity.as_dict()}


def _create_extension(at: Workspace, doc: Mapping[str, Any]) -> dict[str, Any]:
    where, name = _where(at, doc), doc["name"]
    look = (
        f"az k8s-extension show --name {EXTENSION} --cluster-type managedClusters --cluster-name {name} "
        f"--resource-group {at.at.resource_group} --query provisioningState"
    )
    what = f"the AzureML extension on {name}"
    seconds = settle(lambda: state_of(_extension(at, where)), workspace.CLUSTER, what, look)
    present = _extension(at, where)
    if present and present.provisioning_state == "Succeeded":
        return {}
    entity = aks.extension(doc, at.location, resource_id(at, doc))
    with explaining(f"installing {what}"):
        poller = at.extensions.extensions.begin_create(*where, entity)
        wait(poller, seconds, f"installing {what}", look)
    sent = body(entity)
    sent["properties"].pop("configurationProtectedSettings", None)
    return {"extension": sent}


def _create_namespace(at: Workspace, doc: Mapping[str, Any]) -> dict[str, Any]:
    from azure.mgmt.containerservice.models import RunCommandRequest

    if _attached(at, doc["name"]):
        return {}
    # Attaching neither makes nor checks the namespace. AKS runs the command inside the cluster: no kubectl, no kubeconfig.
    command = f"kubectl create namespace {doc['namespace']} --dry-run=client -o yaml | kubectl apply -f -"
    what = f"creating the namespace {doc['namespace']} on {doc['name']}"
    with explaining(what):
        request = RunCommandRequest(command=command)
        poller = at.aks.managed_clusters.begin_run_command(at.at.resource_group, doc["name"], request)
        result = wait(poller, workspace.COMPUTE, what, _look(at, doc["name"]))
    if result.exit_code != 0:
        raise PlatformError(f"{what}: exit code {result.exit_code}, expected 0.", result.logs or "")
    return {"namespace": {"command": command}}


def _attach(at: Workspace, doc: Mapping[str, Any]) -> dict[str, Any]:
    name = doc["name"]
    look = at.at.look(f"compute show --name {name}")
    seconds = settle(lambda: state_of(_attached(at, name)), workspace.CLUSTER, f"the attached compute {name}", look)
    present = _attached(at, name)
    if present and not ours(present.tags):
        raise PlatformError(_foreign(name))
    if present and present.provisioning_state == "Succeeded" and present.namespace == doc["namespace"]:
        return {}
    entity = aks.compute(doc, resource_id(at, doc))
    with explaining(f"attaching {name} to the workspace"):
        poller = at.ml.compute.begin_create_or_update(entity)
        wait(poller, seconds, f"attaching {name} to the workspace", look)
    return {"compute": body(entity._to_rest_object())}


def _expect_extension(at: Workspace, doc: Mapping[str, Any]) -> None:
    parts = str(doc["existing_resource_id"]).split("/")
    group, name = parts[4], parts[-1]
    with explaining(f"reading the extensions of {name}"):
        kinds = {str(e.extension_type).lower() for e in at.extensions.extensions.list(group, *_PROVIDER, name)}
    if aks.EXTENSION_TYPE.lower() not in kinds:
        raise PlatformError(
            f"The existing cluster {name} has no AzureML extension, and nothing is installed on a cluster that is not "
            f"ours.\nNext: az k8s-extension create --name azureml --extension-type {aks.EXTENSION_TYPE} --cluster-type "
            f"managedClusters --cluster-name {name} --resource-group {group} --scope cluster --config "
            "enableInference=True inferenceRouterServiceType=LoadBalancer allowInsecureConnections=True"
        )


def _expect_quota(at: Workspace, doc: Mapping[str, Any]) -> None:
    needed = int(doc["node_count"]) * int(doc["node_vcpus"])
    family = capacity.family(doc["node_size"]).lower()
    for usage in at.usages():
        name, left = str(usage["name"]["value"]).lower(), int(usage["limit"]) - int(usage["currentValue"])
        if name in ("cores", family) and left < needed:
            raise PlatformError(
                f"The cluster {doc['name']} needs {needed} vCPUs; the quota {usage['name']['value']} in {at.location} has "
                f"{left} of {usage['limit']} left.\nNext: az vm list-usage --location {at.location} --output table, then "
                "ask for more quota or name a smaller node_size in environment_setup/cluster.yml."
            )


def _attached(at: Workspace, name: str) -> Any | None:
    try:
        with explaining(f"reading the attached compute {name}"):
            return at.ml.compute.get(name)
    except NotFound:
        return None


def _aks(at: Workspace, name: str) -> Any | None:
    try:
        with explaining(f"reading the AKS cluster {name}"):
            return at.aks.managed_clusters.get(at.at.resource_group, name)
    except NotFound:
        return None


def _extension(at: Workspace, where: tuple[str, ...]) -> Any | None:
    try:
        with explaining(f"reading the AzureML extension of {where[-2]}"):
            return at.extensions.extensions.get(*where)
    except NotFound:
        return None


def _where(at: Workspace, doc: Mapping[str, Any]) -> tuple[str, ...]:
    return (at.at.resource_group, *_PROVIDER, doc["name"], EXTENSION)


def _look(at: Workspace, name: str) -> str:
    return f"az aks show --name {name} --resource-group {at.at.resource_group} --query provisioningState"


def _foreign(name: str) -> str:
    return (
        f"The cluster {name} exists and does not carry the tag {OWNER_TAG}: somebody else made it, so it is left alone.\n"
        "Next: name it as existing_resource_id in environment_setup/cluster.yml, or choose another name there."
    )
