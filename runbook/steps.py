"""Lists every step of the runbook, one row per step. The runner, the report and the lint read their rules here.

A new step is a notebook, a row in ``ROWS`` and a line in a pipeline template (README.md, "Add a step").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook import paths, still_valid
from runbook.modelling.description import description
from runbook.platform import files

DEV = "dev"
PROD = "prod"
STAGES = (DEV, PROD)


@dataclass(frozen=True)
class Row:
    """The rules of one step.

    Only ``name`` is needed. A row without ``stages`` belongs to CI, and a row without ``plan`` runs on request only.
    """

    name: str
    # The stages that the step works on.
    stages: tuple[str, ...] = ()
    # The plan that holds the step: ci, cd or none.
    plan: str = ""
    # The task of the article, or our reason for the step; `runbook check` names it.
    task: str = "a step of this project"
    # The step that takes the change back.
    undone_by: str = ""
    # Runs after a failure too, when that step has begun.
    always_after: str = ""
    # Runs when this step fails or is interrupted.
    on_failure: str = ""
    # On resume, runs again exactly when that step does, because another step deletes what this one makes.
    made_for: str = ""
    # Runs on the training compute when the platform has one elsewhere.
    wants_compute: bool = False
    # Its checks are gates of the run: the run's page lists them.
    tests: bool = False
    # The files that the step reads besides its notebook, for one stage. A change makes the step run again on resume.
    reads: Callable[[str | None], Iterable[Path]] = lambda stage: ()
    # Values that the step reads from a file which also holds other things: {name: value}.
    reads_values: Callable[[], Mapping[str, Any]] = dict
    # The file of metadata/ that the step writes, without .json.
    writes: str = ""
    # Asks the platform whether the result still exists. Without it the step leaves nothing that could be gone.
    still_valid: still_valid.Question | None = None


def _request() -> list[Path]:
    return [paths.DEPLOYMENT / "request.py", paths.DEPLOYMENT / "decode.py"]


def _setup(name: str) -> Path:
    return paths.ENVIRONMENT_SETUP / name


def _training_files(stage: str | None) -> list[Path]:
    lock, job = _setup("requirements.lock"), _setup("training-job.yml")
    return [description().file, lock, *_request(), job]


def _evaluation_files(stage: str | None) -> list[Path]:
    return [description().file, _setup("requirements.lock"), *_request(), paths.DATASET]


def _training_values() -> dict[str, Any]:
    # A new slice or word in dataset.py is no reason to train again.
    return {"data/dataset.py: what training reads": description().training_values()}


def _shipped_files(stage: str | None) -> list[Path]:
    return files.shipped(still_valid.stage_of(stage))


# In running order. A plan runs its rows in this order; cd runs all rows of dev, then all rows of prod.
ROWS: tuple[Row, ...] = (
    Row(
        "10_create_compute",
        plan="ci",
        task="CI 4",
        undone_by="49_delete_compute",
        made_for="20_train",
        reads=lambda stage: [_setup("compute.yml")],
        # No still_valid: 49_delete_compute of the same run deletes the compute target on purpose.
    ),
    Row(
        "20_train",
        plan="ci",
        task="CI 6",
        wants_compute=True,
        reads=_training_files,
        reads_values=_training_values,
        writes="run",
    ),
    Row("30_evaluate", plan="ci", task="the gate", reads=_evaluation_files, writes="decision"),
    Row("40_register", plan="ci", task="CI 7", writes="model", still_valid=still_valid.version),
    Row(
        "49_delete_compute",
        plan="ci",
        task="CI 10",
        undone_by="10_create_compute",
        # A failed training must not leave a compute target behind.
        always_after="10_create_compute",
    ),
    Row(
        "50_create_cluster",
        stages=(PROD,),
        plan="cd",
        task="CD 3",
        undone_by="99_teardown",
        reads=lambda stage: [_setup("cluster.yml")],
        still_valid=still_valid.cluster,
    ),
    Row(
        "60_deploy",
        stages=STAGES,
        plan="cd",
        task="CD 4",
        undone_by="95_rollback",
        reads=_shipped_files,
        still_valid=still_valid.deployment,
    ),
    Row(
        "70_functional_test",
        stages=STAGES,
        plan="cd",
        task="section 5.1",
        tests=True,
        reads=lambda stage: [*_request(), paths.DATASET],
    ),
    Row("80_stress_test", stages=STAGES, plan="cd", task="section 5.2", tests=True),
    Row(
        "90_release",
        stages=STAGES,
        plan="cd",
        task="the move to production",
        undone_by="95_rollback",
        # Nothing may stay half released.
        on_failure="95_rollback",
        still_valid=still_valid.release,
    ),
    Row("95_rollback", stages=STAGES),
    Row("99_teardown", stages=STAGES),
)

_BY_NAME = {row.name: row for row in ROWS}
NAMES = tuple(_BY_NAME)


def row(name: str) -> Row:
    """Return the row of a step; a notebook without one gets a row without rules."""
    return _BY_NAME.get(name, Row(name))


def in_plan(plan: str) -> list[tuple[str, str | None]]:
    """Return (step, stage) in running order for ``ci``, ``cd`` or ``all``; the steps of CI have no stage.

    Example: ``in_plan("cd")`` begins with ``("60_deploy", "dev")``.
    """
    ci: list[tuple[str, str | None]] = [(r.name, None) for r in ROWS if r.plan == "ci"]
    cd: list[tuple[str, str | None]] = [
        (r.name, stage) for stage in STAGES for r in ROWS if r.plan == "cd" and stage in r.stages
    ]
    return {"ci": ci, "cd": cd, "all": ci + cd}[plan]


def undoing() -> tuple[str, ...]:
    """Return the steps that run when another one fails."""
    return tuple(dict.fromkeys(r.on_failure for r in ROWS if r.on_failure))


def testing() -> tuple[str, ...]:
    """Return the steps whose checks are gates of the run."""
    return tuple(r.name for r in ROWS if r.tests)


def writer(metadata: str) -> str:
    """Return the step that writes metadata/<metadata>.json; raises KeyError for another name."""
    return {r.writes: r.name for r in ROWS if r.writes}[metadata]
