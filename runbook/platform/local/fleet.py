"""Keeps as many replicas of every deployment alive as are wanted, and changes that number with the load."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from runbook.errors import PlatformError
from runbook.platform.local import home, logs, process, replica
from runbook.platform.local.book import Book, say
from runbook.platform.local.process import Process
from runbook.platform.local.router import Router
from runbook.platform.local.scaler import Scaler, polls
from runbook.platform.local.state import Deployment, Replica

# A replica that dies within this many seconds of being ready counts as a failed start.
TOO_SOON_S = 1.0
GIVE_UP_AFTER = 4
LONGEST_PAUSE_S = 30.0
LOG_LINES = 100


class Fleet:
    """The replicas of one endpoint."""

    def __init__(self, book: Book, router: Router, sockets: Path, state_folder: Path) -> None:
        self.book, self.router, self.sockets, self.home = book, router, sockets, state_folder
        self.wanted: dict[str, int] = {}
        # By revision, because two deployments may have the same name one after the other.
        self._launching: defaultdict[int, int] = defaultdict(int)
        self._joining: defaultdict[int, int] = defaultdict(int)
        self._failures: defaultdict[int, int] = defaultdict(int)
        self._tasks: set[asyncio.Task[None]] = set()

    def settled(self) -> bool:
        """Tell whether every deployment has what it wants, or has shown that it cannot get it now."""
        return all(
            not (self._launching[d.revision] + self._joining[d.revision])
            or (self._failures[d.revision] > 1 and self.book.state.ready(d.name))
            for d in self.book.state.deployments.values()
            if d.state == "ready"
        )

    def resume(self) -> None:
        """Look after every ready deployment again, once the router knows the replicas that were kept."""
        for deployment in self.book.state.deployments.values():
            if deployment.state == "ready":
                self.keep(deployment)

    def keep(self, deployment: Deployment) -> None:
        """From now on keep this deployment at its wanted number of replicas; it must be ready in the book."""
        ready = self.book.state.ready(deployment.name)
        self._failures[deployment.revision] = 0
        for one in ready:
            self._run(self._watch(one, time.monotonic()))
        self.want(deployment, max(deployment.serving.least, min(deployment.serving.most, len(ready))))
        if deployment.serving.autoscaled:
            self._run(self._autoscale(deployment))

    def want(self, deployment: Deployment, number: int) -> None:
        """Start or retire replicas until there are ``number``."""
        name, revision = deployment.name, deployment.revision
        self.wanted[name] = number
        ready = self.book.state.ready(name)
        for _ in range(number - len(ready) - self._launching[revision]):
            self._launching[revision] += 1
            self._run(self._launch(deployment))
        if leaving := [replace(one, state="draining") for one in ready[number:]]:
            self.book.put_replica(*leaving)
            for one in leaving:
                self._run(self._retire(one))
        self.book.note(name, number)

    async def raise_all(self, deployment: Deployment) -> list[Replica]:
        """Start the least number of replicas, all or none, and return them; they take no request yet."""
        tasks = [asyncio.create_task(self._start(deployment)) for _ in range(deployment.serving.least)]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        started = [r for r in results if isinstance(r, Replica)]
        failure = next((r for r in results if isinstance(r, BaseException)), None)
        if failure is not None:
            await asyncio.gather(*(self._end(one, 0) for one in started))
            raise next((r for r in results if isinstance(r, PlatformError)), failure)
        return started

    async def end(self, replicas: list[Replica], grace_s: float) -> None:
        """End replicas that the router no longer knows."""
        await asyncio.gather(*(self._end(r, grace_s) for r in replicas))

    async def _retire(self, one: Replica) -> None:
        deployment = self.book.state.deployments.get(one.deployment)
        grace = deployment.serving.scoring_timeout_ms / 1000 if deployment else 5.0
        await self._tell_router(one, self.router.drain(one, grace))
        await self._tell_router(one, self.router.remove(one))
        await self._end(one, grace)
        say("retired", replica=one.id)

    async def _start(self, deployment: Deployment) -> Replica:
        number = self.book.state.started + 1
        socket = self.sockets / f"r{number}.sock"
        log = self.book.folder / "logs" / f"{deployment.name}.log"
        home.private_folder(log.parent)
        begin = log.stat().st_size if log.exists() else 0
        try:
            child = replica.start(deployment.serving, socket, self.home, log)
        except OSError as error:
            raise PlatformError(
                f"{self.book.state.name}, deployment {deployment.name}: no replica started: {error}"
            ) from error
        identity = process.identify(child.pid) or Process(child.pid, "gone")
        one = Replica(f"r{number}", deployment.name, deployment.revision, identity, str(socket), "starting")
        self.book.commit(started=number, replicas={**self.book.state.replicas, one.id: one})
        try:
            await replica.ready(child, socket)
        except PlatformError as error:
            await self._end(one, 0)
            raise PlatformError(
                f"{self.book.state.name}, deployment {deployment.name}: {error.args[0]}",
                logs.tail(log, LOG_LINES, begin),
            ) from error
        except asyncio.CancelledError:
            await self._end(one, 0)
            raise
        return one

    async def _launch(self, deployment: Deployment) -> None:
        revision = deployment.revision
        try:
            if self._failures[revision]:
                await asyncio.sleep(min(0.25 * 2 ** self._failures[revision], LONGEST_PAUSE_S))
            one = await self._start(deployment) if self.book.current(deployment) else None
        except PlatformError as error:
            self._launching[revision] -= 1
            self._failed(deployment, error)
            return
        self._launching[revision] -= 1
        if one is not None and not self.book.current(deployment):
            await self._end(one, 0)
        elif one is not None:
            await self._admit(replace(one, state="ready"), deployment)

    async def _admit(self, one: Replica, deployment: Deployment) -> None:
        since = time.monotonic()
        self.book.put_replica(one)
        self.book.put_deployment(replace(deployment, failure=""))
        self._joining[one.revision] += 1
        await self._tell_router(one, self.router.add(one, deployment.serving))
        self._joining[one.revision] -= 1
        say("ready", replica=one.id, deployment=one.deployment, pid=one.process.pid)
        self.book.note(one.deployment, self.wanted[one.deployment])
        await self._watch(one, since)

    async def _watch(self, one: Replica, since: float) -> None:
        await process.ended(one.process)
        found = self.book.state.replicas.get(one.id)
        if found is None or found.state == "draining":
            return  # ended on purpose
        say("replica ended", replica=one.id, deployment=one.deployment, lived_s=round(time.monotonic() - since, 1))
        self.book.forget_replica(one.id)
        process.kill_group(one.process)
        Path(one.socket).unlink(missing_ok=True)
        await self._tell_router(one, self.router.remove(one))
        deployment = self.book.state.deployments.get(one.deployment)
        if deployment is None or deployment.revision != one.revision:
            return
        if time.monotonic() - since < TOO_SOON_S:
            self._failed(deployment, PlatformError(f"replica {one.id} ended right after its start"))
            return
        self._failures[deployment.revision] = 0
        self.want(deployment, self.wanted[deployment.name])

    async def _tell_router(self, one: Replica, command: Awaitable[None]) -> None:
        try:
            await command
        except PlatformError as error:  # it is being restarted, from files that are right about this replica already
            say("router away", replica=one.id, error=str(error))

    def _failed(self, deployment: Deployment, error: PlatformError) -> None:
        name, revision = deployment.name, deployment.revision
        self._failures[revision] += 1
        say("start failed", deployment=name, failures=self._failures[revision], error=str(error))
        if not self.book.current(deployment):
            return
        hopeless = self._failures[revision] >= GIVE_UP_AFTER and not self.book.state.ready(name)
        self.book.put_deployment(
            replace(deployment, state="failed" if hopeless else "ready", failure=str(error.args[0]))
        )
        if hopeless:
            say("gave up", deployment=name)
        else:
            self.want(deployment, self.wanted[name])

    async def _end(self, one: Replica, grace_s: float) -> None:
        # Forgotten first, so that its watcher takes the end for what it is.
        self.book.forget_replica(one.id)
        await replica.stop(one.process, Path(one.socket), grace_s)
        if one.deployment in self.wanted:
            self.book.note(one.deployment, self.wanted[one.deployment])

    async def _autoscale(self, deployment: Deployment) -> None:
        name, serving = deployment.name, deployment.serving
        scaler = Scaler(serving.least, serving.most, serving.target, serving.calm_polls)
        async for samples in polls(lambda: self.router.demand(name), serving.polling_interval):
            if not self.book.current(deployment):
                return
            number = scaler.decide(samples, self.wanted[name])
            if number != self.wanted[name]:
                say("scale", deployment=name, wanted=number, demand=sum(samples) / len(samples))
                self.want(deployment, number)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            say("bug", error=repr(task.exception()))
