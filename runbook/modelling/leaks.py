"""Finds what makes a data set too easy or too hard: an input that tells the label, and equal rows with two labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from runbook.modelling import dataset, request


def single_input_roc_auc(table: pd.DataFrame) -> dict[str, float]:
    """Return for each field the ROC AUC that it reaches alone on ``table``, from 0.5 to 1.

    A null counts once as the lowest and once as the highest value, and the higher ROC AUC is kept; so does a field
    whose low values mean the label 1. An input that the outcome itself has filled in comes close to 1.
    """
    rows, outcomes = dataset.matrix(table).astype(np.float64), dataset.outcomes(table)
    found = {}
    for number, field in enumerate(request.FIELDS):
        column = rows[:, number]
        filled = [np.nan_to_num(column, nan=end, posinf=end, neginf=end) for end in (-1e30, 1e30)]
        areas = [float(roc_auc_score(outcomes, values)) for values in filled]
        found[field] = max(max(area, 1 - area) for area in areas)
    return found


def conflicting_share(table: pd.DataFrame) -> float:
    """Return the share of rows of ``table`` [0, 1] that have all inputs in common with a row of the other label.

    No model can be right about both rows, so this bounds the accuracy that the inputs allow.
    """
    vectors = [row.tobytes() for row in dataset.matrix(table)]
    labels = pd.Series(dataset.outcomes(table)).groupby(vectors).transform("nunique")
    return float((labels > 1).mean())
