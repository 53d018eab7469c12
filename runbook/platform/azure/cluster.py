"""Room of the prod cluster: AKS, the AzureML extension, a namespace, and the compute that attaches it to the workspace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runbook.errors import NotFound, PlatformError
from runbook.platform import files
from runbook.platform.azure import aks, capacity, workspace
from runbook.platform.azure.diagnosis import explaining
from runbook.platform.azure.workspace import Workspace, body, ours, state_word, wait
from runbook.platform.base import OWNER_TAG, Change, Cluster

EXTENSION = "azureml"
_PROVIDER = ("Microsoft.ContainerService", "managedClusters")
PLAIN_HTTP = (
    "requests and keys travel unencrypted on whatever network the cluster is on (ssl_enabled: false, as in the article)"
)


def create(at: Workspace) -> Change[Cluster]:
    """Make the cluster exist and be attached, after checking capacity and quota; an existing one is only attached."""
    doc = files.cluster()
    room = capacity.of(doc, files.deployment("prod"))
    if room.fits < room.needed:
        raise PlatformError(
            f"The cluster {doc['name']} holds {room.fits} replicas; a release needs {room.needed} (blue and green at "
            "their most).\nNext: raise node_count or node_size in environment_setup/cluster.yml."
        )
    sent: dict[str, Any] = {}
    if doc["existing_resource_id"]:
        _expect_extension(at, doc)
    else:
        sent |= _create_aks(at, doc) | _create_extension(at, doc) | _create_namespace(at, doc)
    sent |= _attach(at, doc)
    made = find(at)
    if made is None:
        raise PlatformError(f"The cluster {doc['name']} was attached and cannot be read back.\nNext: run it again.")
    return Change(f"create or attach {doc['name']}", sent, changed=bool(sent), result=made)


def find(at: Workspace) -> Cluster | None:
    """Return the cluster as Azure sees it now (None when neither AKS nor compute exists); state says what is missing."""
    doc = files.cluster()
    attached, own = _attached(at, doc["name"]), None if doc["existing_resource_id"] else _aks(at, doc["name"])
    if attached is None and own is None:
        return None
    room = capacity.of(doc, files.deployment("prod"))
    state = state_word(attached.provisioning_state) if attached else "not attached"
    if attached and own is None and not doc["existing_resource_id"]:
        state = "attached, but its AKS cluster is gone"
    details = {**room.words, "resource": resource_id(at, doc), "namespace": str(doc["namespace"])}
    details["tls"] = tls()
    return Cluster(doc["name"], state, ours(own.tags if own else None), room.fits, details)


def tls() -> str:
    """Return how requests reach prod, as environment_setup/cluster.yml says: https, or a warning."""
    return "https" if files.cluster()["ssl_enabled"] else f"WARNING: {PLAIN_HTTP}"


def delete(at: Workspace) -> Change[None]:
    """Detach the compute, then delete the AKS cluster if it is ours; an existing one stays. Foreign ones are refused."""
    doc = files.cluster()
    name, done = str(doc["name"]), []
    attached, own = _attached(at, name), None if doc["existing_resource_id"] else _aks(at, name)
    if (attached and not ours(attached.tags)) or (own and not ours(own.tags)):
        raise PlatformError(_foreign(name))
    if attached:
        with explaining(f"detaching {name}"):
            poller = at.ml.compute.begin_delete(name, action="Detach")
            wait(poller, workspace.DELETION, f"detaching {name}")
        done.append(f"compute.begin_delete({name}, Detach)")
    if own:
        with explaining(f"deleting the AKS cluster {name}"):
            poller = at.aks.managed_clusters.begin_delete(at.at.resource_group, name)
            wait(poller, workspace.DELETION, f"deleting the AKS cluster {name}")
        done.append(f"managed_clusters.begin_delete({name})")
    return Change(", ".join(done) or f"delete {name}", {}, changed=bool(done), result=None)


def resource_id(at: Workspace, doc: Mapping[str, Any]) -> str:
    """Return the AKS cluster's resource id: the existing one's, or that of ours."""
    own = f"{at.at.group_id}/providers/{'/'.join(_PROVIDER)}/{doc['name']}"
    return str(doc["existing_resource_id"] or own)


def _create_aks(at: Workspace, doc: Mapping[str, Any]) -> dict[str, Any]:
    name, present = doc["name"], _aks(at, doc["name"])
    if present and not ours(present.tags):
        raise PlatformError(_foreign(name))
    if present and present.properties.provisioning_state == "Succeeded":
        return {}
    entity = aks.cluster(doc, at.location)
    with explaining(f"creating the AKS cluster {name}"):
        if present is None:
            _expect_quota(at, doc)
        poller = at.aks.managed_clusters.begin_create_or_update(at.at.resource_group, name, entity)
        wait(poller, workspace.CLUSTER, f"creating the AKS cluster {name}")
    return {"cluster": entity.as_dict()}


def _create_extension(at: Workspace, doc: Mapping[str, Any]) -> dict[str, Any]:
    where = (at.at.resource_group, *_PROVIDER, doc["name"], EXTENSION)
    present = _extension(at, where)
    if present and present.provisioning_state == "Succeeded":
        return {}
    entity = aks.extension(doc, at.location, resource_id(at, doc))
    with explaining(f"installing the AzureML extension on {doc['name']}"):
        poller = at.extensions.extensions.begin_create(*where, entity)
        wait(poller, workspace.CLUSTER, f"installing the AzureML extension on {doc['name']}")
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
        result = wait(poller, workspace.COMPUTE, what)
    if result.exit_code != 0:
        raise PlatformError(f"{what}: exit code {result.exit_code}, wanted 0.", result.logs or "")
    return {"namespace": {"command": command}}


def _attach(at: Workspace, doc: Mapping[str, Any]) -> dict[str, Any]:
    name, present = doc["name"], _attached(at, doc["name"])
    if present and not ours(present.tags):
        raise PlatformError(_foreign(name))
    if present and present.provisioning_state == "Succeeded" and present.namespace == doc["namespace"]:
        return {}
    entity = aks.compute(doc, resource_id(at, doc))
    with explaining(f"attaching {name} to the workspace"):
        poller = at.ml.compute.begin_create_or_update(entity)
        wait(poller, workspace.CLUSTER, f"attaching {name} to the workspace")
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


def _foreign(name: str) -> str:
    return (
        f"The cluster {name} exists and does not carry the tag {OWNER_TAG}: somebody else made it, so it is left alone.\n"
        "Next: name it as existing_resource_id in environment_setup/cluster.yml, or choose another name there."
    )
