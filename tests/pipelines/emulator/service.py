"""The service: starts runs, decides which stages run, gives each job a fresh agent, starts CD when CI ended well."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from built import checkout

from emulator.agent import Agent
from emulator.records import JobRecord, Outcome, Run, UnknownConstruct
from emulator.tasks import Tasks
from runbook.lint.azure_pipelines.language import AT, evaluate, load

KEYS = {
    "pipeline": {"name", "trigger", "pr", "resources", "lockBehavior", "parameters", "variables", "stages"},
    "stage": {"stage", "displayName", "dependsOn", "condition", "jobs"},
    "job": {"job", "displayName", "pool", "timeoutInMinutes", "cancelTimeoutInMinutes", "steps"},
    "deployment": {
        *{"deployment", "displayName", "environment", "pool", "timeoutInMinutes", "cancelTimeoutInMinutes"},
        *{"variables", "strategy"},
    },
    "strategy": {"runOnce"},
    "runOnce": {"deploy", "on"},
    "hook": {"steps"},
    "on": {"failure"},
}
# What every job is given to speak to the service with.
JOB_TOKEN = "emulated-token-of-the-job"
# An approver looks at the run as it is when the stage asks, and says yes or no.
Approver = Callable[[str, Run], bool]


@dataclass
class Service:
    """An organisation with one repository, its two pipelines, and what its owner has set up beside them.

    ``connections`` says what each service connection brings into the environment of a task that is signed in with it.
    """

    repository: Path
    folder: Path
    names: Mapping[str, str]
    groups: Mapping[str, Mapping[str, str]]
    connections: Mapping[str, Mapping[str, str]]
    secrets: frozenset[str] = frozenset({"System.AccessToken"})
    machine: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    approve: Approver = lambda environment, run: True
    # The job, and the line of its log, at which somebody presses Cancel.
    cancel: tuple[str, str] = ("", "")
    numbers: Any = field(default_factory=lambda: itertools.count(101))

    def push(self, parameters: Mapping[str, Any]) -> Run:
        """Run CI as a commit to main does, then every pipeline that listens to its end; returns CI's run."""
        ci = self.start("pipelines/ci.yml", "BatchedCI", parameters)
        if ci.result == "Succeeded":
            ci.triggered += [
                self.start(file, "ResourceTrigger", parameters, {alias: ci}) for file, alias in self._listening(ci)
            ]
        return ci

    def start(
        self, file: str, reason: str, parameters: Mapping[str, Any], sources: Mapping[str, Run] | None = None
    ) -> Run:
        """Run one pipeline to its end; parameters that it does not declare are left out."""
        # The service reads the pipeline from the commit it runs.
        declared = {p["name"] for p in load(self.repository, file)["parameters"]}
        pipeline = load(self.repository, file, {k: v for k, v in parameters.items() if k in declared})
        _known("pipeline", pipeline)
        run = Run(next(self.numbers), file, _head(self.repository), reason)
        for i, stage in enumerate(pipeline["stages"]):
            _known("stage", stage)
            run.stages[stage["stage"]] = self._stage(run, pipeline, stage, pipeline["stages"][:i], dict(sources or {}))
        run.result = _worst(list(run.stages.values()))
        return run

    def _stage(self, run: Run, pipeline: Any, stage: Any, before: list[Any], sources: dict[str, Run]) -> Outcome:
        needed = stage.get("dependsOn", [before[-1]["stage"]] if before else [])
        results = [run.stages[name] for name in ([needed] if isinstance(needed, str) else needed)]
        functions = {
            "succeeded": lambda: all(r in ("Succeeded", "SucceededWithIssues") for r in results),
            "failed": lambda: any(r == "Failed" for r in results),
            "canceled": lambda: "Canceled" in run.stages.values(),
            "always": lambda: True,
        }
        variables = {"Build.Reason": run.reason, "Build.SourceBranch": "refs/heads/main"}
        if evaluate(stage.get("condition", "succeeded()"), {"variables": variables}, functions) is not True:
            return "Skipped"
        if len(stage["jobs"]) != 1:
            raise UnknownConstruct(f"{stage[AT]}: {len(stage['jobs'])} jobs in a stage")
        return self._job(run, pipeline, stage, stage["jobs"][0], sources)

    def _job(self, run: Run, pipeline: Any, stage: Any, body: Any, sources: dict[str, Run]) -> Outcome:
        if "job" in body:
            _known("job", body)
            return self._agent(run, pipeline, body, sources, stage["stage"], body["steps"]).result
        _known("deployment", body)
        _known("strategy", body["strategy"])
        hooks = body["strategy"]["runOnce"]
        _known("runOnce", hooks)
        if not self.approve(body["environment"], run):
            return "Skipped"
        _known("hook", hooks["deploy"])
        if not any("download" in step for step in hooks["deploy"]["steps"]):
            raise UnknownConstruct(
                f"{body[AT]}: no download in deploy, where the service would fetch every artifact by itself"
            )
        result = self._agent(run, pipeline, body, sources, stage["stage"], hooks["deploy"]["steps"]).result
        if result == "Failed" and "on" in hooks:
            _known("on", hooks["on"])
            _known("hook", hooks["on"]["failure"])
            # The hook mends what can be mended; the stage has failed all the same.
            self._agent(run, pipeline, body, sources, f"{stage['stage']} on.failure", hooks["on"]["failure"]["steps"])
        return result

    def _agent(
        self, run: Run, pipeline: Any, body: Any, sources: dict[str, Run], name: str, steps: list[Any]
    ) -> JobRecord:
        workspace = self.folder / "agents" / f"{run.number}-{len(run.jobs) + 1}"
        variables, secrets = self._variables(run, workspace, [pipeline, body])
        tasks = Tasks(self.repository, self.folder, self.connections, sources)
        agent = Agent(run, workspace, self.machine, variables, secrets, tasks.table())
        agent.cancel_at = self.cancel[1] if self.cancel[0] == name else ""
        run.jobs[name] = agent.work(name, steps)
        # The next job is on another machine: nothing but artifacts and caches may reach it. The checkout's code stays, for
        # the endpoints of the local target run from it, as they would on an agent of one's own.
        for path in [*workspace.iterdir(), workspace / "s" / "reports"]:
            if path.name != "s" and path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
        return run.jobs[name]

    def _variables(self, run: Run, workspace: Path, scopes: list[Any]) -> tuple[dict[str, str], set[str]]:
        found = {
            "Agent.OS": "Linux",
            "Agent.TempDirectory": str(workspace / "_temp"),
            "Build.ArtifactStagingDirectory": str(workspace / "a"),
            "Build.BuildId": str(run.number),
            "Build.Reason": run.reason,
            "Build.SourceBranch": "refs/heads/main",
            "Build.SourceVersion": run.commit,
            "Build.SourcesDirectory": str(workspace / "s"),
            "Pipeline.Workspace": str(workspace),
            "System.AccessToken": JOB_TOKEN,
            "System.DefaultWorkingDirectory": str(workspace / "s"),
            "System.StageAttempt": "1",
            **self.variables,
        }
        for scope in scopes:
            rows = scope.get("variables", [])
            rows = [{"name": k, "value": v} for k, v in rows.items() if k != AT] if isinstance(rows, dict) else rows
            for row in rows:
                found.update(self.groups[row["group"]] if "group" in row else {row["name"]: row["value"]})
        return {name.lower(): str(value) for name, value in found.items()}, {name.lower() for name in self.secrets}

    def _listening(self, ended: Run) -> list[tuple[str, str]]:
        found = []
        for file in self.names:
            for source in load(self.repository, file).get("resources", {}).get("pipelines", []):
                branches = source.get("trigger", {}).get("branches", {}).get("include", [])
                if source["source"] == self.names[ended.file] and "main" in branches:
                    found.append((file, source["pipeline"]))
        return found


def commit_of(tree: Path, into: Path) -> Path:
    """Return a new repository at ``into`` that holds the working tree as it is now, in one commit on main."""
    checkout(tree, into)
    commit(into, "the working tree as it is")
    return into


def commit(repository: Path, message: str) -> None:
    """Commit everything in a repository of a test, on main; a folder that is no repository yet becomes one."""
    if not (repository / ".git").exists():
        _git(repository, "init", "--quiet", "--initial-branch=main")
    _git(repository, "add", "--all")
    _git(
        repository,
        "-c",
        "user.name=test",
        "-c",
        "user.email=test@localhost",
        "commit",
        "--quiet",
        "--allow-empty",
        "-m",
        message,
    )


def _git(repository: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(repository), *words], check=True, capture_output=True, text=True, timeout=120
    )
    return done.stdout.strip()


def _head(repository: Path) -> str:
    return _git(repository, "rev-parse", "HEAD")


def _known(kind: str, mapping: Mapping[str, Any]) -> None:
    unknown = set(mapping) - KEYS[kind] - {AT}
    if unknown:
        raise UnknownConstruct(f"{mapping.get(AT)}: {kind} key {sorted(unknown)}")


def _worst(results: list[Outcome]) -> Outcome:
    order: list[Outcome] = ["Canceled", "Failed", "SucceededWithIssues", "Succeeded"]
    return next((word for word in order if word in results), "Skipped")
