"""nbval twice: every notebook in order, where the checks bite; and the reference set, where stored tables must come again."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from nbval_reference import ALL, FOLDER, KEPT, prepare

from runbook import paths

HERE = Path(__file__).parent
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    found = os.environ | {"RUNBOOK_HOME": str(tmp_path / "home"), "RUNBOOK_REPORTS": str(tmp_path / "reports")}
    found |= {"PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    yield found
    subprocess.run([str(Path(sys.executable).with_name("runbook")), "down"], check=True, env=found, timeout=120)


def nbval(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    # Without a cell timeout nbval waits half an hour for a kernel that has died.
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "-p", "no:cacheprovider", "-p", "nbval.plugin"]
    command += ["--nbval-cell-timeout", "120", "--rootdir", os.sep, *words]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environment,
        timeout=550,
        stdin=subprocess.DEVNULL,
        cwd=paths.ROOT,
    )


def test_every_notebook_runs_in_order_and_its_checks_hold(environment: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "prepared"
    folder.mkdir()
    done = nbval(environment, "--nbval-lax", *(str(prepare(name, folder)) for name in ALL))
    assert done.returncode == 0, done.stdout[-6000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) > 150


def test_the_stored_tables_come_again(environment: dict[str, str], tmp_path: Path) -> None:
    # A copy, so that nothing can be written into the checkout.
    folder = shutil.copytree(FOLDER, tmp_path / "reference")
    notebook_paths = [str(folder / f"{name}.ipynb") for name in KEPT]
    done = nbval(environment, "--nbval", "--nbval-sanitize-with", str(HERE / "sanitize.cfg"), *notebook_paths)
    assert done.returncode == 0, done.stdout[-6000:]


def test_a_changed_value_turns_the_strict_comparison_red(environment: dict[str, str], tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "reference")
    train = folder / "20_train.ipynb"
    text = train.read_text()
    table = re.search(r"women live[^0-9]+0\.(\d{3})", text)
    assert table, "the reference of 20_train has lost its table of results"
    wrong = str((int(table[1]) + 111) % 1000).zfill(3)
    train.write_text(text.replace(f"0.{table[1]}", f"0.{wrong}"))
    notebook_paths = [str(folder / "10_create_compute.ipynb"), str(train)]
    done = nbval(environment, "--nbval", "--nbval-sanitize-with", str(HERE / "sanitize.cfg"), *notebook_paths)
    assert done.returncode == 1 and "1 failed" in done.stdout, done.stdout[-3000:]


def test_a_dead_kernel_is_red_and_does_not_hang(environment: dict[str, str], tmp_path: Path) -> None:
    path = prepare("10_create_compute", tmp_path)
    path.write_text(path.read_text().replace("platform.binding()", "__import__('os')._exit(0)"))
    done = nbval(environment, "--nbval-lax", "--nbval-cell-timeout", "8", str(path))
    assert done.returncode == 1, done.stdout[-3000:]
