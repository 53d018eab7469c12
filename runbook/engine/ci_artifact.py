"""CI's result, which CD takes: three JSON files, from an artifact folder or from a run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runbook import handoff, hint, paths, steps
from runbook.engine import manifest
from runbook.errors import HandoffMissing, RunError


def take(source: str, run_id: str) -> str:
    """Copy CI's result (metadata/*.json) from an artifact folder or a run into this run; returns where it came from.

    Raises RunError when the artifact is incomplete, its files do not agree, its decision is fail, or a step of that run's
    CI is not green.
    """
    folder = Path(source) if Path(source).is_dir() else paths.run_folder(source)
    if (folder / "manifest.json").exists():
        _refuse_red(folder)
        _refuse_changed(folder)
    decision = read(folder)["decision"]
    if decision["decision"] == "fail":
        raise RunError(f"{folder}: the decision is fail ({decision['reason']}): there is nothing to release.")
    into = paths.run_folder(run_id) / "metadata"
    if folder.resolve() != into.parent.resolve():
        into.mkdir(parents=True, exist_ok=True)
        for name in handoff.METADATA:
            shutil.copyfile(folder / "metadata" / f"{name}.json", into / f"{name}.json")
    return folder.name


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Return run, model and decision of an artifact folder; raises RunError when one is missing or they do not agree."""
    command = hint.line("run", "ci")
    found = {name: handoff.read_json(folder / "metadata" / f"{name}.json", name, command) for name in handoff.METADATA}
    problems = list(disagreements(found["run"], found["model"], found["decision"]))
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise RunError(f"{folder / 'metadata'}: the files do not agree with one another:{listed}\nRun again: {command}")
    return found


def disagreements(run: Mapping[str, Any], model: Mapping[str, Any], decision: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence with both values for everything that one file of CI's result says differently from another."""
    word, candidate, champion = decision["decision"], decision.get("candidate") or {}, decision.get("champion") or {}
    unmet = [row["name"] for row in decision["criteria"] if row["verdict"] == "failed"]
    if word == "promote" and unmet:
        yield f"decision.json says promote, and these of its criteria failed: {', '.join(unmet)}"
    if word != "fail" and model["new"] is not (word == "promote"):
        yield f"decision.json says {word}, and model.json says that the model is {'new' if model['new'] else 'not new'}"

    trained = {"sha256": run["model"]["sha256"], "training_key": run["training_key"]}
    for name, value in trained.items():
        if word == "promote" and model[name] != value:
            yield f"the {name} of the model is {value} in run.json and {model[name]} in model.json"
        if candidate.get(name, value) != value:
            yield f"the {name} of the candidate is {value} in run.json and {candidate[name]} in decision.json"

    for name in ("name", "version", "sha256"):
        if word == "hold" and champion.get(name, model[name]) != model[name]:
            yield f"the {name} of the champion is {champion[name]} in decision.json and {model[name]} in model.json"
    if model["modelId"] != f"{model['name']}:{model['version']}":
        yield f"model.json has the modelId {model['modelId']} for version {model['version']} of {model['name']}"


def latest_ci(target: str) -> str:
    """Return the newest run here whose CI is green on ``target``; raises HandoffMissing when there is none."""
    for this in manifest.everything():
        if this.target != target or (this.rehearsal and not manifest.rehearses(target)):
            continue  # its model was registered elsewhere, or with a stand-in
        registered = any(row["step"] == steps.writer("model") for row in this.steps)
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


def _refuse_changed(folder: Path) -> None:
    """Raise RunError when CI's result was changed after its run had ended."""
    run = manifest.read(folder)
    problems = [] if run.status == "running" else [p for p in run.changed(folder) if p.startswith("metadata")]
    if problems:
        raise RunError(
            f"{folder}: {'; '.join(problems)}. Look at it with: {hint.line('verify', str(folder))}; "
            f"then run CI again: {hint.line('run', 'ci')}"
        )


def _red(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of CI that are not green."""
    return [row for row in rows if row["stage"] is None and row["status"] not in manifest.GREEN]
