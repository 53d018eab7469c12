"""Compute targets: AmlCompute is made at once, a Kubernetes compute needs its cluster and the cluster's extension."""

from __future__ import annotations

from typing import Any

from azure_standin import arm
from azure_standin.state import LOCATION, OperationFailed, State
from azure_standin.wire import Request, Response, error


def put(state: State, request: Request) -> Response:
    """Create or change a compute target."""
    body: dict[str, Any] = request.json
    properties = body["properties"]
    if properties["computeType"] == "AmlCompute":
        properties["computeLocation"] = LOCATION
        settings = properties["properties"]
        settings.update({"allocationState": "Steady", "currentNodeCount": 0, "targetNodeCount": 0})
        cores = 2 * settings["scaleSettings"]["maxNodeCount"]
        if cores > state.faults.quota_left:
            return error(400, "ClusterCoreQuotaReached", f"The quota of {state.faults.quota_left} cores is exceeded.")

    def check(resource: dict[str, Any]) -> None:
        if resource["properties"]["computeType"] == "Kubernetes":
            _expect_cluster(state, resource["properties"])

    return arm.create(state, request, body, check, kind="compute")


def delete(state: State, request: Request) -> Response:
    """Delete or detach a compute target; one that endpoints stand on is refused."""
    name = request.path.rsplit("/", 1)[-1].lower()
    for path, endpoint in state.resources.items():
        standing = "/onlineendpoints/" in path and "/deployments/" not in path
        if standing and str(endpoint["properties"].get("compute", "")).lower().endswith(f"/computes/{name}"):
            return error(409, "Conflict", f"The endpoint {endpoint['name']} still stands on the compute {name}.")
    return arm.delete(state, request, kind="compute")


def _expect_cluster(state: State, properties: dict[str, Any]) -> None:
    cluster = properties["resourceId"]
    if state.get(cluster) is None:
        raise OperationFailed("ClusterNotFound", f"{cluster} does not exist.")
    extensions = f"{cluster}/providers/Microsoft.KubernetesConfiguration/extensions"
    kinds = [e["properties"]["extensionType"].lower() for e in state.below(extensions)]
    if "microsoft.azureml.kubernetes" not in kinds:
        raise OperationFailed("ExtensionNotFound", "The AzureML extension is not installed on the cluster.")
    namespace = properties["properties"]["namespace"]
    if namespace not in (state.get(cluster) or {}).get("namespaces", ["default"]):
        raise OperationFailed("NamespaceNotFound", f"The namespace {namespace} does not exist.")
