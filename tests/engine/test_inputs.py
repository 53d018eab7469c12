from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from runbook import paths
from runbook.engine import inputs
from runbook.engine.step import Step
from runbook.errors import AnatomyError


def notebook(folder: Path, source: str) -> Path:
    path = folder / "10_small.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]), path)
    return path


def names(found: list[Path]) -> set[str]:
    return {str(path.relative_to(paths.ROOT / "runbook")) for path in found}


@pytest.mark.parametrize(
    "source",
    [
        "from runbook.testing import cases",
        "from runbook.testing.cases import known_cases",
        "import runbook.testing.cases",
        "from runbook.testing import (\n    cases,\n    load,\n)",
        "from runbook.testing import cases as made",
    ],
)
def test_every_way_to_import_a_module_names_it_and_what_it_imports(tmp_path: Path, source: str) -> None:
    found = names(inputs.modules(notebook(tmp_path, source)))
    assert {"testing/cases.py", "testing/bad_requests.py", "modelling/description.py"} <= found


def test_a_name_that_is_no_module_leads_to_the_module_that_holds_it(tmp_path: Path) -> None:
    assert "check.py" in names(inputs.modules(notebook(tmp_path, "from runbook.check import check")))


@pytest.mark.parametrize("source", ["from runbook.nowhere import x", "import runbook.testing.nowhere"])
def test_a_module_that_is_not_there_is_an_error(tmp_path: Path, source: str) -> None:
    with pytest.raises(AnatomyError, match="nowhere, which is no module"):
        inputs.modules(notebook(tmp_path, source))


def test_platforms_are_asked_and_are_no_inputs(tmp_path: Path) -> None:
    found = names(inputs.modules(notebook(tmp_path, "from runbook import connect")))
    assert "__init__.py" in found
    assert not {name for name in found if name.startswith("platform/")}


@pytest.mark.parametrize("path", sorted(paths.NOTEBOOKS.glob("[1-9]*.ipynb")), ids=lambda p: p.stem)
def test_the_modules_of_every_notebook_are_found(path: Path) -> None:
    assert {"__init__.py", "check.py"} <= names(inputs.modules(path))


def test_a_new_slice_does_not_train_again_but_evaluates_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    order = ["20_train", "30_evaluate"]

    def digests(step: str) -> dict[str, str]:
        return inputs.inputs(Step(step, None), order, "run")

    before = {step: digests(step) for step in order}
    changed = tmp_path / "dataset.py"
    changed.write_text(paths.DATASET.read_text().replace("def slices", "# another slice\n\n\ndef slices"))
    monkeypatch.setattr(paths, "DATASET", changed)
    after = {step: digests(step) for step in order}
    assert set(before["20_train"].values()) == set(after["20_train"].values())
    assert set(before["30_evaluate"].values()) != set(after["30_evaluate"].values())
