"""Room of tracking: an MLflow store that travels with the job, and its figures mirrored to the workspace.

Azure ML's MLflow server does not know what MLflow 3 calls a logged model (Azure/azure-sdk-for-python#44896), and reaches
artifacts only through a plug-in that lags behind MLflow. So a training writes to a SQLite store below ./outputs, which
Azure keeps; parameters, metrics and tags are then sent to the workspace by MLflow's own REST protocol.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from runbook import mlflow_store, paths
from runbook.errors import NotFound

JOB_TAG = "azureml_job"
# Azure sets more of MLflow's variables for a job's own run; a notebook that found them would look for that run in the wrong
# store. ``publish`` reads them in a process of its own.
_KEPT = ("MLFLOW_TRACKING_TOKEN",)
# Where MLflow keeps absolute addresses of files.
_ADDRESSES = (("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location"))
# How much one request of MLflow's protocol may hold, and how many values of one metric Azure keeps.
_MOST_METRICS, _MOST_PARAMS, _MOST_TAGS, _MOST_OF_A_METRIC = 1000, 100, 100, 250


def store() -> Path:
    """Return the folder of the MLflow store: below ./outputs in a job, below the runbook's home elsewhere."""
    return paths.home() / "azure" / "mlflow"


def uri() -> str:
    """Return the tracking URI, ready to be used; inside a job every run made from now on is tagged with the job's name."""
    store().mkdir(mode=0o700, parents=True, exist_ok=True)
    database = store() / "mlflow.db"
    database.touch(mode=0o600, exist_ok=True)
    mlflow_store.forget_environment(_KEPT)
    job = os.environ.get("AZUREML_RUN_ID")
    if job:
        os.environ["MLFLOW_RUN_CONTEXT"] = json.dumps({JOB_TAG: job})
    return mlflow_store.uri(database)


def bring_home(outputs: Path) -> None:
    """Make the store of a job's outputs this machine's store; replaces the one of an earlier training."""
    made = outputs / "home" / "azure" / "mlflow"
    if not (made / "mlflow.db").exists():
        return
    shutil.rmtree(store(), ignore_errors=True)
    shutil.copytree(made, store())
    here = (store() / "artifacts").as_uri()
    # MLflow has no call that moves a store.
    with closing(sqlite3.connect(store() / "mlflow.db")) as database, database:
        roots = [row[0] for row in database.execute("SELECT artifact_location FROM experiments")]
        for root in {r for r in roots if r and r.endswith("/azure/mlflow/artifacts")}:
            move = (root, here, f"{root}%")
            for table, column in _ADDRESSES:
                database.execute(f"UPDATE {table} SET {column} = REPLACE({column}, ?, ?) WHERE {column} LIKE ?", move)  # noqa: S608


def job_path(source: str) -> str:
    """Return the azureml:// path of a model that a job logged as ``runs:/<id>/<path>``; other sources stay as they are.

    Raises NotFound when this machine does not know the run, or it ran in no job.
    """
    if not source.startswith("runs:/"):
        return source
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    run_id, _, path = source.removeprefix("runs:/").partition("/")
    try:
        run = MlflowClient(uri()).get_run(run_id)
    except MlflowException as error:
        raise NotFound(f"{source}: {error}\nNext: run 20_train again on this machine.") from error
    job = run.data.tags.get(JOB_TAG)
    if not job:
        raise NotFound(
            f"{source} was not logged by a job, so the workspace has no copy of it.\nNext: run 20_train again."
        )
    # The same layout on both sides: what lies below the store here lies below ./outputs/home there.
    below = Path(url2pathname(urlsplit(run.info.artifact_uri).path)).relative_to(paths.home())
    return f"azureml://jobs/{job}/outputs/artifacts/paths/outputs/home/{below.as_posix()}/{path}/"


def mirror() -> None:
    """Send the figures of this job's runs to its own run in the workspace; a failure is a warning in the job's log.

    The job's command calls it after the notebook. The store below ./outputs holds the figures anyway, so a workspace
    whose MLflow refuses them does not turn a green training into a failed one.
    """
    try:
        print(f"{publish()} values sent to the workspace's MLflow")
    except Exception as error:
        print(f"Warning: the workspace's MLflow did not take the figures ({type(error).__name__}: {error}).")
        print("The verdict stays; the figures are in the MLflow store that comes home with the job.")


def publish() -> int:
    """Send parameters, metrics and tags of this job's runs to the job's own run in the workspace; returns how many values.

    Uses what Azure gives every job: MLFLOW_TRACKING_URI, its token and MLFLOW_RUN_ID. Each request holds at most what
    MLflow's protocol allows (1,000 values, of them 100 parameters and 100 tags), and a metric its newest 250 values, as
    many as Azure keeps. Raises MlflowException when the workspace refuses, after MLflow's own retries of 429 and 5xx.
    """
    if not (store() / "mlflow.db").exists():
        return 0
    from mlflow import MlflowClient
    from mlflow.entities import Param, RunTag

    # A job must not wait for minutes on figures that are a copy; MLflow reads these at every request.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    target, run_id = os.environ["MLFLOW_TRACKING_URI"], os.environ["MLFLOW_RUN_ID"]
    workspace = MlflowClient(_protocol_2(target))
    local, sent = MlflowClient(mlflow_store.uri(store() / "mlflow.db")), 0
    for experiment in local.search_experiments():
        for run in local.search_runs([experiment.experiment_id]):
            params = [Param(k, v) for k, v in run.data.params.items()]
            tags = [RunTag(k, v) for k, v in run.data.tags.items() if not k.startswith("mlflow.")]
            metrics = []
            for key in run.data.metrics:
                metrics += local.get_metric_history(run.info.run_id, key)[-_MOST_OF_A_METRIC:]
            for batch in _batches(params, _MOST_PARAMS):
                workspace.log_batch(run_id, params=batch)
            for batch in _batches(tags, _MOST_TAGS):
                workspace.log_batch(run_id, tags=batch)
            for batch in _batches(metrics, _MOST_METRICS):
                workspace.log_batch(run_id, metrics=batch)
            sent += len(params) + len(tags) + len(metrics)
    return sent


def _protocol_2(target: str) -> str:
    """Return the https address of a workspace's MLflow for the protocol that MLflow 2 and 3 speak.

    Azure hands out .../mlflow/v1.0; its own plug-in (azureml-mlflow 1.62) rewrites that to v2.0 for these versions.
    """
    address = target.replace("azureml://", "https://", 1).split("?")[0]
    return address.replace("/mlflow/v1.0/", "/mlflow/v2.0/")


def _batches(values: list[Any], most: int) -> list[list[Any]]:
    return [values[start : start + most] for start in range(0, len(values), most)]
