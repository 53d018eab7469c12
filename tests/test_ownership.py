from __future__ import annotations

import os
from pathlib import Path

import pytest

from runbook import ownership, paths
from runbook.engine import lock
from runbook.errors import PlatformError
from runbook.platform.local import state_dir


def test_a_missing_folder_is_made_for_its_owner_only(tmp_path: Path) -> None:
    made = ownership.private(tmp_path / "a" / "b")
    assert made.stat().st_mode & 0o777 == 0o700


def test_an_open_folder_without_contents_is_closed(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert ownership.private(tmp_path / "open").stat().st_mode & 0o777 == 0o700


def test_a_folder_of_another_user_is_refused_with_both_users(tmp_path: Path) -> None:
    theirs = Path("/usr")
    if os.getuid() == 0:
        theirs = tmp_path / "theirs"
        theirs.mkdir()
        os.chown(theirs, 4321, -1)
    owner, mode = theirs.stat().st_uid, theirs.stat().st_mode
    with pytest.raises(PlatformError, match=rf"user with id {owner}, expected your own, {os.getuid()}.*RUNBOOK_HOME"):
        ownership.private(theirs)
    assert theirs.stat().st_mode == mode


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_contents_that_others_could_have_written_are_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "planted").write_text("theirs")
    tmp_path.chmod(mode)
    with pytest.raises(PlatformError, match=rf"mode {mode:04o}.*chmod 700"):
        ownership.private(tmp_path)
    tmp_path.chmod(0o700)
    ownership.private(tmp_path)


@pytest.mark.parametrize(
    "place", ["lock", "version.json", "mlflow.db", "locks/local.run", "endpoints/titanic-dev/state.json", "artifacts"]
)
def test_a_link_anywhere_in_the_home_is_refused_and_nothing_outside_changes(tmp_path: Path, place: str) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "home" / place
    outside.write_text("mine")
    inside.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "home").chmod(0o700)
    inside.symlink_to(outside)

    with pytest.raises(PlatformError, match=f"{place} is a symbolic link to {outside}"):
        state_dir.open_home(tmp_path / "home")
    with pytest.raises(PlatformError, match="symbolic link"), lock.hold("local", "r1", "runbook run"):
        pass
    assert paths.home() == tmp_path / "home"
    assert outside.read_text() == "mine"


def test_a_link_that_a_replica_made_in_its_own_folder_does_no_harm(tmp_path: Path) -> None:
    own = tmp_path / "home" / "endpoints" / "titanic-dev" / "replica-home"
    own.mkdir(parents=True)
    (own / "cache").symlink_to(tmp_path)
    ownership.private(tmp_path / "home")
