"""What 90_release moves, what it leaves alone, and which way back it leaves: its own cells on an endpoint of this test."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import nbformat
import pytest
from test_rollback import RUN, Prod, endpoint

import runbook
from runbook import handoff, paths, release
from runbook.errors import CheckFailed
from runbook.testing import scoring_client

EARLIER = {"released": "blue", "previous": "", "released_by": "101", "released_in": "90_release"}
BEFORE = {"released": "green", "previous": "blue", "released_by": "101", "released_in": "90_release"}


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Returns a function that runs 90_release's cells for green on a platform and returns what they said."""

    def run(platform: Prod, changed: bool, edit: tuple[str, str] = ("", ""), **values: Any) -> str:
        found = platform.endpoint and platform.endpoint.deployment("green")
        assert found
        tested = {"deployment": "green", "model_version": found.model_version, "code_digest": found.code_digest}
        before = {"changed": changed, "served_before": "blue" if changed else "green", "model_name": "Titanic"}
        handoff.save("60_deploy", RUN, "prod", **tested, **before)
        for step in ("70_functional_test", "80_stress_test"):
            handoff.save(step, RUN, "prod", **tested)

        class Caller:
            def __init__(self, *_: object) -> None: ...

            def send(self, _: scoring_client.Request) -> scoring_client.Reply:
                live = platform.endpoint and platform.endpoint.live
                assert live
                return scoring_client.Reply(200, 0.0, "", json.dumps({"model_version": live.model_version}).encode())

        monkeypatch.setattr(runbook, "connect", lambda target: platform)
        monkeypatch.setattr(scoring_client, "Client", Caller)
        names: dict[str, Any] = {}
        for cell in nbformat.read(paths.NOTEBOOKS / "90_release.ipynb", as_version=4).cells:
            if cell.cell_type == "code":
                exec(cell.source.replace(*edit), names)  # noqa: S102 - our own notebook
            if "parameters" in cell.metadata.get("tags", []):
                names |= {"stage": "prod", "run_id": RUN, **values}
        return capsys.readouterr().out

    return run


def without(name: str, traffic: Mapping[str, int], tags: Mapping[str, str]) -> Prod:
    whole = endpoint(traffic, tags)
    left = tuple(d for d in whole.deployments if d.name != name)
    return Prod(dataclasses.replace(whole, deployments=left))


def test_a_release_moves_all_traffic_and_leaves_a_way_back_to_who_served_before(released: Any) -> None:
    prod = Prod(endpoint({"blue": 100}, {"kept": "yes", **EARLIER}), champion="1")
    assert "Not needed" not in released(prod, changed=True)
    assert prod.endpoint and prod.endpoint.traffic == {"green": 100} and prod.champion == "2"
    assert prod.endpoint.tags == {
        **{"kept": "yes", "released": "green", "previous": "blue"},
        **{"released_by": RUN, "released_in": "90_release"},
    }


def test_a_deployment_that_has_all_traffic_already_is_not_released_again(released: Any) -> None:
    prod = Prod(endpoint({"green": 100, "blue": 0}, BEFORE))
    assert "Not needed: all traffic was on this deployment already" in released(prod, changed=False)
    assert prod.endpoint and prod.endpoint.tags == BEFORE


@pytest.mark.parametrize("traffic", [{"green": 90, "blue": 10}, {"green": 10, "blue": 90}])
def test_a_split_is_moved_by_a_step_that_says_so_and_can_be_undone(released: Any, traffic: dict[str, int]) -> None:
    prod = Prod(endpoint(traffic, BEFORE))
    assert "Not needed" not in released(prod, changed=False)
    assert prod.endpoint and prod.endpoint.traffic == {"green": 100}
    assert prod.endpoint.tags["previous"] == "blue" and prod.endpoint.tags["released_by"] == RUN


@pytest.mark.parametrize("traffic", [{"green": 100}, {"green": 90, "blue": 10}], ids=["all", "split"])
def test_a_rollback_target_that_is_gone_is_red_before_any_traffic_moves(released: Any, traffic: dict[str, int]) -> None:
    prod = without("blue", traffic, BEFORE)
    with pytest.raises(CheckFailed, match="the rollback target is ready: found None"):
        released(prod, changed=False)
    assert prod.written == 0


def test_a_release_without_a_rollback_target_is_possible_on_purpose_and_names_none(released: Any) -> None:
    prod = without("blue", {"green": 100}, BEFORE)
    assert "Not needed" not in released(prod, changed=False, rollback_target_needed=False)
    assert prod.endpoint and prod.endpoint.traffic == {"green": 100} and prod.endpoint.tags["previous"] == ""


@pytest.mark.parametrize("written", ["green", ""], ids=["the released deployment", "none"])
def test_a_way_back_to_anything_but_who_served_before_is_red(released: Any, written: str) -> None:
    wrong = f"wanted.traffic, {{**wanted.tags, 'previous': {written!r}}}"
    with pytest.raises(CheckFailed, match="a rollback"):
        released(Prod(endpoint({"blue": 100}, EARLIER)), True, ("wanted.traffic, wanted.tags", wrong))


def test_a_run_that_goes_on_after_its_traffic_has_moved_says_released_and_keeps_its_way_back(released: Any) -> None:
    ours = {**BEFORE, "released_by": RUN}
    prod = Prod(endpoint({"green": 100}, ours), champion="1")
    assert "Not needed" not in released(prod, changed=True)
    assert prod.endpoint and prod.endpoint.tags == ours and prod.champion == "2"


def test_the_first_release_ever_has_no_rollback_target() -> None:
    plan = release.plan(endpoint({}, {}), "blue", RUN)
    assert plan.needed and plan.rollback_target == "" and plan.tags["previous"] == ""


def test_a_slot_with_a_share_of_the_traffic_is_not_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = nbformat.read(paths.NOTEBOOKS / "60_deploy.ipynb", as_version=4).cells
    source = "from runbook import release\nfrom runbook.check import check\n" + next(
        c.source for c in cells if c.id == "slot"
    )
    names: dict[str, Any] = {"served": "blue", "version": Prod(None).find_model("Titanic", "7")}
    exec(source, {**names, "endpoint": endpoint({"blue": 100, "green": 0}, {})})  # noqa: S102 - our own notebook
    with pytest.raises(CheckFailed, match="on the slot that is overwritten: found 10, expected 0"):
        exec(source, {**names, "endpoint": endpoint({"blue": 90, "green": 10}, {})})  # noqa: S102
