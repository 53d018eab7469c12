"""The promise of README's first command, kept with real parts and short loads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from built import checkout
from place import SHORT, Place

from runbook import paths
from runbook.engine import plan

CUMINGS = {"Pclass": 1, "Sex": 0, "Age": 38, "SibSp": 1, "Parch": 0, "Fare": 71.2833, "Embarked": 2}
KELLY = {"Pclass": 3, "Sex": 1, "Age": 34.5, "SibSp": 0, "Parch": 0, "Fare": 7.8292, "Embarked": 2}

pytestmark = [pytest.mark.whole, pytest.mark.timeout(900)]


def results(folder: Path) -> dict[str, dict[str, Any]]:
    return {p.parent.name: json.loads(p.read_text()) for p in folder.glob("*/result.json")}


def versions(place: Place) -> list[str]:
    """Ask MLflow itself which versions of the model there are."""
    return _mlflow(place, "print(*sorted(v.version for v in client.search_model_versions(\"name='Titanic'\")))").split()


def champion(place: Place) -> str:
    """Ask MLflow itself which version is champion; empty when none is."""
    return _mlflow(place, "print(client.get_registered_model('Titanic').aliases.get('champion', ''))").strip()


def _mlflow(place: Place, question: str) -> str:
    source = "import mlflow, sys; mlflow.set_tracking_uri(sys.argv[1]); client = mlflow.MlflowClient(); " + question
    command = [sys.executable, "-c", source, f"sqlite:///{place.home}/mlflow.db"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def test_all_fourteen_steps_are_green_and_have_their_reports(place: Place) -> None:
    folder = place.reports / "first"
    found = results(folder)
    assert set(found) == {s.label for s in plan.PLANS["all"]}
    assert {r["status"] for r in found.values()} == {"passed"}
    for label in found:
        assert (folder / label / "report.html").stat().st_size > 5_000
        assert (folder / label / "executed.ipynb").exists() and (folder / label / "handoff.json").exists()


def test_the_run_says_where_its_report_is_before_it_starts_and_how_to_go_on(place: Place) -> None:
    assert place.first
    out = place.first.stdout
    page = str(place.reports / "first" / "index.html")
    assert out.index(page) < out.index("10_create_compute")
    assert "Decision: promote" in out and "make down" in out
    assert out.count("curl -s http://127.0.0.1:") == 2


def test_a_notebook_opened_by_hand_goes_on_where_the_green_run_ended(place: Place, tmp_path: Path) -> None:
    environment = os.environ | {"RUNBOOK_HOME": str(place.home), "RUNBOOK_REPORTS": str(place.reports)}
    notebook = str(paths.NOTEBOOKS / "70_functional_test.ipynb")
    command = [str(Path(sys.executable).with_name("papermill")), notebook, str(tmp_path / "out.ipynb")]
    done = subprocess.run([*command, "--no-progress-bar"], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (place.reports / "interactive" / "70_functional_test-dev" / "handoff.json").exists()


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_the_endpoint_answers_the_articles_passengers(place: Place, stage: str) -> None:
    status, answer = place.post(stage, CUMINGS)
    assert (
        status == 200
        and answer["prediction"] == 1
        and 0.5 <= answer["probability"] <= 1
        and answer["model_version"] == "1"
    )
    assert place.post(stage, KELLY)[1]["prediction"] == 0


def test_without_the_key_nobody_is_answered(place: Place) -> None:
    assert place.post("prod", CUMINGS, key=None)[0] == 401
    assert place.post("prod", CUMINGS, key="0" * 32)[0] == 401


def test_a_wrong_field_is_refused_by_name(place: Place) -> None:
    status, answer = place.post("prod", {**CUMINGS, "Age": -5})
    assert status == 422 and answer["error"]["field"] == "Age"
    status, answer = place.post("dev", {**CUMINGS, "Age": -5})
    assert status == 424 and answer["error"]["field"] == "Age"


def test_the_endpoint_is_what_the_command_says(place: Place) -> None:
    found = place.endpoint("prod")
    assert found["traffic"] == {"blue": 100} and found["model_version"] == "1"
    assert found["replicas"]["blue"] >= 3 and found["key"] != found["secondary_key"]
    words = place.run("endpoint", "prod").stdout
    assert found["key"] not in words and found["scoring_uri"] in words


def test_the_champion_answers_through_mlflow(place: Place) -> None:
    source = (
        "import sys, json, mlflow, pandas; mlflow.set_tracking_uri(sys.argv[1])\n"
        "model = mlflow.pyfunc.load_model('models:/Titanic@champion')\n"
        "frame = pandas.DataFrame(json.loads(sys.argv[2]))\n"
        "print(json.dumps(model.predict(frame)['probability'].tolist()))"
    )
    rows = json.dumps([{k: float(v) for k, v in p.items()} for p in (CUMINGS, KELLY)])
    uri = f"sqlite:///{place.home}/mlflow.db"
    done = subprocess.run([sys.executable, "-c", source, uri, rows], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    survives, dies = json.loads(done.stdout.splitlines()[-1])
    assert survives == pytest.approx(place.post("prod", CUMINGS)[1]["probability"], abs=1e-6)
    assert dies == pytest.approx(place.post("prod", KELLY)[1]["probability"], abs=1e-6)


def test_no_key_is_in_any_file_of_the_reports(place: Place) -> None:
    keys = {place.endpoint(stage)[name] for stage in ("dev", "prod") for name in ("key", "secondary_key")}
    assert len(keys) == 4
    for path in place.reports.rglob("*"):
        if path.is_file():
            text = path.read_text(errors="replace")
            assert not [key for key in keys if key in text], path


def test_a_second_run_holds_and_changes_nothing(place: Place) -> None:
    before = place.endpoint("prod"), place.endpoint("dev"), versions(place)
    done = place.run("run", "all", *SHORT, "--run-id", "second")
    assert "Decision: hold" in done.stdout
    found = results(place.reports / "second")
    assert {r["status"] for r in found.values()} == {"passed", "not_needed"}
    for label in ("80_stress_test-dev", "90_release-dev", "80_stress_test-prod", "90_release-prod"):
        assert found[label]["status"] == "not_needed" and found[label]["not_needed"], label
    assert found["70_functional_test-prod"]["status"] == "passed"
    assert (place.endpoint("prod"), place.endpoint("dev"), versions(place)) == before


@pytest.mark.slow
def test_plain_papermill_runs_every_step_in_order(place: Place) -> None:
    environment = os.environ | {"RUNBOOK_HOME": str(place.home), "RUNBOOK_REPORTS": str(place.reports)}
    for s in plan.PLANS["all"]:
        files = ["base", "local", *([s.stage] if s.stage else ["dev"]), "test"]
        words = [
            str(Path(sys.executable).with_name("papermill")),
            str(s.notebook),
            str(place.home / "out.ipynb"),
            "--no-progress-bar",
        ]
        words += [w for name in files for w in ("-f", str(paths.PARAMS / f"{name}.yml"))]
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=300, env=environment, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, f"{s.label}\n{done.stderr[-3000:]}"


@pytest.fixture(scope="module")
def clones(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two checkouts of the working tree, each with the same installed environment."""
    folder = tmp_path_factory.mktemp("clones")
    return checkout(paths.ROOT, folder / "one"), checkout(paths.ROOT, folder / "two")


@pytest.mark.slow
def test_cd_takes_the_artifact_of_ci_in_another_checkout(
    place: Place, clones: tuple[Path, Path], tmp_path: Path
) -> None:
    one, two = clones
    first = Place(place.home, one / "reports", environment={"PYTHONPATH": str(one)})
    first.run("run", "ci", *SHORT, "--run-id", "build-7", cwd=one)
    artifact = tmp_path / "titanic_pred_artifact"
    shutil.copytree(one / "reports" / "build-7" / "metadata", artifact / "metadata")
    shutil.rmtree(one)
    second = Place(place.home, two / "reports", environment={"PYTHONPATH": str(two)})
    second.run("run", "cd", *SHORT, "--from", str(artifact), "--run-id", "release-7", cwd=two)
    statuses = {label: r["status"] for label, r in results(two / "reports" / "release-7").items()}
    assert set(statuses) == {s.label for s in plan.PLANS["cd"]}
    assert set(statuses.values()) <= {"passed", "not_needed"}


@pytest.mark.slow
def test_a_changed_scoring_file_is_deployed_beside_and_can_be_rolled_back(
    place: Place, clones: tuple[Path, Path]
) -> None:
    two = clones[1]
    score = two / "deployment" / "score.py"
    score.write_text(score.read_text() + "\n# Changed by a test.\n")
    here = Place(place.home, two / "reports", environment={"PYTHONPATH": str(two)})
    here.run("run", "cd", *SHORT, "--from", str(place.reports / "first"), "--run-id", "changed", cwd=two)
    after = here.endpoint("prod")
    assert after["traffic"] == {"green": 100} and set(after["replicas"]) == {"blue", "green"}
    here.run("step", "95_rollback", "--stage", "prod", "--run-id", "back", cwd=two)
    assert here.endpoint("prod")["traffic"] == {"blue": 100}
    assert here.post("prod", CUMINGS)[0] == 200


@pytest.mark.slow
def test_what_was_not_tested_is_neither_released_nor_rolled_back_to(place: Place, clones: tuple[Path, Path]) -> None:
    two = clones[1]
    score = two / "deployment" / "score.py"
    here = Place(place.home, two / "reports", environment={"PYTHONPATH": str(two)})
    before = here.endpoint("dev")["traffic"]
    assert before == {"green": 100}
    # The way back leads to blue, which a deployment of other code now overwrites, behind the tests of its run.
    rightly = score.read_text()
    score.write_text(rightly.replace("int(probability >= 0.5)", "int(probability < 0.5)"))
    step = ["--stage", "dev", "--run-id", "changed", *SHORT]
    here.run("step", "60_deploy", *step, cwd=two)
    refused = here.run("step", "90_release", *step, cwd=two, wanted=1)
    assert "what the functional test has tested is what stands there" in refused.stderr
    refused = here.run("step", "95_rollback", "--stage", "dev", "--run-id", "by-hand", cwd=two, wanted=1)
    assert "the previous deployment stands ready" in refused.stderr
    assert {n: share for n, share in here.endpoint("dev")["traffic"].items() if share} == before
    assert here.post("dev", CUMINGS)[1]["prediction"] == 1


def test_down_leaves_nothing_and_the_next_command_revives_it(place: Place) -> None:
    uri = place.endpoint("prod")["scoring_uri"]
    assert "Nothing of the local platform runs" in place.run("down").stdout
    assert "Nothing was running" in place.run("down").stdout
    place.run("status")
    place.run("step", "70_functional_test", "--stage", "prod", "--run-id", "first", *SHORT)
    assert place.endpoint("prod")["scoring_uri"] == uri
    assert place.post("prod", CUMINGS)[0] == 200


def test_a_torn_down_stage_is_gone(place: Place) -> None:
    place.run("step", "99_teardown", "--stage", "dev", "--run-id", "gone")
    assert "There is no dev endpoint" in place.run("endpoint", "dev", wanted=1).stderr
