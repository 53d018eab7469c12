from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from runbook import hint
from runbook.engine import lock
from runbook.errors import Busy


def child(source: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(source)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_second_run_is_refused_and_told_who_holds_the_target() -> None:
    with lock.hold("local", "r1", "runbook run all"), pytest.raises(Busy) as caught, lock.hold("local", "r2", "x"):
        pass
    message = str(caught.value)
    assert "Run r1 holds the local target" in message and f"pid {os.getpid()}" in message and "--resume r1" in message


def test_a_step_by_hand_is_gone_on_with_by_the_same_step_in_the_same_run() -> None:
    assert hint.again("runbook run all -p seed=2", "r1") == ".venv/bin/runbook run --resume r1"
    step = "runbook step 95_rollback --stage prod"
    assert hint.again(step, "r1") == f".venv/bin/{step} --run-id r1"
    assert hint.again(f"{step} --run-id r1", "r1") == f".venv/bin/{step} --run-id r1"


def test_two_targets_do_not_hold_each_other() -> None:
    with lock.hold("local", "r1", "x"), lock.hold("azure", "r2", "x"):
        pass


def test_the_lock_of_a_killed_runner_is_free() -> None:
    holder = child("""
        import time
        from runbook.engine import lock
        with lock.hold("local", "r1", "x"):
            print("ready", flush=True)
            time.sleep(60)
        """)
    holder.kill()
    holder.wait()
    with lock.hold("local", "r2", "x"):
        pass


def test_a_kernel_that_outlives_its_runner_keeps_the_next_run_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "KERNEL_SECONDS", 0.3)
    with lock.hold("local", "r1", "x"):
        kernel = child("""
            import time
            from runbook.engine import lock
            lock.share()
            print("ready", flush=True)
            time.sleep(60)
            """)
    try:
        with pytest.raises(Busy, match="A kernel of an ended run still works"), lock.hold("local", "r2", "x"):
            pass
    finally:
        kernel.kill()
        kernel.wait()
    with lock.hold("local", "r2", "x"):
        pass


def test_sharing_outside_a_run_does_nothing() -> None:
    lock.share()
    with lock.hold("local", "r1", "x"):
        pass


HOLDER = """
    import time
    from runbook.engine import lock
    with lock.hold("local", "r1", "runbook step 90_release"):
        try:
            print("ready", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            time.sleep(1)
            print("taken back", flush=True)
"""


def test_the_clean_up_of_a_cancelled_pipeline_run_interrupts_the_step_that_goes_on_and_waits_for_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    holder = child(HOLDER)
    assert holder.stdout
    monkeypatch.setenv("TF_BUILD", "True")
    with lock.hold("local", "r1", "runbook step 95_rollback"):
        assert holder.stdout.readline() == "taken back\n"
    assert holder.wait(30) == 0


@pytest.mark.parametrize(("build", "run_id"), [("True", "r2"), ("", "r1")], ids=["another run", "no pipeline"])
def test_nothing_else_interrupts_who_holds_the_lock(monkeypatch: pytest.MonkeyPatch, build: str, run_id: str) -> None:
    holder = child(HOLDER)
    monkeypatch.setenv("TF_BUILD", build) if build else monkeypatch.delenv("TF_BUILD", raising=False)
    with pytest.raises(Busy, match="Run r1 holds"), lock.hold("local", run_id, "x"):
        pass
    assert holder.poll() is None
    holder.kill()
    holder.wait(30)
