from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from workbench import cells

from runbook import handoff
from runbook.errors import UsageError
from runbook.modelling import dataset, promotion, training
from runbook.modelling.description import description

ROWS = 400
TRUTH = np.random.default_rng(1).uniform(0.05, 0.95, ROWS)
OUTCOMES = (np.random.default_rng(2).uniform(size=ROWS) < TRUTH).astype(int)
TICKETS = np.array([f"ticket {n // 2}" for n in range(ROWS)])
COARSE = np.where(TRUTH > 0.5, 0.7, 0.3)
TRAINED = {
    "cv_log_loss": 0.4,
    "cv_log_loss_low": 0.4,
    "cv_brier": 0.1,
    "cv_brier_low": 0.1,
    "cv_roc_auc": 0.8,
    "cv_accuracy": 0.8,
}
RULES = promotion.Rules(0.60, 0.21, 0.75, 0.65, margin=0.05, resamples=200)
LENIENT = promotion.Rules(9, 1, 0, 0, margin=0.01, resamples=200)


def evidence(**changes: Any) -> promotion.Evidence:
    baselines = {"majority": np.full(ROWS, 0.5), "women live": COARSE}
    given = {"outcomes": OUTCOMES, "groups": TICKETS, "candidate": TRUTH, "baselines": baselines, "trained": TRAINED}
    return promotion.Evidence(**{**given, **changes})


def champion(probabilities: Any, same_training: bool = False, largest_change: float = 0.3) -> promotion.Champion:
    return promotion.Champion(probabilities, same_training, largest_change)


def noisy(amount: float) -> Any:
    return np.clip(TRUTH + np.random.default_rng(3).normal(0, amount, ROWS), 0.02, 0.98)


def failed(decision: promotion.Decision) -> list[str]:
    return [c.name for c in decision.criteria if c.verdict == "failed"]


def test_a_first_candidate_that_holds_everything_is_promoted() -> None:
    decision = promotion.decide(evidence(), RULES)
    assert decision.decision == "promote"
    assert failed(decision) == []
    assert "no champion" in decision.reason


@pytest.mark.parametrize("rival", [None, champion(noisy(0.05))], ids=["no champion", "a champion"])
def test_the_decision_is_written_as_its_schema_wants(rival: promotion.Champion | None) -> None:
    document = promotion.decide(evidence(champion=rival), RULES).document()
    handoff.save_metadata("decision", "a-run", document)
    assert handoff.load_metadata("decision", "a-run")["criteria"] == document["criteria"]


@pytest.mark.parametrize(
    ("rules", "name"),
    [
        ({"max_log_loss": 0.1}, "log loss on the holdout"),
        ({"max_brier": 0.01}, "brier on the holdout"),
        ({"min_roc_auc": 0.999}, "roc auc on the holdout"),
        ({"min_accuracy": 0.999}, "accuracy on the holdout"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
@pytest.mark.parametrize("rival", [None, champion(noisy(0.05))], ids=["no champion", "a champion"])
def test_a_broken_floor_fails(rules: dict[str, Any], name: str, rival: promotion.Champion | None) -> None:
    decision = promotion.decide(evidence(champion=rival), dataclasses.replace(RULES, **rules))
    assert decision.decision == "fail"
    assert failed(decision) == [name]
    assert "expected at" in decision.reason


def by_name(decision: promotion.Decision, name: str) -> promotion.Criterion:
    return next(c for c in decision.criteria if c.name == name)


def test_an_honest_candidate_below_a_floor_by_luck_is_unsure_and_passes() -> None:
    found = by_name(promotion.decide(evidence(), RULES), "roc auc on the holdout")
    assert isinstance(found.found, float) and found.interval is not None
    rules = dataclasses.replace(RULES, min_roc_auc=found.found + 1e-4)
    decision = promotion.decide(evidence(), rules)
    assert decision.decision == "promote"
    assert by_name(decision, "roc auc on the holdout").verdict == "unsure"
    assert "too few rows to be sure of: roc auc on the holdout" in decision.reason


@pytest.mark.parametrize(("beyond", "verdict"), [(-1e-9, "unsure"), (1e-9, "failed")])
def test_a_floor_fails_once_the_whole_interval_breaks_it(beyond: float, verdict: str) -> None:
    found = by_name(promotion.decide(evidence(), RULES), "accuracy on the holdout")
    assert found.interval is not None
    rules = dataclasses.replace(RULES, min_accuracy=found.interval[1] + beyond)
    assert by_name(promotion.decide(evidence(), rules), "accuracy on the holdout").verdict == verdict


@pytest.mark.parametrize("rival", [None, champion(noisy(0.05))], ids=["no champion", "a champion"])
def test_an_unsure_floor_fails_where_floors_must_be_shown(rival: promotion.Champion | None) -> None:
    found = by_name(promotion.decide(evidence(), RULES), "roc auc on the holdout")
    assert isinstance(found.found, float)
    rules = dataclasses.replace(RULES, min_roc_auc=found.found - 1e-4, must_be_shown=("floors", "champion"))
    decision = promotion.decide(evidence(champion=rival), rules)
    assert decision.decision == "fail"
    assert decision.reason.startswith("Roc auc on the holdout: found")


def test_a_candidate_that_may_be_worse_is_promoted_where_that_need_not_be_shown() -> None:
    rules = dataclasses.replace(LENIENT, margin=0.04, must_be_shown=())
    decision = promotion.decide(evidence(candidate=noisy(0.1), baselines={}, champion=champion(TRUTH)), rules)
    assert decision.decision == "promote"
    assert "which is not shown" in decision.reason


def test_a_limit_that_is_not_known_is_refused() -> None:
    with pytest.raises(UsageError, match="must_be_shown holds 'flors'; expected names among floors"):
        promotion.decide(evidence(), dataclasses.replace(RULES, must_be_shown=("flors",)))


def test_the_smallest_difference_shrinks_with_the_root_of_the_rows() -> None:
    every = by_name(promotion.decide(evidence(), RULES), "accuracy on the holdout").smallest_difference
    quarter = {"outcomes": OUTCOMES[::4], "groups": np.arange(ROWS // 4), "candidate": TRUTH[::4], "baselines": {}}
    fewer = by_name(promotion.decide(evidence(**quarter), LENIENT), "accuracy on the holdout").smallest_difference
    assert every is not None and fewer is not None
    # Tickets of two rows make the draws of all rows a little wider than those of single rows.
    assert 1.2 < fewer / every < 2.6
    deviation = np.sqrt(0.25 / ROWS)
    assert 0.5 * deviation < every / promotion.DETECTABLE < 2 * deviation


@pytest.mark.parametrize("digits", [1, 2, 15], ids=["many ties", "some ties", "no ties"])
def test_the_drawn_roc_auc_is_that_of_scikit_learn(digits: int) -> None:
    probabilities, weights = np.round(TRUTH, digits), promotion.draw_groups(TICKETS, 50, seed=5)
    expected = [roc_auc_score(OUTCOMES, probabilities, sample_weight=row) for row in weights]
    assert promotion.roc_auc_draws(OUTCOMES, probabilities, weights) == pytest.approx(expected, abs=1e-12)


def test_a_draw_of_one_outcome_has_no_roc_auc_and_leaves_the_interval_to_the_others() -> None:
    outcomes, probabilities = np.array([0, 0, 1]), np.array([0.1, 0.2, 0.9])
    weights = np.array([[1, 1, 1], [2, 1, 0]])
    assert promotion.roc_auc_draws(outcomes, probabilities, weights) == pytest.approx([1.0, np.nan], nan_ok=True)


def log_odds(probabilities: Any) -> Any:
    return np.log(probabilities / (1 - probabilities))


def with_odds(odds: Any) -> Any:
    return 1 / (1 + np.exp(-odds))


def test_a_constant_candidate_is_refused() -> None:
    decision = promotion.decide(evidence(candidate=np.full(ROWS, 0.4), baselines={}), LENIENT)
    assert decision.decision == "fail"
    assert decision.reason == (
        "The candidate does not look at its inputs. Different probabilities on the holdout: found 1, expected 2 or more."
    )


def test_a_candidate_that_is_too_sure_of_itself_is_refused_by_its_slope() -> None:
    decision = promotion.decide(evidence(candidate=with_odds(4 * log_odds(TRUTH)), baselines={}), LENIENT)
    assert decision.decision == "fail"
    assert decision.reason.startswith("Calibration slope on the holdout: found 0.2")
    assert decision.reason.endswith("expected at least 0.5.")


def test_a_candidate_whose_probabilities_are_all_too_high_is_refused_by_its_error() -> None:
    decision = promotion.decide(evidence(candidate=with_odds(1.5 + log_odds(TRUTH)), baselines={}), LENIENT)
    assert decision.decision == "fail"
    assert decision.reason.startswith("Calibration error on the holdout: found 0.")


def test_an_input_that_tells_the_label_is_refused_by_name() -> None:
    decision = promotion.decide(evidence(inputs={"Fare": 0.7, "boat": 0.995}), LENIENT)
    assert decision.reason == (
        "The data cannot be learned from. Roc auc of boat alone on the training set: found 0.995, expected below 0.99."
    )


def test_rows_that_contradict_each_other_are_refused() -> None:
    decision = promotion.decide(evidence(conflicting=0.4), LENIENT)
    assert decision.decision == "fail"
    assert "contradict an equal row: found 0.4, expected at most 0.25." in decision.reason


SLICES = {"broken": np.arange(ROWS) < 60, "sound": np.arange(ROWS) >= 60, "few": np.arange(ROWS) < 12}


def test_a_candidate_that_is_bad_on_one_slice_is_refused_though_it_is_good_enough_over_all_rows() -> None:
    broken = np.where(SLICES["broken"], 1 - TRUTH, TRUTH)
    shown = evidence(candidate=broken, baselines={}, champion=champion(TRUTH), slices=SLICES)
    decision = promotion.decide(shown, dataclasses.replace(LENIENT, margin=0.4))
    assert decision.decision == "fail"
    assert failed(decision) == ["slice broken: log loss minus the champion's"]
    assert "expected at most 0.1, 60 rows" in decision.reason
    assert by_name(decision, "slice few: log loss minus the champion's").verdict == "unsure"


def test_an_equal_candidate_passes_every_slice() -> None:
    decision = promotion.decide(evidence(champion=champion(noisy(0.02)), slices=SLICES), RULES)
    assert (decision.decision, failed(decision)) == ("promote", [])


def test_the_calibration_slope_is_that_of_an_unpenalised_logistic_regression() -> None:
    weights = promotion.draw_groups(TICKETS, 5, seed=5)
    for candidate in (TRUTH, with_odds(4 * log_odds(TRUTH)), with_odds(log_odds(TRUTH) / 3)):
        odds = log_odds(candidate).reshape(-1, 1)
        model = LogisticRegression(C=1e12, max_iter=1000, tol=1e-10)
        expected = [model.fit(odds, OUTCOMES, sample_weight=row).coef_[0, 0] for row in weights]
        assert promotion.calibration_slopes(OUTCOMES, candidate, weights) == pytest.approx(expected, rel=0.01)


def test_probabilities_that_separate_the_outcomes_have_a_finite_slope() -> None:
    weights = promotion.draw_groups(TICKETS, 20, seed=5)
    slopes = promotion.calibration_slopes(OUTCOMES, np.where(OUTCOMES == 1, 0.9, 0.1), weights)
    assert np.isfinite(slopes).all() and (slopes > 1).all()


def test_the_calibration_error_is_the_distance_of_what_was_said_from_what_happened() -> None:
    outcomes, once = np.array([0, 0, 0, 1] * 10), np.ones((1, 40))
    assert promotion.calibration_errors(outcomes, np.full(40, 0.25), once) == pytest.approx([0.0])
    assert promotion.calibration_errors(outcomes, np.full(40, 0.45), once) == pytest.approx([0.2])


def test_a_candidate_that_a_baseline_equals_fails() -> None:
    decision = promotion.decide(evidence(candidate=COARSE), LENIENT)
    assert decision.decision == "fail"
    assert failed(decision) == ["log loss minus that of women live"]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.01, 1.01])
def test_a_probability_that_is_none_fails(wrong: float) -> None:
    broken = TRUTH.copy()
    broken[7] = wrong
    decision = promotion.decide(evidence(candidate=broken), RULES)
    assert decision.decision == "fail"
    assert failed(decision) == ["the candidate answers every row"]
    assert "399 of 400" in decision.reason


def test_a_missing_answer_fails() -> None:
    assert promotion.decide(evidence(candidate=TRUTH[:-1]), RULES).decision == "fail"


def test_a_champion_that_answers_nonsense_fails_instead_of_losing() -> None:
    decision = promotion.decide(evidence(champion=champion(np.full(ROWS, np.nan))), RULES)
    assert (decision.decision, failed(decision)) == ("fail", ["the champion answers every row"])


@pytest.mark.parametrize("change", [np.nan, np.inf])
def test_a_change_that_is_no_number_fails_instead_of_holding(change: float) -> None:
    decision = promotion.decide(evidence(champion=champion(TRUTH, largest_change=change)), RULES)
    assert (decision.decision, failed(decision)) == ("fail", ["largest change against the champion"])


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("value", [None, np.nan])
def test_a_metric_that_training_did_not_leave_fails(name: str, value: float | None) -> None:
    left = {k: v for k, v in TRAINED.items() if k != name} | ({} if value is None else {name: value})
    decision = promotion.decide(evidence(trained=left), RULES)
    assert decision.decision == "fail"
    assert name in decision.reason


@pytest.mark.parametrize("outcome", [0, 1])
def test_holdout_rows_of_one_outcome_fail(outcome: int) -> None:
    decision = promotion.decide(evidence(outcomes=np.full(ROWS, outcome)), RULES)
    assert (decision.decision, failed(decision)) == ("fail", ["the holdout holds both outcomes"])


SEEN = np.where(OUTCOMES == 1, 0.94, 0.06)


@pytest.mark.parametrize(
    "rival",
    [None, champion(noisy(0.05)), champion(SEEN, same_training=True, largest_change=0.0)],
    ids=["no champion", "a champion", "the champion itself"],
)
def test_a_candidate_that_is_wholly_better_here_than_in_cross_validation_fails(
    rival: promotion.Champion | None,
) -> None:
    decision = promotion.decide(evidence(candidate=SEEN, champion=rival), RULES)
    assert decision.decision == "fail"
    assert failed(decision) == ["log loss beside cross-validation", "brier beside cross-validation"]
    assert "has probably seen the holdout" in decision.reason
    assert "expected reaching 0.4, cross-validation's low end" in decision.reason


def test_a_candidate_whose_intervals_meet_is_only_lucky() -> None:
    high = next(c for c in promotion.decide(evidence(), RULES).criteria if c.name == "log loss beside cross-validation")
    assert high.interval is not None
    for low, word in ((high.interval[1], "promote"), (high.interval[1] + 1e-9, "fail")):
        assert promotion.decide(evidence(trained={**TRAINED, "cv_log_loss_low": low}), RULES).decision == word


def test_a_forest_that_was_fitted_on_every_passenger_fails_on_the_real_rows() -> None:
    holdout, rows, outcomes = dataset.holdout(), cells()["rows"], cells()["outcomes"]
    forest = make_pipeline(clone(cells()["filled"]), RandomForestClassifier(100, random_state=1))
    splits = training.folds(cells()["table"], 5, 1, seed=2026)
    measured = training.summary(outcomes, training.out_of_fold(forest, rows, outcomes, splits), splits)
    trained = {f"cv_{name}": value for name, value in measured.items()}
    words = []
    for seen in (dataset.training_set(), dataset.load()):
        answers = (
            clone(forest)
            .fit(dataset.matrix(seen), seen[description().label])
            .predict_proba(dataset.matrix(holdout))[:, 1]
        )
        shown = promotion.Evidence(
            holdout[description().label], holdout[description().group].to_numpy(str), answers, {}, trained
        )
        words.append(promotion.decide(shown, LENIENT).decision)
    assert words == ["promote", "fail"]


def test_the_champions_training_key_holds() -> None:
    decision = promotion.decide(evidence(champion=champion(noisy(0.05), same_training=True)), RULES)
    assert decision.decision == "hold"
    assert "data, code, training parameters and lock" in decision.reason


def test_the_champions_predictions_hold_even_under_another_training_key() -> None:
    decision = promotion.decide(evidence(champion=champion(TRUTH + 1e-7, largest_change=1e-7)), RULES)
    assert decision.decision == "hold"
    assert "within 1e-06" in decision.reason


def test_a_change_just_beyond_the_tolerance_is_new() -> None:
    assert promotion.decide(evidence(champion=champion(TRUTH, largest_change=2e-6)), RULES).decision == "promote"


def test_a_candidate_that_equals_the_champion_is_held_before_its_floors_are_asked() -> None:
    same = evidence(champion=champion(TRUTH, largest_change=0.0))
    assert promotion.decide(same, dataclasses.replace(RULES, max_log_loss=0.1)).decision == "hold"


def test_a_new_candidate_that_is_not_worse_is_promoted() -> None:
    decision = promotion.decide(evidence(champion=champion(noisy(0.05))), RULES)
    assert decision.decision == "promote"
    assert len(decision.draws) == RULES.resamples


def test_a_candidate_that_is_worse_beyond_the_margin_fails() -> None:
    decision = promotion.decide(evidence(candidate=noisy(0.1), baselines={}, champion=champion(TRUTH)), LENIENT)
    assert decision.decision == "fail"
    assert "Worse than the champion by more than 0.01" in decision.reason


def test_a_candidate_that_may_be_worse_beyond_the_margin_is_held() -> None:
    # The difference lies around 0.04, so that a margin of 0.04 is neither kept nor broken for certain.
    rules = dataclasses.replace(LENIENT, margin=0.04)
    decision = promotion.decide(evidence(candidate=noisy(0.1), baselines={}, champion=champion(TRUTH)), rules)
    assert decision.decision == "hold"
    assert "Not shown to be not worse" in decision.reason


def test_when_better_is_asked_a_better_candidate_is_promoted() -> None:
    rules = dataclasses.replace(RULES, promote_when="better")
    assert promotion.decide(evidence(champion=champion(noisy(0.3))), rules).decision == "promote"


def test_when_better_is_asked_and_not_shown_the_champion_is_held() -> None:
    rules = dataclasses.replace(RULES, promote_when="better")
    decision = promotion.decide(evidence(champion=champion(noisy(0.02))), rules)
    assert decision.decision == "hold"
    assert "Not shown to be better" in decision.reason


def test_a_wish_nobody_knows_is_refused() -> None:
    with pytest.raises(UsageError, match="not_worse or better"):
        promotion.decide(evidence(), dataclasses.replace(RULES, promote_when="nicer"))


def test_the_same_evidence_gives_the_same_decision() -> None:
    rival = evidence(champion=champion(noisy(0.05)))
    assert promotion.decide(rival, RULES) == promotion.decide(rival, RULES)


def test_metrics_lie_within_their_intervals() -> None:
    decision = promotion.decide(evidence(champion=champion(noisy(0.05))), RULES)
    measured = [c for c in decision.criteria if c.interval]
    assert len(measured) == 11
    for c in measured:
        assert c.interval is not None and isinstance(c.found, float)
        assert c.interval[0] <= c.found <= c.interval[1]


def test_every_interval_holds_95_percent_of_the_draws() -> None:
    decision = promotion.decide(evidence(champion=champion(noisy(0.05))), RULES)
    rivalry = next(c for c in decision.criteria if c.name == "log loss minus the champion's")
    assert rivalry.interval == tuple(np.quantile(decision.draws, [0.025, 0.975]))


def test_a_draw_takes_or_leaves_whole_tickets() -> None:
    weights = promotion.draw_groups(TICKETS, 50, seed=5)
    assert weights.shape == (50, ROWS)
    assert np.array_equal(weights[:, ::2], weights[:, 1::2])
    assert (weights.sum(axis=1) == ROWS).all()


def test_the_drawn_differences_spread_around_the_difference() -> None:
    other = noisy(0.1)
    decision = promotion.decide(evidence(champion=champion(other)), RULES)
    found = dataset.metrics(OUTCOMES, TRUTH)["log_loss"] - dataset.metrics(OUTCOMES, other)["log_loss"]
    assert decision.draws.mean() == pytest.approx(found, abs=0.005)
