from __future__ import annotations

import bisect
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_cloud import Cloud, eventually

from runbook.errors import AnatomyError, UsageError
from runbook.platform import files
from runbook.platform.local import deployment_settings
from runbook.platform.local.controller.autoscaler import SAMPLES, Scaler
from runbook.platform.local.haproxy import config


def scaler() -> Scaler:
    return Scaler(least=3, most=6, target=50, calm_polls=20)


@pytest.mark.parametrize(("demand", "wanted"), [(0, 3), (1.5, 3), (1.51, 4), (2, 4), (2.6, 6), (3, 6), (99, 6)])
def test_replicas_are_wanted_by_the_published_formula(demand: float, wanted: int) -> None:
    one, current = scaler(), 3
    for _ in range(10):
        current = one.decide([demand] * 10, current)
    assert current == one.desired(demand) == wanted


def test_the_six_requests_of_the_article_make_six_replicas() -> None:
    # Three busy replicas and nothing queued is a utilization of 100 %, and 50 % is wanted.
    assert scaler().decide([3.0] * 10, current=3) == 6


def test_it_shrinks_only_after_twenty_calm_polls_in_a_row() -> None:
    one = scaler()
    assert [one.decide([0.0], 6) for _ in range(20)] == [6] * 19 + [3]
    assert [one.decide([0.0], 6) for _ in range(19)] == [6] * 19
    assert one.decide([3.0], 6) == 6
    assert [one.decide([0.0], 6) for _ in range(20)] == [6] * 19 + [3]


def test_a_load_at_the_maximum_ends_the_calm() -> None:
    one = scaler()
    polls = [0.0] * 15 + [50.0] + [0.0] * 20
    assert [one.decide([demand], 6) for demand in polls] == [6] * 35 + [3]


def test_it_shrinks_to_what_the_mean_of_the_calm_needs() -> None:
    one = scaler()
    assert [one.decide([2.0 if poll == 7 else 0.0], 6) for poll in range(20)] == [6] * 19 + [3]
    assert [one.decide([2.2 if poll % 2 else 1.4], 6) for poll in range(20)] == [6] * 19 + [4]


def test_one_replica_more_waits_until_the_mean_of_ten_polls_needs_it() -> None:
    one = scaler()
    assert [one.decide([1.8], 3) for _ in range(10)] == [3] * 9 + [4]
    assert [one.decide([1.8 if poll % 4 == 0 else 1.2], 3) for poll in range(100)] == [3] * 100


# Seconds of one request: as long each time, or of random length.
WORK: dict[str, Callable[[random.Random], float]] = {
    "5 ms": lambda chance: 0.005,
    "20 ms": lambda chance: 0.02,
    "about 5 ms": lambda chance: chance.expovariate(200),
}


def simulated(
    load: Callable[[float], float], polls: int, seed: int, work: Callable[[random.Random], float]
) -> list[int]:
    """Return the replicas after each poll of one second, for a Poisson load that keeps ``load(second)`` replicas busy."""
    chance, one, current, second = random.Random(seed), scaler(), 3, 0.0  # noqa: S311 - a simulation
    mean = sum(work(chance) for _ in range(1000)) / 1000
    begins, ends, found = [], [], []
    while second < polls:
        second += chance.expovariate(load(second) / mean)
        begins.append(second)
        ends.append(second + work(chance))
    ends.sort()
    for poll in range(polls):
        looks = [poll + (look + chance.random()) / SAMPLES for look in range(SAMPLES)]
        inside = [bisect.bisect(begins, at) - bisect.bisect(ends, at) for at in looks]
        # Two requests at a time in a replica, the others wait.
        current = one.decide([min(n, current) + max(0, n - 2 * current) for n in inside], current)
        found.append(current)
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
@pytest.mark.parametrize(("need", "load"), [(3, 1.25), (4, 1.75), (5, 2.25)])
def test_a_steady_load_stays_at_the_replicas_that_it_needs(
    need: int, load: float, work: Callable[[random.Random], float], seed: int
) -> None:
    found = simulated(lambda second: load, 300, seed, work)
    assert found.count(need) >= 0.9 * len(found)


@pytest.mark.parametrize("seed", range(10))
def test_a_burst_takes_three_replicas_to_six_within_two_polls(seed: int) -> None:
    found = simulated(lambda second: 0.5 if second < 10 else 6.0, 13, seed, WORK["20 ms"])
    assert (found[9], found[11]) == (3, 6)


def test_one_busy_look_among_many_does_not_start_a_replica() -> None:
    assert scaler().decide([0.0] * 9 + [6.0], current=3) == 3
    assert scaler().decide([], current=5) == 5


@given(st.lists(st.lists(st.floats(0, 1000), max_size=10), max_size=60), st.integers(1, 6), st.integers(0, 6))
def test_it_never_leaves_its_limits(polls: list[list[float]], least: int, more: int) -> None:
    one, current = Scaler(least, least + more, 50, 3), least
    for samples in polls:
        current = one.decide(samples, current)
        assert least <= current <= least + more


@given(st.lists(st.integers(0, 100), min_size=1, max_size=4).filter(lambda p: 0 < sum(p) <= 100))
def test_every_percent_of_traffic_is_one_number_in_a_hundred(percents: list[int]) -> None:
    rows = config.traffic_ranges({f"d{n}": percent for n, percent in enumerate(percents)})
    numbers = [n for bounds, _ in rows for n in range(int(bounds.split(":")[0]), int(bounds.split(":")[1]) + 1)]
    assert numbers == list(range(sum(percents)))


def test_prod_obeys_every_value_of_its_deployment_file() -> None:
    found = deployment_settings.read(files.deployment("prod"), "prod", Path("code"), Path("models/Tiny/1"))
    assert (found.least, found.most, found.target, found.polling_interval, found.calm_polls) == (3, 6, 50, 1, 20)
    assert (found.request_timeout_ms, found.queue_wait_ms, found.concurrency, found.workers) == (60000, 180000, 2, 2)
    assert (found.code, found.entry_script, found.autoscaled) == ("code", "score.py", True)


def test_dev_is_one_replica_that_does_not_scale() -> None:
    found = deployment_settings.read(files.deployment("dev"), "dev", Path("code"), Path("models/Tiny/1"))
    assert (found.least, found.most, found.autoscaled) == (1, 1, False)
    assert found.queue_wait_ms == found.request_timeout_ms


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("request_settings", {"request_timeout_ms": 0}),
        ("request_settings", {"max_concurrent_requests_per_instance": "two"}),
        ("environment_variables", {"WORKER_COUNT": 2}),
        ("environment_variables", {"WORKER_COUNT": "0"}),
        ("scale_settings", {"type": "target_utilization", "min_instances": 3, "max_instances": 2}),
        ("scale_settings", {"type": "target_utilization", "target_utilization_percentage": 0}),
        ("code_configuration", {"code": "../../.."}),
    ],
)
def test_a_deployment_file_that_cannot_be_served_is_refused(key: str, value: dict[str, object]) -> None:
    with pytest.raises(AnatomyError, match="deployment/prod/deployment.yml"):
        deployment_settings.read({**files.deployment("prod"), key: value}, "prod", Path("code"), Path("models/Tiny/1"))


def test_a_test_may_shorten_the_calm_and_a_wrong_value_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNBOOK_CALM_POLLS", "3")
    assert deployment_settings.read(files.deployment("prod"), "prod", Path("c"), Path("m")).calm_polls == 3
    monkeypatch.setenv("RUNBOOK_CALM_POLLS", "0")
    with pytest.raises(UsageError, match="RUNBOOK_CALM_POLLS"):
        deployment_settings.read(files.deployment("prod"), "prod", Path("c"), Path("m"))


def test_load_brings_replicas_and_calm_takes_them_away_without_an_error(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNBOOK_CALM_POLLS", "2")
    cloud.edit("prod", scale_settings={"min_instances": 1, "max_instances": 3})
    begin = time.time()
    assert len(cloud.serve("prod").ready("blue")) == 1
    statuses: list[int] = []
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            statuses.append(cloud.post("prod", {"sleep": 0.05}).status)

    senders = [threading.Thread(target=send) for _ in range(3)]
    for sender in senders:
        sender.start()
    try:
        assert eventually(lambda: len(cloud.state("prod").ready("blue")) == 3)
    finally:
        stop.set()
        for sender in senders:
            sender.join()
    assert eventually(lambda: len(cloud.state("prod").replicas) == 1)
    assert set(statuses) == {200}
    assert cloud.post("prod").status == 200
    wanted = [w for _, w, _ in cloud.platform.replica_history("prod", "blue", begin) or []]
    assert (wanted[0], max(wanted), wanted[-1]) == (1, 3, 1)
