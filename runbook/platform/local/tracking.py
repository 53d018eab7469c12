"""The MLflow store of a home: one SQLite file and a folder of artifacts, private and movable.

MLflow takes seconds to import, so only the functions that need it do.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING

from runbook import mlflow_store
from runbook.errors import NotFound, PlatformError
from runbook.platform.local import state_dir
from runbook.platform.local.state_dir import Home

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Where MLflow writes down absolute places of artifacts, as table and column.
_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)


def tracking_uri(of: Home) -> str:
    """Return the URI of this home's store; in a home that was moved or copied, its artifacts are found where they are now.

    From then on the environment has no say in what this process does with MLflow, and new experiments keep their artifacts
    below the home.
    """
    database = of.path / "mlflow.db"
    database.touch(mode=0o600, exist_ok=True)
    artifacts = state_dir.private_folder(of.path / "artifacts").as_uri()
    _follow(of, artifacts)
    mlflow_store.forget_environment()
    # MLflow has no other way to set this for a store without a server.
    os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = artifacts
    return mlflow_store.uri(database)


def client(of: Home) -> MlflowClient:
    """Return a client of this home's tracking and registry."""
    uri = tracking_uri(of)
    import mlflow

    # The client's own address does not reach everything it does: for a logged model MLflow asks the process-wide one, which
    # would be a new mlflow.db in the working directory.
    mlflow.set_tracking_uri(uri)
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextlib.contextmanager
def errors(what: str) -> Iterator[None]:
    """Turn MLflow's exceptions into NotFound or PlatformError that say what could not be done."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        kind = NotFound if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND") else PlatformError
        raise kind(f"MLflow could not {what}: {error.message}") from error


def _follow(of: Home, artifacts: str) -> None:
    record = of.path / "artifacts.json"
    before: str = state_dir.read_json(record)["artifacts"] if record.exists() else artifacts
    if before != artifacts:
        with contextlib.closing(sqlite3.connect(of.path / "mlflow.db", timeout=30)) as database, database:
            known = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            for table, column in _PLACES:
                if table in known:
                    # The names are ours, from the tuple above; only the values come from outside.
                    database.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608
                        f"WHERE substr({column}, 1, ?) = ?",
                        (artifacts, len(before) + 1, len(before), before),
                    )
    if before != artifacts or not record.exists():
        state_dir.write_json(record, {"artifacts": artifacts})
