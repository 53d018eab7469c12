"""This machine: cores, memory and disk that a process here may really use, also inside a container."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil

GIB = 1024**3
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Machine:
    """Usable cores, memory in all and free disk, the last two in GiB."""

    cores: float
    memory_gib: float
    disk_gib: float


def measure(folder: Path) -> Machine:
    """Return what this machine has, disk where ``folder`` is; the limits of a container count."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota, period = (_limit("cpu.max").split() + ["max", "max"])[:2]
    if quota.isdecimal() and period.isdecimal():
        cores = min(cores, int(quota) / int(period))
    memory = psutil.virtual_memory().total
    if (limit := _limit("memory.max").strip()).isdecimal():
        memory = min(memory, int(limit))
    return Machine(cores, memory / GIB, shutil.disk_usage(folder).free / GIB)


def _limit(name: str) -> str:
    try:
        return (_CGROUP / name).read_text()
    except OSError:
        return ""  # no container, or not Linux: no limit but the machine itself
