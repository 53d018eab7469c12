from __future__ import annotations

import pytest
from azure_standin.standin import StandIn
from azure_standin.state import WORKSPACE_PATH

from runbook.errors import PlatformError
from runbook.platform.azure import AzurePlatform

pytest_plugins = ["azure_standin.fixtures"]

FOREIGN = {
    "location": "eastus",
    "tags": {},
    "properties": {
        "computeType": "AmlCompute",
        "computeLocation": "eastus",
        "provisioningState": "Succeeded",
        "properties": {"vmSize": "Standard_D2s_v5", "scaleSettings": {"minNodeCount": 0, "maxNodeCount": 1}},
    },
}


def test_creating_twice_sends_one_request(azure: AzurePlatform, standin: StandIn) -> None:
    first, second = azure.create_compute("titanic-train"), azure.create_compute("titanic-train")
    assert (first.changed, second.changed) == (True, False)
    assert first.result == second.result == azure.find_compute("titanic-train")
    assert first.result.state == "ready"
    assert first.result.ours
    assert len(standin.sent("PUT", "/computes/titanic-train$")) == 1


def test_what_was_sent_is_what_the_report_shows(azure: AzurePlatform, standin: StandIn) -> None:
    change = azure.create_compute("titanic-train")
    (sent,) = standin.sent("PUT", "/computes/titanic-train$")
    assert {k: v for k, v in sent.sent.items() if k != "location"} == change.sent
    assert sent.sent["location"] == "eastus"


def test_a_compute_with_other_sizes_is_made_so(azure: AzurePlatform, standin: StandIn) -> None:
    azure.create_compute("titanic-train")
    resource = standin.state.get(f"{WORKSPACE_PATH}/computes/titanic-train")
    assert resource
    resource["properties"]["properties"]["scaleSettings"]["maxNodeCount"] = 9
    assert azure.create_compute("titanic-train").changed
    found = azure.find_compute("titanic-train")
    assert found and found.details["max_instances"] == "1"


def test_deleting_twice_sends_one_request(azure: AzurePlatform, standin: StandIn) -> None:
    azure.create_compute("titanic-train")
    assert azure.delete_compute("titanic-train").changed
    assert not azure.delete_compute("titanic-train").changed
    assert azure.find_compute("titanic-train") is None
    assert len(standin.sent("DELETE", "/computes/titanic-train$")) == 1


def test_a_foreign_compute_is_neither_changed_nor_deleted(azure: AzurePlatform, standin: StandIn) -> None:
    standin.state.put(f"{WORKSPACE_PATH}/computes/theirs", FOREIGN)
    with pytest.raises(PlatformError, match="somebody else made it"):
        azure.create_compute("theirs")
    with pytest.raises(PlatformError, match="somebody else made it"):
        azure.delete_compute("theirs")
    found = azure.find_compute("theirs")
    assert found and not found.ours
    assert standin.sent("PUT", "/computes/") == standin.sent("DELETE", "/computes/") == []
