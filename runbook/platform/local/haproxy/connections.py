"""The number of connections that a router takes at once: what its memory and the limit of open files allow."""

from __future__ import annotations

import resource

from runbook.errors import PlatformError
from runbook.platform.local.haproxy import refusal

# The most memory that one router spends on requests and answers.
MEMORY_BUDGET = 256 * 1024 * 1024
# A request and its answer each fill one buffer at most.
BUFFERS_PER_CONNECTION = 2
# One file towards the client and one towards the replica.
FILES_PER_CONNECTION = 2
# Sockets of its own, pipes, logs and health checks: HAProxy 2.8 asked for 55 to 110 beside those of the connections.
FILES_BESIDE = 150
# 6 replicas of 2 workers each and their queue need about 50.
FEWEST = 64


def most() -> int:
    """Return the limit of connections; raises PlatformError when this process may not open enough files.

    More clients than that wait until a connection ends.
    """
    _, open_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    by_memory = MEMORY_BUDGET // (BUFFERS_PER_CONNECTION * refusal.BUFFER_BYTES)
    if open_files == resource.RLIM_INFINITY:
        return by_memory
    by_files = (open_files - FILES_BESIDE) // FILES_PER_CONNECTION
    if by_files < FEWEST:
        needed = FEWEST * FILES_PER_CONNECTION + FILES_BESIDE
        raise PlatformError(
            f"A process may open {open_files} files here, and the router needs {needed}: raise the limit (`ulimit -n`, or "
            "nofile in /etc/security/limits.conf) and try again."
        )
    return min(by_memory, by_files)
