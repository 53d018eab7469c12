"""The control plane's common manners: operations, errors, plain resources, versions of assets."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from azure_standin.state import LOCATION, SUBSCRIPTION, State
from azure_standin.wire import Request, Response, error

ARM = "https://management.azure.com"
Ready = Callable[[dict[str, Any]], Any]


def not_found(path: str) -> Response:
    """Return ARM's 404."""
    return error(404, "ResourceNotFound", f"The resource {path} was not found.")


def accepted(state: State, path: str, work: Callable[[], Any], body: Any, status: int, kind: str) -> Response:
    """Start an operation and return the response that tells the client where to ask for its progress.

    ``kind`` is mfe or compute: the two families differ in their addresses only.
    """
    identity = state.start(path, work)
    base = f"{ARM}/subscriptions/{SUBSCRIPTION}/providers/Microsoft.MachineLearningServices/locations/{LOCATION}"
    suffix = f"{identity}?api-version=2022-02-01-preview"
    headers = {"Azure-AsyncOperation": f"{base}/{kind}OperationsStatus/{suffix}", "x-ms-retry-after-ms": "100"}
    if status == 202 and kind == "mfe":
        headers["Location"] = f"{base}/mfeOperationResults/{suffix}"
    return Response(status, copy.deepcopy(body), headers)


def operation(state: State, request: Request) -> Response:
    """Answer how far an operation is (OperationsStatus) or what came of it (OperationResults)."""
    identity = request.path.rsplit("/", 1)[-1]
    found = state.operations.get(identity)
    if found is None:
        return not_found(request.path)
    if "results" in request.path.lower():
        return Response(200, found.result if found.status == "Succeeded" else None)
    body = {"id": request.path, "name": identity, "status": found.status}
    return Response(200, {**body, "error": found.error} if found.error else body, {"x-ms-retry-after-ms": "100"})


def create(state: State, request: Request, body: dict[str, Any], work: Ready, kind: str = "mfe") -> Response:
    """Keep a resource as Creating (or Updating), run ``work`` on it, then call it Succeeded."""
    fresh = state.get(request.path) is None
    body["properties"]["provisioningState"] = "Creating" if fresh else "Updating"
    resource = state.put(request.path, body)

    def finish() -> None:
        work(resource)
        resource["properties"]["provisioningState"] = "Succeeded"

    return accepted(state, request.path, finish, resource, 201 if fresh else 200, kind)


def delete(state: State, request: Request, work: Callable[[], Any] = lambda: None, kind: str = "mfe") -> Response:
    """Delete a resource and everything below it; one that is not there is 204, as in ARM."""
    resource = state.get(request.path)
    if resource is None:
        return Response(204)
    resource.setdefault("properties", {})["provisioningState"] = "Deleting"

    def finish() -> None:
        work()
        state.remove(request.path)

    return accepted(state, request.path, finish, None, 202, kind)


def plain(state: State, request: Request) -> Response:
    """Answer GET of a resource or of a collection."""
    found = state.get(request.path)
    return Response(200, copy.deepcopy(found)) if found else not_found(request.path)


def listing(state: State, request: Request) -> Response:
    """Answer GET of a collection, newest first where the client asks for it, and as many as it asks for."""
    found = copy.deepcopy(state.below(request.path))
    if request.query.get("$orderBy", "").endswith("desc"):
        found.reverse()
    most = int(request.query.get("$top") or len(found) or 1)
    return Response(200, {"value": found[:most]})


def fake_network(resource: dict[str, Any]) -> None:
    """Do nothing: making the resource takes no work here."""
