from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from workbench import kinds

from runbook import paths
from runbook.engine import params
from runbook.lint import deployment_files, notebooks

GOOD = paths.NOTEBOOKS / "10_create_compute.ipynb"


def cell(document: Any, name: str) -> Any:
    return next(c for c in document.cells if c.id == name)


def drop_table(document: Any) -> None:
    document.cells[0].source = "# Create the compute target"


def drop_row(document: Any) -> None:
    document.cells[0].source = document.cells[0].source.replace("| **Undo**", "| **Redo**")


def drop_after(document: Any) -> None:
    cell(document, "after").source = "Afterwards"


def store_output(document: Any) -> None:
    cell(document, "binding").outputs = [nbformat.v4.new_output("stream", text="x")]


def random_id(document: Any) -> None:
    cell(document, "binding")["id"] = "Aa_1"


def no_label(document: Any) -> None:
    cell(document, "binding").source = "platform = connect(target)"


def define(document: Any) -> None:
    cell(document, "binding").source += "\ndef helper():\n    return 1"


def swallow(document: Any) -> None:
    cell(document, "binding").source += "\ntry:\n    x = 1\nexcept ValueError:\n    x = 2"


def leave(document: Any) -> None:
    cell(document, "binding").source += "\nimport sys\nsys.exit(0)"


def shell(document: Any) -> None:
    cell(document, "binding").source += "\n!pip install x"


def engine(document: Any) -> None:
    cell(document, "binding").source += "\nfrom runbook import plan"


def unchecked_action(document: Any) -> None:
    cell(document, "check-created").source = "# Look\ncreated"


def no_summary(document: Any) -> None:
    cell(document, "summary").source = "# End\n1"


def long_cell(document: Any) -> None:
    cell(document, "binding").source += "\nx = 1" * 16


def wordy(document: Any) -> None:
    cell(document, "binding-note").source = "word " * 150


def untag(document: Any) -> None:
    cell(document, "parameters").metadata["tags"] = []


def forget_run_id(document: Any) -> None:
    lines = cell(document, "parameters").source.splitlines()
    cell(document, "parameters").source = "\n".join(line for line in lines if not line.startswith("run_id"))


def compare_with_itself(document: Any) -> None:
    cell(document, "binding").source += '\ncheck("golden rows", found=passed["golden"], wanted=passed["golden"])'


def derive_the_wish(document: Any) -> None:
    cell(document, "binding").source += '\ncheck("rows", found=len(rows), at_least=min(len(rows), 20))'


def find_a_constant(document: Any) -> None:
    cell(document, "binding").source += '\ncheck("the digest", found="0", wanted=sha256)'


def find_nothing(document: Any) -> None:
    cell(document, "binding").source += '\ncheck("the digest", wanted=sha256)'


def never_need(document: Any) -> None:
    cell(document, "binding").source += '\ncheck("the digest", found=found, wanted=sha256, needed=False)'


def open_everything(document: Any) -> None:
    cell(document, "binding").source += "\ntable = dataset.load()"


def open_under_another_name(document: Any) -> None:
    cell(document, "binding").source += "\nfrom runbook.modelling import dataset as m\ntable = m.holdout()"


def import_the_opener(document: Any) -> None:
    cell(document, "binding").source += "\nfrom runbook.modelling.dataset import holdout as rows"


def read_the_file(document: Any) -> None:
    cell(document, "binding").source += '\ntable = pd.read_csv("../data/titanic.csv")'


def check_little(document: Any) -> None:
    cells = [nbformat.v4.new_code_cell("# Look\nplatform", id=f"look-{n}") for n in range(20)]
    document.cells[-2:-2] = cells


def many_cells(document: Any) -> None:
    document.cells[-2:-2] = [nbformat.v4.new_markdown_cell("A note.", id=f"note-{n}") for n in range(40)]


def little_prose(document: Any) -> None:
    document.cells = [c for c in document.cells if c.cell_type == "code" or c.source.startswith("#")]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (compare_with_itself, "check 'golden rows' compares passed['golden'] with itself"),
        (derive_the_wish, "check 'rows' compares len(rows) with itself"),
        (find_a_constant, "check 'the digest' finds the constant '0'"),
        (find_nothing, "check 'the digest' has no found="),
        (never_need, "check 'the digest' is never needed"),
        (open_everything, "dataset.load reads the holdout; only 30_evaluate may"),
        (open_under_another_name, "m.holdout reads the holdout"),
        (import_the_opener, "dataset.holdout reads the holdout"),
        (read_the_file, "'../data/titanic.csv' reads the holdout"),
        (check_little, "code cells check; expected a quarter"),
        (many_cells, "cells, at most 40"),
        (little_prose, "expected at least 0.9 each"),
        (drop_table, "the table under the title"),
        (drop_row, "expected Changes, Needs, Takes, Checks, Undo"),
        (drop_after, "no section '## After'"),
        (store_output, "has outputs"),
        (random_id, "stable slug"),
        (no_label, "first line is no comment"),
        (define, "defines helper"),
        (swallow, "try in a notebook"),
        (leave, "calls sys.exit()"),
        (shell, "no %magic and no !command"),
        (engine, "imports plan of runbook"),
        (unchecked_action, "is an action and the next code cell checks nothing"),
        (no_summary, "does not call summary()"),
        (long_cell, "at most 15"),
        (wordy, "at most 110"),
        (untag, "0 cells are tagged"),
        (forget_run_id, "run_id is not declared"),
    ],
)
def test_each_broken_rule_is_named(spoil: Callable[[Any], None], words: str, tmp_path: Path) -> None:
    document = copy.deepcopy(nbformat.read(GOOD, as_version=4))
    spoil(document)
    path = tmp_path / GOOD.name
    nbformat.write(document, path)
    params.declared.cache_clear()
    problems = notebooks.notebook(path)
    assert any(words in problem for problem in problems), problems
    assert all(problem.startswith("10_create_compute.ipynb: ") for problem in problems)


@pytest.mark.parametrize("name", sorted(p.stem for p in paths.NOTEBOOKS.glob("*.ipynb")))
def test_only_30_evaluate_may_open_the_holdout(name: str, tmp_path: Path) -> None:
    document = nbformat.read(paths.NOTEBOOKS / f"{name}.ipynb", as_version=4)
    document.cells[-1].source += "\ndataset.holdout()"
    nbformat.write(document, tmp_path / f"{name}.ipynb")
    found = any("reads the holdout" in problem for problem in notebooks.notebook(tmp_path / f"{name}.ipynb"))
    assert found is (name != "30_evaluate")


def test_a_candidate_that_model_kind_can_not_choose_is_named(tmp_path: Path) -> None:
    document = nbformat.read(paths.NOTEBOOKS / "20_train.ipynb", as_version=4)
    cell(document, "candidates").source = cell(document, "candidates").source.replace('"random_forest"', '"woods"')
    path = tmp_path / "20_train.ipynb"
    nbformat.write(document, path)
    (problem,) = notebooks.notebook(path)
    assert f"Write auto|{'|'.join(kinds()).replace('random_forest', 'woods')} into its comment" in problem


def test_advice_that_repeats_what_was_found_is_no_comparison_with_itself(tmp_path: Path) -> None:
    document = copy.deepcopy(nbformat.read(GOOD, as_version=4))
    advice = 'check("lag", found=lag, at_most=250, otherwise=f"The machine was busy: {lag} ms.")'
    cell(document, "binding").source += f"\n{advice}"
    nbformat.write(document, tmp_path / GOOD.name)
    assert notebooks.notebook(tmp_path / GOOD.name) == []
    assert "'lag': at_most" in notebooks.checks(tmp_path / GOOD.name)


@pytest.mark.parametrize("path", sorted(paths.NOTEBOOKS.glob("*.ipynb")), ids=lambda p: p.stem)
def test_every_notebook_keeps_its_anatomy(path: Path) -> None:
    assert notebooks.notebook(path) == []


def test_the_deployment_files_keep_our_rules() -> None:
    assert deployment_files.problems() == []


DEPLOYMENT: dict[str, Any] = {
    "name": "blue",
    "tags": {"runbook-owner": "x"},
    "environment_variables": {"WORKER_COUNT": "2"},
    "request_settings": {
        "request_timeout_ms": 60000,
        "max_concurrent_requests_per_instance": 2,
        "max_queue_wait_ms": 180000,
    },
    "scale_settings": {
        "type": "target_utilization",
        "min_instances": 3,
        "max_instances": 6,
        "target_utilization_percentage": 50,
    },
    "resources": {"requests": {"cpu": "0.5", "memory": "1Gi"}, "limits": {"cpu": "500m", "memory": "1024Mi"}},
}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("scale_settings", "target_utilization_percentage"), 500, "expected 1 to 100"),
        (("scale_settings", "max_instances"), 2, "min <= max"),
        (("resources", "requests", "cpu"), "600m", "above its limit"),
        (("resources", "requests", "memory"), "2Gi", "above its limit"),
        (("environment_variables", "WORKER_COUNT"), "1", "WORKER_COUNT"),
        (("request_settings", "max_queue_wait_ms"), 250000, "300,000"),
        (("name",), "b", "3 to 32"),
        (("name",), "b" * 33, "3 to 32"),
        (("tags",), {}, "runbook-owner"),
    ],
)
def test_what_the_service_accepts_and_nobody_means_is_refused(path: tuple[str, ...], value: Any, words: str) -> None:
    assert deployment_files.deployment_problems(DEPLOYMENT) == []
    document = copy.deepcopy(DEPLOYMENT)
    at = document
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    assert any(words in problem for problem in deployment_files.deployment_problems(document))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"auth_mode": "aad_token"}, "expected one of key, aml_token"),
        ({"traffic": {"blue": 100}}, "cannot be set"),
        ({"mirror_traffic": {"green": 60}}, "at most 50"),
        ({"name": "x"}, "3 to 32"),
    ],
)
def test_an_endpoint_file_that_nobody_means_is_refused(change: dict[str, Any], words: str) -> None:
    good = {"name": "titanic-prod", "compute": "azureml:aks", "auth_mode": "key", "tags": {"runbook-owner": "x"}}
    assert deployment_files.endpoint_problems(good) == []
    assert any(words in problem for problem in deployment_files.endpoint_problems({**good, **change}))
