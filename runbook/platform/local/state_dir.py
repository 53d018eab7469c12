"""The folder that plays the cloud: what the local platform knows, readable by its owner only.

version.json      which layout this is, another one is refused; and the home's id
runtime.json      where the sockets are
computes/ cluster.json        recorded targets
mlflow.db artifacts/ models/  tracking, registry, and the bytes handed to replicas
endpoints/<name>/             state, keys, shipped code, logs of one endpoint
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook import hint, ownership
from runbook.errors import Busy, PlatformError

VERSION, VERSION_FILE = 1, "version.json"
LOCK_WAIT_S = 30.0
# A unix socket's address holds 108 bytes (104 on macOS); below the runtime folder come an endpoint's name of at most 32,
# a socket's name, and the suffix HAProxy appends while it binds.
LONGEST_RUNTIME = 40


@dataclass(frozen=True)
class Home:
    """The state folder at ``path``; make one with ``open_home``."""

    path: Path

    @property
    def id(self) -> str:
        """The random id that this home got when it was made; a later home at the same path has another one."""
        return str(read_json(self.path / VERSION_FILE).get("id", ""))

    @property
    def endpoints(self) -> Path:
        """The folder that has one folder per endpoint."""
        return self.path / "endpoints"

    @property
    def models(self) -> Path:
        """The folder with the model files that replicas read, <name>/<version>/."""
        return self.path / "models"

    def endpoint(self, name: str) -> Path:
        """Return the folder of one endpoint."""
        return self.endpoints / name

    def runtime(self) -> Path:
        """Return the short, private folder for sockets, made when missing and recorded in runtime.json.

        Every process must find the same folder whatever its own TMPDIR is, hence the record. It is below the temporary
        folder and not in XDG_RUNTIME_DIR, which the last log-out removes while endpoints live on.
        """
        record = self.path / "runtime.json"
        known = read_json(record) if record.exists() else {}
        # A copied home must not use, or end, what the original's sockets belong to.
        if known.get("home") == str(self.path) and _usable(Path(known["runtime"])):
            return Path(known["runtime"])
        runtime = _new_runtime(self.path)
        write_json(record, {"home": str(self.path), "runtime": str(runtime)})
        return runtime

    @contextlib.contextmanager
    def lock(self, purpose: str) -> Iterator[None]:
        """Hold this home for one short action; raises Busy with the holder's purpose after LOCK_WAIT_S seconds."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _wait_for_lock(descriptor, self.path)
            os.ftruncate(descriptor, 0)
            # On a full disk the lock holds all the same; its holder is only not named.
            with contextlib.suppress(OSError):
                os.pwrite(descriptor, f"pid {os.getpid()}, to {purpose}".encode(), 0)
            yield
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)


def open_home(path: Path) -> Home:
    """Return the home at ``path``, made when missing.

    Raises PlatformError for a home of another version, and for a folder that others could have changed.
    """
    ownership.private(path)
    version = path / VERSION_FILE
    if not version.exists():
        write_json(version, {"version": VERSION, "id": secrets.token_hex(8)})
    found = read_json(version).get("version")
    if found != VERSION:
        raise PlatformError(
            f"{path} has state version {found!r}, expected {VERSION}: another release of the runbook wrote it. Use that release, "
            f"or run its `{hint.line('down')}` and point RUNBOOK_HOME at an empty folder."
        )
    if "id" not in read_json(version):  # an earlier release made it
        write_json(version, {"version": VERSION, "id": secrets.token_hex(8)})
    return Home(path)


def private_folder(path: Path) -> Path:
    """Make ``path`` and its missing parents, the last one readable by its owner only; returns it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def write_json(path: Path, document: Any) -> None:
    """Write ``document`` in one move, mode 0600; parents are made with mode 0700."""
    write(path, json.dumps(document, indent=2).encode() + b"\n")


def write(path: Path, content: bytes, durable: bool = True) -> None:
    """Write ``content`` in one move, mode 0600: a reader sees the old file or the new one.

    ``durable`` makes that hold over a power cut, too, which takes longer; what can be made again does not need it.
    """
    private_folder(path.parent)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, Any]:
    """Return one JSON mapping; raises PlatformError when the file is damaged."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PlatformError(
            f"{path} cannot be read as JSON ({error}). Run `{hint.line('down')}`, then delete this file."
        ) from error
    if not isinstance(document, dict):
        raise PlatformError(
            f"{path} holds {type(document).__name__}, expected a mapping. Run `{hint.line('down')}`, then delete it."
        )
    return document


def _wait_for_lock(descriptor: int, path: Path) -> None:
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace") or "another process"
                raise Busy(f"{path} is in use by {holder}. Wait until it is done and try again.") from None
            time.sleep(0.02)


def _new_runtime(home: Path) -> Path:
    short = hashlib.sha256(str(home).encode()).hexdigest()[:12]
    for temporary in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - only where TMPDIR is too long; ownership is checked below
        folder = Path(temporary) / f"runbook-{os.getuid()}" / short
        # The path goes into the router's configuration, so it must not need quoting there.
        if len(str(folder)) <= LONGEST_RUNTIME and re.fullmatch(r"[A-Za-z0-9/._-]+", str(folder)):
            break
    for part in (folder.parent, folder):
        part.mkdir(mode=0o700, exist_ok=True)
        if not _usable(part):
            raise PlatformError(
                f"{part} is not a folder that only you can enter (somebody else made it, or its mode is not 0700): the local "
                "platform keeps its sockets there. Remove it, or set TMPDIR to a short path of your own."
            )
    return folder


def _usable(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
