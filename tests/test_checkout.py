"""What git does with a checkout: line endings, and notebooks that were opened, run and saved."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from built import checkout
from nbclient import NotebookClient

from runbook import paths

NOTEBOOK = "notebooks/99_teardown.ipynb"


def git(folder: Path, *words: str) -> str:
    person = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    done = subprocess.run(["git", "-C", str(folder), *person, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Returns a repository with the working tree in one commit, and an environment to start the filter in."""
    folder = checkout(paths.ROOT, tmp_path / "a clone")
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "all")
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    return folder


def set_up_filter(folder: Path) -> None:
    """Run the line of ``make lab`` that sets the filter up."""
    recipe = re.search(r"^\t@(git config filter\.notebook.*)$", (folder / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    subprocess.run(["bash", "-c", recipe[1]], cwd=folder, check=True, timeout=60)


@pytest.fixture(scope="module")
def ran() -> nbformat.NotebookNode:
    """Returns a notebook of one cell after a real kernel has run it, with what the kernel says of itself."""
    document = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("'shown'")])
    NotebookClient(document, kernel_name="python3", timeout=60).execute()
    return document


def save(path: Path, ran: nbformat.NotebookNode) -> None:
    """Save a notebook as JupyterLab does after its cells were run: with outputs, counts and its own metadata."""
    document = nbformat.read(path, as_version=4)
    document.metadata["language_info"] = ran.metadata["language_info"]
    document.metadata["kernelspec"]["display_name"] = "Python 3 (ipykernel)"
    for cell in document.cells:
        cell.metadata |= {"collapsed": False, "scrolled": True, "editable": True}
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = ran.cells[0].outputs, ran.cells[0].execution_count
    nbformat.write(document, path)


def test_opening_running_and_saving_a_notebook_changes_nothing_that_git_stores(
    clone: Path, ran: nbformat.NotebookNode
) -> None:
    set_up_filter(clone)
    save(clone / NOTEBOOK, ran)
    assert "shown" in (clone / NOTEBOOK).read_text()
    assert git(clone, "diff", "--stat") == ""
    git(clone / "notebooks", "add", "--all")
    assert git(clone, "diff", "--cached", "--stat") == ""


def test_a_real_edit_of_a_notebook_reaches_git_without_its_outputs(clone: Path, ran: nbformat.NotebookNode) -> None:
    set_up_filter(clone)
    save(clone / NOTEBOOK, ran)
    document = nbformat.read(clone / NOTEBOOK, as_version=4)
    document.cells[0].source += "\n\nOne more line."
    document.cells[0].metadata["tags"] = ["mine"]
    nbformat.write(document, clone / NOTEBOOK)
    added = [line[1:] for line in git(clone, "diff").splitlines() if re.match(r"\+[^+]", line)]
    assert any("One more line." in line for line in added) and any("mine" in line for line in added)
    assert len(added) < 12 and not any("shown" in line or "ipykernel" in line for line in added)


def test_a_clone_without_the_filter_works_as_before(clone: Path, ran: nbformat.NotebookNode) -> None:
    save(clone / NOTEBOOK, ran)
    git(clone, "add", "--all")
    assert NOTEBOOK in git(clone, "diff", "--cached", "--stat")


def test_a_filter_that_cannot_start_loses_no_edit(clone: Path, ran: nbformat.NotebookNode) -> None:
    set_up_filter(clone)
    shutil.rmtree(clone / ".venv")
    save(clone / NOTEBOOK, ran)
    git(clone, "add", "--all")
    assert git(clone, "show", f":{NOTEBOOK}") == (clone / NOTEBOOK).read_text()


def test_the_committed_notebooks_are_what_the_filter_makes_of_them() -> None:
    script = paths.ENVIRONMENT_SETUP / "clean_notebook.py"
    for path in sorted(paths.NOTEBOOKS.glob("*.ipynb")):
        done = subprocess.run([sys.executable, str(script)], input=path.read_bytes(), capture_output=True, timeout=60)
        assert done.stdout == path.read_bytes(), path.name


@pytest.mark.parametrize("content", [b"no notebook", b"[1]", b'{"cells": 1}', b"\xff\xfe", b'{"cells": [1]}', b""])
def test_what_is_no_notebook_passes_the_filter_unchanged(content: bytes) -> None:
    script = paths.ENVIRONMENT_SETUP / "clean_notebook.py"
    done = subprocess.run([sys.executable, str(script)], input=content, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, content)


def test_a_clone_by_a_git_that_writes_windows_line_endings_has_none(clone: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "-c", "core.autocrlf=true", "-c", "core.eol=crlf", str(clone), "other")
    for name in ("environment_setup/install-requirements.sh", "data/titanic.csv", "Makefile"):
        assert b"\r" not in (tmp_path / "other" / name).read_bytes()


def test_make_says_of_windows_line_endings_what_happened_and_the_command_mends_it(clone: Path) -> None:
    for name in git(clone, "ls-files", "-z").split("\0"):
        path = clone / name
        if name and b"\0" not in path.read_bytes():
            path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    done = subprocess.run(["make", "setup"], cwd=clone, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "This checkout has Windows line endings (CRLF)" in done.stderr and "bash\\r" not in done.stderr
    assert paths.RENEW_CHECKOUT in done.stderr
    subprocess.run(["bash", "-c", paths.RENEW_CHECKOUT], cwd=clone, check=True, timeout=60)
    script = clone / "environment_setup" / "install-requirements.sh"
    assert b"\r" not in script.read_bytes() and os.access(script, os.X_OK)
    assert git(clone, "status", "--porcelain") == ""
