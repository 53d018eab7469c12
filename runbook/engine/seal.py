"""The digests that make a run's files evidence: taken when the run ends, compared when somebody asks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

MANIFEST = "manifest.json"
# Rendered from the other files after the digests are taken, and again at will.
VIEWS = ("index.html", "summary.md", "junit.xml")


def digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file below a run's folder, by its path there; the manifest, views and links have none."""
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in _files(folder) if not path.is_symlink()
    }


def differences(folder: Path, sealed: Mapping[str, str]) -> list[str]:
    """Return a sentence for every file that is gone, changed, added or a link since ``sealed`` was taken."""
    now = digests(folder)
    links = [name for name, path in _files(folder, everything=True) if path.is_symlink()]
    problems = [f"{name} is a link: a run holds files of its own only" for name in links]
    for name, digest in sealed.items():
        if name not in now and name not in links:
            problems.append(f"{name} is gone")
        elif name in now and now[name] != digest:
            problems.append(f"{name} was changed after the run")
    return problems + [f"{name} was added after the run" for name in now if name not in sealed]


def _files(folder: Path, everything: bool = False) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if (path.is_file() or path.is_symlink()) and (everything or name not in (MANIFEST, *VIEWS)):
            yield name, path
