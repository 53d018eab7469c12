"""20_train and 30_evaluate themselves, by plain papermill with the short settings, up to each kind of decision."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest

from runbook import paths

SHORT = {"cv_folds": "5", "cv_repeats": "1"}
LENIENT = {"cv_max_log_loss": "2", "cv_max_brier": "1", "cv_min_accuracy": "0"}
CHAMPION = (
    "import json, sys, runbook; p = runbook.connect('local'); v = json.loads(sys.argv[1]); "
    "r = p.register_model('Titanic', v['model_uri'], v['sha256'], 'a test', {'training_key': v['training_key']}); "
    "p.promote_model('Titanic', r.result.version)"
)


@dataclass(frozen=True)
class Place:
    folder: Path

    @property
    def run(self) -> Path:
        return self.folder / "reports" / "interactive"

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        own = {"RUNBOOK_HOME": str(self.folder / "home"), "RUNBOOK_REPORTS": str(self.folder / "reports")}
        environment = {**os.environ, **own, "PYTHONPATH": str(paths.ROOT)}
        environment.pop("RUNBOOK_KERNEL_LOCK", None)
        return subprocess.run(
            [sys.executable, "-W", "ignore", *command],
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=280,
        )

    def step(self, name: str, **parameters: str) -> subprocess.CompletedProcess[str]:
        return self.notebook(paths.NOTEBOOKS / f"{name}.ipynb", parameters)

    def notebook(self, path: Path, parameters: dict[str, str]) -> subprocess.CompletedProcess[str]:
        given = [word for key, value in parameters.items() for word in ("-p", key, value)]
        return self.execute("-m", "papermill", "--no-progress-bar", str(path), f"{path.stem}.ipynb", *given)

    def left(self, path: str) -> Any:
        return json.loads((self.run / path).read_text())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("evaluate"))
    done = place.step("20_train", **SHORT)
    assert done.returncode == 0, done.stderr
    return place


def test_training_leaves_a_record_and_a_candidate_that_agree(place: Place) -> None:
    record, left = place.left("metadata/run.json"), place.left("20_train/handoff.json")["values"]
    assert record["model"]["uri"] == left["model_uri"]
    assert record["model"]["sha256"] == left["sha256"]
    assert record["training_key"] == left["training_key"]
    assert record["metrics"]["cv_log_loss"] == left["metrics"]["cv_log_loss"] <= 0.445
    assert not (place.folder / "mlruns").exists() and not (place.folder / "mlflow.db").exists()


def test_a_failed_candidate_leaves_its_decision_before_the_step_turns_red(place: Place) -> None:
    done = place.step("30_evaluate", holdout_max_log_loss="0.1", bootstrap_resamples="200")
    assert done.returncode == 1
    assert "CheckFailed" in done.stderr
    decision = place.left("metadata/decision.json")
    assert decision["decision"] == "fail"
    assert "Log loss on the holdout" in decision["reason"]
    assert place.left("30_evaluate/handoff.json")["values"]["decision"] == "fail"


def test_a_first_candidate_is_promoted_and_the_same_one_then_held(place: Place) -> None:
    done = place.step("30_evaluate", bootstrap_resamples="200")
    assert done.returncode == 0, done.stderr
    first = place.left("metadata/decision.json")
    assert (first["decision"], first["champion"]) == ("promote", None)
    assert set(first["candidate"]) == {"model_uri", "sha256", "training_key", "mlflow_run_id"}

    made = place.execute("-c", CHAMPION, json.dumps(first["candidate"]))
    assert made.returncode == 0, made.stderr
    assert place.step("30_evaluate", bootstrap_resamples="200").returncode == 0
    second = place.left("metadata/decision.json")
    assert second["decision"] == "hold"
    assert second["champion"] == {"name": "Titanic", "version": "1", "sha256": first["candidate"]["sha256"]}


@pytest.mark.parametrize(
    ("part", "says"),
    [("model", "run.json and the handoff name one model"), ("code", "the code it was trained with is the code here")],
)
def test_a_record_from_another_training_is_refused_before_the_holdout_is_opened(
    place: Place, part: str, says: str
) -> None:
    path = place.run / "metadata" / "run.json"
    record = path.read_text()
    path.write_text(record.replace(json.loads(record)[part]["sha256"], "0" * 64))
    try:
        done = place.step("30_evaluate")
    finally:
        path.write_text(record)
    assert done.returncode == 1
    assert says in done.stderr


def test_a_training_that_reads_the_holdout_is_red_and_leaves_no_candidate(tmp_path: Path) -> None:
    document = nbformat.read(paths.NOTEBOOKS / "20_train.ipynb", as_version=4)
    next(c for c in document.cells if c.id == "places").source += "\ndataset.load()"
    edited = tmp_path / "edited" / "20_train.ipynb"
    edited.parent.mkdir()
    nbformat.write(document, edited)
    place = Place(tmp_path)
    done = place.notebook(edited, {"cv_folds": "2", "cv_repeats": "1", **LENIENT})
    assert done.returncode == 1
    assert "times the holdout was read so far: found 1, expected 0" in done.stderr
    assert not (place.run / "metadata" / "run.json").exists()
