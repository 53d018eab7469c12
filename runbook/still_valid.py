"""Checks that a finished step's result still exists, so that --resume can skip the step.

Each function takes the platform, the stage and the values of the step's handoff. ``runbook/steps.py`` names the function of
each step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from runbook.platform.base import CHAMPION, Platform, Stage

Values = Mapping[str, Any]
Question = Callable[[Platform, str | None, Values], bool]


def cluster(platform: Platform, stage: str | None, values: Values) -> bool:
    """Return whether the cluster that 50 has made exists."""
    found = platform.find_cluster()
    return found is not None and found.name == values["cluster"]


def version(platform: Platform, stage: str | None, values: Values) -> bool:
    """Return whether the registry holds the version of 40, with the same bytes."""
    found = platform.find_model(values["name"], version=values["version"])
    return found is not None and found.digest == values["sha256"]


def deployment(platform: Platform, stage: str | None, values: Values) -> bool:
    """Return whether the deployment of 60 is ready, with the same model and the same code."""
    endpoint = platform.find_endpoint(stage_of(stage))
    found = endpoint.deployment(values["deployment"]) if endpoint else None
    if found is None:
        return False
    expected = (values["model_version"], values["model_digest"], values["code_digest"], "ready")
    return (found.model_version, found.model_digest, found.code_digest, found.state) == expected


def release(platform: Platform, stage: str | None, values: Values) -> bool:
    """Return whether the deployment that 90 released has all traffic, and on prod its version is champion."""
    endpoint = platform.find_endpoint(stage_of(stage))
    if endpoint is None or endpoint.traffic.get(values["deployment"]) != 100:
        return False
    if stage != "prod":
        return True
    champion = platform.find_model(values["model_name"], alias=CHAMPION)
    return champion is not None and champion.version == values["model_version"]


def stage_of(stage: str | None) -> Stage:
    """Return a stage as the platform's type; a step without a stage counts as dev."""
    return "prod" if stage == "prod" else "dev"
