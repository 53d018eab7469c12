from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import recorded

from runbook import handoff, paths
from runbook.errors import HandoffMissing, RunError, UsageError

DECISION = {
    "decision": "promote",
    "reason": "better",
    "criteria": [
        {"name": "log loss", "wanted": "at most 0.5", "found": 0.4, "interval": [0.3, 0.5], "verdict": "passed"}
    ],
}


def test_what_one_step_saves_the_next_one_loads() -> None:
    handoff.save("20_train", "r1", sha256="abc", rows=3)
    assert handoff.load("20_train", "r1") == {"sha256": "abc", "rows": 3}


def test_a_staged_handoff_has_its_own_place() -> None:
    handoff.save("60_deploy", "r1", stage="dev", deployment="blue")
    handoff.save("60_deploy", "r1", stage="prod", deployment="green")
    assert handoff.load("60_deploy", "r1", "dev") == {"deployment": "blue"}
    assert handoff.find("70_functional_test", "r1", "dev") is None


def test_a_missing_handoff_names_the_step_to_run() -> None:
    with pytest.raises(HandoffMissing, match="runbook step 60_deploy --run-id r1 --stage prod"):
        handoff.load("60_deploy", "r1", "prod")
    with pytest.raises(HandoffMissing, match="runbook step 30_evaluate --run-id r1"):
        handoff.load_metadata("decision", "r1")


def left(run_id: str, deployment: str, minute: int, **fields: Any) -> None:
    """Leave a run with a handoff and metadata, both written in this minute of a day long past."""
    recorded.manifest(
        run_id, [("60_deploy", "dev", "passed")], **{"started": f"2026-11-22T10:{minute}:00+00:00", **fields}
    )
    saved = [handoff.save("60_deploy", run_id, stage="dev", deployment=deployment)]
    saved.append(handoff.save_metadata("decision", run_id, {**DECISION, "reason": deployment}))
    for path in saved:
        os.utime(path, (1e9 + minute, 1e9 + minute))


def test_a_notebook_opened_by_hand_reads_what_the_latest_green_run_left() -> None:
    left("r1", "blue", 10)
    left("r2", "green", 20)
    left("r3", "red", 30, status="failed")
    left("r4", "gone", 40, target="azure")
    left("r5", "played", 50, rehearsal=True)
    assert handoff.load("60_deploy", "interactive", "dev") == {"deployment": "green"}
    assert handoff.load_metadata("decision", "interactive")["reason"] == "green"
    assert handoff.find("60_deploy", "interactive", "dev") is None
    assert handoff.load("60_deploy", "r1", "dev") == {"deployment": "blue"}


def test_a_notebook_opened_by_hand_reads_its_own_handoff_when_that_is_newer() -> None:
    left("r1", "blue", 10)
    own = handoff.save("60_deploy", "interactive", stage="dev", deployment="mine")
    assert handoff.load("60_deploy", "interactive", "dev") == {"deployment": "mine"}
    os.utime(own, (1e9, 1e9))
    assert handoff.load("60_deploy", "interactive", "dev") == {"deployment": "blue"}


def test_without_a_green_run_a_notebook_opened_by_hand_says_in_one_line_what_to_run() -> None:
    left("r1", "blue", 10, status="failed")
    with pytest.raises(HandoffMissing) as caught:
        handoff.load("60_deploy", "interactive", "dev")
    message = str(caught.value)
    assert "No green run on the local target here has left 60_deploy-dev/handoff.json" in message
    assert message.endswith("Run first: .venv/bin/runbook run all") and "\n" not in message
    # What Jupyter prints of it, asked of IPython as a kernel would.
    source = "from runbook import handoff; handoff.load('60_deploy', 'interactive', 'dev')"
    command = [sys.executable, "-m", "IPython", "--colors=NoColor", "-c", source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert [line for line in done.stdout.splitlines() if line.strip()] == [f"HandoffMissing: {message}"]


def test_an_unknown_schema_version_is_refused() -> None:
    path = handoff.save("20_train", "r1", rows=3)
    path.write_text(path.read_text().replace('"1.2"', '"2.0"'))
    with pytest.raises(RunError, match="schema_version '2.0', expected 1.x"):
        handoff.load("20_train", "r1")


def test_a_newer_minor_version_is_read() -> None:
    path = handoff.save("20_train", "r1", rows=3)
    path.write_text(path.read_text().replace('"1.2"', '"1.7"'))
    assert handoff.load("20_train", "r1") == {"rows": 3}


def test_a_file_cut_short_is_refused() -> None:
    path = handoff.save("20_train", "r1", rows=3)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(RunError, match="is not JSON"):
        handoff.load("20_train", "r1")


@pytest.mark.parametrize(
    ("content", "words"), [(b"[1]", "holds list, expected an object"), (b"\xff\xfe{}", "is not JSON")]
)
def test_a_file_that_is_no_object_is_refused(content: bytes, words: str) -> None:
    handoff.save("20_train", "r1", rows=3).write_bytes(content)
    with pytest.raises(RunError, match=words):
        handoff.load("20_train", "r1")


def test_metadata_that_breaks_its_schema_is_not_written() -> None:
    with pytest.raises(RunError, match=r"decision\.json: Invalid enum value 'maybe' - at `\$\.decision`"):
        handoff.save_metadata("decision", "r1", {**DECISION, "decision": "maybe"})
    assert not (paths.run_folder("r1") / "metadata" / "decision.json").exists()


def test_nan_is_not_written() -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        handoff.save("20_train", "r1", loss=float("nan"))
    assert not paths.step_folder("r1", "20_train").exists()


def test_metadata_comes_back_as_it_was_saved() -> None:
    path = handoff.save_metadata("decision", "r1", DECISION)
    assert handoff.load_metadata("decision", "r1") == {"schema_version": "1.2", **DECISION}
    assert json.loads(path.read_text())["decision"] == "promote"


@pytest.mark.parametrize("run_id", ["", "../x", "a/b", ".hidden", "a b"])
def test_a_run_id_can_not_leave_the_reports_folder(run_id: str) -> None:
    with pytest.raises(UsageError):
        handoff.save("20_train", run_id, rows=1)
