"""What tests work on: the pieces of small notebooks that the fixture ``build`` writes, and copies of a working tree."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

Builder = Callable[..., Path]

PARAMETERS = (
    'target: str = "local"  # where things happen, local|azure\n'
    'stage: str = "dev"  # what is released to, dev|prod\n'
    'run_id: str = "interactive"  # the run this step belongs to\n'
)
HOLDS = 'from runbook.check import check\ncheck("one is one", found=1, wanted=1)'


def checkout(tree: Path, into: Path) -> Path:
    """Copy the files of a working tree that git knows or would know, so that a test may change them; returns ``into``."""
    command = ["git", "-C", str(tree), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    for name in filter(None, listed.split("\0")):
        if (tree / name).is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(tree / name, into / name)
    return into
