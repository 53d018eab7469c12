"""An organisation with our repository and both pipelines, set up as docs/pipelines.md says, on the emulator."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import yaml
from emulator.records import Run
from emulator.service import JOB_TOKEN, Service, commit, commit_of

from runbook import paths

NAMES = {"pipelines/ci.yml": "Titanic Pred CI", "pipelines/cd.yml": "Titanic Pred CD"}
VAULT = {"tls-certificate": "a-certificate", "tls-private-key": "a-private-key"}
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


@dataclass
class Organisation:
    """A service with our repository, the target it releases to, and what an approver of prod could read."""

    service: Service
    target: str
    # What the runbook needs in a shell of ours to reach that target.
    shell: Mapping[str, str]
    seen: list[list[str]] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    @property
    def clone(self) -> Path:
        """The repository that the pipelines run from."""
        return self.service.repository

    @property
    def parameters(self) -> dict[str, str]:
        """What a run is started with. The checks would run these very tests again; a pull request shows what they do."""
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        return {"target": self.target, "pythonVersion": python, "checks": "false"}

    def push(self, message: str) -> tuple[Run, Run | None]:
        """Commit what was changed and push it; returns the run of CI, and of CD if it started."""
        (self.clone / "pushed.md").write_text(message)
        commit(self.clone, message)
        ci = self.service.push(self.parameters)
        self.runs += [ci, *ci.triggered]
        return ci, ci.triggered[0] if ci.triggered else None

    def endpoint(self, stage: str) -> dict[str, Any]:
        """Return what serves on a stage."""
        return dict(json.loads(self.runbook("endpoint", stage, "--target", self.target, "--json")))

    def traffic(self, stage: str) -> dict[str, int]:
        """Return who is served by what on a stage, without those that serve nobody."""
        return {name: share for name, share in self.endpoint(stage)["traffic"].items() if share}

    def runbook(self, *words: str) -> str:
        """Run one command of the runbook, as it is in this organisation's repository."""
        command = [sys.executable, "-m", "runbook.cli", *words]
        environment = {**os.environ, **self.shell, "PYTHONPATH": str(self.clone)}
        done = subprocess.run(command, cwd=self.clone, env=environment, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def insert(self, name: str, after: str, source: str) -> None:
        """Put one more cell into a notebook, behind the cell ``after``."""
        path = self.clone / "notebooks" / f"{name}.ipynb"
        document = nbformat.read(path, as_version=4)
        place = next(i for i, cell in enumerate(document.cells) if cell.id == after)
        document.cells.insert(place + 1, nbformat.v4.new_code_cell(f"# Break on purpose\n{source}", id="broken"))
        nbformat.write(document, path)

    def die_in_the_middle_of_the_release_to_prod(self) -> None:
        """Let 90_release kill its runner right after the traffic has moved, so that nobody but the hook can mend it."""
        score = self.clone / "deployment" / "score.py"
        score.write_text(score.read_text() + "\n# Another deployment, the same answers.\n")
        killed = "import os, signal\nos.kill(os.getppid(), signal.SIGKILL) if stage == 'prod' else None"
        self.insert("90_release", "move-traffic", killed)

    def wait_in_the_middle_of_the_release_to_prod(self) -> None:
        """Let 90_release wait right after the traffic has moved, so that the run can be cancelled there."""
        score = self.clone / "deployment" / "score.py"
        score.write_text(score.read_text() + "\n# One more deployment, the same answers.\n")
        self.insert("90_release", "move-traffic", "import time\ntime.sleep(600) if stage == 'prod' else None")

    def restore(self, *names: str) -> None:
        """Take files back to what they were at first."""
        first = self._git("rev-list", "--max-parents=0", "HEAD")
        self._git("checkout", "--quiet", first, "--", *names)

    def assert_nothing_published_shows(self, *hidden: str) -> None:
        """Look for secrets in every log and every published file of all runs so far."""
        secrets = [*hidden, *VAULT.values(), JOB_TOKEN, *(self.endpoint(stage)["key"] for stage in ("dev", "prod"))]
        published = [folder for run in self.runs for folder in run.artifacts.values()]
        texts = [p.read_text(errors="replace") for folder in published for p in folder.rglob("*") if p.is_file()]
        texts += [run.log() for run in self.runs]
        assert len(texts) > 50
        assert not [secret for secret in secrets for text in texts if secret in text]

    def _git(self, *words: str) -> str:
        command = ["git", "-C", str(self.clone), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


@contextmanager
def set_up(
    folder: Path,
    target: str,
    workspace: Mapping[str, str],
    signed_in: Mapping[str, str],
    shell: Mapping[str, str],
    **variables: str,
) -> Iterator[Organisation]:
    """Set up an organisation in ``folder``: its group for the workspace, and what its service connection brings."""
    clone = commit_of(paths.ROOT, folder / "clone")
    short = yaml.safe_load((clone / "params" / "test.yml").read_text()) or {}
    for name in (target, "dev", "prod"):
        path = clone / "params" / f"{name}.yml"
        path.write_text(yaml.safe_dump({**(yaml.safe_load(path.read_text()) or {}), **short}))
    machine = {k: v for k, v in os.environ.items() if k.upper().startswith(MACHINE)}
    home = {"RUNBOOK_HOME": str(folder / "home")}
    service = Service(
        clone,
        folder / "service",
        NAMES,
        {"titanic": workspace, "titanic-secrets": VAULT},
        {"titanic": signed_in},
        frozenset({"System.AccessToken", *VAULT}),
        {**machine, **home},
        variables,
    )
    this = Organisation(service, target, {**shell, **home})

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
        shutil.rmtree(folder / "service" / "agents", ignore_errors=True)


def said(run: Run, artifact: str, step: str) -> dict[str, Any]:
    """Return what a step has left in a published artifact of a run."""
    document = json.loads((run.artifacts[artifact] / step / "handoff.json").read_text())
    return dict(document["values"])


def decision(ci: Run) -> str:
    """Return what a run of CI has decided: promote or hold."""
    document = json.loads((ci.artifacts["titanic_pred_artifact"] / "metadata" / "decision.json").read_text())
    return str(document["decision"])
