"""One home in which the whole runbook has run once with short loads; the tests of this folder go on from there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from place import SHORT, Place


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("whole")
    this = Place(folder / "home", folder / "reports")
    try:
        this.first = this.run("run", "all", *SHORT, "--run-id", "first")
        yield this
    finally:
        this.run("down")
