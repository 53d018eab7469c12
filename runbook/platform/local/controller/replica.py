"""One replica: Microsoft's scoring server, the one inside Azure ML's images, started through gunicorn on a unix socket.

Its own command would listen on every interface and offers no other choice; gunicorn is what that command starts, too.
Not enforced on this machine: the cpu and memory limits of deployment.yml, and the image.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from runbook.errors import PlatformError
from runbook.platform.local import process
from runbook.platform.local.deployment_settings import Serving

SERVER = "azureml_inference_server_http.server.entry:app"
# A cold start was seen to take 11 s on a busy machine, and several start at once; ten times that is a hang.
START_S = 120.0


def environment(serving: Serving, home: Path, own: Path) -> dict[str, str]:
    """Return the whole environment of a replica: what deployment.yml says, and what the container image would set.

    ``home`` is the platform's state folder, ``own`` the folder the replica may take for its user's home.
    """
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.defpath]),
        "HOME": str(own),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        **serving.environment,
        "AML_APP_ROOT": str(home / serving.code),
        "AZUREML_ENTRY_SCRIPT": serving.entry_script,
        "AZUREML_MODEL_DIR": str(home / serving.model),
        "SCORING_TIMEOUT_MS": str(serving.scoring_timeout_ms),
    }


def start(serving: Serving, socket: Path, home: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a replica that will listen on ``socket``, in a process group of its own; its output is appended to ``log``."""
    own = log.parent.parent / "replica-home"
    own.mkdir(mode=0o700, exist_ok=True)
    patience = serving.scoring_timeout_ms // 1000 + 30
    # A sync worker answers one request at a time and obeys SCORING_TIMEOUT_MS; a threaded one ignores it.
    # Without --no-control-socket all replicas of a user would share one socket in that user's home.
    options = [
        "--bind",
        f"unix:{socket}",
        "--workers",
        str(serving.workers),
        "--worker-class",
        "sync",
        "--umask",
        "0o077",
    ]
    options += ["--timeout", str(patience), "--graceful-timeout", str(patience), "--no-control-socket"]
    options += ["--worker-tmp-dir", str(socket.parent)]
    # -P: the folder the replica is started in must not provide modules, only the shipped code may.
    argv = [sys.executable, "-P", "-m", "gunicorn", *options, SERVER]
    return process.spawn(argv, environment(serving, home, own), own, log, log)


class ReplicaKilled(PlatformError):
    """A signal ended a replica during its start; it says nothing about the scoring script."""


async def ready(child: subprocess.Popen[bytes], socket: Path) -> None:
    """Wait until GET / answers 200.

    Raises PlatformError when the replica ends before, or after START_S seconds; ReplicaKilled when
    a signal ended it.
    """
    try:
        async with asyncio.timeout(START_S):
            while not await _healthy(socket):
                code = child.poll()
                if ended_by_signal(code):
                    raise ReplicaKilled(
                        f"A replica was ended by a signal (exit code {code}) before it answered: somebody killed it, or "
                        "the machine was out of memory."
                    )
                if code is not None:
                    raise PlatformError(
                        f"A replica ended with exit code {code} before it answered: the import or init() of the "
                        "scoring script failed. Correct it and deploy again."
                    )
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise PlatformError(
            f"A replica did not answer within {START_S:.0f} s: its init() hangs, or this machine is overloaded."
        ) from None


def ended_by_signal(code: int | None) -> bool:
    """Tell whether an exit code means a signal; gunicorn answers SIGTERM with exit code 0."""
    return code is not None and code <= 0


async def stop(child: process.Process, socket: Path, grace_s: float) -> None:
    """End a replica and its workers, which finish what they are answering within ``grace_s`` seconds."""
    if process.alive(child) and grace_s:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(grace_s):
            await process.ended(child)
    process.kill_group(child)
    socket.unlink(missing_ok=True)


async def answers(socket: Path) -> bool:
    """Send GET / and wait for the answer without any deadline; returns whether it is 200.

    Returns False at once when the socket cannot be reached or the connection ends.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(str(socket))
        try:
            writer.write(b"GET / HTTP/1.0\r\nHost: replica\r\n\r\n")
            return b" 200 " in await reader.readline()
        finally:
            writer.close()
    except OSError:
        return False


async def _healthy(socket: Path) -> bool:
    try:
        async with asyncio.timeout(5):
            return await answers(socket)
    except TimeoutError:
        return False
