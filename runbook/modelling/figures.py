"""The charts notebooks show: each returns a closed matplotlib figure on white paper, without a title (captions say it)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from runbook.modelling.description import description

Array = npt.NDArray[Any]

INK, FOUND, OTHER, WANTED = "#1f2933", "#2f5d8a", "#b0652b", "#6b7680"
DPI = 110


def missing(table: pd.DataFrame) -> Figure:
    """Draw the share of missing values per column, columns without any left out; the count stands at the bar's end."""
    counts = table.isna().sum().loc[lambda n: n > 0].sort_values()
    figure, axes = _paper(height=0.7 + 0.4 * len(counts))
    axes.barh(counts.index, 100 * counts / len(table), color=FOUND, height=0.6)
    for place, count in enumerate(counts):
        axes.text(100 * count / len(table) + 0.4, place, f"{count} of {len(table)}", va="center", color=INK)
    widest = 100 * counts.max() / len(table) if len(counts) else 1.0
    axes.set(xlabel="missing, % of rows", xlim=(0, 1.3 * widest), ylim=(-0.6, max(len(counts), 1) - 0.4))
    return _done(figure)


def shares(groups: Mapping[str, tuple[int, int]], label: str, overall: float | None = None) -> Figure:
    """Draw a share per group with its 95 % Wilson interval and n; ``groups`` maps a name to (successes, n), n > 0."""
    figure, axes = _paper(height=0.8 + 0.33 * len(groups))
    for place, (successes, n) in enumerate(groups.values()):
        low, high = wilson(successes, n)
        axes.plot([low, high], [place, place], color=FOUND, linewidth=2)
        axes.plot(successes / n, place, "o", color=FOUND)
        axes.text(1.02, place, f"n {n}", va="center", color=INK, transform=axes.get_yaxis_transform())
    if overall is not None:
        axes.axvline(overall, color=WANTED, linestyle="--", linewidth=1)
    axes.set(xlabel=label, xlim=(0, 1), yticks=range(len(groups)), yticklabels=list(groups))
    axes.invert_yaxis()
    return _done(figure)


def comparison(results: pd.DataFrame, metric: str, limit: float | None = None) -> Figure:
    """Draw one metric of every model with its interval: rows are models, columns ``metric``, ``metric_low``, ``metric_high``."""
    figure, axes = _paper(height=0.8 + 0.4 * len(results))
    for place, row in enumerate(results.to_dict("records")):
        axes.plot([row[f"{metric}_low"], row[f"{metric}_high"]], [place, place], color=FOUND, linewidth=2)
        axes.plot(row[metric], place, "o", color=FOUND)
        axes.annotate(
            f"{row[metric]:.3f}", (row[metric], place), xytext=(0, 7), textcoords="offset points", ha="center"
        )
    if limit is not None:
        axes.axvline(limit, color=WANTED, linestyle="--", linewidth=1)
    axes.set(xlabel=metric.replace("_", " "), yticks=range(len(results)), yticklabels=list(results.index))
    axes.set_ylim(len(results) - 0.5, -0.6)
    return _done(figure)


def calibration(outcomes: Array, probabilities: Mapping[str, Array], bins: int = 8) -> Figure:
    """Draw the share of positives against the mean probability, in ``bins`` bins of equal count, per named model [rows]."""
    figure, axes = _paper(height=4.2, width=5.2)
    axes.plot([0, 1], [0, 1], color=WANTED, linestyle="--", linewidth=1)
    for colour, (name, p) in zip((FOUND, OTHER), probabilities.items(), strict=False):
        parts = np.array_split(np.argsort(p, kind="stable"), min(bins, len(p)))
        means, rates = [p[part].mean() for part in parts], [outcomes[part].mean() for part in parts]
        bounds = [wilson(int(outcomes[part].sum()), len(part)) for part in parts]
        axes.vlines(means, [low for low, _ in bounds], [high for _, high in bounds], color=colour, linewidth=1)
        axes.plot(means, rates, "o-", color=colour, label=name)
    axes.set(
        xlabel="mean probability in the bin", ylabel=f"share that {description().positive}", xlim=(0, 1), ylim=(0, 1)
    )
    axes.legend(frameon=False)
    return _done(figure)


def roc(outcomes: Array, probabilities: Mapping[str, Array]) -> Figure:
    """Draw the ROC curve of every named model [rows], its area in the legend."""
    figure, axes = _paper(height=4.2, width=5.2)
    axes.plot([0, 1], [0, 1], color=WANTED, linestyle="--", linewidth=1)
    styles = [(FOUND, "-"), (OTHER, "-"), (INK, "-."), (INK, ":")]
    for (colour, line), (name, p) in zip(styles, probabilities.items(), strict=False):
        wrong, right, _ = roc_curve(outcomes, p)
        axes.plot(wrong, right, color=colour, linestyle=line, label=f"{name}, area {roc_auc_score(outcomes, p):.3f}")
    axes.set(xlabel="share of 0 taken for 1", ylabel="share of 1 found", xlim=(0, 1), ylim=(0, 1.01))
    axes.legend(frameon=False, loc="lower right")
    return _done(figure)


def accuracy_by_slice(outcomes: Array, probabilities: Array, slices: Mapping[str, Array]) -> Figure:
    """Draw the accuracy in every slice (a mask [rows]) with Wilson interval and n; the dashed line is that of all rows."""
    right = (probabilities >= 0.5) == (outcomes == 1)
    groups = {name: (int(right[mask].sum()), int(mask.sum())) for name, mask in slices.items() if mask.any()}
    return shares(groups, "accuracy", overall=float(right.mean()))


def difference(draws: Array, margin: float, label: str) -> Figure:
    """Draw bootstrapped differences [resamples] with their 95 % interval; the dashed line is the margin."""
    figure, axes = _paper(height=3.0)
    axes.hist(draws, bins=40, color=FOUND, alpha=0.85)
    for edge in np.quantile(draws, [0.025, 0.975]):
        axes.axvline(edge, color=INK, linewidth=1)
    axes.axvline(0, color=WANTED, linewidth=1)
    axes.axvline(margin, color=WANTED, linestyle="--", linewidth=1)
    axes.set(xlabel=label, ylabel="draws")
    return _done(figure)


def positive_counts(table: pd.DataFrame, columns: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return (positives, rows) for every combination of ``columns``, for ``shares``."""
    grouped = table.groupby(list(columns), observed=True)[description().label].agg(["sum", "count"])
    counts = {}
    for key, row in grouped.iterrows():
        parts = key if isinstance(key, tuple) else (key,)
        counts[", ".join(map(str, parts))] = (int(row["sum"]), int(row["count"]))
    return counts


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share (scipy's binomtest)."""
    interval = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def _paper(height: float, width: float = 6.6) -> tuple[Figure, Axes]:
    figure, axes = plt.subplots(figsize=(width, height), dpi=DPI, layout="constrained")
    figure.set_facecolor("white")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _done(figure: Figure) -> Figure:
    # Closed, so that a notebook shows the returned figure once and a long session keeps none.
    plt.close(figure)
    return figure
