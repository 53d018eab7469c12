"""The first sentence of every module."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from runbook import paths

MODULES = sorted((paths.ROOT / "runbook").rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(paths.ROOT).as_posix())
def test_the_docstring_of_a_module_says_what_the_module_does(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    opening = docstring.split()[:1]
    assert opening and opening[0] not in ("What", "Who", "Where", "How", "Whether", "Which")
