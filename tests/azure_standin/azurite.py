"""Microsoft's blob emulator, from npm, in a cache folder outside the checkout."""

from __future__ import annotations

import base64
import datetime as dt
import fcntl
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from azure_standin.certificates import Certificates

VERSION = "3.35.0"
ACCOUNT = "titanicstore"


def folder() -> Path:
    """Return where this version is installed: $RUNBOOK_AZURITE, else below the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("RUNBOOK_AZURITE") or cache / "runbook" / f"azurite-{VERSION}")


def missing() -> str:
    """Install Azurite if it is not there; returns why it cannot be had, or nothing."""
    if not shutil.which("npm") or not shutil.which("node"):
        return "Azurite needs node and npm: apt-get install --yes nodejs npm"
    folder().parent.mkdir(parents=True, exist_ok=True)
    with folder().with_suffix(".lock").open("w") as lock:
        # Two test processes may want it at once, and half an installation looks like a whole one.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _entry().exists():
            return ""
        command = [
            "npm",
            "install",
            "--no-audit",
            "--no-fund",
            "--silent",
            "--prefix",
            str(folder()),
            f"azurite@{VERSION}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode == 0 and _entry().exists():
            return ""
        shutil.rmtree(folder(), ignore_errors=True)
        return f"npm could not install azurite: {done.stderr[-300:]}"


class Azurite:
    """One Azurite with a random account key, blobs in memory, TLS with the given certificate."""

    def __init__(self, certificates: Certificates, log: Path, note: Callable[[int], None]) -> None:
        self.key = base64.b64encode(secrets.token_bytes(32)).decode()
        self.port = _free_port()
        self._authority = certificates.authority
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    "node", str(_entry()), "--inMemoryPersistence", "--blobHost", "127.0.0.1", "--blobPort", str(self.port),
                    "--skipApiVersionCheck", "--disableTelemetry", "--silent",
                    "--cert", str(certificates.certificate), "--key", str(certificates.key),
                ],
                env={**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{self.key}"}, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        note(self.process.pid)
        self._await(log)

    def client(self) -> Any:
        """Return a blob client with the account's key, straight over loopback."""
        from azure.storage.blob import BlobServiceClient

        address = f"https://127.0.0.1:{self.port}/{ACCOUNT}"
        return BlobServiceClient(
            address, credential=self.key, connection_verify=str(self._authority), proxies={"https": ""}, retry_total=1
        )

    def container_sas(self, container: str, hours: float = 1.0) -> str:
        """Return a signature for one container; with negative hours it has expired."""
        from azure.storage.blob import generate_container_sas

        now = dt.datetime.now(dt.UTC)
        return str(
            generate_container_sas(
                ACCOUNT, container, account_key=self.key, permission="racwdl", start=now - dt.timedelta(hours=12),
                expiry=now + dt.timedelta(hours=hours),
            )
        )  # fmt: skip

    def create_container(self, name: str) -> None:
        """Create a container unless it exists."""
        from azure.core.exceptions import ResourceExistsError

        try:
            self.client().create_container(name)
        except ResourceExistsError:
            return

    def fetch(self, container: str, prefix: str, into: Path) -> list[Path]:
        """Download every blob below ``prefix`` into a folder, paths kept relative to the prefix."""
        source, paths = self.client().get_container_client(container), []
        for blob in source.list_blobs(name_starts_with=prefix):
            relative = blob.name[len(prefix) :].lstrip("/") or blob.name.rsplit("/", 1)[-1]
            path = into / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.download_blob(blob.name).readall())
            paths.append(path)
        return paths

    def store(self, container: str, prefix: str, folder: Path) -> None:
        """Upload every file below a folder under ``prefix``."""
        target = self.client().get_container_client(container)
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            target.upload_blob(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes(), overwrite=True)

    def close(self) -> None:
        """End the process."""
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(timeout=10)

    def _await(self, log: Path) -> None:
        ends = time.monotonic() + 60
        while time.monotonic() < ends and self.process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        self.close()
        raise RuntimeError(f"Azurite did not start: {log.read_text(errors='replace')[-500:]}")


def _entry() -> Path:
    return folder() / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
