from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from azure_standin.assets import locate
from azure_standin.fixtures import make_cluster
from azure_standin.standin import StandIn
from azure_standin.state import WORKSPACE_PATH

from runbook import paths
from runbook.errors import NotFound, PlatformError
from runbook.platform import files
from runbook.platform.azure import AzurePlatform
from runbook.platform.base import Deployment, Endpoint, ModelVersion, Stage
from runbook.testing import scoring_client

pytest_plugins = ["azure_standin.fixtures"]
pytestmark = pytest.mark.slow

PASSENGER = {"Pclass": 1, "Sex": 0, "Age": 38, "SibSp": 1, "Parch": 0, "Fare": 71.2833, "Embarked": 2}


def opened(azure: AzurePlatform, stage: Stage) -> Endpoint:
    if stage == "prod":
        make_cluster(azure)
    return azure.create_endpoint(stage).result


def ask(azure: AzurePlatform, stage: Stage, body: object = PASSENGER, pin: str | None = None) -> scoring_client.Reply:
    endpoint = azure.find_endpoint(stage)
    assert endpoint
    return scoring_client.Client(endpoint, azure.keys(stage), pin).send(
        scoring_client.Request(json.dumps(body).encode())
    )


@pytest.mark.parametrize(("stage", "profile"), [("dev", "managed"), ("prod", "kubernetes")])
def test_a_model_is_released_and_torn_down_with_every_verb_twice(
    azure: AzurePlatform, version: ModelVersion, standin: StandIn, stage: Stage, profile: str
) -> None:
    fresh = opened(azure, stage)
    assert (fresh.profile, dict(fresh.traffic), fresh.live) == (profile, {}, None)
    assert not azure.create_endpoint(stage).changed
    deployed = azure.deploy(stage, "blue", version)
    again = azure.deploy(stage, "blue", version)
    assert (deployed.changed, again.changed) == (True, False)
    assert deployed.result == again.result
    assert deployed.result == Deployment(
        "blue", "Titanic", version.version, version.digest, files.code_digest(stage), "ready", None
    )
    assert ask(azure, stage).status == 404
    assert ask(azure, stage, pin="blue").document["model_version"] == version.version
    moved = azure.set_traffic(stage, {"blue": 100}, {"released": "blue"})
    assert moved.changed
    assert not azure.set_traffic(stage, {"blue": 100}, {"released": "blue"}).changed
    live = moved.result.live
    assert live and live.name == "blue"
    assert moved.result.tags["released"] == "blue"
    assert moved.result.tags["runbook-owner"]
    answer = ask(azure, stage).document
    assert answer["prediction"] == 1
    assert answer["model_version"] == version.version
    assert azure.replica_history(stage, "blue", 0.0) is None
    assert azure.delete_endpoint(stage).changed
    assert not azure.delete_endpoint(stage).changed
    assert azure.find_endpoint(stage) is None
    assert not standin.serving.replicas


@pytest.mark.parametrize(("stage", "status"), [("dev", 424), ("prod", 422)])
def test_a_refusal_of_score_py_has_the_status_of_the_stages_profile(
    azure: AzurePlatform, version: ModelVersion, stage: Stage, status: int
) -> None:
    opened(azure, stage)
    azure.deploy(stage, "blue", version)
    azure.set_traffic(stage, {"blue": 100}, {})
    assert ask(azure, stage, body={"Pclass": 9}).status == status


def test_a_wrong_key_is_refused_and_the_keys_are_secrets(azure: AzurePlatform, version: ModelVersion) -> None:
    opened(azure, "dev")
    keys = azure.keys("dev")
    assert {keys.primary, keys.secondary} <= set(azure.secrets())
    assert keys.primary not in repr(keys)
    endpoint = azure.find_endpoint("dev")
    assert endpoint
    assert scoring_client.Client(endpoint, keys).send(scoring_client.Request(b"{}", key="wrong")).status == 401


def test_a_second_deployment_takes_the_traffic_and_the_first_can_then_go(
    azure: AzurePlatform, version: ModelVersion
) -> None:
    opened(azure, "dev")
    azure.deploy("dev", "blue", version)
    azure.set_traffic("dev", {"blue": 100}, {})
    azure.deploy("dev", "green", version)
    moved = azure.set_traffic("dev", {"blue": 0, "green": 100}, {"previous": "blue"})
    assert moved.result.live and moved.result.live.name == "green"
    with pytest.raises(PlatformError, match="has 100 % of the traffic"):
        azure.delete_deployment("dev", "green")
    assert azure.delete_deployment("dev", "blue").changed
    assert not azure.delete_deployment("dev", "blue").changed


@pytest.mark.slow
def test_changed_scoring_files_make_a_new_deployment_necessary(
    azure: AzurePlatform, version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(azure, "dev")
    azure.deploy("dev", "blue", version)
    monkeypatch.setattr(files, "code_digest", lambda stage: "f" * 64)
    assert azure.deploy("dev", "blue", version).changed
    found = azure.find_endpoint("dev")
    assert found and found.deployments[0].code_digest == "f" * 64


def test_traffic_that_cannot_be_is_refused_before_it_is_sent(
    azure: AzurePlatform, version: ModelVersion, standin: StandIn
) -> None:
    opened(azure, "dev")
    azure.deploy("dev", "blue", version)
    before = len(standin.sent("PUT", "/onlineEndpoints/titanic-dev$"))
    for traffic in ({"blue": 60}, {"green": 100}, {"blue": 50, "green": 50}):
        with pytest.raises(PlatformError, match="expected 0 or 100 percent"):
            azure.set_traffic("dev", traffic, {})
    assert len(standin.sent("PUT", "/onlineEndpoints/titanic-dev$")) == before


def test_a_crashing_init_fails_with_the_containers_own_log(azure: AzurePlatform, version: ModelVersion) -> None:
    opened(azure, "dev")
    with pytest.raises(PlatformError) as failure:
        azure.deploy("dev", "blue", replace(version, digest="0" * 64))
    assert "init of score.py failed" in str(failure.value)
    assert "expected sha256 0000" in failure.value.log
    found = azure.find_endpoint("dev")
    assert found and found.deployments[0].state == "failed"


@pytest.mark.slow
def test_a_failed_deployment_is_made_again(azure: AzurePlatform, version: ModelVersion) -> None:
    opened(azure, "dev")
    with pytest.raises(PlatformError):
        azure.deploy("dev", "blue", replace(version, digest="0" * 64))
    assert azure.deploy("dev", "blue", version).result.state == "ready"


@pytest.mark.slow
def test_no_traffic_goes_to_a_deployment_that_failed(azure: AzurePlatform, version: ModelVersion) -> None:
    opened(azure, "dev")
    with pytest.raises(PlatformError):
        azure.deploy("dev", "blue", replace(version, digest="0" * 64))
    with pytest.raises(PlatformError, match="only to deployments that are ready"):
        azure.set_traffic("dev", {"blue": 100}, {})


def test_a_foreign_endpoint_is_left_alone(azure: AzurePlatform, standin: StandIn) -> None:
    azure.create_endpoint("dev")
    resource = standin.state.get(f"{WORKSPACE_PATH}/onlineEndpoints/titanic-dev")
    assert resource
    resource["tags"] = {"team": "another"}
    with pytest.raises(PlatformError, match="left alone"):
        azure.create_endpoint("dev")
    with pytest.raises(PlatformError, match="left alone"):
        azure.delete_endpoint("dev")
    assert standin.sent("DELETE", "/onlineEndpoints/") == []


def test_what_python_leaves_beside_the_code_is_not_shipped(
    azure: AzurePlatform, version: ModelVersion, standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(paths.DEPLOYMENT, tmp_path / "deployment")
    monkeypatch.setattr(paths, "DEPLOYMENT", tmp_path / "deployment")
    for folder in ("", "dev"):
        (tmp_path / "deployment" / folder / "__pycache__").mkdir(exist_ok=True)
        (tmp_path / "deployment" / folder / "__pycache__" / "score.pyc").write_bytes(b"compiled")
    azure.create_endpoint("dev")
    azure.deploy("dev", "blue", version)
    (code,) = standin.sent("PUT", "/codes/[^/]+/versions/")
    shipped = standin.blobs.fetch(*locate(code.sent["properties"]["codeUri"]), tmp_path / "shipped")
    names = {p.relative_to(tmp_path / "shipped").as_posix() for p in shipped}
    assert {"score.py", "decode.py", "request.py", "dev/deployment.yml"} <= names
    assert not [name for name in names if "__pycache__" in name]


def test_what_is_not_there_names_the_step_that_makes_it(azure: AzurePlatform) -> None:
    with pytest.raises(NotFound, match="runbook step 60_deploy --stage dev"):
        azure.keys("dev")
    assert azure.find_endpoint("dev") is None


def test_logs_hold_both_containers(azure: AzurePlatform, version: ModelVersion) -> None:
    opened(azure, "dev")
    azure.deploy("dev", "blue", version)
    text = azure.logs("dev", "blue", lines=20)
    assert "[inference-server]" in text
    assert "[storage-initializer]" in text
    assert "ready" in text
