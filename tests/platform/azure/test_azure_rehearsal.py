"""The whole runbook with its unchanged notebooks against the stand-in; minutes long, so part of the exhaustive tests."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from azure_standin.standin import StandIn, aimed

from runbook import paths
from runbook.engine import step

pytest_plugins = ["azure_standin.fixtures"]
pytestmark = [pytest.mark.slow, pytest.mark.whole, pytest.mark.timeout(2400)]

SHORT = ["-f", str(paths.PARAMS / "test.yml")]
CI = ["10_create_compute", "20_train", "30_evaluate", "40_register", "49_delete_compute"]
RELEASE = ["60_deploy", "70_functional_test", "80_stress_test", "90_release"]
PLAN = [
    *((name, None) for name in CI),
    *((name, "dev") for name in RELEASE),
    ("50_create_cluster", "prod"),
    *((name, "prod") for name in RELEASE),
]
LASTING = {
    "models": "/models/[^/]+/versions/",
    "endpoints": "/onlineEndpoints/[^/]+$",
    "deployments": "/deployments/[^/]+$",
    "clusters": "/managedClusters/[^/]+$",
    "extensions": "/extensions/[^/]+$",
}


def run_step(standin: StandIn, name: str, stage: str | None, run_id: str) -> step.Status:
    """Run one step in a process of its own; the runner sends training to the compute."""
    folder = paths.step_folder(run_id, name, stage)
    command = [sys.executable, "-m", "runbook.cli", "step", name, "--target", "azure", "--run-id", run_id, *SHORT]
    folders = {n: os.environ[n] for n in ("RUNBOOK_HOME", "RUNBOOK_REPORTS")}
    done = subprocess.run(
        [*command, *(["--stage", stage] if stage else [])],
        cwd=paths.ROOT,
        env={**aimed(standin.environment()), **folders},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{name}-{stage}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    result = step.load(folder)
    assert result
    return result.status


def requests(standin: StandIn) -> dict[str, int]:
    return {what: len(standin.sent("PUT", pattern)) for what, pattern in LASTING.items()}


def test_all_fourteen_step_runs_pass_and_a_second_run_makes_nothing_new(standin: StandIn) -> None:
    first = [run_step(standin, name, stage, "first") for name, stage in PLAN]
    assert first == ["passed"] * 14
    made = requests(standin)
    assert made == {**made, "models": made["models"], "deployments": 2, "clusters": 1, "extensions": 1}
    second = {f"{name}-{stage}": run_step(standin, name, stage, "second") for name, stage in PLAN}
    assert set(second.values()) == {"passed", "not_needed"}
    assert second["40_register-None"] == second["90_release-prod"] == "not_needed"
    assert requests(standin) == made
    for stage in ("prod", "dev"):
        assert run_step(standin, "99_teardown", stage, "third") == "passed"
    left = [
        r["type"].rsplit("/", 1)[-1]
        for r in standin.state.resources.values()
        if (r.get("tags") or {}).get("runbook-owner")
    ]
    assert set(left) <= {"jobs"}
    assert not standin.serving.replicas
