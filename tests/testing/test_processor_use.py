from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil

from runbook.testing.processor_use import Meter, ProcessorUse


def hungry(folder: Path) -> subprocess.Popen[bytes]:
    """Start a program of that name which never rests."""
    program = folder / "hungry"
    program.symlink_to(shutil.which("sh") or "/bin/sh")
    return subprocess.Popen([program, "-c", "while :; do :; done"])


def test_a_program_that_keeps_a_core_busy_is_named_with_its_share(tmp_path: Path) -> None:
    meter = Meter()
    busy = hungry(tmp_path)
    try:
        while psutil.Process(busy.pid).cpu_times().user < 0.3:
            time.sleep(0.05)
        found = meter.read()
    finally:
        busy.kill()
        busy.wait()
    assert 0 < found.programs["hungry"] <= 1.1
    assert found.used > 0
    assert found.cores == psutil.cpu_count()


def test_what_a_program_used_before_the_meter_was_made_does_not_count(tmp_path: Path) -> None:
    busy = hungry(tmp_path)
    try:
        while psutil.Process(busy.pid).cpu_times().user < 0.3:
            time.sleep(0.05)
        busy.send_signal(signal.SIGSTOP)
        time.sleep(0.2)
        meter = Meter()
        time.sleep(0.2)
        assert meter.read().programs["hungry"] == 0.0
    finally:
        busy.kill()
        busy.wait()


def test_idle_programs_are_not_named() -> None:
    assert str(ProcessorUse(2, 0.1, {"sleeper": 0.01})) == "0.1 of 2 cores were busy"
