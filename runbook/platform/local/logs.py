"""Log files that several processes append to: their last lines, and a bound on their size."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

LARGEST = 50 * 1024 * 1024


def tail(path: Path, lines: int, start: int = 0) -> str:
    """Return the last ``lines`` lines from byte ``start`` on; empty when there is no such file."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            # Lines of these logs are shorter than 400 bytes on average; a log of a long soak is never read whole.
            file.seek(max(min(start, end), end - lines * 400))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def shorten(folder: Path) -> None:
    """Move the content of every *.log below ``folder`` that is larger than LARGEST to *.log.1; its writers go on."""
    for path in folder.rglob("*.log"):
        if path.stat().st_size > LARGEST:
            # Every writer appends, so cutting the file in place needs nobody to open it again.
            shutil.copyfile(path, path.with_name(path.name + ".1"))
            os.truncate(path, 0)
