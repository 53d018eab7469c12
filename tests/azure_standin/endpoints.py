"""Online endpoints and their deployments, with the states in which Azure refuses a change."""

from __future__ import annotations

import secrets
from typing import Any

from azure_standin import arm
from azure_standin.serving import Serving
from azure_standin.state import OperationFailed, State
from azure_standin.wire import Request, Response, error

_SETTLED = ("Succeeded", "Failed", "Canceled")


def put(state: State, request: Request, front: str, keys: dict[str, tuple[str, str]]) -> Response:
    """Create an endpoint, or change its traffic and tags; ``front`` is where scoring addresses begin."""
    body: dict[str, Any] = request.json
    present, name = state.get(request.path), request.path.rsplit("/", 1)[-1]
    busy = _busy(present)
    if busy:
        return busy
    properties = body["properties"]
    wrong = _wrong_traffic(state, request.path, properties.get("traffic") or {}, present is None)
    if wrong:
        return wrong
    if properties.get("compute") and state.get(properties["compute"]) is None:
        return error(400, "UserError", f"The compute {properties['compute']} was not found.")
    keys.setdefault(request.path.lower(), (secrets.token_hex(16), secrets.token_hex(16)))
    properties.pop("keys", None)
    before = (present or {}).get("properties", {})
    addresses = {k: before.get(k) for k in ("scoringUri", "swaggerUri")}
    body["properties"] = {**properties, **addresses}

    def finish(resource: dict[str, Any]) -> None:
        # Until the endpoint is ready Azure shows no address.
        base = f"{front}/api/v1/endpoint/{name}" if properties.get("compute") else f"{front}/managed/{name}"
        resource["properties"] |= {"scoringUri": f"{base}/score", "swaggerUri": f"{base}/swagger.json"}

    return arm.create(state, request, body, finish)


def delete(state: State, serving: Serving, request: Request) -> Response:
    """Delete an endpoint with its deployments."""

    def work() -> None:
        for deployment in state.below(f"{request.path}/deployments"):
            serving.stop(deployment["id"])

    return arm.delete(state, request, work)


def list_keys(request: Request, keys: dict[str, tuple[str, str]]) -> Response:
    """Answer both keys."""
    found = keys.get(request.path.rsplit("/", 1)[0].lower())
    return Response(200, {"primaryKey": found[0], "secondaryKey": found[1]}) if found else arm.not_found(request.path)


def put_deployment(state: State, serving: Serving, request: Request) -> Response:
    """Create or change a deployment: one replica must come up with the given code and model."""
    endpoint_path = request.path.split("/deployments/")[0]
    endpoint = state.get(endpoint_path)
    if endpoint is None:
        return arm.not_found(endpoint_path)
    busy = _busy(endpoint) or _busy(state.get(request.path))
    if busy:
        return busy
    body: dict[str, Any] = request.json
    body["properties"].setdefault("scaleSettings", {"scaleType": "Default"})

    def work(resource: dict[str, Any]) -> None:
        try:
            serving.start(request.path, resource["properties"])
        except OperationFailed:
            resource["properties"]["provisioningState"] = "Failed"
            raise

    return arm.create(state, request, body, work)


def delete_deployment(state: State, serving: Serving, request: Request) -> Response:
    """Delete a deployment; one that has traffic is refused."""
    endpoint = state.get(request.path.split("/deployments/")[0])
    share = ((endpoint or {}).get("properties", {}).get("traffic") or {}).get(request.path.rsplit("/", 1)[-1])
    if share:
        return error(400, "UserError", f"The deployment has {share} % of the traffic.")
    return arm.delete(state, request, lambda: serving.stop(request.path))


def logs(serving: Serving, request: Request) -> Response:
    """Answer the last lines of a container's log."""
    path = serving.logs.get(request.path.rsplit("/", 1)[0].lower())
    wanted = request.json or {}
    if wanted.get("containerType") == "StorageInitializer":
        return Response(200, {"content": "code and model were copied"})
    text = path.read_text(errors="replace") if path and path.exists() else ""
    return Response(200, {"content": "\n".join(text.splitlines()[-int(wanted.get("tail") or 50) :])})


def _busy(resource: dict[str, Any] | None) -> Response | None:
    state = (resource or {}).get("properties", {}).get("provisioningState", "Succeeded")
    if state in _SETTLED:
        return None
    return error(409, "ResourceBusy", f"There is an operation in progress on the resource: it is {state}.")


def _wrong_traffic(state: State, path: str, traffic: dict[str, int], fresh: bool) -> Response | None:
    shares = {k: v for k, v in traffic.items() if v}
    if fresh and shares:
        return error(400, "UserError", "Traffic cannot be set when the endpoint is created.")
    missing = [n for n in shares if state.get(f"{path}/deployments/{n}") is None]
    if missing or sum(shares.values()) not in (0, 100):
        return error(400, "UserError", f"Traffic {traffic}: the sum must be 0 or 100, missing deployments: {missing}.")
    return None
