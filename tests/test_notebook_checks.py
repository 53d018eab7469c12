"""Single checks of the notebooks on numbers that they must not let pass: the cell's own source, with names made here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import nbformat
import pytest

from runbook import latency, replicas, repository
from runbook.check import check, not_needed
from runbook.errors import CheckFailed
from runbook.platform.base import Deployment, Endpoint

TESTED = {"deployment": "green", "model_version": "2", "code_digest": "a" * 64}
SCALING = replicas.Scaling(3, 6, 1)


def run(notebook: str, cell: str, **names: Any) -> None:
    """Execute one cell with these names around it."""
    cells = nbformat.read(repository.NOTEBOOKS / f"{notebook}.ipynb", as_version=4).cells
    around = {"check": check, "not_needed": not_needed, "needed": True, "stage": "prod", **names}
    exec(next(c.source for c in cells if c.id == cell), around)  # noqa: S102 - our own notebook


def phase(name: str, planned: int, wrong: int = 0, lag_ms: float = 1.0) -> latency.PhaseResult:
    lag = latency.Percentiles(p99_ms=lag_ms)
    return latency.PhaseResult(name, planned=planned, sent=planned, answered=planned, ok=planned - wrong, lag=lag)


def endpoint(**tags: str) -> Endpoint:
    standing = (Deployment("green", "Titanic", "2", "0" * 64, "a" * 64, "ready", 3),)
    return Endpoint("titanic-prod", "prod", "kubernetes", "http://127.0.0.1:1/score", {"green": 100}, standing, tags)


def serving(**tags: str) -> SimpleNamespace:
    return SimpleNamespace(find_endpoint=lambda stage: endpoint(**tags), find_model=lambda *a, **k: CHAMPION)


CHAMPION = SimpleNamespace(version="2", name="Titanic")


@pytest.mark.parametrize(("wrong", "holds"), [(0, True), (14, False)])
def test_errors_of_the_sustained_load_are_not_diluted_by_a_burst(wrong: int, holds: bool) -> None:
    result = latency.LoadResult(0.0, 60.0, (phase("sustained", 150, wrong), phase("burst", 1350)))
    names = {"result": result, "sustained": result.phase("sustained"), "max_error_percent": 1.0}
    assert result.error_percent is not None and result.error_percent < 1
    if holds:
        run("80_stress_test", "check-errors", **names)
    else:
        with pytest.raises(CheckFailed, match="sustained requests without a right answer"):
            run("80_stress_test", "check-errors", **names)


@pytest.mark.parametrize(("lag_ms", "holds"), [(35.0, True), (900.0, False)])
def test_a_generator_that_was_late_in_the_burst_alone_proves_nothing_either(lag_ms: float, holds: bool) -> None:
    result = latency.LoadResult(0.0, 60.0, (phase("sustained", 150), phase("burst", 800, lag_ms=lag_ms)))
    names = {"result": result, "sustained": result.phase("sustained"), "max_lag_p99_ms": 250.0}
    if holds:
        run("80_stress_test", "check-lag", **names)
    else:
        with pytest.raises(CheckFailed, match="the generator's lag"):
            run("80_stress_test", "check-lag", **names)


@pytest.mark.parametrize(
    ("history", "holds"),
    [([(100, 3, 3), (120, 6, 6), (150, 3, 3)], True), ([(100, 6, 6), (150, 3, 3)], False), ([(100, 3, 3)], False)],
    ids=["rose", "was up before", "never rose"],
)
def test_replicas_that_were_up_before_the_burst_did_not_rise_in_it(
    history: list[tuple[float, int, int]], holds: bool
) -> None:
    seen = replicas.table(history, 100.0, 70.0)
    names = {"seen": seen, "history": history, "scaling": SCALING, "burst": 8.0, "calm": 55.0, "calm_polls": 20}
    names |= {"warm_up_seconds": 2.0, "sustained_seconds": 15.0}
    if holds:
        run("80_stress_test", "check-replicas", **names)
    else:
        with pytest.raises(CheckFailed, match="replicas rose in the burst"):
            run("80_stress_test", "check-replicas", **names)


@pytest.mark.parametrize("test", ["functional", "stress"])
@pytest.mark.parametrize("fact", TESTED)
def test_only_what_both_tests_have_met_is_released(test: str, fact: str) -> None:
    platform = serving()
    names = {"platform": platform, "deployed": TESTED, "functional": TESTED, "stress": TESTED}
    run("90_release", "check-tested", **names)
    with pytest.raises(CheckFailed, match=f"what the {test} test has tested"):
        run("90_release", "check-tested", **{**names, test: {**TESTED, fact: "another"}})


def test_an_alias_that_is_not_what_prod_serves_stops_the_evaluation() -> None:
    names = {"platform": serving(), "model_name": "Titanic", "version": CHAMPION}
    run("30_evaluate", "check-champion", **names)
    apart = SimpleNamespace(version="1", name="Titanic")
    platform = SimpleNamespace(find_endpoint=lambda stage: endpoint(), find_model=lambda *a, **k: apart)
    with pytest.raises(CheckFailed, match="prod serves the champion"):
        run("30_evaluate", "check-champion", **{**names, "platform": platform, "version": apart})


def test_a_slot_that_is_the_way_back_is_not_overwritten() -> None:
    names = {"slot": "blue", "served": "green"}
    run("60_deploy", "check-free-slot", platform=serving(previous=""), **names)
    with pytest.raises(CheckFailed, match="a rollback does not lead to the slot"):
        run("60_deploy", "check-free-slot", platform=serving(previous="blue"), **names)
