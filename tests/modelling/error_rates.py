"""Measures how often the gate errs, on simulated pairs of candidate and champion with known truth.

Run ``.venv/bin/python tests/modelling/error_rates.py`` to print the table of docs/gate.md (about five minutes).

A pair has as many holdout rows as the Titanic data. The log-odds of a row are drawn, its outcome follows them, and a
model answers them with noise of its own. The limits are those of ``RULES``, the defaults of 30_evaluate.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from runbook.modelling import dataset, promotion

Floats = npt.NDArray[np.float64]

ROWS, SLICE, NOISE, SPREAD = 187, 60, 0.3, 2.0
RULES = promotion.Rules(0.52, 0.17, 0.8, 0.75, margin=0.05, resamples=400)


def probabilities(odds: Floats) -> Floats:
    """Return the probabilities of log-odds."""
    return 1 / (1 + np.exp(-odds))


def expected_loss(noise: float) -> float:
    """Return the log loss of a model with so much noise on its log-odds, over many rows."""
    draw = np.random.default_rng(0)
    odds = draw.normal(0, SPREAD, 200_000)
    truth, told = probabilities(odds), probabilities(odds + draw.normal(0, noise, odds.size))
    return float(-np.mean(truth * np.log(told) + (1 - truth) * np.log(1 - told)))


def worse_noise(by: float) -> float:
    """Return the noise of a model whose log loss is higher by ``by`` than that of a model with ``NOISE``."""
    low, high, wanted = NOISE, 10.0, expected_loss(NOISE) + by
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if expected_loss(middle) < wanted else (low, middle)
    return low


def equal(odds: Floats, draw: np.random.Generator) -> Floats:
    """Return the log-odds of a model that is as good as the champion, as another seed would make it."""
    return np.asarray(odds + draw.normal(0, NOISE, odds.size))


def worse(margins: float) -> Callable[[Floats, np.random.Generator], Floats]:
    """Return the maker of a model that is worse than the champion by so many margins."""
    noise = worse_noise(margins * RULES.margin)
    return lambda odds, draw: np.asarray(odds + draw.normal(0, noise, odds.size))


def broken_slice(odds: Floats, draw: np.random.Generator) -> Floats:
    """Return the log-odds of a model that answers each row of one slice as if it were another row of that slice."""
    told = equal(odds, draw)
    told[:SLICE] = draw.permutation(told[:SLICE])
    return told


def decisions(make: Callable[[Floats, np.random.Generator], Floats], pairs: int) -> Counter[str]:
    """Return how often each decision is made about ``pairs`` candidates; the seed of a pair is its number."""
    loss = expected_loss(NOISE)
    trained = dict.fromkeys(promotion.TRAINED, 0.9 * loss) | {"cv_brier_low": 0.1}
    found: Counter[str] = Counter()
    for number in range(pairs):
        draw = np.random.default_rng(number)
        odds = draw.normal(0, SPREAD, ROWS)
        outcomes = (draw.uniform(size=ROWS) < probabilities(odds)).astype(int)
        champion, candidate = probabilities(equal(odds, draw)), probabilities(make(odds, draw))
        shown = promotion.Evidence(
            outcomes,
            np.array([f"group {row // 2}" for row in range(ROWS)]),
            candidate,
            {"majority": np.full(ROWS, 0.5)},
            trained,
            promotion.Champion(champion, False, float(np.abs(candidate - champion).max())),
            {"the first rows": np.arange(ROWS) < SLICE, "the other rows": np.arange(ROWS) >= SLICE},
        )
        found[promotion.decide(shown, RULES).decision] += 1
    return found


def main(pairs: int) -> None:
    """Print the table, a row per kind of candidate."""
    kinds = {
        "equal to the champion (another seed)": equal,
        "worse by one margin": worse(1),
        "worse by two margins": worse(2),
        f"broken on a slice of {SLICE} rows": broken_slice,
    }
    print("| candidate | promoted | held | failed |\n|---|---|---|---|")
    for name, make in kinds.items():
        found = decisions(make, pairs)
        shares = [f"{100 * found[word] / pairs:.1f} %" for word in ("promote", "hold", "fail")]
        print(f"| {name} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    print(f"{dataset.title()}: {ROWS} rows, margin {RULES.margin:g}", file=sys.stderr)
    main(int(sys.argv[1]) if sys.argv[1:] else 300)
