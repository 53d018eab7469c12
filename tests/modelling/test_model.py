from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import KNNImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from workbench import cells, kinds

from runbook import paths
from runbook.errors import RunError, UsageError
from runbook.modelling import dataset, onnx_model, training
from runbook.modelling import request as contract
from runbook.modelling.description import description

WITHIN = 1e-5


def raw() -> pd.DataFrame:
    return pd.read_csv(description().file)


def fitted(kind: str) -> Any:
    return cells()["candidates"][kind].fit(cells()["rows"], cells()["outcomes"])


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


@pytest.mark.parametrize("label", ["Survived", "Left"])
def test_an_outcome_other_than_0_and_1_is_refused_under_the_labels_own_name(label: str) -> None:
    facts = replace(description(), label=label)
    table = raw().rename(columns={"Survived": label})
    table.loc[0, label] = 2
    with pytest.raises(
        UsageError, match=rf"label {label} \(data/dataset.py:\d+\) holds 0, 1, 2; expected 0, 1.*yes/no models"
    ):
        dataset.coded(table, facts)


def test_the_split_keeps_tickets_together_and_seals_about_a_fifth() -> None:
    development, sealed = dataset.training_set(), dataset.holdout()
    assert len(development) + len(sealed) == 891
    assert not set(development["Ticket"]) & set(sealed["Ticket"])
    assert 0.17 < len(sealed) / 891 < 0.23


def test_the_split_is_the_one_that_was_made_once() -> None:
    # When this changes, rows that past models were trained on are sealed, and sealed rows have been seen.
    sealed = dataset.holdout()["PassengerId"].tolist()
    assert sealed[:5] == [3, 17, 24, 27, 30]
    assert dataset.digest(",".join(map(str, sealed)).encode()).startswith("729251334e3a")


@pytest.mark.parametrize(("read", "openings"), [("load", 1), ("holdout", 1), ("training_set", 0)])
def test_every_reading_of_the_holdout_is_counted(read: str, openings: int) -> None:
    before = dataset.openings()
    getattr(dataset, read)()
    assert dataset.openings() - before == openings


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


def test_metrics_of_a_known_case() -> None:
    found = dataset.metrics([1, 0, 1, 0], [0.8, 0.4, 0.6, 0.5])
    assert found["log_loss"] == pytest.approx(-np.mean(np.log([0.8, 0.6, 0.6, 0.5])))
    assert found["brier"] == pytest.approx((0.04 + 0.16 + 0.16 + 0.25) / 4)
    assert (found["roc_auc"], found["accuracy"]) == (1.0, 0.75)


@pytest.mark.parametrize("kind", kinds())
def test_the_exported_model_answers_what_the_pipeline_answers(kind: str) -> None:
    pipeline = fitted(kind)
    parity = onnx_model.parity(pipeline, onnx_model.export(pipeline), cells()["rows"], WITHIN)
    assert parity.rows > 4 * len(cells()["rows"])
    assert parity.with_nulls > 3 * len(cells()["rows"])
    assert parity.largest_difference <= WITHIN
    assert parity.flipped_verdicts == 0


def test_parity_notices_another_model() -> None:
    other = onnx_model.export(fitted("logistic_regression"))
    parity = onnx_model.parity(fitted("random_forest"), other, cells()["rows"], WITHIN)
    assert parity.largest_difference > 0.1
    assert parity.flipped_verdicts > 0


def test_a_probability_at_the_threshold_is_set_apart_and_counted() -> None:
    # Two trees that disagree answer exactly 0.5, which float32 may round to either side.
    filled = clone(cells()["filled"])
    forest = make_pipeline(filled, RandomForestClassifier(2, random_state=5)).fit(cells()["rows"], cells()["outcomes"])
    ties = int((forest.predict_proba(cells()["rows"])[:, 1] == 0.5).sum())
    assert ties > 0
    nudged = _with_offset(onnx_model.export(forest), -1e-6)
    parity = onnx_model.parity(forest, nudged, cells()["rows"], WITHIN)
    assert parity.flipped_verdicts == 0
    assert parity.at_threshold >= ties
    assert onnx_model.parity(forest, nudged, cells()["rows"], 0.0).at_threshold >= ties


def test_a_flipped_verdict_away_from_the_threshold_is_still_counted() -> None:
    pipeline = fitted("logistic_regression")
    shifted = _with_offset(onnx_model.export(pipeline), -0.01)
    parity = onnx_model.parity(pipeline, shifted, cells()["rows"], WITHIN)
    assert parity.flipped_verdicts > 0
    ours = pipeline.predict_proba(cells()["rows"])[:, 1]
    assert parity.flipped_verdicts >= int(((ours >= 0.5 + WITHIN) & (ours < 0.505)).sum())


def _with_offset(onnx_file: bytes, offset: float) -> bytes:
    """The same model with ``offset`` added to every probability."""
    exported = onnx.load_model_from_string(onnx_file)
    exported.graph.node[-1].output[0] = "before"
    exported.graph.initializer.append(onnx.helper.make_tensor("offset", onnx.TensorProto.FLOAT, [], [offset]))
    exported.graph.node.append(onnx.helper.make_node("Add", ["before", "offset"], [onnx_model.OUTPUT]))
    return bytes(exported.SerializeToString())


@pytest.mark.parametrize(
    ("part", "named"),
    [
        (DummyClassifier(), r"DummyClassifier \(dummyclassifier\) does not convert"),
        (
            HistGradientBoostingClassifier(max_iter=2),
            r"HistGradientBoostingClassifier \(histgradientboostingclassifier\)",
        ),
        (
            make_pipeline(KNNImputer(), LogisticRegression(max_iter=3000)),
            r"KNNImputer \(pipeline > knnimputer\) does not convert",
        ),
        (LinearSVC(), "ends in LinearSVC, which gives no probabilities"),
    ],
    ids=["no converter", "a converter that fails", "a file that does not load", "no probabilities"],
)
def test_a_pipeline_that_can_not_be_served_gets_one_sentence_that_names_the_part(part: Any, named: str) -> None:
    pipeline = make_pipeline(clone(cells()["filled"]), part).fit(cells()["rows"], cells()["outcomes"])
    with pytest.raises(RunError, match=named) as caught:
        onnx_model.export(pipeline)
    assert "\n" not in str(caught.value)
    assert re.search("logistic ?regression", str(caught.value), re.IGNORECASE)
    # The converter's own traceback is not shown below the sentence.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_constant_classifier_alone_is_named_too() -> None:
    with pytest.raises(RunError, match=r"DummyClassifier \(the pipeline itself\) does not convert to ONNX"):
        onnx_model.export(DummyClassifier().fit(cells()["rows"], cells()["outcomes"]))


def test_a_model_that_answers_another_shape_is_refused() -> None:
    exported = onnx.load_model_from_string(onnx_model.export(fitted("logistic_regression")))
    exported.graph.node[-1].input[0] = "twice"
    double = onnx.helper.make_node("Concat", ["probabilities", "probabilities"], ["twice"], axis=0)
    exported.graph.node.insert(len(exported.graph.node) - 1, double)
    with pytest.raises(RunError, match="one probability a row"):
        onnx_model.predict(exported.SerializeToString(), cells()["rows"][:3])


def test_edge_rows_hold_every_edge_and_null_of_the_contract() -> None:
    rows = pd.DataFrame(onnx_model.edge_rows(), columns=list(contract.FIELDS))
    for name in rows:
        field = contract.field(name)
        assert (rows[name].min(), rows[name].max()) == (field.low, field.high)
        assert rows[name].isna().any() == field.nullable


def test_the_exported_model_has_one_input_one_output_and_fixed_names() -> None:
    exported = onnx.load_model_from_string(onnx_model.export(fitted("logistic_regression")))
    (given,), (answer,) = exported.graph.input, exported.graph.output
    assert [d.dim_value for d in given.type.tensor_type.shape.dim][1:] == [7]
    assert len(answer.type.tensor_type.shape.dim) == 1
    assert (exported.graph.name, given.name, answer.name) == (onnx_model.GRAPH, onnx_model.INPUT, onnx_model.OUTPUT)
    assert [o.domain for o in exported.opset_import] == sorted(o.domain for o in exported.opset_import)


def test_the_named_passengers_of_the_article_get_their_verdicts() -> None:
    exported = onnx_model.export(fitted("logistic_regression"))
    rows = np.array([[1, 0, 38, 1, 0, 71.2833, 2], [3, 1, 34.5, 0, 0, 7.8292, 2]], dtype=np.float32)
    assert (onnx_model.predict(exported, rows) >= 0.5).tolist() == [True, False]


def test_two_processes_with_other_hash_seeds_export_the_same_bytes() -> None:
    source = (
        "from workbench import cells; from runbook.modelling import dataset, onnx_model; c = cells(); "
        "print([dataset.digest(onnx_model.export(p.fit(c['rows'], c['outcomes']))) for p in c['candidates'].values()])"
    )
    import_path = os.pathsep.join([str(paths.ROOT), str(paths.ROOT / "tests")])
    command = [sys.executable, "-W", "ignore", "-c", source]
    processes = [
        subprocess.Popen(
            command, env={**os.environ, "PYTHONHASHSEED": s, "PYTHONPATH": import_path}, stdout=subprocess.PIPE
        )
        for s in ("1", "2")
    ]
    found = [process.communicate(timeout=250)[0].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert found[0] == found[1]
    assert len(set(found[0].split(","))) == len(kinds())


def test_a_digest_is_the_same_for_bytes_and_for_the_file_that_holds_them(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert dataset.digest(path) == dataset.digest(b"abc")
    assert dataset.digest(b"abc").startswith("ba7816bf")


def test_the_digest_of_predictions_forgives_noise_but_no_change() -> None:
    p = np.array([0.25, 0.5])
    assert training.predictions_digest({"a": p}) == training.predictions_digest({"a": p + 1e-9})
    assert training.predictions_digest({"a": p}) != training.predictions_digest({"a": p + 1e-4})
    assert training.predictions_digest({"a": p}) != training.predictions_digest({"b": p})


def test_a_checkout_with_windows_line_endings_is_told_so_and_how_to_mend_it(tmp_path: Path) -> None:
    path = tmp_path / "titanic.csv"
    path.write_bytes(description().file.read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(UsageError, match=r"Windows line ends \(CRLF\)") as caught:
        dataset.load(replace(description(), file=path))
    assert str(caught.value).endswith("then run: git rm -rq --cached . && git reset -q --hard")


@pytest.mark.parametrize("name", ["PassengerId", "Fare", "Survived", "Ticket"])
def test_data_without_a_column_is_refused_in_one_sentence_that_names_it(name: str) -> None:
    raw = pd.read_csv(description().file).drop(columns=[name])
    with pytest.raises(UsageError, match=rf"titanic.csv has no column '{name}'.*data/dataset.py:\d+.*It has: "):
        dataset.coded(raw)
