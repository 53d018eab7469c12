"""What was promised about the project's outside: folders, packages, lock."""

from __future__ import annotations

import re
import tomllib

import pytest

from runbook import paths

PROJECT = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())
LOCK = (paths.ENVIRONMENT_SETUP / "requirements.lock").read_text()


@pytest.mark.parametrize(
    "name", ["notebooks", "params", "deployment", "environment_setup", "reports", "tests", "README.md"]
)
def test_the_seven_top_level_names_exist(name: str) -> None:
    assert (paths.ROOT / name).exists()


@pytest.mark.parametrize(
    "name", ["papermill", "jupyter", "azure-ai-ml", "scikit-learn", "pandas", "matplotlib", "nbval"]
)
def test_the_seven_packages_are_direct_dependencies(name: str) -> None:
    direct = {re.split(r"[<>=!~; ]", line)[0] for line in PROJECT["project"]["dependencies"]}
    assert name in direct


def test_every_direct_dependency_says_why_it_is_there() -> None:
    lines = [
        line.strip()
        for line in (paths.ROOT / "pyproject.toml").read_text().splitlines()
        if re.match(r'^\s+"[a-z0-9-]+(\[[a-z,]+\])?[<>=!~]', line) or re.match(r'^\s+"types-', line)
    ]
    assert len(lines) > 30
    assert [line for line in lines if "#" not in line] == []


def test_the_lock_names_every_direct_dependency_with_hashes_and_no_registry() -> None:
    names = {m[1] for m in re.finditer(r"^([a-z0-9._-]+)==", LOCK, re.MULTILINE)}
    wanted = PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"]
    assert {re.split(r"[<>=!~; ]", line)[0].lower() for line in wanted} <= names
    assert "://" not in LOCK
    pins = re.split(r"^(?=[a-z0-9._-]+==)", LOCK, flags=re.MULTILINE)[1:]
    assert [p.splitlines()[0] for p in pins if "--hash=sha256:" not in p] == []
