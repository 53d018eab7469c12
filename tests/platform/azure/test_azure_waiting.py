"""Waiting for Azure: every verb in the time it states, and what goes on after a wait has ended early."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from azure.core.polling import LROPoller
from azure_standin.standin import StandIn

from runbook import side_channel
from runbook.engine import plan
from runbook.errors import PlatformError
from runbook.platform.azure import AzurePlatform
from runbook.platform.base import Change, ModelVersion

pytest_plugins = ["azure_standin.fixtures"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
Verb = Callable[[], Change[Any]]


@contextmanager
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Collect the seconds that the SDK's pollers are given while the block runs."""
    given: list[float] = []
    wait = LROPoller.wait

    def noting(self: LROPoller[Any], timeout: float | None = None) -> None:
        # The SDK also waits without a limit for the result of what is done already.
        if timeout is not None or not self.done():
            given.append(float("inf") if timeout is None else timeout)
        wait(self, timeout)

    with monkeypatch.context() as patch:
        patch.setattr(LROPoller, "wait", noting)
        yield given


def test_no_verb_waits_longer_than_the_platform_states_and_a_cell_may_take_longer_than_that(
    azure: AzurePlatform, version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    verbs: list[tuple[str, Verb]] = [
        ("create_compute", lambda: azure.create_compute("titanic-train")),
        ("delete_compute", lambda: azure.delete_compute("titanic-train")),
        ("create_cluster", azure.create_cluster),
        ("install_extension", azure.install_extension),
        ("create_namespace", azure.create_namespace),
        ("attach_cluster", azure.attach_cluster),
        ("create_endpoint", lambda: azure.create_endpoint("prod")),
        ("deploy", lambda: azure.deploy("prod", "blue", version)),
        ("set_traffic", lambda: azure.set_traffic("prod", {"blue": 100}, {})),
        ("set_traffic", lambda: azure.set_traffic("prod", {"blue": 0}, {})),
        ("delete_deployment", lambda: azure.delete_deployment("prod", "blue")),
        ("delete_endpoint", lambda: azure.delete_endpoint("prod")),
        ("detach_cluster", azure.detach_cluster),
        ("delete_cluster", azure.delete_cluster),
    ]
    for name, verb in verbs:
        with waits(monkeypatch) as given:
            assert verb().changed, name
        assert len(given) == 1, name
        assert given[0] <= azure.longest_wait < plan.cell_deadline(azure), name


@pytest.mark.parametrize("what", ["compute", "endpoint", "cluster", "deployment"])
def test_a_verb_that_is_called_again_waits_for_what_an_earlier_call_began(
    azure: AzurePlatform, standin: StandIn, version: ModelVersion, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "deployment":
        azure.create_endpoint("dev")
    verbs: dict[str, tuple[Verb, str]] = {
        "compute": (lambda: azure.create_compute("titanic-train"), "/computes/titanic-train$"),
        "endpoint": (lambda: azure.create_endpoint("dev"), "/onlineEndpoints/titanic-dev$"),
        "cluster": (azure.create_cluster, "/managedClusters/titanic-aks$"),
        "deployment": (lambda: azure.deploy("dev", "blue", version), "/deployments/blue$"),
    }
    verb, path = verbs[what]
    monkeypatch.setattr(standin.faults, "operations_take", 4.0)
    monkeypatch.setenv("RUNBOOK_AZURE_DEADLINE", "1")
    with pytest.raises(PlatformError, match="goes on in Azure") as failure:
        verb()
    assert "Next: see how far it is: az " in str(failure.value)
    with pytest.raises(PlatformError, match="an earlier operation on .* is not done after 1 s"):
        verb()
    monkeypatch.delenv("RUNBOOK_AZURE_DEADLINE")
    assert not verb().changed
    assert len(standin.sent("PUT", path)) == 1


def test_while_a_verb_waits_the_runner_can_read_what_for(
    azure: AzurePlatform, standin: StandIn, version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    azure.create_endpoint("dev")
    monkeypatch.setattr(standin.faults, "operations_take", 2.0)
    with side_channel.opened("azure"):
        deploying = threading.Thread(target=azure.deploy, args=("dev", "blue", version))
        deploying.start()
        heard = ""
        while deploying.is_alive() and not heard:
            heard = side_channel.going_on()
            deploying.join(timeout=0.05)
        deploying.join()
        assert "deploying titanic:1 as titanic-dev/blue" in heard.replace("Titanic", "titanic")
        assert "az ml online-deployment show --name blue --endpoint-name titanic-dev --resource-group" in heard
        assert side_channel.going_on() == ""


def test_the_keys_of_an_endpoint_are_known_to_the_runner_before_anything_can_show_them(azure: AzurePlatform) -> None:
    azure.create_endpoint("dev")
    with side_channel.opened("azure"):
        keys = azure.keys("dev")
        assert side_channel.secrets() == [keys.primary, keys.secondary]


def test_each_state_of_an_operation_is_told_while_it_is_waited_for(azure: AzurePlatform, standin: StandIn) -> None:
    standin.faults.operations_take = 2.5
    with side_channel.opened("azure"):
        azure.create_compute("titanic-train")
        told = side_channel.progress(0)
    assert told[0].startswith("creating the compute target titanic-train: begun, takes at most ")
    states = [line.split(": ")[1].split(" after ")[0] for line in told[1:]]
    assert states == ["InProgress", "Succeeded"]
