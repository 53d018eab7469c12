"""The controller and its standby: either may be killed at any moment, and `down` wins against both."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from local_cloud import Cloud, eventually, listening, sockets

from runbook.platform.local import process
from runbook.platform.local.controller import channel, standby
from runbook.platform.local.process import Process

NAME = "titanic-dev"


def pair(cloud: Cloud) -> tuple[Process, Process] | None:
    """The controller and its standby, or None while there are not exactly two processes."""
    main, found = cloud.state("dev").controller, standby.find(cloud.platform.home, NAME)
    if main is None or main not in found or len(found) != 2:
        return None
    return main, next(iter(found - {main}))


def log(cloud: Cloud) -> str:
    return (cloud.platform.home.endpoint(NAME) / channel.LOG).read_text()


def ours(cloud: Cloud) -> list[int]:
    """The pids of everything that runs for this cloud's home, whoever started it."""
    marks = (str(cloud.platform.home.path), str(cloud.platform.home.runtime()))
    rows = psutil.process_iter(["cmdline"])
    return [row.pid for row in rows if any(mark in word for word in row.info["cmdline"] or () for mark in marks)]


def test_a_killed_controller_comes_back_by_itself_and_replaces_what_died_meanwhile(cloud: Cloud) -> None:
    before = cloud.serve("dev")
    assert eventually(lambda: pair(cloud) is not None)
    assert before.controller
    os.kill(before.controller.pid, signal.SIGKILL)
    os.killpg(before.replicas["r1"].process.pid, signal.SIGKILL)
    # Nothing here asks the platform for anything: posts go straight to the router.
    assert eventually(lambda: cloud.post("dev").status == 200)
    assert eventually(lambda: pair(cloud) is not None)
    now, found = cloud.state("dev"), pair(cloud)
    assert process.alive(now.controller) and now.controller != before.controller
    shown = cloud.platform.status()[0]
    assert found is not None
    assert (shown.controller, shown.standby) == (found[0].pid, found[1].pid)
    assert (now.router, now.port) == (before.router, before.port)
    assert len(now.ready("blue")) == 1


def test_either_of_the_pair_may_be_killed_again_and_again(cloud: Cloud) -> None:
    cloud.serve("dev")
    for victim in (1, 0, 1, 0):
        assert eventually(lambda: pair(cloud) is not None, 60)
        found = pair(cloud)
        assert found is not None
        os.kill(found[victim].pid, signal.SIGKILL)
        assert eventually(lambda found=found: pair(cloud) not in (None, found), 60)  # type: ignore[misc]
    assert cloud.post("dev").status == 200
    assert cloud.state("dev").replicas.keys() == {"r1"}


@pytest.mark.parametrize("pause_s", [0.0, 0.05, 0.2])
def test_down_wins_against_a_standby_that_takes_over(cloud: Cloud, pause_s: float) -> None:
    before = cloud.serve("dev")
    assert before.controller
    os.kill(before.controller.pid, signal.SIGKILL)
    time.sleep(pause_s)
    cloud.platform.down()
    assert ours(cloud) == []
    assert sockets(cloud.platform.home) == []
    time.sleep(1)
    assert ours(cloud) == []
    assert cloud.state("dev").controller is None


def test_a_controller_killed_while_down_is_ending_everything_does_not_come_back(cloud: Cloud) -> None:
    before = cloud.serve("dev")
    assert before.controller
    os.kill(before.controller.pid, signal.SIGSTOP)  # it can neither leave politely nor end its standby
    cloud.platform.down()
    time.sleep(1)
    assert ours(cloud) == []


def test_a_deleted_endpoint_does_not_come_back(cloud: Cloud) -> None:
    before = cloud.serve("dev")
    assert before.controller
    os.kill(before.controller.pid, signal.SIGKILL)
    assert cloud.platform.delete_endpoint("dev").changed
    time.sleep(1)
    assert ours(cloud) == []
    assert not cloud.platform.home.endpoint(NAME).exists()


def test_a_standby_that_may_not_take_over_ends_and_changes_nothing(cloud: Cloud) -> None:
    cloud.serve("dev")
    cloud.platform.down()
    before = cloud.state("dev")
    waiting = standby.start(cloud.platform.home, NAME)
    assert waiting.wait(60) == 0
    assert cloud.state("dev") == before
    assert ours(cloud) == []


def test_a_second_controller_is_refused(cloud: Cloud) -> None:
    before = cloud.serve("dev")
    done = subprocess.run(
        standby.argv(cloud.platform.home, NAME), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1 and "Another controller of titanic-dev is alive" in done.stderr
    assert eventually(lambda: pair(cloud) is not None)
    assert cloud.state("dev").controller == before.controller


def test_a_killed_router_and_controller_both_come_back(cloud: Cloud) -> None:
    before = cloud.serve("dev")
    assert before.controller and before.router
    process.kill_group(before.router)
    os.kill(before.controller.pid, signal.SIGKILL)
    assert eventually(lambda: cloud.state("dev").router not in (None, before.router))
    assert eventually(lambda: listening(before.port))
    assert eventually(lambda: cloud.post("dev").status == 200)
    assert cloud.state("dev").port == before.port


def test_a_stopped_router_is_restarted(cloud: Cloud) -> None:
    before = cloud.serve("dev")
    assert before.router
    os.killpg(before.router.pid, signal.SIGSTOP)
    assert eventually(lambda: not process.alive(before.router), 100)
    assert eventually(lambda: process.alive(cloud.state("dev").router))
    assert eventually(lambda: cloud.post("dev").status == 200)


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="needs Linux's list of locks")
def test_a_standby_of_a_home_that_was_replaced_does_not_take_over(cloud: Cloud) -> None:
    cloud.serve("dev")
    cloud.platform.down()
    standby.allow(cloud.platform.home, NAME)
    lock = cloud.platform.home.endpoint(NAME) / standby.LOCK
    with lock.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = standby.start(cloud.platform.home, NAME)
        assert eventually(lambda: _waits_for_a_lock(waiting.pid), 60)
        lock.rename(lock.with_name("lock of the earlier home"))
        lock.write_text("")
    assert waiting.wait(60) == 0
    assert cloud.state("dev").controller is None


def _waits_for_a_lock(pid: int) -> bool:
    with open("/proc/locks", encoding="utf-8") as file:
        return any("->" in line and str(pid) in line.split() for line in file)
