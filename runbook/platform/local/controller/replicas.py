"""Keeps as many replicas of every deployment alive as are expected, and changes that number with the load."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections import defaultdict
from collections.abc import Awaitable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from runbook.errors import PlatformError
from runbook.platform.local import logs, process, state_dir
from runbook.platform.local.controller import health, replica
from runbook.platform.local.controller.autoscaler import Scaler, polls
from runbook.platform.local.controller.backoff import Backoff
from runbook.platform.local.controller.replica import ReplicaKilled
from runbook.platform.local.controller.state import Deployment, Replica
from runbook.platform.local.controller.state_store import Book, say
from runbook.platform.local.haproxy.router import Router
from runbook.platform.local.process import Process

# A replica that exits by itself within this many seconds of being ready counts as a failed start.
TOO_SOON_S = 10.0
# How often a new deployment starts a replica again that a signal ended.
KILLED_TRIES = 5
LOOK_AFTER_S = 1.0
LOG_LINES = 100


class Fleet:
    """The replicas of one endpoint."""

    def __init__(self, book: Book, router: Router, sockets: Path, state_folder: Path) -> None:
        self.book, self.router, self.sockets, self.home = book, router, sockets, state_folder
        self.wanted: dict[str, int] = {}
        # By revision, because two deployments may have the same name one after the other.
        self._launching: defaultdict[int, int] = defaultdict(int)
        self._joining: defaultdict[int, int] = defaultdict(int)
        self._backoff: defaultdict[int, Backoff] = defaultdict(Backoff)
        self._scaling: set[int] = set()
        # By replica: what is being watched, and the children of this process, whose exit codes can be read.
        self._watched: set[str] = set()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def settled(self) -> bool:
        """Tell whether every deployment has what it wants, or has shown that it cannot get it now."""
        deployments = [d for d in self.book.state.deployments.values() if d.state == "ready"]
        return all(self._serves(d) or self._backoff[d.revision].lasting for d in deployments)

    def _serves(self, deployment: Deployment) -> bool:
        # A replica that was found dead is started a moment later, so "nothing starts" alone does not mean that one serves.
        starting = self._launching[deployment.revision] + self._joining[deployment.revision]
        return not starting and len(self.book.state.ready(deployment.name)) > 0

    def resume(self) -> None:
        """Look after every ready deployment again, once the router knows the replicas that were kept."""
        for deployment in self.book.state.deployments.values():
            if deployment.state == "ready":
                self.keep(deployment)

    def keep(self, deployment: Deployment) -> None:
        """From now on keep this deployment at its expected number of replicas; it must be ready in the book."""
        ready = self.book.state.ready(deployment.name)
        self._backoff[deployment.revision].lived()
        self.wanted[deployment.name] = max(deployment.serving.least, min(deployment.serving.most, len(ready)))
        self._look_after(deployment)

    async def look_after(self) -> None:
        """Give every ready deployment what it lacks, once a second, for ever.

        Deaths and starts are acted on at once elsewhere. This finds what is left undone when such a
        piece of work ended in an error of its own.
        """
        while True:
            await asyncio.sleep(LOOK_AFTER_S)
            for deployment in self.book.state.deployments.values():
                if self.book.current(deployment) and deployment.name in self.wanted:
                    self._look_after(deployment)

    def _look_after(self, deployment: Deployment) -> None:
        for one in self.book.state.ready(deployment.name):
            if one.id not in self._watched:
                self._run(self._watch(one, deployment, time.monotonic()))
        self.want(deployment, self.wanted[deployment.name])
        if deployment.serving.autoscaled and deployment.revision not in self._scaling:
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
        starts = [self._start_again(deployment) for _ in range(deployment.serving.least)]
        tasks = [asyncio.create_task(start) for start in starts]
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

    async def _start_again(self, deployment: Deployment) -> Replica:
        backoff = Backoff()
        while True:
            try:
                return await self._start(deployment)
            except ReplicaKilled as error:
                say("killed while starting", deployment=deployment.name, error=str(error))
                backoff.killed()
                if backoff.kills >= KILLED_TRIES:
                    raise
                await asyncio.sleep(backoff.pause_s)

    async def _start(self, deployment: Deployment) -> Replica:
        number = self.book.state.started + 1
        socket = self.sockets / f"r{number}.sock"
        log = self.book.folder / "logs" / f"{deployment.name}.log"
        where = f"{self.book.state.name}, deployment {deployment.name}"
        try:
            state_dir.private_folder(log.parent)
            begin = log.stat().st_size if log.exists() else 0
            child = replica.start(deployment.serving, socket, self.home, log)
        except OSError as error:
            raise PlatformError(f"{where}: no replica started: {error}") from error
        identity = process.identify(child.pid) or Process(child.pid, "gone")
        one = Replica(f"r{number}", deployment.name, deployment.revision, identity, str(socket), "starting")
        self._children[one.id] = child
        self.book.follow(started=number, replicas={**self.book.state.replicas, one.id: one})
        try:
            await replica.ready(child, socket)
        except PlatformError as error:
            await self._end(one, 0)
            raise type(error)(f"{where}: {error.args[0]}", logs.tail(log, LOG_LINES, begin)) from error
        except BaseException:
            await self._end(one, 0)
            raise
        return one

    async def _launch(self, deployment: Deployment) -> None:
        revision, one = deployment.revision, None
        failure: PlatformError | None = None
        try:
            await asyncio.sleep(self._backoff[revision].pause_s)
            if self.book.current(deployment):
                one = await self._start(deployment)
        except PlatformError as error:
            failure = error
        finally:
            self._launching[revision] -= 1

        if isinstance(failure, ReplicaKilled):
            self._killed(deployment, failure)
        elif failure is not None:
            self._failed(deployment, failure)
        elif one is not None and not self.book.current(deployment):
            await self._end(one, 0)
        elif one is not None:
            await self._admit(replace(one, state="ready"), deployment)

    async def _admit(self, one: Replica, deployment: Deployment) -> None:
        since = time.monotonic()
        self._watched.add(one.id)
        self.book.put_replica(one)
        if len(self.book.state.ready(one.deployment)) >= deployment.serving.least:
            self.book.put_deployment(replace(self.book.state.deployments[one.deployment], failure=""))
        self._joining[one.revision] += 1
        try:
            await self._tell_router(one, self.router.add(one, deployment.serving))
        finally:
            self._joining[one.revision] -= 1
            self._watched.discard(one.id)
        say("ready", replica=one.id, deployment=one.deployment, pid=one.process.pid)
        self.book.note(one.deployment, self.wanted[one.deployment])
        await self._watch(one, deployment, since)

    async def _watch(self, one: Replica, deployment: Deployment, since: float) -> None:
        self._watched.add(one.id)
        try:
            await self._until_ended(one, deployment)
        finally:
            self._watched.discard(one.id)
        child = self._children.pop(one.id, None)
        # Only the controller that started a replica learns its exit code.
        code = child.poll() if child is not None else None
        found = self.book.state.replicas.get(one.id)
        if found is None or found.state == "draining":
            return  # ended on purpose

        lived_s = round(time.monotonic() - since, 1)
        say("replica ended", replica=one.id, deployment=one.deployment, lived_s=lived_s, exit_code=code)
        self.book.forget_replica(one.id)
        process.kill_group(one.process)
        Path(one.socket).unlink(missing_ok=True)
        await self._tell_router(one, self.router.remove(one))

        if not self.book.current(deployment):
            return
        if lived_s >= TOO_SOON_S:
            self.want(deployment, self.wanted[one.deployment])
        elif code is None or replica.ended_by_signal(code):
            self._killed(deployment, PlatformError(f"replica {one.id} was ended by a signal"))
        else:
            text = f"replica {one.id} ended with exit code {code}, {lived_s} s after it was ready"
            self._failed(deployment, PlatformError(text))

    async def _until_ended(self, one: Replica, deployment: Deployment) -> None:
        """Wait until a replica has ended; one that lives and does not serve is killed."""
        serving = deployment.serving
        longest_s = serving.scoring_timeout_ms / 1000
        ended = asyncio.create_task(process.ended(one.process))
        hung = asyncio.create_task(health.hung(one.process, Path(one.socket), serving.workers, longest_s))
        try:
            await asyncio.wait({ended, hung}, timeout=TOO_SOON_S, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done() and not hung.done():
                self._backoff[one.revision].lived()
                await asyncio.wait({ended, hung}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                say("replica hangs", replica=one.id, deployment=one.deployment, reason=hung.result())
                # Closed first, or the router could send its requests to the dead replica once more.
                await self._tell_router(one, self.router.drain(one, 0))
                process.kill_group(one.process)
            await ended
        finally:
            ended.cancel()
            hung.cancel()

    async def _tell_router(self, one: Replica, command: Awaitable[None]) -> None:
        try:
            await command
        except PlatformError as error:  # it is being restarted, from files that are right about this replica already
            say("router away", replica=one.id, error=str(error))

    def _failed(self, deployment: Deployment, error: PlatformError) -> None:
        """Count a failed start, show it, and start another replica after a pause."""
        backoff = self._backoff[deployment.revision]
        backoff.failed()
        say("start failed", deployment=deployment.name, failures=backoff.failures, error=str(error))
        if self.book.current(deployment):
            found = self.book.state.deployments[deployment.name]
            self.book.put_deployment(replace(found, failure=str(error.args[0])))
            self.want(deployment, self.wanted[deployment.name])

    def _killed(self, deployment: Deployment, error: PlatformError) -> None:
        """Count a death by signal, which is no failed start, and start another replica after a pause."""
        backoff = self._backoff[deployment.revision]
        backoff.killed()
        say("killed", deployment=deployment.name, kills=backoff.kills, error=str(error))
        if self.book.current(deployment):
            self.want(deployment, self.wanted[deployment.name])

    async def _end(self, one: Replica, grace_s: float) -> None:
        # Forgotten first, so that its watcher takes the end for what it is.
        self.book.forget_replica(one.id)
        await replica.stop(one.process, Path(one.socket), grace_s)
        self._reap(one)
        if one.deployment in self.wanted:
            self.book.note(one.deployment, self.wanted[one.deployment])

    def _reap(self, one: Replica) -> None:
        child = self._children.pop(one.id, None)
        if child is not None:
            child.poll()

    async def _autoscale(self, deployment: Deployment) -> None:
        name, serving = deployment.name, deployment.serving
        scaler = Scaler(serving.least, serving.most, serving.target, serving.calm_polls)
        self._scaling.add(deployment.revision)
        try:
            async for samples in polls(lambda: self.router.demand(name), serving.polling_interval):
                if not self.book.current(deployment):
                    return
                number = scaler.decide(samples, self.wanted[name])
                if number != self.wanted[name]:
                    say("scale", deployment=name, wanted=number, demand=sum(samples) / len(samples))
                    self.want(deployment, number)
        finally:
            self._scaling.discard(deployment.revision)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            say("bug", error=repr(task.exception()))
