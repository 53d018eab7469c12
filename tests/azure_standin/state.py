"""What the stand-in remembers: resources by address, operations that take their time, and every exchange."""

from __future__ import annotations

import datetime as dt
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from azure_standin.faults import Faults

SUBSCRIPTION, GROUP, WORKSPACE, LOCATION = "11111111-2222-3333-4444-555555555555", "titanic-rg", "titanic-ws", "eastus"
TENANT = "99999999-8888-7777-6666-555555555555"
GROUP_PATH = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
WORKSPACE_PATH = f"{GROUP_PATH}/providers/Microsoft.MachineLearningServices/workspaces/{WORKSPACE}"


@dataclass
class Operation:
    """One long-running operation; ``result`` is what its results address answers."""

    path: str
    status: str = "InProgress"
    error: dict[str, Any] | None = None
    result: Any = None


@dataclass(frozen=True)
class Exchange:
    """One request and its answer, as it crossed the wire."""

    method: str
    host: str
    path: str
    version: str
    sent: Any
    status: int
    answered: Any


@dataclass
class State:
    """Everything that outlives a request; addresses are compared without regard to case, as ARM does."""

    faults: Faults = field(default_factory=Faults)
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    operations: dict[str, Operation] = field(default_factory=dict)
    exchanges: list[Exchange] = field(default_factory=list)
    # Code and message of a job that failed before its program could, by the job's name.
    run_errors: dict[str, tuple[str, str]] = field(default_factory=dict)
    figures: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def get(self, path: str) -> dict[str, Any] | None:
        """Return the resource at an address, or None."""
        return self.resources.get(path.lower())

    def put(self, path: str, resource: dict[str, Any]) -> dict[str, Any]:
        """Keep a resource under its address and return it as ARM would show it."""
        kinds = path.split("/providers/", 1)[1].split("/")
        kind = "/".join([kinds[0], *kinds[1::2]])
        now = dt.datetime.now(dt.UTC).isoformat()
        before = self.get(path) or {}
        made = before.get("systemData", {}).get("createdAt", now)
        who = {"createdAt": made, "createdBy": "stand-in", "createdByType": "Application", "lastModifiedAt": now}
        shown = {**resource, "id": path, "name": path.rsplit("/", 1)[-1], "type": kind, "systemData": who}
        with self.lock:
            self.resources[path.lower()] = shown
        return shown

    def remove(self, path: str) -> None:
        """Forget a resource and everything below it."""
        with self.lock:
            for known in [k for k in self.resources if k == path.lower() or k.startswith(f"{path.lower()}/")]:
                del self.resources[known]

    def below(self, path: str) -> list[dict[str, Any]]:
        """Return the direct children of a collection's address."""
        prefix = path.lower().rstrip("/") + "/"
        with self.lock:
            return [r for k, r in self.resources.items() if k.startswith(prefix) and "/" not in k[len(prefix) :]]

    def start(self, path: str, work: Callable[[], Any]) -> str:
        """Start an operation on a resource in the background and return its id; what ``work`` raises makes it fail."""
        identity, operation = str(uuid.uuid4()), Operation(path)
        self.operations[identity] = operation
        threading.Thread(target=self._carry_out, args=(operation, work), daemon=True).start()
        return identity

    def _carry_out(self, operation: Operation, work: Callable[[], Any]) -> None:
        time.sleep(self.faults.operations_take)
        if self.faults.never_ends(operation.path):
            return
        failure = self.faults.failure_of(operation.path)
        try:
            if failure:
                raise OperationFailed(*failure)
            operation.result = work()
            operation.status = "Succeeded"
        except OperationFailed as error:
            operation.error = {"code": error.code, "message": error.message}
            resource = self.get(operation.path)
            if resource and "properties" in resource:
                resource["properties"]["provisioningState"] = "Failed"
            operation.status = "Failed"


class OperationFailed(Exception):
    """An operation that was accepted has failed; Azure tells so by code and message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message
