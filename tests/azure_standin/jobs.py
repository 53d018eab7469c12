"""Jobs, their run history, and the part of MLflow's protocol that Azure ML speaks."""

from __future__ import annotations

import copy
import re
from typing import Any

from azure_standin import arm, assets
from azure_standin.runner import Runner
from azure_standin.state import State
from azure_standin.wire import Request, Response, error

# The most that one request of MLflow's protocol may hold.
MLFLOW_LIMITS = {"metrics": 1000, "params": 100, "tags": 100}


def put(state: State, runner: Runner, request: Request) -> Response:
    """Submit a command job; a name is given once, and its compute must exist."""
    body: dict[str, Any] = request.json
    properties = body["properties"]
    name = request.path.rsplit("/", 1)[-1]
    if state.get(request.path):
        return error(409, "Conflict", f"The job {name} exists.")
    if state.get(properties.get("computeId", "")) is None:
        return error(400, "UserError", f"The compute {properties.get('computeId')} was not found.")
    for output in (properties.get("outputs") or {}).values():
        if "assetVersion" in output:
            # Microsoft's recording of 2026-03-27 shows this refusal, although the published type allows the member.
            return error(
                400, "UserError", "Could not find member 'assetVersion' on object of type 'UriFolderJobOutput'."
            )
    kept = f"azureml://datastores/workspaceartifactstore/ExperimentRun/dcid.{name}"
    properties["outputs"] = {
        **(properties.get("outputs") or {}),
        "default": {"jobOutputType": "uri_folder", "uri": kept},
    }
    properties["services"] = {
        "Studio": {"jobServiceType": "Studio", "endpoint": f"https://ml.azure.com/runs/{name}"},
        "Tracking": {"jobServiceType": "Tracking", "endpoint": f"azureml://{assets.DATA_PLANE}/mlflow"},
    }
    properties["status"] = "Starting"
    shown = state.put(request.path, body)
    runner.start(request.path)
    return Response(201, copy.deepcopy(shown))


def cancel(state: State, runner: Runner, request: Request) -> Response:
    """Cancel a job."""
    path = request.path.rsplit("/", 1)[0]
    if state.get(path) is None:
        return arm.not_found(path)
    return arm.accepted(state, path, lambda: runner.cancel(path), None, 202, "mfe")


def run_data(state: State, request: Request) -> Response:
    """Answer the run history's view of a job: its error, and no outputs but the default ones."""
    run_id = request.json["runId"]
    document: dict[str, Any] = {"runId": run_id, "outputs": {}}
    if run_id in state.run_errors:
        code, message = state.run_errors[run_id]
        document["error"] = {"error": {"code": code, "message": message}}
    return Response(200, {"runMetadata": document})


def mlflow(state: State, request: Request) -> Response:
    """Answer MLflow's REST protocol, as far as a job's own figures need it; what Azure does not know is 404 here too."""
    call = request.path.split("/api/2.0/mlflow/", 1)[-1]
    if request.headers.get("authorization", "") == "":
        return error(401, "UserError", "No token.")
    if call != "runs/log-batch" or state.faults.mlflow_is_absent or "/mlflow/v2.0/" not in request.path:
        return Response(404, b"")
    if any(len(request.json.get(kind) or []) > most for kind, most in MLFLOW_LIMITS.items()):
        return error(400, "INVALID_PARAMETER_VALUE", "A batch logging request can contain fewer values.")
    figures = state.figures.setdefault(request.json["run_id"], {"metrics": {}, "params": {}, "tags": {}})
    for kind, entries in figures.items():
        entries.update({e["key"]: e["value"] for e in request.json.get(kind) or []})
    return Response(200, {})


def is_mlflow(path: str) -> bool:
    """Whether an address of the data plane is MLflow's."""
    return bool(re.match(r"/mlflow/v[12]\.0/", path))
