"""What a replica installs on Azure, installed here: it is enough to serve the model, and no more than that."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from test_score import Server, wait_until_ready
from workbench import cells

from runbook import paths
from runbook.modelling import dataset, onnx_model
from runbook.modelling import request as contract

LOCK = paths.ENVIRONMENT_SETUP / "requirements.lock"
CUMINGS = {"Pclass": 1, "Sex": 0, "Age": 38, "SibSp": 1, "Parch": 0, "Fare": 71.2833, "Embarked": 2}
UV = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}")


def pins() -> list[str]:
    document = yaml.safe_load((paths.DEPLOYMENT / "conda_dependencies.yml").read_text())
    (section,) = [part["pip"] for part in document["dependencies"] if isinstance(part, dict)]
    return list(section)


def uv(*words: str | Path) -> subprocess.CompletedProcess[str]:
    assert UV
    return subprocess.run([UV, *map(str, words)], capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a virtual environment with nothing but the pip section in it."""
    if UV is None:
        pytest.skip("uv is not to be had here")
    folder = tmp_path_factory.mktemp("shipped") / "venv"
    made = uv("venv", "--quiet", "--python", sys.executable, folder)
    assert made.returncode == 0, made.stderr
    installed = uv("pip", "install", "--quiet", "--python", folder / "bin" / "python", *pins())
    if re.search(r"error sending request|dns error|Failed to fetch", installed.stderr):
        pytest.skip(f"the package registry cannot be reached: {installed.stderr.strip().splitlines()[-1]}")
    assert installed.returncode == 0, installed.stderr
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def server(python: Path) -> Iterator[Server]:
    onnx_file = onnx_model.export(cells()["logistic_regression"].fit(cells()["rows"], cells()["outcomes"]))
    # Not pytest's folder: a unix socket's address must stay below 108 bytes.
    folder = Path(tempfile.mkdtemp(prefix="shipped-"))
    (folder / "model").mkdir()
    (folder / "model" / "model.onnx").write_bytes(onnx_file)
    environment = {
        "PATH": os.defpath,
        "HOME": str(folder),
        "AML_APP_ROOT": str(paths.DEPLOYMENT),
        "AZUREML_ENTRY_SCRIPT": "score.py",
        "AZUREML_MODEL_DIR": str(folder / "model"),
        "MODEL_SHA256": dataset.digest(onnx_file),
        "MODEL_VERSION": "7",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    bind = ["--bind", f"unix:{folder / 'socket'}", "--workers", "1", "--no-control-socket"]
    command = [str(python), "-P", "-m", "gunicorn", *bind, "azureml_inference_server_http.server.entry:app"]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    running = Server(folder / "socket", onnx_file)
    try:
        wait_until_ready(process, running)
        yield running
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder)


def test_every_shipped_pin_is_the_locks() -> None:
    locked = re.findall(r"^([\w.-]+==[^ ]+)", LOCK.read_text(), re.MULTILINE)
    assert pins() and set(pins()) <= set(locked)


@pytest.mark.slow
def test_the_shipped_environment_serves_the_articles_payload(server: Server) -> None:
    reply = server.score(CUMINGS)
    assert reply.status == 200
    assert (reply.document["prediction"], reply.document["model_version"]) == (1, "7")


@pytest.mark.slow
def test_the_shipped_environment_scores_as_the_training_environment_does(server: Server) -> None:
    rows = onnx_model.edge_rows()[:1]
    names = contract.FIELDS
    request = {f: float(v) if f in ("Age", "Fare") else int(v) for f, v in zip(names, rows[0], strict=True)}
    wanted = float(onnx_model.predict(server.onnx_file, rows)[0])
    assert server.score(request).document["probability"] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("library", ["pandas", "sklearn", "joblib", "skl2onnx", "runbook"])
def test_the_shipped_environment_has_nothing_to_train_or_unpickle_with(python: Path, library: str) -> None:
    done = subprocess.run([python, "-P", "-c", f"import {library}"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and f"No module named '{library}'" in done.stderr
