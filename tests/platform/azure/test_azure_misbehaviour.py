"""Azure on a bad day: each misbehaviour ends in a clear failure or a successful retry, in bounded time."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from azure_standin.fixtures import Candidate
from azure_standin.standin import StandIn

from runbook.errors import PlatformError
from runbook.platform.azure import AzurePlatform
from runbook.platform.base import ModelVersion

pytest_plugins = ["azure_standin.fixtures"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
COMPUTE, ENDPOINT, BLUE = "/computes/titanic-train$", "/onlineEndpoints/titanic-dev$", "/deployments/blue$"


@pytest.mark.parametrize("fault", ["throttle", "break_down", "drop"])
@pytest.mark.parametrize("method", [pytest.param("GET", marks=pytest.mark.slow), "PUT"])
def test_a_passing_fault_is_retried(azure: AzurePlatform, standin: StandIn, fault: str, method: str) -> None:
    plan: Callable[..., None] = getattr(standin.faults, fault)
    plan(method, COMPUTE, times=2)
    assert azure.create_compute("titanic-train").result.state == "ready"


def test_throttling_without_end_says_so(azure: AzurePlatform, standin: StandIn) -> None:
    standin.faults.throttle("PUT", COMPUTE, times=1000)
    with pytest.raises(PlatformError, match="asks for fewer requests") as failure:
        azure.create_compute("titanic-train")
    assert "TooManyRequests (429)" in str(failure.value)


def test_a_broken_service_says_so(azure: AzurePlatform, standin: StandIn) -> None:
    standin.faults.break_down("PUT", COMPUTE, times=1000)
    with pytest.raises(PlatformError, match="failed on its side"):
        azure.create_compute("titanic-train")


def test_an_operation_that_never_ends_meets_our_deadline(
    azure: AzurePlatform, standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNBOOK_AZURE_DEADLINE", "2")
    standin.faults.never_ending = COMPUTE
    with pytest.raises(PlatformError, match="not done after 2 s"):
        azure.create_compute("titanic-train")


def test_a_failed_operation_names_its_code(azure: AzurePlatform, standin: StandIn) -> None:
    standin.faults.fail_operation(COMPUTE, "NodePoolUnavailable", "no node could be had")
    with pytest.raises(PlatformError, match="NodePoolUnavailable.*no node could be had"):
        azure.create_compute("titanic-train")
    standin.faults.clear()
    assert azure.create_compute("titanic-train").result.state == "ready"


def test_a_used_up_quota_names_the_command_that_shows_it(azure: AzurePlatform, standin: StandIn) -> None:
    standin.faults.quota_left = 1
    with pytest.raises(PlatformError, match="quota") as failure:
        azure.create_compute("titanic-train")
    assert "az ml compute list-usage" in str(failure.value)


def test_a_taken_name_says_where_to_change_it(azure: AzurePlatform, standin: StandIn) -> None:
    message = "There already exists an endpoint with this name in this region."
    standin.faults.refuse("PUT", ENDPOINT, 409, "EndpointAlreadyExists", message)
    with pytest.raises(PlatformError, match="the name is taken") as failure:
        azure.create_endpoint("dev")
    assert "deployment/STAGE/endpoint.yml" in str(failure.value)


def test_a_missing_permission_names_the_role(azure: AzurePlatform, standin: StandIn) -> None:
    standin.faults.refuse("PUT", COMPUTE, 403, "AuthorizationFailed", "The client does not have authorization.")
    with pytest.raises(PlatformError, match="not permitted") as failure:
        azure.create_compute("titanic-train")
    assert 'az role assignment create --role "AzureML Data Scientist"' in str(failure.value)


def test_an_expired_token_asks_to_sign_in_again(azure: AzurePlatform, standin: StandIn) -> None:
    standin.faults.refuse("GET", COMPUTE, 401, "ExpiredAuthenticationToken", "The access token has expired.", times=9)
    with pytest.raises(PlatformError, match="sign-in has expired") as failure:
        azure.find_compute("titanic-train")
    assert "az login" in str(failure.value)


def test_a_lapsed_pipeline_assertion_is_recognised(azure: AzurePlatform, standin: StandIn) -> None:
    message = "AADSTS700024: Client assertion is not within its valid time range."
    standin.faults.refuse("POST", "/oauth2/v2.0/token$", 401, "invalid_client", message, times=9)
    with pytest.raises(PlatformError) as failure:
        azure.find_compute("titanic-train")
    assert "az login" in str(failure.value)


def test_a_change_waits_for_the_operation_of_another_client(
    azure: AzurePlatform, version: ModelVersion, standin: StandIn
) -> None:
    azure.create_endpoint("dev")
    azure.deploy("dev", "blue", version)
    standin.faults.operations_take = 3.0
    slow = threading.Thread(target=azure.set_traffic, args=("dev", {"blue": 100}, {}))
    slow.start()
    try:
        while not standin.sent("PUT", ENDPOINT)[1:]:
            threading.Event().wait(0.05)
        assert AzurePlatform().set_traffic("dev", {"blue": 0}, {"note": "x"}).result.traffic == {}
    finally:
        slow.join(30)


def test_a_change_that_azure_refuses_because_another_goes_on_is_explained(
    azure: AzurePlatform, version: ModelVersion, standin: StandIn
) -> None:
    azure.create_endpoint("dev")
    azure.deploy("dev", "blue", version)
    standin.faults.refuse("PUT", ENDPOINT, 409, "ResourceBusy", "There is an operation in progress on the resource.")
    with pytest.raises(PlatformError, match="another operation on it is going on"):
        azure.set_traffic("dev", {"blue": 100}, {})


def test_an_expired_signature_fails_clearly_and_the_next_try_works(
    azure: AzurePlatform, candidate: Candidate, standin: StandIn
) -> None:
    standin.faults.signatures_expired = True
    with pytest.raises(PlatformError, match="registering the model Titanic"):
        azure.register_model("Titanic", candidate.source, candidate.digest, "", {})
    standin.faults.signatures_expired = False
    assert azure.register_model("Titanic", candidate.source, candidate.digest, "", {}).result.version == "1"


def test_a_log_that_cannot_be_read_does_not_hide_the_failure(
    azure: AzurePlatform, version: ModelVersion, standin: StandIn
) -> None:
    azure.create_endpoint("dev")
    standin.faults.fail_operation(BLUE, "ResourceNotReady", "User container has crashed or terminated.")
    standin.faults.refuse("POST", "/getLogs$", 404, "NotFound", "No log.", times=9)
    with pytest.raises(PlatformError, match="User container has crashed") as failure:
        azure.deploy("dev", "blue", version)
    assert "could not be read" in failure.value.log


def test_a_compute_can_be_deleted_after_everything_else_has_failed(azure: AzurePlatform, standin: StandIn) -> None:
    azure.create_compute("titanic-train")
    standin.faults.drop("DELETE", COMPUTE)
    standin.faults.throttle("GET", "computeOperationsStatus")
    assert azure.delete_compute("titanic-train").changed
    assert azure.find_compute("titanic-train") is None
