"""The pipelines of 20_train, run out of its own cells, for tests of what becomes of them."""

from __future__ import annotations

import functools
from typing import Any

import nbformat

from runbook import repository

CELLS = (
    "imports",
    "load-rows",
    "fields",
    "places",
    "baselines",
    "logistic-regression",
    "gradient-boosting",
    "random-forest",
    "candidates",
)


@functools.cache
def cells() -> dict[str, Any]:
    """Return the names that 20_train defines up to its candidates: rows, outcomes, baselines, candidates and so on."""
    notebook = nbformat.read(repository.NOTEBOOKS / "20_train.ipynb", as_version=4)
    sources = {cell.id: cell.source for cell in notebook.cells}
    names: dict[str, Any] = {"seed": 2026}
    for name in CELLS:
        exec(sources[name], names)  # noqa: S102 - the notebook's own cells are what is tested
    return names
