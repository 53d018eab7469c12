"""The state of one endpoint while its controller lives: a change is on disk, and in the router's files, before it counts."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from runbook.platform.local import state
from runbook.platform.local.router import Router
from runbook.platform.local.state import Deployment, Endpoint, Replica

HISTORY = "history.jsonl"


class Book:
    """Holds the newest state; everybody in the controller reads ``state`` and changes it through the verbs here."""

    def __init__(self, folder: Path, endpoint: Endpoint, router: Router) -> None:
        self.folder, self.state, self._router = folder, endpoint, router
        self._noted: dict[str, tuple[int, int]] = {}

    def commit(self, **changes: Any) -> None:
        """Change fields of the state: state.json and the router's files are written in one move each."""
        self.state = replace(self.state, **changes)
        state.save(self.folder / "state.json", self.state)
        self._router.write(self.state)

    def put_replica(self, *replicas: Replica) -> None:
        """Add or change replicas."""
        self.commit(replicas={**self.state.replicas, **{r.id: r for r in replicas}})

    def forget_replica(self, *ids: str) -> None:
        """Remove replicas that have ended, or are about to be ended on purpose."""
        self.commit(replicas={i: r for i, r in self.state.replicas.items() if i not in ids})

    def put_deployment(self, deployment: Deployment) -> None:
        """Add or change a deployment."""
        self.commit(deployments={**self.state.deployments, deployment.name: deployment})

    def current(self, deployment: Deployment) -> bool:
        """Tell whether this revision of the deployment is still the one to keep alive."""
        found = self.state.deployments.get(deployment.name)
        return found is not None and found.revision == deployment.revision and found.state == "ready"

    def note(self, name: str, wanted: int) -> None:
        """Append (time, wanted, ready) of one deployment to the history when it differs from the last line."""
        ready = len(self.state.ready(name)) if name in self.state.deployments else 0
        if self._noted.get(name) != (wanted, ready):
            self._noted[name] = (wanted, ready)
            line = json.dumps({"t": round(time.time(), 3), "deployment": name, "wanted": wanted, "ready": ready})
            with (self.folder / HISTORY).open("a", encoding="utf-8") as file:
                file.write(line + "\n")


def say(event: str, **fields: Any) -> None:
    """Write one JSON line to the controller's log."""
    print(json.dumps({"time": round(time.time(), 3), "event": event, **fields}, default=str), flush=True)
