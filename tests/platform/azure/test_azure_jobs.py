"""A step as a job: a small training script stands in for the notebook, everything else is as in a real run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from azure_standin.assets import locate
from azure_standin.standin import StandIn, aimed

from runbook import paths, side_channel
from runbook.errors import NotFound, PlatformError
from runbook.modelling import training
from runbook.platform.azure import AzurePlatform

pytest_plugins = ["azure_standin.fixtures"]
pytestmark = pytest.mark.slow

SCRIPT = """
import os, sys
from pathlib import Path
import mlflow
from runbook.modelling import training
from runbook.platform.azure import tracking

assert not [n for n in os.environ if n.startswith("AZURE_")], "a job has no sign-in of its own"
experiment = training.open_experiment(tracking.uri(), "titanic-survival")
with mlflow.start_run(experiment_id=experiment) as run:
    mlflow.log_param("folds", 5)
    mlflow.log_metric("log_loss", 0.44)
    Path("model").mkdir()
    Path("model/model.onnx").write_bytes(b"a model")
    mlflow.log_artifacts("model", "model")
made = Path(os.environ["RUNBOOK_REPORTS"]) / sys.argv[1]
(made / "20_train").mkdir(parents=True)
(made / "metadata").mkdir()
(made / "20_train" / "executed.ipynb").write_text("an executed notebook")
(made / "metadata" / "run.json").write_text('{"uri": "runs:/%s/model"}' % run.info.run_id)
print("arguments:", sys.argv[2:])
"""
FAILING = """
import os, sys
from pathlib import Path
made = Path(os.environ["RUNBOOK_REPORTS"]) / sys.argv[1] / "20_train"
made.mkdir(parents=True)
(made / "executed.ipynb").write_text("half a notebook")
sys.exit("the training diverged")
"""
SLOW = "import time; time.sleep(120)"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose training is a script, with a history and an environment that must stay at home."""
    root = tmp_path / "checkout"
    shutil.copytree(paths.ENVIRONMENT_SETUP, root / "environment_setup")
    for folder in ("data", ".git", ".venv", "reports", ".runbook"):
        (root / folder).mkdir()
        (root / folder / "secret.txt").write_text("stays at home")
    (root / "data" / "secret.txt").unlink()
    path = root / "environment_setup" / "training-job.yml"
    text = path.read_text()
    start, end = text.index("command:"), text.index("inputs:")
    path.write_text(text[:start] + 'command: "python data/train.py ${{inputs.run_id}}"\n' + text[end:])
    (root / "data" / "train.py").write_text(SCRIPT)
    monkeypatch.setattr(paths, "ROOT", root)
    monkeypatch.setattr(paths, "ENVIRONMENT_SETUP", root / "environment_setup")
    return root


@pytest.fixture
def into(azure: AzurePlatform) -> Path:
    azure.create_compute("titanic-train")
    return paths.step_folder("r1", "20_train")


def submitted(standin: StandIn) -> list[str]:
    return [e.path.rsplit("/", 1)[-1] for e in standin.sent("PUT", "/jobs/[^/]+$")]


def test_a_step_runs_as_a_job_and_what_it_made_comes_home(
    azure: AzurePlatform, standin: StandIn, root: Path, into: Path
) -> None:
    change = azure.run_step("20_train", "r1", ["-p", "folds=3; rm -rf x"], into)
    assert change.changed
    assert change.result.status == "Completed"
    assert (into / "executed.ipynb").read_text() == "an executed notebook"
    source = json.loads((into.parent / "metadata" / "run.json").read_text())["uri"]
    assert sorted(p.name for p in into.parent.iterdir()) == ["20_train", "metadata"]

    figures = standin.state.figures[change.result.name]
    assert figures["params"] == {"folds": "5"}
    assert figures["metrics"] == {"log_loss": 0.44}

    training.open_experiment(azure.tracking_uri(), "titanic-survival")
    assert training.download(source) == b"a model"

    digest = hashlib.sha256(b"a model").hexdigest()
    version = azure.register_model("Titanic", source, digest, "", {}).result
    assert azure.download_model("Titanic", version.version, root / "into").read_bytes() == b"a model"


def test_only_what_a_step_needs_is_uploaded(azure: AzurePlatform, standin: StandIn, root: Path, into: Path) -> None:
    (root / "data" / "train.py").write_text("pass")
    azure.run_step("20_train", "r1", [], into)
    (code,) = standin.sent("PUT", "/codes/[^/]+/versions/1$")
    container, prefix = locate(code.sent["properties"]["codeUri"])
    fetched = standin.blobs.fetch(container, prefix, root / "uploaded")
    names = {str(p.relative_to(root / "uploaded")) for p in fetched}
    assert "data/train.py" in names
    assert not [n for n in names if n.startswith((".git", ".venv", "reports", ".runbook"))]


def test_a_job_that_is_done_is_not_run_again(azure: AzurePlatform, standin: StandIn, root: Path, into: Path) -> None:
    (root / "data" / "train.py").write_text("import time; time.sleep(3)")
    with side_channel.opened("azure"):
        job = azure.run_step("20_train", "r1", [], into).result
        told = side_channel.progress(0)
    # Name and studio address come at once, and each change of the status afterwards.
    assert told[0].startswith(f"the job {job.name}: https://ml.azure.com/runs/{job.name}")
    states = [line.removeprefix(f"the job {job.name}: ").split(" after ")[0] for line in told[1:]]
    assert states[-2:] == ["Running", "Completed"]
    again = azure.run_step("20_train", "r1", [], into)
    assert not again.changed
    assert len(submitted(standin)) == 1


@pytest.mark.slow
def test_changed_code_or_arguments_are_another_job(
    azure: AzurePlatform, standin: StandIn, root: Path, into: Path
) -> None:
    (root / "data" / "train.py").write_text("pass")
    azure.run_step("20_train", "r1", [], into)
    azure.run_step("20_train", "r1", ["-p", "folds=3"], into)
    (root / "data" / "train.py").write_text("pass  # changed")
    azure.run_step("20_train", "r1", [], into)
    assert len(set(submitted(standin))) == 3


def test_a_failed_job_brings_its_log_and_its_notebook_home(
    azure: AzurePlatform, standin: StandIn, root: Path, into: Path
) -> None:
    (root / "data" / "train.py").write_text(FAILING)
    with pytest.raises(PlatformError, match="ended as Failed") as failure:
        azure.run_step("20_train", "r1", [], into)
    assert "the training diverged" in failure.value.log
    assert (into / "executed.ipynb").read_text() == "half a notebook"


def test_an_image_build_that_fails_shows_its_log_and_what_the_service_says_of_the_run(
    azure: AzurePlatform, standin: StandIn, root: Path, into: Path
) -> None:
    standin.faults.image_build_log = "Step 3: conda env create\nResolvePackageNotFound: scikit-learn=99"
    with pytest.raises(PlatformError, match="ended as Failed") as failure:
        azure.run_step("20_train", "r1", [], into)
    assert "azureml-logs/20_image_build_log.txt" in failure.value.log
    assert "ResolvePackageNotFound: scikit-learn=99" in failure.value.log
    said = str(failure.value.args[0])
    assert "The service says: UserError: Image build failed" in said
    assert "environment_setup/conda_dependencies.yml" in said


def test_a_failed_job_whose_logs_cannot_be_fetched_is_still_reported_as_failed(
    azure: AzurePlatform, standin: StandIn, root: Path, into: Path
) -> None:
    standin.faults.image_build_log = "no package"
    standin.faults.refuse("POST", "/listSecrets$", 403, "AuthorizationFailed", "No.", times=9)
    with pytest.raises(PlatformError, match="ended as Failed") as failure:
        azure.run_step("20_train", "r1", [], into)
    assert "could not be brought home" in failure.value.log


@pytest.mark.parametrize("absent", [True, False])
def test_the_mirror_to_the_workspace_changes_nothing_of_the_verdict(
    azure: AzurePlatform, standin: StandIn, root: Path, into: Path, absent: bool
) -> None:
    many = SCRIPT.replace('mlflow.log_param("folds", 5)', "mlflow.log_params({f'p{n}': n for n in range(150)})")
    (root / "data" / "train.py").write_text(many)
    standin.faults.mlflow_is_absent = absent
    job = azure.run_step("20_train", "r1", [], into).result
    assert job.status == "Completed"
    assert ("Warning: the workspace's MLflow did not take the figures" in job.log) is absent
    assert "RuntimeWarning" not in job.log
    taken = standin.state.figures.get(job.name, {"params": {}})["params"]
    assert len(taken) == (0 if absent else 150)


@pytest.mark.slow
def test_after_a_failure_the_same_step_is_a_new_attempt(
    azure: AzurePlatform, standin: StandIn, root: Path, into: Path
) -> None:
    (root / "data" / "train.py").write_text(FAILING)
    for _ in range(2):
        with pytest.raises(PlatformError):
            azure.run_step("20_train", "r1", [], into)
    first, second = submitted(standin)
    assert (first[:-2], first[-2:], second[-2:]) == (second[:-2], "-1", "-2")


def test_an_interrupt_cancels_the_job(azure: AzurePlatform, standin: StandIn, root: Path, into: Path) -> None:
    (root / "data" / "train.py").write_text(SLOW)

    def interrupt() -> None:
        while not submitted(standin):
            time.sleep(0.05)
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        azure.run_step("20_train", "r1", [], into)
    (name,) = submitted(standin)
    assert len(standin.sent("POST", f"/jobs/{name}/cancel$")) == 1


@pytest.mark.slow
def test_a_job_beyond_its_deadline_is_cancelled(
    azure: AzurePlatform, standin: StandIn, root: Path, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "data" / "train.py").write_text(SLOW)
    monkeypatch.setenv("RUNBOOK_AZURE_DEADLINE", "5")
    with pytest.raises(PlatformError, match="so it was cancelled"):
        azure.run_step("20_train", "r1", [], into)
    (name,) = submitted(standin)
    assert len(standin.sent("POST", f"/jobs/{name}/cancel$")) == 1


@pytest.mark.slow
def test_a_killed_runner_finds_its_job_again(
    azure: AzurePlatform, standin: StandIn, root: Path, into: Path, tmp_path: Path
) -> None:
    (root / "data" / "train.py").write_text("import time; time.sleep(4)")
    program = (
        "from pathlib import Path; from runbook import paths; from runbook.platform.azure import AzurePlatform\n"
        f"paths.ROOT = Path({str(root)!r}); paths.ENVIRONMENT_SETUP = paths.ROOT / 'environment_setup'\n"
        f"AzurePlatform().run_step('20_train', 'r1', [], Path({str(into)!r}))"
    )
    surroundings = {**aimed(standin.environment()), "RUNBOOK_HOME": os.environ["RUNBOOK_HOME"]}
    killed = subprocess.Popen([sys.executable, "-c", program], env=surroundings, cwd=paths.ROOT.parent)
    ends = time.monotonic() + 60
    while not submitted(standin) and time.monotonic() < ends and killed.poll() is None:
        time.sleep(0.1)
    killed.send_signal(signal.SIGKILL)
    killed.wait(timeout=10)
    assert len(submitted(standin)) == 1
    resumed = azure.run_step("20_train", "r1", [], into)
    assert (resumed.changed, resumed.result.status) == (False, "Completed")
    assert len(submitted(standin)) == 1


def test_a_job_without_its_compute_is_refused(azure: AzurePlatform, standin: StandIn, root: Path) -> None:
    with pytest.raises(PlatformError, match="was not found"):
        azure.run_step("20_train", "r1", [], paths.step_folder("r1", "20_train"))


def test_a_model_of_no_job_cannot_be_registered(azure: AzurePlatform) -> None:
    with pytest.raises(NotFound, match="run 20_train again"):
        azure.register_model("Titanic", "runs:/0123456789abcdef0123456789abcdef/model", "0" * 64, "", {})


def test_inside_a_job_no_endpoint_is_asked_for(
    azure: AzurePlatform, standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZUREML_RUN_ID", "some-job")
    assert azure.find_endpoint("prod") is None
    assert standin.state.exchanges == []
