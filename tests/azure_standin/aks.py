"""AKS, its extensions, commands run inside it, and the region's vCPU quota."""

from __future__ import annotations

import re
from typing import Any

from azure_standin import arm
from azure_standin.state import LOCATION, SUBSCRIPTION, State
from azure_standin.wire import Request, Response, error

_CORES = {"Standard_D4s_v5": 4, "Standard_D2s_v5": 2}


def put_cluster(state: State, request: Request) -> Response:
    """Create a cluster, if the quota allows its nodes."""
    body: dict[str, Any] = request.json
    wanted = sum(p["count"] * _CORES.get(p["vmSize"], 4) for p in body["properties"]["agentPoolProfiles"])
    if wanted > state.faults.quota_left:
        message = f"Provisioning of resource(s) failed: {wanted} cores exceed the regional quota of {state.faults.quota_left}."
        return error(400, "QuotaExceeded", message)
    body["namespaces"] = ["default", "kube-system"]
    return _create(state, request, body)


def put_extension(state: State, request: Request) -> Response:
    """Install an extension; what is protected is never shown again."""
    body: dict[str, Any] = request.json
    body["properties"]["configurationProtectedSettings"] = {}
    return _create(state, request, body)


def run_command(state: State, request: Request) -> Response:
    """Run the one command that is known here: creating a namespace."""
    cluster = state.get(request.path.rsplit("/", 1)[0])
    if cluster is None:
        return arm.not_found(request.path)
    command = request.json["command"]
    found = re.match(r"kubectl create namespace ([a-z0-9-]+) --dry-run=client -o yaml \| kubectl apply -f -$", command)
    if found and found[1] not in cluster["namespaces"]:
        cluster["namespaces"].append(found[1])
    code = 0 if found else 127
    logs = f"namespace/{found[1]} created" if found else f"the stand-in does not know: {command}"
    result = {"id": "command-1", "properties": {"provisioningState": "Succeeded", "exitCode": code, "logs": logs}}
    return Response(200, result)


def usages(state: State, request: Request) -> Response:
    """Answer what is left of the vCPU quota."""
    names = ("cores", "standardDSv5Family", "standardFSv2Family")
    limit = 100
    rows = [
        {
            "unit": "Count", "currentValue": limit - state.faults.quota_left, "limit": limit,
            "name": {"value": n, "localizedValue": n},
        }
        for n in names
    ]  # fmt: skip
    return Response(200, {"value": rows})


def delete(state: State, request: Request) -> Response:
    """Delete a cluster or an extension."""
    return _with_status_here(arm.delete(state, request))


def _create(state: State, request: Request, body: dict[str, Any]) -> Response:
    return _with_status_here(arm.create(state, request, body, arm.fake_network))


def _with_status_here(response: Response) -> Response:
    # AKS keeps its operations under its own provider; without a Location the client stops at the status.
    headers = {k: v for k, v in response.headers.items() if k != "Location"}
    own = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.ContainerService/locations/{LOCATION}/operations/"
    address = headers.get("Azure-AsyncOperation", "")
    headers["Azure-AsyncOperation"] = re.sub(r"/subscriptions/.*OperationsStatus/", own, address)
    return Response(response.status, response.body, headers)
