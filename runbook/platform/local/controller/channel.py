"""One JSON line each way over the unix socket of an endpoint's controller."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

SOCKET, LOG = "control.sock", "controller.log"
LONGEST = 1024 * 1024


def ask(path: Path, request: dict[str, Any], deadline_s: float) -> dict[str, Any]:
    """Send ``request`` and return the answer; raises OSError (TimeoutError included) when nobody answers in time."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(deadline_s)
        line.connect(str(path))
        line.sendall(json.dumps(request).encode() + b"\n")
        with line.makefile("rb") as file:
            answer = file.readline()
    if not answer.endswith(b"\n"):
        raise ConnectionResetError(f"the controller at {path} ended before it answered")
    document: dict[str, Any] = json.loads(answer)
    return document
