"""The table of steps, and the README's way to add one, followed literally."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from built import checkout

from runbook import paths, steps
from runbook.platform.base import Endpoint
from runbook.steps import Row

NEW = "85_answer_once"
TITLE = """# Answer once

Asks one thing.

| | |
|---|---|
| **Changes** | nothing |
| **Needs** | nothing |
| **Takes** | a moment |
| **Checks** | the run has a name |
| **Undo** | nothing to undo |"""


def new_notebook(path: Path) -> None:
    """Write the smallest notebook that keeps every rule."""
    cell = nbformat.v4.new_code_cell
    prose = nbformat.v4.new_markdown_cell
    parameters = (
        'target: str = "local"  # where things happen\n'
        'stage: str = "dev"  # what is released to, dev|prod\n'
        'run_id: str = "interactive"  # the run this step belongs to'
    )
    cells = [
        prose(TITLE, id="title"),
        prose("## Parameters\n\nThe three of every step.", id="parameters-note"),
        cell(parameters, id="parameters", metadata={"tags": ["parameters"]}),
        prose("## Setup\n\nOne import.", id="setup-note"),
        cell("# Import the runbook\nfrom runbook.check import check, summary", id="imports"),
        prose("## Before\n\n## After\n\nThe run has a name.", id="after"),
        cell(
            '# Check one thing\ncheck("the step knows its run", found=run_id != "", wanted=True)',
            id="check",
            metadata={"tags": ["check"]},
        ),
        prose("## Summary\n\nEvery check.", id="summary-note"),
        cell("# Show every check of this step\nsummary()", id="summary"),
    ]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)


def readme_block(language: str) -> str:
    """Return the README's one block in this language below "Add a step"."""
    section = (paths.ROOT / "README.md").read_text(encoding="utf-8").split("## Add a step\n")[1].split("\n## ")[0]
    blocks = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 1
    return str(blocks[0]).strip()


def insert_before(path: Path, mark: str, line: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(mark) == 1
    path.write_text(text.replace(mark, line + mark), encoding="utf-8")


def test_a_step_is_added_with_a_notebook_a_row_and_a_line_as_the_readme_says(tmp_path: Path) -> None:
    project = checkout(paths.ROOT, tmp_path / "project")
    state = {"RUNBOOK_HOME": str(tmp_path / "home"), "RUNBOOK_REPORTS": str(tmp_path / "reports")}
    environment = {**os.environ, "PYTHONPATH": str(project), **state}

    def runbook(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "runbook.cli", *arguments]
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout + done.stderr

    new_notebook(project / "notebooks" / f"{NEW}.ipynb")
    insert_before(project / "runbook" / "steps.py", '    Row(\n        "90_release"', f"    {readme_block('text')}\n")

    # The row alone is not enough: the pipelines would leave the step out.
    code, said = runbook("check")
    assert code == 1 and f"{NEW} (a step of this project) is missing" in said

    release = project / "pipelines" / "templates" / "release.yml"
    place = "          - template: step.yml\n            parameters: {step: 90_release"
    insert_before(release, place, f"          {readme_block('yaml')}\n")
    code, said = runbook("check")
    assert code == 0, said

    code, said = runbook("plan", "cd")
    assert code == 0 and [stage for stage in steps.STAGES if f"{NEW}-{stage}" in said] == ["dev", "prod"]

    code, said = runbook("step", NEW, "--stage", "dev", "--run-id", "r1")
    assert code == 0, said
    assert (tmp_path / "reports" / "r1" / f"{NEW}-dev" / "report.html").exists()
    # Its checks are gates of the run, because the row says so.
    assert "Answer once" in (tmp_path / "reports" / "r1" / "index.html").read_text(encoding="utf-8")


def test_every_step_that_a_row_names_has_a_row() -> None:
    named = [n for r in steps.ROWS for n in (r.undone_by, r.always_after, r.on_failure, r.made_for) if n]
    assert named and set(named) <= set(steps.NAMES)


def test_the_readme_names_the_step_that_undoes_as_the_row_does() -> None:
    readme = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| \[(\d\d_\w+)\]\([^)]*\) \| [^|]* \| (\d\d)? ?\|$", readme, re.MULTILINE))
    assert len(table) > 10
    for name, undo in table.items():
        assert steps.row(name).undone_by[:2] == undo, name


@pytest.mark.parametrize("row", [r for r in steps.ROWS if r.name != "20_train"], ids=lambda r: r.name)
def test_every_file_that_a_row_reads_exists(row: Row) -> None:
    for stage in row.stages or (None,):
        assert [path for path in row.reads(stage) if not path.is_file()] == []


class Serves:
    """A platform with one endpoint and no registry."""

    def __init__(self, traffic: dict[str, int]) -> None:
        self.endpoint = Endpoint("titanic-dev", "dev", "managed", "http://127.0.0.1:1/score", traffic, (), {})

    def find_endpoint(self, stage: str) -> Endpoint:
        return self.endpoint


@pytest.mark.parametrize(("traffic", "valid"), [({"blue": 100}, True), ({"blue": 90, "green": 10}, False)])
def test_a_release_is_done_again_when_its_traffic_has_moved_on(traffic: dict[str, int], valid: bool) -> None:
    question = steps.row("90_release").still_valid
    assert question
    assert question(Serves(traffic), "dev", {"deployment": "blue"}) is valid  # type: ignore[arg-type]


PAGES = [paths.ROOT / "README.md", *sorted((paths.ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_of_a_page_leads_to_a_file_and_none_to_the_source_of_an_html_page(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    own = [link for link in links if "://" not in link]
    assert [link for link in own if not (page.parent / link).exists()] == []
    assert [link for link in own if link.endswith(".html")] == []
