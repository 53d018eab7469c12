"""Reads the settings of deployment/<stage>/deployment.yml that the local platform obeys."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook import paths
from runbook.errors import AnatomyError, UsageError
from runbook.platform.base import ModelVersion

# Azure shrinks "around 20 times" slower than it grows: https://learn.microsoft.com/azure/machine-learning/
# how-to-kubernetes-inference-routing-azureml-fe. A test sets RUNBOOK_CALM_POLLS, because 20 seconds are long for a test.
CALM_POLLS = 20
# What Azure ML assumes where deployment.yml says nothing (schemas of managed and Kubernetes online deployments).
TIMEOUT_MS = 5000
QUEUE_WAIT_MS = 500
UTILIZATION = 70.0


@dataclass(frozen=True)
class Serving:
    """One deployment's settings; times in milliseconds, ``polling_interval`` in seconds, ``target`` in percent.

    ``code`` and ``model`` are folders, given from the platform's state folder on, so that it may be moved or copied.
    """

    concurrency: int
    request_timeout_ms: int
    queue_wait_ms: int
    least: int
    most: int
    target: float
    polling_interval: float
    calm_polls: int
    workers: int
    environment: Mapping[str, str]
    code: str
    entry_script: str
    model: str

    @property
    def autoscaled(self) -> bool:
        """Tell whether the number of replicas may change."""
        return self.most > self.least

    @property
    def scoring_timeout_ms(self) -> int:
        """When a replica gives a request up, in milliseconds.

        A little later than the router: earlier, the client would see an exception instead of a timeout; much later, a
        replica would go on working for nobody while the router counts it as free.
        """
        return self.request_timeout_ms + 500


def override(document: Mapping[str, Any], name: str, model: ModelVersion) -> dict[str, Any]:
    """Return deployment.yml with the three values a platform may set: the name, the model version and its digest."""
    environment = {
        **document.get("environment_variables", {}),
        "MODEL_SHA256": model.digest,
        "MODEL_VERSION": model.version,
    }
    return {
        **document,
        "name": name,
        "model": f"azureml:{model.name}:{model.version}",
        "environment_variables": environment,
    }


def read(document: Mapping[str, Any], stage: str, snapshot: Path, model: Path) -> Serving:
    """Return the settings of an overridden deployment.yml, its code at ``snapshot`` and its model files below ``model``.

    Both folders are given from the platform's state folder on. Raises AnatomyError for a value that cannot be served.
    """
    requests, scale = document.get("request_settings") or {}, document.get("scale_settings") or {}
    code = document.get("code_configuration") or {}
    environment = _environment(document.get("environment_variables") or {}, stage)
    timeout = _whole(requests, "request_timeout_ms", TIMEOUT_MS, stage)
    # A managed deployment has no queue setting of its own any more: its time in the queue counts as request time.
    waiting = QUEUE_WAIT_MS if document.get("type") == "kubernetes" else timeout
    autoscaled = scale.get("type") == "target_utilization"
    least = _whole(scale, "min_instances", 1, stage) if autoscaled else _whole(document, "instance_count", 1, stage)
    serving = Serving(
        concurrency=_whole(requests, "max_concurrent_requests_per_instance", 1, stage),
        request_timeout_ms=timeout,
        queue_wait_ms=_whole(requests, "max_queue_wait_ms", waiting, stage),
        least=least,
        most=_whole(scale, "max_instances", least, stage) if autoscaled else least,
        target=float(scale.get("target_utilization_percentage", UTILIZATION)),
        polling_interval=float(scale.get("polling_interval", 1)),
        calm_polls=_calm_polls(),
        workers=_whole(environment, "WORKER_COUNT", 1, stage),
        environment=environment,
        code=str(snapshot / _code_folder(str(code.get("code", "..")), stage)),
        entry_script=str(code.get("scoring_script", "score.py")),
        model=str(model),
    )
    if serving.most < serving.least or not 0 < serving.target <= 100 or serving.polling_interval <= 0:
        raise AnatomyError(
            f"deployment/{stage}/deployment.yml: scale_settings {dict(scale)!r}: expected min_instances <= max_instances, "
            "target_utilization_percentage in 1..100 and polling_interval above 0."
        )
    return serving


def _whole(document: Mapping[str, Any], key: str, default: int, stage: str) -> int:
    value = document.get(key, default)
    try:
        number = int(str(value))
    except ValueError:
        number = 0
    if number < 1:
        raise AnatomyError(f"deployment/{stage}/deployment.yml: {key} is {value!r}, expected a whole number from 1 on.")
    return number


def _environment(variables: Mapping[str, Any], stage: str) -> dict[str, str]:
    for key, value in variables.items():
        if not isinstance(value, str):
            raise AnatomyError(
                f"deployment/{stage}/deployment.yml: environment_variables.{key} is {value!r}, expected text: quote it."
            )
    return dict(variables)


def _calm_polls() -> int:
    text = os.environ.get("RUNBOOK_CALM_POLLS") or str(CALM_POLLS)
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(
            f"RUNBOOK_CALM_POLLS is {text!r}, expected a whole number from 1 on, or leave it unset for {CALM_POLLS}."
        )
    return int(text)


def _code_folder(code: str, stage: str) -> Path:
    folder = (paths.DEPLOYMENT / stage / code).resolve()
    if not folder.is_relative_to(paths.DEPLOYMENT.resolve()):
        raise AnatomyError(
            f"deployment/{stage}/deployment.yml: code_configuration.code is {code!r}, expected a folder below deployment/."
        )
    return folder.relative_to(paths.DEPLOYMENT.resolve())
