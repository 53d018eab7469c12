"""The checker that everything else leans on must itself be able to say no."""

from __future__ import annotations

import copy
from typing import Any

import azure_standin.microsoft as microsoft
import pytest
from azure_standin.state import WORKSPACE_PATH

from runbook.platform.azure import bodies

pytestmark = pytest.mark.skipif(
    microsoft.folder() is None, reason=f"{microsoft.VARIABLE} names no folder of Microsoft's types"
)
DEPLOYMENT = f"{WORKSPACE_PATH}/onlineEndpoints/titanic-prod/deployments/blue"
VERSION = "2023-04-01-preview"


@pytest.fixture
def body() -> dict[str, Any]:
    return copy.deepcopy(bodies("eastus")["60 deployment prod"])


def rules(body: dict[str, Any]) -> list[str]:
    found = microsoft.check("request", DEPLOYMENT, VERSION, body)
    assert found is not None
    return [f"{v.where} {v.rule}" for v in found]


def test_a_misspelt_member_is_found(body: dict[str, Any]) -> None:
    body["properties"]["requestSettings"]["requestTimeoutt"] = body["properties"]["requestSettings"].pop(
        "requestTimeout"
    )
    assert rules(body) == [".properties.requestSettings.requestTimeoutt is not a member of the type"]


def test_a_wrong_type_is_found(body: dict[str, Any]) -> None:
    body["properties"]["scaleSettings"]["maxInstances"] = "six"
    assert rules(body) == [".properties.scaleSettings.maxInstances expected int, found str"]


def test_a_missing_required_member_is_found(body: dict[str, Any]) -> None:
    del body["location"]
    assert rules(body) == [".location is required and missing"]


def test_an_unknown_kind_is_found(body: dict[str, Any]) -> None:
    body["properties"]["endpointComputeType"] = "Balloon"
    (found,) = rules(body)
    assert found.startswith(".properties.endpointComputeType expected one of")
    assert "Kubernetes" in found


def test_an_address_without_a_type_is_not_judged() -> None:
    assert (
        microsoft.check("request", "/subscriptions/S/providers/Microsoft.Compute/locations/x/usages", VERSION, {})
        is None
    )
