"""Two further models, each at most four files beside its CSV, go the whole way in a copy of this project."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import make_data
import nbformat
import overlay
import pytest
import titanic_words
from bs4 import BeautifulSoup
from overlay import HERE, MODELS, PLACES, Project

from runbook.engine import plan

# Far too few trees: better than the rules of one line, and much worse than the champion.
WORSE = {
    "breast_cancer": ("n_estimators=100, max_depth=2", "n_estimators=12, max_depth=2"),
    "orders": ("n_estimators=120", "n_estimators=5"),
}
WITHOUT_CV_LIMITS = ["-p", "cv_max_log_loss=2", "-p", "cv_max_brier=1", "-p", "cv_min_accuracy=0"]
SHORT = ["-f", "params/test.yml"]


@dataclass
class Ran:
    """A project in which the whole plan has run once, as ``first``."""

    project: Project
    first: CompletedProcess[str]

    def runbook(self, *words: str, expected: int = 0) -> CompletedProcess[str]:
        done = self.project.python("-m", "runbook.cli", *words, seconds=900)
        assert done.returncode == expected, f"exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done

    def folder(self, run_id: str) -> Path:
        return self.project.folder / "own-reports" / run_id

    def decision(self, run_id: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.folder(run_id) / "metadata" / "decision.json").read_text())
        return document

    def statuses(self, run_id: str) -> dict[str, str]:
        results = self.folder(run_id).glob("*/result.json")
        return {path.parent.name: json.loads(path.read_text())["status"] for path in results}

    def example(self) -> dict[str, Any]:
        swagger = json.loads((self.project.folder / "deployment" / "swagger.json").read_text())
        example: dict[str, Any] = swagger["definitions"]["Request"]["example"]
        return example

    def ask(self, stage: str, document: Any) -> tuple[int, str]:
        """Post a document to the endpoint of a stage; returns the status and the body."""
        endpoint = json.loads(self.runbook("endpoint", stage, "--json").stdout)
        request = urllib.request.Request(endpoint["scoring_uri"], json.dumps(document).encode(), method="POST")
        request.add_header("Content-Type", "application/json")
        request.add_header("Authorization", f"Bearer {endpoint['key']}")
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@pytest.fixture(scope="module", params=MODELS)
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return overlay.project(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def ran(project: Project) -> Iterator[Ran]:
    try:
        first = project.python("-m", "runbook.cli", "run", "all", *SHORT, "--run-id", "first", seconds=1200)
        yield Ran(project, first)
    finally:
        project.python("-m", "runbook.cli", "down")


@pytest.mark.parametrize("model", MODELS)
def test_a_model_is_at_most_four_files_beside_its_csv(model: str, record_property: Any) -> None:
    files = {path.name for path in (HERE / model).iterdir() if path.is_file()}
    assert files - {f"{model}.csv"} <= set(PLACES)
    lines = overlay.lines(model)
    record_property("lines", lines)
    print(f"{model}: {sum(lines.values())} lines: {lines}")
    assert sum(lines.values()) < 250


@pytest.mark.parametrize("model", MODELS)
def test_a_csv_is_what_its_script_writes(model: str) -> None:
    assert (HERE / model / f"{model}.csv").read_text(encoding="utf-8") == make_data.DATA[model]()


def test_a_cell_that_the_projects_notebook_lacks_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "20_train.ipynb"
    nbformat.write(nbformat.v4.new_notebook(), path)
    with pytest.raises(KeyError):
        overlay.replace_cells(path, HERE / MODELS[0] / "20_train.ipynb")


def test_what_holds_for_every_model_holds_for_it(project: Project) -> None:
    checked = project.python("-m", "runbook.cli", "check")
    assert checked.returncode == 0, checked.stderr
    tested = project.python("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/models/test_any_model.py")
    assert tested.returncode == 0, tested.stdout[-6000:]


def test_its_swagger_holds_no_word_of_the_titanic(project: Project) -> None:
    text = (project.folder / "deployment" / "swagger.json").read_text()
    assert titanic_words.found(text) == []


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_nbval_runs_every_notebook_and_its_checks_hold(project: Project) -> None:
    done = project.python(
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/nbval/test_nbval.py",
        "-k",
        "every_notebook",
        seconds=1200,
    )
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout[-6000:]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_whole_plan_is_green_and_promotes_it(ran: Ran) -> None:
    assert ran.first.returncode == 0, ran.first.stdout[-3000:] + ran.first.stderr[-3000:]
    assert ran.statuses("first") == {step.label: "passed" for step in plan.PLANS["all"]}
    assert ran.decision("first")["decision"] == "promote"


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_both_endpoints_answer_its_example_and_refuse_what_is_wrong_in_its_own_words(ran: Ran, stage: str) -> None:
    example = ran.example()
    status, answer = ran.ask(stage, example)
    assert status == 200 and 0 <= json.loads(answer)["probability"] <= 1

    first = next(iter(example))
    status, refusal = ran.ask(stage, {**example, first: "word"})
    # A managed endpoint reports every refusal of score.py as 424.
    assert status == (424 if stage == "dev" else 422)
    assert json.loads(refusal)["error"]["field"] == first
    assert titanic_words.found(answer + refusal) == []


@pytest.mark.slow
def test_its_pages_and_scored_cells_hold_no_word_of_the_titanic(ran: Ran) -> None:
    pages = sorted(ran.folder("first").parent.rglob("*.html"))
    scored = sorted(ran.folder("first").glob("*/executed.ipynb"))
    assert len(pages) > len(scored) == len(plan.PLANS["all"])
    words = {str(path): titanic_words.found(visible(path)) for path in pages}
    words |= {str(path): titanic_words.found(cells(path)) for path in scored}
    words["the terminal"] = titanic_words.found(ran.first.stdout)
    assert {path: found for path, found in words.items() if found} == {}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_gate_refuses_a_worse_candidate(ran: Ran) -> None:
    notebook = ran.project.folder / "notebooks" / "20_train.ipynb"
    before = notebook.read_text()
    good, worse = WORSE[ran.project.model]
    assert before.count(good) == 1
    notebook.write_text(before.replace(good, worse))
    try:
        words = ["-p", "model_kind=gradient_boosting", *WITHOUT_CV_LIMITS]
        ran.runbook("run", "ci", *SHORT, *words, "--run-id", "worse", expected=1)
    finally:
        notebook.write_text(before)
    assert ran.decision("worse")["decision"] == "fail"
    statuses = ran.statuses("worse")
    assert statuses["20_train"] == "passed" and statuses["30_evaluate"] == "failed" and "40_register" not in statuses


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_functional_test_fails_on_a_broken_score_and_the_endpoint_stays_right(ran: Ran) -> None:
    score = ran.project.folder / "deployment" / "score.py"
    before, answer = score.read_text(), ran.ask("dev", ran.example())
    assert before.count("probability >= 0.5") == 1
    score.write_text(before.replace("probability >= 0.5", "probability < 0.5"))
    try:
        ran.runbook("run", "cd", *SHORT, "--from", "first", "--run-id", "broken", expected=1)
    finally:
        score.write_text(before)
    failed = [label for label, status in ran.statuses("broken").items() if status == "failed"]
    assert failed == ["70_functional_test-dev"]
    assert ran.ask("dev", ran.example()) == answer


def visible(page: Path) -> str:
    """Return the text of a page as a reader sees it, with what screen readers read out instead of a picture."""
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    for tag in soup(["script", "style"]):
        tag.decompose()
    described = [str(tag.get("alt") or tag.get("title") or tag.get("aria-label") or "") for tag in soup.find_all(True)]
    return "\n".join([soup.get_text(" "), *described])


def cells(notebook: Path) -> str:
    """Return the sources of an executed notebook and what they have shown."""
    document = nbformat.read(notebook, as_version=4)
    texts = [cell.source for cell in document.cells]
    for cell in document.cells:
        for output in cell.get("outputs", []):
            data = {k: v for k, v in output.get("data", {}).items() if not k.startswith("image/png")}
            texts += [str(output.get("text", "")), json.dumps(data, ensure_ascii=False)]
    return "\n".join(texts)
