"""When a replica that lives and does not serve is replaced, and when it is left alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psutil
import pytest
from local_cloud import Cloud, eventually

from runbook.platform.local.controller.health import Look, Suspicion

MASTER, FIRST, SECOND = 1, 2, 3
LONGEST_S = 60
SLEEPS, RUNS, STOPPED, WAITS_FOR_DISK = "sleeping", "running", "stopped", "disk-sleep"


def look(second: int, state: str = SLEEPS, share: float = 0.0, requests: Iterable[str] | None = ()) -> Look:
    """One second in which both workers are in ``state`` and get ``share`` of a processor each."""
    return Look(
        {MASTER: SLEEPS, FIRST: state, SECOND: state},
        {FIRST: share * second, SECOND: share * second},
        None if requests is None else frozenset(requests),
    )


def replaced_after(seconds: int, see: Callable[[int], Look]) -> tuple[int, str] | None:
    """Return the first unanswered second after which the replica is replaced, and why."""
    suspicion = Suspicion(workers=2, longest_s=LONGEST_S)
    healthy = replace(see(0), states=dict.fromkeys(see(0).states, SLEEPS))
    assert suspicion.add(healthy, answered=True) == ""
    for second in range(1, seconds + 1):
        if reason := suspicion.add(see(second), answered=False):
            return second, reason
    return None


@pytest.mark.parametrize(
    ("see", "second", "reason"),
    [
        (lambda s: look(s, STOPPED), 3, "stopped by a signal"),
        (lambda s: Look({MASTER: SLEEPS}, {}, frozenset(), reachable=False), 3, "socket cannot be reached"),
        (lambda s: look(s, RUNS, 1.0, requests=["a"]), 6, "a worker without a request"),
        (lambda s: look(s, SLEEPS), 6, "a worker without a request"),
        (lambda s: look(s, RUNS, 1.0, requests=["a", "b"]), 7, "computing in one request"),
        (lambda s: look(s, SLEEPS, requests=["a", "b"]), LONGEST_S + 7, "longer than any request"),
        (lambda s: look(s, SLEEPS, requests=None), LONGEST_S + 7, "longer than any request"),
    ],
    ids=["stopped", "no socket", "spinning without a request", "stuck", "spinning", "request too long", "not Linux"],
)
def test_a_replica_that_does_not_serve_is_replaced(see: Callable[[int], Look], second: int, reason: str) -> None:
    found = replaced_after(100, see)
    assert found is not None
    assert found[0] == second and reason in found[1]


@pytest.mark.parametrize(
    "see",
    [
        lambda s: look(s, SLEEPS, requests=["a", "b"]),
        lambda s: look(s, RUNS, 1.0, requests=[f"a{s}", "b"]),
        lambda s: look(s, RUNS, 0.02, requests=["a", "b"]),
        lambda s: look(s, RUNS, 0.02, requests=["a"]),
        lambda s: look(s, WAITS_FOR_DISK, requests=["a"]),
        lambda s: look(s, RUNS, 0.1, requests=["a", "b"]),
        lambda s: Look({MASTER: SLEEPS, 10 + s // 4: SLEEPS}, {10 + s // 4: 0.0}, frozenset()),
    ],
    ids=[
        "a long request waits",
        "requests come and go",
        "a request gets no processor",
        "an idle worker gets no processor",
        "the disk is slow",
        "a busy machine slows a request",
        "a new worker is in its init",
    ],
)
def test_a_replica_that_is_only_slow_is_left_alone(see: Callable[[int], Look]) -> None:
    assert replaced_after(25, see) is None


def test_one_answer_clears_a_replica_of_what_was_seen_before() -> None:
    suspicion = Suspicion(workers=2, longest_s=LONGEST_S)
    for second in range(1, 60):
        assert suspicion.add(look(second), answered=second % 5 == 0) == ""


def test_a_stopped_worker_is_found_although_another_one_answers() -> None:
    suspicion = Suspicion(workers=2, longest_s=LONGEST_S)
    half = Look({MASTER: SLEEPS, FIRST: SLEEPS, SECOND: STOPPED}, {FIRST: 0.0, SECOND: 0.0}, frozenset())
    assert [bool(suspicion.add(half, answered=True)) for _ in range(3)] == [False, False, True]


def test_a_stopped_replica_is_replaced_and_a_busy_one_is_not_and_no_request_is_lost(cloud: Cloud) -> None:
    cloud.edit("dev", instance_count=2, request_settings={"max_concurrent_requests_per_instance": 1})
    before = cloud.serve("dev")
    os.killpg(before.replicas["r1"].process.pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(cloud.posts, "dev", 2, {"sleep": 8})
        assert eventually(lambda: "r1" not in cloud.state("dev").replicas, 50)
        assert [reply.status for reply in sending.result()] == [200, 200]
    assert before.replicas["r2"] in cloud.state("dev").ready("blue")
    assert "stopped by a signal" in (cloud.platform.home.endpoint("titanic-dev") / "controller.log").read_text()


@pytest.mark.slow
def test_a_replica_that_spins_in_a_request_is_replaced(cloud: Cloud) -> None:
    before = cloud.serve("dev")
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(cloud.post, "dev", {"spin": True})
        assert eventually(lambda: "r1" not in cloud.state("dev").replicas, 55)
        assert sending.result().status in (424, 429)
    assert not psutil.pid_exists(before.replicas["r1"].process.pid)
    assert eventually(lambda: cloud.post("dev").status == 200, 60)


@pytest.mark.slow
def test_a_replica_that_spins_outside_a_request_is_replaced(cloud: Cloud) -> None:
    before = cloud.serve("dev")
    assert cloud.post("dev", {"spin_later": True}).status == 200
    assert eventually(lambda: before.replicas["r1"] not in cloud.state("dev").replicas.values(), 60)
    assert eventually(lambda: cloud.post("dev").status == 200, 60)
