"""Records manifest.json of a run: command, commit, results, and the digests that make it evidence."""

from __future__ import annotations

import datetime as dt
import getpass
import hashlib
import json
import os
import platform
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from runbook import git, handoff, hint, paths
from runbook.engine import seal
from runbook.errors import RunError, UsageError

# A run is green when each of its rows is one of these.
GREEN = ("passed", "not_needed")
# The one run that git keeps lies in a folder with this name.
SAMPLE = "sample"


@dataclass
class Manifest:
    """manifest.json of one run; the only record here that changes while the run goes on."""

    run_id: str
    plan: str
    target: str
    command: str
    status: str = "running"
    started: str = field(default_factory=lambda: dt.datetime.now(dt.UTC).isoformat(timespec="seconds"))
    seconds: float | None = None
    user: str = field(default_factory=lambda: _user())
    host: str = field(default_factory=socket.gethostname)
    python: str = field(default_factory=platform.python_version)
    commit: str | None = field(default_factory=lambda: git.commit()[0])
    dirty: bool | None = field(default_factory=lambda: git.commit()[1])
    source_run: str | None = None
    params_files: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    # By step folder: the values that differ from what the plain command uses.
    given: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    rehearsal: bool = False
    steps: list[dict[str, Any]] = field(default_factory=list)
    endpoints: list[dict[str, Any]] = field(default_factory=list)
    endpoints_problem: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    # Sentences on secrets that are not masked, because their values cannot be told from ordinary text.
    unmasked: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return paths.run_folder(self.run_id)

    def record(
        self,
        name: str,
        stage: str | None,
        folder: str,
        status: str,
        seconds: float | None,
        commit: str | None = None,
        dirty: bool | None = None,
    ) -> None:
        """Set the row of one step run; a second run of the step replaces the first. ``commit`` is that of its code."""
        row = {"step": name, "stage": stage, "folder": folder, "status": status, "seconds": seconds}
        row |= {"commit": commit, "dirty": dirty}
        at = next((i for i, r in enumerate(self.steps) if r["folder"] == folder), None)
        if at is None:
            self.steps.append(row)
        else:
            self.steps[at] = row

    def outcome(self) -> str:
        """Return what the rows add up to: passed only when every one is green, failed when one failed, else cancelled."""
        found = {row["status"] for row in self.steps}
        if found <= set(GREEN):
            return "passed"
        return "failed" if "failed" in found else "cancelled"

    def values(self, files: Sequence[Path], overrides: Sequence[str]) -> tuple[tuple[Path, ...], tuple[str, ...]]:
        """Return the params files and overrides that the run was given, with these new ones over them."""
        kept = [Path(f) for f in self.params_files]
        return (
            (*(f for f in kept if f not in files), *files),
            (*(o for o in self.overrides if o not in overrides), *overrides),
        )

    def save(self) -> Path:
        """Write manifest.json."""
        return handoff.write_json(
            self.folder / "manifest.json", "manifest", {"schema_version": handoff.SCHEMA_VERSION, **asdict(self)}
        )

    def seal(self) -> None:
        """Take the digest of every file of the run, so that ``verify`` can tell what was changed afterwards."""
        self.files = seal.digests(self.folder)

    def changed(self, folder: Path) -> list[str]:
        """Return what in ``folder`` is no longer as it was when this run ended, a sentence each."""
        ended = self.files and self.status != "running"
        if not ended:
            return [f"{self.run_id} has no digests: it did not end (status {self.status})."]
        problems = seal.differences(folder, self.files)
        for row in self.steps:
            result = f"{row['folder']}/result.json"
            found = _status(folder / result)
            # A red row may have no result, or that of a step whose page could not be written. Of a file that had a digest
            # and is gone, that was said already.
            if row["status"] in GREEN and found != row["status"] and (found or result not in self.files):
                problems.append(
                    f"{row['folder']} is {row['status']} in manifest.json and {found or 'not'} in result.json"
                )
        if self.status == "passed" and self.outcome() != "passed":
            problems.append(f"the status is passed in manifest.json, and its steps add up to {self.outcome()}")
        return problems


def load(run_id: str) -> Manifest:
    """Return the manifest of a run; raises HandoffMissing when there is none."""
    return read(paths.run_folder(run_id))


def read(folder: Path) -> Manifest:
    """Return the manifest in a folder; raises HandoffMissing when there is none."""
    document = handoff.read_json(folder / seal.MANIFEST, "manifest", hint.line("run", "all"))
    return Manifest(**{k: v for k, v in document.items() if k != "schema_version"})


def rehearses(target: str) -> bool:
    """Return whether what is asked of ``target`` now goes to a stand-in ($RUNBOOK_REHEARSAL) and not to the cloud."""
    return target != "local" and bool(os.environ.get("RUNBOOK_REHEARSAL"))


def find(run_id: str) -> Manifest | None:
    """Return the manifest of a run, or None when the run has none yet."""
    return load(run_id) if (paths.run_folder(run_id) / "manifest.json").exists() else None


def everything() -> list[Manifest]:
    """Return every readable manifest here, newest first."""
    found = []
    for path in paths.reports().glob("*/manifest.json"):
        if path.parent.is_symlink():
            continue  # latest, which is listed under its own name
        try:
            found.append(load(path.parent.name))
        except RunError:
            continue  # a run of another release: the list of runs shows it as unreadable
    return sorted(found, key=lambda m: m.started, reverse=True)


def place(run: str) -> Path:
    """Return the folder of a run that is given by its id or by a path; raises UsageError when it is a link."""
    inside = "/" not in run and not run.startswith(".")
    if inside and ((paths.reports() / run).exists() or not Path(run).is_dir()):
        return paths.run_folder(run)
    folder = Path(run)
    if folder.is_symlink():
        raise UsageError(f"{run} is a link to {folder.resolve()}. Name that folder instead.")
    return folder.resolve()


def verify(run: str) -> list[str]:
    """Return what is not as it was when a run ended, a sentence each; ``run`` is its id or the path of its folder.

    A copy elsewhere may have a name of its own. Below reports/ a folder has the name of its run, because that is how
    everything finds it.
    """
    folder = place(run)
    this = read(folder)
    problems = this.changed(folder)
    if folder.parent == paths.reports() and folder.name not in (this.run_id, SAMPLE):
        problems.insert(0, f"the folder is called {folder.name}, and its manifest is that of run {this.run_id}")
    page = folder / "index.html"
    digest = hashlib.sha256((folder / seal.MANIFEST).read_bytes()).hexdigest()
    # The page of a run that goes on is rendered after each step, not after each change of the manifest.
    ended = this.status != "running"
    if ended and page.is_file() and digest not in page.read_text(encoding="utf-8", errors="replace"):
        again = hint.line("report", this.run_id)
        problems.append(
            f"index.html names another digest of manifest.json: one of the two was changed. Render the page again: {again}"
        )
    return problems


def _status(path: Path) -> str | None:
    """Return the status in a result.json, or None when there is none."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["status"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return "unreadable"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
