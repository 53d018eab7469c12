"""The long-lived process of one endpoint: `python -m runbook.platform.local.controller HOME ENDPOINT`.

It starts the router and the replicas, restarts what dies, scales, and takes orders one at a time. Killed, it leaves
router and replicas serving, and its standby adopts them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from runbook import hint
from runbook.errors import PlatformError, RunbookError
from runbook.platform.local import logs, names, process, state_dir
from runbook.platform.local.controller import adoption, channel, standby, state
from runbook.platform.local.controller.commands import Orders
from runbook.platform.local.controller.replicas import Fleet
from runbook.platform.local.controller.state import Deployment, Endpoint
from runbook.platform.local.controller.state_store import Book, say
from runbook.platform.local.haproxy.router import Router, free_port
from runbook.platform.local.process import Process
from runbook.platform.local.state_dir import Home

UP = b"up"
START_TRIES = 3
TIDY_S = 60.0
FLUSH_S = 1.0
# A router that does not answer this often, each time for so long, is restarted.
ROUTER_MISSES, ROUTER_ANSWER_S, ROUTER_EVERY_S = 3, 2.5, 0.5
PAUSE_S = 5.0
# A controller that ended by an error of its own leaves the lock to its standby after this pause.
BUG_PAUSE_S = 2.0


class Controller:
    """One endpoint's router, fleet and orders."""

    def __init__(self, of: Home, endpoint: Endpoint) -> None:
        self.home = of
        self.folder = of.endpoint(endpoint.name)
        self.sockets = state_dir.private_folder(of.runtime() / endpoint.name)
        self.router = Router(self.folder, self.sockets)
        self.book = Book(self.folder, endpoint, self.router)
        self.fleet = Fleet(self.book, self.router, self.sockets, of.path)
        self.orders = Orders(self.book, self.router, self.fleet)
        self.operation: str | None = None
        self.standby: subprocess.Popen[bytes] | None = None

    async def work(self, pipe: Any) -> None:
        """Bring the endpoint to life and keep it so, until this is cancelled.

        ``pipe`` tells a waiting starter that orders are taken. Without a starter, a router that does
        not start is tried again without end; with one, PlatformError is raised.
        """
        # The standby first: whatever ends this controller from now on, another one follows.
        chores = [asyncio.create_task(self.keep_standby())]
        try:
            await self._boot_patiently(pipe is not None)
            (self.sockets / channel.SOCKET).unlink(missing_ok=True)
            server = await asyncio.start_unix_server(
                self.serve, str(self.sockets / channel.SOCKET), limit=channel.LONGEST
            )
            if pipe is not None:
                pipe.write(UP)
                pipe.close()
            lasting = (self.keep_router(), self.tidy(), self.keep_files(), self.fleet.look_after())
            chores += [asyncio.create_task(chore) for chore in (*lasting, self.sockets_gone())]
            # A chore that ends or fails ends the controller, and the standby follows.
            done, _ = await asyncio.wait(chores, return_when=asyncio.FIRST_COMPLETED)
            server.close()
            for chore in done:
                chore.result()
        finally:
            for chore in chores:
                chore.cancel()

    async def boot(self) -> None:
        """Bring everything in the state to life again; raises PlatformError when the router cannot start."""
        self.book.follow(controller=process.identify(os.getpid()), deployments=_revived(self.book.state))
        adoption.prune(self.book, self.sockets)
        if self._router_usable():
            await self.router.reload()
        else:
            await self._start_router()
        self.fleet.resume()

    async def keep_standby(self) -> None:
        """Start another standby whenever there is none, for ever."""
        while True:
            try:
                self.standby = standby.start(self.home, self.book.state.name)
            except OSError as error:
                say("no standby", error=repr(error))
                await asyncio.sleep(PAUSE_S)
                continue
            identity = process.identify(self.standby.pid)
            if identity is not None:
                await process.ended(identity)
            say("standby ended", pid=self.standby.pid, exit_code=self.standby.wait())
            # One that ends at once must not be started without a pause.
            await asyncio.sleep(0.5)

    def end_standby(self) -> None:
        """End the standby, because this controller ends on purpose."""
        if self.standby is not None:
            self.standby.kill()
            self.standby.wait()

    async def keep_router(self) -> None:
        """Restart the router whenever it ends or does not answer any more, for ever."""
        while True:
            if self.book.state.router is not None:
                await self._until_router_ended(self.book.state.router)
            say("router ended")
            try:
                await self._start_router()
            except (PlatformError, OSError) as error:
                say("router does not start", error=str(error))
                self.book.follow(note=f"the router does not start: {error.args[0]}")
                await asyncio.sleep(PAUSE_S)

    async def keep_files(self) -> None:
        """Write the files as soon as that is possible again, for ever."""
        while True:
            await asyncio.sleep(FLUSH_S)
            if self.book.unsaved and self.book.flush():
                # A router that was started meanwhile read files that were behind.
                with contextlib.suppress(PlatformError):
                    await self.router.reload()

    async def sockets_gone(self) -> None:
        """Wait until the sockets have been removed, for example by a cleaner of temporary files.

        A controller that starts makes all of them again; this one cannot be asked for anything.
        """
        while (self.sockets / channel.SOCKET).exists():
            await asyncio.sleep(FLUSH_S)
        say("sockets are gone")

    async def tidy(self) -> None:
        """Keep the logs from growing without bound, for ever."""
        while True:
            await asyncio.sleep(TIDY_S)
            try:
                await asyncio.to_thread(logs.shorten, self.folder)
            except OSError as error:
                say("logs not shortened", error=repr(error))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one request, carry it out, and answer."""
        try:
            answer = await self._answer(json.loads(await reader.readline()))
        except Exception as error:  # the edge of the process: a bug in one order must not end what serves
            with contextlib.suppress(OSError):
                traceback.print_exc()
            answer = {
                "error": f"the controller failed: {error!r}",
                "log": traceback.format_exc(),
                "kind": "PlatformError",
            }
        # Whoever asked may be gone by now; what was asked for is done all the same.
        with contextlib.suppress(ConnectionError):
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def _answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        verb, changed = request.get("verb"), False
        if verb in self.orders.verbs:
            if self.operation is not None:
                return {
                    "error": f"{self.book.state.name} is busy with {self.operation!r}. Try again later.",
                    "kind": "Busy",
                }
            self.operation = verb
            say("order", verb=verb)
            try:
                changed = await self.orders.verbs[verb](request)
            except PlatformError as error:
                say("order failed", verb=verb, error=str(error))
                return {"error": str(error.args[0]), "log": error.log, "kind": "PlatformError"}
            finally:
                self.operation = None
        elif verb != "status":
            return {"error": f"the controller does not know the order {verb!r}", "kind": "PlatformError"}
        return {
            "changed": changed,
            "settled": self.fleet.settled(),
            "python": sys.executable,
            "state": msgspec.to_builtins(self.book.state),
        }

    async def _boot_patiently(self, awaited: bool) -> None:
        while True:
            try:
                return await self.boot()
            except PlatformError as error:
                if awaited:
                    raise
                say("not up", error=str(error))
                await asyncio.sleep(PAUSE_S)

    async def _until_router_ended(self, router: Process) -> None:
        """Wait until the router has ended; one that does not answer any more is killed."""
        ended = asyncio.create_task(process.ended(router))
        mute = asyncio.create_task(self._until_router_mute())
        try:
            await asyncio.wait({ended, mute}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                say("router hangs")
                process.kill_group(router)
            await ended
        finally:
            ended.cancel()
            mute.cancel()

    async def _until_router_mute(self) -> None:
        misses = 0
        while misses < ROUTER_MISSES:
            await asyncio.sleep(ROUTER_EVERY_S)
            try:
                async with asyncio.timeout(ROUTER_ANSWER_S):
                    await self.router.statistics()
            except (PlatformError, TimeoutError):
                misses += 1
            else:
                misses = 0

    async def _start_router(self) -> None:
        # Ended first, with whatever it left behind, or its port would not be free.
        leftovers = [p for p in (self.book.state.router, *process.strays(self._is_router)) if p is not None]
        await asyncio.to_thread(process.end, leftovers, 0)
        for attempt in range(1, START_TRIES + 1):
            recorded = self.book.state.port
            port = free_port(self.book.state.stage, recorded)
            moved = f"port {recorded} is taken by another program; the endpoint answers on {port} now"
            self.book.follow(port=port, router=None, note=moved if recorded not in (0, port) else "")
            try:
                self.book.follow(router=await self.router.start())
            except PlatformError:
                # Somebody may have taken the port between the look and the start: the next try finds another one.
                if attempt == START_TRIES:
                    raise
            else:
                say("router started", port=port, note=self.book.state.note)
                return

    def _router_usable(self) -> bool:
        router = self.book.state.router
        # A reload starts the same binary again, which may have been deleted together with its checkout.
        return router is not None and (self.sockets / "master.sock").exists() and process.executable(router).exists()

    def _is_router(self, argv: list[str]) -> bool:
        return "-S" in argv and any(a.startswith(f"{self.sockets}/master.sock") for a in argv)


def main(argv: list[str]) -> int:
    """Start the controller of one endpoint in the background; returns 0 once it takes orders, else says why not.

    With --standby this process itself waits until there is no controller, and then is the next one.
    """
    of, name = state_dir.open_home(Path(argv[0])), names.name("endpoint", argv[1])
    os.umask(0o077)
    if standby.OPTION in argv:
        return _stand_by(of, name)
    receive, send = os.pipe()
    if os.fork():
        os.close(send)
        with os.fdopen(receive, "rb") as pipe:
            answer = pipe.read()
        if answer != UP:
            print(answer.decode() or "it ended at once", file=sys.stderr)
        return 0 if answer == UP else 1
    os.close(receive)
    os.setsid()
    log = os.open(of.endpoint(name) / channel.LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    with os.fdopen(send, "wb") as pipe:
        try:
            if not standby.take_lock(of, name, wait=False):
                raise PlatformError(f"Another controller of {name} is alive. See: {hint.line('status')}")
            asyncio.run(_live(of, name, pipe))
        except RunbookError as error:
            say("not started", error=str(error))
            if not pipe.closed:
                pipe.write(str(error).encode())
            return 1
        except Exception:
            _say_bug()
            raise
    return 0


def _stand_by(of: Home, name: str) -> int:
    if not standby.take_lock(of, name, wait=True) or not standby.allowed(of, name):
        return 0  # everything was ended on purpose
    say("taking over", pid=os.getpid())
    try:
        asyncio.run(_live(of, name, None))
    except Exception:  # the edge of the process
        _say_bug()
        return 1
    return 0


def _say_bug() -> None:
    with contextlib.suppress(OSError):
        traceback.print_exc()
    time.sleep(BUG_PAUSE_S)


async def _live(of: Home, name: str, pipe: Any) -> None:
    """Be the controller until a signal says to leave; the caller holds the endpoint's lock."""
    endpoint = state.load(state.path(of, name))
    if endpoint is None:
        raise PlatformError(f"{state.path(of, name)} is missing: there is no endpoint {name} to control.")
    endpoint = state.own(of, endpoint)
    if endpoint.home != str(of.path):
        # The home was moved: what was started from its old place cannot find its files again.
        known = (endpoint.router, *(r.process for r in endpoint.replicas.values()))
        process.end([p for p in known if p is not None], 1.0)
        endpoint = replace(endpoint, home=str(of.path), replicas={}, router=None)
    controller = Controller(of, endpoint)

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    told_to_leave = asyncio.create_task(stop.wait())
    working = asyncio.create_task(controller.work(pipe))
    await asyncio.wait({told_to_leave, working}, return_when=asyncio.FIRST_COMPLETED)
    say("leaving")
    failed = working.done()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    waiting_starter = pipe is not None and not pipe.closed
    if not failed or waiting_starter:
        controller.end_standby()
    if failed:
        working.result()


def _revived(endpoint: Endpoint) -> dict[str, Deployment]:
    """Return the deployments as a new controller finds them."""
    found = dict(endpoint.deployments)
    for name, deployment in endpoint.deployments.items():
        if deployment.state != "ready" and endpoint.traffic.get(name):
            found[name] = replace(deployment, state="ready")  # people are sent to it: try again
        elif deployment.state == "creating":
            found[name] = replace(deployment, state="failed", failure="the controller ended while it was being created")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
