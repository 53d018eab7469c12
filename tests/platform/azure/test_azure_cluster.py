from __future__ import annotations

import base64
from typing import Any

import pytest
from azure_standin.fixtures import make_cluster
from azure_standin.standin import StandIn
from azure_standin.state import GROUP_PATH, WORKSPACE_PATH

from runbook.errors import PlatformError
from runbook.platform import files
from runbook.platform.azure import AzurePlatform, aks, capacity

pytest_plugins = ["azure_standin.fixtures"]
pytestmark = pytest.mark.slow

AKS = f"{GROUP_PATH}/providers/Microsoft.ContainerService/managedClusters"
EXISTING = f"{AKS}/theirs"


@pytest.fixture
def document(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """cluster.yml as this test changes it."""
    document = files.cluster()
    monkeypatch.setattr(files, "cluster", lambda: document)
    return document


def theirs(standin: StandIn, extension: bool = True) -> None:
    standin.state.put(
        EXISTING, {"location": "eastus", "tags": {}, "properties": {}, "namespaces": ["default", "titanic"]}
    )
    if extension:
        path = f"{EXISTING}/providers/Microsoft.KubernetesConfiguration/extensions/azureml"
        properties = {"extensionType": "microsoft.azureml.kubernetes", "provisioningState": "Succeeded"}
        standin.state.put(path, {"properties": properties})


def test_cluster_extension_namespace_and_compute_are_made_once(azure: AzurePlatform, standin: StandIn) -> None:
    first, second = make_cluster(azure), make_cluster(azure)
    assert ([c.changed for c in first], [c.changed for c in second]) == ([True] * 4, [False] * 4)
    assert first[-1].result == second[-1].result == azure.find_cluster()
    assert first[-1].result.state == "ready"
    assert first[-1].result.ours
    assert [list(c.sent) for c in first] == [["cluster"], ["extension"], ["namespace"], ["compute"]]
    paths = ("/managedClusters/titanic-aks$", "/extensions/azureml$", "/computes/")
    assert [len(standin.sent("PUT", p)) for p in paths] == [1, 1, 1]


def test_a_cluster_is_not_ready_before_it_is_attached(azure: AzurePlatform) -> None:
    assert azure.create_cluster().result.state == "not attached"
    found = azure.find_cluster()
    assert found and found.state == "not attached"


def test_a_cluster_whose_extension_failed_goes_on_from_there(azure: AzurePlatform, standin: StandIn) -> None:
    standin.faults.fail_operation("/extensions/azureml$", "ExtensionCreationFailed", "helm timed out")
    with pytest.raises(PlatformError, match="helm timed out"):
        make_cluster(azure)
    standin.faults.clear()
    assert make_cluster(azure)[-1].result.state == "ready"
    assert len(standin.sent("PUT", "/managedClusters/titanic-aks$")) == 1


def test_deleting_detaches_and_deletes_what_is_ours(azure: AzurePlatform, standin: StandIn) -> None:
    make_cluster(azure)
    with pytest.raises(PlatformError, match="still attached"):
        azure.delete_cluster()
    assert (azure.detach_cluster().result, azure.detach_cluster().changed) == ("detached", False)
    assert azure.delete_cluster().changed
    assert not azure.delete_cluster().changed
    assert azure.find_cluster() is None
    assert standin.state.get(f"{AKS}/titanic-aks") is None


def test_an_existing_cluster_is_attached_and_only_ever_detached(
    azure: AzurePlatform, standin: StandIn, document: dict[str, Any]
) -> None:
    document["existing_resource_id"] = EXISTING
    theirs(standin)
    made = make_cluster(azure)
    assert [c.changed for c in made] == [False, False, False, True]
    assert [made[1].result, made[2].result] == ["ready", "left to its owner"]
    assert (made[-1].result.state, made[-1].result.ours) == ("ready", False)
    assert azure.detach_cluster().changed
    assert not azure.delete_cluster().changed
    assert azure.find_cluster() is None
    assert standin.state.get(EXISTING)
    assert standin.sent("DELETE", "/managedClusters/") == []
    assert standin.sent("PUT", "/managedClusters/") == []


def test_nothing_is_installed_on_an_existing_cluster(
    azure: AzurePlatform, standin: StandIn, document: dict[str, Any]
) -> None:
    document["existing_resource_id"] = EXISTING
    theirs(standin, extension=False)
    with pytest.raises(PlatformError, match="az k8s-extension create"):
        azure.create_cluster()
    assert standin.sent("PUT", "/extensions/") == []


def test_a_foreign_cluster_of_our_name_is_left_alone(azure: AzurePlatform, standin: StandIn) -> None:
    standin.state.put(f"{AKS}/titanic-aks", {"location": "eastus", "tags": {"team": "another"}, "properties": {}})
    with pytest.raises(PlatformError, match="somebody else made it"):
        azure.create_cluster()
    assert not azure.detach_cluster().changed
    with pytest.raises(PlatformError, match="somebody else made it"):
        azure.delete_cluster()
    assert standin.sent("DELETE", "/managedClusters/") == standin.sent("PUT", "/managedClusters/") == []


def test_a_foreign_compute_of_our_name_is_left_alone(azure: AzurePlatform, standin: StandIn) -> None:
    make_cluster(azure)
    resource = standin.state.get(f"{WORKSPACE_PATH}/computes/titanic-aks")
    assert resource
    resource["tags"] = {}
    with pytest.raises(PlatformError, match="somebody else made it"):
        azure.detach_cluster()
    with pytest.raises(PlatformError, match="still attached"):
        azure.delete_cluster()
    assert standin.state.get(f"{AKS}/titanic-aks")


def test_too_little_quota_is_refused_before_anything_is_created(azure: AzurePlatform, standin: StandIn) -> None:
    standin.faults.quota_left = 10
    with pytest.raises(PlatformError, match=r"needs 12 vCPUs.*has 10 of 100 left") as failure:
        azure.create_cluster()
    assert "az vm list-usage" in str(failure.value)
    assert standin.sent("PUT", "/managedClusters/") == []


def test_a_cluster_too_small_for_blue_and_green_is_refused(
    azure: AzurePlatform, standin: StandIn, document: dict[str, Any]
) -> None:
    document |= {"node_vcpus": 2, "node_memory_gib": 8}
    with pytest.raises(PlatformError, match="a release needs 12"):
        azure.create_cluster()
    assert standin.state.exchanges == []


def test_plain_http_is_a_warning_on_every_report(azure: AzurePlatform, document: dict[str, Any]) -> None:
    assert "WARNING" in azure.create_cluster().result.details["tls"]


def test_cost_is_named_with_the_day_of_its_price(azure: AzurePlatform) -> None:
    assert azure.create_cluster().result.details["cost per hour"].startswith("0.576 USD (Standard_D4s_v5 in eastus")
    assert "2026-09-06" in azure.create_cluster().result.details["cost per hour"]


def test_a_certificate_travels_protected_and_is_not_shown(
    azure: AzurePlatform, standin: StandIn, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    document |= {"ssl_enabled": True, "ssl_cname": "titanic.example.org"}
    monkeypatch.setenv(aks.CERTIFICATE, "a certificate")
    monkeypatch.setenv(aks.PRIVATE_KEY, "a private key")
    cluster, extension, *_ = make_cluster(azure)
    (sent,) = standin.sent("PUT", "/extensions/azureml$")
    encoded = base64.b64encode(b"a private key").decode()
    assert sent.sent["properties"]["configurationProtectedSettings"]["scoringFe.sslKey"] == encoded
    assert sent.sent["properties"]["configurationSettings"]["allowInsecureConnections"] == "false"
    assert encoded not in str(extension.sent)
    assert cluster.result.details["tls"] == "https"


def test_tls_without_a_certificate_is_refused(azure: AzurePlatform, document: dict[str, Any]) -> None:
    document |= {"ssl_enabled": True, "ssl_cname": "titanic.example.org"}
    with pytest.raises(PlatformError, match=aks.CERTIFICATE):
        make_cluster(azure)


def test_capacity_is_nodes_less_reserve_less_extension_per_replica() -> None:
    found = capacity.of(files.cluster(), files.deployment("prod"))
    assert found.fits == int((3 * (4 - 0.14) - 3.6) / (0.5 + 0.01))
    assert found.needed == 12
    assert found.hourly_usd == pytest.approx(0.576)


@pytest.mark.parametrize(
    ("size", "family"),
    [
        ("Standard_D4s_v5", "standardDSv5Family"),
        ("Standard_F2s_v2", "standardFSv2Family"),
        ("Standard_D4_v3", "standardDv3Family"),
    ],
)
def test_a_size_counts_against_the_quota_of_its_family(size: str, family: str) -> None:
    assert capacity.family(size) == family
