"""The pipelines of 20_train, run out of its own cells, for tests of what becomes of them."""

from __future__ import annotations

import ast
import functools
from pathlib import Path
from typing import Any

import nbformat

from runbook import paths
from runbook.lint import notebooks

WANTED = ("table", "fields", "rows", "outcomes", "baselines", "candidates")


@functools.cache
def cells(notebook: Path | None = None) -> dict[str, Any]:
    """Return the names of 20_train, or of an edited copy, that training needs: rows, outcomes, candidates and so on.

    Only the cells that these names depend on are run, found by what they assign and use, whatever they are called.
    """
    names: dict[str, Any] = {}
    for source in _needed(_sources(notebook)):
        exec(source, names)  # noqa: S102 - the notebook's own cells are what is tested
    return names


def kinds(notebook: Path | None = None) -> list[str]:
    """Return the names of the candidates, read from the cell without running it."""
    return notebooks.candidates(_document(notebook))


def _document(notebook: Path | None) -> Any:
    return nbformat.read(notebook or paths.NOTEBOOKS / "20_train.ipynb", as_version=4)


def _sources(notebook: Path | None) -> list[str]:
    return [cell.source for cell in _document(notebook).cells if cell.cell_type == "code"]


def _needed(sources: list[str]) -> list[str]:
    wanted, needed = set(WANTED), []
    for source in reversed(sources):
        stored, loaded = _names(source)
        if stored & wanted:
            needed.append(source)
            wanted |= loaded
    return needed[::-1]


def _names(source: str) -> tuple[set[str], set[str]]:
    nodes = list(ast.walk(ast.parse(source)))
    named = [node for node in nodes if isinstance(node, ast.Name)]
    stored = {node.id for node in named if isinstance(node.ctx, ast.Store)}
    stored |= {
        a.asname or a.name for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for a in node.names
    }
    return stored, {node.id for node in named if isinstance(node.ctx, ast.Load)}
