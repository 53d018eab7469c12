"""One agent: a fresh workspace and an almost empty environment, in which the steps of one job run in order."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulator.records import JobRecord, Outcome, Run, StepRecord, UnknownConstruct
from runbook.lint.azure_pipelines.language import AT, evaluate

MACRO = re.compile(r"\$\(([A-Za-z_][\w.-]*)\)")
COMMAND = re.compile(r"^##vso\[(?P<what>[\w.]+)\s*(?P<with>[^\]]*)\](?P<text>.*)$")
STEP_KEYS = {"bash", "task", "checkout", "download", "artifact", "inputs", "displayName", "condition", "env"}
STEP_KEYS |= {"timeoutInMinutes", "continueOnError", AT}


class StepFailed(Exception):
    """A task could not do its work; the text goes into the step's log."""


@dataclass
class Agent:
    """The machine of one job. ``machine`` is what its operating system sets; everything else a step must be given."""

    run: Run
    workspace: Path
    machine: Mapping[str, str]
    variables: dict[str, str]
    secrets: set[str]
    tasks: Mapping[str, Callable[[Agent, dict[str, str]], None]]
    paths: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    deadline: float = 0.0
    completed: Outcome | None = None
    # A line of a step's output at which somebody cancels the run.
    cancel_at: str = ""
    cancelled: bool = False

    def work(self, name: str, steps: list[dict[str, Any]]) -> JobRecord:
        """Run the steps of one job and return how it went; every step is looked at, its condition decides."""
        for folder in ("s", "a", "_temp", "home"):
            (self.workspace / folder).mkdir(parents=True)
        job = JobRecord(name)
        for step in steps:
            unknown = set(step) - STEP_KEYS
            if unknown:
                raise UnknownConstruct(f"{step[AT]}: step key {sorted(unknown)}")
            job.steps.append(self._step(step, job))
            result = job.steps[-1].result
            if self.cancelled:
                job.result = "Canceled"
            elif result == "Failed" or (result == "SucceededWithIssues" and job.result == "Succeeded"):
                job.result = result
        return job

    def expand(self, text: str) -> str:
        """Return ``text`` with every $(variable) that is known replaced, as the service does before a task starts."""
        for _ in range(5):
            text = MACRO.sub(lambda match: self.variables.get(match[1].lower(), match[0]), text)
        return text

    def shell(self, script: str, more: Mapping[str, str]) -> None:
        """Run a script as the agent does, by bash without -e in the sources; raises StepFailed unless it exits with 0."""
        file = self.workspace / "_temp" / f"{time.monotonic_ns()}.sh"
        file.write_text(self.expand(script), encoding="utf-8")
        process = subprocess.Popen(
            ["bash", "--noprofile", "--norc", str(file)],
            cwd=self.workspace / "s",
            env=self.environment(more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        code = self._listen(process)
        if code:
            raise StepFailed(f"Bash exited with code '{code}'.")

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """Return what a step's process sees: the machine, every variable that is no secret, and the step's own env."""
        found = {"LANG": "C.UTF-8", "TF_BUILD": "True", **self.machine, "HOME": str(self.workspace / "home")}
        found["PATH"] = ":".join(
            [*self.paths, "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        )
        for name, value in self.variables.items():
            if name not in self.secrets:
                found[re.sub(r"[. ]", "_", name).upper()] = self.expand(value)
        return found | {key: self.expand(value) for key, value in more.items() if key != AT}

    def _step(self, step: dict[str, Any], job: JobRecord) -> StepRecord:
        name = self.expand(
            step.get("displayName") or " ".join(f"{k} {v}" for k, v in step.items() if k in STEP_KEYS - {AT})[:60]
        )
        self.variables["agent.jobstatus"] = job.result
        status = {
            "succeeded": lambda: job.result not in ("Failed", "Canceled"),
            "failed": lambda: job.result == "Failed",
            "canceled": lambda: self.cancelled,
            "always": lambda: True,
        }
        if evaluate(step.get("condition", "succeeded()"), {"variables": _Folded(self.variables)}, status) is not True:
            return StepRecord(name, "Skipped", 0.0, "")
        self.lines, self.completed = [], None
        started = time.monotonic()
        self.deadline = started + 60 * float(step.get("timeoutInMinutes", 60))
        result: Outcome = "Succeeded"
        try:
            self._act(step)
        except StepFailed as failure:
            self.lines.append(f"##[error]{failure}")
            result = "SucceededWithIssues" if step.get("continueOnError") == "true" else "Failed"
            result = "Canceled" if self.cancelled and str(failure) == "The operation was canceled." else result
        return StepRecord(
            name, self.completed or result, time.monotonic() - started, self._masked("\n".join(self.lines))
        )

    def _act(self, step: dict[str, Any]) -> None:
        kinds = [kind for kind in ("bash", "task", "checkout", "download") if kind in step]
        if len(kinds) != 1:
            raise UnknownConstruct(f"{step[AT]}: a step that is {kinds or 'nothing we know'}")
        inputs = {k: self.expand(v) for k, v in step.get("inputs", {}).items() if k != AT}
        if kinds == ["bash"]:
            self.shell(step["bash"], step.get("env", {}))
        elif kinds == ["task"]:
            if step["task"] not in self.tasks:
                raise UnknownConstruct(f"{step[AT]}: task {step['task']}")
            self.tasks[step["task"]](
                self, inputs | {f"env {k}": self.expand(v) for k, v in step.get("env", {}).items() if k != AT}
            )
        else:
            words = {k: self.expand(v) for k, v in step.items() if k in ("checkout", "download", "artifact")}
            self.tasks[kinds[0]](self, words)

    def _listen(self, process: subprocess.Popen[bytes]) -> int:
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        rest = b""
        while True:
            ended = process.poll()
            rest += _available(process.stdout.fileno())
            *whole, rest = rest.split(b"\n")
            for line in whole:
                self._hear(line.decode(errors="replace"))
            # A process that outlives its step may hold the pipe open, as an endpoint does; the step ends all the same.
            if ended is not None:
                self._hear(rest.decode(errors="replace"))
                process.stdout.close()
                return ended
            if self.cancel_at and self.cancel_at in "\n".join([*self.lines, ""]):
                # The service asks first and kills the tree of processes ten seconds later; the harsher end is tried here.
                self.cancel_at, self.cancelled = "", True
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(timeout=30)
                raise StepFailed("The operation was canceled.")
            if time.monotonic() > self.deadline:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(timeout=30)
                raise StepFailed("The task has timed out.")
            time.sleep(0.02)

    def _hear(self, line: str) -> None:
        self.lines.append(line)
        command = COMMAND.match(line)
        if not command:
            return
        with_ = dict(pair.split("=", 1) for pair in command["with"].split(";") if "=" in pair)
        match command["what"]:
            case "task.setvariable":
                if set(with_) - {"variable", "issecret", "isSecret"}:
                    raise UnknownConstruct(f"logging command {line}")
                self.variables[with_["variable"].lower()] = command["text"]
                if with_.get("issecret", with_.get("isSecret", "false")).lower() == "true":
                    self.secrets.add(with_["variable"].lower())
            case "task.logissue":
                self.run.issues.append((with_["type"], self._masked(command["text"])))
            case "task.uploadsummary":
                self._summary(Path(command["text"]))
            case "task.complete":
                if with_["result"] not in ("Succeeded", "SucceededWithIssues", "Failed"):
                    raise UnknownConstruct(f"logging command {line}")
                self.completed = with_["result"]  # type: ignore[assignment]
            case _:
                raise UnknownConstruct(f"logging command {line}")

    def _summary(self, path: Path) -> None:
        # The service attaches the file when the step has ended; a file that is not there is an error of the step.
        if not path.is_absolute() or not path.is_file():
            self.completed = "Failed"
            self.lines.append(f"##[error]Cannot upload {path}: not an absolute path of a file that exists.")
            return
        self.run.summaries.append(path.read_text(encoding="utf-8"))

    def _masked(self, text: str) -> str:
        for name in self.secrets:
            value = self.variables.get(name, "")
            text = text.replace(value, "***") if value else text
        return text


class _Folded(dict[str, str]):
    """Variables are found whatever their case."""

    def get(self, key: str, default: Any = None) -> Any:
        return super().get(key.lower(), default)


def _available(descriptor: int) -> bytes:
    found = b""
    try:
        while chunk := os.read(descriptor, 65536):
            found += chunk
    except BlockingIOError:
        pass  # the writer lives and has said nothing more yet
    return found
