"""What lets a resumed run skip a step: the same inputs, and a result that still stands."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat

from runbook import handoff, hint, paths
from runbook.engine import manifest, standing, step
from runbook.engine.step import Result, Step
from runbook.errors import RunError
from runbook.platform import files
from runbook.platform.base import Platform

IMPORTS = re.compile(r"^from runbook import (.+)$", re.MULTILINE)


def inputs(s: Step, order: Sequence[str], run_id: str) -> dict[str, str]:
    """Return the digests of what a step run depends on: its notebook, the files behind it, and the handoffs before it.

    ``order`` is the labels of the steps in running order; a step outside it comes after all of them.
    """
    found = {"notebook": _sha256(s.notebook.read_bytes())}
    found |= {str(p.relative_to(paths.ROOT)): _sha256(p.read_bytes()) for p in _files(s)}
    before = order[: order.index(s.label)] if s.label in order else order
    for path in sorted(paths.run_folder(run_id).glob("*/handoff.json")):
        if path.parent.name in before:
            values = json.loads(path.read_text(encoding="utf-8"))["values"]
            found[f"{path.parent.name}/handoff.json"] = _sha256(json.dumps(values, sort_keys=True).encode())
    return found


def _files(s: Step) -> list[Path]:
    """Return the modules that a notebook imports from this package, and the files that its step reads."""
    setup, contract = paths.ENVIRONMENT_SETUP, paths.DEPLOYMENT / "contract.py"
    trained_from = [paths.DATA, setup / "requirements.lock", contract]
    reads = {
        "10_create_compute": [setup / "compute.yml"],
        "20_train": [*trained_from, setup / "training-job.yml"],
        "30_evaluate": trained_from,
        "50_create_cluster": [setup / "cluster.yml"],
        "60_deploy": files.shipped(s.stage) if s.stage else [],
        "70_functional_test": [contract],
    }
    cells = nbformat.read(s.notebook, as_version=4).cells
    imported = IMPORTS.findall("\n".join(c.source for c in cells if c.cell_type == "code"))
    names = sorted({name.strip() for line in imported for name in line.split(",")})
    modules = [paths.ROOT / "runbook" / f"{name}.py" for name in names]
    return [*(m for m in modules if m.exists()), *reads.get(s.name, [])]


def finished(
    s: Step, run_id: str, parameters: dict[str, Any], now: dict[str, str], platform: Platform
) -> Result | None:
    """Return the earlier verdict of a step that need not run again, or None; ``now`` is its inputs as they are now."""
    done = step.load(paths.step_folder(run_id, s.name, s.stage))
    if not done or not done.green or done.parameters != parameters or done.inputs != now:
        return None
    values = handoff.find(s.name, run_id, s.stage)
    return done if standing.stands(s.name, s.stage, values, platform) else None


def refuse_stale(run_id: str, platform: Platform) -> None:
    """Raise RunError when prod was released by a newer run than this one."""
    # Going on with an old run would quietly put an old version back in front of everybody.
    endpoint = platform.find_endpoint("prod")
    released_by = endpoint.tags.get("released_by", run_id) if endpoint else run_id
    newer = manifest.find(released_by) if released_by != run_id else None
    if newer and newer.started > manifest.load(run_id).started:
        raise RunError(
            f"Run {run_id} is older than the last release to prod, made by run {released_by}. "
            f"Start a new run: {hint.line('run', 'all')}"
        )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
