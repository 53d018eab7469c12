"""Room of jobs: one step as a command job on the training compute, and everything it made brought home."""

from __future__ import annotations

import hashlib
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook import git, handoff, paths, side_channel
from runbook.errors import NotFound, PlatformError
from runbook.platform import files
from runbook.platform.azure import tracking, workspace
from runbook.platform.azure.diagnosis import explaining, known
from runbook.platform.azure.workspace import Told, Workspace, body, load, wait, word
from runbook.platform.base import Change

# What a step needs of the checkout: no .venv, no reports, no state, no history.
SNAPSHOT = (
    "notebooks", "params", "deployment", "environment_setup", "data", "runbook", "pyproject.toml", "README.md", "LICENSE",
)  # fmt: skip
LEFT_OUT = ("__pycache__", ".*", "*.pyc")
# Azure keeps ./outputs of a job, so everything a step writes goes there; absolute, because a kernel has its own folder.
BEFORE = (
    'export RUNBOOK_REPORTS="$PWD/outputs/reports" RUNBOOK_HOME="$PWD/outputs/home" '
    "MLFLOW_DISABLE_TELEMETRY=true ORT_DISABLE_TELEMETRY=1"
)
# The mirror comes after the verdict and changes nothing of it. `-c`, because `-m` runs a module that is imported already.
AFTER = 'python -c "from runbook.platform.azure import tracking; tracking.mirror()"'
# The logs of a job by the phase that wrote them: the user's program, the image build, Azure's own. The first matter most.
_LOGS = ("user_logs", "azureml-logs", "logs", "system_logs")
_ENDED = ("Completed", "Failed", "Canceled", "NotResponding")
_MOST_ATTEMPTS = 20


@dataclass(frozen=True)
class Job:
    """One step that ran as a job; ``folder`` is the step's folder, which came home, ``log`` the end of the job's logs."""

    name: str
    status: str
    studio: str
    folder: Path
    log: str = ""


def wanted(step: str, run_id: str, arguments: list[str], code: Path, name: str | None = None) -> Any:
    """Return the command job of environment_setup/training-job.yml for one step run."""
    path = paths.ENVIRONMENT_SETUP / "training-job.yml"
    entity = load("job", path, files.training_job(), **{"display_name": step, "inputs.run_id": run_id})
    made = handoff.find("10_create_compute", run_id)
    entity.compute = made["compute_name"] if made else entity.compute
    entity.name = name
    entity.code = str(code)
    asked = entity.command.strip().replace("20_train", step) + "".join(f" {shlex.quote(a)}" for a in arguments)
    entity.command = f"{BEFORE} && {asked} && {AFTER}"
    # The snapshot has no history, and a model must say which commit it was trained from.
    entity.environment_variables = {**(entity.environment_variables or {}), **git.variables()}
    return entity


def request(entity: Any) -> dict[str, Any]:
    """Return the job's body; code and environment are shown by name, because their ids exist only once uploaded."""
    job = entity._to_job()
    job.environment = job.environment.image
    return body(job._to_rest_object())


def run(at: Workspace, step: str, run_id: str, arguments: list[str], into: Path) -> Change[Job]:
    """Run one step on the compute and bring its folder home to ``into``, its metadata beside it.

    The job's name says what it runs, so the run that lost its runner finds its job again instead of sending a second
    one. A failed job brings its evidence too, then raises PlatformError with its log; an interrupt cancels the job.
    """
    with _snapshot() as code:
        name, status = _attempt(at, f"{run_id}-{step}-{_digest(code, arguments)}".replace(".", "-").lower())
        entity = wanted(step, run_id, arguments, code, name)
        sent, submitted = request(entity), status is None
        if submitted:
            with explaining(f"submitting {step} as the job {name}"):
                at.ml.jobs.create_or_update(entity)
    status = _follow(at, name)
    if status != "Completed":
        raise _failure(at, step, name, status, run_id, into)
    studio, log = _bring_home(at, name, run_id, into)
    done = Job(name, status, studio, into, log)
    return Change(f"jobs.create_or_update({name})", sent, changed=submitted, result=done)


def _failure(at: Workspace, step: str, name: str, status: str, run_id: str, into: Path) -> PlatformError:
    """Return the error of a job that did not complete: what the service says of the run, what it means, the logs.

    What cannot be read is said in its place; it never hides that the job has failed.
    """
    try:
        studio, log = _bring_home(at, name, run_id, into)
    except PlatformError as error:
        studio, log = "the job in the studio", f"(the job's logs could not be brought home: {error})"
    reason = _reason(at, name)
    said = f"{step} ran as the job {name}, which ended as {status}."
    said += f"\nThe service says: {reason}" if reason else ""
    rule = known(f"{reason}\n{log}")
    if rule:
        said += f"\nThat means: {rule.meaning}.\nNext: {rule.next_command}.\nThe job: {studio}"
    else:
        said += f"\nNext: read {studio}"
    return PlatformError(said, log or "(the job left no log)")


def _reason(at: Workspace, name: str) -> str:
    """Return the error that the run history keeps of a job; empty when it keeps none or cannot be read."""
    from azure.core.exceptions import AzureError

    try:
        # The SDK shows the run's error only while it streams a log; this is the call that it makes for that.
        answer = at.ml.jobs._runs_operations.get_run_data(name).run_metadata.error
    except AzureError:
        return ""
    root = answer.error if answer else None
    return f"{root.code}: {root.message}" if root else ""


def _attempt(at: Workspace, stem: str) -> tuple[str, str | None]:
    """Return the first attempt that is not known to have failed, and its status (None: nobody has submitted it)."""
    for number in range(1, _MOST_ATTEMPTS + 1):
        name = f"{stem}-{number}"
        try:
            with explaining(f"reading the job {name}"):
                status = word(at.ml.jobs.get(name).status)
        except NotFound:
            return name, None
        if status not in ("Failed", "Canceled", "NotResponding"):
            return name, status
    raise PlatformError(f"The job {stem} has failed {_MOST_ATTEMPTS} times.\nNext: start a new run.")


def _follow(at: Workspace, name: str) -> str:
    """Wait until the job has ended and return its status; whatever ends the waiting early also cancels the job."""
    began, pause = time.monotonic(), 1.0
    ends = began + workspace.limit(workspace.JOB)
    told, studio = Told(f"the job {name}"), ""
    try:
        while True:
            with explaining(f"reading the job {name}"):
                job = at.ml.jobs.get(name)
            status = word(job.status)
            if job.studio_url and not studio:
                studio = str(job.studio_url)
                side_channel.tell_progress(f"the job {name}: {studio}")
            told.state(status, time.monotonic() - began)
            if status in _ENDED:
                return status
            if time.monotonic() > ends:
                raise PlatformError(f"The job {name} is still {status!r} at its deadline, so it was cancelled.")
            time.sleep(pause)
            pause = min(15.0, pause * 1.5)
    except BaseException:
        # A job nobody waits for would keep the compute busy, and paid for.
        with explaining(f"cancelling the job {name}"):
            poller = at.ml.jobs.begin_cancel(name)
            look = at.at.look(f"job show --name {name}").replace("provisioning_state", "status")
            wait(poller, workspace.ENDPOINT, f"cancelling the job {name}", look)
        raise


def _bring_home(at: Workspace, name: str, run_id: str, into: Path) -> tuple[str, str]:
    """Lay the step's folder, its metadata and its MLflow store where they belong here; returns studio address and log."""
    with tempfile.TemporaryDirectory(prefix="runbook-job-") as folder:
        with explaining(f"bringing home what the job {name} made"):
            job = at.ml.jobs.get(name)
            at.ml.jobs.download(name, download_path=folder)
        outputs = Path(folder) / "artifacts" / "outputs"
        tracking.bring_home(outputs)
        made = outputs / "reports" / run_id
        for source, target in ((made / into.name, into), (made / "metadata", into.parent / "metadata")):
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
        return str(job.studio_url or name), _log(Path(folder))


def _log(home: Path, lines: int = 50) -> str:
    """Return the end of what the job's phases logged, std_log.txt last; each file under its name when there are several."""
    files = [f for folder in _LOGS for f in sorted((home / "artifacts" / folder).rglob("*")) if f.is_file()]
    program = [f for f in files if f.name == "std_log.txt"]
    # With a log of the program, the phases before it went well.
    shown = program or [f for f in files if f.suffix in (".txt", ".log")]
    parts = []
    for path in shown:
        end = path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
        heading = [] if program else [f"--- {path.relative_to(home / 'artifacts').as_posix()} ---"]
        parts += [*heading, *end]
    return "\n".join(parts)


@contextmanager
def _snapshot() -> Iterator[Path]:
    """Copy what a step needs into a folder of its own: the SDK would walk and hash the whole checkout, .venv included."""
    with tempfile.TemporaryDirectory(prefix="runbook-snapshot-") as folder:
        for name in SNAPSHOT:
            source, copy = paths.ROOT / name, Path(folder) / name
            if source.is_dir():
                shutil.copytree(source, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
            elif source.exists():
                shutil.copyfile(source, copy)
        yield Path(folder)


def _digest(code: Path, arguments: list[str]) -> str:
    digest = hashlib.sha256(repr(arguments).encode())
    for path in sorted(p for p in code.rglob("*") if p.is_file()):
        digest.update(str(path.relative_to(code)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:8]
