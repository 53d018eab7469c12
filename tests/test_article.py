"""Everything the article had is here: the documents say where, and the request bodies carry its values."""

from __future__ import annotations

import re
from typing import Any

import pytest

from runbook import paths
from runbook.platform import files

PAGE = (paths.ROOT / "docs" / "from-the-article.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")]

DEPLOYMENT_LEAVES = [
    "computeType", "autoScaler.autoscaleEnabled", "autoScaler.minReplicas", "autoScaler.maxReplicas",
    "autoScaler.refreshPeriodInSeconds", "autoScaler.targetUtilization", "authEnabled", "containerResourceRequirements.cpu",
    "containerResourceRequirements.memoryInGB", "appInsightsEnabled", "scoringTimeoutMs", "maxConcurrentRequestsPerContainer",
    "maxQueueWaitMs", "sslEnabled",
]  # fmt: skip
RUNCONFIG_FIELDS = [
    "framework", "script", "communicator", "autoPrepareEnvironment", "maxRunDurationSeconds", "nodeCount",
    "environment.name",
    "environment.python.userManagedDependencies", "environment.python.interpreterPath",
    "environment.python.condaDependenciesFile",
    "environment.python.baseCondaEnvironment", "docker.enabled", "docker.baseImage", "docker.sharedVolumes", "docker.gpuSupport",
    "docker.shmSize", "docker.arguments", "history.outputCollection", "history.snapshotProject", "history.directoriesToWatch",
]  # fmt: skip
TASKS = [*(f"CI {n} " for n in range(1, 11)), *(f"CD {n} " for n in range(1, 5))]
TESTS = ["5.1 Functionality testing", "5.2 Stress testing"]
FILES = [
    "training.py", "environment_setup/install-requirements.sh", "environment_setup/conda_dependencies.yml",
    "titanic_survival_prediction.runconfig", "deployment/conda_dependencies.yml", "deployment/inferenceConfig.yml",
    "deployment/score.py", "deployment/aciDeploymentConfig.yml", "deployment/aksDeploymentConfig.yml",
    "models/titanic_model.pkl", "metadata/run.json", "metadata/model.json",
]  # fmt: skip


def row(start: str) -> list[str]:
    found = [r for r in ROWS if r[0].strip("`").startswith(start)]
    assert len(found) == 1, f"{len(found)} rows begin with {start!r}"
    return found[0]


@pytest.mark.parametrize("name", [*DEPLOYMENT_LEAVES, *RUNCONFIG_FIELDS, *TASKS, *TESTS, *FILES])
def test_everything_of_the_article_has_a_row_that_says_where_it_is(name: str) -> None:
    cells = row(name)
    assert len(cells) == 3 and cells[1]


def test_every_file_and_notebook_the_page_points_at_exists() -> None:
    named = {
        m
        for r in ROWS
        for m in re.findall(r"`((?:notebooks|deployment|environment_setup|pipelines|runbook)/[\w./-]+)`", r[1])
    }
    steps = {m for r in ROWS for m in re.findall(r"`(\d\d_\w+)`", r[1])}
    assert len(named) > 10 and len(steps) > 8
    assert [n for n in sorted(named) if not (paths.ROOT / n).exists()] == []
    assert [s for s in sorted(steps) if not (paths.NOTEBOOKS / f"{s}.ipynb").exists()] == []


@pytest.fixture(scope="module")
def bodies() -> dict[str, Any]:
    """The request bodies that Microsoft's own loaders make of our files."""
    from azure.ai.ml import load_online_deployment, load_online_endpoint

    def body(rest: Any) -> dict[str, Any]:
        # The SDK has two generations of request classes.
        document: dict[str, Any] = rest.serialize() if hasattr(rest, "serialize") else rest.as_dict()
        return document

    found = {}
    for stage in ("dev", "prod"):
        folder = paths.DEPLOYMENT / stage
        found[stage] = body(load_online_deployment(folder / "deployment.yml")._to_rest_object(location="eastus"))
        endpoint = load_online_endpoint(folder / "endpoint.yml")
        found[f"{stage} endpoint"] = body(endpoint._to_rest_online_endpoint(location="eastus"))
    return found


def test_the_dev_body_is_one_replica_with_the_same_limits(bodies: dict[str, Any]) -> None:
    properties = bodies["dev"]["properties"]
    assert properties["endpointComputeType"] == "Managed"
    assert properties["instanceType"] == "Standard_F2s_v2" and bodies["dev"]["sku"]["capacity"] == 1
    assert properties["requestSettings"] == {"requestTimeout": "PT1M", "maxConcurrentRequestsPerInstance": 2}
    assert properties["environmentVariables"]["WORKER_COUNT"] == "2"
    assert properties["appInsightsEnabled"] is True
    assert properties["codeConfiguration"]["scoringScript"] == "score.py"
    assert bodies["dev endpoint"]["properties"]["authMode"].lower() == "key"


def test_the_prod_body_carries_every_value_of_the_article(bodies: dict[str, Any]) -> None:
    properties = bodies["prod"]["properties"]
    assert properties["endpointComputeType"] == "Kubernetes"
    assert properties["scaleSettings"] == {
        "scaleType": "TargetUtilization",
        "minInstances": 3,
        "maxInstances": 6,
        "pollingInterval": "PT1S",
        "targetUtilizationPercentage": 50,
    }
    assert properties["requestSettings"] == {
        "requestTimeout": "PT1M",
        "maxConcurrentRequestsPerInstance": 2,
        "maxQueueWait": "PT3M",
    }
    assert properties["containerResourceRequirements"]["containerResourceRequests"] == {"cpu": "0.5", "memory": "1Gi"}
    assert properties["appInsightsEnabled"] is True
    assert properties["codeConfiguration"]["scoringScript"] == "score.py"
    assert properties["environmentVariables"]["WORKER_COUNT"] == "2"
    assert bodies["prod endpoint"]["properties"]["authMode"].lower() == "key"
    assert files.cluster()["ssl_enabled"] is False
