from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.errors import Busy, PlatformError
from runbook.platform.local import state_dir


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder with a path short enough for sockets."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder)


def test_a_new_home_is_private_and_versioned(tmp_path: Path) -> None:
    state_dir.open_home(tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    version = json.loads((tmp_path / "new" / "version.json").read_text())
    assert version == {"version": state_dir.VERSION, "id": state_dir.open_home(tmp_path / "new").id}
    assert len(version["id"]) == 16


def test_a_home_keeps_its_id_and_the_next_one_at_its_place_has_another(tmp_path: Path) -> None:
    first = state_dir.open_home(tmp_path / "new").id
    assert state_dir.open_home(tmp_path / "new").id == first
    shutil.rmtree(tmp_path / "new")
    assert state_dir.open_home(tmp_path / "new").id != first


def test_a_home_of_an_earlier_release_gets_an_id_and_keeps_it(tmp_path: Path) -> None:
    state_dir.write_json(tmp_path / "old" / "version.json", {"version": state_dir.VERSION})
    given = state_dir.open_home(tmp_path / "old").id
    assert len(given) == 16
    assert state_dir.open_home(tmp_path / "old").id == given


def test_a_home_that_somebody_made_open_is_closed(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    state_dir.open_home(tmp_path / "open")
    assert (tmp_path / "open").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("version", [state_dir.VERSION + 1, 0, "1", None])
def test_a_home_of_an_unknown_version_is_refused_and_says_what_to_do(tmp_path: Path, version: object) -> None:
    (tmp_path / "version.json").write_text(json.dumps({"version": version}))
    with pytest.raises(PlatformError, match="another release.*RUNBOOK_HOME"):
        state_dir.open_home(tmp_path)


def test_the_runtime_folder_is_short_private_and_the_same_for_everybody(
    tmp_path: Path, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = state_dir.open_home(tmp_path / "home")
    runtime = of.runtime()
    assert runtime.is_relative_to(short)
    assert runtime.stat().st_mode & 0o777 == 0o700
    assert len(str(runtime)) <= state_dir.LONGEST_RUNTIME
    monkeypatch.setattr(tempfile, "tempdir", "/var/tmp")  # noqa: S108 - another process with another TMPDIR
    assert of.runtime() == runtime


def test_a_long_or_odd_temporary_folder_is_not_used_for_sockets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for odd in (tmp_path / ("x" * 60), tmp_path.parent / "a b"):
        odd.mkdir(exist_ok=True)
        monkeypatch.setattr(tempfile, "tempdir", str(odd))
        runtime = state_dir.open_home(tmp_path / odd.name).runtime()
        assert not runtime.is_relative_to(odd)
        runtime.rmdir()


def test_a_runtime_folder_that_others_can_enter_is_refused(tmp_path: Path, short: Path) -> None:
    (short / f"runbook-{os.getuid()}").mkdir(mode=0o700)
    (short / f"runbook-{os.getuid()}").chmod(0o777)
    with pytest.raises(PlatformError, match="TMPDIR"):
        state_dir.open_home(tmp_path / "home").runtime()


def test_a_symlink_in_place_of_the_runtime_folder_is_refused(tmp_path: Path, short: Path) -> None:
    (short / "elsewhere").mkdir(mode=0o700)
    (short / f"runbook-{os.getuid()}").symlink_to(short / "elsewhere")
    with pytest.raises(PlatformError, match="only you can enter"):
        state_dir.open_home(tmp_path / "home").runtime()


def test_a_copied_home_has_a_runtime_folder_of_its_own(tmp_path: Path, short: Path) -> None:
    runtime = state_dir.open_home(tmp_path / "home").runtime()
    shutil.copytree(tmp_path / "home", tmp_path / "copy")
    assert state_dir.open_home(tmp_path / "copy").runtime() != runtime


def test_who_waits_too_long_for_the_home_is_told_who_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_dir, "LOCK_WAIT_S", 0.1)
    of = state_dir.open_home(tmp_path)
    holds, done = threading.Event(), threading.Event()

    def hold() -> None:
        with of.lock("try something"):
            holds.set()
            done.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert holds.wait(10)
    with pytest.raises(Busy, match=f"pid {os.getpid()}, to try something"), of.lock("wait"):
        pass
    done.set()
    holder.join()
    with of.lock("go on"):
        pass


def test_files_are_private_and_a_damaged_one_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "new" / "some.json"
    state_dir.write_json(path, {"a": 1})
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert state_dir.read_json(path) == {"a": 1}
    for damage in ("{", "[]"):
        path.write_text(damage)
        with pytest.raises(PlatformError, match="runbook down"):
            state_dir.read_json(path)
    assert [p.name for p in path.parent.iterdir()] == ["some.json"]
