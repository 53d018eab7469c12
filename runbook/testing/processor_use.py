"""Measures which processes use the processor while a load runs."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import psutil

_SHOWN = 4


@dataclass(frozen=True)
class ProcessorUse:
    """Cores this machine has, cores in use on average, and the cores of each program by its name."""

    cores: int = 0
    used: float = 0.0
    programs: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        if not self.cores:
            return "nothing was measured"
        most = sorted(self.programs.items(), key=lambda program: -program[1])[:_SHOWN]
        names = ", ".join(f"{name} {cores:.1f}" for name, cores in most if cores >= 0.05)
        return f"{self.used:.1f} of {self.cores} cores were busy" + (f"; the most: {names}" if names else "")


class Meter:
    """Measures from its making on; programs that end before the reading are counted in the sum only."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._busy = _busy_seconds()
        self._processes = _processes()

    def read(self) -> ProcessorUse:
        """Return the use since the meter was made."""
        seconds = max(1e-3, time.monotonic() - self._began)
        programs: dict[str, float] = defaultdict(float)
        for process, (name, used) in _processes().items():
            programs[name] += used - self._processes.get(process, (name, 0.0))[1]
        return ProcessorUse(
            cores=psutil.cpu_count() or 1,
            used=(_busy_seconds() - self._busy) / seconds,
            programs={name: used / seconds for name, used in programs.items()},
        )


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def _processes() -> dict[tuple[int, float], tuple[str, float]]:
    """Return name and processor seconds of every process, by its pid and start."""
    found = {}
    for process in psutil.process_iter(["name", "create_time", "cpu_times"]):
        facts = process.info
        # Nothing is known of a process that has just ended, or whose owner does not let others look.
        if facts["cpu_times"] is not None and facts["create_time"] is not None:
            used = facts["cpu_times"].user + facts["cpu_times"].system
            found[process.pid, facts["create_time"]] = (facts["name"] or "?", used)
    return found
