"""CI, then CD, for real on the local target: every job on an agent that has nothing but a clone and a bare environment.

The tests stand in the order in which an organisation would meet them: each push builds on what the one before released.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from emulator.records import Run
from emulator.service import Service, commit, commit_of

from runbook import repository

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

NAMES = {"pipelines/ci.yml": "Titanic Pred CI", "pipelines/cd.yml": "Titanic Pred CD"}
GROUPS = {
    "titanic": {"ml.subscriptionId": "none", "ml.resourceGroup": "none", "ml.workspace": "none"},
    "titanic-secrets": {"tls-certificate": "a-certificate", "tls-private-key": "a-private-key"},
}
SECRETS = frozenset({"System.AccessToken", "tls-certificate", "tls-private-key"})
# How this machine reaches the package registry belongs to the machine, as it would on an agent.
MACHINE = (
    "PIP_",
    "UV_INDEX",
    "UV_DEFAULT_INDEX",
    "SSL_",
    "REQUESTS_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
)
PARAMETERS = {
    "target": "local",
    "pythonVersion": f"{sys.version_info.major}.{sys.version_info.minor}",
    # They would run this very test again; what they do is seen on a pull request.
    "checks": "false",
}


@dataclass
class Organisation:
    """A service with our repository, the home that plays the cloud, and what an approver of prod could read."""

    service: Service
    home: Path
    seen: list[list[str]] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    @property
    def clone(self) -> Path:
        """The repository that the pipelines run from."""
        return self.service.repository

    def push(self, message: str) -> tuple[Run, Run | None]:
        """Commit what was changed and push it; returns the run of CI, and of CD if it started."""
        (self.clone / "pushed.md").write_text(message)
        commit(self.clone, message)
        ci = self.service.push(PARAMETERS)
        self.runs += [ci, *ci.triggered]
        return ci, ci.triggered[0] if ci.triggered else None

    def endpoint(self, stage: str) -> dict[str, Any]:
        """Return what serves on a stage."""
        return dict(json.loads(self.runbook("endpoint", stage, "--json")))

    def runbook(self, *words: str) -> str:
        """Run one command of the runbook, as it is in this organisation's repository, against its home."""
        command = [sys.executable, "-m", "runbook.cli", *words]
        environment = {**os.environ, "RUNBOOK_HOME": str(self.home), "PYTHONPATH": str(self.clone)}
        done = subprocess.run(command, cwd=self.clone, env=environment, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def organisation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Organisation]:
    folder = tmp_path_factory.mktemp("organisation")
    clone = commit_of(repository.ROOT, folder / "clone")
    short = yaml.safe_load((clone / "params" / "test.yml").read_text()) or {}
    for name in ("local", "dev", "prod"):
        path = clone / "params" / f"{name}.yml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **short}))
    machine = {k: v for k, v in os.environ.items() if k.upper().startswith(MACHINE)}
    machine["RUNBOOK_HOME"] = str(folder / "home")
    service = Service(clone, folder / "service", NAMES, GROUPS, frozenset({"titanic"}), SECRETS, machine)
    this = Organisation(service, folder / "home")

    def approve(environment: str, run: Run) -> bool:
        if environment == "titanic-prod":
            this.seen.append(list(run.summaries))
        return True

    service.approve = approve
    try:
        yield this
    finally:
        this.runbook("down")
        # Some gigabytes: an installed environment for every job.
        shutil.rmtree(folder / "service" / "agents")


def decision(ci: Run) -> str:
    document = json.loads((ci.artifacts["titanic_pred_artifact"] / "metadata" / "decision.json").read_text())
    return str(document["decision"])


def notebook(organisation: Organisation, name: str, after: str, source: str) -> None:
    """Put one more cell into a notebook, behind the cell ``after``."""
    path = organisation.clone / "notebooks" / f"{name}.ipynb"
    document = nbformat.read(path, as_version=4)
    place = next(i for i, cell in enumerate(document.cells) if cell.id == after)
    document.cells.insert(place + 1, nbformat.v4.new_code_cell(f"# Break on purpose\n{source}", id="broken"))
    nbformat.write(document, path)


def restore(organisation: Organisation, *paths: str) -> None:
    first = git(organisation, "rev-list", "--max-parents=0", "HEAD")
    git(organisation, "checkout", "--quiet", first, "--", *paths)


def git(organisation: Organisation, *words: str) -> str:
    command = ["git", "-C", str(organisation.clone), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


def test_a_first_push_goes_from_data_to_two_live_endpoints(organisation: Organisation) -> None:
    ci, cd = organisation.push("first")
    assert (ci.result, ci.stages) == ("Succeeded", {"check": "Skipped", "train": "Succeeded"}), ci.log()
    assert cd is not None and cd.result == "Succeeded", cd and cd.log()
    assert cd.stages == {"dev": "Succeeded", "prod": "Succeeded"}
    assert decision(ci) == "promote"
    for stage in ("dev", "prod"):
        assert organisation.endpoint(stage)["model_version"] == "1"

    artifact = ci.artifacts["titanic_pred_artifact"]
    assert {p.name for p in artifact.iterdir()} == {"metadata", "environment_setup", "deployment"}
    assert not [p for p in artifact.rglob("*") if "__pycache__" in p.name]
    assert {p.name for p in (artifact / "metadata").iterdir()} == {"run.json", "model.json", "decision.json"}
    assert set(ci.artifacts) == {"titanic_pred_artifact", "reports-ci-1"}
    assert set(cd.artifacts) == {"reports-dev-1", "reports-prod-1"}
    for run, name, step in (
        (ci, "reports-ci-1", "20_train"),
        (cd, "reports-dev-1", "70_functional_test-dev"),
        (cd, "reports-prod-1", "90_release-prod"),
    ):
        assert (run.artifacts[name] / "index.html").stat().st_size > 1_000
        assert (run.artifacts[name] / step / "report.html").stat().st_size > 1_000
    for title, (passed, failed) in {**ci.tests, **cd.tests}.items():
        assert passed >= 4 and failed == 0, title
    # Whoever approves prod reads what dev has shown.
    assert len(organisation.seen) == 1 and "60_deploy" in organisation.seen[0][0]


def test_the_same_data_and_code_hold_and_stay_green(organisation: Organisation) -> None:
    before = [organisation.endpoint(stage) for stage in ("dev", "prod")]
    ci, cd = organisation.push("nothing new")
    assert ci.result == "Succeeded", ci.log()
    assert cd is not None and cd.result == "Succeeded", cd and cd.log()
    assert decision(ci) == "hold"
    assert "hold" in "".join(ci.summaries).lower() and "hold" in "".join(cd.summaries).lower()
    assert [organisation.endpoint(stage) for stage in ("dev", "prod")] == before


def test_a_failing_training_deletes_the_compute_publishes_reports_and_releases_nothing(
    organisation: Organisation,
) -> None:
    notebook(organisation, "20_train", "parameters", "raise ValueError('broken by a test')")
    ci, cd = organisation.push("break the training")
    restore(organisation, "notebooks/20_train.ipynb")
    found = ci.results("train")
    assert (ci.result, cd) == ("Failed", None)
    assert found["papermill 20_train"] == "Failed"
    assert found["papermill 40_register"] == found["Publish titanic_pred_artifact"] == "Skipped"
    assert found["papermill 49_delete_compute"] == found["Publish reports"] == "Succeeded", ci.log()
    assert set(ci.artifacts) == {"reports-ci-1"}
    assert "broken by a test" in (ci.artifacts["reports-ci-1"] / "20_train" / "report.html").read_text()
    assert [text for kind, text in ci.issues if kind == "error" and "broken by a test" in text]
    assert ci.tests["reports-ci"][1] >= 1
    result = json.loads((ci.artifacts["reports-ci-1"] / "49_delete_compute" / "result.json").read_text())
    assert result["status"] == "passed"


def test_a_failing_functional_test_in_dev_keeps_prod_from_starting(organisation: Organisation) -> None:
    before = [organisation.endpoint(stage)["traffic"] for stage in ("dev", "prod")]
    score = organisation.clone / "deployment" / "score.py"
    # Right by the contract, wrong by the values: only a test that knows the answers can notice.
    rightly, wrongly = "int(probability >= 0.5)", "int(probability < 0.5)"
    assert rightly in score.read_text()
    score.write_text(score.read_text().replace(rightly, wrongly))
    ci, cd = organisation.push("answer wrongly")
    restore(organisation, "deployment/score.py")
    assert ci.result == "Succeeded", ci.log()
    assert cd is not None and cd.result == "Failed"
    assert cd.stages == {"dev": "Failed", "prod": "Skipped"}
    assert cd.results("dev")["papermill 70_functional_test"] == "Failed"
    assert cd.results("dev")["papermill 90_release"] == "Skipped"
    assert "prod" not in cd.jobs and "reports-dev-1" in cd.artifacts
    assert cd.jobs["dev on.failure"].result == "Succeeded", cd.log()
    assert [organisation.endpoint(stage)["traffic"] for stage in ("dev", "prod")] == before


def test_a_release_that_dies_in_prod_is_rolled_back_by_the_hook(organisation: Organisation) -> None:
    before = organisation.endpoint("prod")
    score = organisation.clone / "deployment" / "score.py"
    score.write_text(score.read_text() + "\n# Another deployment, the same answers.\n")
    # The runner itself dies right after the traffic has moved, so nobody but the hook can bring it back.
    killed = "import os, signal\nos.kill(os.getppid(), signal.SIGKILL) if stage == 'prod' else None"
    notebook(organisation, "90_release", "move-traffic", killed)
    ci, cd = organisation.push("die in the middle of a release")
    restore(organisation, "deployment/score.py", "notebooks/90_release.ipynb")
    assert ci.result == "Succeeded", ci.log()
    assert cd is not None and cd.stages == {"dev": "Succeeded", "prod": "Failed"}, cd and cd.log()
    assert cd.results("prod")["papermill 90_release"] == "Failed"
    assert cd.results("prod on.failure")["papermill 95_rollback"] == "Succeeded", cd.log()
    rolled = json.loads((cd.artifacts["rollback-prod-1"] / "95_rollback-prod" / "handoff.json").read_text())["values"]
    assert rolled["rolled_back"] is True
    live = {name: share for name, share in organisation.endpoint("prod")["traffic"].items() if share}
    assert live == {name: share for name, share in before["traffic"].items() if share}


def test_a_stage_that_breaks_before_its_deployment_rolls_nothing_back(organisation: Organisation) -> None:
    before = [organisation.endpoint(stage)["traffic"] for stage in ("dev", "prod")]
    notebook(organisation, "60_deploy", "parameters", "raise ValueError('broken by a test')")
    _, cd = organisation.push("break the deployment")
    restore(organisation, "notebooks/60_deploy.ipynb")
    assert cd is not None and cd.stages == {"dev": "Failed", "prod": "Skipped"}
    assert cd.results("dev on.failure")["papermill 95_rollback"] == "Skipped"
    assert [organisation.endpoint(stage)["traffic"] for stage in ("dev", "prod")] == before


def test_a_pull_request_is_checked_and_tested_and_trains_nothing(organisation: Organisation) -> None:
    # The real commands on a small part: whether the whole tree is clean is not this test's question.
    makefile = organisation.clone / "Makefile"
    lines = [
        line for line in makefile.read_text().splitlines() if "(BIN)/ruff" not in line and "(BIN)/mypy" not in line
    ]
    makefile.write_text("\n".join(lines).replace("(BIN)/pytest -q", "(BIN)/pytest -q tests/test_check.py") + "\n")
    commit(organisation.clone, "a proposal")
    run = organisation.service.start("pipelines/ci.yml", "PullRequest", PARAMETERS)
    restore(organisation, "Makefile")
    assert run.stages == {"check": "Succeeded", "train": "Skipped"}, run.log()
    passed, failed = run.tests["make test"]
    assert passed >= 5 and failed == 0
    assert "runbook/check.py" in "".join(run.summaries)
    assert run.artifacts == {}


def test_no_secret_is_in_any_log_or_report_of_these_runs(organisation: Organisation) -> None:
    hidden = [*GROUPS["titanic-secrets"].values(), "emulated-token-of-the-job"]
    hidden += [organisation.endpoint(stage)["key"] for stage in ("dev", "prod")]
    published = [folder for run in organisation.runs for folder in run.artifacts.values()]
    texts = [p.read_text(errors="replace") for folder in published for p in folder.rglob("*") if p.is_file()]
    texts += [run.log() for run in organisation.runs]
    assert len(texts) > 50
    assert not [secret for secret in hidden for text in texts if secret in text]
