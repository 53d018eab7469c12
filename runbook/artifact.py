"""CI's result, which CD takes: three JSON files, from an artifact folder or from a run."""

from __future__ import annotations

import shutil
from pathlib import Path

from runbook import handoff, hint, manifest, repository
from runbook.errors import HandoffMissing, RunError


def take(source: str, run_id: str) -> str:
    """Copy CI's result (metadata/*.json) from an artifact folder or a run into this run; returns where it came from.

    Raises RunError when the artifact is incomplete or its decision is fail.
    """
    folder = Path(source) if Path(source).is_dir() else repository.run_folder(source)
    command = hint.line("run", "ci")
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
        ci = [r for r in this.steps if r["stage"] is None]
        green = {r["step"] for r in ci if r["status"] in ("passed", "not_needed")}
        if "40_register" in green and len(green) == len(ci) and (this.folder / "metadata" / "model.json").exists():
            return this.run_id
    raise HandoffMissing(
        f"No green CI run on the {target} target here. Run first: {hint.line('run', 'ci')}, "
        "or name an artifact folder with --from."
    )
