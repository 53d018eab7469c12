"""promote | hold | fail: numbers in, decision out, with the statistics behind it.

Every interval is a 95 % percentile bootstrap that draws whole groups, because the rows of one group share
much of what decides them. Differences are paired: both models answer for the same draw.

A criterion with an interval holds when the whole interval keeps the limit, and fails when the whole interval breaks it.
Between the two it is unsure: these rows are too few to tell. ``Rules.must_be_shown`` names the limits that an unsure
criterion breaks; every other limit lets it pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from runbook.errors import UsageError
from runbook.modelling import dataset

Verdict = Literal["passed", "failed", "unsure", "not_run"]
Word = Literal["promote", "hold", "fail"]
Array = npt.NDArray[Any]
Interval = tuple[float, float]

# The limits that an interval is held against, as ``must_be_shown`` names them.
LIMITS = ("floors", "calibration", "baselines", "slices", "champion")

# A slice with fewer rows is shown and not judged: so few rows make a bootstrap interval too narrow.
FEWEST_IN_SLICE = 20

# The expected calibration error compares mean probability and share of 1 in so many bins of about equal size.
BINS = 6

# A difference of this many standard errors is shown by 80 % of the samples at the 5 % level: 1.96 + 0.84.
DETECTABLE = 2.80

TRAINED = ("cv_log_loss", "cv_brier", "cv_roc_auc", "cv_accuracy", "cv_log_loss_low", "cv_brier_low")


@dataclass(frozen=True)
class Rules:
    """What is asked of a candidate: floors on the holdout, and the margin of log loss it may lose to the champion.

    ``must_be_shown`` holds names of ``LIMITS``: an unsure criterion of these does not pass.
    """

    max_log_loss: float
    max_brier: float
    min_roc_auc: float
    min_accuracy: float
    margin: float
    min_calibration_slope: float = 0.5
    max_calibration_error: float = 0.1
    margin_slice: float = 0.1
    max_input_roc_auc: float = 0.99
    max_conflicting_share: float = 0.25
    promote_when: str = "not_worse"
    must_be_shown: tuple[str, ...] = ("champion",)
    same_within: float = 1e-6
    resamples: int = 2_000
    seed: int = 2026


@dataclass(frozen=True)
class Champion:
    """The model in production [holdout rows]; ``largest_change`` is the candidate's from it over all rows."""

    probabilities: Array
    same_training: bool
    largest_change: float


@dataclass(frozen=True)
class Evidence:
    """Outcomes, groups and probabilities [holdout rows]; ``trained`` are the metrics that training left.

    ``slices`` are masks [holdout rows]. ``inputs`` are ROC AUCs and ``conflicting`` is a share, both as module ``leaks``
    measures them on the training set.
    """

    outcomes: Array
    groups: Array
    candidate: Array
    baselines: Mapping[str, Array]
    trained: Mapping[str, float]
    champion: Champion | None = None
    slices: Mapping[str, Array] = field(default_factory=dict)
    inputs: Mapping[str, float] = field(default_factory=dict)
    conflicting: float = 0.0


@dataclass(frozen=True)
class Criterion:
    """One comparison; ``verdict`` says whether it speaks for promotion.

    ``smallest_difference`` is the distance from the limit that 80 % of samples of this size would show.
    """

    name: str
    wanted: str
    found: float | str
    interval: Interval | None
    verdict: Verdict
    smallest_difference: float | None = None


@dataclass(frozen=True)
class Decision:
    """The decision, the sentence that gives its reason, and every criterion; ``draws`` is what the figure shows.

    ``draws`` [resamples] holds the drawn differences of log loss, candidate minus champion; it is empty without a champion.
    """

    decision: Word
    reason: str
    criteria: tuple[Criterion, ...]
    draws: Array = field(default_factory=lambda: np.empty(0), repr=False, compare=False)

    def document(self) -> dict[str, Any]:
        """Return decision, reason and criteria as decision.json holds them."""
        rows = [_row(criterion) for criterion in self.criteria]
        return {"decision": self.decision, "reason": self.reason, "criteria": rows}


def decide(evidence: Evidence, rules: Rules) -> Decision:
    """Judge a candidate; nothing outside is read or changed.

    Numbers that are missing or not finite fail first, then a constant answer, then data that give the label away or
    contradict themselves, then a candidate that has probably seen the holdout. A candidate that is not new is held before
    its floors are asked, for the champion it equals was released already. Then floors, calibration and baselines fail,
    then a slice that is worse than the champion's, and last the champion is compared with over all rows.
    """
    if rules.promote_when not in ("not_worse", "better"):
        raise UsageError(f"promote_when is {rules.promote_when!r}; expected not_worse or better.")
    if strange := [name for name in rules.must_be_shown if name not in LIMITS]:
        raise UsageError(f"must_be_shown holds {strange[0]!r}; expected names among {', '.join(LIMITS)}.")
    sound = _sound(evidence)
    if wrong := _first_failed(sound):
        return Decision("fail", f"The evidence is not sound. {wrong}", sound)
    sound += (_told_apart(evidence),)
    if wrong := _first_failed(sound):
        return Decision("fail", f"The candidate does not look at its inputs. {wrong}", sound)
    sound += _data(evidence, rules)
    if wrong := _first_failed(sound):
        return Decision("fail", f"The data cannot be learned from. {wrong}", sound)
    weights = draw_groups(evidence.groups, rules.resamples, rules.seed)
    sound += _unseen(evidence, weights)
    if wrong := _first_failed(sound):
        return Decision("fail", f"The candidate has probably seen the holdout in training. {wrong}", sound)
    judged = {
        "floors": _floors(evidence, rules, weights),
        "calibration": _calibration(evidence, rules, weights),
        "baselines": _baselines(evidence, weights),
        "slices": _slices(evidence, rules, weights),
    }
    floors = tuple(criterion for criteria in judged.values() for criterion in criteria)
    broken = next((s for limit, criteria in judged.items() if (s := _broken(criteria, limit, rules))), "")
    if evidence.champion is None:
        reason = broken or f"There is no champion yet. {_kept(floors)}"
        return Decision("fail" if broken else "promote", reason, sound + floors)
    draws = _difference(evidence.outcomes, evidence.candidate, evidence.champion.probabilities, weights)
    newness, rivalry = _newness(evidence.champion, rules), _rivalry(evidence, evidence.champion, rules, draws)
    word, reason = _against_champion(newness, broken, rivalry, rules)
    return Decision(word, reason, (*sound, *newness, *floors, rivalry), draws)


def draw_groups(groups: Array, resamples: int, seed: int) -> Array:
    """Return how often every row is drawn, integers [resamples, rows]: as many groups as there are, with replacement."""
    _, codes = np.unique(groups, return_inverse=True)
    count = int(codes.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return np.asarray(drawn[:, codes])


def roc_auc_draws(outcomes: Array, probabilities: Array, weights: Array) -> Array:
    """Return the ROC AUC [resamples] under every row of ``weights`` [resamples, rows]; NaN where one outcome is not drawn.

    The area is the share of pairs of a positive and a negative row in which the positive row has the higher
    probability; a tie counts half (Mann and Whitney, Annals of Mathematical Statistics 18, 1947).
    """
    order = np.argsort(probabilities, kind="stable")
    ranked, positive = np.asarray(probabilities)[order], np.asarray(outcomes)[order] == 1
    starts = np.flatnonzero(np.r_[True, np.diff(ranked) != 0])
    drawn = weights[:, order].astype(np.float64)

    positives = np.add.reduceat(drawn * positive, starts, axis=1)
    negatives = np.add.reduceat(drawn * ~positive, starts, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    won = (positives * (below + negatives / 2)).sum(axis=1)
    areas: Array = np.divide(won, pairs, out=np.full(len(drawn), np.nan), where=pairs > 0)
    return areas


def _sound(evidence: Evidence) -> tuple[Criterion, ...]:
    rows, positives = len(evidence.outcomes), int(np.sum(evidence.outcomes == 1))
    answers, champion = {"the candidate": evidence.candidate, **evidence.baselines}, evidence.champion
    criteria = []
    if champion is not None:
        answers["the champion"] = champion.probabilities
        change = f"{champion.largest_change:g}"
        comparable = bool(np.isfinite(champion.largest_change))
        criteria.append(_criterion("largest change against the champion", "a number", change, comparable))
    lost = [name for name in TRAINED if not np.isfinite(evidence.trained.get(name, np.nan))]
    found = f"missing or not finite: {', '.join(lost)}" if lost else "all of them"
    return (
        *(_answered(name, probabilities, rows) for name, probabilities in answers.items()),
        *criteria,
        _criterion("training left its metrics", ", ".join(TRAINED), found, not lost),
        _criterion("the holdout holds both outcomes", f"1 to {rows - 1} positives", positives, 0 < positives < rows),
    )


def _answered(name: str, probabilities: Array, rows: int) -> Criterion:
    good = int(np.sum((probabilities >= 0) & (probabilities <= 1)))
    found, wanted = f"{good} of {len(probabilities)}", f"{rows} probabilities from 0 to 1"
    return _criterion(f"{name} answers every row", wanted, found, len(probabilities) == rows == good)


def _unseen(evidence: Evidence, weights: Array) -> tuple[Criterion, ...]:
    """Return a criterion a loss: on rows it has not seen, a model is not clearly better than in cross-validation."""
    y, p = evidence.outcomes, evidence.candidate
    found = dataset.metrics(y, p)
    losses = {"log_loss": _log_losses(y, p), "brier": (p - y) ** 2}
    criteria = []
    for name, values in losses.items():
        low, interval = evidence.trained[f"cv_{name}_low"], _interval(_means(values, weights))
        wanted = f"reaching {low:.4g}, cross-validation's low end"
        title = f"{name.replace('_', ' ')} beside cross-validation"
        criteria.append(_criterion(title, wanted, found[name], interval[1] >= low, interval))
    return tuple(criteria)


def _floors(evidence: Evidence, rules: Rules, weights: Array) -> tuple[Criterion, ...]:
    y, p = evidence.outcomes, evidence.candidate
    found = dataset.metrics(y, p)
    drawn = {
        "log_loss": _means(_log_losses(y, p), weights),
        "brier": _means((p - y) ** 2, weights),
        "roc_auc": roc_auc_draws(y, p, weights),
        "accuracy": _means((p >= dataset.THRESHOLD) == (y == 1), weights),
    }
    most = {"log_loss": rules.max_log_loss, "brier": rules.max_brier}
    least = {"roc_auc": rules.min_roc_auc, "accuracy": rules.min_accuracy}
    ceilings = [_at_most(f"{_words(n)} on the holdout", limit, found[n], drawn[n]) for n, limit in most.items()]
    floors = [_at_least(f"{_words(n)} on the holdout", limit, found[n], drawn[n]) for n, limit in least.items()]
    return (*ceilings, *floors)


def calibration_slopes(outcomes: Array, probabilities: Array, weights: Array) -> Array:
    """Return the slope [resamples] of a logistic regression of the outcomes on the log-odds, for every row of ``weights``.

    1 means that the log-odds are as spread as they should be; below 1 the model is too sure of itself (Cox, Biometrika
    45, 1958). A weak pull towards 1 keeps the slope finite where a draw separates the outcomes.
    """
    edge = 1e-6
    p = np.clip(probabilities.astype(np.float64), edge, 1 - edge)
    x, y, drawn = np.log(p / (1 - p)), np.asarray(outcomes, dtype=np.float64), weights.astype(np.float64)
    pull = 1e-3
    shift, slope = np.zeros(len(drawn)), np.ones(len(drawn))
    for _ in range(100):
        fitted = 1 / (1 + np.exp(-np.clip(shift[:, None] + slope[:, None] * x, -700, 700)))
        error, curve = drawn * (y - fitted), drawn * fitted * (1 - fitted)
        first = error.sum(axis=1) - pull * shift
        second = error @ x - pull * (slope - 1)
        a, b, c = curve.sum(axis=1) + pull, curve @ x, curve @ (x * x) + pull
        determinant = a * c - b * b
        # A full Newton step can overshoot far from the solution, so that no step is longer than 0.5.
        steps = np.array([(c * first - b * second) / determinant, (a * second - b * first) / determinant])
        steps = np.clip(steps, -0.5, 0.5)
        shift, slope = shift + steps[0], slope + steps[1]
        if np.abs(steps).max() < 1e-9:
            break
    return slope


def calibration_errors(outcomes: Array, probabilities: Array, weights: Array) -> Array:
    """Return the expected calibration error [resamples]: mean distance of probability and share of 1 over ``BINS`` bins."""
    edges = np.quantile(probabilities, np.linspace(0, 1, BINS + 1)[1:-1])
    bins = np.searchsorted(edges, probabilities, side="right")
    gaps = weights * (np.asarray(outcomes) - probabilities)
    distances = sum(np.abs(gaps[:, bins == number].sum(axis=1)) for number in range(BINS))
    return np.asarray(distances / weights.sum(axis=1))


def _calibration(evidence: Evidence, rules: Rules, weights: Array) -> tuple[Criterion, ...]:
    y, p = evidence.outcomes, evidence.candidate
    once = np.ones((1, len(y)))
    slope, error = float(calibration_slopes(y, p, once)[0]), float(calibration_errors(y, p, once)[0])
    # Drawing again adds luck, and luck only adds distance. Centring the draws takes the added distance out.
    errors = calibration_errors(y, p, weights)
    errors = np.maximum(errors - errors.mean() + error, 0)
    slopes = calibration_slopes(y, p, weights)
    return (
        _at_least("calibration slope on the holdout", rules.min_calibration_slope, slope, slopes),
        _at_most("calibration error on the holdout", rules.max_calibration_error, error, errors),
    )


def _slices(evidence: Evidence, rules: Rules, weights: Array) -> tuple[Criterion, ...]:
    """Return a criterion a slice: on its rows the candidate is not worse than the champion by more than the margin."""
    if evidence.champion is None:
        return ()
    y = np.asarray(evidence.outcomes)
    losses = _log_losses(y, evidence.candidate) - _log_losses(y, evidence.champion.probabilities)
    criteria = []
    for name, mask in evidence.slices.items():
        rows = int(mask.sum())
        if not rows:
            continue
        drawn = weights[:, mask]
        counts = drawn.sum(axis=1)
        some = counts > 0
        draws = drawn[some] @ losses[mask] / counts[some]
        low, high = _interval(draws)
        many, found = rows >= FEWEST_IN_SLICE, float(losses[mask].mean())
        title, wanted = f"slice {name}: log loss minus the champion's", f"at most {rules.margin_slice:g}, {rows} rows"
        holds, fails = many and high <= rules.margin_slice, many and low > rules.margin_slice
        criteria.append(_judged(title, wanted, found, draws, holds=holds, fails=fails))
    return tuple(criteria)


def _told_apart(evidence: Evidence) -> Criterion:
    different = len(np.unique(np.round(evidence.candidate, 6)))
    return _criterion("different probabilities on the holdout", "2 or more", different, different > 1)


def _data(evidence: Evidence, rules: Rules) -> tuple[Criterion, ...]:
    criteria = []
    if evidence.inputs:
        name, area = max(evidence.inputs.items(), key=lambda item: item[1])
        title, wanted = f"roc auc of {name} alone on the training set", f"below {rules.max_input_roc_auc:g}"
        criteria.append(_criterion(title, wanted, area, area < rules.max_input_roc_auc))
    title = "share of training rows that contradict an equal row"
    most, found = rules.max_conflicting_share, evidence.conflicting
    criteria.append(_criterion(title, f"at most {most:g}", found, found <= most))
    return tuple(criteria)


def _baselines(evidence: Evidence, weights: Array) -> tuple[Criterion, ...]:
    criteria = []
    for name, probabilities in evidence.baselines.items():
        draws = _difference(evidence.outcomes, evidence.candidate, probabilities, weights)
        found = _loss(evidence.outcomes, evidence.candidate) - _loss(evidence.outcomes, probabilities)
        low, high = _interval(draws)
        title = f"log loss minus that of {name}"
        criteria.append(_judged(title, "below 0", found, draws, holds=high < 0, fails=low >= 0))
    return tuple(criteria)


def _newness(champion: Champion, rules: Rules) -> tuple[Criterion, Criterion]:
    key, change = "the champion's own" if champion.same_training else "another one", champion.largest_change
    more = f"more than {rules.same_within:g} for some row"
    return (
        _criterion("the training key", "not the champion's", key, not champion.same_training),
        _criterion("largest change of a probability", more, change, change > rules.same_within),
    )


def _rivalry(evidence: Evidence, champion: Champion, rules: Rules, draws: Array) -> Criterion:
    better, (low, high) = rules.promote_when == "better", _interval(draws)
    found = _loss(evidence.outcomes, evidence.candidate) - _loss(evidence.outcomes, champion.probabilities)
    wanted = "below 0, the whole interval" if better else f"at most {rules.margin:g}, the whole interval"
    holds = high < 0 if better else high <= rules.margin
    fails = low >= 0 if better else low > rules.margin
    return _judged("log loss minus the champion's", wanted, found, draws, holds=holds, fails=fails)


def _against_champion(
    newness: tuple[Criterion, Criterion], broken: str, rivalry: Criterion, rules: Rules
) -> tuple[Word, str]:
    if newness[0].verdict == "failed":
        return "hold", "Nothing is new: data, code, training parameters and lock are the champion's."
    if newness[1].verdict == "failed":
        return "hold", f"Nothing is new: every row gets the champion's probability within {rules.same_within:g}."
    if broken:
        return "fail", broken
    if rivalry.interval is not None and rivalry.interval[0] > rules.margin:
        return "fail", f"Worse than the champion by more than {rules.margin:g}. {_sentence(rivalry)}"
    asked = _words(rules.promote_when)
    if _broken((rivalry,), "champion", rules):
        return "hold", f"Not shown to be {asked}; the champion stays. {_sentence(rivalry)}"
    if rivalry.verdict == "unsure":
        return "promote", f"New, and it may be {asked} than the champion, which is not shown. {_sentence(rivalry)}"
    return "promote", f"New, and {asked} than the champion. {_sentence(rivalry)}"


def _criterion(name: str, wanted: str, found: float | str, holds: bool, interval: Interval | None = None) -> Criterion:
    return Criterion(name, wanted, found, interval, "passed" if holds else "failed")


def _at_most(name: str, limit: float, found: float, draws: Array) -> Criterion:
    low, high = _interval(draws)
    return _judged(name, f"at most {limit:g}", found, draws, holds=high <= limit, fails=low > limit)


def _at_least(name: str, limit: float, found: float, draws: Array) -> Criterion:
    low, high = _interval(draws)
    return _judged(name, f"at least {limit:g}", found, draws, holds=low >= limit, fails=high < limit)


def _judged(name: str, wanted: str, found: float, draws: Array, *, holds: bool, fails: bool) -> Criterion:
    verdict: Verdict = "unsure"
    if holds:
        verdict = "passed"
    elif fails:
        verdict = "failed"
    smallest = DETECTABLE * float(np.nanstd(draws))
    return Criterion(name, wanted, found, _interval(draws), verdict, smallest)


def _broken(criteria: Iterable[Criterion], limit: str, rules: Rules) -> str:
    """Return the sentence of the first criterion that does not pass its limit, or nothing."""
    stops = ("failed", "unsure") if limit in rules.must_be_shown else ("failed",)
    return next((_sentence(c) for c in criteria if c.verdict in stops), "")


def _kept(criteria: tuple[Criterion, ...]) -> str:
    unsure = [c.name for c in criteria if c.verdict == "unsure"]
    if not unsure:
        return "Every floor holds and every baseline is beaten."
    return f"No floor is broken and no baseline wins; too few rows to be sure of: {', '.join(unsure)}."


def _row(criterion: Criterion) -> dict[str, Any]:
    row = {**asdict(criterion), "interval": None if criterion.interval is None else list(criterion.interval)}
    if criterion.smallest_difference is None:
        del row["smallest_difference"]
    return row


def _words(name: str) -> str:
    return name.replace("_", " ")


def _first_failed(criteria: tuple[Criterion, ...]) -> str:
    return next((_sentence(c) for c in criteria if c.verdict == "failed"), "")


def _sentence(c: Criterion) -> str:
    found = c.found if isinstance(c.found, str) else f"{c.found:.4g}"
    interval = f" [{c.interval[0]:.4g}, {c.interval[1]:.4g}]" if c.interval else ""
    return f"{c.name[0].upper()}{c.name[1:]}: found {found}{interval}, expected {c.wanted}."


def _loss(outcomes: Array, probabilities: Array) -> float:
    return dataset.metrics(outcomes, probabilities)["log_loss"]


def _log_losses(outcomes: Array, probabilities: Array) -> Array:
    # Bounded like scikit-learn's log_loss, so that the draws spread around its value.
    p = np.clip(probabilities.astype(np.float64), np.finfo(np.float64).eps, 1 - np.finfo(np.float64).eps)
    return np.asarray(-np.log(np.where(outcomes == 1, p, 1 - p)))


def _difference(outcomes: Array, one: Array, other: Array, weights: Array) -> Array:
    return _means(_log_losses(outcomes, one) - _log_losses(outcomes, other), weights)


def _means(values: Array, weights: Array) -> Array:
    return np.asarray(weights @ values.astype(np.float64) / weights.sum(axis=1))


def _interval(draws: Array) -> Interval:
    # A draw without both outcomes has no ROC AUC.
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return float(low), float(high)
