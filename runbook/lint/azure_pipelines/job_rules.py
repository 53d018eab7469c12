"""Checks one job: the plan's order, what runs after a failure, deadlines, variables and secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from runbook import hint, steps
from runbook.lint.azure_pipelines.language import AT
from runbook.lint.azure_pipelines.tasks import REPORTED, Job, called, connections, script, text

# The variable groups and what an organisation puts into them; docs/pipelines.md explains each.
# The first word of a group's name is the project's, which each team chooses for its own organisation.
GROUPS = {
    "": ("ml.subscriptionId", "ml.resourceGroup", "ml.workspace"),
    "-secrets": ("tls-certificate", "tls-private-key"),
}
PREDEFINED = {
    "Agent.OS",
    "Agent.TempDirectory",
    "Build.ArtifactStagingDirectory",
    "Build.BuildId",
    "Build.SourcesDirectory",
    "Pipeline.Workspace",
    "System.AccessToken",
    "System.StageAttempt",
}
# What still runs in a job that was cancelled.
CANCELLED = ("always()", "canceled()")
MACRO = re.compile(r"\$\(([A-Za-z_][\w.-]*)\)")
# Ways to print every variable of the environment without naming one.
_LEAK = re.compile(r"\bset -\w*x|\bprintenv\b|(^|[;&|]\s*)env\s*($|[|>;&])", re.MULTILINE)


def problems(job: Job) -> Iterator[str]:
    """Yield what breaks a rule in one job."""
    yield from _order(job)
    yield from _deadlines(job)
    yield from _variables(job)
    for step in job.steps:
        yield from _call(job, step)
        yield from _failure(step)
        yield from _secrets(step, _grouped(job) | {"System.AccessToken"})


def _order(job: Job) -> Iterator[str]:
    found = [name for step in job.steps if (name := called(step))]
    rows = steps.in_plan(job.file.removesuffix(".yml"))
    plan = [name for name, stage in rows if stage in (None, job.stage["stage"])]
    # The failure hook is another agent's; a cancelled job has none, so it ends with a rollback of its own.
    rollback = {"on.failure": list(steps.undoing()), "deploy": [*plan, *steps.undoing()]}
    wanted = rollback.get(job.hook, plan)
    if found and found != wanted:
        yield f"{job.at}: {job.label} runs {' '.join(found)}, expected {' '.join(wanted)}, follow `{hint.line('plan')}`."


def _call(job: Job, step: dict[str, Any]) -> Iterator[str]:
    name, line = called(step), script(step).strip()
    if not name:
        return
    if step.get("displayName") != f"papermill {name}":
        yield f"{step[AT]}: {name} is shown as {step.get('displayName')!r}, expected 'papermill {name}', set displayName."
    if "\n" in line or not line.startswith(".venv/bin/runbook step "):
        yield f"{step[AT]}: {name} is called by {line!r}, expected the line `.venv/bin/runbook step {name}`, mend it."
    if "--run-id $(Build.BuildId)" not in line:
        yield f"{step[AT]}: {name} has no --run-id $(Build.BuildId), which all steps of a run share, add it."
    staged = f"{_staged(job, line)} "
    if (job.file == "cd.yml") is not (f"--stage {job.stage['stage']} " in staged):
        yield f"{step[AT]}: {name} runs as {staged!r}, expected --stage in CD and none in CI, mend it."
    undoes = name in steps.undoing()
    takes = job.hook == "deploy" and not undoes
    for wish, needed in (("--from ", takes), ("-p only_release_of=$(Build.BuildId) ", undoes)):
        if (wish in staged) is not needed:
            where = "in deploy" if wish == "--from " else f"for {' and '.join(steps.undoing())}"
            yield f"{step[AT]}: {name} runs as {staged!r}, expected {wish}{where} and nowhere else, mend it."
    if job.hook == "deploy" and undoes and step.get("condition") != "canceled()":
        yield f"{step[AT]}: {name} has condition {step.get('condition')}, expected canceled(): no hook covers it, set it."


def _staged(job: Job, line: str) -> str:
    own = {row["name"]: row["value"] for row in _rows(job.body) if "name" in row}
    return MACRO.sub(lambda match: str(own.get(match[1], match[0])), line)


def _failure(step: dict[str, Any]) -> Iterator[str]:
    what = step.get("displayName", "a step")
    clears_up = steps.row(called(step) or "").always_after != ""
    needed = clears_up or any(task.found_in(step) for task in REPORTED)
    if needed and step.get("condition") != "always()":
        yield f"{step[AT]}: {what} has condition {step.get('condition')}, expected always(): a failure needs it, set it."
    if step.get("continueOnError") == "true":
        yield f"{step[AT]}: {what} has continueOnError, expected a failure that stops the job, remove it."


def _deadlines(job: Job) -> Iterator[str]:
    wishes = ["timeoutInMinutes"]
    # What runs always() after a cancellation needs time for it.
    wishes += ["cancelTimeoutInMinutes"] if any(map(called, job.steps)) else []
    for wish in wishes:
        if wish not in job.body:
            yield f"{job.at}: {job.label} has no {wish}, expected a deadline of its own, add it."
    # Agents give a cancelled job five minutes when nothing else is written.
    given = float(job.body.get("cancelTimeoutInMinutes", 5))
    asked = sum(float(step.get("timeoutInMinutes", 0)) for step in job.steps if step.get("condition") in CANCELLED)
    if "cancelTimeoutInMinutes" in job.body and asked > given:
        yield (
            f"{job.at}: {job.label} may need {asked:g} minutes after a cancellation and has cancelTimeoutInMinutes "
            f"{given:g}, expected as many, raise it."
        )
    for step in job.steps:
        if "timeoutInMinutes" not in step:
            what = step.get("displayName", text(step)[:40])
            yield f"{step[AT]}: {what} has no timeoutInMinutes, expected a deadline, add it."
    if job.body.get("continueOnError") == "true":
        yield f"{job.at}: {job.label} has continueOnError, expected a failure that is red, remove it."


def _variables(job: Job) -> Iterator[str]:
    rows = [row for scope in (job.pipeline, job.stage, job.body) for row in _rows(scope)]
    for row in rows:
        projects = connections(job)
        if projects and "group" in row and row["group"].removesuffix("-secrets") not in projects:
            groups = ", ".join(f"{name}{suffix}" for name in projects for suffix in GROUPS)
            yield f"{row[AT]}: group {row['group']} is not known, expected one of {groups}, add it there."
    known = PREDEFINED | _grouped(job) | {row["name"] for row in rows if "name" in row}
    for place in [*rows, *job.steps]:
        for name in sorted(set(MACRO.findall(text(place))) - known):
            yield f"{place[AT]}: $({name}) is not defined, expected a variable of the pipeline or of a group, define it."


def _secrets(step: dict[str, Any], secret: set[str]) -> Iterator[str]:
    for name in sorted(secret & set(MACRO.findall(text({k: v for k, v in step.items() if k != "env"})))):
        yield f"{step[AT]}: $({name}) stands outside env:, expected it mapped there: a command line is logged, move it."
    held = [key for key, value in step.get("env", {}).items() if secret & set(MACRO.findall(str(value)))]
    shown = [key for key in held if re.search(rf"\$\{{?{key}\b", script(step))]
    if shown or (held and _LEAK.search(script(step))):
        yield f"{step[AT]}: the script may show {', '.join(shown or held)}, expected no secret in a log, do not print it."


def _grouped(job: Job) -> set[str]:
    rows = [row for scope in (job.pipeline, job.stage, job.body) for row in _rows(scope)]
    return {name for row in rows if "group" in row for name in GROUPS[_suffix(row["group"])]}


def _suffix(group: str) -> str:
    return "-secrets" if group.endswith("-secrets") else ""


def _rows(scope: dict[str, Any]) -> list[dict[str, Any]]:
    found = scope.get("variables", [])
    if isinstance(found, dict):
        return [{AT: found[AT], "name": name, "value": value} for name, value in found.items() if name != AT]
    return list(found)
