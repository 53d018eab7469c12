"""Kill storms on a local endpoint: a random replica is killed each second while busy loops take the processors.

As a program it storms the prod endpoint of RUNBOOK_HOME, which must serve:
`python tests/platform/local/storm.py --storms 20 --seconds 30`
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from runbook.platform.base import Stage
from runbook.platform.local import LocalPlatform, process
from runbook.platform.local.controller import state
from runbook.platform.local.controller.state import Endpoint

BUSY_LOOPS = 4
LONGEST_WAIT_S = 120.0


@dataclass
class Storm:
    """What one storm did; ``recovered_s`` is None when the replicas were not back within two minutes."""

    kills: int = 0
    starting_killed: int = 0
    failed: list[str] = field(default_factory=list)
    recovered_s: float | None = None


def rage(platform: LocalPlatform, stage: Stage, seconds: float) -> Storm:
    """Storm one endpoint for ``seconds``, then wait until every replica serves again."""
    this, chance = Storm(), random.SystemRandom()
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(BUSY_LOOPS)]
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            before = time.monotonic()
            victims = list(known(platform, stage).replicas.values())
            if victims:
                victim = chance.choice(victims)
                process.kill_group(victim.process, signal.SIGKILL)
                this.kills += 1
                this.starting_killed += victim.state == "starting"
            this.failed += _failed(platform, stage)
            time.sleep(max(0.0, before + 1 - time.monotonic()))
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()

    begin = time.monotonic()
    while time.monotonic() - begin < LONGEST_WAIT_S:
        this.failed += _failed(platform, stage)
        if all_serve(platform, stage):
            this.recovered_s = round(time.monotonic() - begin, 1)
            break
        time.sleep(0.1)
    return this


def known(platform: LocalPlatform, stage: Stage) -> Endpoint:
    """Return the state file of a stage's endpoint, without asking the controller for anything."""
    found = state.load(state.path(platform.home, f"titanic-{stage}"))
    assert found is not None
    return found


def all_serve(platform: LocalPlatform, stage: Stage) -> bool:
    """Tell whether every deployment with traffic has its least number of replicas, each answering by itself."""
    now = known(platform, stage)
    for name, percent in now.traffic.items():
        if percent:
            answering = [one for one in now.ready(name) if _answers(Path(one.socket))]
            if len(answering) < now.deployments[name].serving.least:
                return False
    return True


def _failed(platform: LocalPlatform, stage: Stage) -> list[str]:
    now = known(platform, stage)
    return [name for name, percent in now.traffic.items() if percent and now.condition(name) == "failed"]


def _answers(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(1)
            line.connect(str(path))
            line.sendall(b"GET / HTTP/1.0\r\nHost: replica\r\n\r\n")
            return b" 200 " in line.recv(100)
    except OSError:
        return False


def main() -> int:
    """Run the storms, print one line for each, and return 1 when one of them broke a promise."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--storms", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--within", type=float, default=10)
    wish = parser.parse_args()
    platform, broken = LocalPlatform(), 0
    platform.find_endpoint("prod")
    for number in range(1, wish.storms + 1):
        this = rage(platform, "prod", wish.seconds)
        late = this.recovered_s is None or this.recovered_s > wish.within
        broken += late or bool(this.failed)
        print(
            f"{number:>2} {'BROKEN' if late or this.failed else 'ok'} {this} load {os.getloadavg()[0]:.1f}", flush=True
        )
    print(f"{wish.storms - broken} of {wish.storms} storms held")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
