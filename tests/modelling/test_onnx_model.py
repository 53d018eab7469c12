"""The exported ONNX file answers what the pipeline answers, and a pipeline that cannot be exported is named."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

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
from runbook.errors import RunError
from runbook.modelling import onnx_model
from runbook.modelling import request as contract

WITHIN = 1e-5


def fitted(kind: str) -> Any:
    return cells()["candidates"][kind].fit(cells()["rows"], cells()["outcomes"])


@pytest.mark.parametrize("kind", kinds())
def test_the_exported_model_answers_what_the_pipeline_answers(kind: str) -> None:
    pipeline = fitted(kind)
    parity = onnx_model.parity(pipeline, onnx_model.export(pipeline), cells()["rows"], WITHIN)
    nullable = sum(field.nullable for field in contract.fields())
    assert parity.rows > (1 + nullable) * len(cells()["rows"])
    assert parity.with_nulls >= nullable * len(cells()["rows"])
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
    assert [d.dim_value for d in given.type.tensor_type.shape.dim][1:] == [len(contract.FIELDS)]
    assert len(answer.type.tensor_type.shape.dim) == 1
    assert (exported.graph.name, given.name, answer.name) == (onnx_model.GRAPH, onnx_model.INPUT, onnx_model.OUTPUT)
    assert [o.domain for o in exported.opset_import] == sorted(o.domain for o in exported.opset_import)


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
