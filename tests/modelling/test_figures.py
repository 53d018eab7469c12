from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from runbook.modelling import dataset, figures
from runbook.modelling.description import description

mpl.use("Agg")
RNG = np.random.default_rng(1)
P = RNG.uniform(size=200)
Y = (RNG.uniform(size=200) < P).astype(int)
RESULTS = pd.DataFrame(
    {"log_loss": [0.6, 0.4], "log_loss_low": [0.5, 0.3], "log_loss_high": [0.7, 0.5]}, index=["one", "two"]
)


def texts(figure: Figure) -> list[str]:
    figure.draw_without_rendering()
    axes = figure.axes[0]
    labels = [*axes.texts, *axes.get_yticklabels(), axes.xaxis.label, axes.yaxis.label]
    legend = axes.get_legend()
    return [t.get_text() for t in [*labels, *(legend.get_texts() if legend else [])]]


@pytest.mark.parametrize(
    "figure",
    [
        lambda: figures.missing(dataset.training_set()),
        lambda: figures.shares({"a": (1, 4)}, "share", overall=0.5),
        lambda: figures.comparison(RESULTS, "log_loss", limit=0.45),
        lambda: figures.calibration(Y, {"a": P, "b": P**2}),
        lambda: figures.roc(Y, {"a": P, "b": 1 - P}),
        lambda: figures.accuracy_by_slice(Y, P, {"low": P < 0.5, "high": P >= 0.5}),
        lambda: figures.difference(RNG.normal(size=500), 0.05, "difference"),
    ],
    ids=["missing", "shares", "comparison", "calibration", "roc", "accuracy_by_slice", "difference"],
)
def test_a_figure_is_white_closed_and_without_a_title(figure: object) -> None:
    before = plt.get_fignums()
    drawn = figure()  # type: ignore[operator]
    assert isinstance(drawn, Figure)
    assert plt.get_fignums() == before
    assert drawn.get_facecolor() == (1.0, 1.0, 1.0, 1.0)
    assert drawn.axes[0].get_title() == ""


def test_missing_values_are_counted_where_there_are_any() -> None:
    found = texts(figures.missing(pd.DataFrame({"full": [1, 2, 3, 4], "holes": [1.0, None, None, 4.0]})))
    assert "2 of 4" in found
    assert "full" not in found


def test_a_table_without_holes_can_be_drawn() -> None:
    assert "full" not in texts(figures.missing(pd.DataFrame({"full": [1, 2]})))


def test_every_share_says_how_many_it_stands_for() -> None:
    assert {"few", "many", "n 5", "n 500"} <= set(texts(figures.shares({"few": (1, 5), "many": (100, 500)}, "share")))


def test_a_slice_of_nobody_is_left_out() -> None:
    found = texts(figures.accuracy_by_slice(Y, P, {"nobody": np.zeros(200, bool), "all": np.ones(200, bool)}))
    assert "nobody" not in found
    assert "n 200" in found


def test_the_roc_legend_states_the_area() -> None:
    assert "perfect, area 1.000" in texts(figures.roc(Y, {"perfect": Y.astype(float)}))


def test_positives_are_counted_per_combination() -> None:
    table = pd.DataFrame({"who": ["a", "a", "b"], "where": ["x", "x", "y"], description().label: [1, 0, 1]})
    assert figures.positive_counts(table, ["who", "where"]) == {"a, x": (1, 2), "b, y": (1, 1)}
    assert figures.positive_counts(table, ["who"]) == {"a": (1, 2), "b": (1, 1)}


def test_the_wilson_interval_of_a_known_case() -> None:
    low, high = figures.wilson(8, 10)
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)


def test_the_solid_lines_of_a_difference_hold_95_percent_of_the_draws() -> None:
    draws = RNG.normal(size=500)
    lines = figures.difference(draws, 0.05, "difference").axes[0].lines
    places = [float(np.asarray(line.get_xdata())[0]) for line in lines]
    assert places == [*np.quantile(draws, [0.025, 0.975]), 0.0, 0.05]
