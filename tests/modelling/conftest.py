"""The facts about the data, in a copy that a test may spoil."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from facts_copy import FactsCopy

from runbook import paths
from runbook.modelling import description


@pytest.fixture
def facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FactsCopy]:
    """Return a copy of data/dataset.py and its CSV that the package reads instead of the project's own."""
    own = description.description()
    folder = tmp_path / "data"
    folder.mkdir()
    copy = FactsCopy(Path(shutil.copy(paths.DATASET, folder)), Path(shutil.copy(own.file, folder)))
    monkeypatch.setattr(paths, "DATASET", copy.path)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    description.description.cache_clear()
    yield copy
    description.description.cache_clear()
