"""README's recipe for another model, followed literally: a fourth candidate in a cell of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from workbench import cells, kinds

from runbook import paths
from runbook.engine import params
from runbook.lint import notebooks
from runbook.modelling import onnx_model

RECIPE = (
    "a cell of its own that spells it out, its name in `candidates`, and its name in the comment of `model_kind`",
    "`make reference`",
)
NAME = "plain_regression"
PIPELINE = f"""# A logistic regression without interactions
{NAME} = make_pipeline(filled, LogisticRegression(C=0.3, max_iter=2000))"""
COPIED = ("data", "deployment", "environment_setup", "notebooks", "params", "pipelines", "runbook", "tests")


def follow(notebook: Path) -> None:
    """Edit a copy of 20_train as README says."""
    document = nbformat.read(notebook, as_version=4)
    at, candidates = next((n, c) for n, c in enumerate(document.cells) if "\ncandidates = {" in c.source)
    prose = nbformat.v4.new_markdown_cell("**Plain.** One coefficient a field.", id="plain-note")
    document.cells[at - 1 : at - 1] = [prose, nbformat.v4.new_code_cell(PIPELINE, id="plain")]
    candidates.source = candidates.source.replace("\n}", f'\n    "{NAME}": {NAME},\n}}')
    (parameters,) = (c for c in document.cells if "parameters" in c.metadata.get("tags", []))
    parameters.source = parameters.source.replace("|random_forest", f"|random_forest|{NAME}")
    nbformat.write(document, notebook)


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    copy = tmp_path / "20_train.ipynb"
    copy.write_text((paths.NOTEBOOKS / "20_train.ipynb").read_text())
    follow(copy)
    return copy


def test_readme_tells_the_recipe() -> None:
    text = " ".join((paths.ROOT / "README.md").read_text().split())
    assert [words for words in RECIPE if words not in text] == []


def test_a_fourth_candidate_keeps_the_anatomy_and_can_be_chosen_by_name(notebook: Path) -> None:
    assert notebooks.notebook(notebook) == []
    assert params.declared(notebook)["model_kind"].choices[-1] == NAME


def test_a_fourth_candidate_is_found_fitted_and_exported_like_the_others(notebook: Path) -> None:
    assert kinds(notebook) == [*kinds(), NAME]
    names = cells(notebook)
    pipeline = names["candidates"][NAME].fit(names["rows"], names["outcomes"])
    assert onnx_model.parity(pipeline, onnx_model.export(pipeline), names["rows"], 1e-5).flipped_verdicts == 0


@pytest.mark.slow
def test_with_a_fourth_candidate_the_tests_of_the_model_are_green(tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    for name in COPIED:
        shutil.copytree(paths.ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copyfile(paths.ROOT / name, root / name)
    follow(root / "notebooks" / "20_train.ipynb")
    files = [f"tests/modelling/test_{name}.py" for name in ("onnx_model", "training", "promotion")]
    files.append("tests/lint/test_notebook_lint.py")
    assert [name for name in files if not (root / name).exists()] == []
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout[-6000:]


LIMIT_RECIPE = "the parameters cell of 20, 30, 70 or 80 names it"
STEPS_WITH_LIMITS = ("20_train", "30_evaluate", "70_functional_test", "80_stress_test")


def limits() -> dict[str, params.Parameter]:
    """Return every limit in the parameters cells that README names, by its name."""
    cells = [params.declared(paths.NOTEBOOKS / f"{step}.ipynb") for step in STEPS_WITH_LIMITS]
    return {name: p for declared in cells for name, p in declared.items() if params.LIMIT.search(name)}


def stricter(limit: params.Parameter) -> float:
    """Return another allowed value of a limit, in its own type and never looser than the default."""
    assert limit.bounds is not None
    value = (limit.default + limit.bounds["_min_" in f"_{limit.name}"]) / 2
    return int(value) if limit.type == "int" else float(value)


def test_a_limit_is_named_where_readme_says_and_set_once_with_p(tmp_path: Path) -> None:
    readme = " ".join((paths.ROOT / "README.md").read_text().split())
    assert LIMIT_RECIPE in readme and "`-p name=value`" in readme
    found = limits()
    assert {p.notebook for p in found.values()} >= {f"notebooks/{s}.ipynb" for s in ("20_train", "30_evaluate")}
    for name, limit in found.items():
        values = params.layers("local", "prod", overrides=[f"{name}={stricter(limit)}"])
        assert values[name] == stricter(limit), name


@pytest.mark.parametrize("name", ["cv_min_accuracy", "holdout_max_brier", "max_p95_ms"])
def test_a_limit_that_is_set_in_params_reaches_its_step(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = limits()[name]
    shutil.copytree(paths.PARAMS, tmp_path / "params")
    monkeypatch.setattr(paths, "PARAMS", tmp_path / "params")
    file = tmp_path / "params" / "prod.yml"
    others = [line for line in file.read_text().splitlines() if not line.startswith(f"{name}:")]
    file.write_text("\n".join([*others, f"{name}: {stricter(limit)}"]) + "\n")
    values = params.layers("local", "prod")
    given = params.for_step(paths.ROOT / limit.notebook, "local", "prod", "r1", values)
    assert given[name] == stricter(limit)
