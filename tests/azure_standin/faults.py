"""Misbehaviour on request: what goes wrong, for which requests, how often."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field

from azure_standin.wire import Request, Response, error


@dataclass
class Fault:
    """Answers the next ``times`` requests that match with ``response`` instead of the truth."""

    method: str
    path: str
    response: Response
    times: int = 1

    def fits(self, request: Request) -> bool:
        """Whether this request is one it waits for."""
        return self.times > 0 and self.method == request.method and bool(re.search(self.path, request.path))


@dataclass
class Faults:
    """Everything that shall go wrong; the plain attributes hold until they are changed back."""

    planned: list[Fault] = field(default_factory=list)
    operations_take: float = 0.05
    never_ending: str = ""
    failing: dict[str, tuple[str, str]] = field(default_factory=dict)
    signatures_expired: bool = False
    quota_left: int = 100
    # The log of an image build that fails; empty: images are built.
    image_build_log: str = ""
    # Whether the workspace answers 404 to everything of MLflow, as in a region that does not have it.
    mlflow_is_absent: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: Request) -> Response | None:
        """Return the planned wrong answer to this request, or None."""
        with self._lock:
            for fault in self.planned:
                if fault.fits(request):
                    fault.times -= 1
                    return fault.response
        return None

    def throttle(self, method: str, path: str, times: int = 1, milliseconds: int = 50) -> None:
        """Answer 429, and say how long to wait."""
        wait = {"x-ms-retry-after-ms": str(milliseconds)}
        refusal = error(429, "TooManyRequests", "The request rate is too high.", **wait)
        self.planned.append(Fault(method, path, refusal, times))

    def break_down(self, method: str, path: str, times: int = 1) -> None:
        """Answer 500."""
        self.planned.append(Fault(method, path, error(500, "InternalServerError", "Something went wrong."), times))

    def drop(self, method: str, path: str, times: int = 1) -> None:
        """Close the connection without an answer."""
        self.planned.append(Fault(method, path, Response(drop=True), times))

    def refuse(self, method: str, path: str, status: int, code: str, message: str, times: int = 1) -> None:
        """Answer with an ARM error."""
        self.planned.append(Fault(method, path, error(status, code, message), times))

    def fail_operation(self, path: str, code: str, message: str) -> None:
        """Let every operation on matching resources be accepted, and then fail."""
        self.failing[path] = (code, message)

    def failure_of(self, path: str) -> tuple[str, str] | None:
        """Return how the operation on this resource shall fail, or None."""
        return next((f for pattern, f in self.failing.items() if re.search(pattern, path)), None)

    def never_ends(self, path: str) -> bool:
        """Whether the operation on this resource shall go on for ever."""
        return bool(self.never_ending) and bool(re.search(self.never_ending, path))

    def clear(self) -> None:
        """Behave well again."""
        fresh = Faults()
        self.planned, self.failing, self.never_ending = [], {}, ""
        self.operations_take = fresh.operations_take
        self.signatures_expired, self.quota_left = fresh.signatures_expired, fresh.quota_left
        self.image_build_log, self.mlflow_is_absent = fresh.image_build_log, fresh.mlflow_is_absent
