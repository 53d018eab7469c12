from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from runbook.engine.event_log import EventLog, MaskedNotebooks
from runbook.engine.masking import MASKED, Mask


def test_events_are_one_masked_json_line_each(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "r1" / "events.jsonl", "r1", Mask(lambda: ["secret-value"]))
    log.write("step_started", "20_train", note="with secret-value")
    log.write("step_ended", "20_train")
    lines = [json.loads(line) for line in (tmp_path / "r1" / "events.jsonl").read_text().splitlines()]
    assert [e["kind"] for e in lines] == ["step_started", "step_ended"]
    assert lines[0]["note"] == f"with {MASKED}" and lines[0]["run_id"] == "r1"


@pytest.mark.parametrize("secret", ["step_started", "20_train", "r1", 'a"b\\c\nd'])
def test_no_secret_can_break_an_event_or_the_fields_that_programs_read(tmp_path: Path, secret: str) -> None:
    log = EventLog(tmp_path / "events.jsonl", "r1", Mask(lambda: [secret, "kind", "status", "step"]))
    log.write("step_started", "20_train", status="passed", note=f"with {secret}", parameters={secret: 1})
    (line,) = (tmp_path / "events.jsonl").read_text().splitlines()
    event = json.loads(line)
    assert (event["kind"], event["step"], event["run_id"], event["status"]) == (
        "step_started",
        "20_train",
        "r1",
        "passed",
    )
    assert event["parameters"] == {secret: 1}


def test_an_event_with_half_a_character_is_written(tmp_path: Path) -> None:
    EventLog(tmp_path / "events.jsonl", "r1", Mask()).write("cell", note="half \udc80")
    assert json.loads((tmp_path / "events.jsonl").read_text())["note"] == "half \udc80"


def test_a_notebook_is_masked_when_it_is_written_and_whole_when_it_is_read(tmp_path: Path) -> None:
    writer = MaskedNotebooks(Mask(lambda: ["secret-value"]))
    cell = nbformat.v4.new_code_cell("print('secret-value')", id="cell-1")
    notebook = nbformat.v4.new_notebook(cells=[cell])
    writer.write(nbformat.writes(notebook), f"masked://{tmp_path / 'x.ipynb'}")
    cell.source = f"print('{MASKED}')"
    assert writer.read(f"masked://{tmp_path / 'x.ipynb'}") == nbformat.writes(notebook)
    assert [p.name for p in tmp_path.iterdir()] == ["x.ipynb"]
