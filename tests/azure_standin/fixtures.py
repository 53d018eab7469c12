"""One stand-in of Azure for all tests of the azure platform, emptied before each of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from azure_standin import azurite
from azure_standin.standin import KNOWN, StandIn
from runbook.platform.azure import AzurePlatform
from runbook.platform.base import Change, ModelVersion


def pytest_configure(config: pytest.Config) -> None:
    for module in ("azure", "marshmallow"):
        config.addinivalue_line("filterwarnings", f"ignore::DeprecationWarning:{module}")


@dataclass(frozen=True)
class Candidate:
    """A trained model on disk, as a job would have left it."""

    source: str
    digest: str


@pytest.fixture(scope="session")
def _standin() -> Iterator[StandIn]:
    missing = azurite.missing()
    if missing:
        pytest.skip(missing)
    with StandIn() as running:
        yield running


@pytest.fixture
def standin(_standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    _standin.reset()
    for name in [n for n in os.environ if n.startswith(("AZURE", "SYSTEM_", "MLFLOW_", "IDENTITY_", "MSI_"))]:
        monkeypatch.delenv(name)
    for name, value in _standin.environment().items():
        monkeypatch.setenv(name, value)
    yield _standin
    assert not _standin.unexpected()
    assert [v for v in _standin.violations if v not in KNOWN] == []


@pytest.fixture
def azure(standin: StandIn) -> AzurePlatform:
    return AzurePlatform()


def make_cluster(azure: AzurePlatform) -> list[Change[Any]]:
    """Make and attach the cluster as 50_create_cluster does, and return what each verb did."""
    return [azure.create_cluster(), azure.install_extension(), azure.create_namespace(), azure.attach_cluster()]


@pytest.fixture
def candidate(tmp_path: Path) -> Candidate:
    """Answers the sigmoid of the mean of a passenger's known numbers: a model whose answers a test can foresee."""
    folder = tmp_path / "model"
    folder.mkdir()
    passenger = helper.make_tensor_value_info("passenger", TensorProto.FLOAT, [None, 7])
    probability = helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None])
    nodes = [
        helper.make_node("IsNaN", ["passenger"], ["unknown"]),
        helper.make_node("Where", ["unknown", "zero", "passenger"], ["known"]),
        helper.make_node("ReduceMean", ["known", "axes"], ["mean"], keepdims=0),
        helper.make_node("Sigmoid", ["mean"], ["probability"]),
    ]
    constants = [
        helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
        helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
    ]
    graph = helper.make_graph(nodes, "candidate", [passenger], [probability], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    data = model.SerializeToString()
    (folder / "model.onnx").write_bytes(data)
    onnx.checker.check_model(model)
    return Candidate(str(folder), hashlib.sha256(data).hexdigest())


@pytest.fixture
def version(azure: AzurePlatform, candidate: Candidate) -> ModelVersion:
    return azure.register_model("Titanic", candidate.source, candidate.digest, "Titanic survival", {}).result
