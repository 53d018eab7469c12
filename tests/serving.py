"""Small HTTP servers on loopback for the tests of what sends requests."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PATH = "/api/v1/service/titanic/score"


@contextmanager
def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Answer every request to a free loopback port with ``handler``, in a thread of its own; yields the scoring URI."""
    address: list[str] = []
    stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    up = threading.Event()

    async def serve() -> None:
        application = web.Application(client_max_size=1 << 20)
        application.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        address.append(f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}{PATH}")
        stop.append((asyncio.get_running_loop(), asyncio.Event()))
        up.set()
        await stop[0][1].wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert up.wait(10)
    try:
        yield address[0]
    finally:
        loop, stopped = stop[0]
        loop.call_soon_threadsafe(stopped.set)
        thread.join(10)
