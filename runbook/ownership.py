"""Makes sure that nobody else can have changed what lies in the state folder, or can lead a write out of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from runbook.errors import PlatformError

# A replica takes this folder for its user's home; the runbook writes nothing in it.
_REPLICAS_OWN = "replica-home"


def private(folder: Path) -> Path:
    """Make ``folder`` and its missing parents, let only its owner enter it, and return it.

    Raises PlatformError when somebody else owns it, could have written into it, or when it holds a symbolic link: a write
    through a link would change a file elsewhere.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.getuid():
        raise PlatformError(
            f"{folder} belongs to the user with id {found.st_uid}, expected your own, {os.getuid()}: its contents cannot be "
            "trusted. Set RUNBOOK_HOME to a folder of your own."
        )
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o022 and any(folder.iterdir()):
        raise PlatformError(
            f"{folder} has mode {mode:04o}: others could write into it, so its contents cannot be trusted. If they are your "
            f"own, run: chmod 700 '{folder}'. Where that changes nothing, as on a drive of Windows, set RUNBOOK_HOME to "
            "another folder."
        )
    if mode & 0o077:
        folder.chmod(0o700)
    link = next(_links(folder), None)
    if link is not None:
        raise PlatformError(
            f"{link} is a symbolic link to {os.readlink(link)}: what is written there would land outside {folder}. Remove the "
            "link, or put the folder itself in its place."
        )
    return folder


def _links(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if (Path(place) / name).is_symlink():
                yield Path(place) / name
        folders[:] = [name for name in folders if name != _REPLICAS_OWN]
