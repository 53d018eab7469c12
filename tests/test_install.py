"""The set-up script, run with stand-ins for Python's pip and for uv that only note what they were asked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runbook import paths

PYTHON = """#!/bin/bash
if [ "$1 $2" = "-m venv" ]; then mkdir -p .venv/bin && cp "$0" .venv/bin/python; exit; fi
if [ "$1 $2" != "-m pip" ]; then exec {real} "$@"; fi
echo "pip $*" >>asked.txt
[[ "$*" == *uv* ]] || exit 0
cp .venv/uv.txt uv-entry.txt
[ "{uv}" = yes ] || exit 1
printf '#!/bin/bash\\necho "uv $*" >>asked.txt\\n' >.venv/bin/uv && chmod +x .venv/bin/uv
"""


def install(tree: Path, uv: str) -> list[str]:
    """Run the script in a copy of the tree's two files and return what pip and uv were asked."""
    (tree / "environment_setup").mkdir(parents=True)
    for name in ("environment_setup/install-requirements.sh", "environment_setup/requirements.lock", "pyproject.toml"):
        shutil.copy(paths.ROOT / name, tree / name)
    stub = tree / "python-stub"
    stub.write_text(PYTHON.format(real=sys.executable, uv=uv))
    stub.chmod(0o755)
    # Without the folders in which a uv of this machine may lie.
    (tree / "tools").mkdir()
    for tool in ("bash", "cat", "cksum", "cp", "chmod", "mkdir", "rm", "sed", "dirname", "id"):
        (tree / "tools" / tool).symlink_to(shutil.which(tool) or tool)
    environment = {"PATH": str(tree / "tools"), "PYTHON": str(stub), "HOME": os.environ.get("HOME", "/")}
    command = ["bash", "environment_setup/install-requirements.sh"]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return (tree / "asked.txt").read_text().splitlines()


@pytest.mark.parametrize("uv", ["yes", "no"])
def test_everything_from_a_registry_is_installed_with_the_hashes_of_the_lock(tmp_path: Path, uv: str) -> None:
    asked = install(tmp_path / "tree", uv)
    fetched = [line for line in asked if "--editable" not in line]
    assert len(fetched) == 2 and all("--require-hashes" in line for line in fetched)
    assert ("uv pip sync" in fetched[1]) is (uv == "yes")


def test_uv_is_held_to_its_own_entry_of_the_lock(tmp_path: Path) -> None:
    install(tmp_path / "tree", "yes")
    first, *hashes = (tmp_path / "tree" / "uv-entry.txt").read_text().splitlines()
    lock = (paths.ENVIRONMENT_SETUP / "requirements.lock").read_text()
    assert first.startswith("uv==") and lock.count(f"\n{first}\n") == 1
    assert len(hashes) > 1 and all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in hashes)
    assert not hashes[-1].endswith("\\") and all(line.endswith("\\") for line in [first, *hashes[:-1]])
