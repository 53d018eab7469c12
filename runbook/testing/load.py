"""Open-loop load: requests leave at times fixed beforehand, and each latency counts from the time it was due.

An endpoint that stalls therefore meets the requests it would have met in life, and all of their waiting is counted
(no coordinated omission). The generator measures its own lag beside the latency: on two shared cores it has some.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp
import numpy as np

from runbook.errors import UsageError
from runbook.modelling import request
from runbook.testing import load_results, route
from runbook.testing.load_results import LoadResult, Sample
from runbook.testing.processor_use import Meter

MAX_REQUESTS = 100_000
MAX_SECONDS = 900.0
MAX_REQUESTS_PER_SECOND = 2_000.0
MAX_IN_FLIGHT = 2_000

# The header by which a caller traces its own requests: letters, digits, hyphens and underscores, cut at 40 characters.
# x-request-id is no use for that, because the service replaces it. Source: "Request tracing" in Azure ML's page
# "Troubleshoot online endpoints deployment and scoring".
REQUEST_ID = "x-ms-client-request-id"

NOT_SENT = f"not sent: {MAX_IN_FLIGHT} requests in flight"
UNFINISHED = "unfinished at the deadline"


# A list of this size keeps a replica busy for some milliseconds, and stays far below the bound of a body.
BURST_BYTES = 95_000


def burst_rows(example: Mapping[str, float | None]) -> int:
    """Return how many copies of a request make a list of some 95 kB, at most as many as a list may have."""
    one = len(json.dumps(dict(example)))
    return max(1, min(request.MAX_ROWS, round(BURST_BYTES / one)))


@dataclass(frozen=True)
class Body:
    """What is posted, and the judge of a 200 answer's bytes."""

    sent: bytes
    accepts: Callable[[bytes], bool]


@dataclass(frozen=True)
class Phase:
    """A stretch of load: groups of ``together`` requests arrive at random (Poisson) moments, so many requests a second.

    ``seconds`` of 0 leaves the phase out, ``requests_per_second`` of 0 waits in silence; ``counted`` is False for a
    warm-up.
    """

    name: str
    seconds: float
    requests_per_second: float
    body: Body
    together: int = 1
    counted: bool = True


@dataclass(frozen=True)
class Receiver:
    """Where requests go; ``headers`` hold the key and are never shown; the timeout lasts to the last byte."""

    uri: str
    headers: Mapping[str, str] = field(repr=False)
    timeout_seconds: float = 10.0
    reuse_connections: bool = True


@dataclass(frozen=True)
class _Arrival:
    due: float
    phase: int


def run(receiver: Receiver, phases: Sequence[Phase], *, seed: int = 1, allow_remote: bool = False) -> LoadResult:
    """Send the phases one after the other and return what was measured; no phase, no request.

    Refuses with UsageError, before anything is sent, a receiver that is not this machine (unless ``allow_remote``) and
    loads above MAX_REQUESTS, MAX_SECONDS or MAX_REQUESTS_PER_SECOND. Ends at the latest one timeout after the last
    arrival. Runs in a thread of its own, because a notebook's thread already has an event loop.
    """
    phases = [p for p in phases if p.seconds > 0]
    _refuse_remote(receiver.uri, allow_remote)
    _refuse_excess(phases)
    if not phases:
        return LoadResult(began=time.time(), seconds=0.0, phases=())
    arrivals = _arrivals(phases, seed)
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=1) as thread:
        future = thread.submit(asyncio.run, _Generator(receiver, phases, arrivals, stop).run())
        try:
            return future.result()
        finally:
            # An interrupted cell must not leave a load running behind it.
            stop.set()


def _refuse_remote(uri: str, allow_remote: bool) -> None:
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"the load's receiver is {uri!r}: expected an http or https address.")
    if not route.is_loopback(parts.hostname) and not allow_remote:
        raise UsageError(
            f"the load's receiver is {parts.hostname!r}, which is not this machine: nothing was sent. "
            "Only a target whose endpoints are on another machine may send load elsewhere (allow_remote=True)."
        )


def _refuse_excess(phases: Sequence[Phase]) -> None:
    for phase in phases:
        if not 0 <= phase.requests_per_second <= MAX_REQUESTS_PER_SECOND or phase.together < 1:
            raise UsageError(
                f"phase {phase.name!r} wants {phase.requests_per_second:g} requests per second, {phase.together} "
                f"together: expected 0 to {MAX_REQUESTS_PER_SECOND:g}, at least 1 together."
            )
    seconds = sum(p.seconds for p in phases)
    requests = sum(p.seconds * p.requests_per_second for p in phases)
    if seconds > MAX_SECONDS or requests > MAX_REQUESTS:
        raise UsageError(
            f"the load would take {seconds:g} s and send {requests:g} requests: expected at most {MAX_SECONDS:g} s and "
            f"{MAX_REQUESTS}. Shorten a phase or lower its requests per second."
        )


def _arrivals(phases: Sequence[Phase], seed: int) -> list[_Arrival]:
    random = np.random.default_rng(seed)
    arrivals: list[_Arrival] = []
    began = 0.0
    for number, phase in enumerate(phases):
        groups = phase.requests_per_second * phase.seconds / phase.together
        # A Poisson process: its count over the phase is Poisson, and given the count the moments are uniform.
        moments = np.sort(random.uniform(0.0, phase.seconds, size=random.poisson(groups)))
        arrivals += [_Arrival(began + float(moment), number) for moment in moments for _ in range(phase.together)]
        began += phase.seconds
    return arrivals


def new_request_id() -> str:
    """Return an id for one request, 32 characters, so that no service has to shorten it."""
    return uuid.uuid4().hex


class _Generator:
    """The event loop's side of one load: sends arrivals when they are due and keeps one sample of each."""

    def __init__(
        self, receiver: Receiver, phases: Sequence[Phase], arrivals: Sequence[_Arrival], stop: threading.Event
    ) -> None:
        self._receiver = receiver
        self._route = route.to(receiver.uri)
        self._phases = phases
        self._arrivals = arrivals
        self._stop = stop
        self._samples: list[list[Sample]] = [[] for _ in phases]
        self._in_flight: set[asyncio.Task[None]] = set()
        self._zero = 0.0

    async def run(self) -> LoadResult:
        timeout = aiohttp.ClientTimeout(total=self._receiver.timeout_seconds)
        # limit=0: a pool that made requests wait for a connection would close the loop again.
        connector = aiohttp.TCPConnector(limit=0, force_close=not self._receiver.reuse_connections)
        headers = {"Content-Type": "application/json", **self._receiver.headers}
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session:
            # A short lead lets the loop settle before the first request is due.
            self._zero = asyncio.get_running_loop().time() + 0.05
            began = time.time() + 0.05
            meter = Meter()
            await self._send_all(session)
            await self._settle()
            machine = meter.read()
        phases = tuple(map(self._result, range(len(self._phases))))
        return LoadResult(began=began, seconds=self._now(), phases=phases, machine=machine)

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._zero

    async def _until(self, due: float) -> None:
        # Short naps notice a stop; at least one turn of the loop lets requests that are already due leave.
        while True:
            await asyncio.sleep(min(max(0.0, due - self._now()), 0.5))
            if self._now() >= due or self._stop.is_set():
                return

    async def _send_all(self, session: aiohttp.ClientSession) -> None:
        last = 0.0
        for arrival in self._arrivals:
            if arrival.due != last:
                await self._until(arrival.due)
            last = arrival.due
            if self._stop.is_set():
                return
            if len(self._in_flight) >= MAX_IN_FLIGHT:
                self._samples[arrival.phase].append(Sample(arrival.due, None, None, NOT_SENT))
                continue
            task = asyncio.create_task(self._send(session, arrival))
            self._in_flight.add(task)
            task.add_done_callback(self._in_flight.discard)
        await self._until(sum(p.seconds for p in self._phases))

    async def _settle(self) -> None:
        deadline = self._now() + self._receiver.timeout_seconds
        while self._in_flight and self._now() < deadline and not self._stop.is_set():
            await asyncio.wait(self._in_flight, timeout=min(0.5, max(0.0, deadline - self._now())))
        late = list(self._in_flight)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _send(self, session: aiohttp.ClientSession, arrival: _Arrival) -> None:
        lag = self._now() - arrival.due
        kind = UNFINISHED
        try:
            kind = await self._post(session, self._phases[arrival.phase].body)
        finally:
            self._samples[arrival.phase].append(Sample(arrival.due, self._now() - arrival.due, lag, kind))

    async def _post(self, session: aiohttp.ClientSession, body: Body) -> str:
        try:
            # No redirects: what was checked to be this machine must stay this machine.
            sent_id = {REQUEST_ID: new_request_id()}
            way = self._route
            async with session.post(
                self._receiver.uri,
                data=body.sent,
                headers=sent_id,
                allow_redirects=False,
                proxy=way.proxy,
                proxy_headers=way.proxy_headers,
                ssl=way.tls or True,
            ) as reply:
                content = await reply.read()
                status = reply.status
                answered_id = reply.headers.get(REQUEST_ID)
        except TimeoutError:
            return "timeout"
        except aiohttp.ClientPayloadError:
            return "truncated body"
        except (aiohttp.ClientError, OSError):
            return "connection"
        if status != 200:
            return load_results.status_kind(status)
        if answered_id not in (None, sent_id[REQUEST_ID]):
            return load_results.WRONG_REQUEST
        return load_results.OK if body.accepts(content) else load_results.WRONG_BODY

    def _result(self, number: int) -> load_results.PhaseResult:
        phase = self._phases[number]
        return load_results.phase_result(
            phase.name,
            self._samples[number],
            seconds=phase.seconds,
            requests_per_second=phase.requests_per_second,
            counted=phase.counted,
        )
