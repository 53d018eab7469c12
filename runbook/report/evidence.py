"""Reads the files of a run. A missing or broken file becomes "not run", never a crash and never green."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from runbook import handoff, hint
from runbook.check import Check
from runbook.errors import RunError
from runbook.report import format

GREEN = ("passed", "not_needed")
STRESS = "80_stress_test"


@dataclass(frozen=True)
class Failure:
    """What stopped a step: the exception's class, its message, and the id of the cell."""

    kind: str
    message: str
    cell: str | None


@dataclass(frozen=True)
class StepRun:
    """The runner's verdict on one step run, as result.json holds it; ``problem`` says why there is no result.json."""

    folder: str
    step: str
    stage: str | None
    status: str
    run_id: str = ""
    target: str = ""
    title: str = ""
    started: str | None = None
    seconds: float | None = None
    cells_run: int = 0
    cells: int = 0
    failure: Failure | None = None
    checks: tuple[Check, ...] = ()
    not_needed: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    commit: str | None = None
    dirty: bool | None = None
    problem: str = ""

    @property
    def green(self) -> bool:
        """Whether the run could go on after this step."""
        return self.status in GREEN

    @property
    def held(self) -> int:
        """How many checks held."""
        return sum(c.status == "passed" for c in self.checks)

    @property
    def applied(self) -> int:
        """How many checks applied here, whether they held or not."""
        return sum(c.status != "not_run" for c in self.checks)

    @property
    def failed_check(self) -> Check | None:
        """The first check that did not hold."""
        return next((c for c in self.checks if c.status == "failed"), None)

    @property
    def name(self) -> str:
        """The step in words, such as "stress test, prod"."""
        return format.step_name(self.step, self.stage)


@dataclass(frozen=True)
class Commit:
    """The commit of the code that ran some steps; ``name`` is None when git could not tell."""

    name: str | None
    dirty: bool
    folders: tuple[str, ...]

    @property
    def said(self) -> str:
        """The commit in words; one with uncommitted changes says so."""
        if not self.name:
            return "not recorded"
        return f"{self.name}{', with uncommitted changes' if self.dirty else ''}"


@dataclass(frozen=True)
class Run:
    """One run: its manifest, and what its pages quote besides, read when it is asked for."""

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def run_id(self) -> str:
        """The run's name."""
        return str(self.manifest["run_id"])

    @property
    def warnings(self) -> list[str]:
        """What a reader must know of the whole run: the secrets that are not masked."""
        return warnings(self.manifest)

    @property
    def rehearsal(self) -> bool:
        """Whether a stand-in answered in the place of the cloud."""
        return rehearsal(self.manifest)

    @property
    def target(self) -> str:
        """The target in words; a rehearsal says that it is one."""
        return target(self.manifest)

    @property
    def status(self) -> str:
        """The run's status as pages show it: a green rehearsal is rehearsed, not passed."""
        return status(self.outcome, self.manifest)

    @cached_property
    def outcome(self) -> str:
        """The manifest's status, but passed only when the verdict of every step is green as well."""
        said = str(self.manifest["status"])
        if said != "passed" or all(s.green for s in self.steps):
            return said
        return "failed" if any(s.status == "failed" for s in self.steps) else "cancelled"

    @property
    def commits(self) -> list[Commit]:
        """The commits whose code ran the steps, in order; of an older run, that of its manifest."""
        ran = [(s.commit, bool(s.dirty), s.folder) for s in self.steps if s.status != "not_run" and s.commit]
        found = [
            Commit(n, d, tuple(f for c, e, f in ran if (c, e) == (n, d))) for n, d in dict.fromkeys(r[:2] for r in ran)
        ]
        return found or [Commit(self.manifest["commit"], bool(self.manifest["dirty"]), ())]

    @cached_property
    def steps(self) -> tuple[StepRun, ...]:
        """The step runs in order."""
        return tuple(_listed(self.folder, row) for row in self.manifest["steps"])

    @cached_property
    def training(self) -> Mapping[str, Any] | None:
        """metadata/run.json, or None."""
        return self._metadata("run")

    @cached_property
    def model(self) -> Mapping[str, Any] | None:
        """metadata/model.json, or None."""
        return self._metadata("model")

    @cached_property
    def decision(self) -> Mapping[str, Any] | None:
        """metadata/decision.json, or None."""
        return self._metadata("decision")

    def stress(self, stage: str) -> Mapping[str, Any]:
        """Return what 80_stress_test of this stage handed over; empty when it left nothing."""
        document = _find(self.folder / f"{STRESS}-{stage}" / "handoff.json", "handoff")
        return document["values"] if document else {}

    @property
    def stopped_at(self) -> StepRun | None:
        """The first step that ran and is not green."""
        return next((s for s in self.steps if s.status in ("failed", "cancelled")), None)

    def _metadata(self, name: str) -> Mapping[str, Any] | None:
        return _find(self.folder / "metadata" / f"{name}.json", name)


def run(folder: Path) -> Run:
    """Read one run; raises RunError when its manifest cannot be read."""
    return Run(folder, read(folder / "manifest.json", "manifest"))


def earlier(this: Run) -> Sequence[Run]:
    """Return the runs of the same plan and target that began before this one, newest first.

    A folder that is not named after its run was copied here from elsewhere; its numbers are of another machine.
    """
    found = []
    for path in this.folder.parent.glob("*/manifest.json"):
        if path.parent.is_symlink() or path.parent.name == this.folder.name:
            continue
        try:
            other = run(path.parent)
        except RunError:
            continue  # the list of runs shows it as unreadable
        same = all(other.manifest[key] == this.manifest[key] for key in ("plan", "target"))
        same = same and other.rehearsal == this.rehearsal
        if same and other.run_id == path.parent.name and _began(other) < _began(this):
            found.append(other)
    return sorted(found, key=_began, reverse=True)


def warnings(manifest: Mapping[str, Any] | None) -> list[str]:
    """Return what a manifest says of secrets that are not masked; one of an older release says nothing."""
    return [str(said) for said in (manifest or {}).get("unmasked", [])]


def rehearsal(manifest: Mapping[str, Any] | None) -> bool:
    """Return whether a manifest is that of a rehearsal; one of an older release is not."""
    return bool(manifest and manifest.get("rehearsal"))


def target(manifest: Mapping[str, Any]) -> str:
    """Return the target in words."""
    return f"{manifest['target']}{' (rehearsal)' if rehearsal(manifest) else ''}"


def status(word: str, manifest: Mapping[str, Any] | None) -> str:
    """Return a run's or step's status as pages show it: what is green against a stand-in is rehearsed, never passed."""
    return "rehearsed" if word in GREEN and rehearsal(manifest) else word


def step_run(folder: Path) -> StepRun:
    """Read one step run; without a readable result.json it counts as not run."""
    try:
        document = read(folder / "result.json", "result")
    except RunError as error:
        step, _, stage = folder.name.partition("-")
        return StepRun(folder.name, step, stage or None, "not_run", title=step, problem=str(error))
    stop = document["error"]
    return StepRun(
        folder=folder.name,
        failure=Failure(stop["class"], stop["message"], stop["cell"]) if stop else None,
        checks=tuple(Check(**{k: c[k] for k in ("name", "wanted", "found", "status")}) for c in document["checks"]),
        **{k: v for k, v in document.items() if k not in ("schema_version", "error", "checks")},
    )


def read(path: Path, schema: str) -> dict[str, Any]:
    """Read one JSON file; raises RunError whatever is wrong with it."""
    try:
        return handoff.read_json(path, schema, hint.line("run", "all"))
    except RunError as error:
        # A page is read far from the folder it was made in.
        raise RunError(str(error).replace(str(path), path.name)) from error
    except (ValueError, AttributeError, OSError) as error:
        raise RunError(f"{path.name} cannot be read: {type(error).__name__}: {error}") from error


def _find(path: Path, schema: str) -> dict[str, Any] | None:
    try:
        return read(path, schema)
    except RunError:
        return None


def _listed(folder: Path, row: Mapping[str, Any]) -> StepRun:
    name = str(row["folder"])
    inside = name not in ("", ".", "..") and Path(name).name == name
    if row["status"] != "not_run" and inside:
        found = step_run(folder / name)
        # The manifest's row is written last: when it is red, a green result.json is that of an earlier attempt.
        return replace(found, status=row["status"]) if found.green and row["status"] not in GREEN else found
    return StepRun(name if inside else "", row["step"], row["stage"], "not_run", title=row["step"])


def _began(this: Run) -> float:
    found = format.moment(this.manifest["started"])
    return found.timestamp() if found else 0.0
