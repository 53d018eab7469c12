"""The registry of targets, and notebooks that do not know which targets exist."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

from runbook import paths, platform
from runbook.errors import UsageError


class KindPlatform:
    target = "kind"


@pytest.fixture
def kind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Adds a target as the README says: its values, its row and its class; returns the folder of its values."""
    module = ModuleType("runbook.platform.kind")
    module.KindPlatform = KindPlatform  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "runbook.platform.kind", module)
    monkeypatch.setitem(platform.TARGETS, "kind", ("runbook.platform.kind", "KindPlatform"))
    monkeypatch.setattr(paths, "PARAMS", tmp_path)
    for name in ("local", "azure", "kind"):
        (tmp_path / f"{name}.yml").write_text("")
    return tmp_path


def test_a_target_is_its_values_a_row_and_a_class(kind: Path) -> None:
    assert platform.targets() == ("local", "azure", "kind")
    assert isinstance(platform.open("kind"), KindPlatform)


def test_a_target_without_values_is_not_offered(kind: Path) -> None:
    (kind / "kind.yml").unlink()
    assert platform.targets() == ("local", "azure")


def test_a_name_that_is_no_target_is_refused_with_the_targets() -> None:
    with pytest.raises(UsageError, match="target is 'gcp': expected one of local, azure"):
        platform.open("gcp")


@pytest.mark.parametrize("path", sorted(paths.NOTEBOOKS.glob("*.ipynb")), ids=lambda p: p.stem)
def test_no_notebook_asks_which_target_it_is_on_or_lists_the_targets(path: Path) -> None:
    source = "\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code")
    words = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    assert "azure" not in words and "local|azure" not in source
    assert "platform.target" not in source


def test_only_a_platform_whose_endpoints_are_elsewhere_lets_a_load_leave_this_machine() -> None:
    assert platform.open("local").remote is False
    from runbook.platform.azure import AzurePlatform

    assert AzurePlatform.remote is True
