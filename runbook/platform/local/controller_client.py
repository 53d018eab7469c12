"""Makes sure that the controller of an endpoint lives, and talks to it."""

from __future__ import annotations

import os
import subprocess
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from runbook import hint, paths
from runbook.errors import Busy, PlatformError
from runbook.platform.local import logs
from runbook.platform.local.controller import channel, standby, state
from runbook.platform.local.controller.replica import START_S
from runbook.platform.local.controller.state import Endpoint
from runbook.platform.local.haproxy import binary, connections
from runbook.platform.local.state_dir import Home

ANSWER_S = 10.0
# A controller that has taken its lock answers within this time, or is ended and another one started.
BOOT_S = 30.0
END_S = 2.0
ENDINGS = 3


@dataclass(frozen=True)
class Answer:
    """What a controller answered: whether the order changed anything, the state afterwards, and the Python it runs on."""

    changed: bool
    settled: bool
    python: str
    state: Endpoint


def ensure(of: Home, name: str) -> Endpoint:
    """Return the state of a living endpoint: what has died is started again, and awaited.

    Raises PlatformError with the controller's log when it cannot be brought up. Warns when it had to move to another port.
    """
    before = state.load(state.path(of, name))
    answer = _usable(of, name)
    if answer is None:
        with of.lock(f"start {name}"):
            answer = _usable(of, name) or _start(of, name)
    deadline = time.monotonic() + START_S
    while not answer.settled:
        if time.monotonic() > deadline:
            raise PlatformError(f"{name} is not up after {START_S:.0f} s.", _log(of, name))
        time.sleep(0.05)
        answer = _order(of, name, {"verb": "status"}, ANSWER_S)
    if before is not None and before.port not in (0, answer.state.port):
        warnings.warn(f"{name}: {answer.state.note}", stacklevel=2)
    return answer.state


def order(of: Home, endpoint: str, deadline_s: float, *, verb: str, wait_s: float = 0.0, **request: Any) -> Answer:
    """Give a living endpoint's controller an order and wait until it is done.

    Raises Busy while another order is carried out, after ``wait_s`` seconds of it; PlatformError with the service's log when
    the order fails or takes too long.
    """
    ensure(of, endpoint)
    patience = time.monotonic() + wait_s
    while True:
        try:
            return _order(of, endpoint, {"verb": verb, **request}, deadline_s)
        except Busy:
            if time.monotonic() >= patience:
                raise
            time.sleep(0.1)


def _order(of: Home, name: str, request: dict[str, Any], deadline_s: float) -> Answer:
    try:
        return _ask(of, name, request, deadline_s)
    except OSError as error:
        raise PlatformError(
            f"The controller of {name} did not finish {request['verb']!r} ({error}). Call again: what is done is kept.",
            _log(of, name),
        ) from error


def _ask(of: Home, name: str, request: dict[str, Any], deadline_s: float) -> Answer:
    answer = channel.ask(of.runtime() / name / channel.SOCKET, request, deadline_s)
    if "error" in answer:
        if answer["kind"] == "Busy":
            raise Busy(answer["error"])
        raise PlatformError(answer["error"], answer.get("log", ""))
    return msgspec.convert(answer, Answer)


def _usable(of: Home, name: str) -> Answer | None:
    """Return the answer of a controller that can do its work, or None."""
    try:
        answer = _status(of, name)
    except OSError:
        return None
    return answer if _can_start(answer) else None


def _status(of: Home, name: str) -> Answer:
    """Return what a controller answers; raises OSError when there is none, PlatformError when it is not this home's."""
    answer = _ask(of, name, {"verb": "status"}, ANSWER_S)
    if answer.state.home_id not in ("", of.id):
        raise PlatformError(
            f"The controller of {name} works for a home that was deleted: its id was {answer.state.home_id}, and {of.path} has "
            f"the id {of.id}. End what it runs, then try again: {hint.line('down')}"
        )
    return answer


def _can_start(answer: Answer) -> bool:
    # A controller outlives the checkout it was started from; once that is deleted it cannot start a replica any more.
    return Path(answer.python).exists()


def _start(of: Home, name: str) -> Answer:
    """Start a controller, or wait for the one that is starting; whoever calls holds the home's lock."""
    # Asked here first, so that what is missing is said in one sentence.
    binary.find()
    connections.most()
    found = state.load(state.path(of, name))
    known = state.own(of, found) if found is not None else None
    # A home that was moved takes its controller along, which knows only the old place.
    moved = known is not None and known.home != str(of.path)
    deadline = time.monotonic() + BOOT_S
    endings = 0
    while True:
        hangs, moved = moved, False
        try:
            answer = _status(of, name)
            if _can_start(answer):
                return answer
            hangs = True
        except TimeoutError:
            hangs = True
        except OSError:
            pass  # no controller, or one that does not take orders yet
        late = time.monotonic() > deadline
        if endings == ENDINGS and (hangs or late):
            raise PlatformError(f"The controller of {name} does not answer, {ENDINGS} times over.", _log(of, name))
        if hangs or late or not standby.locked(of, name):
            # What lives is of no use: hung, stopped, without its socket or its Python. Replicas and router stay.
            endings += 1
            standby.end(of, name, END_S, known.controller if known is not None else None)
            _spawn(of, name)
            deadline = time.monotonic() + BOOT_S
        time.sleep(0.05)


def _spawn(of: Home, name: str) -> None:
    kept = ("RAY_SERVE_HAPROXY_BINARY_PATH", "PATH", "TMPDIR")
    env = {key: os.environ[key] for key in kept if key in os.environ}
    env |= {"PYTHONPATH": str(paths.ROOT), "PYTHONUNBUFFERED": "1", "LANG": "C.UTF-8"}
    standby.allow(of, name)
    try:
        done = subprocess.run(
            standby.argv(of, name),
            cwd=of.path,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
    except subprocess.TimeoutExpired as error:
        raise PlatformError(
            f"The controller of {name} did not start within {error.timeout:.0f} s.", _log(of, name)
        ) from error
    if done.returncode:
        raise PlatformError(f"The controller of {name} did not start: {done.stderr.strip()}", _log(of, name))


def _log(of: Home, name: str) -> str:
    return logs.tail(of.endpoint(name) / channel.LOG, 20)
