from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import onnx
import pandas as pd
import pytest
from workbench import cells

from runbook import model, repository
from runbook.errors import UsageError

KINDS = ("logistic_regression", "gradient_boosting", "random_forest")


def raw() -> pd.DataFrame:
    return pd.read_csv(repository.DATA)


def fitted(kind: str) -> Any:
    return cells()["candidates"][kind].fit(cells()["rows"], cells()["outcomes"])


def test_the_data_is_the_record_that_its_readme_describes() -> None:
    table = model.load()
    assert (len(table), table["Survived"].sum()) == (891, 342)
    assert table[["Age", "Embarked", "Fare"]].isna().sum().tolist() == [177, 2, 0]
    assert list(table.columns) == ["PassengerId", *model.contract().FIELDS, "Survived", "Ticket"]


def test_data_with_another_digest_is_refused_before_it_is_read(tmp_path: Path) -> None:
    changed = tmp_path / "titanic.csv"
    changed.write_bytes(repository.DATA.read_bytes().replace(b"22.0", b"23.0", 1))
    with pytest.raises(UsageError, match="has sha256 .* wanted 97c59090.*git checkout"):
        model.load(changed)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("Age", -3.0, "row 3, PassengerId 3: Age is -3.0; wanted: Age is years"),
        ("Embarked", "X", 'row 3, PassengerId 3: Embarked is "X"'),
        ("Sex", "femal", 'row 3, PassengerId 3: Sex is "femal"'),
        ("Pclass", 4, "row 3, PassengerId 3: Pclass is 4"),
    ],
)
def test_a_row_that_breaks_the_contract_is_named(column: str, value: object, words: str) -> None:
    table = raw()
    table.loc[2, column] = value
    with pytest.raises(UsageError) as caught:
        model.coded(table)
    assert words in str(caught.value)


def test_an_outcome_other_than_0_and_1_is_refused() -> None:
    table = raw()
    table.loc[0, "Survived"] = 2
    with pytest.raises(UsageError, match="Survived"):
        model.coded(table)


def test_the_split_keeps_tickets_together_and_seals_about_a_fifth() -> None:
    development, sealed = model.development(), model.sealed()
    assert len(development) + len(sealed) == 891
    assert not set(development["Ticket"]) & set(sealed["Ticket"])
    assert 0.17 < len(sealed) / 891 < 0.23


def test_the_split_is_the_one_that_was_made_once() -> None:
    # When this changes, rows that past models were trained on are sealed, and sealed rows have been seen.
    sealed = model.sealed()["PassengerId"].tolist()
    assert sealed[:5] == [3, 17, 24, 27, 30]
    assert model.digest(",".join(map(str, sealed)).encode()).startswith("729251334e3a")


def test_only_30_evaluate_opens_the_sealed_rows() -> None:
    openers = set()
    for path in repository.NOTEBOOKS.glob("*.ipynb"):
        code = "\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code")
        if "model.sealed" in code or "model.load(" in code or "titanic.csv" in code:
            openers.add(path.stem)
    assert openers == {"30_evaluate"}


def test_the_matrix_is_float32_in_the_contracts_order_with_nan_for_null() -> None:
    rows = model.matrix(pd.DataFrame([{**model.contract().EXAMPLE, "Age": None, "Survived": 1}]))
    assert rows.dtype == np.float32
    assert np.array_equal(rows, np.array([[1, 0, np.nan, 1, 0, 71.2833, 1]], dtype=np.float32), equal_nan=True)


def test_slices_of_sex_class_and_age_each_cover_every_passenger_once() -> None:
    table = model.load()
    slices = model.slices(table)
    for names in (
        ["women", "men"],
        ["class 1", "class 2", "class 3"],
        ["under 14", "14 to 49", "50 and over", "age unknown"],
        ["alone", "family of 2 to 4", "family of 5 or more"],
    ):
        assert np.array_equal(sum(slices[n].astype(int) for n in names), np.ones(len(table)))


def test_metrics_of_a_known_case() -> None:
    found = model.metrics([1, 0, 1, 0], [0.8, 0.4, 0.6, 0.5])
    assert found["log_loss"] == pytest.approx(-np.mean(np.log([0.8, 0.6, 0.6, 0.5])))
    assert found["brier"] == pytest.approx((0.04 + 0.16 + 0.16 + 0.25) / 4)
    assert (found["roc_auc"], found["accuracy"]) == (1.0, 0.75)


@pytest.mark.parametrize("kind", KINDS)
def test_the_exported_model_answers_what_the_pipeline_answers(kind: str) -> None:
    pipeline = fitted(kind)
    parity = model.parity(pipeline, model.export(pipeline), cells()["rows"])
    assert parity.rows > 4 * len(cells()["rows"])
    assert parity.with_nulls > 3 * len(cells()["rows"])
    assert parity.largest_difference <= 1e-5
    assert parity.flipped_verdicts == 0


def test_parity_notices_another_model() -> None:
    parity = model.parity(fitted("random_forest"), model.export(fitted("logistic_regression")), cells()["rows"])
    assert parity.largest_difference > 0.1
    assert parity.flipped_verdicts > 0


def test_edge_rows_hold_every_edge_and_null_of_the_contract() -> None:
    rows = pd.DataFrame(model.edge_rows(), columns=list(model.contract().FIELDS))
    for name in rows:
        field = model.contract().field(name)
        assert (rows[name].min(), rows[name].max()) == (field.low, field.high)
        assert rows[name].isna().any() == field.nullable


def test_the_exported_model_has_one_input_one_output_and_fixed_names() -> None:
    exported = onnx.load_model_from_string(model.export(fitted("logistic_regression")))
    (given,), (answer,) = exported.graph.input, exported.graph.output
    assert [d.dim_value for d in given.type.tensor_type.shape.dim][1:] == [7]
    assert len(answer.type.tensor_type.shape.dim) == 1
    assert (exported.graph.name, given.name, answer.name) == (model.GRAPH, model.INPUT, model.OUTPUT)
    assert [o.domain for o in exported.opset_import] == sorted(o.domain for o in exported.opset_import)


def test_the_named_passengers_of_the_article_get_their_verdicts() -> None:
    exported = model.export(fitted("logistic_regression"))
    rows = np.array([[1, 0, 38, 1, 0, 71.2833, 2], [3, 1, 34.5, 0, 0, 7.8292, 2]], dtype=np.float32)
    assert (model.predict(exported, rows) >= 0.5).tolist() == [True, False]


def test_two_processes_with_other_hash_seeds_export_the_same_bytes() -> None:
    source = (
        "from workbench import cells; from runbook import model; c = cells(); "
        "print([model.digest(model.export(p.fit(c['rows'], c['outcomes']))) for p in c['candidates'].values()])"
    )
    paths = os.pathsep.join([str(repository.ROOT), str(Path(__file__).parent)])
    command = [sys.executable, "-W", "ignore", "-c", source]
    processes = [
        subprocess.Popen(command, env={**os.environ, "PYTHONHASHSEED": s, "PYTHONPATH": paths}, stdout=subprocess.PIPE)
        for s in ("1", "2")
    ]
    found = [process.communicate(timeout=250)[0].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert found[0] == found[1]
    assert len(set(found[0].split(","))) == 3


def test_a_digest_is_the_same_for_bytes_and_for_the_file_that_holds_them(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert model.digest(path) == model.digest(b"abc")
    assert model.digest(b"abc").startswith("ba7816bf")


def test_the_digest_of_predictions_forgives_noise_but_no_change() -> None:
    p = np.array([0.25, 0.5])
    assert model.predictions_digest({"a": p}) == model.predictions_digest({"a": p + 1e-9})
    assert model.predictions_digest({"a": p}) != model.predictions_digest({"a": p + 1e-4})
    assert model.predictions_digest({"a": p}) != model.predictions_digest({"b": p})
