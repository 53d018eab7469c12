"""Ends every process of a home and proves it; shows what lives."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from runbook.errors import PlatformError
from runbook.platform.local import process
from runbook.platform.local.controller import standby, state
from runbook.platform.local.controller.state import Endpoint
from runbook.platform.local.process import Process
from runbook.platform.local.state_dir import Home

GRACE_S = 5.0


@dataclass(frozen=True)
class EndpointStatus:
    """What one endpoint runs now, for a person to read; a pid is None for what does not live."""

    name: str
    stage: str
    scoring_uri: str
    controller: int | None
    standby: int | None
    router: int | None
    traffic: Mapping[str, int]
    deployments: tuple[DeploymentStatus, ...]
    note: str

    def __str__(self) -> str:
        controllers = f"controller {self.controller}, its standby {self.standby}"
        parts = [f"{self.name} at {self.scoring_uri}: {controllers}, router {self.router}"]
        parts += [str(d) + f", {self.traffic.get(d.name, 0)} % of traffic" for d in self.deployments]
        return "; ".join(parts + ([self.note] if self.note else []))


@dataclass(frozen=True)
class DeploymentStatus:
    """What one deployment runs now."""

    name: str
    model_version: str
    state: str
    failure: str
    replicas: tuple[int, ...]

    def __str__(self) -> str:
        pids = " ".join(map(str, self.replicas)) or "none"
        failure = f" ({self.failure})" if self.failure else ""
        return f"{self.name} {self.state}{failure}, model version {self.model_version}, replicas {pids}"


def down(of: Home) -> list[str]:
    """End every process of this home, keep its state, and return what was ended.

    Raises PlatformError with the pids when a process, socket or listening port of ours is left.
    """
    with of.lock("end everything"):
        # What a deleted home at the same place left alive has sockets, and no folder.
        folders = [*of.endpoints.glob("*"), *of.runtime().glob("*")]
        endpoints = sorted({folder.name for folder in folders if folder.is_dir()})
        lines = [line for name in endpoints for line in stop_endpoint(of, name)]
        with contextlib.suppress(OSError):
            of.runtime().rmdir()
        return lines


def stop_endpoint(of: Home, name: str) -> list[str]:
    """End every process of one endpoint, as ``down`` does for all; whoever calls holds the home's lock."""
    lines = []
    try:
        known = _known(of, name)
    except PlatformError as error:
        # What runs can be found without the state, by its command line.
        known, lines = None, [f"{name}: {error.args[0]}"]
    sockets = of.runtime() / name
    # The controllers first: they would replace what ends after them.
    main = known.controller if known is not None else None
    controllers, surviving = standby.end(of, name, GRACE_S, main)
    rest = _rest(known, sockets)
    left = [*surviving, *process.end(rest, GRACE_S)]
    left += [p for p in process.strays(lambda argv: _serves(argv, sockets)) if p not in left]
    if left:
        raise PlatformError(
            f"{name}: still alive after SIGKILL: pids {', '.join(str(p.pid) for p in left)}. End them by hand."
        )
    shutil.rmtree(sockets, ignore_errors=True)
    if sockets.exists():
        raise PlatformError(f"{sockets} could not be removed. Remove it by hand.")
    for one in sorted(controllers, key=lambda p: (p != main, p.pid)):
        lines.append(f"{name}: {'controller' if one == main else 'standby controller'}, pid {one.pid}")
    lines += [f"{name}: {word}, pid {p.pid}" for p, word in rest.items()]
    if known is not None:
        holder = _still_listening(known.port, sockets)
        if holder is not None:
            raise PlatformError(f"{name}: port {known.port} is still listened on by pid {holder}. End it by hand.")
        try:
            state.save(state.path(of, name), replace(known, replicas={}, router=None, controller=None))
        except OSError as error:
            # Harmless: a process that the file names and that does not live is never used or shown.
            lines.append(f"{name}: everything ended, and the state file is behind: {error}")
    return lines


def status(of: Home) -> list[EndpointStatus]:
    """Return the endpoints of which something lives, by the state files and the process table; starts nothing."""
    names = sorted(p.parent.name for p in of.endpoints.glob("*/state.json"))
    rows = [_status(of, known) for known in (_known(of, name) for name in names) if known is not None]
    return [
        row for row in rows if row.controller or row.standby or row.router or any(d.replicas for d in row.deployments)
    ]


def _status(of: Home, known: Endpoint) -> EndpointStatus:
    def deployment(name: str) -> DeploymentStatus:
        this = known.deployments[name]
        pids = tuple(r.process.pid for r in living.ready(name))
        return DeploymentStatus(name, this.model_version, living.condition(name), this.failure, pids)

    # The file may be behind, for example on a full disk: only what lives counts.
    living = replace(known, replicas={i: r for i, r in known.replicas.items() if process.alive(r.process)})

    return EndpointStatus(
        name=known.name,
        stage=known.stage,
        scoring_uri=known.scoring_uri,
        controller=_pid(known.controller),
        standby=next((one.pid for one in standby.find(of, known.name) if one != known.controller), None),
        router=_pid(known.router),
        traffic=dict(known.traffic),
        deployments=tuple(deployment(name) for name in known.deployments),
        note=known.note,
    )


def _known(of: Home, name: str) -> Endpoint | None:
    found = state.load(state.path(of, name))
    return None if found is None else state.own(of, found)


def _rest(known: Endpoint | None, sockets: Path) -> dict[Process, str]:
    found: dict[Process, str] = {}
    if known is not None:
        if process.alive(known.router) and known.router:
            found[known.router] = "router"
        found |= {
            r.process: f"replica {r.id} of {r.deployment}" for r in known.replicas.values() if process.alive(r.process)
        }
    # A worker is listed with its master's group; what no group of ours explains was started just before a kill.
    groups = {p.pid for p in found}
    return found | {p: "unrecorded process" for p in process.strays(lambda argv: _serves(argv, sockets), groups)}


def _serves(argv: list[str], sockets: Path) -> bool:
    return any(argument.startswith((f"unix:{sockets}/", f"{sockets}/master.sock")) for argument in argv)


def _still_listening(port: int, sockets: Path) -> int | None:
    """Return the pid of a router of ours that still listens on ``port``; whoever else took the port does not matter."""
    with contextlib.suppress(psutil.Error):  # macOS tells only root who listens
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
                with contextlib.suppress(psutil.Error):
                    if connection.pid and _serves(psutil.Process(connection.pid).cmdline(), sockets):
                        return connection.pid
    return None


def _pid(of: Process | None) -> int | None:
    return of.pid if of is not None and process.alive(of) else None
