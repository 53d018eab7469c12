"""Who ran what, from which commit, with which result: manifest.json of a run, and the digests that make it evidence."""

from __future__ import annotations

import datetime as dt
import getpass
import hashlib
import os
import platform
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from runbook import handoff, hint, origin, repository
from runbook.errors import RunError

# A run is green when each of its rows is one of these.
GREEN = ("passed", "not_needed")
# Written after the digests are taken, or views that are made again at will.
UNSEALED = ("manifest.json", "index.html", "summary.md", "junit.xml", "events.jsonl")


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
    commit: str | None = field(default_factory=lambda: origin.commit()[0])
    dirty: bool | None = field(default_factory=lambda: origin.commit()[1])
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

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return repository.run_folder(self.run_id)

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
        self.files = {
            str(p.relative_to(self.folder)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(self.folder.rglob("*"))
            if p.is_file() and p.name not in UNSEALED and not p.name.startswith(".")
        }


def load(run_id: str) -> Manifest:
    """Return the manifest of a run; raises HandoffMissing when there is none."""
    document = handoff.read_json(repository.run_folder(run_id) / "manifest.json", "manifest", hint.line("run", "all"))
    return Manifest(**{k: v for k, v in document.items() if k != "schema_version"})


def rehearses(target: str) -> bool:
    """Return whether what is asked of ``target`` now goes to a stand-in ($RUNBOOK_REHEARSAL) and not to the cloud."""
    return target != "local" and bool(os.environ.get("RUNBOOK_REHEARSAL"))


def find(run_id: str) -> Manifest | None:
    """Return the manifest of a run, or None when the run has none yet."""
    return load(run_id) if (repository.run_folder(run_id) / "manifest.json").exists() else None


def everything() -> list[Manifest]:
    """Return every readable manifest here, newest first."""
    found = []
    for path in repository.reports().glob("*/manifest.json"):
        try:
            found.append(load(path.parent.name))
        except RunError:
            continue  # a run of another release: the list of runs shows it as unreadable
    return sorted(found, key=lambda m: m.started, reverse=True)


def verify(run_id: str) -> list[str]:
    """Return what differs between a run's files and the digests taken when it ended."""
    manifest = load(run_id)
    ended = manifest.files and manifest.status != "running"
    problems = [] if ended else [f"{run_id} has no digests: it did not end (status {manifest.status})."]
    for name, digest in manifest.files.items():
        path = manifest.folder / name
        if not path.exists():
            problems.append(f"{name} is gone")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            problems.append(f"{name} was changed after the run")
    return problems


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
