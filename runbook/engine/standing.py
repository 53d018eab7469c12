"""Whether what a finished step made still stands, asked of the platform: what lets a resumed run skip the step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from runbook.platform.base import CHAMPION, Platform, Stage

Values = Mapping[str, Any]


def stands(step: str, stage: str | None, values: Values | None, platform: Platform) -> bool:
    """Return whether what a step's handoff records is still what the platform says; True for steps that change nothing."""
    question = QUESTIONS.get(step)
    return question is None or (values is not None and question(platform, stage, values))


def _cluster(platform: Platform, stage: str | None, values: Values) -> bool:
    cluster = platform.find_cluster()
    return cluster is not None and cluster.name == values["cluster"]


def _version(platform: Platform, stage: str | None, values: Values) -> bool:
    version = platform.find_model(values["name"], version=values["version"])
    return version is not None and version.digest == values["sha256"]


def _deployment(platform: Platform, stage: str | None, values: Values) -> bool:
    endpoint = platform.find_endpoint(_stage(stage))
    found = endpoint.deployment(values["deployment"]) if endpoint else None
    wanted = (values["model_version"], values["model_digest"], values["code_digest"], "ready")
    return found is not None and (found.model_version, found.model_digest, found.code_digest, found.state) == wanted


def _release(platform: Platform, stage: str | None, values: Values) -> bool:
    endpoint = platform.find_endpoint(_stage(stage))
    if endpoint is None or endpoint.traffic.get(values["deployment"]) != 100:
        return False
    champion = platform.find_model(values["model_name"], alias=CHAMPION) if stage == "prod" else None
    return stage != "prod" or (champion is not None and champion.version == values["model_version"])


def _stage(stage: str | None) -> Stage:
    return "prod" if stage == "prod" else "dev"


# 10_create_compute is not asked: 49_delete_compute of the same run removes its compute target on purpose.
QUESTIONS: dict[str, Callable[[Platform, str | None, Values], bool]] = {
    "40_register": _version,
    "50_create_cluster": _cluster,
    "60_deploy": _deployment,
    "90_release": _release,
}
