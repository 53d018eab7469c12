"""Kernels of a run: this interpreter and package, nothing of the user's, and no port."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from built import HOLDS, Builder

from runbook import paths
from runbook.engine import kernel, step
from runbook.engine.event_log import EventLog
from runbook.engine.masking import Mask
from runbook.engine.step import Limits, Result, Step


def run() -> Result:
    mask = Mask()
    log = EventLog(paths.run_folder("r1") / "events.jsonl", "r1", mask)
    limits = Limits(60, time.monotonic() + 120)
    return step.run(Step("20_train", None), "local", "r1", {"run_id": "r1"}, {}, limits, log, mask, lambda *_: None)


def message(result: Result) -> str:
    assert result.status == "failed" and result.error
    return f"{result.error['class']}: {result.error['message']}"


@pytest.mark.parametrize("variable", ["JUPYTER_PATH", "JUPYTER_DATA_DIR"])
def test_a_kernel_that_the_user_has_installed_under_our_name_is_not_started(
    build: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    build("20_train", HOLDS)
    started, spec = tmp_path / "started", tmp_path / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    code = f"open({str(started)!r}, 'w'); from ipykernel.kernelapp import launch_new_instance as start; start()"
    command = [sys.executable, "-c", code, "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "other", "language": "python"}))
    monkeypatch.setenv(variable, str(spec.parent.parent))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    assert run().status == "passed" and not started.exists()


def test_a_package_of_our_name_on_pythonpath_is_not_imported(
    build: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other" / "runbook").mkdir(parents=True)
    (tmp_path / "other" / "runbook" / "__init__.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "other"))
    build("20_train", HOLDS)
    assert run().status == "passed"


def test_a_kernel_that_imports_another_package_of_our_name_runs_no_cell(
    build: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = paths.ROOT / "runbook" / "__init__.py"
    monkeypatch.setattr(paths, "ROOT", tmp_path)  # a checkout without the package: the installed one is imported
    build("20_train", HOLDS)
    result = run()
    assert f"package is {installed}, expected {tmp_path}" in message(result) and result.cells_run == 0


def test_a_kernel_that_dies_before_its_first_word_fails_the_step_with_its_last_words(
    build: Builder, tmp_path: Path
) -> None:
    (tmp_path / "notebooks" / "ipykernel_launcher.py").write_text("raise SystemExit('the licence has expired')")
    build("20_train", HOLDS)
    result = run()
    assert "did not start" in message(result) and "the licence has expired" in message(result)
    assert step.load(paths.step_folder("r1", "20_train")) == result


def test_the_users_start_up_files_do_not_run(build: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran, startup = tmp_path / "ran", tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    for file in (startup / "00-mine.py", tmp_path / "startup.py"):
        file.write_text(f"open({str(ran)!r}, 'a').write(__file__)")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "startup.py"))
    build("20_train", HOLDS)
    assert run().status == "passed" and not ran.exists()


def test_no_port_carries_a_kernels_output_and_its_sockets_lie_in_a_folder_of_ours_alone(
    build: Builder, tmp_path: Path
) -> None:
    told = tmp_path / "told.json"
    build(
        "20_train",
        HOLDS,
        "import json, psutil\nfrom ipykernel import get_connection_file\n"
        "ports = {c.laddr.port for c in psutil.Process().net_connections('inet') if c.status == 'LISTEN'}\n"
        # ipykernel itself listens for what its forked children print; that port needs a secret and only takes messages in.
        "ports -= {get_ipython().kernel.iopub_thread._pipe_port}\n"
        "from pathlib import Path\nfile = Path(get_connection_file())\nmode = file.parent.stat().st_mode\n"
        f"Path({str(told)!r}).write_text(json.dumps([list(ports), str(file.parent), mode, json.loads(file.read_text())]))",
    )
    assert run().status == "passed"
    ports, folder, mode, connection = json.loads(told.read_text())
    assert ports == [] and connection["transport"] == "ipc" and Path(connection["ip"]).parent == Path(folder)
    assert not stat.S_IMODE(mode) & 0o077
    assert not Path(folder).exists()


def test_what_a_killed_runner_left_is_removed_by_the_next_and_what_a_living_one_holds_stays(
    build: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    code = (
        "import os, sys; from runbook.engine import kernel\n"
        "with kernel.private_folder() as made:\n    print(made, flush=True); "
    )
    lives = subprocess.Popen(
        [sys.executable, "-c", f"{code}sys.stdin.read()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert lives.stdin and lives.stdout
    held = Path(lives.stdout.readline().strip())
    killed = subprocess.run([sys.executable, "-c", f"{code}os.kill(os.getpid(), 9)"], capture_output=True, text=True)
    left = Path(killed.stdout.strip())
    assert left.exists()
    build("20_train", HOLDS)
    assert run().status == "passed"
    assert not left.exists() and held.exists()
    lives.communicate("", timeout=60)
    assert not held.exists()


def test_a_long_path_of_the_users_runtime_folder_is_no_place_for_sockets(
    build: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    build("20_train", HOLDS)
    assert run().status == "passed"


def test_a_kernel_keeps_the_environment_but_for_what_leads_it_to_other_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = ("PYTHONHOME", "PYTHONSTARTUP", "PYTHONOPTIMIZE", "JUPYTER_PATH", "GIT_DIR", "GIT_INDEX_FILE")
    for name in (*foreign, "AZURE_CLIENT_ID", "PYTHONWARNINGS"):
        monkeypatch.setenv(name, "x")
    found = kernel.environment(tmp_path)
    assert not set(foreign) & set(found)
    assert found["AZURE_CLIENT_ID"] == found["PYTHONWARNINGS"] == "x"
    assert found["PYTHONPATH"] == str(paths.ROOT)


def test_a_step_that_lacks_the_handoff_it_should_leave_does_not_pass(build: Builder) -> None:
    build("20_train", HOLDS, 'from runbook import handoff\nif False:\n    handoff.save("20_train", run_id)')
    assert "NoHandoff" in message(run())
