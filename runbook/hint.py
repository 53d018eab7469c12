"""The command line as hints spell it: every message and page shows commands that can be pasted in the checkout."""

from __future__ import annotations

import shlex

# The program lies in the checkout's own environment, which is not on PATH.
RUNBOOK = ".venv/bin/runbook"


def line(*words: str) -> str:
    """Return the words after ``runbook`` as a command to paste, for example ``.venv/bin/runbook run ci``."""
    return f"{RUNBOOK} {shlex.join(words)}"


def step(name: str, run_id: str, stage: str | None = None, target: str = "local") -> str:
    """Return the command that runs one step inside a run."""
    words = ["step", name, "--run-id", run_id]
    words += ["--stage", stage] if stage else []
    words += ["--target", target] if target != "local" else []
    return line(*words)


def again(command: str, run_id: str) -> str:
    """Return the command that goes on with the work of a ``command`` that did not end well."""
    words = shlex.split(command)
    if words[1:2] != ["step"]:
        return line("run", "--resume", run_id)
    # A step by hand has no plan to resume: the step again, in the same run, finds what it left.
    return line(*words[1:], *([] if "--run-id" in words else ["--run-id", run_id]))
