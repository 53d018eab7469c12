"""What is known of a run afterwards: its stages, jobs and steps, and what they published."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Outcome = Literal["Succeeded", "SucceededWithIssues", "Failed", "Canceled", "Skipped"]


class UnknownConstruct(Exception):
    """The pipeline uses something this emulator does not know: teach it, or write the pipeline more simply."""


@dataclass(frozen=True)
class StepRecord:
    """One step as the run's page would show it."""

    name: str
    result: Outcome
    seconds: float
    log: str


@dataclass
class JobRecord:
    """One job, or one hook of a deployment job, on an agent of its own."""

    name: str
    result: Outcome = "Succeeded"
    steps: list[StepRecord] = field(default_factory=list)

    def step(self, name: str) -> StepRecord:
        """Return the first step of that name."""
        return next(step for step in self.steps if step.name == name)


@dataclass
class Run:
    """One run of one pipeline."""

    number: int
    file: str
    commit: str
    reason: str
    result: Outcome = "Succeeded"
    stages: dict[str, Outcome] = field(default_factory=dict)
    jobs: dict[str, JobRecord] = field(default_factory=dict)
    artifacts: dict[str, Path] = field(default_factory=dict)
    summaries: list[str] = field(default_factory=list)
    issues: list[tuple[str, str]] = field(default_factory=list)
    tests: dict[str, tuple[int, int]] = field(default_factory=dict)
    triggered: list[Run] = field(default_factory=list)

    def log(self) -> str:
        """Return every step with its result and log, for the message of a failed test."""
        rows = [
            f"## {s.name}: {s.result}\n{s.log}"
            for job in self.jobs.values()
            for s in job.steps
            if s.result != "Skipped"
        ]
        return f"{self.file} run {self.number}: {self.result} {self.stages}\n" + "\n".join(rows)

    def results(self, job: str) -> dict[str, Outcome]:
        """Return the result of every step of one job, by name."""
        return {step.name: step.result for step in self.jobs[job].steps}
