"""Ends what the stand-in has started, even when the stand-in itself is killed."""

from __future__ import annotations

import subprocess
from pathlib import Path

# Reads its input until the parent's end of the pipe closes, which the kernel does however the parent ends.
_SCRIPT = 'cat > /dev/null; while read pid; do kill -s KILL -- "-$pid" 2> /dev/null; done < "$1/pids"; rm -rf "$1"'


class Keeper:
    """A shell that outlives the stand-in for a moment; ``note`` every process that leads a session of its own."""

    def __init__(self, folder: Path) -> None:
        self._pids = folder / "pids"
        self._pids.touch()
        self._process = subprocess.Popen(
            ["sh", "-c", _SCRIPT, "keeper", str(folder)], stdin=subprocess.PIPE, start_new_session=True
        )

    def note(self, pid: int) -> None:
        """Remember one process group."""
        with self._pids.open("a") as file:
            file.write(f"{pid}\n")

    def close(self) -> None:
        """Let the keeper do its work and end."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=10)
