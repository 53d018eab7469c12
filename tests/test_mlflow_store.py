from __future__ import annotations

import os
from pathlib import Path

import pytest

from runbook import mlflow_store


@pytest.mark.parametrize("name", ["plain", "a b", "what?", "50%", "50%20", "#1", "a+b&c=d", "naïve"])
def test_the_uri_of_a_store_leads_back_to_its_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "mlflow.db"
    uri = mlflow_store.uri(path)
    assert uri.startswith("sqlite")
    assert not set(uri) & set(" ?#")
    assert mlflow_store.database(uri) == path


def test_only_a_store_in_sqlite_has_a_file() -> None:
    assert mlflow_store.database("https://mlflow.example.com") is None
    assert mlflow_store.database("sqlite:////abs/mlflow.db") == Path("/abs/mlflow.db")
    assert mlflow_store.database("sqlite:///mlflow.db") == Path("mlflow.db")


def test_only_variables_of_mlflow_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "theirs")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "kept")
    monkeypatch.setenv("MY_MLFLOW_RUN_ID", "mine")
    mlflow_store.forget_environment(["MLFLOW_TRACKING_TOKEN"])
    assert "MLFLOW_RUN_ID" not in os.environ
    assert (os.environ["MLFLOW_TRACKING_TOKEN"], os.environ["MY_MLFLOW_RUN_ID"]) == ("kept", "mine")
