from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from built import HOLDS, Builder

from runbook import paths, side_channel
from runbook.engine import step
from runbook.engine.event_log import EventLog
from runbook.engine.masking import Mask
from runbook.engine.step import Limits, Result, Step
from runbook.platform.base import Keys

KEY = "an-endpoint-key-0123456789"
READS_KEYS = f"from runbook.platform.base import Keys\nkeys = Keys({KEY!r}, {KEY[::-1]!r})"
WAITS = (
    "from runbook import side_channel\nimport time\n"
    "with side_channel.waiting('deploying blue', 'az ml online-deployment show --name blue'):\n    "
)


@pytest.fixture
def channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUNBOOK_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "side-channel" / "local"


def run(cell_seconds: float = 60) -> Result:
    mask = Mask(side_channel.secrets)
    log = EventLog(paths.run_folder("r1") / "events.jsonl", "r1", mask)
    limits = Limits(cell_seconds, time.monotonic() + 120)
    with side_channel.opened("local"):
        return step.run(Step("20_train", None), "local", "r1", {}, {}, limits, log, mask, lambda *_: None)


def test_a_key_that_a_platform_reads_in_a_kernel_reaches_no_file(build: Builder, channel: Path) -> None:
    build("20_train", READS_KEYS, "print(keys.primary, keys.secondary)", "raise ValueError('refused ' + keys.primary)")
    result = run()
    assert result.error and result.error["message"] == "refused [masked]"
    files = [p for p in paths.run_folder("r1").rglob("*") if p.is_file()]
    assert len(files) >= 3
    for path in files:
        assert KEY not in path.read_text(errors="replace"), path
        assert KEY[::-1] not in path.read_text(errors="replace"), path


def test_the_channel_is_private_while_the_run_lasts_and_gone_after_it(channel: Path) -> None:
    with side_channel.opened("local"):
        Keys(KEY, KEY[::-1])
        assert side_channel.secrets() == [KEY, KEY[::-1]]
        found = [channel, *channel.iterdir()]
        assert [stat.S_IMODE(p.stat().st_mode) & 0o077 for p in found] == [0, 0]
    assert not channel.exists()
    assert side_channel.secrets() == []


def test_what_a_killed_runner_left_is_not_taken_over(channel: Path) -> None:
    channel.mkdir(parents=True)
    (channel / "secrets.jsonl").write_text('"old"\n')
    with side_channel.opened("local"):
        assert side_channel.secrets() == []


def test_without_a_runner_nothing_is_written(channel: Path) -> None:
    Keys(KEY, KEY)
    with side_channel.waiting("deploying blue", "az"):
        pass
    assert not channel.exists()


def test_a_deadline_says_what_the_service_goes_on_with_and_the_next_command(build: Builder, channel: Path) -> None:
    build("20_train", HOLDS, WAITS + "time.sleep(60)")
    result = run(cell_seconds=3)
    assert result.error and result.error["class"] == "DeadlineExceeded"
    assert "deploying blue" in (result.error["message"] or "")
    assert "az ml online-deployment show --name blue" in (result.error["message"] or "")


def test_an_operation_that_ended_or_failed_is_not_said_to_go_on(channel: Path) -> None:
    with side_channel.opened("local"):
        with pytest.raises(ZeroDivisionError), side_channel.waiting("deploying blue", "az"):
            1 / 0  # noqa: B018
        assert side_channel.going_on() == ""
        with side_channel.waiting("deploying blue", "az"):
            assert "deploying blue" in side_channel.going_on()
        assert side_channel.going_on() == ""


def test_an_interrupted_or_killed_wait_leaves_its_note_and_the_next_step_forgets_it(channel: Path) -> None:
    with side_channel.opened("local"):
        with pytest.raises(KeyboardInterrupt), side_channel.waiting("deploying blue", "az"):
            raise KeyboardInterrupt
        assert "deploying blue" in side_channel.going_on()
        side_channel.forget_operation()
        assert side_channel.going_on() == ""
        killed = subprocess.run([sys.executable, "-c", WAITS + "import os; os.kill(os.getpid(), 9)"], check=False)
        assert killed.returncode == -signal.SIGKILL
        assert "deploying blue" in side_channel.going_on()
    assert os.environ.get(side_channel.FOLDER) is None
