"""Nothing but the four places names what this project's own data set is about."""

from __future__ import annotations

from pathlib import Path

import pytest
import titanic_words

from runbook import paths

# The four places, what is made from them, and the notebook that explores this data set.
OWN = {
    "deployment/request.py",
    "deployment/swagger.json",
    "notebooks/00_explore.ipynb",
    "notebooks/20_train.ipynb",
}
# Names of things on Azure are literal in YAML, for people who use `az` by hand. Rules that read this YAML know them.
LITERAL_NAMES = {
    "deployment/conda_dependencies.yml",
    "deployment/dev/deployment.yml",
    "deployment/dev/endpoint.yml",
    "deployment/prod/deployment.yml",
    "deployment/prod/endpoint.yml",
    "runbook/lint/azure_pipelines/tasks.py",
    # What a new project leaves behind.
    "runbook/new_project/writer.py",
}


def files() -> list[str]:
    found = [
        path.relative_to(paths.ROOT).as_posix()
        for folder in ("runbook", "notebooks", "deployment")
        for path in (paths.ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".png") and ".ipynb_checkpoints" not in path.parts
    ]
    return sorted(set(found) - OWN)


@pytest.mark.parametrize("name", files())
def test_a_file_outside_the_four_places_names_no_column_and_nobody_of_the_data(name: str) -> None:
    text = Path(paths.ROOT, name).read_text(encoding="utf-8")
    words = titanic_words.COLUMNS_AND_PEOPLE if name in LITERAL_NAMES else titanic_words.ALL
    assert titanic_words.found(text, words) == []


def test_the_words_are_found_where_they_may_stand() -> None:
    for name in OWN:
        text = Path(paths.ROOT, name).read_text(encoding="utf-8")
        assert titanic_words.found(text), f"{name} holds none of the words, so it needs no exception"


def test_every_file_with_literal_names_still_has_them() -> None:
    for name in LITERAL_NAMES:
        text = Path(paths.ROOT, name).read_text(encoding="utf-8")
        assert titanic_words.found(text), f"{name} holds none of the words, so it needs no exception"
