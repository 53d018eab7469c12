"""The JSON files of a run as types: what handoff.py checks each of them against, before it writes and after it reads.

runbook/schemas holds the same rules as JSON Schema, for readers outside this project. tests/test_documents.py holds both
to the same verdict on generated documents. A comment in a schema says what a field means.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

Version = Annotated[str, Meta(pattern=r"^1\.[0-9]+$")]
Text = Annotated[str, Meta(min_length=1)]
StepName = Annotated[str, Meta(pattern="^[0-9]{2}_[a-z_]+$")]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Stage = Literal["dev", "prod"]
Target = Literal["local", "azure"]
Outcome = Literal["passed", "failed", "not_needed", "not_run", "cancelled"]
Verdict = Literal["passed", "failed", "not_run"]


class Handoff(msgspec.Struct, forbid_unknown_fields=True):
    """handoff.json: what one step leaves for the next."""

    schema_version: Version
    step: StepName
    stage: Stage | None
    run_id: Text
    saved: str
    values: dict[str, Any]


class Criterion(msgspec.Struct, forbid_unknown_fields=True):
    """One criterion of a decision."""

    name: str
    wanted: str
    found: float | str
    interval: Annotated[list[float], Meta(min_length=2, max_length=2)] | None
    verdict: Literal["passed", "failed", "unsure", "not_run"]
    smallest_difference: Annotated[float, Meta(ge=0)] | UnsetType = UNSET


class Decision(msgspec.Struct):
    """metadata/decision.json: what 30_evaluate decided about the candidate, and by which criteria."""

    schema_version: Version
    decision: Literal["promote", "hold", "fail"]
    reason: Text
    criteria: Annotated[list[Criterion], Meta(min_length=1)]
    candidate: dict[str, Any] | UnsetType = UNSET
    champion: dict[str, Any] | None | UnsetType = UNSET


class Model(msgspec.Struct):
    """metadata/model.json: the model version to release."""

    schema_version: Version
    workspaceName: Text
    resourceGroupName: Text
    modelId: Annotated[str, Meta(pattern="^[A-Za-z0-9._-]+:[0-9]+$")]
    name: str
    version: Annotated[str, Meta(pattern="^[0-9]+$")]
    sha256: Digest
    training_key: Digest
    new: bool


class TrackedRun(msgspec.Struct):
    """``properties`` of a training: where it is tracked, and the commit that ran."""

    mlflow_run_id: Any
    mlflow_tracking_uri: Any
    git_repository_uri: Any
    git_branch: Any
    git_commit: Any
    git_dirty: Any


class Creator(msgspec.Struct):
    """``created_by`` of a training."""

    user_name: Any


class TrainedModel(msgspec.Struct):
    """``model`` of a training."""

    uri: str
    sha256: Digest
    kind: str
    pipeline: str | UnsetType = UNSET


class TrainingData(msgspec.Struct):
    """``data`` of a training."""

    path: Any
    sha256: Digest
    rows: Any
    development_rows: Any
    sealed_rows: Any
    training_set_sha256: Digest | UnsetType = UNSET
    holdout_openings: Annotated[int, Meta(ge=0)] | UnsetType = UNSET


class Code(msgspec.Struct):
    """``code`` of a training."""

    sha256: Any
    lock_sha256: Any


class Run(msgspec.Struct):
    """metadata/run.json: one training, and what proves which model it made."""

    schema_version: Version
    experiment_name: Text = msgspec.field(name="_experiment_name")
    run_id: Text
    root_run_id: str
    experiment_id: Text
    status: Literal["Completed"]
    name: str
    display_name: str
    script_name: str
    target: str
    tags: dict[str, Any]
    properties: TrackedRun
    created_utc: str
    start_time_utc: str
    end_time_utc: str
    user_id: str
    created_by: Creator
    run_type: str
    model: TrainedModel
    data: TrainingData
    code: Code
    metrics: dict[str, float]
    training_key: Digest
    parent_run_id: str | None | UnsetType = UNSET
    run_number: int | None | UnsetType = UNSET
    data_container_id: str | None | UnsetType = UNSET


class Failure(msgspec.Struct, forbid_unknown_fields=True):
    """``error`` of a result."""

    kind: str = msgspec.field(name="class")
    message: str
    cell: str | None


class CheckRow(msgspec.Struct):
    """One check of a result."""

    name: str
    wanted: str
    found: str
    status: Verdict


class Result(msgspec.Struct, forbid_unknown_fields=True):
    """result.json: the runner's own verdict on one step run."""

    schema_version: Version
    run_id: str
    step: StepName
    stage: Stage | None
    target: Target
    title: str
    status: Outcome
    started: str | None
    seconds: float | None
    cells_run: int
    cells: int
    error: Failure | None
    checks: list[CheckRow]
    not_needed: str | None
    parameters: dict[str, Any]
    inputs: dict[str, Any]
    commit: str | None | UnsetType = UNSET
    dirty: bool | None | UnsetType = UNSET


class GivenValue(msgspec.Struct):
    """One value that the command changed, beside the plain one."""

    name: str
    value: Any
    plain: Any
    source: str


class StepRow(msgspec.Struct, forbid_unknown_fields=True):
    """One step of a manifest."""

    step: str
    stage: Stage | None
    folder: str
    status: Outcome
    seconds: float | None
    commit: str | None | UnsetType = UNSET
    dirty: bool | None | UnsetType = UNSET


class EndpointRow(msgspec.Struct):
    """One endpoint of a manifest: what serves after the run."""

    stage: Stage
    name: str
    scoring_uri: str
    traffic: dict[str, Any]
    model_version: str | None
    previous_version: str | None
    released_by: str | UnsetType = UNSET
    released_in: str | UnsetType = UNSET


class Manifest(msgspec.Struct, forbid_unknown_fields=True):
    """manifest.json: one run, its result and the digests of its evidence."""

    schema_version: Version
    run_id: str
    plan: str
    target: Target
    status: Literal["running", "passed", "failed", "cancelled"]
    started: str
    seconds: float | None
    command: str
    user: str
    host: str
    python: str
    commit: str | None
    dirty: bool | None
    source_run: str | None
    steps: list[StepRow]
    endpoints: list[EndpointRow]
    files: dict[str, str]
    params_files: list[str] | UnsetType = UNSET
    rehearsal: bool | UnsetType = UNSET
    given: dict[str, list[GivenValue]] | UnsetType = UNSET
    overrides: list[str] | UnsetType = UNSET
    endpoints_problem: str | None | UnsetType = UNSET
    unmasked: list[str] | UnsetType = UNSET


# By the name of the published schema.
TYPES: dict[str, type[msgspec.Struct]] = {
    "decision": Decision,
    "handoff": Handoff,
    "manifest": Manifest,
    "model": Model,
    "result": Result,
    "run": Run,
}
