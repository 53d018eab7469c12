from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runbook import paths
from runbook.errors import AnatomyError, ParamsError
from runbook.platform.azure import AzurePlatform, credentials
from runbook.platform.azure.workspace import Coordinates

PIPELINE = {
    "AZURESUBSCRIPTION_TENANT_ID": "99999999-8888-7777-6666-555555555555",
    "AZURESUBSCRIPTION_CLIENT_ID": "client",
    "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID": "connection",
    "SYSTEM_ACCESSTOKEN": "token",
    "SYSTEM_OIDCREQUESTURI": "https://vstoken.example/oidctoken",
}
SECRET = {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "s"}


@pytest.mark.parametrize(
    ("environment", "kind", "made"),
    [
        (PIPELINE, "Azure Pipelines service connection", "AzurePipelinesCredential"),
        ({**SECRET, **PIPELINE}, "Azure Pipelines service connection", "AzurePipelinesCredential"),
        (SECRET, "client secret", "ClientSecretCredential"),
        ({}, "az login, else managed identity", "ChainedTokenCredential"),
        ({"SYSTEM_ACCESSTOKEN": "token"}, "az login, else managed identity", "ChainedTokenCredential"),
    ],
)
def test_the_surroundings_choose_the_credential(environment: dict[str, str], kind: str, made: str) -> None:
    assert credentials.kind(environment) == kind
    assert type(credentials.credential(environment)).__name__ == made


def test_secrets_of_the_environment_are_known() -> None:
    assert set(credentials.secrets({**SECRET, **PIPELINE})) == {"s", "token"}


def test_missing_coordinates_are_named() -> None:
    wanted = r"needs resource_group \(AZURE_RESOURCE_GROUP\), workspace \(AZURE_ML_WORKSPACE\):"
    with pytest.raises(ParamsError, match=wanted):
        Coordinates.read({"AZURE_SUBSCRIPTION_ID": "s"})


def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "azure.yml").write_text(f"target: azure\n{text}")
    monkeypatch.setattr(paths, "PARAMS", tmp_path)


def test_coordinates_may_stand_in_the_params_and_the_environment_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, monkeypatch, "subscription_id: s\nresource_group: g\nworkspace: w\n")
    assert Coordinates.read({}) == Coordinates("s", "g", "w")
    assert Coordinates.read({"AZURE_RESOURCE_GROUP": "other"}) == Coordinates("s", "other", "w")


def test_a_coordinate_that_is_no_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, monkeypatch, "resource_group: 7\n")
    with pytest.raises(AnatomyError, match="resource_group is 7, expected text"):
        Coordinates.read({})


def test_inside_a_job_azure_names_the_coordinates() -> None:
    job = {"AZUREML_ARM_SUBSCRIPTION": "s", "AZUREML_ARM_RESOURCEGROUP": "g", "AZUREML_ARM_WORKSPACE_NAME": "w"}
    assert Coordinates.read(job) == Coordinates("s", "g", "w")


def test_the_binding_shows_where_without_showing_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        **SECRET,
        "AZURE_SUBSCRIPTION_ID": "sub",
        "AZURE_RESOURCE_GROUP": "rg",
        "AZURE_ML_WORKSPACE": "ws",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SYSTEM_ACCESSTOKEN", raising=False)
    binding = AzurePlatform().binding()
    assert (binding["workspace"], binding["resource_group"], binding["subscription"]) == ("ws", "rg", "sub")
    assert binding["signs in by"] == "client secret"
    assert "s" not in binding.values()


def test_naming_the_platform_imports_no_sdk() -> None:
    heavy = ("azure", "msrest", "mlflow")
    source = f"import sys, runbook.platform.azure; print([m for m in sys.modules if m.split('.')[0] in {heavy}])"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
