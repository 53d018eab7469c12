"""Finds the living replicas that a new controller takes over from an earlier one."""

from __future__ import annotations

import stat
from pathlib import Path

from runbook.platform.local import process
from runbook.platform.local.controller.state import Endpoint, Replica
from runbook.platform.local.controller.state_store import Book, say


def prune(book: Book, sockets: Path) -> None:
    """Keep the living replicas of ready deployments in the book, and end every other replica of this endpoint."""
    keep = {r.id: r for r in book.state.replicas.values() if _usable(book.state, r)}
    for other in book.state.replicas.values():
        if other.id not in keep:
            process.kill_group(other.process)
            Path(other.socket).unlink(missing_ok=True)

    def ours(argv: list[str]) -> bool:
        return any(argument.startswith(f"unix:{sockets}/") for argument in argv)

    # Started in the moment before the earlier controller was killed, and in no book.
    for unknown in process.strays(ours, {r.process.pid for r in keep.values()}):
        process.kill_group(unknown)
    book.follow(replicas=keep)
    say("adopted", replicas=list(keep))


def _usable(endpoint: Endpoint, one: Replica) -> bool:
    deployment = endpoint.deployments.get(one.deployment)
    if deployment is None or (deployment.state, deployment.revision, one.state) != ("ready", one.revision, "ready"):
        return False
    try:
        # A cleaner of temporary folders may have taken the socket from under a living replica.
        listening = stat.S_ISSOCK(Path(one.socket).lstat().st_mode)
    except OSError:
        return False
    return listening and process.alive(one.process)
