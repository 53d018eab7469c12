"""Where the code comes from, as run.json says it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from runbook import git, paths

PASSED_ON = {
    "RUNBOOK_GIT_REPOSITORY_URI": "https://example.org/team/titanic.git",
    "RUNBOOK_GIT_BRANCH": "main",
    "RUNBOOK_GIT_COMMIT": "26e51d9f0c2b7a4e8d3c5b6a7988776655443322",
    "RUNBOOK_GIT_DIRTY": "false",
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of its own, without a history so far."""
    tmp_path = tmp_path / "checkout"
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    (tmp_path / "runbook").mkdir(parents=True)
    (tmp_path / "runbook" / "git.py").write_text("")
    return tmp_path


def run_git(root: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(root), "-c", "user.name=t", "-c", "user.email=t@example.org", *words], check=True)


def test_a_token_in_the_remotes_address_is_not_recorded(root: Path) -> None:
    run_git(root, "init", "--quiet")
    run_git(root, "add", ".")
    run_git(root, "remote", "add", "origin", "https://build:s3cret@example.org/team/titanic.git")
    found = git.facts()
    assert found["git_repository_uri"] == "https://example.org/team/titanic.git"
    assert found["git_commit"] is None


def test_a_copy_without_git_says_that_it_does_not_know(root: Path) -> None:
    assert set(git.facts().values()) == {None}
    assert git.variables() == {}


def test_a_copy_without_git_says_what_was_passed_on_to_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PASSED_ON.items():
        monkeypatch.setenv(name, value)
    assert git.facts() == {
        "git_repository_uri": "https://example.org/team/titanic.git",
        "git_branch": "main",
        "git_commit": "26e51d9f0c2b7a4e8d3c5b6a7988776655443322",
        "git_dirty": False,
    }
    assert git.variables() == PASSED_ON


def test_a_checkout_is_believed_before_what_was_passed_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PASSED_ON.items():
        monkeypatch.setenv(name, value)
    run_git(root, "init", "--quiet", "--initial-branch", "mine")
    run_git(root, "add", ".")
    run_git(root, "commit", "--quiet", "--message", "first")
    (root / "changed.txt").write_text("x")
    found = git.facts()
    assert (found["git_branch"], found["git_dirty"], found["git_repository_uri"]) == ("mine", True, None)
    assert found["git_commit"] != PASSED_ON["RUNBOOK_GIT_COMMIT"]


def test_a_git_hook_of_another_repository_does_not_lend_its_commit(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_git(root, "init", "--quiet", "--initial-branch", "mine")
    run_git(root, "add", ".")
    run_git(root, "commit", "--quiet", "--message", "ours")
    ours = git.commit()
    other = tmp_path_factory.mktemp("other")
    run_git(other, "init", "--quiet", "--initial-branch", "theirs")
    run_git(other, "commit", "--quiet", "--allow-empty", "--message", "theirs")
    for name, value in {
        "GIT_DIR": other / ".git", "GIT_WORK_TREE": other, "GIT_INDEX_FILE": other / ".git" / "index"
    }.items():  # fmt: skip
        monkeypatch.setenv(name, str(value))
    assert git.commit() == ours and ours[0] and ours[1] is False
    assert git.facts()["git_branch"] == "mine"


def test_a_repository_around_a_copy_that_does_not_know_our_files_lends_no_commit(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_git(root.parent, "init", "--quiet")
    run_git(root.parent, "commit", "--quiet", "--allow-empty", "--message", "of a home directory")
    assert git.commit() == (None, None)
    monkeypatch.setenv("RUNBOOK_GIT_COMMIT", PASSED_ON["RUNBOOK_GIT_COMMIT"])
    assert git.commit() == (PASSED_ON["RUNBOOK_GIT_COMMIT"], None)
