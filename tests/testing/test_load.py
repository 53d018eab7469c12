from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

import psutil
import pytest
from aiohttp import web
from serving import serving

from runbook.errors import UsageError
from runbook.testing import load
from runbook.testing.load import Body, Phase, Receiver

BODY = Body(sent=b"{}", accepts=lambda content: content == b"right")


async def right(_: web.Request) -> web.Response:
    return web.Response(body=b"right")


def test_every_planned_request_is_ok_or_counted_under_one_kind_of_error() -> None:
    served = 0

    async def mixed(_: web.Request) -> web.Response:
        nonlocal served
        served += 1
        if served % 10 == 0:
            return web.Response(status=503)
        return web.Response(body=b"wrong" if served % 10 == 5 else b"right")

    with serving(mixed) as uri:
        found = load.run(Receiver(uri, {}), [Phase("sustained", 1.0, 100, BODY)]).phase("sustained")
    assert found.planned == found.sent == found.answered == served
    assert found.errors == {"status 503": served // 10, "wrong body": (served + 5) // 10}
    assert found.ok == served - sum(found.errors.values())
    assert found.error_percent == pytest.approx(100 * (served - found.ok) / served)


def test_an_answer_that_carries_the_id_of_another_request_is_an_error() -> None:
    heard: list[str] = []

    async def mixes_up(request: web.Request) -> web.Response:
        heard.append(request.headers["x-ms-client-request-id"])
        return web.Response(body=b"right", headers={"x-ms-client-request-id": heard[0]})

    with serving(mixes_up) as uri:
        found = load.run(Receiver(uri, {}), [Phase("sustained", 0.5, 40, BODY)]).phase("sustained")
    assert len(set(heard)) == len(heard) == found.answered
    assert found.errors == {"answer to another request": found.answered - 1}


def test_a_load_says_what_kept_this_machine_busy_and_what_to_do_when_it_was_late() -> None:
    with serving(right) as uri:
        result = load.run(Receiver(uri, {}), [Phase("sustained", 0.5, 40, BODY)])
    assert result.machine.programs[psutil.Process().name()] > 0
    assert str(result.machine) in result.after_lag
    assert "run this step again" in result.after_lag


def test_phases_are_sent_in_order_and_a_warm_up_is_marked_as_not_counted() -> None:
    phases = [
        Phase("warm-up", 0.3, 50, BODY, counted=False),
        Phase("left out", 0, 50, BODY),
        Phase("calm", 0.5, 40, BODY),
    ]
    with serving(right) as uri:
        result = load.run(Receiver(uri, {}), phases)
    assert [(p.name, p.counted) for p in result.phases] == [("warm-up", False), ("calm", True)]
    assert list(result.table()["phase"]) == ["warm-up (not counted)", "calm"]
    assert result.phase("left out").planned == 0
    assert result.planned == result.phase("calm").planned
    assert result.phase("left out").latency.p99_ms is None
    assert sum(result.timeline()["requests"]) == sum(p.planned for p in result.phases)


def test_a_phase_without_requests_waits_its_time_in_silence() -> None:
    with serving(right) as uri:
        result = load.run(Receiver(uri, {}), [Phase("calm", 0.7, 0, BODY)])
    assert result.phase("calm").planned == 0
    assert result.phase("calm").error_percent is None
    assert result.seconds >= 0.7


def test_one_stall_of_the_endpoint_delays_every_request_that_was_due_meanwhile() -> None:
    served = 0

    async def stalls_once(_: web.Request) -> web.Response:
        nonlocal served
        served += 1
        if served == 30:
            time.sleep(0.6)  # blocks the whole server, as a garbage collection or a restart would
        return web.Response(body=b"right")

    with serving(stalls_once) as uri:
        found = load.run(Receiver(uri, {}), [Phase("sustained", 1.5, 100, BODY)]).phase("sustained")
    # A closed loop would have sent one slow request; 100 a second for 0.6 s makes some sixty.
    assert found.ok == found.planned
    assert found.latency.p90_ms is not None and found.latency.p90_ms > 150
    assert found.latency.max_ms is not None and found.latency.max_ms >= 590


def test_a_stall_of_the_generator_itself_counts_as_latency_and_is_reported_as_lag() -> None:
    judged = 0

    def slow_once(content: bytes) -> bool:
        nonlocal judged
        judged += 1
        if judged == 30:
            time.sleep(0.6)
        return content == b"right"

    with serving(right) as uri:
        phase = Phase("sustained", 1.5, 100, Body(b"{}", slow_once))
        found = load.run(Receiver(uri, {}), [phase]).phase("sustained")
    assert found.lag.p90_ms is not None and found.lag.p90_ms > 150
    assert found.latency.p90_ms is not None and found.latency.p90_ms >= found.lag.p90_ms


def test_a_timeout_is_counted_by_kind_and_with_the_time_it_took() -> None:
    async def never(_: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return web.Response()

    with serving(never) as uri:
        found = load.run(Receiver(uri, {}, timeout_seconds=0.3), [Phase("sustained", 0.5, 20, BODY)]).phase("sustained")
    assert set(found.errors) <= {"timeout", load.UNFINISHED}
    assert found.errors["timeout"] >= found.planned // 2 > 0
    assert found.ok == found.answered == 0
    assert found.latency.p50_ms is not None and found.latency.p50_ms >= 290


def test_a_receiver_that_nobody_listens_at_is_counted_as_connection_errors() -> None:
    with serving(right) as uri:
        pass
    found = load.run(Receiver(uri, {}), [Phase("sustained", 0.5, 20, BODY)]).phase("sustained")
    assert found.errors == {"connection": found.planned}
    assert found.planned > 0


def test_a_load_ends_at_the_latest_one_timeout_after_its_last_arrival() -> None:
    async def drips(request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse()
        await reply.prepare(request)
        for _ in range(100):
            await reply.write(b".")
            await asyncio.sleep(0.1)
        return reply

    with serving(drips) as uri:
        result = load.run(Receiver(uri, {}, timeout_seconds=0.5), [Phase("sustained", 0.5, 20, BODY)])
    assert 0.5 <= result.seconds < 3
    assert result.phase("sustained").ok == 0


def test_requests_in_flight_are_bounded_and_the_refused_ones_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once, most = 0, 0

    async def slow(_: web.Request) -> web.Response:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.5)
        at_once -= 1
        return web.Response(body=b"right")

    monkeypatch.setattr(load, "MAX_IN_FLIGHT", 5)
    with serving(slow) as uri:
        found = load.run(Receiver(uri, {}), [Phase("sustained", 0.4, 100, BODY)]).phase("sustained")
    assert most == 5
    assert found.errors == {load.NOT_SENT: found.planned - 5}
    assert found.sent == found.ok == 5


def test_requests_sent_together_arrive_at_the_same_instant() -> None:
    with serving(right) as uri:
        found = load.run(Receiver(uri, {}), [Phase("burst", 1.0, 100, BODY, together=25)]).phase("burst")
    assert found.planned % 25 == 0
    assert found.planned == found.ok > 0


def test_the_same_seed_sends_the_same_requests_at_the_same_moments() -> None:
    with serving(right) as uri:
        phases = [Phase("sustained", 0.5, 60, BODY)]
        counts = [load.run(Receiver(uri, {}), phases, seed=seed).phase("sustained").planned for seed in (3, 3, 4, 5, 6)]
    assert counts[0] == counts[1]
    assert len(set(counts)) > 1


def test_the_key_and_the_pin_are_sent_and_the_key_is_never_shown() -> None:
    heard: list[str] = []

    async def listens(request: web.Request) -> web.Response:
        heard.append(request.headers["Authorization"] + " " + request.headers["azureml-model-deployment"])
        return web.Response(body=b"right")

    with serving(listens) as uri:
        receiver = Receiver(uri, {"Authorization": "Bearer hush", "azureml-model-deployment": "green"})
        load.run(receiver, [Phase("sustained", 0.3, 20, BODY)])
    assert set(heard) == {"Bearer hush green"}
    assert "hush" not in repr(receiver)


def test_a_redirect_is_not_followed() -> None:
    async def elsewhere(_: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": "http://example.invalid/score"})

    with serving(elsewhere) as uri:
        found = load.run(Receiver(uri, {}), [Phase("sustained", 0.3, 20, BODY)]).phase("sustained")
    assert found.errors == {"status 307": found.planned}


def test_connections_are_reused_unless_asked_otherwise() -> None:
    ports: set[int] = set()

    async def listens(request: web.Request) -> web.Response:
        assert request.transport is not None
        ports.add(request.transport.get_extra_info("peername")[1])
        return web.Response(body=b"right")

    with serving(listens) as uri:
        kept = load.run(Receiver(uri, {}), [Phase("sustained", 0.5, 60, BODY)]).phase("sustained")
        reused = len(ports)
        ports.clear()
        fresh = load.run(Receiver(uri, {}, reuse_connections=False), [Phase("sustained", 0.5, 60, BODY)])
    assert reused < kept.planned / 2
    assert len(ports) == fresh.phase("sustained").planned


@pytest.mark.parametrize(
    "uri", ["http://192.0.2.1/score", "https://example.invalid/score", "http://localhost.example/s"]
)
def test_a_receiver_that_is_not_this_machine_is_refused_before_anything_is_sent(uri: str) -> None:
    with pytest.raises(UsageError, match="not this machine"):
        load.run(Receiver(uri, {}), [Phase("sustained", 1, 10, BODY)])


def test_a_remote_receiver_is_accepted_when_it_is_allowed() -> None:
    found = load.run(Receiver("http://host.invalid/score", {}), [], allow_remote=True)
    assert found.phases == ()


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        (Phase("long", load.MAX_SECONDS + 1, 1, BODY), "would take 901 s"),
        (Phase("many", 600, 1000, BODY), "600000 requests"),
        (Phase("fast", 1, load.MAX_REQUESTS_PER_SECOND + 1, BODY), "2001 requests per second"),
        (Phase("odd", 1, 1, BODY, together=0), "0 together"),
    ],
)
def test_a_load_above_the_stated_maximum_is_refused(phase: Phase, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load.run(Receiver("http://127.0.0.1:9/score", {}), [phase])


def test_no_phase_sends_nothing_and_measures_nothing() -> None:
    result = load.run(Receiver("http://127.0.0.1:9/score", {}), [])
    assert result.phases == ()
    assert result.planned == 0
    assert result.error_percent is None
    assert list(result.errors().columns) == ["phase", "kind", "requests"]
    assert list(result.table().columns)[:3] == ["phase", "requests", "errors"]
    assert result.table().empty and result.timeline().empty


def test_a_load_runs_inside_a_running_event_loop_as_in_a_notebook() -> None:
    async def notebook(uri: str) -> int:
        return load.run(Receiver(uri, {}), [Phase("sustained", 0.2, 50, BODY)]).phase("sustained").ok

    with serving(right) as uri:
        assert asyncio.run(notebook(uri)) > 0


def test_an_interrupted_load_stops_sending() -> None:
    served = 0

    async def counts(_: web.Request) -> web.Response:
        nonlocal served
        served += 1
        return web.Response(body=b"right")

    with serving(counts) as uri:
        began = time.monotonic()
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            load.run(Receiver(uri, {}), [Phase("sustained", 60, 50, BODY)])
        assert time.monotonic() - began < 10
        sent = served
        time.sleep(0.5)
        assert served == sent > 0
