"""score.py as it is served: inside Microsoft's scoring server, over a unix socket."""

from __future__ import annotations

import ast
import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from workbench import cells

from runbook import paths
from runbook.lint import swagger
from runbook.modelling import dataset, onnx_model
from runbook.modelling import request as contract
from runbook.testing.bad_requests import bad_requests

ROW = dict(contract.EXAMPLE)
BAD = list(bad_requests())
JSON = {"Content-Type": "application/json"}
START_S = 120.0


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Server:
    path: Path
    onnx_file: bytes

    def ask(self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Reply:
        connection = http.client.HTTPConnection("localhost", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.connect(str(self.path))
        with contextlib.closing(connection):
            connection.request(method, target, body, headers or {})
            reply = connection.getresponse()
            return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())

    def score(self, document: Any) -> Reply:
        return self.ask("POST", "/score", json.dumps(document).encode(), JSON)


def start(folder: Path, digest: str, version: str = "7") -> subprocess.Popen[bytes]:
    environment = {
        "PATH": os.defpath,
        "HOME": str(folder),
        "AML_APP_ROOT": str(paths.DEPLOYMENT),
        "AZUREML_ENTRY_SCRIPT": "score.py",
        "AZUREML_MODEL_DIR": str(folder / "model"),
        "MODEL_SHA256": digest,
        "MODEL_VERSION": version,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    application = "azureml_inference_server_http.server.entry:app"
    options = ["--bind", f"unix:{folder / 'socket'}", "--workers", "1", "--no-control-socket"]
    command = [sys.executable, "-P", "-m", "gunicorn", *options, application]
    log = (folder / "log").open("ab")
    return subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT)


def wait_until_ready(process: subprocess.Popen[bytes], server: Server) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if server.ask("GET", "/").status == 200:
                return
        time.sleep(0.1)
    raise AssertionError((server.path.parent / "log").read_text())


def made_of(age: float) -> bytes:
    """A model that answers 0.5 + Age * ``age``: NaN for an age that is null."""
    place = list(contract.FIELDS).index("Age")
    weights = np.zeros((7, 1), np.float32)
    weights[place] = age
    nodes = [
        onnx.helper.make_node("MatMul", [onnx_model.INPUT, "weights"], ["product"]),
        onnx.helper.make_node("Squeeze", ["product", "axis"], ["flat"]),
        onnx.helper.make_node("Add", ["flat", "half"], [onnx_model.OUTPUT]),
    ]
    constants = [
        onnx.numpy_helper.from_array(weights, "weights"),
        onnx.numpy_helper.from_array(np.array([1]), "axis"),
        onnx.numpy_helper.from_array(np.array(0.5, np.float32), "half"),
    ]
    given = onnx.helper.make_tensor_value_info(onnx_model.INPUT, onnx.TensorProto.FLOAT, [None, 7])
    answer = onnx.helper.make_tensor_value_info(onnx_model.OUTPUT, onnx.TensorProto.FLOAT, [None])
    graph = onnx.helper.make_graph(nodes, onnx_model.GRAPH, [given], [answer], constants)
    opsets = [onnx.helper.make_opsetid("", 21)]
    return bytes(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


def last_words(folder: Path, digest: str, version: str = "7") -> str:
    """The log of a server that ended by itself, and not well."""
    process = start(folder, digest, version)
    try:
        assert process.wait(START_S) != 0
    finally:
        process.kill()
    return (folder / "log").read_text()


@pytest.fixture(scope="module")
def onnx_file() -> bytes:
    pipeline = cells()["logistic_regression"].fit(cells()["rows"], cells()["outcomes"])
    return onnx_model.export(pipeline)


@pytest.fixture
def folder(onnx_file: bytes) -> Iterator[Path]:
    # Not pytest's tmp_path: a unix socket's address must stay below 108 bytes.
    path = Path(tempfile.mkdtemp(prefix="score-"))
    (path / "model" / "model").mkdir(parents=True)
    (path / "model" / "model" / "model.onnx").write_bytes(onnx_file)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def server(onnx_file: bytes) -> Iterator[Server]:
    path = Path(tempfile.mkdtemp(prefix="score-"))
    (path / "model" / "model").mkdir(parents=True)
    (path / "model" / "model" / "model.onnx").write_bytes(onnx_file)
    running = Server(path / "socket", onnx_file)
    process = start(path, dataset.digest(onnx_file))
    try:
        wait_until_ready(process, running)
        yield running
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(path)


def test_the_articles_payload_is_answered_with_the_three_fields(server: Server) -> None:
    reply = server.score({**ROW, "Embarked": 2})
    assert reply.status == 200
    assert set(reply.document) == {"prediction", "probability", "model_version"}
    assert (reply.document["prediction"], reply.document["model_version"]) == (1, "7")
    assert 0.5 <= reply.document["probability"] <= 1
    assert reply.headers["content-type"] == "application/json"


def test_mr_kelly_dies(server: Server) -> None:
    kelly = {"Pclass": 3, "Sex": 1, "Age": 34.5, "SibSp": 0, "Parch": 0, "Fare": 7.8292, "Embarked": 2}
    assert server.score(kelly).document["prediction"] == 0


def test_a_list_is_answered_by_a_list_of_the_models_own_probabilities(server: Server) -> None:
    rows = onnx_model.edge_rows()[:: len(onnx_model.edge_rows()) // 1_000][:1_000]
    passengers = [
        {
            f: None if np.isnan(v) else float(v) if f in ("Age", "Fare") else int(v)
            for f, v in zip(contract.FIELDS, row, strict=True)
        }
        for row in rows
    ]
    answers = server.score(passengers).document
    assert len(answers) == 1_000
    assert np.allclose([a["probability"] for a in answers], onnx_model.predict(server.onnx_file, rows), atol=1e-6)
    assert all(a["prediction"] == int(a["probability"] >= 0.5) for a in answers)


@pytest.mark.parametrize("field", ["Age", "Fare", "Embarked"])
def test_a_null_is_scored(server: Server, field: str) -> None:
    reply = server.score({**ROW, field: None})
    assert reply.status == 200
    assert 0 <= reply.document["probability"] <= 1


@pytest.mark.parametrize("bad", BAD, ids=[b.name for b in BAD])
def test_a_bad_request_gets_its_status_and_an_error_body(server: Server, bad: Any) -> None:
    reply = server.ask("POST", "/score", bad.body, JSON)
    assert (reply.status, reply.document["error"]["field"]) == (bad.status, bad.field)
    assert reply.headers["content-type"] == "application/json"
    assert b"Traceback" not in reply.body


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_another_method_is_405_and_says_which_is_allowed(server: Server, method: str) -> None:
    reply = server.ask(method, "/score")
    assert (reply.status, reply.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
def test_a_body_that_does_not_claim_to_be_json_is_415(server: Server, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    reply = server.ask("POST", "/score", json.dumps(ROW).encode(), headers)
    assert (reply.status, reply.document["error"]["code"]) == (415, "unsupported_media_type")


def test_a_content_type_with_a_charset_is_accepted(server: Server) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert server.ask("POST", "/score", json.dumps(ROW).encode(), headers).status == 200


def test_ten_megabytes_are_refused_with_an_answer(server: Server) -> None:
    assert server.ask("POST", "/score", b" " * 10_000_000, JSON).status == 413


def test_a_hundred_requests_at_once_are_answered_alike(server: Server) -> None:
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: server.score(ROW), range(100)))
    assert {r.status for r in replies} == {200}
    assert len({r.body for r in replies}) == 1


def test_the_server_hands_out_the_committed_swagger(server: Server) -> None:
    assert server.ask("GET", "/swagger.json").document == swagger.swagger()


@pytest.mark.parametrize("digest", ["", "0" * 64], ids=["no digest", "another digest"])
def test_a_model_whose_digest_is_not_the_wanted_one_is_never_served(folder: Path, digest: str) -> None:
    assert "expected sha256" in last_words(folder, digest)


def test_a_model_without_a_version_is_never_served(folder: Path, onnx_file: bytes) -> None:
    assert "expected sha256" in last_words(folder, dataset.digest(onnx_file), version="")


def test_a_second_model_beside_the_first_is_never_served(folder: Path, onnx_file: bytes) -> None:
    (folder / "model" / "model.onnx").write_bytes(onnx_file)
    assert "2 files named model.onnx" in last_words(folder, dataset.digest(onnx_file))


def test_the_threshold_itself_is_the_verdict_1_and_what_is_no_probability_is_never_answered(folder: Path) -> None:
    made = made_of(age=0.0)
    (folder / "model" / "model" / "model.onnx").write_bytes(made)
    running = Server(folder / "socket", made)
    process = start(folder, dataset.digest(made))
    try:
        wait_until_ready(process, running)
        answer = running.score(ROW)
        assert (answer.document["prediction"], answer.document["probability"]) == (1, 0.5)

        # One null age makes one answer NaN, which is never sent, neither alone nor in a list.
        for body in ({**ROW, "Age": None}, [ROW, {**ROW, "Age": None}]):
            refused = running.score(body)
            assert refused.status == 500
            assert b"prediction" not in refused.body
        assert running.score(ROW).status == 200
    finally:
        process.terminate()
        process.wait(30)


def test_a_model_that_answers_more_than_1_is_never_served(folder: Path) -> None:
    made = made_of(age=1.0)
    (folder / "model" / "model" / "model.onnx").write_bytes(made)
    assert "expected probabilities from 0 to 1" in last_words(folder, dataset.digest(made))


def test_scoring_needs_no_training_library_and_nothing_that_unpickles() -> None:
    tree = ast.parse((paths.DEPLOYMENT / "score.py").read_text())
    imported = {(n.module or "").split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    imported |= {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    third_party = {"msgspec", "numpy", "onnxruntime", "azureml_inference_server_http", "decode", "request"}
    assert imported - sys.stdlib_module_names == third_party
    assert not imported & {"pickle", "marshal", "shelve"}
