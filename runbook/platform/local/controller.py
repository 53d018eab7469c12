"""The long-lived process of one endpoint: `python -m runbook.platform.local.controller HOME ENDPOINT`.

It starts the router and the replicas, restarts what dies, scales, and takes orders one at a time. Killed, it leaves
router and replicas serving, and the next one adopts them.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from runbook import hint
from runbook.errors import PlatformError, RunbookError
from runbook.platform.local import adoption, channel, home, logs, names, process, state
from runbook.platform.local.book import Book, say
from runbook.platform.local.fleet import Fleet
from runbook.platform.local.home import Home
from runbook.platform.local.orders import Orders
from runbook.platform.local.router import Router, free_port
from runbook.platform.local.state import Deployment, Endpoint

UP = b"up"
START_TRIES = 3
TIDY_S = 60.0


class Controller:
    """One endpoint's router, fleet and orders."""

    def __init__(self, of: Home, endpoint: Endpoint) -> None:
        self.folder = of.endpoint(endpoint.name)
        self.sockets = home.private_folder(of.runtime() / endpoint.name)
        self.router = Router(self.folder, self.sockets)
        self.book = Book(self.folder, endpoint, self.router)
        self.fleet = Fleet(self.book, self.router, self.sockets, of.path)
        self.orders = Orders(self.book, self.router, self.fleet)
        self.operation: str | None = None

    async def boot(self) -> None:
        """Bring everything in the state to life again; raises PlatformError when the router cannot start."""
        self.book.commit(controller=process.identify(os.getpid()), deployments=_revived(self.book.state))
        adoption.prune(self.book, self.sockets)
        if self._router_usable():
            await self.router.reload()
        else:
            await self._start_router()
        self.fleet.resume()

    async def keep_router(self) -> None:
        """Restart the router whenever it ends, for ever."""
        while True:
            if self.book.state.router is not None:
                await process.ended(self.book.state.router)
            say("router ended")
            try:
                await self._start_router()
            except PlatformError as error:
                say("router does not start", error=str(error))
                self.book.commit(note=f"the router does not start: {error.args[0]}")
                await asyncio.sleep(5)

    async def tidy(self) -> None:
        """Keep the logs from growing without bound, for ever."""
        while True:
            await asyncio.sleep(TIDY_S)
            await asyncio.to_thread(logs.shorten, self.folder)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one request, carry it out, and answer."""
        try:
            answer = await self._answer(json.loads(await reader.readline()))
        except Exception as error:  # the edge of the process: a bug in one order must not end what serves
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

    async def _start_router(self) -> None:
        # Ended first, with whatever it left behind, or its port would not be free.
        leftovers = [p for p in (self.book.state.router, *process.strays(self._is_router)) if p is not None]
        await asyncio.to_thread(process.end, leftovers, 0)
        for attempt in range(1, START_TRIES + 1):
            recorded = self.book.state.port
            port = free_port(self.book.state.stage, recorded)
            moved = f"port {recorded} is taken by another program; the endpoint answers on {port} now"
            self.book.commit(port=port, router=None, note=moved if recorded not in (0, port) else "")
            try:
                self.book.commit(router=await self.router.start())
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
    """Start the controller of one endpoint in the background; returns 0 once it takes orders, else says why not."""
    of, name = home.open_home(Path(argv[0])), names.name("endpoint", argv[1])
    os.umask(0o077)
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
            asyncio.run(_live(of, name, pipe))
        except RunbookError as error:
            say("not started", error=str(error))
            if not pipe.closed:
                pipe.write(str(error).encode())
            return 1
    return 0


async def _live(of: Home, name: str, pipe: Any) -> None:
    lock = os.open(of.endpoint(name) / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PlatformError(f"Another controller of {name} is alive. See: {hint.line('status')}") from None
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
    await controller.boot()
    (controller.sockets / channel.SOCKET).unlink(missing_ok=True)
    server = await asyncio.start_unix_server(
        controller.serve, str(controller.sockets / channel.SOCKET), limit=channel.LONGEST
    )
    pipe.write(UP)
    pipe.close()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # A chore never ends by itself: one that fails ends the controller, and the next verb starts another.
    chores = [asyncio.create_task(work) for work in (stop.wait(), controller.keep_router(), controller.tidy())]
    done, _ = await asyncio.wait(chores, return_when=asyncio.FIRST_COMPLETED)
    say("leaving")
    server.close()
    for chore in done:
        chore.result()


def _revived(endpoint: Endpoint) -> dict[str, Deployment]:
    """Return the deployments as a new controller finds them."""
    found = dict(endpoint.deployments)
    for name, deployment in endpoint.deployments.items():
        if deployment.state == "creating":
            found[name] = replace(deployment, state="failed", failure="the controller ended while it was being created")
        elif deployment.state == "failed" and endpoint.traffic.get(name):
            found[name] = replace(deployment, state="ready")  # people are sent to it: try again
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
