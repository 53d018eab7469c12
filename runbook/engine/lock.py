"""One run at a time per target: a lock that the runner holds and its kernels share.

Two files, because a killed runner's kernel lives on for a second or two and can still act: the runner holds ``run``
alone; every kernel it started holds ``kernels`` together. A new run begins only when it has had both.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from runbook import hint, ownership, paths
from runbook.errors import Busy

KERNELS = "RUNBOOK_KERNEL_LOCK"
KERNEL_SECONDS = 15.0
# How long a step of a pipeline waits for an earlier step of its own run that was cancelled and is taking its work back.
CANCELLED_SECONDS = 300.0

_shared: list[IO[str]] = []


@dataclass(frozen=True)
class Holder:
    """Who holds the lock of a target, as the lock itself says."""

    run_id: str
    pid: int
    started: str
    command: str


@contextlib.contextmanager
def hold(target: str, run_id: str, command: str) -> Iterator[Holder | None]:
    """Hold the lock of ``target`` for one run; raises Busy, naming the holder, when somebody else has it.

    Yields who was killed while holding the lock, unless that was this same run, or None.
    """
    folder = ownership.private(paths.home()) / "locks"
    folder.mkdir(exist_ok=True)
    with (
        (folder / f"{target}.run").open("a+", encoding="utf-8") as run,
        (folder / f"{target}.kernels").open("a+") as kernels,
    ):
        if not _take(run, 0.0) and not _take_over(run, run_id):
            raise Busy(_holder(run, target))
        if not _take(kernels, KERNEL_SECONDS):
            raise Busy(
                f"A kernel of an ended run still works on the {target} target after {KERNEL_SECONDS:.0f} s. "
                f"Find it with: fuser -v {kernels.name}; wait for it or end it, then try again."
            )
        fcntl.flock(kernels, fcntl.LOCK_UN)
        killed = _read(run)
        _write(run, Holder(run_id, os.getpid(), _now(), command))
        previous = os.environ.get(KERNELS)
        os.environ[KERNELS] = kernels.name
        try:
            yield killed if killed and killed.run_id != run_id else None
        finally:
            os.environ.pop(KERNELS) if previous is None else os.environ.update({KERNELS: previous})
            _write(run, None)


def share() -> None:
    """Share the run's lock for the life of this process, when a runner started it; else do nothing."""
    name = os.environ.get(KERNELS)
    if name and not _shared:
        file = Path(name).open("a+", encoding="utf-8")
        fcntl.flock(file, fcntl.LOCK_SH)
        _shared.append(file)


def _take_over(file: IO[str], run_id: str) -> bool:
    """Interrupt an earlier command of the same pipeline run and wait for its end; return whether the lock is ours now."""
    holder = _read(file)
    # An agent that is cancelled may end only the shell around a step. The step itself goes on as an orphan.
    if "TF_BUILD" not in os.environ or not holder or holder.run_id != run_id:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(holder.pid, signal.SIGINT)
    return _take(file, CANCELLED_SECONDS)


def _take(file: IO[str], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.1)
        else:
            return True


def _write(file: IO[str], holder: Holder | None) -> None:
    file.seek(0)
    file.truncate()
    file.write(json.dumps(asdict(holder)) if holder else "")
    file.flush()


def _read(file: IO[str]) -> Holder | None:
    file.seek(0)
    try:
        return Holder(**json.loads(file.read()))
    except (json.JSONDecodeError, TypeError):
        return None  # nobody, or somebody who is just writing


def _holder(file: IO[str], target: str) -> str:
    who = _read(file)
    if not who:
        return f"Another run is starting or ending on the {target} target. Try again in a few seconds."
    return (
        f"Run {who.run_id} holds the {target} target: pid {who.pid}, since {who.started}, command: {who.command}. "
        f"Wait for it, or stop it with: kill {who.pid}  (then go on with it: {hint.again(who.command, who.run_id)})"
    )


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
