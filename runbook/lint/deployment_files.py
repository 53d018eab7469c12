"""Rules for the deployment files where Azure ML's own loader accepts nonsense, each with the reason.

Source of the limits: Microsoft's pages "Kubernetes online deployment YAML schema", "Manage resources and quotas" and
"Online endpoint YAML schema", and what azure-ai-ml 1.35 was seen to accept.
"""

from __future__ import annotations

import re
from typing import Any

from runbook.errors import AnatomyError
from runbook.platform import files
from runbook.platform.base import OWNER_TAG

NAME = re.compile(r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "K": 10**3, "M": 10**6, "G": 10**9, "": 1}


def problems() -> list[str]:
    """Return what is wrong with the files of deployment/dev and deployment/prod."""
    found: list[str] = []
    for stage in ("dev", "prod"):
        try:
            endpoint, deployment = files.endpoint(stage), files.deployment(stage)
        except AnatomyError as error:
            found.append(str(error))
            continue
        found += [f"deployment/{stage}/endpoint.yml: {p}" for p in endpoint_problems(endpoint)]
        found += [f"deployment/{stage}/deployment.yml: {p}" for p in deployment_problems(deployment)]
        if endpoint.get("name") != deployment.get("endpoint_name"):
            found.append(
                f"deployment/{stage}: endpoint.yml is {endpoint.get('name')!r}, deployment.yml says endpoint_name "
                f"{deployment.get('endpoint_name')!r}: expected the same."
            )
    return found


def endpoint_problems(document: dict[str, Any]) -> list[str]:
    """Return what is wrong with one endpoint file."""
    found = _name(str(document.get("name", "")))
    kubernetes = "compute" in document
    allowed = ("key", "aml_token") if kubernetes else ("key", "aml_token", "aad_token")
    if document.get("auth_mode") not in allowed:
        found.append(f"auth_mode is {document.get('auth_mode')!r}, expected one of {', '.join(allowed)}.")
    if document.get("traffic"):
        found.append("traffic cannot be set when an endpoint is created; 90_release sets it.")
    mirror = sum((document.get("mirror_traffic") or {}).values())
    if mirror > 50:
        found.append(f"mirror_traffic is {mirror} %, at most 50.")
    return found + _owner(document)


def deployment_problems(document: dict[str, Any]) -> list[str]:
    """Return what is wrong with one deployment file."""
    found = _name(str(document.get("name", ""))) + _owner(document)
    requests = document.get("request_settings") or {}
    workers = str((document.get("environment_variables") or {}).get("WORKER_COUNT", "1"))
    slots = requests.get("max_concurrent_requests_per_instance", 1)
    if workers != str(slots):
        found.append(
            f"WORKER_COUNT is {workers} and max_concurrent_requests_per_instance {slots}: a request without a worker only waits."
        )
    timeout = requests.get("request_timeout_ms", 5000) + requests.get("max_queue_wait_ms", 500)
    if timeout > 300_000:
        found.append(
            f"request_timeout_ms + max_queue_wait_ms is {timeout} ms; an endpoint ends a request after 300,000."
        )
    if "request_timeout_ms" not in requests:
        found.append("request_timeout_ms is missing: the default is 5 seconds.")
    return found + _scale(document.get("scale_settings") or {}) + _resources(document.get("resources") or {})


def _scale(scale: dict[str, Any]) -> list[str]:
    if scale.get("type") != "target_utilization":
        return []
    low, high = scale.get("min_instances", 1), scale.get("max_instances", 1)
    percent = scale.get("target_utilization_percentage", 70)
    found = (
        []
        if 1 <= low <= high
        else [f"min_instances {low} and max_instances {high}: expected 1 <= min <= max (max defaults to 1)."]
    )
    if not 1 <= percent <= 100:
        found.append(f"target_utilization_percentage is {percent}, expected 1 to 100.")
    return found


def _resources(resources: dict[str, Any]) -> list[str]:
    found = []
    for what in ("cpu", "memory"):
        asked, limit = (resources.get(side, {}).get(what) for side in ("requests", "limits"))
        if asked is not None and limit is not None and quantity(str(asked)) > quantity(str(limit)):
            found.append(
                f"resources: {what} request {asked} is above its limit {limit}; no node would take the replica."
            )
    return found


def quantity(text: str) -> float:
    """Return a Kubernetes quantity ("500m", "0.5", "1Gi") as a number; raises AnatomyError when it is none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(m|Ki|Mi|Gi|K|M|G)?", text)
    if not match:
        raise AnatomyError(f"{text!r} is no Kubernetes quantity; expected something like 500m, 0.5 or 1Gi.")
    return float(match[1]) / 1000 if match[2] == "m" else float(match[1]) * UNITS[match[2] or ""]


def _name(name: str) -> list[str]:
    if NAME.match(name) and 3 <= len(name) <= 32:
        return []
    return [
        f"name is {name!r}, expected 3 to 32 lower-case letters, digits and single dashes, beginning with a letter."
    ]


def _owner(document: dict[str, Any]) -> list[str]:
    tags = document.get("tags") or {}
    return [] if tags.get(OWNER_TAG) else [f"the tag {OWNER_TAG} is missing: 99_teardown deletes only what carries it."]
