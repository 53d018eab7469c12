"""The jobs of the pipelines, and the tasks each of them must hold, in order: the article's and those we added."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runbook import steps
from runbook.lint.azure_pipelines.language import AT

ARTIFACT = "titanic_pred_artifact"
_STEP = re.compile(r"\brunbook step (\w+)")


@dataclass(frozen=True)
class Job:
    """The steps that one agent runs: a job, or one hook of a deployment job."""

    file: str
    pipeline: dict[str, Any]
    stage: dict[str, Any]
    body: dict[str, Any]
    hook: str
    steps: list[dict[str, Any]]

    @property
    def label(self) -> str:
        """The job in words, for example ``cd.yml prod deploy``."""
        return " ".join(filter(None, (self.file, self.stage["stage"], self.hook)))

    @property
    def at(self) -> str:
        """Where the job is written, as file:line."""
        return str(self.body[AT])


@dataclass(frozen=True)
class Task:
    """One task a job must hold: what it is called in the article or by us, and what its YAML must match."""

    name: str
    pattern: str

    def found_in(self, step: dict[str, Any]) -> bool:
        """Return whether this step is the task."""
        return re.search(self.pattern, text(step), re.DOTALL) is not None


def jobs(file: str, pipeline: dict[str, Any]) -> Iterator[Job]:
    """Yield every job of an expanded pipeline, each hook of a deployment job for itself."""
    for stage in pipeline["stages"]:
        for body in stage["jobs"]:
            if "job" in body:
                yield Job(file, pipeline, stage, body, "", body["steps"])
                continue
            hooks = body["strategy"]["runOnce"]
            yield Job(file, pipeline, stage, body, "deploy", hooks["deploy"]["steps"])
            if "failure" in hooks.get("on", {}):
                yield Job(file, pipeline, stage, body, "on.failure", hooks["on"]["failure"]["steps"])


def text(value: Any) -> str:
    """Return a part of a pipeline as one line of words, ``key value key value``."""
    if isinstance(value, dict):
        return " ".join(f"{key} {text(v)}" for key, v in value.items() if key != AT)
    return " ".join(map(text, value)) if isinstance(value, list) else str(value)


def script(step: dict[str, Any]) -> str:
    """Return what a step gives to the shell, or nothing."""
    return str(step.get("bash") or step.get("inputs", {}).get("inlineScript", ""))


def called(step: dict[str, Any]) -> str | None:
    """Return the name of the runbook step that a pipeline's step runs, or None."""
    match = _STEP.search(script(step))
    return match[1] if match else None


def missing(every: list[Job]) -> Iterator[str]:
    """Yield a problem for each expected job that is not there and each expected task that is missing or out of order."""
    for label in sorted(WANTED.keys() - {job.label for job in every}):
        yield f"pipelines/{label.split()[0]}:1: there is no '{label}', expected that stage with that hook, put it back."
    for job in every:
        after, last = "the start", -1
        for task in WANTED.get(job.label, []):
            places = [i for i, step in enumerate(job.steps) if task.found_in(step)]
            later = [i for i in places if i > last]
            if not later:
                how = "stands too early" if places else "is missing"
                yield f"{job.at}: {job.label}: {task.name} {how}, expected it after {after}, put it back."
                continue
            after, last = task.name, later[0]


def _step(name: str, why: str) -> Task:
    return Task(f"{name} ({why})", rf"AzureCLI@2.*\brunbook step {name}\b")


_CHECKOUT = Task("the checkout", r"checkout self")
_INSTALLED = [
    Task("Use Python (the article's CI 1 and CD 1)", r"UsePythonVersion@0"),
    Task("the cache of downloads", r"Cache@2.*requirements\.lock"),
    Task("Install dependencies (CI 2)", r"environment_setup/install-requirements\.sh"),
]
_CONNECTED = Task("Sign in and check the SDK (CI 3, CD 2)", r"AzureCLI@2.*azure\.ai\.ml.*connect")
_FETCHED = Task("CI's artifact", rf"download ci artifact {ARTIFACT}")
REPORTED = [
    Task("the run's summary", r"task\.uploadsummary\]\$\(runFolder\)/summary\.md"),
    Task("the step results", r"PublishTestResults@2.*junit\.xml.*\$\(runFolder\)"),
    Task("the reports", r"PublishPipelineArtifact@1.*\$\(runFolder\)"),
]
_READY = [_CHECKOUT, _FETCHED, *_INSTALLED, _CONNECTED]
# What the article's CI does besides the steps, by the step that it stands before.
_BEFORE = {
    "20_train": [Task("Create metadata and models folders (CI 5)", r"mkdir.*metadata.*models")],
    "49_delete_compute": [
        Task(
            "Stage sources (CI 8)",
            r"CopyFiles@2.*environment_setup/\*\*\s+deployment/\*\*\s.*ArtifactStagingDirectory",
        ),
        Task(
            "Stage metadata (CI 8)",
            r"CopyFiles@2.*\$\(runFolder\).*metadata/\*\*.*ArtifactStagingDirectory",
        ),
        Task(
            f"Publish {ARTIFACT} (CI 9)",
            rf"PublishPipelineArtifact@1.*ArtifactStagingDirectory\) artifact {ARTIFACT}",
        ),
    ],
}


def _planned(plan: str, stage: str | None) -> list[Task]:
    """Return a task for each step of a plan on one stage, with the tasks that stand between the steps."""
    found = []
    for name, on in steps.in_plan(plan):
        if on == stage:
            found += [*_BEFORE.get(name, []), _step(name, steps.row(name).task)]
    return found


def _released(stage: str) -> list[Task]:
    undoing = [_step(name, "a cancelled release") for name in steps.undoing()]
    return [*_READY, *_planned("cd", stage), *undoing, *REPORTED]


_UNDONE = [
    _CHECKOUT,
    *_INSTALLED,
    *(_step(name, "after a failed release") for name in steps.undoing()),
    *REPORTED,
]
WANTED: Mapping[str, list[Task]] = {
    "ci.yml check": [
        _CHECKOUT,
        *_INSTALLED,
        Task("make check", r"bash make check"),
        Task("make test", r"bash make test.*--junitxml.*COVERAGE_PROCESS_START"),
        Task("the test results", r"PublishTestResults@2.*tests\.xml"),
        Task("the coverage", r"coverage report.*task\.uploadsummary"),
    ],
    "ci.yml train": [
        _CHECKOUT,
        *_INSTALLED,
        _CONNECTED,
        *_planned("ci", None),
        *REPORTED,
    ],
    "cd.yml dev deploy": _released("dev"),
    "cd.yml dev on.failure": _UNDONE,
    "cd.yml prod deploy": _released("prod"),
    "cd.yml prod on.failure": _UNDONE,
}


def connections(job: Job) -> list[str]:
    """Return the service connections of a job. A team names connection, groups and environments after one project."""
    found = [step.get("inputs", {}).get("azureSubscription") for step in job.steps]
    return sorted({str(name) for name in found if name})
