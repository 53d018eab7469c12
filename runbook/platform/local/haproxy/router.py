"""Drives the HAProxy process of one endpoint: start, reload, servers at run time, traffic, statistics."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from runbook.errors import PlatformError
from runbook.platform.local import logs, process, state_dir
from runbook.platform.local.controller.state import Endpoint, Replica
from runbook.platform.local.deployment_settings import Serving
from runbook.platform.local.haproxy import binary, config, refusal
from runbook.platform.local.process import Process

PORTS = {"dev": 8601, "prod": 8602}
ACCESS_LOG, ROUTER_LOG = "access.log", "router.log"
START_S = 10.0


class Router:
    """HAProxy of one endpoint: files in ``folder``, sockets in ``sockets``; one command or restart at a time."""

    def __init__(self, folder: Path, sockets: Path) -> None:
        self.folder, self.sockets = folder, sockets
        self._turn = asyncio.Lock()
        self._texts: dict[str, str] = {}
        self._loaded: dict[str, str] = {}

    def write(self, endpoint: Endpoint) -> None:
        """Write the configuration and maps, so that a start or reload at any moment finds the newest state."""
        texts = {
            config.CONFIG: config.render(endpoint, self.sockets),
            config.TRAFFIC: config.traffic_map(endpoint),
            config.DEPLOYMENTS: config.deployments_map(endpoint),
            refusal.SCRIPT: refusal.script(),
        }
        for name, text in texts.items():
            if self._texts.get(name) != text:
                state_dir.write(self.folder / name, text.encode(), durable=False)
        self._texts = texts

    async def start(self) -> Process:
        """Start HAProxy from the written configuration; raises PlatformError with its log when it does not come up."""
        async with self._turn:
            program, version = binary.find()
            for name in ("admin.sock", "master.sock"):
                (self.sockets / name).unlink(missing_ok=True)
            log = self.folder / ROUTER_LOG
            begin = log.stat().st_size if log.exists() else 0
            loaded = self._texts
            argv = [str(program), "-W", "-S", f"{self.sockets}/master.sock,mode,600", "-f", config.CONFIG]
            child = process.spawn(argv, {"PATH": os.defpath}, self.folder, self.folder / ACCESS_LOG, log)
            identity = process.identify(child.pid)
            if identity is None or not await self._answers(child):
                if identity is not None:
                    process.kill_group(identity)
                child.wait()
                raise PlatformError(
                    f"HAProxy {version} did not start for {self.folder.name}.", logs.tail(log, 20, begin)
                )
            self._loaded = loaded
        # What changed while it started is in the files and not yet in the process.
        if self._texts != self._loaded:
            await self.reload()
        return identity

    async def reload(self) -> None:
        """Make HAProxy take the written configuration without losing a request; raises PlatformError when it refuses."""
        async with self._turn:
            before, loaded = await self._worker(), self._texts
            answer = await self._ask("reload", "master.sock", START_S)
            if not answer.startswith("Success=1"):
                raise PlatformError("HAProxy refused its new configuration and goes on with the old one.", answer)
            await self._taken_over(before)
            self._loaded = loaded

    async def drained(self, deadline_s: float) -> None:
        """Wait until the workers from before the last reload have answered everything, at most ``deadline_s`` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                # Unlike the worker's socket, the master's stays open for another command until it is told to quit.
                while _old_workers(await self._ask("show proc; quit", "master.sock")):
                    await asyncio.sleep(0.05)

    async def add(self, replica: Replica, serving: Serving) -> None:
        """Let a replica take requests."""
        name = f"d_{replica.deployment}/{replica.id}"
        async with self._turn:
            await self._ask(f"add server {name} {config.server(replica, serving)}")
            await self._ask(f"enable health {name}")
            await self._ask(f"set server {name} state ready")

    async def drain(self, replica: Replica, deadline_s: float) -> None:
        """Give a replica nothing new and wait until it has answered what it has, at most ``deadline_s`` seconds."""
        await self._ask(f"set server d_{replica.deployment}/{replica.id} state drain")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                while await self._busy(replica):
                    await asyncio.sleep(0.05)

    async def remove(self, replica: Replica) -> None:
        """Forget a replica at once; its open requests are cut off and, where nothing was answered yet, sent elsewhere."""
        name = f"d_{replica.deployment}/{replica.id}"
        async with self._turn:
            await self._ask(f"set server {name} state maint")
            await self._ask(f"shutdown sessions server {name}")
            # It can be deleted once its last session is gone; left in maintenance it is harmless, and a reload forgets it.
            for _ in range(20):
                answer = await self._ask(f"del server {name}")
                if "deleted" in answer or "No such server" in answer:
                    return
                await asyncio.sleep(0.05)

    async def set_traffic(self, endpoint: Endpoint) -> None:
        """Put the endpoint's percentages in force in one transaction."""
        async with self._turn:
            answer = await self._ask(f"prepare map {config.TRAFFIC}")
            version = answer.rpartition(" ")[2]
            for numbers, name in config.traffic_ranges(endpoint.traffic):
                await self._ask(f"add map @{version} {config.TRAFFIC} {numbers} {name}")
            answer += await self._ask(f"commit map @{version} {config.TRAFFIC}")
        if not version.isdecimal():
            raise PlatformError("HAProxy refused the traffic map.", answer)

    async def statistics(self) -> dict[tuple[str, str], dict[str, str]]:
        """Return HAProxy's statistics of backends and servers, by (backend, server)."""
        lines = (await self._ask("show stat -1 6 -1")).splitlines()
        names = lines[0].lstrip("# ").split(",") if lines else []
        rows = (line.split(",") for line in lines[1:] if "," in line)
        return {(row[0], row[1]): dict(zip(names, row, strict=False)) for row in rows}

    async def demand(self, deployment: str) -> float:
        """Return busy replicas + queued requests of one deployment, now."""
        busy = queued = 0
        for (backend, name), row in (await self.statistics()).items():
            if backend == f"d_{deployment}":
                queued += int(row["qcur"] or 0) if name == "BACKEND" else 0
                busy += int(row["scur"] or 0) > 0 if name != "BACKEND" else 0
        return busy + queued

    async def _answers(self, child: subprocess.Popen[bytes]) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                while child.poll() is None:
                    with contextlib.suppress(PlatformError):
                        await self._worker()
                        return True
                    await asyncio.sleep(0.01)
        return False

    async def _busy(self, replica: Replica) -> bool:
        row = (await self.statistics()).get((f"d_{replica.deployment}", replica.id))
        return row is not None and row["scur"] != "0"

    async def _taken_over(self, before: str) -> None:
        """Wait until commands reach the new worker: for a moment the old one may take some, and they are lost."""
        seen = 0
        try:
            async with asyncio.timeout(START_S):
                while seen < 3:
                    seen = seen + 1 if await self._worker() != before else 0
        except TimeoutError:
            raise PlatformError(f"HAProxy's old worker ({before}) does not leave its place to the new one.") from None

    async def _worker(self) -> str:
        lines = (await self._ask("show info")).splitlines()
        return next((line for line in lines if line.startswith("Pid:")), "")

    async def _ask(self, command: str, name: str = "admin.sock", deadline_s: float = 5.0) -> str:
        try:
            async with asyncio.timeout(deadline_s):
                reader, writer = await asyncio.open_unix_connection(str(self.sockets / name))
                try:
                    writer.write(command.encode() + b"\n")
                    return (await reader.read()).decode("utf-8", "replace").strip()
                finally:
                    writer.close()
        except (OSError, TimeoutError) as error:
            raise PlatformError(
                f"The router of {self.folder.name} does not answer {command.split()[0]!r} ({error!r})."
            ) from error


def free_port(stage: str, recorded: int) -> int:
    """Return the port to listen on: the recorded one while it is free, else the next free one of this stage.

    The stages take every other port, so that one stage never takes what the other prefers. Raises PlatformError when
    none of fifty is free.
    """
    for port in itertools.chain([recorded] if recorded else [], _candidates(stage)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise PlatformError(
        f"No port of {PORTS[stage]}, {PORTS[stage] + 2} ... {PORTS[stage] + 98} is free on 127.0.0.1: end what holds them."
    )


def _old_workers(answer: str) -> list[str]:
    section = answer.partition("# old workers")[2].partition("#")[0]
    return [line for line in section.splitlines() if line.strip()]


def _candidates(stage: str) -> Iterator[int]:
    return iter(range(PORTS[stage], PORTS[stage] + 100, 2))
