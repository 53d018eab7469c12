from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from built import HOLDS, Builder

from runbook import paths
from runbook.engine import step
from runbook.engine.event_log import EventLog
from runbook.engine.masking import Mask
from runbook.engine.step import Limits, Result, Step


def run(
    name: str = "20_train", cell_seconds: float = 60, run_seconds: float = 120, secrets: list[str] | None = None
) -> Result:
    mask = Mask(lambda: secrets or [])
    log = EventLog(paths.run_folder("r1") / "events.jsonl", "r1", mask)
    limits = Limits(cell_seconds, time.monotonic() + run_seconds)
    return step.run(Step(name, None), "local", "r1", {"run_id": "r1"}, {}, limits, log, mask, lambda *_: None)


def evidence(name: str = "20_train") -> dict[str, object]:
    folder = paths.step_folder("r1", name)
    assert (folder / "executed.ipynb").exists()
    document: dict[str, object] = json.loads((folder / "result.json").read_text())
    return document


def test_a_step_whose_checks_hold_passes(build: Builder) -> None:
    build("20_train", HOLDS)
    result = run()
    assert (result.status, result.cells_run, result.cells) == ("passed", 2, 2)
    assert [c["name"] for c in result.checks] == ["one is one"]
    assert evidence()["status"] == "passed"


def test_a_cell_that_raises_fails_the_step_and_names_the_cell(build: Builder) -> None:
    build("20_train", HOLDS, "1 / 0", HOLDS)
    result = run()
    assert result.status == "failed"
    assert result.error == {"class": "ZeroDivisionError", "message": "division by zero", "cell": "cell-2"}
    assert evidence()["cells_run"] == 2


def test_a_killed_kernel_fails_the_step(build: Builder) -> None:
    build("20_train", HOLDS, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", HOLDS)
    result = run()
    assert result.status == "failed"
    assert result.error and result.error["class"] == "KernelDied" and result.error["cell"] == "cell-2"
    assert evidence()["status"] == "failed"


def test_a_kernel_that_leaves_with_os_exit_fails_the_step(build: Builder) -> None:
    build("20_train", HOLDS, "import os; os._exit(0)")
    assert run().status == "failed"


def test_a_cell_beyond_its_deadline_fails_the_step(build: Builder) -> None:
    build("20_train", HOLDS, "import time; time.sleep(60)")
    result = run(cell_seconds=2)
    assert result.error and result.error["class"] == "DeadlineExceeded"
    assert "per cell" in (result.error["message"] or "")


def test_output_that_does_not_arrive_is_not_called_a_deadline(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "OUTPUT_SECONDS", 1)
    # Without the word "idle" the client waits for more output of a cell that has long replied.
    silence = "get_ipython().kernel._publish_status = lambda *a, **k: None"
    build("20_train", HOLDS, silence)
    result = run(cell_seconds=60)
    assert result.error and result.error["class"] == "OutputLost"
    assert "did not arrive within 1 s" in (result.error["message"] or "")
    assert "deadline" not in (result.error["message"] or "")


def test_output_may_take_longer_than_the_clients_own_four_seconds(build: Builder) -> None:
    # The word that ends a cell's output comes six seconds after the cell's reply.
    late = (
        "kernel = get_ipython().kernel; publish = kernel._publish_status\n"
        "def slowly(status, *a, **k):\n"
        "    kernel.io_loop.call_later(6, publish, status, *a, **k) if status == 'idle' else publish(status, *a, **k)\n"
        "kernel._publish_status = slowly"
    )
    build("20_train", HOLDS, late)
    assert run(cell_seconds=60).status == "passed"


def test_a_run_beyond_its_deadline_fails_the_step(build: Builder) -> None:
    build("20_train", HOLDS, "import time; time.sleep(60)")
    result = run(run_seconds=3)
    assert result.error and result.error["class"] == "DeadlineExceeded"
    assert "the run's deadline" in (result.error["message"] or "")


@pytest.mark.parametrize("leave", ["import sys; sys.exit(0)", "raise SystemExit"])
def test_leaving_half_way_without_an_error_fails_the_step(build: Builder, leave: str) -> None:
    build("20_train", HOLDS, leave, HOLDS)
    result = run()
    assert result.status == "failed"
    assert result.error and result.error["class"] == "LeftEarly"
    assert (result.cells_run, result.cells) == (2, 4)


def test_running_out_of_memory_fails_the_step(build: Builder) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30, 2 * 2**30))"
    build("20_train", HOLDS, limit, "hog = bytearray(8 * 2**30)")
    result = run()
    assert result.error and result.error["class"] == "MemoryError"


def test_a_check_that_does_not_hold_fails_the_step_and_keeps_wanted_and_found(build: Builder) -> None:
    build("20_train", 'from runbook.check import check\ncheck("p99, ms", found=61.2, at_most=58.0)')
    result = run()
    assert result.error and result.error["class"] == "CheckFailed"
    assert result.checks == [{"name": "p99, ms", "wanted": "at most 58", "found": "61.2", "status": "failed"}]


def test_a_step_without_any_check_does_not_pass(build: Builder) -> None:
    build("20_train", "1 + 1")
    result = run()
    assert result.error and result.error["class"] == "NothingChecked"


def test_a_step_with_nothing_to_do_says_why_and_is_green(build: Builder) -> None:
    build("20_train", 'from runbook.check import not_needed\nnot_needed("the champion stays")')
    result = run()
    assert (result.status, result.not_needed, result.green) == ("not_needed", "the champion stays", True)


def test_a_failure_after_not_needed_stays_a_failure(build: Builder) -> None:
    build("20_train", 'from runbook.check import not_needed\nnot_needed("nothing to do")', "1 / 0")
    assert run().status == "failed"


def test_a_notebook_that_asks_for_input_fails_instead_of_waiting(build: Builder) -> None:
    build("20_train", HOLDS, 'input("who?")')
    result = run(cell_seconds=20)
    assert result.error and result.error["class"] == "StdinNotImplementedError"


def test_a_second_run_of_a_step_does_not_keep_the_first_ones_files(build: Builder) -> None:
    build("20_train", 'from runbook import handoff\nhandoff.save("20_train", run_id, answer=1)', HOLDS)
    run()
    build("20_train", "1 / 0")
    run()
    assert not (paths.step_folder("r1", "20_train") / "handoff.json").exists()


def test_planted_secrets_reach_no_file(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "hunter2-very-secret")
    told = "endpoint-key-0123456789"
    build(
        "20_train",
        "import os; secret = os.environ['MY_API_KEY']; secret",
        f"{{'url': 'https://user:' + secret + '@host/x?sig=' + secret, 'key': {told!r}}}",
        "display({'application/json': {'token': secret}}, raw=True)",
        "import base64; base64.b64encode(secret.encode()).decode()",
        "raise ValueError('could not sign in with ' + secret)",
    )
    result = run(secrets=[told])
    assert result.error and "hunter2" not in (result.error["message"] or "")
    files = [p for p in paths.run_folder("r1").rglob("*") if p.is_file()]
    assert len(files) >= 3
    for path in files:
        text = path.read_text(errors="replace")
        assert "hunter2-very-secret" not in text, path
        assert told not in text, path
        assert "aHVudGVyMi12ZXJ5LXNlY3JldA==" not in text, path


def test_every_cell_is_reported_while_it_runs(build: Builder) -> None:
    build("20_train", HOLDS, "2 + 2")
    seen: list[tuple[int, int, str]] = []
    mask = Mask()
    log = EventLog(paths.run_folder("r1") / "events.jsonl", "r1", mask)
    step.run(
        Step("20_train", None),
        "local",
        "r1",
        {},
        {},
        Limits(60, time.monotonic() + 60),
        log,
        mask,
        lambda *a: seen.append(a),
    )
    assert seen == [(1, 3, "parameters"), (2, 3, "cell-1"), (3, 3, "cell-2")]


def test_the_notebook_in_the_checkout_is_never_written(build: Builder) -> None:
    path = build("20_train", HOLDS)
    before = path.read_bytes()
    run()
    assert path.read_bytes() == before


def test_result_json_can_be_read_back(build: Builder, tmp_path: Path) -> None:
    build("20_train", HOLDS)
    result = run()
    assert step.load(paths.step_folder("r1", "20_train")) == result
    assert step.load(tmp_path) is None


def test_an_error_that_is_not_a_notebooks_is_the_failure_of_its_step(build: Builder) -> None:
    build("20_train", HOLDS)
    mask = Mask()
    log = EventLog(paths.run_folder("r1") / "events.jsonl", "r1", mask)
    limits = Limits(60, time.monotonic() + 120)

    def onlooker(number: int, cells: int, cell: str) -> None:
        raise OSError(5, "the terminal is gone")

    result = step.run(Step("20_train", None), "local", "r1", {}, {}, limits, log, mask, onlooker)
    assert result.status == "failed" and result.error
    assert (result.error["class"], result.error["message"]) == ("OSError", "[Errno 5] the terminal is gone")
    assert step.load(paths.step_folder("r1", "20_train")) == result
