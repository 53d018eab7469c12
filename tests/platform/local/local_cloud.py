"""A local platform with a small scoring script of its own, for the tests of the local target."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook import paths
from runbook.platform.base import ModelVersion, Stage
from runbook.platform.local import LocalPlatform
from runbook.platform.local.controller import state
from runbook.platform.local.state_dir import Home

SHIPPED = paths.DEPLOYMENT
APP = """\
import json, os, re, threading, time
import flask
from azureml_inference_server_http.api.aml_response import AMLResponse

def init():
    if os.environ.get("FAIL"):
        raise RuntimeError("this init was told to fail")

def run(raw):
    wish = json.loads(raw) if raw else {}
    time.sleep(wish.get("sleep", 0))
    while "spin" in wish:
        pass
    if "spin_later" in wish:
        # A hopeless regular expression keeps the whole process from running anything else.
        threading.Timer(0.5, re.match, ["(a+)+$", "a" * 60 + "b"]).start()
    if "exit" in wish:
        os._exit(1)
    if "raise" in wish:
        raise ValueError("this run was told to raise")
    if "status" in wish:
        return AMLResponse({"said": wish["status"]}, wish["status"], json_str=True)
    return {"version": os.environ["MODEL_VERSION"], "pid": os.getpid(), "master": os.getppid(),
            "environment": dict(os.environ), "length": len(raw), "headers": list(flask.request.headers)}
"""


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    document: Any
    seconds: float


@dataclass(frozen=True)
class Cloud:
    """``files`` is this cloud's own deployment/ folder; while a test runs, it stands in for the checkout's."""

    platform: LocalPlatform
    files: Path

    def edit(self, stage: str, **changes: Any) -> None:
        """Change top-level values of deployment.yml; a mapping is merged into the one that is there."""
        path = self.files / stage / "deployment.yml"
        document = yaml.safe_load(path.read_text())
        for key, value in changes.items():
            document[key] = {**document.get(key, {}), **value} if isinstance(value, dict) else value
        path.write_text(yaml.safe_dump(document))

    def model(self, version: str = "1") -> ModelVersion:
        """Put model files where replicas read them, so that no registry is needed."""
        data = f"model {version}".encode()
        path = self.platform.home.models / "Tiny" / version / "model" / "model.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return ModelVersion("Tiny", version, hashlib.sha256(data).hexdigest(), "", {}, (), "models:/m-none")

    def serve(self, stage: Stage, name: str = "blue", version: str = "1") -> state.Endpoint:
        """Create the endpoint, deploy, and send all traffic there."""
        if stage == "prod":
            self.platform.create_cluster()
        self.platform.create_endpoint(stage)
        self.platform.deploy(stage, name, self.model(version))
        self.platform.set_traffic(stage, {name: 100}, {})
        return self.state(stage)

    def state(self, stage: str) -> state.Endpoint:
        found = state.load(state.path(self.platform.home, f"titanic-{stage}"))
        assert found is not None
        return found

    def post(self, stage: Stage, wish: Any = None, key: str | None = None, path: str = "", **headers: str) -> Reply:
        """Post to the endpoint as a client would; ``key`` None is the primary key, "" sends none."""
        uri = self.state(stage).scoring_uri
        key = self.platform.keys(stage).primary if key is None else key
        sent = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        if key:
            sent["authorization"] = f"Bearer {key}"
        body = wish if isinstance(wish, bytes) else json.dumps(wish or {}).encode()
        request = urllib.request.Request(uri.removesuffix("/score") + path if path else uri, body, sent)
        begin = time.monotonic()
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                status, got, text = answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as refused:
            status, got, text = refused.code, dict(refused.headers), refused.read()
        return Reply(status, got, json.loads(text), time.monotonic() - begin)

    def posts(self, stage: Stage, count: int, wish: Any = None, at_once: int = 8, **headers: str) -> list[Reply]:
        """Post ``count`` times, ``at_once`` in parallel."""
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(lambda _: self.post(stage, wish, **headers), range(count)))


def build(folder: Path) -> Cloud:
    """Make a cloud below ``folder``, with the checkout's YAML files and the small scoring script."""
    files = folder / "deployment"
    for stage in ("dev", "prod"):
        shutil.copytree(SHIPPED / stage, files / stage)
    (files / "score.py").write_text(APP)
    # A home may have any name; the router's configuration must not mind.
    return Cloud(platform(folder / "home of 'mine' # 1"), files)


def platform(at: Path) -> LocalPlatform:
    """Return the local platform with its home at ``at``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNBOOK_HOME", str(at))
        return LocalPlatform()


def eventually(holds: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Wait until ``holds``, at most ``seconds``; returns whether it does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.05)
    return holds()


def listening(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def sockets(of: Home) -> list[Path]:
    return [p for p in of.runtime().rglob("*") if p.is_socket()]
