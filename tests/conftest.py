"""Every test works in a home and a reports folder of its own, never in the checkout."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from built import PARAMETERS, Builder

from runbook import paths
from runbook.engine import params


def pytest_configure() -> None:
    # A suite that was started in the background inherits a Ctrl-C that is ignored; the tests of interruption send one.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The longest files first, so that two processes end at about the same time.
    longest = ("pipelines", "whole", "nbval", "test_evaluate.py", "azure", "local")
    items.sort(key=lambda item: next((n for n, name in enumerate(longest) if name in item.path.parts), len(longest)))


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RUNBOOK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RUNBOOK_REPORTS", str(tmp_path / "reports"))
    monkeypatch.delenv("RUNBOOK_KERNEL_LOCK", raising=False)
    params.declared.cache_clear()
    yield
    params.declared.cache_clear()


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builder:
    """Returns a function that writes a small notebook under a step's name, into a notebooks folder of this test."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setattr(paths, "NOTEBOOKS", folder)

    def write(name: str, *code: str, extra: str = "", tagged: bool = True) -> Path:
        cells = [nbformat.v4.new_markdown_cell(f"# Try {name}\n\nA notebook of a test.", id="title")]
        parameters = nbformat.v4.new_code_cell(PARAMETERS + extra, id="parameters")
        if tagged:
            parameters.metadata["tags"] = ["parameters"]
        cells.append(parameters)
        cells += [nbformat.v4.new_code_cell(source, id=f"cell-{n}") for n, source in enumerate(code, 1)]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
        path = folder / f"{name}.ipynb"
        nbformat.write(notebook, path)
        params.declared.cache_clear()
        return path

    return write
