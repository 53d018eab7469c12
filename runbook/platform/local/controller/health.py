"""Finds a replica that lives and does not serve: stopped, spinning, stuck, or without its socket.

Every second the probe sends GET / to the replica's socket, so it goes through the workers that
score. A probe that is not answered is no proof: it waits behind requests that may take up to
request_timeout_ms. So each second without an answer is one look, and a look counts only with
evidence from outside the replica:

    evidence of one look                                       replaced after
    the master or a worker is stopped (state T)                3 looks in a row
    the socket cannot be reached                               3 looks in a row
    a worker has no request and still does not answer          6 looks in a row
    every worker is in the same request as before and has
    been computing, without a wait, for 3 s of processor time  7 looks in a row
    none of these                                              the longest request, and 6 s

A request that waits for something else is never cut short. Under load a replica gets less processor
time, so a look at which a worker waits for the machine counts neither way. The fourth row treats a
request that computes for over 7 s as spinning. Nothing from outside tells the two apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from runbook.platform.local import process
from runbook.platform.local.controller import replica
from runbook.platform.local.process import Process

EVERY_S = 1.0
STOPPED_LOOKS = 3
UNREACHABLE_LOOKS = 3
IDLE_LOOKS = 6
SPINNING_LOOKS = 7
# A request that needs less processor time than this is slow because of the machine.
SPINNING_CPU_S = 3.0
# Below this share of a second, a runnable process was waiting for a processor.
STARVED_CPU_S = 0.05
PATIENCE_S = 6.0
UNIX_SOCKETS = Path("/proc/net/unix")
_CONNECTED = "03"


@dataclass(frozen=True)
class Look:
    """One second of a replica, seen from outside.

    ``states`` holds psutil's words by pid, the master's included; ``cpu_s`` the processor seconds
    that each worker used up to now; ``requests`` identifies the connections that workers have
    accepted, and is None where the system does not tell.
    """

    states: Mapping[int, str]
    cpu_s: Mapping[int, float]
    requests: frozenset[str] | None
    reachable: bool = True


@dataclass
class Suspicion:
    """The evidence against one replica since it last answered."""

    workers: int
    longest_s: float
    last: Look | None = None
    known_workers: frozenset[int] | None = None
    stopped: int = 0
    unreachable: int = 0
    idle: int = 0
    spinning: int = 0
    looks: int = 0
    burned: dict[int, float] = field(default_factory=dict)

    def add(self, look: Look, answered: bool) -> str:
        """Count one look; returns why the replica must be replaced, or an empty text."""
        self.stopped = self.stopped + 1 if psutil.STATUS_STOPPED in look.states.values() else 0
        if self.stopped >= STOPPED_LOOKS:
            return f"it has been stopped by a signal for {self.stopped} s"
        if answered:
            self._forget(look)
            return ""

        before, self.last = self.last, look
        self.looks += 1
        if self.known_workers is None:
            self.known_workers = frozenset(look.cpu_s)
        self.unreachable = 0 if look.reachable else self.unreachable + 1
        if self.unreachable >= UNREACHABLE_LOOKS:
            return "its socket cannot be reached"
        if before is not None and look.reachable:
            self._weigh(before, look)

        if self.idle >= IDLE_LOOKS:
            return f"a worker without a request has not answered for {self.idle} s"
        if self.spinning >= SPINNING_LOOKS and min(self.burned.values()) >= SPINNING_CPU_S:
            return f"every worker has been computing in one request for {self.spinning} s"
        if self.looks * EVERY_S > self.longest_s + PATIENCE_S:
            return f"it has not answered for {self.looks} s, longer than any request may take"
        return ""

    def _weigh(self, before: Look, look: Look) -> None:
        used = {pid: look.cpu_s[pid] - before.cpu_s.get(pid, look.cpu_s[pid]) for pid in look.cpu_s}
        if any(_starved(look.states[pid], used[pid]) for pid in used):
            return

        free = look.requests is not None and len(look.requests) < self.workers
        # A worker that was started since the last answer may still be in its init().
        self.idle = self.idle + 1 if free and frozenset(look.cpu_s) == self.known_workers else 0

        same = look.requests == before.requests and look.cpu_s.keys() == before.cpu_s.keys()
        computing = bool(used) and all(look.states[pid] == psutil.STATUS_RUNNING for pid in used)
        if same and computing and not free:
            self.spinning += 1
            self.burned = {pid: self.burned.get(pid, 0.0) + used[pid] for pid in used}
        else:
            self.spinning, self.burned = 0, {}

    def _forget(self, look: Look) -> None:
        self.last, self.known_workers = look, frozenset(look.cpu_s)
        self.unreachable = self.idle = self.spinning = self.looks = 0
        self.burned = {}


async def hung(leader: Process, socket: Path, workers: int, longest_s: float) -> str:
    """Watch a replica until it must be replaced, and return the reason in words.

    ``leader`` is the replica's master, ``longest_s`` how many seconds one request may take. Never
    returns while the replica serves, or when its master is gone.
    """
    suspicion = Suspicion(workers, longest_s)
    # One probe at a time: an abandoned one would wait in the replica's queue all the same.
    probe = asyncio.create_task(replica.answers(socket))
    try:
        while True:
            await asyncio.sleep(EVERY_S)
            answered = probe.done() and probe.result()
            reachable = not probe.done() or answered
            reason = suspicion.add(_look(leader, socket, reachable), answered)
            if reason and process.alive(leader):
                return reason
            if probe.done():
                probe = asyncio.create_task(replica.answers(socket))
    finally:
        probe.cancel()


def _look(leader: Process, socket: Path, reachable: bool) -> Look:
    states, cpu_s = {}, {}
    for pid in (leader.pid, *process.children(leader.pid)):
        try:
            found = psutil.Process(pid)
            with found.oneshot():
                states[pid], times = found.status(), found.cpu_times()
        except psutil.Error:
            continue  # it ended between two lines
        if pid != leader.pid:
            cpu_s[pid] = times.user + times.system
    return Look(states, cpu_s, _requests(socket), reachable)


def _requests(socket: Path) -> frozenset[str] | None:
    """Return the accepted connections of a listening socket; those that still wait have no inode."""
    try:
        lines = UNIX_SOCKETS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    rows = (line.split(maxsplit=7) for line in lines if line.endswith(str(socket)))
    return frozenset(row[6] for row in rows if row[5] == _CONNECTED and row[6] != "0")


def _starved(state: str, used_s: float) -> bool:
    return state == psutil.STATUS_DISK_SLEEP or (state == psutil.STATUS_RUNNING and used_s < STARVED_CPU_S)
