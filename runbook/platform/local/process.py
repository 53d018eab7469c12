"""Processes that outlive whoever started them: known by pid and start time, so that a reused pid is never mistaken."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Process:
    """One process; ``started`` is its start time as the system counts it and means nothing beyond equality."""

    pid: int
    started: str


def identify(pid: int) -> Process | None:
    """Return the living process of that pid, or None; a zombie is not living."""
    if sys.platform == "linux":
        try:
            # The command's name may hold spaces and brackets; fields 3 (state) and 22 (start time) are counted behind it.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else Process(pid, fields[19])
    with contextlib.suppress(psutil.NoSuchProcess):
        found = psutil.Process(pid)
        if found.status() != psutil.STATUS_ZOMBIE:
            return Process(pid, repr(found.create_time()))
    return None


def children(pid: int) -> list[int]:
    """Return the pids of a process's children; empty when it is gone."""
    try:
        # Asking psutil would read every process of the machine.
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (OSError, ValueError):
        pass
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []


def alive(process: Process | None) -> bool:
    """Tell whether this very process lives."""
    return process is not None and identify(process.pid) == process


def executable(process: Process) -> Path:
    """Return the path of a living process's program, which need not exist any more; /nonexistent when it is gone."""
    with contextlib.suppress(psutil.Error):
        if alive(process):
            return Path(psutil.Process(process.pid).exe())
    return Path("/nonexistent")


def spawn(argv: Sequence[str], env: Mapping[str, str], cwd: Path, out: Path, err: Path) -> subprocess.Popen[bytes]:
    """Start a process in a session and process group of its own, its output appended to two files of mode 0600."""
    with open(os.open(out, _APPEND, 0o600), "ab") as stdout, open(os.open(err, _APPEND, 0o600), "ab") as stderr:
        return subprocess.Popen(
            list(argv),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )


_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


def kill_group(process: Process, number: signal.Signals = signal.SIGKILL) -> None:
    """Signal the whole group that ``process`` leads, or led: its children may outlive it by a moment."""
    found = identify(process.pid)
    if found is not None and found != process:
        return  # the pid belongs to a stranger by now; while members of our group lived it could not have been reused
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


async def ended(process: Process) -> None:
    """Wait until ``process`` is gone, also when it is not our child."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # not Linux, or gone already
        while alive(process):
            await asyncio.sleep(0.1)
        return
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, gone.set)
    try:
        if alive(process):
            await gone.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def end(processes: Iterable[Process], grace_s: float) -> list[Process]:
    """Ask every group to end, kill what is left after ``grace_s`` seconds, and return what even then lives."""
    rest = list(processes)
    for number, wait in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        for process in rest:
            kill_group(process, number)
        deadline = time.monotonic() + wait
        while (rest := [p for p in rest if _group_alive(p)]) and time.monotonic() < deadline:
            time.sleep(0.02)
    return rest


def strays(ours: Callable[[list[str]], bool], known: Collection[int] = ()) -> list[Process]:
    """Return living processes of this user whose command line is ``ours``, but for the groups led by ``known`` pids.

    It finds what a state file does not know: a process started in the moment before its starter was killed.
    """
    found = []
    for candidate in psutil.process_iter(["uids", "cmdline"]):
        uids, argv = candidate.info["uids"], candidate.info["cmdline"]
        if not argv or uids is None or uids.real != os.getuid() or candidate.pid == os.getpid() or not ours(argv):
            continue
        with contextlib.suppress(ProcessLookupError):
            identity = identify(candidate.pid)
            if identity is not None and os.getpgid(candidate.pid) not in known:
                found.append(identity)
    return found


def _group_alive(process: Process) -> bool:
    found = identify(process.pid)
    if found is not None:
        return found == process
    return any(_leads(candidate.pid, process.pid) for candidate in psutil.process_iter())


def _leads(pid: int, group: int) -> bool:
    try:
        return os.getpgid(pid) == group and identify(pid) is not None
    except OSError:
        return False
