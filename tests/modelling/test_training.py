from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import nbformat
import numpy as np
import pytest
import yaml
from scipy import stats
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from workbench import cells

from runbook import handoff, paths
from runbook.errors import RunError
from runbook.modelling import dataset, onnx_model, training
from runbook.modelling import request as contract
from runbook.modelling.description import description

LOCK = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", training.LOCK.read_text(), re.MULTILINE))
FITTED = training.Fitted("forest", None, "Forest()", "c" * 64)


@pytest.fixture
def tracking(tmp_path: Path) -> Iterator[str]:
    """The id of a new experiment in a store of this test."""
    before = mlflow.get_tracking_uri()
    yield training.open_experiment(f"sqlite:///{tmp_path / 'mlflow.db'}", "titanic-test")
    mlflow.set_tracking_uri(before)


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of 20_train that this test may edit, and that the training key reads."""
    copy = tmp_path / "20_train.ipynb"
    copy.write_text(training.NOTEBOOK.read_text())
    monkeypatch.setattr(training, "NOTEBOOK", copy)
    return copy


def edit(notebook: Path, cell: str, addition: str) -> None:
    document = nbformat.read(notebook, as_version=4)
    next(c for c in document.cells if c.id == cell).source += addition
    nbformat.write(document, notebook)


def exported() -> tuple[Any, bytes]:
    pipeline = cells()["logistic_regression"].fit(cells()["rows"], cells()["outcomes"])
    return pipeline, onnx_model.export(pipeline)


def test_no_ticket_is_in_training_and_test_of_one_fold() -> None:
    table = cells()["table"]
    tickets = table["Ticket"].to_numpy()
    splits = training.folds(table, 5, 2, seed=1)
    assert [len(split) for split in splits] == [5, 5]
    for split in splits:
        assert np.array_equal(np.sort(np.concatenate([test for _, test in split])), np.arange(len(table)))
        assert not any(set(tickets[train]) & set(tickets[test]) for train, test in split)


def test_folds_follow_the_seed_and_differ_between_repeats() -> None:
    table = cells()["table"]
    one, again, other = (training.folds(table, 5, 2, seed) for seed in (1, 1, 7))
    assert np.array_equal(one[0][0][1], again[0][0][1])
    assert not np.array_equal(one[0][0][1], one[1][0][1])
    assert not np.array_equal(one[0][0][1], other[0][0][1])


def test_out_of_fold_answers_come_from_a_copy_that_has_not_seen_the_ticket() -> None:
    table, rows, outcomes = cells()["table"], cells()["rows"], cells()["outcomes"]
    splits = training.folds(table, 4, 1, seed=3)
    pipeline = cells()["baselines"]["women live"]
    answers = training.out_of_fold(pipeline, rows, outcomes, splits)
    train, test = splits[0][2]
    women = rows[train][:, 1] == 0
    seen = rows[test][:, 1] == 0
    assert answers.shape == (1, len(table))
    assert np.allclose(answers[0][test][seen], outcomes[train][women].mean())
    assert not hasattr(pipeline[-1], "tree_")


def test_the_interval_is_students_with_the_variance_of_overlapping_folds() -> None:
    table, outcomes = cells()["table"], cells()["outcomes"]
    splits = training.folds(table, 5, 2, seed=1)
    p = np.random.default_rng(1).uniform(0.1, 0.9, (2, len(table)))
    found = training.summary(outcomes, p, splits)
    losses = [
        dataset.metrics(outcomes[test], p[r][test])["log_loss"] for r, split in enumerate(splits) for _, test in split
    ]
    error = np.sqrt(np.var(losses, ddof=1) * (1 / 10 + 1 / 4))
    assert found["log_loss"] == pytest.approx(np.mean(losses))
    assert found["log_loss_error"] == pytest.approx(error)
    assert found["log_loss_high"] - found["log_loss"] == pytest.approx(stats.t.ppf(0.975, 9) * error)


def test_the_short_settings_meet_the_floors_and_beat_both_baselines() -> None:
    splits = training.folds(cells()["table"], 5, 1, seed=2026)
    pipelines = {"mine": cells()["logistic_regression"], **cells()["baselines"]}
    results = training.compare(pipelines, cells()["table"], splits).results()
    found = {str(name): row for name, row in results.iterrows()}
    mine = found.pop("mine")
    assert mine["log_loss"] <= 0.445 and mine["brier"] <= 0.139 and mine["accuracy"] >= 0.81
    for other in found.values():
        assert mine["log_loss"] < other["log_loss"] and mine["brier"] < other["brier"]
        assert mine["roc_auc"] > other["roc_auc"] and mine["accuracy"] > other["accuracy"]


def test_what_is_fitted_is_a_copy_of_what_was_compared_on_the_same_rows() -> None:
    table, pipeline = cells()["table"], clone(cells()["logistic_regression"])
    comparison = training.compare({"mine": pipeline}, table, training.folds(table, 2, 1, seed=1))
    # What the notebook does to its own objects after the comparison changes nothing.
    before = training.spelled_out(pipeline)
    pipeline.set_params(logisticregression__C=99.0)
    compared = comparison.fit("mine")
    assert compared.name == "mine"
    assert compared.description == before != training.spelled_out(pipeline)
    assert compared.rows_sha256 == training.rows_digest(dataset.training_set())
    again = clone(cells()["logistic_regression"]).fit(cells()["rows"], cells()["outcomes"])
    asked = cells()["rows"][:50]
    assert np.array_equal(compared.pipeline.predict_proba(asked), again.predict_proba(asked))


def test_rows_of_the_holdout_are_refused_before_anything_is_fitted() -> None:
    table = dataset.load()
    with pytest.raises(RunError, match="187 of the 891 rows to train on belong to the holdout.*training_set"):
        training.compare(cells()["baselines"], table, training.folds(table, 2, 1, seed=1))


def test_a_pipeline_without_probabilities_is_named_before_anything_is_fitted() -> None:
    table = cells()["table"]
    with pytest.raises(RunError, match="^vectors ends in LinearSVC, which gives no probabilities"):
        training.compare({"vectors": make_pipeline(LinearSVC())}, table, [])


@pytest.mark.parametrize("column", ["Age", "Survived"])
def test_the_digest_of_the_rows_changes_with_one_value(column: str) -> None:
    table = dataset.training_set()
    before = training.rows_digest(table)
    assert training.rows_digest(table.assign(PassengerId=0)) == before
    table.loc[3, column] = 1 - table.loc[3, column]
    assert training.rows_digest(table) != before


def test_the_training_key_is_the_same_for_the_same_training(notebook: Path) -> None:
    assert training.training_key({"seed": 1, "cv_folds": 5}) == training.training_key({"cv_folds": 5, "seed": 1})


def test_the_training_key_changes_with_a_parameter_and_with_code(notebook: Path) -> None:
    before = training.training_key({"seed": 1})
    assert training.training_key({"seed": 2}) != before
    edit(notebook, "logistic-regression", "\n")
    assert training.training_key({"seed": 1}) != before


@pytest.mark.parametrize("cell", ["title", "rule", "parameters"])
def test_the_training_key_does_not_change_with_prose_or_with_defaults(notebook: Path, cell: str) -> None:
    before = training.training_key({"seed": 1})
    edit(notebook, cell, "\nanother: int = 1  # word")
    assert training.training_key({"seed": 1}) == before


def test_the_training_key_changes_with_the_lock(
    notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = training.training_key({})
    lock = tmp_path / "requirements.lock"
    lock.write_text(training.LOCK.read_text() + "# renewed\n")
    monkeypatch.setattr(training, "LOCK", lock)
    assert training.training_key({}) != before


@pytest.mark.parametrize(
    "changes",
    [
        {"sha256": "0" * 64},
        {"label": "Sex"},
        {"group": None},
        {"holdout_salt": "x"},
        {"holdout_share": 0.3},
        {"codes": {}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_the_training_key_changes_with_what_training_reads_of_the_data_set(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = training.training_key({})
    facts = replace(description(), **changes)
    monkeypatch.setattr(training, "description", lambda: facts)
    assert training.training_key({}) != before


@pytest.mark.parametrize("changes", [{"slices": len}, {"known_cases": {}}, {"title": "x"}, {"baselines": {}}], ids=str)
def test_the_training_key_stays_when_a_slice_a_case_or_a_word_changes(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = training.training_key({})
    facts = replace(description(), **changes)
    monkeypatch.setattr(training, "description", lambda: facts)
    assert training.training_key({}) == before


def test_the_training_key_changes_with_the_fields_of_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    before = training.training_key({})
    fewer = contract.fields()[:-1]
    monkeypatch.setattr(contract, "fields", lambda: fewer)
    assert training.training_key({}) != before


@pytest.mark.parametrize("module", [dataset, onnx_model, training], ids=lambda module: module.__name__)
def test_the_training_key_changes_with_the_modules_that_training_leans_on(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = training.training_key({})
    copy = tmp_path / "copy.py"
    copy.write_text(Path(str(module.__file__)).read_text() + "# changed\n")
    monkeypatch.setattr(module, "__file__", str(copy))
    assert training.training_key({}) != before


def test_a_library_in_another_version_than_locked_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert training.off_lock() == []
    lock = tmp_path / "requirements.lock"
    lock.write_text(training.LOCK.read_text().replace(f"onnx=={LOCK['onnx']}", "onnx==0.1"))
    monkeypatch.setattr(training, "LOCK", lock)
    assert training.off_lock() == [f"onnx {LOCK['onnx']}, locked 0.1"]


def test_the_logged_model_is_the_exported_file_and_answers_a_frame(tracking: str) -> None:
    pipeline, onnx_file = exported()
    table = cells()["table"]
    with mlflow.start_run(experiment_id=tracking):
        uri = training.log_model(onnx_file, table.head(3))
    assert training.download(uri) == onnx_file
    loaded = mlflow.pyfunc.load_model(uri)
    answers = loaded.predict(table[list(contract.FIELDS)].astype(float))
    assert np.allclose(answers["probability"], pipeline.predict_proba(cells()["rows"])[:, 1], atol=1e-5)
    assert [c.name for c in loaded.metadata.signature.inputs] == list(contract.FIELDS)
    assert {str(c.type) for c in loaded.metadata.signature.inputs} == {"DataType.double"}
    assert loaded.metadata.saved_input_example_info is not None


def test_artifacts_stay_beside_the_store_and_not_in_the_working_directory(tracking: str, tmp_path: Path) -> None:
    location = mlflow.get_experiment(tracking).artifact_location
    assert location == (tmp_path / "artifacts").as_uri()
    assert not Path("mlruns").exists()


def test_an_experiment_is_made_once(tracking: str) -> None:
    assert training.open_experiment(mlflow.get_tracking_uri(), "titanic-test") == tracking


def test_run_json_satisfies_its_schema(tracking: str) -> None:
    _, onnx_file = exported()
    with mlflow.start_run(experiment_id=tracking, run_name="a-run", tags={"training_key": "b" * 64}) as run:
        mlflow.log_metric("cv_log_loss", 0.4)
    record = training.record(
        "a-run", run.info.run_id, "titanic-train", onnx_file=onnx_file, fitted=FITTED, key="b" * 64
    )
    handoff.save_metadata("run", "a-run", record)
    saved = handoff.load_metadata("run", "a-run")
    assert (saved["_experiment_name"], saved["target"]) == ("titanic-test", "titanic-train")
    assert saved["model"] == {
        "uri": f"runs:/{run.info.run_id}/model",
        "sha256": dataset.digest(onnx_file),
        "kind": "forest",
        "pipeline": "Forest()",
    }
    assert saved["data"]["training_set_sha256"] == "c" * 64
    assert saved["data"]["holdout_openings"] == dataset.openings()
    assert saved["data"]["development_rows"] + saved["data"]["sealed_rows"] == saved["data"]["rows"] == 891
    assert saved["metrics"] == {"cv_log_loss": 0.4}
    assert saved["tags"] == {"training_key": "b" * 64}


def test_a_record_without_its_training_key_is_refused(tracking: str) -> None:
    with mlflow.start_run(experiment_id=tracking) as run:
        pass
    record = training.record("a-run", run.info.run_id, "titanic-train", onnx_file=b"", fitted=FITTED, key="short")
    with pytest.raises(RunError, match="training_key"):
        handoff.save_metadata("run", "a-run", record)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("deployment", {"azureml-inference-server-http", "onnxruntime", "numpy", "msgspec"}),
        ("environment_setup", None),
    ],
)
def test_a_conda_file_pins_what_the_lock_pins(path: str, names: set[str] | None) -> None:
    document = yaml.safe_load((paths.ROOT / path / "conda_dependencies.yml").read_text())
    pins = dict(line.split("==") for line in document["dependencies"][-1]["pip"])
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert set(pins) == (names or {re.split(r"[<>=!~; ]", line)[0] for line in project})
    assert {name: LOCK[name] for name in pins} == pins
    assert "python=3.12" in document["dependencies"]


def test_the_digest_of_predictions_forgives_noise_but_no_change() -> None:
    p = np.array([0.25, 0.5])
    assert training.predictions_digest({"a": p}) == training.predictions_digest({"a": p + 1e-9})
    assert training.predictions_digest({"a": p}) != training.predictions_digest({"a": p + 1e-4})
    assert training.predictions_digest({"a": p}) != training.predictions_digest({"b": p})
