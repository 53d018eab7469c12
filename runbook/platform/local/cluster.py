"""The prod cluster: on this target it is the controller with its router, and this machine's memory is its capacity."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from runbook.errors import NotFound, PlatformError
from runbook.platform import files
from runbook.platform.base import OWNER_TAG, Change, Cluster
from runbook.platform.local import machine, names, state_dir
from runbook.platform.local.controller import state
from runbook.platform.local.state_dir import Home

_UNITS = {
    "": 1 / 1024**3,
    "Ki": 1 / 1024**2,
    "Mi": 1 / 1024,
    "Gi": 1.0,
    "K": 1e3 / 1024**3,
    "M": 1e6 / 1024**3,
    "G": 1e9 / 1024**3,
}


def create(of: Home) -> Change[Cluster]:
    """Record environment_setup/cluster.yml when this machine holds the least number of prod replicas.

    Raises PlatformError when it does not. Memory is what decides here; cores are shared, and their limits not enforced.
    """
    document, deployment = files.cluster(), files.deployment("prod")
    scale = deployment.get("scale_settings") or {}
    least, most = int(scale.get("min_instances", 1)), int(scale.get("max_instances", 1))
    this = machine.measure(of.path)
    cpu, memory = _replica(document, deployment)
    fits = int(this.memory_gib // memory)
    if fits < least:
        raise PlatformError(
            f"This machine has {this.memory_gib:.1f} GiB: {fits} replicas of {memory:.2f} GiB fit, expected at least {least}. "
            "Give it more memory, or ask for less in deployment/prod/deployment.yml."
        )
    nodes = f"{document.get('node_count')} x {document.get('node_size')}"
    details = {
        "where": "this machine",
        "replica": f"{cpu:.2f} cores and {memory:.2f} GiB, sidecar included",
        "memory": f"{this.memory_gib:.1f} GiB hold {fits} replicas (expected {least} to {most})",
        "cores": f"{this.cores:g} cores would hold {int(this.cores // cpu)} replicas by their requests; not enforced here",
        "in the cloud": f"{nodes} would hold {_cloud(document, cpu, memory)} replicas",
    }
    record = {"name": names.name("cluster", document.get("name", "")), "tags": document.get("tags") or {}}
    record |= {"fits": fits, "details": details}
    path = of.path / "cluster.json"
    before = state_dir.read_json(path) if path.exists() else {}
    if before and OWNER_TAG not in before["tags"]:
        raise PlatformError(
            f"Cluster {before['name']} has no tag {OWNER_TAG}: somebody else made it, and it is left alone."
        )
    state_dir.write_json(path, record)
    return Change(f"local: record cluster {record['name']}", document, before != record, _cluster(record))


def find(of: Home) -> Cluster | None:
    """Return the recorded cluster, or None."""
    path = of.path / "cluster.json"
    return _cluster(state_dir.read_json(path)) if path.exists() else None


def attach(of: Home) -> Change[Cluster]:
    """Return the recorded cluster unchanged; raises NotFound when there is none."""
    found = find(of)
    if found is None:
        raise NotFound("No cluster is recorded on this machine: create it first.")
    return Change(f"local: cluster {found.name} needs no attaching", {}, False, found)


def delete(of: Home) -> Change[None]:
    """Forget the cluster; PlatformError when it is not ours or an endpoint still runs on it."""
    found = find(of)
    if found is None:
        return Change("local: forget the cluster", {}, False, None)
    if not found.ours:
        raise PlatformError(
            f"Cluster {found.name} has no tag {OWNER_TAG}: somebody else made it, and it is left alone."
        )
    endpoint = str(files.endpoint("prod").get("name", ""))
    if state.path(of, names.name("endpoint", endpoint)).exists():
        raise PlatformError(f"Endpoint {endpoint} still runs on cluster {found.name}. Delete the endpoint first.")
    (of.path / "cluster.json").unlink()
    return Change(f"local: forget cluster {found.name}", {}, True, None)


def _cluster(record: Mapping[str, Any]) -> Cluster:
    return Cluster(record["name"], "ready", OWNER_TAG in record["tags"], record["fits"], record["details"])


def _replica(cluster: Mapping[str, Any], deployment: Mapping[str, Any]) -> tuple[float, float]:
    """Return cores and GiB that one replica asks for, with what the extension adds to it."""
    requests = (deployment.get("resources") or {}).get("requests") or {}
    sidecar = cluster.get("sidecar") or {}
    cpu = _quantity(str(requests.get("cpu", "0.1")), {"": 1.0, "m": 0.001})
    memory = _quantity(str(requests.get("memory", "500Mi")), _UNITS)
    return cpu + float(sidecar.get("cpu", 0)), memory + float(sidecar.get("memory_gib", 0))


def _cloud(cluster: Mapping[str, Any], cpu: float, memory: float) -> int:
    nodes, extension = int(cluster["node_count"]), cluster.get("extension") or {}
    cores = nodes * float(cluster["node_vcpus"]) - float(extension.get("requests_cpu", 0))
    gib = nodes * float(cluster["node_memory_gib"]) - float(extension.get("requests_memory_gib", 0))
    return max(0, min(int(cores // cpu), int(gib // memory)))


def _quantity(text: str, units: Mapping[str, float]) -> float:
    match = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", text)
    if match is None or match[2] not in units:
        raise PlatformError(
            f"deployment/prod/deployment.yml: resources.requests has {text!r}, expected for example 0.5, 500m or 1Gi."
        )
    return float(match[1]) * units[match[2]]
