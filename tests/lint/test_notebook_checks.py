"""Single checks of the notebooks on numbers that they must not let pass: the cell's own source, with names made here."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from workbench import cells

from runbook import paths
from runbook.check import check, not_needed
from runbook.errors import CheckFailed
from runbook.modelling import dataset, leaks, onnx_model, promotion, request, training
from runbook.modelling.description import description
from runbook.platform.base import Deployment, Endpoint
from runbook.testing import cases, load_results, scaling
from runbook.testing.processor_use import ProcessorUse

TESTED = {"deployment": "green", "model_version": "2", "code_digest": "a" * 64}
SCALING = scaling.Scaling(3, 6, 1)
MODULES = {
    "dataset": dataset,
    "onnx_model": onnx_model,
    "promotion": promotion,
    "request": request,
    "training": training,
}


def run(notebook: str, cell: str, **names: Any) -> dict[str, Any]:
    """Execute one cell with these names around it, and return all names as they are then."""
    document = nbformat.read(paths.NOTEBOOKS / f"{notebook}.ipynb", as_version=4)
    around = {"check": check, "not_needed": not_needed, "needed": True, "stage": "prod", **MODULES, **names}
    exec(next(c.source for c in document.cells if c.id == cell), around)  # noqa: S102 - our own notebook
    return around


def phase(name: str, planned: int, wrong: int = 0, lag_ms: float = 1.0) -> load_results.PhaseResult:
    lag = load_results.Percentiles(p99_ms=lag_ms)
    return load_results.PhaseResult(name, planned=planned, sent=planned, answered=planned, ok=planned - wrong, lag=lag)


def endpoint(**tags: str) -> Endpoint:
    standing = (Deployment("green", "Titanic", "2", "0" * 64, "a" * 64, "ready", 3),)
    return Endpoint("titanic-prod", "prod", "kubernetes", "http://127.0.0.1:1/score", {"green": 100}, standing, tags)


def serving(**tags: str) -> SimpleNamespace:
    return SimpleNamespace(find_endpoint=lambda stage: endpoint(**tags), find_model=lambda *a, **k: CHAMPION)


CHAMPION = SimpleNamespace(version="2", name="Titanic")


@pytest.mark.parametrize(("wrong", "holds"), [(0, True), (14, False)])
def test_errors_of_the_sustained_load_are_not_diluted_by_a_burst(wrong: int, holds: bool) -> None:
    result = load_results.LoadResult(0.0, 60.0, (phase("sustained", 150, wrong), phase("burst", 1350)))
    names = {"result": result, "sustained": result.phase("sustained"), "max_error_percent": 1.0}
    assert result.error_percent is not None and result.error_percent < 1
    if holds:
        run("80_stress_test", "check-errors", **names)
    else:
        with pytest.raises(CheckFailed, match="sustained requests without a right answer"):
            run("80_stress_test", "check-errors", **names)


@pytest.mark.parametrize(("lag_ms", "holds"), [(35.0, True), (900.0, False)])
def test_a_generator_that_was_late_in_the_burst_alone_proves_nothing_either(lag_ms: float, holds: bool) -> None:
    machine = ProcessorUse(2, 1.9, {"idle": 0.0, "python": 0.6, "backup": 1.2})
    result = load_results.LoadResult(0.0, 60.0, (phase("sustained", 150), phase("burst", 800, lag_ms=lag_ms)), machine)
    names = {"result": result, "sustained": result.phase("sustained"), "max_lag_p99_ms": 250.0}
    if holds:
        run("80_stress_test", "check-lag", **names)
    else:
        with pytest.raises(CheckFailed, match="the generator's lag") as failure:
            run("80_stress_test", "check-lag", **names)
        assert "1.9 of 2 cores were busy; the most: backup 1.2" in str(failure.value)
        assert "End what else runs here" in str(failure.value)


@pytest.mark.parametrize(
    ("history", "holds"),
    [([(100, 3, 3), (120, 6, 6), (150, 3, 3)], True), ([(100, 6, 6), (150, 3, 3)], False), ([(100, 3, 3)], False)],
    ids=["rose", "was up before", "never rose"],
)
def test_replicas_that_were_up_before_the_burst_did_not_rise_in_it(
    history: list[tuple[float, int, int]], holds: bool
) -> None:
    seen = scaling.table(history, 100.0, 70.0)
    names = {"seen": seen, "history": history, "limits": SCALING, "burst": 8.0, "calm": 55.0, "calm_polls": 20}
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


GROUPS = {cases.GOLDEN: 21, cases.LISTS: 4, cases.SAME: 6}


@pytest.mark.parametrize("group", GROUPS)
def test_one_golden_row_that_is_answered_otherwise_stops_the_functional_test(group: str) -> None:
    names = {"cases": cases, "golden": range(21), "lists": range(4), "same": range(6)}
    run("70_functional_test", "check-golden", passed=GROUPS, **names)
    with pytest.raises(CheckFailed):
        run("70_functional_test", "check-golden", passed={**GROUPS, group: GROUPS[group] - 1}, **names)


APPROVED = {"name": "Titanic", "version": "2", "modelId": "Titanic:2", "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("fact", "says"),
    [("sha256", "its digest is the approved one"), (None, "the registry knows the version")],
)
def test_a_version_whose_bytes_were_not_approved_is_not_deployed(fact: str | None, says: str) -> None:
    version = SimpleNamespace(digest="0" * 64)
    run("60_deploy", "check-version", version=version, chosen=APPROVED)
    with pytest.raises(CheckFailed, match=says):
        run("60_deploy", "check-version", version=fact and version, chosen={**APPROVED, "sha256": "1" * 64})


@pytest.mark.parametrize(
    ("chosen", "before", "says"),
    [
        ({"modelId": "Titanic:3"}, {"green": 100}, "the slot serves the version"),
        ({"sha256": "1" * 64}, {"green": 100}, "it accepts only the approved bytes"),
        ({}, {"green": 0}, "traffic is what it was"),
    ],
)
def test_a_deployment_that_is_not_what_was_approved_is_not_handed_on(
    chosen: dict[str, str], before: dict[str, int], says: str
) -> None:
    names = {"platform": serving(), "slot": "green"}
    run("60_deploy", "check-after", **names, chosen=APPROVED, endpoint=SimpleNamespace(traffic={"green": 100}))
    with pytest.raises(CheckFailed, match=says):
        changed = SimpleNamespace(traffic=before)
        run("60_deploy", "check-after", **names, chosen={**APPROVED, **chosen}, endpoint=changed)


@pytest.mark.parametrize(("standing", "approved"), [("2", "3"), ("0" * 64, "1" * 64)], ids=["version", "bytes"])
def test_a_deployment_that_is_not_what_was_approved_is_not_tested(standing: str, approved: str) -> None:
    names = {"platform": serving(), "slot": "green"}
    run("70_functional_test", "check-deployment", **names, chosen=APPROVED)
    chosen = {key: value.replace(standing, approved) for key, value in APPROVED.items()}
    with pytest.raises(CheckFailed):
        run("70_functional_test", "check-deployment", **names, chosen=chosen)


def fitted(**changes: Any) -> training.Fitted:
    rows = training.rows_digest(dataset.training_set())
    return training.Fitted(**{"name": "it", "pipeline": None, "description": "'it'", "rows_sha256": rows, **changes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"description": "'another'"}, "the pipeline that was fitted"),
        ({"rows_sha256": "0" * 64}, "the rows it was fitted on"),
    ],
)
def test_a_candidate_that_is_not_what_was_compared_stops_the_training(
    changes: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "openings", lambda: 0)
    monkeypatch.setattr(training, "spelled_out", repr)
    names = {"everyone": {"it": "it"}, "chosen": "it"}
    run("20_train", "check-fitted", fitted=fitted(), **names)
    with pytest.raises(CheckFailed, match=says):
        run("20_train", "check-fitted", fitted=fitted(**changes), **names)


def test_a_training_that_has_read_the_holdout_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "spelled_out", repr)
    dataset.holdout()
    names = {"everyone": {"it": "it"}, "chosen": "it"}
    with pytest.raises(CheckFailed, match="times the holdout was read so far"):
        run("20_train", "check-fitted", fitted=fitted(), **names)


def test_a_kind_of_model_that_is_no_candidate_is_refused_with_the_candidates() -> None:
    run("20_train", "check-choice", chosen="forest", candidates={"forest": None})
    with pytest.raises(CheckFailed, match="found woods, expected one of forest"):
        run("20_train", "check-choice", chosen="woods", candidates={"forest": None})


PARITY = onnx_model.Parity(rows=9000, with_nulls=5000, largest_difference=1e-7, at_threshold=40, flipped_verdicts=0)


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({}, True),
        ({"with_nulls": 0}, False),
        ({"largest_difference": 1e-4}, False),
        ({"largest_difference": float("nan")}, False),
        ({"flipped_verdicts": 1}, False),
    ],
)
def test_an_export_that_answers_otherwise_than_its_pipeline_stops_the_training(
    changes: dict[str, Any], holds: bool
) -> None:
    shown = SimpleNamespace(parity=lambda *given: replace(PARITY, **changes))
    names = {
        "onnx_model": shown,
        "fitted": SimpleNamespace(pipeline=None),
        "onnx_file": b"",
        "rows": [[0.0]] * 700,
        "parity_within": 1e-5,
    }
    if holds:
        run("20_train", "check-parity", **names)
    else:
        with pytest.raises(CheckFailed):
            run("20_train", "check-parity", **names)


def trained() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the handoff and run.json of a training of the bytes b"model"."""
    rows = {"sha256": description().sha256, "training_set_sha256": training.rows_digest(dataset.training_set())}
    digest = dataset.digest(b"model")
    record = {
        "model": {"sha256": digest},
        "data": {**rows, "holdout_openings": 0},
        "code": {"sha256": training.code_digest()},
    }
    return {"model_uri": "runs:/1/model", "sha256": digest}, record


@pytest.mark.parametrize(
    ("part", "fact", "value", "says"),
    [
        ("model", "sha256", "0" * 64, "run.json and the handoff name one model"),
        ("data", "sha256", "0" * 64, "the data it was trained on"),
        ("data", "training_set_sha256", "0" * 64, "the rows it was fitted on"),
        ("data", "holdout_openings", 1, "times training read the holdout"),
        ("data", "holdout_openings", None, "times training read the holdout"),
        ("code", "sha256", "0" * 64, "the code it was trained with"),
    ],
)
def test_a_record_that_is_not_of_an_honest_training_stops_the_evaluation(
    part: str, fact: str, value: Any, says: str
) -> None:
    source = SimpleNamespace(
        download=lambda uri: b"model", code_digest=training.code_digest, rows_digest=training.rows_digest
    )
    left, record = trained()
    names = {"training": source, "trained": left}
    run("30_evaluate", "check-candidate", **names, run=record)
    with pytest.raises(CheckFailed, match=says):
        run("30_evaluate", "check-candidate", **names, run={**record, part: {**record[part], fact: value}})


def judged(champion: str, training_key: str) -> dict[str, Any]:
    """Gather the evidence of 30_evaluate about a logistic regression, with another of our pipelines as champion."""
    rows, outcomes = cells()["rows"], cells()["outcomes"]
    made = {
        kind: onnx_model.export(clone(cells()["candidates"][kind]).fit(rows, outcomes))
        for kind in ("logistic_regression", champion)
    }
    holdout = dataset.holdout()
    asked = dataset.matrix(holdout)
    answers = {"candidate": onnx_model.predict(made["logistic_regression"], asked)}
    answers["champion"] = onnx_model.predict(made[champion], asked)
    metrics = {name: 0.4 for name in promotion.TRAINED} | {"cv_log_loss_low": 0.39, "cv_brier_low": 0.12}
    return run(
        "30_evaluate", "evidence",
        np=np, holdout=holdout, outcomes=dataset.outcomes(holdout), answers=answers,
        candidate=made["logistic_regression"], champion=made[champion], baselines={},
        version=SimpleNamespace(tags={"training_key": "a"}), trained={"training_key": training_key, "metrics": metrics},
        training_set=cells()["table"], leaks=leaks,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("champion", "key", "same", "new"),
    [
        ("gradient_boosting", "b", False, True),
        ("logistic_regression", "b", False, False),
        ("gradient_boosting", "a", True, True),
    ],
)
def test_the_evidence_holds_the_champion_and_how_far_the_candidate_is_from_it(
    champion: str, key: str, same: bool, new: bool
) -> None:
    names = judged(champion, key)
    rival = names["evidence"].champion
    assert np.array_equal(rival.probabilities, names["answers"]["champion"])
    assert rival.same_training is same
    assert (rival.largest_change > 1e-6) is new


def test_each_limit_of_the_evaluation_reaches_its_own_criterion() -> None:
    names = judged("gradient_boosting", "b")
    limits = {"holdout_max_log_loss": 0.51, "holdout_max_brier": 0.18, "holdout_min_roc_auc": 0.79}
    limits |= {"holdout_min_accuracy": 0.74, "margin_log_loss": 0.06}
    limits |= {"holdout_min_calibration_slope": 0.4, "holdout_max_calibration_error": 0.2, "margin_slice": 0.3}
    limits |= {"max_input_roc_auc": 0.98, "max_conflicting_share": 0.35}
    settings = {"bootstrap_resamples": 200, "seed": 1, "promote_when": "not_worse", "must_be_shown": ["champion"]}
    found = run("30_evaluate", "decision", **{**names, **limits, **settings, "pd": pd})["document"]["criteria"]
    wanted = {row["name"]: row["wanted"] for row in found}
    assert wanted["log loss on the holdout"] == "at most 0.51"
    assert wanted["brier on the holdout"] == "at most 0.18"
    assert wanted["roc auc on the holdout"] == "at least 0.79"
    assert wanted["accuracy on the holdout"] == "at least 0.74"
    assert wanted["calibration slope on the holdout"] == "at least 0.4"
    assert wanted["calibration error on the holdout"] == "at most 0.2"
    slices = [value for name, value in wanted.items() if name.startswith("slice ")]
    assert slices and all(value.startswith("at most 0.3,") for value in slices)
    assert [value for name, value in wanted.items() if name.startswith("roc auc of ")] == ["below 0.98"]
    assert wanted["share of training rows that contradict an equal row"] == "at most 0.35"
    assert wanted["log loss minus the champion's"] == "at most 0.06, the whole interval"


def test_a_candidate_with_other_bytes_than_training_recorded_stops_the_evaluation() -> None:
    source = SimpleNamespace(
        download=lambda uri: b"other", code_digest=training.code_digest, rows_digest=training.rows_digest
    )
    left, record = trained()
    with pytest.raises(CheckFailed, match="the candidate's bytes"):
        run("30_evaluate", "check-candidate", training=source, trained=left, run=record)
