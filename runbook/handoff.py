"""Values one step leaves for the next: schema-checked JSON files in the run's folder, written atomically."""

from __future__ import annotations

import datetime as dt
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from runbook import documents, hint, paths
from runbook.errors import HandoffMissing, RunError, UsageError

SCHEMA_VERSION = "1.2"
METADATA = ("run", "model", "decision")
# The run of a notebook that is opened by hand.
INTERACTIVE = "interactive"

_target = "local"


def save(step: str, run_id: str, stage: str | None = None, **values: Any) -> Path:
    """Write handoff.json of one step run and return its path; only what is saved here may be used by a later step."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "step": step,
        "stage": stage,
        "run_id": run_id,
        "saved": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "values": values,
    }
    return write_json(paths.step_folder(run_id, step, stage) / "handoff.json", "handoff", document)


def load(step: str, run_id: str, stage: str | None = None) -> dict[str, Any]:
    """Return the values that ``step`` left; raises HandoffMissing with the command to run when it left none.

    The run ``interactive`` reads what was left last: by itself, or by the latest green run that has left it.
    """
    own = paths.step_folder(run_id, step, stage) / "handoff.json"
    path = _readable(own, run_id)
    values: dict[str, Any] = read_json(path, "handoff", hint.step(step, run_id, stage))["values"]
    return values


def find(step: str, run_id: str, stage: str | None = None) -> dict[str, Any] | None:
    """Return the values that ``step`` left in this run, or None when it left none."""
    path = paths.step_folder(run_id, step, stage) / "handoff.json"
    return load(step, run_id, stage) if path.exists() else None


def save_metadata(name: str, run_id: str, document: dict[str, Any]) -> Path:
    """Write metadata/<name>.json, which CI hands to CD, and return its path; ``name`` is run, model or decision."""
    return write_json(_metadata(name, run_id), name, {"schema_version": SCHEMA_VERSION, **document})


def load_metadata(name: str, run_id: str) -> dict[str, Any]:
    """Return metadata/<name>.json of the run; raises HandoffMissing with the command to run when it is not there.

    The run ``interactive`` reads what was left last: by itself, or by the latest green run that has left it.
    """
    from runbook import steps

    path = _readable(_metadata(name, run_id), run_id)
    return read_json(path, name, hint.step(steps.writer(name), run_id))


def write_json(path: Path, schema: str, document: dict[str, Any]) -> Path:
    """Check ``document`` against the type of ``schema`` and write it in one move; returns the path."""
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    # Checked as it will be read: a tuple has become a list, a number of numpy's a number.
    _validate(path, schema, json.loads(text))
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def read_json(path: Path, schema: str, command: str) -> dict[str, Any]:
    """Read and check one JSON file; ``command`` is what makes it when it is missing."""
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise HandoffMissing(f"{path} is missing. Run first: {command}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is not JSON ({error}). Run again: {command}") from error
    if not isinstance(document, dict):
        raise RunError(f"{path} holds {type(document).__name__}, expected an object. Run again: {command}")
    version = str(document.get("schema_version", "none"))
    if version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise RunError(
            f"{path} has schema_version {version!r}, expected {SCHEMA_VERSION.split('.')[0]}.x: it was written by another "
            f"release of the runbook. Run again: {command}"
        )
    _validate(path, schema, document)
    return document


def use_target(target: str) -> None:
    """Read as ``interactive`` only what runs on this target have left; ``connect`` calls it."""
    global _target
    _target = target


def _readable(own: Path, run_id: str) -> Path:
    """Return the file to read: the run's own, or for ``interactive`` that of the latest green run when it is newer."""
    if run_id != INTERACTIVE:
        return own
    name = own.relative_to(paths.run_folder(run_id))
    found = [path for run in _green_runs() if (path := run / name).exists()]
    if not found and not own.exists():
        command = hint.line("run", "all", *([] if _target == "local" else ["--target", _target]))
        raise HandoffMissing(f"No green run on the {_target} target here has left {name}. Run first: {command}")
    newest = found[:1] + ([own] if own.exists() else [])
    return max(newest, key=lambda path: path.stat().st_mtime_ns)


def _green_runs() -> list[Path]:
    """Return the folders of the green runs on the target in use, newest first."""
    found = []
    for path in paths.reports().glob("*/manifest.json"):
        if path.parent.is_symlink():
            continue  # latest: the same run a second time
        try:
            manifest = read_json(path, "manifest", "")
        except RunError:
            continue  # a run of another release
        own = path.parent.name == manifest["run_id"]  # a folder of another name was copied here from elsewhere
        if own and manifest["status"] == "passed" and manifest["target"] == _target and not manifest.get("rehearsal"):
            found.append((str(manifest["started"]), path.parent))
    return [folder for _, folder in sorted(found, reverse=True)]


def _metadata(name: str, run_id: str) -> Path:
    if name not in METADATA:
        raise UsageError(f"metadata {name!r}: expected one of {', '.join(METADATA)}.")
    return paths.run_folder(run_id) / "metadata" / f"{name}.json"


def _validate(path: Path, schema: str, document: dict[str, Any]) -> None:
    try:
        msgspec.convert(document, documents.TYPES[schema])
    except msgspec.ValidationError as error:
        raise RunError(
            f"{path}: {error}. Expected what {paths.SCHEMAS / f'{schema}.schema.json'} describes."
        ) from error
