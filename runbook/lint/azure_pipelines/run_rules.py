"""Checks the rules between jobs: stages, artifacts, triggers, and the files that pipelines name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from runbook.errors import AnatomyError
from runbook.lint.azure_pipelines.language import AT, evaluate
from runbook.lint.azure_pipelines.tasks import Job, called, connections, text

Pipelines = Mapping[str, dict[str, Any]]

# Which stages of CI run, by why the run started and whether what the stage needs was green.
_CASES = [(reason, green) for reason in ("PullRequest", "BatchedCI") for green in (True, False)]
_RUNS = {"check": _CASES, "train": [("BatchedCI", True)]}
_FILE = re.compile(r"(?<![\w./$)])(?:environment_setup|pipelines|deployment)/[\w./-]*\w")


def problems(root: Path, pipelines: Pipelines, jobs: list[Job]) -> Iterator[str]:
    """Yield what breaks a rule between the jobs of both pipelines."""
    for file, pipeline in pipelines.items():
        yield from _dependencies(pipeline)
        if file == "cd.yml":
            yield from _release(pipeline, jobs)
    yield from _conditions(pipelines["ci.yml"])
    yield from _triggers(pipelines["ci.yml"], pipelines["cd.yml"])
    yield from _published(jobs)
    yield from _fetched(pipelines["cd.yml"], jobs)
    yield from _files(root, jobs)


def _dependencies(pipeline: dict[str, Any]) -> Iterator[str]:
    names = [stage["stage"] for stage in pipeline["stages"]]
    for i, stage in enumerate(pipeline["stages"]):
        wanted = stage.get("dependsOn", [])
        for name in [wanted] if isinstance(wanted, str) else wanted:
            if name not in names[:i]:
                yield f"{stage[AT]}: {stage['stage']} depends on stage {name}, expected an earlier one, correct it."


def _release(cd: dict[str, Any], jobs: list[Job]) -> Iterator[str]:
    stages = {stage["stage"]: stage for stage in cd["stages"]}
    if list(stages) != ["dev", "prod"] or stages["prod"].get("dependsOn") not in ("dev", ["dev"]):
        yield f"{cd[AT]}: the stages are {', '.join(stages)}, expected dev, then prod that depends on dev, restore that."
    projects = {name for job in jobs for name in connections(job)}
    for name, stage in stages.items():
        for job in stage["jobs"]:
            environments = [f"{project}-{name}" for project in sorted(projects)]
            if "deployment" not in job or job.get("environment") not in environments:
                wish = " or ".join(environments)
                yield f"{job[AT]}: expected a deployment job on {wish}, where approvals hang, restore it."
            elif job["deployment"].lower() in ("deploy", "deployment"):
                yield f"{job[AT]}: the job is named {job['deployment']}, a keyword, expected another name, rename it."
    if cd.get("lockBehavior") != "sequential":
        yield f"{cd[AT]}: lockBehavior is {cd.get('lockBehavior')}, expected sequential: one release at a time, set it."


def _conditions(ci: dict[str, Any]) -> Iterator[str]:
    for stage in ci["stages"]:
        for reason, green in _CASES:
            wanted = (reason, green) in _RUNS.get(stage["stage"], [])
            if _runs(stage, reason, green) is not wanted:
                how = (
                    f"{'does not run' if wanted else 'runs'} for {reason} after {'green' if green else 'failed'} stages"
                )
                yield f"{stage[AT]}: {stage['stage']} {how}, expected the opposite, mend its condition."


def _runs(stage: dict[str, Any], reason: str, green: bool) -> bool:
    functions = {
        "succeeded": lambda: green,
        "failed": lambda: not green,
        "canceled": lambda: False,
        "always": lambda: True,
    }
    names = {"variables": {"Build.Reason": reason}}
    try:
        return evaluate(stage.get("condition", "succeeded()"), names, functions) is True
    except AnatomyError as error:
        raise AnatomyError(
            f"{stage[AT]}: condition: {error}, expected what language.py knows, write it more simply."
        ) from None


def _triggers(ci: dict[str, Any], cd: dict[str, Any]) -> Iterator[str]:
    for key in ("trigger", "pr"):
        found = text(ci.get(key, ""))
        if not re.search(r"branches include main\b.*paths (in|ex)clude ", found):
            yield f"{ci[AT]}: {key} is {found!r}, expected the branch main with path filters, restore it."
        if cd.get(key) != "none":
            yield f"{cd[AT]}: {key} is {text(cd.get(key, ''))!r}, expected none: only CI's end may release, set it."
    if not any("include main" in text(source.get("trigger", "")) for source in _sources(cd)):
        yield f"{cd[AT]}: CI's end on main does not start CD, expected resources.pipelines.trigger, restore it."


def _sources(cd: dict[str, Any]) -> list[dict[str, Any]]:
    return list(cd.get("resources", {}).get("pipelines", []))


def _published(jobs: list[Job]) -> Iterator[str]:
    seen = set()
    for job in jobs:
        for step in job.steps:
            if step.get("task") != "PublishPipelineArtifact@1":
                continue
            name, path = step["inputs"].get("artifact"), step["inputs"].get("targetPath", "").rstrip("/")
            if (job.file, name) in seen:
                yield f"{step[AT]}: artifact {name} is published twice, expected a name of its own, rename it."
            if path in ("$(Pipeline.Workspace)", "$(Build.SourcesDirectory)"):
                yield f"{step[AT]}: all of {path} is published, expected only what was staged, publish that."
            seen.add((job.file, name))


def _fetched(cd: dict[str, Any], jobs: list[Job]) -> Iterator[str]:
    publishing = [
        (job.file, step) for job in jobs for step in job.steps if step.get("task") == "PublishPipelineArtifact@1"
    ]
    made = {(file, step["inputs"].get("artifact")) for file, step in publishing}
    aliases = {source["pipeline"] for source in _sources(cd)}
    for job in jobs:
        for step in job.steps:
            source, name = step.get("download"), step.get("artifact")
            if source and source not in {"current", *aliases}:
                yield f"{step[AT]}: pipeline {source} is not among the resources, expected one of those, correct it."
            elif source and (job.file if source == "current" else "ci.yml", name) not in made:
                yield f"{step[AT]}: artifact {name} is fetched but nobody publishes it, correct the name."


def _files(root: Path, jobs: list[Job]) -> Iterator[str]:
    for job in jobs:
        for step in job.steps:
            mentioned = _FILE.findall(text(step).replace("$(Build.SourcesDirectory)/", ""))
            mentioned += [f"notebooks/{name}.ipynb"] if (name := called(step)) else []
            for path in mentioned:
                if not (root / path).exists():
                    yield f"{step[AT]}: {path} is not in the repository, expected a file that is, correct the path."
