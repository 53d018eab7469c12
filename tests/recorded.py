"""Evidence for the tests of the reports: the files of a run as the runner writes them, without running anything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runbook import handoff, paths, report

HEX = hashlib.sha256(b"titanic").hexdigest()
COMMIT = "26e51d9f0c2b7a4e8d3c5b6a7988776655443322"
CI = [(s, None, "passed") for s in ("10_create_compute", "20_train", "30_evaluate", "40_register", "49_delete_compute")]
DEV = [(s, "dev", "passed") for s in ("60_deploy", "70_functional_test", "80_stress_test", "90_release")]
PROD = [
    (s, "prod", "passed")
    for s in ("50_create_cluster", "60_deploy", "70_functional_test", "80_stress_test", "90_release")
]
SLOW = {"class": "CheckFailed", "message": "p95, ms: found 412.7, expected at most 150.", "cell": "check-latency"}


def result(run_id: str, name: str, stage: str | None, status: str, **fields: Any) -> Path:
    """Write result.json of a step run that needs no notebook, and return the step's folder."""
    document = {
        "schema_version": "1.0", "run_id": run_id, "step": name, "stage": stage, "target": "local",
        "title": f"Try {name}", "status": status, "started": "2026-11-22T22:16:05+00:00", "seconds": 12.3,
        "cells_run": 9, "cells": 9, "error": None, "checks": [], "not_needed": None, "parameters": {}, "inputs": {},
        **fields,
    }  # fmt: skip
    folder = paths.step_folder(run_id, name, stage)
    handoff.write_json(folder / "result.json", "result", document)
    return folder


def check(name: str, status: str = "passed", wanted: str = "yes", found: str = "yes") -> dict[str, str]:
    """Return one check as result.json holds it."""
    return {"name": name, "wanted": wanted, "found": found, "status": status}


def manifest(run_id: str, steps: Sequence[tuple[str, str | None, str]], /, **fields: Any) -> Path:
    """Write manifest.json of a run and return the run's folder; ``steps`` are (step, stage, status)."""
    rows = [
        {"step": s, "stage": stage, "folder": f"{s}-{stage}" if stage else s, "status": status, "seconds": 12.3}
        for s, stage, status in steps
    ]
    document = {
        "schema_version": "1.0", "run_id": run_id, "plan": "all", "target": "local", "status": "passed",
        "started": "2026-11-22T22:16:00+00:00", "seconds": 184.2, "command": "runbook run all", "user": "rivera",
        "host": "build-7", "python": "3.11.7", "commit": COMMIT, "dirty": False, "source_run": None, "steps": rows,
        "endpoints": [], "files": {}, **fields,
    }  # fmt: skip
    handoff.write_json(paths.run_folder(run_id) / "manifest.json", "manifest", document)
    return paths.run_folder(run_id)


def endpoint(stage: str, version: str | None, previous: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return what serves, as a manifest holds it; a row without ``released_by`` is one of an older release."""
    uri = f"http://127.0.0.1:8{'0' if stage == 'dev' else '1'}80/api/v1/service/titanic-{stage}/score"
    return {
        "stage": stage, "name": f"titanic-{stage}", "scoring_uri": uri, "traffic": {"green": 100, "blue": 0},
        "model_version": version, "previous_version": previous, **fields,
    }  # fmt: skip


def metadata(run_id: str, word: str, log_loss: float = 0.4203, version: str = "12", **criterion: Any) -> None:
    """Write run.json, model.json and decision.json of a run; ``criterion`` changes the first criterion."""
    metrics = {"cv_log_loss": log_loss, "cv_log_loss_low": log_loss - 0.02, "cv_log_loss_high": log_loss + 0.02}
    metrics |= {"cv_brier": 0.1304, "cv_roc_auc": 0.871, "cv_accuracy": 0.8312, "cv_accuracy_error": 0.01}
    handoff.save_metadata("run", run_id, training(run_id, metrics))
    named = {"modelId": f"Titanic:{version}", "name": "Titanic", "version": version}
    proof = {"sha256": HEX, "training_key": HEX, "new": word == "promote"}
    handoff.save_metadata("model", run_id, {"workspaceName": "local", "resourceGroupName": "local", **named, **proof})
    first = {
        "name": "log loss on the holdout", "wanted": "at most 0.46", "found": 0.41873, "interval": [0.36, 0.48],
        "verdict": "passed", **criterion,
    }  # fmt: skip
    second = {
        "name": "log loss minus the champion's", "wanted": "at most 0.01, the whole interval", "found": -0.0031,
        "interval": [-0.011, 0.0052], "verdict": "passed",
    }  # fmt: skip
    reason = {
        "promote": "New, and not worse than the champion.",
        "hold": "Nothing is new: data and code are the champion's.",
    }
    told = reason.get(word, "Log loss on the holdout: found 0.5112, expected at most 0.46.")
    decided = {
        "decision": word,
        "reason": told,
        "criteria": [first, second],
        "candidate": {"sha256": HEX},
        "champion": None,
    }
    handoff.save_metadata("decision", run_id, decided)


def training(run_id: str, metrics: Mapping[str, float]) -> dict[str, Any]:
    """Return run.json of one training."""
    words = dict.fromkeys(("root_run_id", "experiment_id", "name", "display_name", "script_name", "target"), "titanic")
    times = dict.fromkeys(("created_utc", "start_time_utc", "end_time_utc"), "2026-11-22T22:17:00+00:00")
    git = {"git_repository_uri": "", "git_branch": "main", "git_commit": COMMIT, "git_dirty": "False"}
    return {
        **words, **times, "_experiment_name": "titanic-survival", "run_id": run_id, "status": "Completed", "tags": {},
        "properties": {"mlflow_run_id": "3f9a", "mlflow_tracking_uri": "sqlite", **git}, "user_id": "rivera",
        "created_by": {"user_name": "rivera"}, "run_type": "papermill",
        "model": {"uri": "runs:/3f9a/model", "sha256": HEX, "kind": "random forest"},
        "data": {"path": "data/titanic.csv", "sha256": HEX, "rows": 891, "development_rows": 708, "sealed_rows": 183},
        "code": {"sha256": HEX, "lock_sha256": HEX}, "metrics": dict(metrics), "training_key": HEX,
    }  # fmt: skip


def quoted(text: str) -> str:
    """Return ``text`` as a JSON string."""
    return json.dumps(text)


def folder(run_id: str) -> Path:
    """Return the folder of a run."""
    return paths.reports() / run_id


def save_handoff(run_id: str, name: str, stage: str | None, **values: Any) -> Path:
    """Write handoff.json of one step run."""
    return handoff.save(name, run_id, stage, **values)


def write(run_id: str, steps: Sequence[tuple[str, str | None, str]], p95: float | None = None, **fields: Any) -> Path:
    """Write a run whose steps all left what their status says."""
    limits = [check("sustained p95, in ms", "passed", "at most 150", "38.4"), check("traffic is what it was")]
    for name, stage, status in steps:
        if status == "not_run":
            continue
        checks = limits if name == "80_stress_test" else [check("it holds")]
        reason = "this deployment was live before" if status == "not_needed" else None
        result(run_id, name, stage, status, checks=checks, not_needed=reason)
        if p95 and name == "80_stress_test":
            save_handoff(run_id, name, stage, p95_ms=p95, p50_ms=None, error_percent=0.0, max_replicas=5)
    return manifest(run_id, steps, **fields)


def whole(run_id: str = "r1", word: str = "promote", day: int = 22, **fields: Any) -> Path:
    """Write a green run of everything on a day of November, and return its folder."""
    metadata(run_id, word, version=str(fields.pop("version", 12)), log_loss=fields.pop("log_loss", 0.42))
    served = [endpoint("dev", "12", "11"), endpoint("prod", "12", "11")]
    fields = {"endpoints": served, "started": f"2026-11-{day}T10:00:00+00:00", **fields}
    idle = ("40_register", "80_stress_test", "90_release") if word == "hold" else ()
    rows = [(s, stage, "not_needed" if s in idle else status) for s, stage, status in [*CI, *DEV, *PROD]]
    return write(run_id, rows, **fields)


def failed(run_id: str = "r1") -> Path:
    """Write a run that failed in the stress test on prod, and return its folder."""
    metadata(run_id, "promote")
    rows = [
        (s, stage, "failed" if (s, stage) == ("80_stress_test", "prod") else "passed")
        for s, stage, _ in [*CI, *DEV, *PROD]
    ]
    rows[-1] = ("90_release", "prod", "not_run")
    served = [endpoint("dev", "12", "11"), endpoint("prod", "11")]
    folder = write(run_id, rows, status="failed", endpoints=served)
    red = [check("sustained p95, in ms", "failed", "at most 150", "412.7")]
    report.step(result(run_id, "80_stress_test", "prod", "failed", error=SLOW, checks=red, cells_run=5))
    return folder
