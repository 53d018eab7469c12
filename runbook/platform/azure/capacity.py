"""Computes what a cluster can hold and what it costs from environment_setup/cluster.yml, without asking Azure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Cores that AKS keeps for the node itself, by cores of the node; and memory: a share of each slice, 0.1 GiB for eviction.
# https://learn.microsoft.com/azure/aks/concepts-clusters-workloads, resource reservations (the older, larger table).
_RESERVED_CPU = ((1, 0.06), (2, 0.10), (4, 0.14), (8, 0.18), (16, 0.26), (32, 0.42), (64, 0.74))
_RESERVED_MEMORY = ((4.0, 0.25), (4.0, 0.20), (8.0, 0.10), (112.0, 0.06))
_EVICTION_GIB = 0.1


@dataclass(frozen=True)
class Capacity:
    """Replicas a cluster can hold, and the replicas a release needs: blue and green at their most, at the same time."""

    fits: int
    needed: int
    nodes: int
    vcpus: int
    hourly_usd: float
    price: str

    @property
    def words(self) -> dict[str, str]:
        """The figures as a report shows them."""
        return {
            "nodes": f"{self.nodes} x {self.vcpus // self.nodes} vCPU",
            "replicas that fit": str(self.fits),
            "replicas a release needs": str(self.needed),
            "cost per hour": f"{self.hourly_usd:.3f} USD ({self.price}); nodes only",
        }


def of(cluster: Mapping[str, Any], deployment: Mapping[str, Any]) -> Capacity:
    """Return the capacity by the documented requests: nodes less AKS's reserve less the extension, per replica and sidecar."""
    nodes, cores, memory = int(cluster["node_count"]), int(cluster["node_vcpus"]), float(cluster["node_memory_gib"])
    extension, sidecar, price = cluster["extension"], cluster["sidecar"], cluster["price"]
    requests = deployment["resources"]["requests"]
    cpu_left = nodes * (cores - reserved_cpu(cores)) - float(extension["requests_cpu"])
    memory_left = nodes * (memory - reserved_memory(memory)) - float(extension["requests_memory_gib"])
    by_cpu = cpu_left / (cpu(requests["cpu"]) + float(sidecar["cpu"]))
    by_memory = memory_left / (gib(requests["memory"]) + float(sidecar["memory_gib"]))
    most = int(deployment["scale_settings"]["max_instances"])
    return Capacity(
        max(0, int(min(by_cpu, by_memory))),
        2 * most,
        nodes,
        nodes * cores,
        nodes * float(price["per_node_hour_usd"]),
        f"{cluster['node_size']} in {price['region']}, list price of {price['as_of']}",
    )


def reserved_cpu(cores: int) -> float:
    """Return the cores that AKS keeps on a node of so many cores."""
    return next((reserve for size, reserve in _RESERVED_CPU if cores <= size), _RESERVED_CPU[-1][1])


def reserved_memory(total: float) -> float:
    """Return the GiB that AKS keeps on a node of ``total`` GiB."""
    reserve, left = _EVICTION_GIB, total
    for size, share in _RESERVED_MEMORY:
        reserve += share * min(left, size)
        left = max(0.0, left - size)
    return reserve


def cpu(quantity: str | float) -> float:
    """Return the cores of a Kubernetes quantity: "0.5", "500m"."""
    text = str(quantity)
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def gib(quantity: str) -> float:
    """Return the GiB of a Kubernetes quantity: "1Gi", "512Mi"."""
    number, unit = re.fullmatch(r"([\d.]+)(Gi|Mi)", str(quantity)).groups()  # type: ignore[union-attr]
    return float(number) / (1 if unit == "Gi" else 1024)


def family(size: str) -> str:
    """Return the quota family of a VM size: Standard_D4s_v5 counts against standardDSv5Family."""
    letters, suffix, generation = re.fullmatch(r"Standard_([A-Z]+)\d+([a-z]*)_?(v\d+)?", size).groups()  # type: ignore[union-attr]
    return f"standard{letters}{suffix.upper()}{generation or ''}Family"
