"""What a service says while a step waits for it reaches the onlooker at once, and stays with the step."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from runbook import side_channel
from runbook.engine.event_log import EventLog
from runbook.engine.masking import Mask
from runbook.engine.onlooker import Onlooker


def test_a_line_of_progress_is_said_while_the_step_goes_on_and_kept_masked(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", "r1", Mask(lambda: ["the-endpoint-key"]))
    said: list[str] = []
    heard = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        heard.set()

    with side_channel.opened("azure"):
        side_channel.tell_progress("of an earlier step")
        with Onlooker(tmp_path / "20_train", "20_train", log, Mask(lambda: ["the-endpoint-key"]), say):
            side_channel.tell_progress("the job x: Queued the-endpoint-key")
            assert heard.wait(20)
            side_channel.tell_progress("the job x: Running after 0:42")
    assert said == ["   the job x: Queued [masked]", "   the job x: Running after 0:42"]
    kept = (tmp_path / "20_train" / "progress.log").read_text().splitlines()
    assert kept == ["the job x: Queued [masked]", "the job x: Running after 0:42"]
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(e["kind"], e["said"]) for e in events] == [("progress", line) for line in kept]


def test_a_step_that_tells_nothing_leaves_no_file_of_progress(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", "r1", Mask(list))
    with side_channel.opened("local"), Onlooker(tmp_path, "20_train", log, Mask(list), print):
        pass
    assert not (tmp_path / "progress.log").exists()


def test_without_a_runner_progress_is_told_to_nobody() -> None:
    side_channel.tell_progress("nobody listens")
    assert side_channel.progress(0) == []
