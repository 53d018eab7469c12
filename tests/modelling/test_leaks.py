from __future__ import annotations

import numpy as np
import pytest

from runbook.modelling import dataset, leaks
from runbook.modelling.description import description

FIELDS = {"Pclass": 3, "Sex": 1, "Age": 30.0, "SibSp": 0, "Parch": 0, "Fare": 8.0, "Embarked": 0}


@pytest.mark.parametrize("high_means", [1, 0])
def test_an_input_that_the_outcome_has_filled_in_is_found(high_means: int) -> None:
    table = dataset.training_set()
    table["Fare"] = (table[description().label] == high_means) * 10.0 + table["SibSp"]
    assert leaks.single_input_roc_auc(table)["Fare"] > 0.99


def test_an_input_that_is_known_for_one_outcome_only_is_found() -> None:
    table = dataset.training_set()
    table["Age"] = np.where(table[description().label] == 1, 30.0, np.nan)
    assert leaks.single_input_roc_auc(table)["Age"] == 1.0


def test_no_input_of_the_data_set_tells_the_label() -> None:
    found = leaks.single_input_roc_auc(dataset.training_set())
    assert max(found, key=lambda name: found[name]) == "Sex"
    assert all(0.5 <= area < 0.8 for area in found.values())


def test_rows_that_contradict_each_other_are_counted_once_each() -> None:
    table = dataset.training_set().head(5).copy()
    for name, value in FIELDS.items():
        table[name] = value
    table.loc[table.index[3:], "Fare"] = 9.0
    table[description().label] = [0, 1, 1, 0, 0]
    assert leaks.conflicting_share(table) == pytest.approx(3 / 5)


def test_nulls_in_the_same_place_are_equal() -> None:
    table = dataset.training_set().head(2).copy()
    for name, value in FIELDS.items():
        table[name] = value
    table["Age"] = np.nan
    table[description().label] = [0, 1]
    assert leaks.conflicting_share(table) == 1.0
