"""An endpoint whose state folder is on a full disk: it goes on serving, and the files are put right when there is room."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from local_cloud import Cloud, build, eventually

from runbook import paths
from runbook.errors import PlatformError
from runbook.platform.local import process

# In a mount namespace of its own, a small file system holds the endpoint's state; it is gone with the command.
ON_A_SMALL_DISK = 'mount -t tmpfs -o size=3m tmpfs "$1" || exit 90; exec "$2" "$3" "$1"'


def test_on_a_full_disk_replicas_are_replaced_and_the_files_are_put_right_later(tmp_path: Path) -> None:
    options = _namespace()
    if not options:
        pytest.skip("no small file system can be mounted here (needs Linux, and root or user namespaces)")
    folder = tmp_path / "small"
    folder.mkdir()
    words = ["sh", "-c", ON_A_SMALL_DISK, "sh", str(folder), sys.executable, __file__]
    done = subprocess.run(
        [*options, *words],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(paths.ROOT), str(Path(__file__).parent)])},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _namespace() -> list[str]:
    """Return the command that opens a mount namespace, as root or as a mapped user; empty where neither is allowed."""
    unshare = shutil.which("unshare")
    for options in (["--mount"], ["--mount", "--map-root-user"]):
        probe = [str(unshare), *options, "mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", "/mnt"]
        if unshare and subprocess.run(probe, capture_output=True, timeout=20).returncode == 0:
            return [unshare, *options]
    return []


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))


def _scenario(cloud: Cloud, ballast: Path) -> None:
    before = cloud.serve("dev")
    _fill(ballast)

    os.killpg(before.replicas["r1"].process.pid, signal.SIGKILL)
    assert eventually(lambda: not process.alive(before.replicas["r1"].process))
    assert eventually(lambda: cloud.post("dev").status == 200, 60)
    found = cloud.platform.find_endpoint("dev")
    assert found is not None and found.deployments[0].replicas == 1

    # The file cannot know of the new replica, and still no dead pid is shown.
    assert cloud.state("dev").replicas.keys() == {"r1"}
    assert cloud.platform.status()[0].deployments[0].replicas == ()
    with pytest.raises(PlatformError, match="cannot be written"):
        cloud.platform.set_traffic("dev", {"blue": 0}, {})
    assert cloud.post("dev").status == 200

    # The standby comes up on a full disk as well.
    assert before.controller
    os.kill(before.controller.pid, signal.SIGKILL)
    assert eventually(lambda: cloud.post("dev").status == 200, 60)

    ballast.unlink()
    assert eventually(lambda: "r1" not in cloud.state("dev").replicas)
    assert eventually(lambda: all(process.alive(r.process) for r in cloud.state("dev").ready("blue")))
    assert eventually(lambda: process.alive(cloud.state("dev").controller))
    assert eventually(lambda: len(cloud.platform.status()[0].deployments[0].replicas) == 1, 60)
    assert cloud.platform.set_traffic("dev", {"blue": 0}, {}).changed

    _fill(ballast)
    now = cloud.state("dev")
    assert "No space left" in cloud.platform.down()[-1]
    assert not any(map(process.alive, (now.controller, now.router, *(r.process for r in now.replicas.values()))))
    assert cloud.platform.status() == []
    ballast.unlink()
    assert cloud.platform.find_endpoint("dev") is not None


if __name__ == "__main__":
    here = build(Path(sys.argv[1]))
    paths.DEPLOYMENT = here.files
    here.edit("dev", environment_variables={"WORKER_COUNT": "1"})
    try:
        _scenario(here, Path(sys.argv[1]) / "ballast")
    finally:
        here.platform.down()
