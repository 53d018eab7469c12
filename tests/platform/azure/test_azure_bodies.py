from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from azure_standin import microsoft
from azure_standin.standin import KNOWN
from azure_standin.state import WORKSPACE_PATH

from runbook import git, paths
from runbook.platform import files
from runbook.platform.azure import bodies
from runbook.platform.base import ModelVersion

MODEL = ModelVersion("Titanic", "7", "ab" * 32, "", {}, (), "")


@pytest.fixture(scope="module")
def sent() -> dict[str, Any]:
    return bodies("eastus", MODEL)


def test_bodies_need_neither_a_workspace_nor_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("somebody opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for name in ("AZURE_SUBSCRIPTION_ID", "AZURE_RESOURCE_GROUP", "AZURE_ML_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    assert {"10 compute", "20 job", "40 model", "60 deployment dev", "60 deployment prod"} <= bodies().keys()


def test_compute_is_the_articles_compute_target(sent: dict[str, Any]) -> None:
    compute = sent["10 compute"]
    settings = compute["properties"]["properties"]
    assert compute["properties"]["computeType"] == "AmlCompute"
    assert settings["vmSize"] == "Standard_D2s_v5"
    assert settings["scaleSettings"]["minNodeCount"] == 0
    assert settings["scaleSettings"]["maxNodeCount"] == 1
    assert settings["scaleSettings"]["nodeIdleTimeBeforeScaleDown"] == "PT2M"
    assert compute["identity"]["type"] == "SystemAssigned"
    assert compute["tags"] == {"runbook-owner": "titanic-runbook"}


def test_job_runs_the_step_on_the_compute_with_the_runconfigs_values(sent: dict[str, Any]) -> None:
    job = sent["20 job"]["properties"]
    assert job["jobType"] == "Command"
    assert "runbook step 20_train --target azure --here --run-id ${{inputs.run_id}}" in job["command"]
    assert job["experimentName"] == "titanic-survival"
    assert job["computeId"] == "titanic-train"
    assert job["inputs"] == {"run_id": {"value": "RUN_ID", "jobInputType": "literal"}}
    assert job["resources"]["instanceCount"] == 1
    assert job["resources"]["shmSize"] == "1g"
    assert job["limits"] == {"timeout": "PT1H", "jobLimitsType": "Command"}
    assert "outputs" not in job or job["outputs"] == {}


def test_nothing_that_trains_or_serves_reports_to_its_makers(sent: dict[str, Any]) -> None:
    assert "ORT_DISABLE_TELEMETRY=1" in sent["20 job"]["properties"]["command"]
    for stage in ("dev", "prod"):
        assert sent[f"60 deployment {stage}"]["properties"]["environmentVariables"]["ORT_DISABLE_TELEMETRY"] == "1"


def test_the_job_is_told_which_commit_it_trains_from(sent: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "facts", lambda: {"git_commit": "26e51d9f", "git_dirty": True, "git_branch": None})
    given = bodies("eastus", MODEL)["20 job"]["properties"]["environmentVariables"]
    assert given == {"RUNBOOK_GIT_COMMIT": "26e51d9f", "RUNBOOK_GIT_DIRTY": "true"}


def test_environments_are_an_image_and_the_conda_file_of_the_checkout(sent: dict[str, Any]) -> None:
    training, scoring = sent["20 environment"]["properties"], sent["60 environment prod"]["properties"]
    assert training["image"] == "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest"
    assert scoring["image"] == "mcr.microsoft.com/azureml/minimal-py312-inference:latest"
    assert "dependencies" in training["condaFile"]
    assert "onnxruntime" in scoring["condaFile"]


def test_model_is_custom_with_digest_and_owner(sent: dict[str, Any]) -> None:
    model = sent["40 model"]["properties"]
    assert model["modelType"] == "custom_model"
    assert model["modelUri"].startswith("azureml://jobs/")
    assert model["tags"]["sha256"] == MODEL.digest
    assert model["tags"]["runbook-owner"] == "titanic-runbook"


def test_prod_deployment_carries_every_value_of_the_articles_aks_config(sent: dict[str, Any]) -> None:
    deployment = sent["60 deployment prod"]["properties"]
    assert deployment["endpointComputeType"] == "Kubernetes"
    assert deployment["scaleSettings"] == {
        "scaleType": "TargetUtilization",
        "minInstances": 3,
        "maxInstances": 6,
        "pollingInterval": "PT1S",
        "targetUtilizationPercentage": 50,
    }
    resources = deployment["containerResourceRequirements"]
    assert resources["containerResourceRequests"] == {"cpu": "0.5", "memory": "1Gi"}
    assert resources["containerResourceLimits"] == {"cpu": "0.5", "memory": "1Gi"}
    assert deployment["requestSettings"] == {
        "requestTimeout": "PT1M",
        "maxConcurrentRequestsPerInstance": 2,
        "maxQueueWait": "PT3M",
    }
    assert deployment["appInsightsEnabled"] is True
    assert sent["60 deployment prod"]["sku"]["name"] == "Default"


def test_prod_endpoint_stands_on_the_cluster_and_asks_for_a_key(sent: dict[str, Any]) -> None:
    endpoint = sent["60 endpoint prod"]["properties"]
    assert endpoint["authMode"] == "Key"
    assert endpoint["compute"] == "titanic-aks"
    assert endpoint["traffic"] == {}


def test_dev_deployment_is_one_managed_instance(sent: dict[str, Any]) -> None:
    deployment = sent["60 deployment dev"]
    assert deployment["properties"]["endpointComputeType"] == "Managed"
    assert deployment["properties"]["instanceType"] == "Standard_F2s_v2"
    assert deployment["sku"] == {"name": "Default", "capacity": 1}
    assert deployment["properties"]["requestSettings"]["maxConcurrentRequestsPerInstance"] == 2
    assert "compute" not in sent["60 endpoint dev"]["properties"]


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_a_deployment_differs_from_its_file_by_name_version_and_digest_only(stage: str) -> None:
    one = bodies("eastus", MODEL)[f"60 deployment {stage}"]
    variables = dict(one["properties"]["environmentVariables"])
    assert one["properties"]["model"] == "azureml:Titanic:7"
    assert (variables.pop("MODEL_VERSION"), variables.pop("MODEL_SHA256")) == ("7", MODEL.digest)
    written = files.deployment(stage)["environment_variables"]
    assert variables == {k: v for k, v in written.items() if k not in ("MODEL_VERSION", "MODEL_SHA256")}
    # The digest of the files travels as a tag: Azure has nothing else to tell a changed score.py by.
    assert one["tags"] == {**files.deployment(stage)["tags"], "runbook-code": files.code_digest(stage)}


def test_traffic_is_one_request_with_the_share_of_the_deployment(sent: dict[str, Any]) -> None:
    assert sent["90 traffic prod"]["properties"]["traffic"] == {"blue": 100}


def test_cluster_is_three_nodes_with_a_managed_identity(sent: dict[str, Any]) -> None:
    cluster = sent["50 cluster"]
    assert cluster["identity"] == {"type": "SystemAssigned"}
    pool = cluster["properties"]["agentPoolProfiles"][0]
    assert (pool["count"], pool["vmSize"], pool["mode"]) == (3, "Standard_D4s_v5", "System")
    assert cluster["properties"]["disableLocalAccounts"] is False


def test_extension_is_for_inference_with_the_articles_plain_http(sent: dict[str, Any]) -> None:
    extension = sent["50 extension"]["properties"]
    assert extension["extensionType"] == "Microsoft.AzureML.Kubernetes"
    settings = extension["configurationSettings"]
    assert settings["enableInference"] == "true"
    assert settings["allowInsecureConnections"] == "true"
    assert settings["inferenceRouterServiceType"] == "LoadBalancer"
    assert settings["inferenceRouterHA"] == "true"
    assert settings["clusterId"].endswith("/managedClusters/titanic-aks")


def test_attached_compute_names_the_cluster_and_the_namespace(sent: dict[str, Any]) -> None:
    compute = sent["50 compute"]["properties"]
    assert compute["computeType"] == "Kubernetes"
    assert compute["properties"]["namespace"] == "titanic"
    assert compute["resourceId"].endswith("/managedClusters/titanic-aks")


TYPED = {
    "10 compute": ("computes/titanic-train", "2023-08-01-preview"),
    "20 job": ("jobs/one", "2025-01-01-preview"),
    "20 environment": ("environments/e/versions/1", "2023-04-01-preview"),
    "40 model": ("models/Titanic/versions/1", "2023-08-01-preview"),
    "50 compute": ("computes/titanic-aks", "2023-08-01-preview"),
    "60 endpoint dev": ("onlineEndpoints/titanic-dev", "2022-02-01-preview"),
    "60 endpoint prod": ("onlineEndpoints/titanic-prod", "2022-02-01-preview"),
    "60 deployment dev": ("onlineEndpoints/titanic-dev/deployments/blue", "2023-04-01-preview"),
    "60 deployment prod": ("onlineEndpoints/titanic-prod/deployments/blue", "2023-04-01-preview"),
    "90 traffic prod": ("onlineEndpoints/titanic-prod", "2022-02-01-preview"),
}


@pytest.mark.skipif(microsoft.folder() is None, reason=f"{microsoft.VARIABLE} names no folder of Microsoft's types")
@pytest.mark.parametrize("name", TYPED)
def test_a_body_fits_microsofts_type(name: str, sent: dict[str, Any]) -> None:
    path, version = TYPED[name]
    found = microsoft.check("request", f"{WORKSPACE_PATH}/{path}", version, sent[name])
    assert found is not None
    assert [v for v in found if v not in KNOWN] == []


def test_a_project_of_another_name_sends_its_own_names_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written_for = files.names().project
    shutil.copytree(paths.PARAMS, tmp_path / "params")
    (tmp_path / "params" / "base.yml").write_text("project: late-orders\n")
    monkeypatch.setattr(paths, "PARAMS", tmp_path / "params")

    sent = bodies("eastus", ModelVersion(files.names().model, "7", "ab" * 32, "", {}, (), ""))

    assert sent["20 job"]["properties"]["experimentName"] == "late-orders"
    assert sent["20 job"]["properties"]["computeId"] == "late-orders-train"
    assert sent["60 endpoint prod"]["properties"]["compute"] == "late-orders-aks"
    assert sent["60 deployment dev"]["tags"]["runbook-owner"] == "late-orders-runbook"
    assert sent["50 compute"]["properties"]["properties"]["namespace"] == "late-orders"
    # The conda files are sent whole, and their own name is said nowhere.
    for body in sent.values():
        body.get("properties", {}).pop("condaFile", None)
    assert written_for not in json.dumps(sent).lower()
