from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.errors import UsageError
from runbook.platform.local import logs, names, process
from runbook.platform.local.process import Process

SLEEP = "import time; time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
CHILD = f"subprocess.Popen([sys.executable, '-c', {SLEEP!r}])"
PARENT = f"import subprocess, sys, time; print({CHILD}.pid, flush=True); time.sleep(60)"


def started(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with started(SLEEP) as one:
        yield one
        one.kill()


def test_a_reused_pid_is_not_taken_for_the_process_that_had_it(child: subprocess.Popen[bytes]) -> None:
    earlier = Process(child.pid, "1")
    assert not process.alive(earlier)
    process.kill_group(earlier)
    assert process.end([earlier], 0.1) == []
    assert child.poll() is None


def test_a_zombie_is_not_alive(child: subprocess.Popen[bytes]) -> None:
    identity = process.identify(child.pid)
    assert process.alive(identity)
    child.kill()
    deadline = time.monotonic() + 10
    while process.alive(identity) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not process.alive(identity)
    assert child.returncode is None


def test_ended_returns_when_the_process_dies_also_when_it_is_not_our_child() -> None:
    with started(PARENT) as parent:
        assert parent.stdout
        grandchild = process.identify(int(parent.stdout.readline()))
        assert grandchild

        async def wait() -> None:
            waiting = asyncio.create_task(process.ended(grandchild))
            await asyncio.sleep(0.1)
            assert not waiting.done()
            os.kill(grandchild.pid, signal.SIGKILL)
            await asyncio.wait_for(waiting, 10)

        asyncio.run(wait())
        asyncio.run(asyncio.wait_for(process.ended(grandchild), 10))
        parent.kill()


def test_end_kills_what_ignores_the_polite_signal() -> None:
    with started(STUBBORN) as one:
        assert one.stdout
        one.stdout.readline()
        identity = process.identify(one.pid)
        assert identity
        assert process.end([identity], 0.2) == []
        assert not process.alive(identity)


def test_end_reaches_the_children_of_a_leader_that_died_first() -> None:
    with started(PARENT) as parent:
        assert parent.stdout
        grandchild = process.identify(int(parent.stdout.readline()))
        leader = process.identify(parent.pid)
        assert grandchild
        assert leader
        parent.kill()
        parent.wait()
        assert process.end([leader], 1) == []
        assert not process.alive(grandchild)


def test_strays_are_found_by_command_line_and_known_groups_are_left_out(child: subprocess.Popen[bytes]) -> None:
    def ours(argv: list[str]) -> bool:
        return argv[-1] == SLEEP

    assert process.identify(child.pid) in process.strays(ours)
    assert process.identify(child.pid) not in process.strays(ours, {child.pid})


def test_the_tail_of_a_log_begins_where_it_is_told_to(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("old\n" * 10)
    begin = log.stat().st_size
    with log.open("a") as file:
        file.write("one\ntwo\nthree\n")
    assert logs.tail(log, 2, begin) == "two\nthree"
    assert logs.tail(log, 50, begin) == "one\ntwo\nthree"
    assert logs.tail(tmp_path / "none.log", 5) == ""


def test_a_log_that_grew_too_large_is_moved_and_its_writer_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "LARGEST", 10)
    log = tmp_path / "logs" / "a.log"
    log.parent.mkdir()
    with log.open("ab", buffering=0) as writer:
        writer.write(b"a long line of text\n")
        logs.shorten(tmp_path)
        writer.write(b"short\n")
    assert log.read_text() == "short\n"
    assert (log.parent / "a.log.1").read_text() == "a long line of text\n"


@pytest.mark.parametrize("bad", ["", "ab", "a" * 33, "1abc", "abc-", "a b c", "abc\nuser", "../etc", "ab$c", "äbc"])
def test_a_name_that_could_reach_the_routers_configuration_is_checked(bad: str) -> None:
    with pytest.raises(UsageError, match="3 to 32"):
        names.name("endpoint", bad)
    assert names.name("endpoint", "titanic-dev") == "titanic-dev"


@pytest.mark.parametrize("bad", ["", "0", "01", "1.0", "v1", "1\n", "-1"])
def test_a_version_is_a_number(bad: str) -> None:
    with pytest.raises(UsageError, match="whole number"):
        names.version(bad)


@pytest.mark.parametrize("bad", ["", ".", "..", "../x", "a/b", "a b", "a'b"])
def test_a_model_name_can_name_a_folder(bad: str) -> None:
    with pytest.raises(UsageError, match="model name"):
        names.model(bad)
