"""Whole plans through the command line against the stand-in: what becomes of them when something goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import nbformat
import pytest
from azure_standin.fixtures import make_cluster
from azure_standin.standin import StandIn, aimed
from azure_standin.state import GROUP_PATH, WORKSPACE_PATH

from runbook import git, paths
from runbook.engine import manifest, step
from runbook.platform.azure import AzurePlatform, jobs
from runbook.platform.base import Stage

pytest_plugins = ["azure_standin.fixtures"]
pytestmark = [pytest.mark.slow, pytest.mark.whole, pytest.mark.timeout(1200)]

SHORT = ["-f", str(paths.PARAMS / "test.yml")]
COMPUTE = f"{WORKSPACE_PATH}/computes/titanic-train"


def start(standin: StandIn, *words: str, root: Path = paths.ROOT) -> subprocess.Popen[str]:
    """Start the runner of a checkout as a person would, aimed at the stand-in."""
    folders = {n: os.environ[n] for n in ("RUNBOOK_HOME", "RUNBOOK_REPORTS")}
    return subprocess.Popen(
        [sys.executable, "-m", "runbook.cli", *words],
        cwd=root,
        env={**aimed(standin.environment()), **folders, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(started: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = started.communicate(timeout=900)
    return started.returncode, said


def submitted(standin: StandIn) -> list[str]:
    return [e.path.rsplit("/", 1)[-1] for e in standin.sent("PUT", "/jobs/[^/]+$")]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of this checkout, for a test that changes a notebook."""
    root = tmp_path / "checkout"
    for name in jobs.SNAPSHOT:
        source = paths.ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, root / name)
    return root


def test_a_failed_training_is_red_keeps_its_log_and_leaves_no_compute(standin: StandIn, checkout: Path) -> None:
    path = checkout / "notebooks" / "20_train.ipynb"
    notebook = nbformat.read(path, as_version=4)
    cells = [c for c in notebook.cells if c.cell_type == "code" and "parameters" not in c.metadata.get("tags", [])]
    cells[0].source = 'raise RuntimeError("the training diverged")'
    nbformat.write(notebook, path)
    code, said = finish(start(standin, "run", "ci", "--target", "azure", "--run-id", "red", *SHORT, root=checkout))
    assert code == 1, said
    rows = {r["step"]: r["status"] for r in manifest.load("red").steps}
    assert rows == {
        "10_create_compute": "passed",
        "20_train": "failed",
        "30_evaluate": "not_run",
        "40_register": "not_run",
        "49_delete_compute": "passed",
    }
    assert standin.state.get(COMPUTE) is None
    assert len(submitted(standin)) == 1
    trained = paths.step_folder("red", "20_train")
    result = step.load(trained)
    assert result and result.error and result.error["message"] == "the training diverged"
    assert "the training diverged" in (trained / "report.html").read_text()
    assert "the training diverged" in (trained / "job.log").read_text()
    assert 'href="job.log"' in (trained / "report.html").read_text()
    title = (manifest.load("red").folder / "index.html").read_text().split("<title>", 1)[1]
    assert title.startswith("REHEARSAL: Failed")


def test_a_run_killed_after_it_sent_its_job_goes_on_with_that_job(standin: StandIn) -> None:
    killed = start(standin, "run", "ci", "--target", "azure", "--run-id", "one", *SHORT)
    ends = time.monotonic() + 300
    while not submitted(standin) and time.monotonic() < ends and killed.poll() is None:
        time.sleep(0.1)
    (name,) = submitted(standin)
    killed.kill()
    killed.communicate(timeout=30)
    job = standin.state.get(f"{WORKSPACE_PATH}/jobs/{name}")
    assert job and job["properties"]["status"] not in ("Completed", "Failed", "Canceled"), "it ended before the kill"
    code, said = finish(start(standin, "run", "--resume", "one", *SHORT))
    assert code == 0, said
    assert submitted(standin) == [name]
    assert "REHEARSAL one: ran to its end" in said
    this = manifest.load("one")
    assert this.rehearsal and this.status == "passed"
    assert {r["status"] for r in this.steps} == {"passed"}
    assert standin.state.get(COMPUTE) is None
    # The job had no .git: what run.json says of the commit was passed on to it.
    trained = json.loads((this.folder / "metadata" / "run.json").read_text())["properties"]
    assert trained["git_commit"] and trained["git_commit"] == git.facts()["git_commit"]


def test_an_interrupted_step_says_what_goes_on_in_azure_and_goes_on_with_it_when_run_again(standin: StandIn) -> None:
    words = ("step", "50_create_cluster", "--stage", "prod", "--target", "azure", "--run-id", "one")
    standin.faults.never_ending = "/managedClusters/titanic-aks$"
    process = start(standin, *words)
    ends = time.monotonic() + 120
    while not standin.sent("PUT", "/managedClusters/titanic-aks$"):
        assert time.monotonic() < ends and process.poll() is None
        time.sleep(0.2)
    time.sleep(2)  # the kernel has the answer and waits
    process.send_signal(signal.SIGINT)
    code, said = finish(process)
    assert code == 1
    assert "It had begun creating the AKS cluster titanic-aks" in said, said
    assert "az aks show --name titanic-aks --resource-group" in said, said
    standin.faults.clear()
    cluster = standin.state.get(f"{GROUP_PATH}/providers/Microsoft.ContainerService/managedClusters/titanic-aks")
    assert cluster
    cluster["properties"]["provisioningState"] = "Succeeded"
    code, said = finish(start(standin, *words))
    assert code == 0, said
    assert len(standin.sent("PUT", "/managedClusters/titanic-aks$")) == 1


def test_deleting_steps_leave_what_somebody_else_made(standin: StandIn, azure: AzurePlatform) -> None:
    azure.create_compute("titanic-train")
    make_cluster(azure)
    for stage in get_args(Stage):
        azure.create_endpoint(stage)
    kinds = ("computes", "managedClusters", "onlineEndpoints")
    theirs = {path: r for path, r in standin.state.resources.items() if r["type"].endswith(kinds)}
    assert len(theirs) == 5
    for resource in theirs.values():
        resource["tags"] = {"team": "other"}
    standin.state.exchanges.clear()
    for words in (("49_delete_compute",), ("99_teardown", "--stage", "dev"), ("99_teardown", "--stage", "prod")):
        code, said = finish(start(standin, "step", *words, "--target", "azure", "--run-id", "one"))
        assert code == 1, f"{words}: {said}"
        assert "ours" in said or "left alone" in said, said
    assert theirs.keys() <= standin.state.resources.keys()
    assert standin.sent("DELETE", ".") == standin.sent("PUT", ".") == []
