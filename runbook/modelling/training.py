"""Measures and records a training: grouped cross-validation, the training key, MLflow, run.json."""

from __future__ import annotations

import datetime as dt
import getpass
import hashlib
import importlib.metadata
import json
import logging
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from runbook import git, mlflow_store, paths
from runbook.errors import RunError
from runbook.modelling import dataset, onnx_model, request
from runbook.modelling.description import description

METRICS = ("log_loss", "brier", "roc_auc", "accuracy")
NOTEBOOK = paths.NOTEBOOKS / "20_train.ipynb"
LOCK = paths.ENVIRONMENT_SETUP / "requirements.lock"
ARTIFACT = "model"

# What the bytes of a model depend on, besides our own code.
MAKERS = ("numpy", "scipy", "pandas", "scikit-learn", "skl2onnx", "onnx", "onnxruntime")

Fold = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]


@dataclass(frozen=True)
class Fitted:
    """A pipeline after ``Comparison.fit``: its name, its full ``repr``, and the digest of the rows it was fitted on."""

    name: str
    pipeline: Any
    description: str
    rows_sha256: str


@dataclass(frozen=True)
class Comparison:
    """Pipelines under cross-validation on one training set; ``answers`` are [repeats, rows] per name.

    ``fit`` fits the same pipelines on the same rows, so that what is exported is what was compared.
    """

    table: pd.DataFrame
    pipelines: Mapping[str, Any]
    answers: Mapping[str, dataset.Floats]
    splits: list[list[Fold]]

    def results(self) -> pd.DataFrame:
        """Return a row per pipeline with the columns of ``summary``."""
        outcomes = dataset.outcomes(self.table)
        found = {name: summary(outcomes, answers, self.splits) for name, answers in self.answers.items()}
        return pd.DataFrame(found).T

    def fit(self, name: str) -> Fitted:
        """Fit a copy of the named pipeline on all rows of the comparison."""
        pipeline = clone(self.pipelines[name])
        pipeline.fit(dataset.matrix(self.table), dataset.outcomes(self.table))
        return Fitted(name, pipeline, spelled_out(pipeline), rows_digest(self.table))


def compare(pipelines: Mapping[str, Any], table: pd.DataFrame, splits: list[list[Fold]]) -> Comparison:
    """Cross-validate named pipelines on ``table``, whose rows ``splits`` divides (see ``folds``).

    Raises RunError when the table has rows of the holdout, or when a pipeline gives no probabilities.
    """
    opened = int(dataset.groups(table).map(dataset.in_holdout).sum())
    if opened:
        raise RunError(
            f"{opened} of the {len(table)} rows to train on belong to the holdout; expected none. Take the rows from "
            "dataset.training_set(): a candidate that has seen the holdout cannot be judged on it."
        )
    for name, pipeline in pipelines.items():
        onnx_model.refuse_without_probabilities(name, pipeline)
    # Kept as copies: a pipeline that is changed afterwards must not be what is fitted.
    kept = {name: clone(pipeline) for name, pipeline in pipelines.items()}
    rows, outcomes = dataset.matrix(table), dataset.outcomes(table)
    answers = {name: out_of_fold(pipeline, rows, outcomes, splits) for name, pipeline in kept.items()}
    return Comparison(table.copy(), kept, answers, splits)


def spelled_out(pipeline: Any) -> str:
    """Return every parameter of a pipeline as text, fitted or not; a plain ``str`` shortens long ones."""
    return str(pipeline.__repr__(N_CHAR_MAX=10**9))


def rows_digest(table: pd.DataFrame) -> str:
    """Return the sha256 of what a pipeline learns from: inputs and label of every row, in order."""
    total = hashlib.sha256(dataset.matrix(table).astype("<f4").tobytes())
    total.update(dataset.outcomes(table).astype("<i8").tobytes())
    return total.hexdigest()


def folds(table: pd.DataFrame, count: int, repeats: int, seed: int) -> list[list[Fold]]:
    """Return ``repeats`` partitions of the rows into ``count`` folds; a group is never in training and test at once."""
    splits = []
    for repeat in range(repeats):
        splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed + repeat)
        splits.append(list(splitter.split(table, dataset.outcomes(table), groups=dataset.groups(table))))
    return splits


def out_of_fold(
    pipeline: Any, rows: dataset.Floats, outcomes: npt.ArrayLike, splits: list[list[Fold]]
) -> dataset.Floats:
    """Return probabilities [repeats, rows], each from a copy of the pipeline that has not seen that row's group."""
    answers = [
        cross_val_predict(clone(pipeline), rows, outcomes, cv=split, method="predict_proba")[:, 1] for split in splits
    ]
    return np.array(answers, dtype=np.float64)


def summary(outcomes: npt.ArrayLike, probabilities: dataset.Floats, splits: list[list[Fold]]) -> dict[str, float]:
    """Return mean, standard error and 95 % interval of every metric over all test folds.

    Keys are ``log_loss``, ``log_loss_error``, ``log_loss_low``, ``log_loss_high`` and so on. Folds of one data set share
    training rows, so the variance s^2 over the J test folds is not divided by J but multiplied by 1/J + n_test/n_train
    (Nadeau and Bengio, Machine Learning 52, 2003); the interval is Student's with J - 1 degrees of freedom.
    """
    y = np.asarray(outcomes)
    tests = [(row, test) for row, split in zip(probabilities, splits, strict=True) for _, test in split]
    scores = pd.DataFrame([dataset.metrics(y[test], row[test]) for row, test in tests])
    count = len(splits[0])
    errors = np.sqrt(scores.var(ddof=1) * (1 / len(scores) + 1 / (count - 1)))
    reach = stats.t.ppf(0.975, len(scores) - 1) * errors
    result: dict[str, float] = {}
    for name, mean in scores.mean().items():
        low, high = mean - reach[name], mean + reach[name]
        result |= {f"{name}": mean, f"{name}_error": errors[name], f"{name}_low": low, f"{name}_high": high}
    return {name: float(value) for name, value in result.items()}


def baselines() -> dict[str, Any]:
    """Return unfitted baselines by name: "majority", and the rules of one line that data/dataset.py names.

    A rule answers the share of 1 on each side of the best single split of its one field.
    """
    found: dict[str, Any] = {"majority": DummyClassifier(strategy="prior")}
    for name, field in description().baselines.items():
        one_field = ColumnTransformer([(field, "passthrough", [request.FIELDS.index(field)])])
        found[name] = make_pipeline(one_field, DecisionTreeClassifier(max_depth=1))
    return found


def baseline_answers(training_set: pd.DataFrame, rows: dataset.Floats) -> dict[str, dataset.Floats]:
    """Return the probabilities [rows] of every baseline, fitted on the training set, by name."""
    known, truth = dataset.matrix(training_set), dataset.outcomes(training_set)
    return {name: model.fit(known, truth).predict_proba(rows)[:, 1] for name, model in baselines().items()}


def predictions_digest(probabilities: Mapping[str, dataset.Floats]) -> str:
    """Return one sha256 over named predictions, each rounded to 6 decimals so that it survives another CPU."""
    total = hashlib.sha256()
    for name in sorted(probabilities):
        rounded = np.round(probabilities[name], 6).astype("<f8")
        total.update(name.encode() + b"\0" + rounded.tobytes())
    return total.hexdigest()


def off_lock() -> list[str]:
    """Return the libraries that make a model and are installed in another version than requirements.lock says."""
    pins = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", LOCK.read_text(encoding="utf-8"), re.MULTILINE))
    installed = {name: importlib.metadata.version(name) for name in MAKERS}
    return [f"{name} {found}, locked {pins[name]}" for name, found in installed.items() if found != pins[name]]


def training_key(parameters: Mapping[str, Any]) -> str:
    """Return one sha256 over everything that makes a model: data, code, training parameters and the lock.

    Prose, the parameters cell (its values come in ``parameters``) and the run's identity do not count.
    """
    parts = {
        "data": description().training_values(),
        "request": [[f.name, f.whole, f.nullable, f.low, f.high] for f in request.fields()],
        "code": code_digest(),
        "parameters": dict(parameters),
        "lock": dataset.digest(LOCK),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def code_digest() -> str:
    """Return the sha256 of the code that trains: the cells of 20_train, and the modules they lean on."""
    cells = [c for c in nbformat.read(NOTEBOOK, as_version=4).cells if c.cell_type == "code"]
    sources = [c.source for c in cells if "parameters" not in c.metadata.get("tags", [])]
    modules = [Path(m) for m in (dataset.__file__, onnx_model.__file__, __file__)]
    return hashlib.sha256("\0".join([*sources, *(p.read_text(encoding="utf-8") for p in modules)]).encode()).hexdigest()


def open_experiment(tracking_uri: str, name: str) -> str:
    """Point MLflow at ``tracking_uri`` and return the id of the experiment, which is made when it is missing."""
    import mlflow

    for noisy in ("alembic", "mlflow.store.db.utils", "mlflow.utils.environment"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    mlflow.set_tracking_uri(tracking_uri)
    found = mlflow.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    # SQLite holds no files, and MLflow would put them into the working directory.
    database = mlflow_store.database(tracking_uri)
    location = (database.resolve().parent / "artifacts").as_uri() if database else None
    return str(mlflow.create_experiment(name, artifact_location=location))


def log_model(onnx_file: bytes, example: pd.DataFrame) -> str:
    """Log an ONNX file to the active MLflow run as an MLflow model and return its uri, ``runs:/<id>/model``.

    ``example`` has the request's fields as columns; cast a frame of integers to float before asking the model.
    """
    import mlflow
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    inputs = Schema([ColSpec("double", field) for field in request.FIELDS])
    pins = [f"{name}=={importlib.metadata.version(name)}" for name in ("onnxruntime", "onnx", "numpy", "pandas")]
    mlflow.onnx.log_model(
        onnx.load_model_from_string(onnx_file),
        name=ARTIFACT,
        signature=ModelSignature(inputs, Schema([ColSpec("double", onnx_model.OUTPUT)])),
        input_example=example[list(request.FIELDS)].astype(float),
        pip_requirements=pins,
        onnx_execution_providers=["CPUExecutionProvider"],
        save_as_external_data=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        # MLflow keeps a logged model beside the run. A copy among the run's own files is what Azure ML can hand out.
        (Path(folder) / "model.onnx").write_bytes(onnx_file)
        mlflow.log_artifacts(folder, ARTIFACT)
    return f"runs:/{mlflow.active_run().info.run_id}/{ARTIFACT}"


def download(model_uri: str) -> bytes:
    """Return the model.onnx that was logged at ``model_uri``."""
    import mlflow

    with tempfile.TemporaryDirectory() as folder:
        path = mlflow.artifacts.download_artifacts(artifact_uri=f"{model_uri}/model.onnx", dst_path=folder)
        return Path(path).read_bytes()


def record(
    run_id: str, mlflow_run_id: str, compute_name: str, *, onnx_file: bytes, fitted: Fitted, key: str
) -> dict[str, Any]:
    """Return run.json: the fields of the article's run.json as MLflow knows the ended run, and what proves the model.

    It says how often this process opened the holdout; 30_evaluate refuses a candidate whose training did.
    """
    import mlflow

    run = mlflow.get_run(mlflow_run_id)
    user = str(run.data.tags.get("mlflow.user") or getpass.getuser())
    experiment = mlflow.get_experiment(run.info.experiment_id)
    development = len(dataset.training_set())
    return {
        "_experiment_name": experiment.name,
        "run_id": run_id,
        "root_run_id": run_id,
        "parent_run_id": None,
        "experiment_id": str(experiment.experiment_id),
        "run_number": None,
        "status": "Completed",
        "name": str(run.info.run_name),
        "display_name": NOTEBOOK.stem,
        "script_name": f"notebooks/{NOTEBOOK.name}",
        "target": compute_name,
        "tags": {k: v for k, v in run.data.tags.items() if not k.startswith("mlflow.")},
        "properties": {
            "mlflow_run_id": mlflow_run_id,
            "mlflow_tracking_uri": mlflow.get_tracking_uri(),
            **git.facts(),
        },
        "created_utc": _utc(run.info.start_time),
        "start_time_utc": _utc(run.info.start_time),
        "end_time_utc": _utc(run.info.end_time),
        "user_id": user,
        "created_by": {"user_name": user},
        "data_container_id": None,
        "run_type": "notebook",
        "model": {
            "uri": f"runs:/{mlflow_run_id}/{ARTIFACT}",
            "sha256": dataset.digest(onnx_file),
            "kind": fitted.name,
            "pipeline": fitted.description,
        },
        "data": {
            "path": str(description().file.relative_to(paths.ROOT)),
            "sha256": description().sha256,
            "rows": description().rows,
            "development_rows": development,
            "sealed_rows": description().rows - development,
            "training_set_sha256": fitted.rows_sha256,
            "holdout_openings": dataset.openings(),
        },
        "code": {"sha256": code_digest(), "lock_sha256": dataset.digest(LOCK)},
        "metrics": dict(run.data.metrics),
        "training_key": key,
    }


def _utc(milliseconds: int) -> str:
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC).isoformat(timespec="milliseconds")
