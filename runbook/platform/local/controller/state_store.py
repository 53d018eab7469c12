"""The state of one endpoint while its controller lives, in memory and in files."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from runbook.errors import PlatformError
from runbook.platform.local.controller import state
from runbook.platform.local.controller.state import Deployment, Endpoint, Replica
from runbook.platform.local.haproxy.router import Router

HISTORY = "history.jsonl"


class Book:
    """Holds the newest state; everything in the controller reads ``state`` and changes it through the verbs here.

    Two verbs change it. ``commit`` is for a wish: it counts only once it is on disk. ``follow`` is for
    a fact, such as a replica that ended: it counts at once, and reaches the disk as soon as that is
    possible. ``unsaved`` says why the files are behind the state; it is empty while they agree.
    """

    def __init__(self, folder: Path, endpoint: Endpoint, router: Router) -> None:
        self.folder, self.state, self._router = folder, endpoint, router
        self.unsaved = ""
        self._noted: dict[str, tuple[int, int]] = {}
        self._torn = False

    def commit(self, **changes: Any) -> None:
        """Change fields of the state: state.json and the router's files are written in one move each.

        Raises PlatformError when they cannot be written; then nothing has changed.
        """
        before = self.state
        self.state = replace(before, **changes)
        if not self.flush():
            self.state = before
            raise PlatformError(
                f"{self.state.name}: its state cannot be written to {self.folder} ({self.unsaved}). Nothing was "
                "changed. Make room on that disk, then try again."
            )

    def follow(self, **changes: Any) -> None:
        """Change fields of the state to what is so; files that cannot be written now are written later."""
        self.state = replace(self.state, **changes)
        self.flush()

    def flush(self) -> bool:
        """Write the files; returns whether they agree with the state now."""
        try:
            state.save(self.folder / "state.json", self.state)
            self._router.write(self.state)
        except OSError as error:
            if not self.unsaved:
                say("cannot write", error=repr(error))
            self.unsaved = str(error) or repr(error)
            return False
        if self.unsaved:
            say("can write again")
            self.unsaved = ""
        return True

    def put_replica(self, *replicas: Replica) -> None:
        """Add or change replicas."""
        self.follow(replicas={**self.state.replicas, **{r.id: r for r in replicas}})

    def forget_replica(self, *ids: str) -> None:
        """Remove replicas that have ended, or are about to be ended on purpose."""
        self.follow(replicas={i: r for i, r in self.state.replicas.items() if i not in ids})

    def put_deployment(self, deployment: Deployment) -> None:
        """Add or change a deployment."""
        self.follow(deployments={**self.state.deployments, deployment.name: deployment})

    def current(self, deployment: Deployment) -> bool:
        """Tell whether this revision of the deployment is still the one to keep alive."""
        found = self.state.deployments.get(deployment.name)
        return found is not None and found.revision == deployment.revision and found.state == "ready"

    def note(self, name: str, wanted: int) -> None:
        """Append (time, expected, ready) of one deployment to the history when it differs from the last line."""
        ready = len(self.state.ready(name)) if name in self.state.deployments else 0
        if self._noted.get(name) == (wanted, ready):
            return
        line = json.dumps({"t": round(time.time(), 3), "deployment": name, "wanted": wanted, "ready": ready})
        try:
            with (self.folder / HISTORY).open("a", encoding="utf-8") as file:
                # A line that a full disk cut short is ended first; readers skip it.
                file.write(f"\n{line}\n" if self._torn else f"{line}\n")
        except OSError as error:
            self._torn = True
            say("cannot write", error=repr(error))
            return
        self._torn = False
        self._noted[name] = (wanted, ready)


def say(event: str, **fields: Any) -> None:
    """Write one JSON line to the controller's log; a line that cannot be written is lost."""
    with contextlib.suppress(OSError):
        print(json.dumps({"time": round(time.time(), 3), "event": event, **fields}, default=str), flush=True)
