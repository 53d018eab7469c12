"""The runner's deadlines follow from the platform's own: a verb gives up by itself before its cell is stopped."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest

from runbook import paths
from runbook.engine import plan
from runbook.platform.azure import AzurePlatform, workspace
from runbook.platform.base import Platform
from runbook.platform.local import LocalPlatform

# What changes a resource of a service, and waits until it is done.
WAITING = {name for name in vars(Platform) if name.startswith(("create_", "delete_", "install_", "attach_", "detach_"))}
WAITING |= {"deploy", "set_traffic"}
NAMES = ("AZURE_SUBSCRIPTION_ID", "AZURE_RESOURCE_GROUP", "AZURE_ML_WORKSPACE")


@pytest.fixture(params=["local", "azure"])
def platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Platform:
    if request.param == "local":
        return LocalPlatform()
    for name in NAMES:
        monkeypatch.setenv(name, "x")
    return AzurePlatform()


def test_a_cell_may_take_longer_than_the_platforms_longest_wait(platform: Platform) -> None:
    assert plan.cell_deadline(platform) >= platform.longest_wait + 600


def test_the_longest_wait_of_azure_is_that_of_its_longest_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNBOOK_AZURE_DEADLINE", raising=False)
    for name in NAMES:
        monkeypatch.setenv(name, "x")
    operations = (workspace.COMPUTE, workspace.ENDPOINT, workspace.DEPLOYMENT, workspace.CLUSTER, workspace.DELETION)
    assert AzurePlatform().longest_wait == max(operations)


@pytest.mark.parametrize("path", sorted(paths.NOTEBOOKS.glob("*.ipynb")), ids=lambda p: p.stem)
def test_no_cell_waits_for_two_operations(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            called = [n.attr for n in ast.walk(ast.parse(cell.source)) if isinstance(n, ast.Attribute)]
            assert len([name for name in called if name in WAITING]) <= 1, cell.id
