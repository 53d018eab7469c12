"""A run whose reports no longer fit on the disk: it fails, says why and where, and leaves nothing green."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

COMMAND = Path(sys.executable).with_name("runbook")
SIZE_KB = 1024
# In a mount namespace of its own: a small file system over the reports folder, filled but for some kilobytes. It is gone
# with the command, so what was written is copied out.
ON_A_SMALL_DISK = """
mount -t tmpfs -o size=${1}k tmpfs "$RUNBOOK_REPORTS" || exit 90
head -c "$2" /dev/zero > "$RUNBOOK_REPORTS/ballast" || exit 90
left=$3; shift 3
"$@"
code=$?
rm "$RUNBOOK_REPORTS/ballast"
cp -R "$RUNBOOK_REPORTS/." "$left"
exit $code
"""


@dataclass(frozen=True)
class Run:
    done: subprocess.CompletedProcess[str]
    left: Path
    reports: Path

    def document(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.left / "r1" / name).read_text())
        return found


@functools.cache
def namespace() -> list[str]:
    """The command that opens a mount namespace here, as root or as a mapped user; empty where neither is allowed."""
    unshare = shutil.which("unshare")
    for options in (["--mount"], ["--mount", "--map-root-user"]):
        probe = [str(unshare), *options, "mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", "/mnt"]
        if unshare and subprocess.run(probe, capture_output=True, timeout=20).returncode == 0:
            return [unshare, *options]
    return []


def run(folder: Path, free_kb: int) -> Run:
    if not namespace():
        pytest.skip("no small file system can be mounted here (needs Linux, and root or user namespaces)")
    reports, left = folder / "reports", folder / "left"
    reports.mkdir()
    left.mkdir()
    sizes = [str(SIZE_KB), str((SIZE_KB - free_kb) * 1024), str(left)]
    words = [str(COMMAND), "step", "10_create_compute", "--run-id", "r1"]
    done = subprocess.run(
        [*namespace(), "sh", "-c", ON_A_SMALL_DISK, "sh", *sizes, *words],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "RUNBOOK_HOME": str(folder / "home"), "RUNBOOK_REPORTS": str(reports)},
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode != 90, done.stderr
    return Run(done, left, reports)


@pytest.mark.slow
@pytest.mark.parametrize("free_kb", [0, 24, 48], ids=["from the start", "while the first cells run", "later on"])
def test_a_run_on_a_full_disk_fails_says_where_and_leaves_nothing_green(tmp_path: Path, free_kb: int) -> None:
    this = run(tmp_path, free_kb)
    assert this.done.returncode == 1
    assert "Traceback" not in this.done.stderr
    assert "No space left" in this.done.stderr and str(this.reports) in this.done.stderr
    assert "passed" not in this.done.stdout
    if (this.left / "r1" / "manifest.json").exists():
        manifest = this.document("manifest.json")
        assert manifest["status"] in ("running", "cancelled", "failed")
        assert "passed" not in {s["status"] for s in manifest["steps"]}
    for result in this.left.glob("r1/*/result.json"):
        assert json.loads(result.read_text())["status"] != "passed"


@pytest.mark.slow
def test_the_same_run_passes_where_there_is_room(tmp_path: Path) -> None:
    this = run(tmp_path, 900)
    assert this.done.returncode == 0, this.done.stderr
    assert this.document("manifest.json")["status"] == "passed"
