"""Serves a deployment's score.py for real, with Microsoft's own scoring server, and routes requests as Azure does."""

from __future__ import annotations

import http.client
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from azure_standin import assets
from azure_standin.azurite import Azurite
from azure_standin.keeper import Keeper
from azure_standin.state import OperationFailed, State
from azure_standin.wire import Request, Response

START_SECONDS = 90.0
PIN, CLIENT_ID, LONGEST_CLIENT_ID = "azureml-model-deployment", "x-ms-client-request-id", 40


@dataclass
class Replica:
    """One running server: its process, its port, and where its log is."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path
    log: Path


@dataclass
class Serving:
    """Every deployment that runs, by its resource's address in lower case; logs outlive a crash."""

    state: State
    blobs: Azurite
    folder: Path
    keeper: Keeper
    replicas: dict[str, Replica] = field(default_factory=dict)
    logs: dict[str, Path] = field(default_factory=dict)

    def start(self, path: str, properties: dict[str, Any]) -> None:
        """Start one replica of a deployment; raises OperationFailed when init does not come to its end."""
        self.stop(path)
        work = Path(tempfile.mkdtemp(prefix="deployment-", dir=self.folder))
        configuration = properties["codeConfiguration"]
        self._fetch(configuration["codeId"], "codeUri", work / "code")
        model = self._fetch(properties["model"], "modelUri", work / "model")
        log, port = work / "server.log", _free_port()
        self.logs[path.lower()] = log
        variables = properties.get("environmentVariables") or {}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    sys.executable, "-m", "gunicorn", "--no-control-socket", "-b", f"127.0.0.1:{port}", "-w",
                    str(variables.get("WORKER_COUNT", 1)), "azureml_inference_server_http.server.entry:app",
                ],
                cwd=work, stdout=output, stderr=output, start_new_session=True,
                env={
                    "PATH": os.environ["PATH"], "HOME": str(work), "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1",
                    "AML_APP_ROOT": str(work / "code"), "AZUREML_ENTRY_SCRIPT": configuration["scoringScript"],
                    "AZUREML_MODEL_DIR": str(model), **variables,
                },
            )  # fmt: skip
        self.keeper.note(process.pid)
        self.replicas[path.lower()] = Replica(process, port, work, log)
        if not _answers(process, port):
            self.stop(path, keep_log=True)
            raise OperationFailed(
                "ResourceNotReady", "User container has crashed or terminated: see the deployment's log."
            )

    def stop(self, path: str, keep_log: bool = False) -> None:
        """End the replica of a deployment, if it has one."""
        replica = self.replicas.pop(path.lower(), None)
        if replica is None:
            return
        replica.process.terminate()
        try:
            replica.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            replica.process.kill()
            replica.process.wait(timeout=10)
        if not keep_log:
            shutil.rmtree(replica.folder, ignore_errors=True)

    def close(self) -> None:
        """End every replica."""
        for path in list(self.replicas):
            self.stop(path)

    def answer(self, endpoint: Mapping[str, Any], keys: tuple[str, str], request: Request, call: str) -> Response:
        """Route one request: the key, then the pinned deployment or one by its share of the traffic, then its status.

        Every answer carries the ids that Azure documents: x-request-id is the service's own, whatever was sent, and the
        client's id comes back cleaned and cut.
        """
        ids = _ids(request)
        response = self._route(endpoint, keys, request, call, ids)
        return replace(response, headers={**response.headers, **ids})

    def _route(
        self, endpoint: Mapping[str, Any], keys: tuple[str, str], request: Request, call: str, ids: Mapping[str, str]
    ) -> Response:
        if request.headers.get("authorization", "") not in {f"Bearer {k}" for k in keys}:
            return Response(401, {"error": {"code": "KeyAuthenticationFailed", "message": "The key is not valid."}})
        traffic = {k: v for k, v in (endpoint["properties"].get("traffic") or {}).items() if v}
        pinned = request.headers.get(PIN)
        if not pinned and not traffic:
            return Response(404, {"error": {"code": "NoDeployment", "message": "No deployment has any traffic."}})
        chosen = pinned or random.choices(list(traffic), list(traffic.values()))[0]  # noqa: S311 - no secret
        replica = self.replicas.get(f"{endpoint['id']}/deployments/{chosen}".lower())
        if replica is None:
            return Response(404, {"error": {"code": "NoDeployment", "message": f"There is no deployment {chosen}."}})
        kubernetes = bool(endpoint["properties"].get("compute"))
        try:
            return _profiled(_forward(replica.port, request, call, ids), kubernetes)
        except (OSError, http.client.HTTPException):
            return Response(
                502 if kubernetes else 424, {"error": {"code": "Upstream", "message": "The replica is gone."}}
            )

    def _fetch(self, identity: str, member: str, into: Path) -> Path:
        asset = self.state.get(identity)
        if asset is None:
            raise OperationFailed("ResourceNotFound", f"{identity} does not exist.")
        container, prefix = assets.locate(asset["properties"][member])
        # Azure lays a model's folder below the model directory under the folder's own name.
        target = into / prefix.rsplit("/", 1)[-1] if member == "modelUri" else into
        if not self.blobs.fetch(container, prefix, target):
            raise OperationFailed("ResourceNotFound", f"{container}/{prefix} holds no file.")
        return into


def _ids(request: Request) -> dict[str, str]:
    """Return the ids of one request: "Request tracing" in Azure ML's "Troubleshoot online endpoints"."""
    sent = re.sub(r"[^A-Za-z0-9_-]", "", request.headers.get(CLIENT_ID, ""))[:LONGEST_CLIENT_ID]
    return {"x-request-id": str(uuid.uuid4())} | ({CLIENT_ID: sent} if sent else {})


def _profiled(answer: tuple[int, bytes, dict[str, str]], kubernetes: bool) -> Response:
    status, content, headers = answer
    kept = {k: v for k, v in headers.items() if k in ("content-type", "x-ms-run-fn-exec-ms", "allow")}
    if kubernetes and status == 500:
        status = 502
    elif not kubernetes and status != 200:
        kept |= {"ms-azureml-model-error-statuscode": str(status), "ms-azureml-model-error-reason": "model_error"}
        status = 424
    return Response(status, content, kept)


def _forward(port: int, request: Request, call: str, ids: Mapping[str, str]) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        passed = {k: v for k, v in request.headers.items() if k in ("content-type", "accept")}
        connection.request(request.method, call, body=request.content or None, headers={**passed, **ids})
        reply = connection.getresponse()
        return reply.status, reply.read(), {k.lower(): v for k, v in reply.getheaders()}
    finally:
        connection.close()


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    ends = time.monotonic() + START_SECONDS
    while time.monotonic() < ends and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/")
            if connection.getresponse().status == 200:
                return True
        except (OSError, http.client.HTTPException):
            time.sleep(0.2)
        finally:
            connection.close()
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
