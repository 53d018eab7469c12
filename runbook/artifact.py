"""CI's result, which CD takes: three JSON files, from an artifact folder or from a run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runbook import handoff, hint, manifest, repository
from runbook.errors import HandoffMissing, RunError


def take(source: str, run_id: str) -> str:
    """Copy CI's result (metadata/*.json) from an artifact folder or a run into this run; returns where it came from.

    Raises RunError when the artifact is incomplete, its decision is fail, or a step of that run's CI is not green.
    """
    folder = Path(source) if Path(source).is_dir() else repository.run_folder(source)
    command = hint.line("run", "ci")
    if (folder / "manifest.json").exists():
        _refuse_red(folder)
    documents = {
        name: handoff.read_json(folder / "metadata" / f"{name}.json", name, command) for name in handoff.METADATA
    }
    if documents["decision"]["decision"] == "fail":
        raise RunError(
            f"{folder}: the decision is fail ({documents['decision']['reason']}): there is nothing to release."
        )
    into = repository.run_folder(run_id) / "metadata"
    if folder.resolve() != into.parent.resolve():
        into.mkdir(parents=True, exist_ok=True)
        for name in handoff.METADATA:
            shutil.copyfile(folder / "metadata" / f"{name}.json", into / f"{name}.json")
    return folder.name


def latest_ci(target: str) -> str:
    """Return the newest run here whose CI is green on ``target``; raises HandoffMissing when there is none."""
    for this in manifest.everything():
        if this.target != target or (this.rehearsal and not manifest.rehearses(target)):
            continue  # its model was registered elsewhere, or with a stand-in
        registered = any(row["step"] == "40_register" for row in this.steps)
        if registered and not _red(this.steps) and (this.folder / "metadata" / "model.json").exists():
            return this.run_id
    raise HandoffMissing(
        f"No green CI run on the {target} target here. Run first: {hint.line('run', 'ci')}, "
        "or name an artifact folder with --from."
    )


def _refuse_red(folder: Path) -> None:
    """Raise RunError when ``folder`` is that of a run whose CI is not green; a pipeline's artifact holds no manifest."""
    document = handoff.read_json(folder / "manifest.json", "manifest", hint.line("run", "ci"))
    red = _red(document["steps"])
    if red:
        name, status = red[0]["step"], red[0]["status"]
        raise RunError(
            f"{folder}: {name} is {status}, so its CI is not green and there is nothing to release. "
            f"Go on with it first: {hint.line('run', '--resume', document['run_id'])}"
        )


def _red(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of CI that are not green."""
    return [row for row in rows if row["stage"] is None and row["status"] not in manifest.GREEN]
