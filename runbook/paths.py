"""Names the folders and files of the project, found from this package and never from the working directory."""

from __future__ import annotations

import os
from pathlib import Path

from runbook.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent

NOTEBOOKS = ROOT / "notebooks"
PARAMS = ROOT / "params"
DEPLOYMENT = ROOT / "deployment"
ENVIRONMENT_SETUP = ROOT / "environment_setup"
DATASET = ROOT / "data" / "dataset.py"
# Writes every file of a checkout again, with the line endings that .gitattributes asks for.
RENEW_CHECKOUT = "git rm -rq --cached . && git reset -q --hard"
SCHEMAS = Path(__file__).resolve().parent / "schemas"


def reports() -> Path:
    """Return the folder of all runs: $RUNBOOK_REPORTS, else reports/ of the checkout."""
    return Path(os.environ.get("RUNBOOK_REPORTS") or ROOT / "reports").resolve()


def home() -> Path:
    """Return the folder that plays the cloud on the local target: $RUNBOOK_HOME, else .runbook/ of the checkout."""
    return Path(os.environ.get("RUNBOOK_HOME") or ROOT / ".runbook").resolve()


def run_folder(run_id: str) -> Path:
    """Return the folder of one run; a run_id that could leave reports/, or is a link, is refused with UsageError."""
    if not run_id or run_id.startswith(".") or not all(c.isalnum() or c in "._-" for c in run_id):
        raise UsageError(f"run_id is {run_id!r}: expected letters, digits, '.', '_' and '-', not starting with '.'.")
    return _no_link(reports() / run_id)


def step_folder(run_id: str, step: str, stage: str | None = None) -> Path:
    """Return the folder of one step run, for example reports/<run_id>/60_deploy-dev; a link is refused."""
    return _no_link(run_folder(run_id) / (f"{step}-{stage}" if stage else step))


def _no_link(folder: Path) -> Path:
    # What is written through a link changes another run.
    if folder.is_symlink():
        target = folder.resolve()
        raise UsageError(f"{folder} is a link to {target.name}. Use the name {target.name} itself.")
    return folder
