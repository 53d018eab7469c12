"""What 95_rollback undoes, and when it leaves traffic alone: the notebook's own cells on an endpoint of this test."""

from __future__ import annotations

import ast
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import nbformat
import pytest

import runbook
from runbook import handoff, paths, release
from runbook.errors import CheckFailed
from runbook.platform.base import Change, Deployment, Endpoint, Keys, ModelVersion
from runbook.testing import scoring_client

RUN, EARLIER = "102", "101"
RELEASED = {"released": "green", "previous": "blue", "released_by": RUN, "released_in": "90_release"}


def endpoint(traffic: Mapping[str, int], tags: Mapping[str, str]) -> Endpoint:
    deployments = tuple(
        Deployment(name, "Titanic", version, "0" * 64, "1" * 64, "ready", 1)
        for name, version in (("blue", "1"), ("green", "2"))
    )
    return Endpoint("titanic-prod", "prod", "kubernetes", "http://127.0.0.1:1/score", traffic, deployments, tags)


@dataclasses.dataclass
class Prod:
    """A platform that has nothing but the prod endpoint, and notes what it is told to change."""

    endpoint: Endpoint | None
    champion: str | None = "2"
    written: int = 0

    def binding(self) -> dict[str, str]:
        return {"target": "this test"}

    def find_endpoint(self, stage: str) -> Endpoint | None:
        return self.endpoint

    def keys(self, stage: str) -> Keys:
        return Keys("one", "two")

    def set_traffic(self, stage: str, traffic: Mapping[str, int], tags: Mapping[str, str]) -> Change[Endpoint]:
        assert self.endpoint
        self.written += 1
        self.endpoint = dataclasses.replace(self.endpoint, traffic=dict(traffic), tags=dict(tags))
        return Change("set_traffic", {}, True, self.endpoint)

    def promote_model(self, name: str, version: str) -> Change[ModelVersion]:
        self.champion = version
        found = self.find_model(name, version)
        assert found
        return Change("promote_model", {}, True, found)

    def demote_model(self, name: str) -> Change[None]:
        self.champion = None
        return Change("demote_model", {}, True, None)

    def find_model(self, name: str, version: str | None = None, alias: str | None = None) -> ModelVersion | None:
        number = version or self.champion
        aliases = ("champion",) if number == self.champion else ()
        return ModelVersion(name, number, "0" * 64, "", {}, aliases, "") if number else None


@pytest.fixture
def roll_back(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Returns a function that runs 95_rollback's cells on a platform and returns what they said."""

    def run(platform: Prod, run_id: str = RUN, only_release_of: str = "") -> str:
        class Caller:
            def __init__(self, *_: object) -> None: ...

            def send(self, _: scoring_client.Request) -> scoring_client.Reply:
                live = platform.endpoint.live if platform.endpoint else None
                body = {"model_version": live.model_version} if live else {}
                return scoring_client.Reply(200, 0.0, "", json.dumps(body).encode())

        monkeypatch.setattr(runbook, "connect", lambda target: platform)
        monkeypatch.setattr(scoring_client, "Client", Caller)
        names: dict[str, Any] = {}
        for cell in nbformat.read(paths.NOTEBOOKS / "95_rollback.ipynb", as_version=4).cells:
            if cell.cell_type == "code":
                exec(cell.source, names)  # noqa: S102 - our own notebook
            if "parameters" in cell.metadata.get("tags", []):
                names |= {"stage": "prod", "run_id": run_id, "only_release_of": only_release_of}
        return capsys.readouterr().out

    return run


def test_the_hook_takes_back_what_its_own_run_released(roll_back: Any) -> None:
    prod = Prod(endpoint({"green": 100}, {"kept": "yes", **RELEASED}))
    assert "Not needed" not in roll_back(prod, only_release_of=RUN)
    assert prod.endpoint and prod.endpoint.traffic == {"blue": 100} and prod.champion == "1"
    assert prod.endpoint.tags == {
        **{"kept": "yes", "released": "blue", "previous": "green"},
        **{"released_by": RUN, "released_in": "95_rollback"},
    }


LEFT_ALONE = {
    "the run before released it": ({"green": 100}, {**RELEASED, "released_by": EARLIER}),
    "nobody has ever released anything": ({}, {}),
    "somebody has moved the traffic since": ({"blue": 100}, RELEASED),
}


@pytest.mark.parametrize(("traffic", "tags"), LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_the_hook_leaves_traffic_alone_when(roll_back: Any, traffic: dict[str, int], tags: dict[str, str]) -> None:
    prod = Prod(endpoint(traffic, tags))
    assert "Not needed" in roll_back(prod, only_release_of=RUN)
    assert (prod.written, prod.champion) == (0, "2")


ROLLED_BACK = {**RELEASED, "released": "blue", "previous": "green", "released_in": "95_rollback"}
OUT_OF_SERVICE = {**RELEASED, "released": "", "previous": "green", "released_in": "95_rollback"}


@pytest.mark.parametrize("only_release_of", [RUN, ""], ids=["by the hook", "by hand"])
def test_a_rollback_broken_off_behind_the_traffic_is_ended_and_never_swung_back(
    roll_back: Any, only_release_of: str
) -> None:
    prod = Prod(endpoint({"blue": 100}, ROLLED_BACK))
    for _ in range(2):
        roll_back(prod, only_release_of=only_release_of)
        assert prod.endpoint and prod.endpoint.traffic == {"blue": 100}
        assert (prod.written, prod.champion) == (0, "1")


def test_when_nobody_serves_any_more_nobody_is_champion(roll_back: Any) -> None:
    prod = Prod(endpoint({"green": 0}, OUT_OF_SERVICE))
    roll_back(prod, only_release_of=RUN)
    assert (prod.written, prod.champion) == (0, None)
    older = Prod(endpoint({"green": 0}, OUT_OF_SERVICE), champion="1")
    roll_back(older, only_release_of=RUN)
    assert older.champion == "1"


def test_without_an_endpoint_the_hook_has_nothing_to_do_but_a_person_is_told(roll_back: Any) -> None:
    assert "Not needed" in roll_back(Prod(None), only_release_of=RUN)
    with pytest.raises(CheckFailed, match="the endpoint exists"):
        roll_back(Prod(None))


def test_the_first_release_ever_is_taken_out_of_service_by_its_run_only(roll_back: Any) -> None:
    first = endpoint({"green": 100}, {**RELEASED, "previous": ""})
    by_hand = Prod(first)
    with pytest.raises(CheckFailed, match="the previous deployment stands ready"):
        roll_back(by_hand)
    assert by_hand.written == 0
    hook = Prod(first)
    roll_back(hook, only_release_of=RUN)
    assert hook.endpoint and hook.endpoint.traffic == {"green": 0} and hook.champion is None


def test_a_way_back_that_is_gone_is_red_and_callers_keep_what_they_have(roll_back: Any) -> None:
    prod = Prod(endpoint({"green": 100}, {**RELEASED, "previous": "red"}))
    with pytest.raises(CheckFailed, match="the previous deployment stands ready"):
        roll_back(prod, only_release_of=RUN)
    assert prod.written == 0


def test_by_hand_the_latest_release_is_undone_whoever_made_it_and_can_be_redone(roll_back: Any) -> None:
    prod = Prod(endpoint({"green": 100}, {**RELEASED, "released_by": EARLIER}))
    roll_back(prod, run_id="by-hand")
    assert prod.endpoint and prod.endpoint.traffic == {"blue": 100}
    roll_back(prod, run_id="by-hand-again")
    assert prod.endpoint.traffic == {"green": 100}


@pytest.mark.parametrize(("released_by", "written"), [(RUN, 1), (EARLIER, 0)])
def test_a_run_that_has_deployed_undoes_its_own_release_unasked(roll_back: Any, released_by: str, written: int) -> None:
    handoff.save("60_deploy", RUN, "prod", deployment="green", changed=True)
    prod = Prod(endpoint({"green": 100}, {**RELEASED, "released_by": released_by}))
    roll_back(prod)
    assert prod.written == written


def test_a_run_whose_last_deployment_was_never_released_keeps_its_earlier_release(roll_back: Any) -> None:
    handoff.save("60_deploy", RUN, "prod", deployment="blue", changed=True)
    prod = Prod(endpoint({"green": 100}, {**RELEASED, "previous": ""}))
    assert "Not needed" in roll_back(prod)
    assert prod.written == 0 and prod.endpoint and prod.endpoint.traffic == {"green": 100}


def tree(notebook: str) -> ast.Module:
    cells = nbformat.read(paths.NOTEBOOKS / f"{notebook}.ipynb", as_version=4).cells
    return ast.parse("\n".join(cell.source for cell in cells if cell.cell_type == "code"))


def test_the_rollback_reads_like_a_checklist() -> None:
    conditions = [node for node in ast.walk(tree("95_rollback")) if isinstance(node, ast.IfExp | ast.If)]
    assert len(conditions) <= 3


@pytest.mark.parametrize("notebook", ["60_deploy", "90_release", "95_rollback"])
def test_no_cell_composes_tags_and_the_plan_is_shown_as_a_table(notebook: str) -> None:
    keys = {
        key.value
        for node in ast.walk(tree(notebook))
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant)
    }
    assert not keys & {"released", "previous", "released_by", "released_in"}
    assert "release.table(" in ast.unparse(tree(notebook))


def test_the_table_of_a_plan_says_what_serves_now_and_what_serves_afterwards() -> None:
    now = endpoint({"green": 100}, RELEASED)
    shown = release.table(now, release.plan_rollback(now, RUN, only_release_of=RUN))
    assert shown.loc["green"].tolist() == ["2", "ready", 100, 0, "rollback target"]
    assert shown.loc["blue"].tolist() == ["1", "ready", 0, 100, "serves"]
    assert release.table(None, release.plan_rollback(None, RUN)).empty


def test_a_slot_that_is_the_rollback_target_loses_that_tag_in_the_plan_of_a_deployment() -> None:
    now = endpoint({"green": 100}, RELEASED)
    version = Prod(None).find_model("Titanic", "3")
    assert version
    plan = release.plan_deployment(now, version)
    assert (plan.name, plan.is_rollback_target, plan.tags) == ("blue", True, {**RELEASED, "previous": ""})
    assert release.table(now, plan).loc["blue", "afterwards"] == "is overwritten"
