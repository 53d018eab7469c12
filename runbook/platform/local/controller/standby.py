"""The pair of processes that keeps an endpoint alive: the controller, and a standby that waits to be the next one.

Both run the same program. The controller holds a lock on the endpoint's file `lock`, the standby
waits for that lock. The system frees the lock when the controller ends, whatever ended it, so the
standby takes over at once, and two controllers can never work at the same time. The controller
starts a new standby as soon as it lacks one.

`runbook down` must win against a take-over. It removes the file `keep` first. A standby that gets
the lock and finds no such file ends. Removing a file works on a full disk, too.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys

from runbook.platform.local import process
from runbook.platform.local.process import Process
from runbook.platform.local.state_dir import Home

MODULE = "runbook.platform.local.controller.main"
OPTION = "--standby"
LOCK, KEEP = "lock", "keep"
# Each round ends every controller it sees; a round sees what a process of the round before had started.
ROUNDS = 10


def argv(of: Home, name: str) -> list[str]:
    """Return the command that starts a controller of one endpoint in the background."""
    # -P: the folder it is started in must not provide modules.
    return [sys.executable, "-P", "-m", MODULE, str(of.path), name]


def start(of: Home, name: str) -> subprocess.Popen[bytes]:
    """Start a standby that writes to the log of this process; raises OSError when it cannot be started."""
    return subprocess.Popen([*argv(of, name), OPTION], stdin=subprocess.DEVNULL, start_new_session=True)


def allow(of: Home, name: str) -> None:
    """Let controllers of one endpoint take over from each other until ``end`` is called."""
    os.close(os.open(of.endpoint(name) / KEEP, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def allowed(of: Home, name: str) -> bool:
    """Tell whether a controller of one endpoint may take over."""
    return (of.endpoint(name) / KEEP).exists()


def take_lock(of: Home, name: str, wait: bool) -> bool:
    """Take the lock of one endpoint's controller and hold it until this process ends.

    Returns False when it is not held: without ``wait`` because another controller holds it, with
    ``wait`` because the file was removed meanwhile, so that another one has its place.
    """
    path = of.endpoint(name) / LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return True
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return False


def locked(of: Home, name: str) -> bool:
    """Tell whether a controller of one endpoint lives, even if it does not answer."""
    try:
        descriptor = os.open(of.endpoint(name) / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def find(of: Home, name: str) -> set[Process]:
    """Return every living controller and standby of one endpoint, by their command lines."""
    return set(process.strays(lambda words: _controls(words, of, name)))


def end(of: Home, name: str, grace_s: float, known: Process | None = None) -> tuple[set[Process], set[Process]]:
    """End every controller and standby of one endpoint; returns what was ended and what even then lives.

    No standby takes over from now on, until ``allow`` is called. ``known`` is a controller to end
    as well, whatever its command line.
    """
    (of.endpoint(name) / KEEP).unlink(missing_ok=True)
    seen = {known} if known is not None and process.alive(known) else set()
    left = set(seen)
    for _ in range(ROUNDS):
        left |= find(of, name)
        if not left:
            break
        seen |= left
        left = set(process.end(left, grace_s))
    return seen, left | find(of, name)


def _controls(words: list[str], of: Home, name: str) -> bool:
    return MODULE in words and words[words.index(MODULE) + 1 :][:2] == [str(of.path), name]
