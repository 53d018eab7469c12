"""Checks the rules of pipelines/ that no YAML schema can check.

A schema knows that ``dependsOn`` is text; it does not know whether that stage exists, whether an artifact that is
fetched was ever published, or whether the compute is deleted after a failed training. Microsoft's language service
checks the schema (tests/pipelines); this package checks the rest, on the pipelines with their templates expanded.
"""

from __future__ import annotations

from pathlib import Path

from runbook.errors import AnatomyError
from runbook.lint.azure_pipelines import job_rules, run_rules, tasks
from runbook.lint.azure_pipelines.language import load

FILES = ("ci.yml", "cd.yml")


def problems(root: Path) -> list[str]:
    """Return what breaks a rule in ``root/pipelines``, each as ``file:line: what, expected what, what to do``."""
    try:
        pipelines = {name: load(root, f"pipelines/{name}") for name in FILES}
        jobs = [job for name, pipeline in pipelines.items() for job in tasks.jobs(name, pipeline)]
        found = [problem for job in jobs for problem in job_rules.problems(job)]
        found += [*tasks.missing(jobs), *run_rules.problems(root, pipelines, jobs)]
    except AnatomyError as error:
        return [str(error)]
    # A template that is used five times is wrong once.
    return list(dict.fromkeys(found))
