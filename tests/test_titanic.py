"""Facts of the Titanic data set, literally: `runbook new` leaves this file out of a project for other data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from workbench import cells

from runbook.errors import UsageError
from runbook.lint import swagger
from runbook.modelling import dataset, onnx_model
from runbook.modelling import request as contract
from runbook.modelling.description import description
from runbook.testing.bad_requests import bad_requests

ROW = dict(contract.EXAMPLE)


def raw() -> pd.DataFrame:
    return pd.read_csv(description().file)


def refusal(body: bytes | str) -> Any:
    with pytest.raises(contract.ContractError) as caught:
        contract.decode(body)
    return caught.value


def text(**changes: Any) -> str:
    return json.dumps({**ROW, **changes})


def test_the_data_is_the_record_that_its_readme_describes() -> None:
    table = dataset.load()
    assert (len(table), table["Survived"].sum()) == (891, 342)
    assert table[["Age", "Embarked", "Fare"]].isna().sum().tolist() == [177, 2, 0]
    assert list(table.columns) == ["PassengerId", *contract.FIELDS, "Survived", "Ticket"]


def test_data_with_another_digest_is_refused_before_it_is_read(tmp_path: Path) -> None:
    changed = tmp_path / "titanic.csv"
    changed.write_bytes(description().file.read_bytes().replace(b"22.0", b"23.0", 1))
    with pytest.raises(UsageError, match="has sha256 .* expected 97c59090.*data/dataset.py:.*git checkout"):
        dataset.load(replace(description(), file=changed))


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("Age", -3.0, "row 3, PassengerId 3: Age is -3.0; expected: Age is years"),
        ("Embarked", "X", 'row 3, PassengerId 3: Embarked is "X"'),
        ("Sex", "femal", 'row 3, PassengerId 3: Sex is "femal"'),
        ("Pclass", 4, "row 3, PassengerId 3: Pclass is 4"),
    ],
)
def test_a_row_that_breaks_the_contract_is_named(column: str, value: object, words: str) -> None:
    table = raw()
    table.loc[2, column] = value
    with pytest.raises(UsageError) as caught:
        dataset.coded(table)
    assert words in str(caught.value)


def test_the_split_keeps_tickets_together_and_holds_out_about_a_fifth() -> None:
    training_set, rows = dataset.training_set(), dataset.holdout()
    assert len(training_set) + len(rows) == 891
    assert not set(training_set["Ticket"]) & set(rows["Ticket"])
    assert 0.17 < len(rows) / 891 < 0.23


def test_the_split_is_the_one_that_was_made_once() -> None:
    # When this changes, rows that past models were trained on are in the holdout.
    holdout = dataset.holdout()["PassengerId"].tolist()
    assert holdout[:5] == [3, 17, 24, 27, 30]
    assert dataset.digest(",".join(map(str, holdout)).encode()).startswith("729251334e3a")


def test_the_matrix_is_float32_in_the_contracts_order_with_nan_for_null() -> None:
    rows = dataset.matrix(pd.DataFrame([{**contract.EXAMPLE, "Age": None, "Survived": 1}]))
    assert rows.dtype == np.float32
    assert np.array_equal(rows, np.array([[1, 0, np.nan, 1, 0, 71.2833, 1]], dtype=np.float32), equal_nan=True)


def test_slices_of_sex_class_and_age_each_cover_every_passenger_once() -> None:
    table = dataset.load()
    slices = dataset.slices(table)
    for names in (
        ["women", "men"],
        ["class 1", "class 2", "class 3"],
        ["under 14", "14 to 49", "50 and over", "age unknown"],
        ["alone", "family of 2 to 4", "family of 5 or more"],
    ):
        assert np.array_equal(sum(slices[n].astype(int) for n in names), np.ones(len(table)))


def test_the_named_passengers_of_the_article_get_their_verdicts() -> None:
    pipeline = cells()["candidates"]["logistic_regression"].fit(cells()["rows"], cells()["outcomes"])
    exported = onnx_model.export(pipeline)
    rows = np.array([[1, 0, 38, 1, 0, 71.2833, 2], [3, 1, 34.5, 0, 0, 7.8292, 2]], dtype=np.float32)
    assert (onnx_model.predict(exported, rows) >= 0.5).tolist() == [True, False]


@pytest.mark.parametrize("name", ["PassengerId", "Fare", "Survived", "Ticket"])
def test_data_without_a_column_is_refused_in_one_sentence_that_names_it(name: str) -> None:
    raw = pd.read_csv(description().file).drop(columns=[name])
    with pytest.raises(UsageError, match=rf"titanic.csv has no column '{name}'.*data/dataset.py:\d+.*It has: "):
        dataset.coded(raw)


def test_a_word_in_place_of_a_code_is_answered_with_the_codes() -> None:
    assert refusal(text(Sex="male")).message == 'Sex is "male"; expected: Sex is 0 (female) or 1 (male).'


def test_a_value_out_of_range_is_shown_with_the_range() -> None:
    assert refusal(text(Age=-5)).message == "Age is -5; expected: Age is years from 0 to 120, null when unknown."


@pytest.mark.parametrize(
    "changes",
    [
        {"Age": 0.17},
        {"Age": 0},
        {"Age": 120},
        {"Age": None},
        {"Age": -0.0},
        {"Age": 1e-320},
        {"Fare": 0},
        {"Fare": 512.3292},
        {"Fare": 1000},
        {"Fare": None},
        {"SibSp": 20, "Parch": 9},
        {"Embarked": None},
        {"Age": None, "Fare": None, "Embarked": None},
    ],
    ids=str,
)
def test_the_edges_of_the_contract_are_accepted(changes: dict[str, Any]) -> None:
    (passenger,), many = contract.decode(text(**changes))
    assert not many
    assert {name: getattr(passenger, name) for name in changes} == changes


def test_the_articles_payload_and_mr_kelly_are_accepted() -> None:
    contract.decode(text(Embarked=2))
    contract.decode('{"Pclass": 3, "Sex": 1, "Age": 34.5, "SibSp":0,"Parch":0,"Fare":7.8292,"Embarked":2}')


@pytest.mark.parametrize("label", ["Survived", "Left"])
def test_an_outcome_other_than_0_and_1_is_refused_under_the_labels_own_name(label: str) -> None:
    facts = replace(description(), label=label)
    table = raw().rename(columns={"Survived": label})
    table.loc[0, label] = 2
    with pytest.raises(
        UsageError, match=rf"label {label} \(data/dataset.py:\d+\) holds 0, 1, 2; expected 0, 1.*yes/no models"
    ):
        dataset.coded(table, facts)


def test_three_fields_may_be_null_so_parity_looks_at_each_row_four_times() -> None:
    pipeline = cells()["candidates"]["logistic_regression"].fit(cells()["rows"], cells()["outcomes"])
    parity = onnx_model.parity(pipeline, onnx_model.export(pipeline), cells()["rows"], 1e-5)
    assert parity.rows > 4 * len(cells()["rows"])
    assert parity.with_nulls > 3 * len(cells()["rows"])


def test_the_model_takes_seven_numbers() -> None:
    assert len(contract.FIELDS) == 7


def test_bad_requests_know_which_fields_may_be_null_or_a_fraction() -> None:
    names = {bad.name for bad in bad_requests()}
    assert {n.split(":")[0] for n in names if n.endswith(": null")} == {"Pclass", "Sex", "SibSp", "Parch"}
    assert {n.split(":")[0] for n in names if n.endswith(": a fraction")} == set(contract.FIELDS) - {"Age", "Fare"}


def test_a_thousand_ages_come_back_in_order() -> None:
    ages = [n % 121 for n in range(contract.MAX_ROWS)]
    passengers, _ = contract.decode(json.dumps([{**ROW, "Age": age} for age in ages]))
    assert [p.Age for p in passengers] == ages


def test_the_first_bad_passenger_of_a_list_is_named() -> None:
    error = refusal(json.dumps([ROW, {**ROW, "Fare": -1}, {**ROW, "Age": -1}]))
    assert error.message.startswith("Row 1: Fare is -1;")


def test_a_refusal_of_a_long_age_is_short() -> None:
    assert len(refusal(text(Age="x" * 10_000)).message) < 150


def test_an_age_with_a_decimal_point_is_the_same_age() -> None:
    assert contract.decode(text(Age=38.0)) == contract.decode(text())


def test_an_age_given_twice_is_found_even_when_it_is_spelled_with_an_escape() -> None:
    assert refusal(text()[:-1] + ', "\\u0041ge": 38}').code == "duplicate_field"


def test_swagger_says_what_a_passenger_is() -> None:
    properties = swagger.swagger()["definitions"]["Request"]["properties"]
    assert list(properties) == list(contract.FIELDS)
    assert (properties["Age"]["minimum"], properties["Age"]["maximum"]) == (0, 120)
    assert properties["Age"]["x-nullable"] and not properties["Sex"]["x-nullable"]
    assert properties["Embarked"]["enum"] == [0, 1, 2]
    assert properties["Fare"]["type"] == "number" and properties["SibSp"]["type"] == "integer"
