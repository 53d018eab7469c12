"""The page of a step, made from notebooks that the runner really ran."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import recorded
from pages import SCRIPT, assert_harmless, only, read, text
from recorded import check
from small_notebooks import CHECKED, STEPS, execute, executed, notebook

from runbook import paths, report


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Returns the folder of a run whose steps were all executed and rendered once."""
    with executed(tmp_path_factory.mktemp("reports"), "r1") as folder:
        for name in STEPS:
            report.step(folder / name)
    yield folder


def test_the_first_screen_says_the_verdict_the_checks_and_the_parameters(run: Path) -> None:
    page = read(run / "20_train")
    assert text(page, ".verdict .headline") == "Passed: 2 of 2 checks held"
    assert only(page, "h1").get_text() == "Train the model"
    assert [r.get_text(" ", strip=True) for r in page.select("section[aria-labelledby=checks] tbody tr")] == [
        "log loss, cross-validated ≤ 0.445 0.42034 Passed",
        "rows whose verdict flips 0 0 Passed",
    ]
    values = text(page, ".parameters")
    assert "run_id r1 default interactive the run this step belongs to" in values
    assert "target local where things happen, local|azure" in values, "a value that is the default says no default"


def test_a_failed_check_is_told_first_and_its_cell_is_open(run: Path) -> None:
    page = read(run / "80_stress_test")
    assert text(page, ".verdict .headline") == "Failed: latency p95, ms"
    assert "Expected ≤ 150, found 412.7." in text(page, ".verdict")
    assert only(page, ".verdict a")["href"] == "#failed"
    failed = only(page, "#failed")
    assert [d.has_attr("open") for d in failed.select("details")] == [True, False], "source open, traceback folded"
    whole = failed.get_text()
    assert whole.index("expected at most 150") < whole.index("Traceback")


def test_cells_after_the_failed_one_are_shown_as_not_run(run: Path) -> None:
    cells = read(run / "80_stress_test").select(".story .cell")
    assert [c.get("class") for c in cells] == [
        ["cell"],
        ["cell", "failed"],
        ["cell", "not_run"],
        ["cell", "not_run"],
    ]
    assert "not run" in cells[2].get_text()


def test_an_exception_is_told_message_before_traceback(run: Path) -> None:
    page = read(run / "30_evaluate")
    assert text(page, ".verdict .headline") == "Failed: RuntimeError"
    failed = only(page, "#failed").get_text()
    assert failed.index("and its log says more") < failed.index("Traceback")


def test_a_dead_kernel_is_red_whatever_papermill_wrote(run: Path) -> None:
    page = read(run / "40_register")
    assert text(page, ".verdict .headline") == "Failed: KernelDied"
    assert "Kill the kernel" in text(page, "#failed")
    assert "The kernel died" in text(page, "#failed")


def test_a_step_with_nothing_to_do_is_green_and_says_why(run: Path) -> None:
    page = read(run / "90_release")
    assert only(page, ".verdict").get("class") == ["verdict", "not_needed"]
    assert "This deployment was live before: no traffic to move." in text(page, ".verdict")
    assert "Not run" in text(page, "section[aria-labelledby=checks]")


@pytest.mark.parametrize("name", STEPS)
def test_every_table_and_figure_of_the_notebook_is_on_the_page(run: Path, name: str) -> None:
    notebook, page = nbformat.read(run / name / "executed.ipynb", 4), read(run / name)
    tables = sum(c.source.count("|---") // 2 for c in notebook.cells if c.cell_type == "markdown")
    outputs = [o.get("data", {}) for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    tables += sum(str(data.get("text/html", "")).count("<table") for data in outputs)
    figures = sum("image/png" in data for data in outputs)
    assert len(page.select(".story table")) == tables > 0
    assert len(page.select(".story figure img")) == figures
    assert len(page.select(".story .scroll[tabindex='0'][role=region][aria-label] table")) == tables


def test_a_figure_is_described_in_words(run: Path) -> None:
    page = read(run / "20_train")
    image = only(page, "figure img")
    assert image["alt"] == "The observed share of survivors follows the diagonal from 0.1 to 0.9"
    assert text(page, "figcaption") == "Calibration on the training set. Dashed: perfect calibration."
    assert "fig-alt" not in page.get_text()


def test_columns_of_words_stand_left_and_columns_of_numbers_right(run: Path) -> None:
    summary = read(run / "20_train").select(".story .dataframe")[-1]
    row = summary.select("tbody tr")[0].find_all(["th", "td"])
    assert [c.get("class") for c in row][1:3] == [["words"], ["words"]]
    assert row[3].get("class") is None


def test_what_was_sent_can_be_unfolded(run: Path) -> None:
    details = only(read(run / "60_deploy"), ".rich details")
    assert details.summary is not None and details.summary.get_text() == "What was sent"
    assert "model: azureml:Titanic:12" in text(details, "pre")


def test_parameter_cells_are_not_told_twice(run: Path) -> None:
    page = read(run / "20_train")
    assert not [s for s in page.select(".story summary") if "Parameters" in s.get_text() or "target" in s.get_text()]
    assert [e.get_text() for e in page.select(".contents a")].count("Parameters") == 1


@pytest.mark.parametrize("name", STEPS)
def test_ids_are_unique_and_every_link_leads_somewhere(run: Path, name: str) -> None:
    page = read(run / name)
    ids = [str(e["id"]) for e in page.select("[id]")]
    assert sorted(set(ids)) == sorted(ids)
    for link in page.select("a[href]"):
        target = str(link["href"])
        if target.startswith("#"):
            assert target[1:] in ids
        elif target != "../index.html":
            assert (run / name / target).exists(), target
    regions = [str(e["aria-label"]) for e in page.select("[role=region]")]
    assert len(set(regions)) == len(regions)


@pytest.mark.parametrize("name", STEPS)
def test_a_page_asks_nothing_of_the_network_and_runs_no_script(run: Path, name: str) -> None:
    assert_harmless(read(run / name))


def test_hostile_text_is_shown_as_text_everywhere(run: Path) -> None:
    page = read(run / "70_functional_test")
    assert only(page, "h1").get_text() == f"Test it {SCRIPT}"
    assert text(page, ".verdict p:last-child").startswith(SCRIPT)
    assert SCRIPT in text(page, "section[aria-labelledby=checks]")
    assert SCRIPT in text(page, "#failed")
    assert len(page.select(".verdict")) == 1, "an output can not put a verdict of its own on the page"
    assert "a script's text" in page.get_text()
    assert "Left out of the outputs because they need a network or a script: " in text(page, "footer")


def test_colours_without_a_name_are_dropped_and_named_ones_kept(run: Path) -> None:
    assert not read(run / "70_functional_test").select("main [style]")
    assert "INFO" in text(read(run / "20_train"), ".ansi-green-fg")


def test_a_long_output_is_cut_in_the_middle_and_says_so(run: Path) -> None:
    page = read(run / "10_create_compute")
    frame = only(page, "pre.long")
    assert 60_000 < len(frame.get_text()) < 100_000
    assert re.search(r"… [\d,]+ characters left out; executed.ipynb holds them …", frame.get_text())
    assert frame["tabindex"] == "0"
    assert "2,900 rows left out" in page.select(".story .dataframe")[0].get_text()
    assert (run / "10_create_compute" / "report.html").stat().st_size < 500_000


def test_rendering_the_same_evidence_again_gives_the_same_bytes(run: Path) -> None:
    first = (run / "20_train" / "report.html").read_bytes()
    assert report.step(run / "20_train").read_bytes() == first


@pytest.mark.parametrize(
    "left",
    [
        None,
        "",
        '{"cells": [',
        '{"cells": 3}',
        "[]",
        '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{}]}',
    ],
)
def test_a_missing_or_broken_notebook_leaves_the_runners_own_record(left: str | None) -> None:
    error = {"class": "KernelDied", "message": "The kernel died.\nlog line", "cell": "cell-4"}
    folder = recorded.result("r1", "60_deploy", "dev", "failed", error=error, cells_run=3, checks=[check("ready")])
    if left is not None:
        (folder / "executed.ipynb").write_text(left)
    page = read(report.step(folder).parent)
    assert text(page, ".verdict .headline") == "Failed: KernelDied"
    assert "made from result.json alone" in text(page, ".notice")
    assert "log line" in text(page, "#failed")
    assert "ready" in text(page, "section[aria-labelledby=checks]")


def test_the_runners_verdict_wins_over_what_the_notebook_says(run: Path, tmp_path: Path) -> None:
    folder = recorded.result("r2", "20_train", None, "cancelled")
    (folder / "executed.ipynb").write_bytes((run / "20_train" / "executed.ipynb").read_bytes())
    page = read(report.step(folder).parent)
    assert text(page, ".verdict .headline") == "Cancelled"
    assert only(page, "title").get_text() == "Cancelled: 20_train, run r2"


@pytest.mark.parametrize("left", [None, "{", '{"schema_version": "2.0"}', "[1]", "\xff"])
def test_without_a_readable_result_a_step_is_not_run_and_never_green(tmp_path: Path, left: str | None) -> None:
    folder = tmp_path / "60_deploy-dev"
    folder.mkdir()
    if left is not None:
        (folder / "result.json").write_bytes(left.encode("latin-1"))
    page = read(report.step(folder).parent)
    assert only(page, ".verdict").get("class") == ["verdict", "not_run"]
    assert "result.json" in text(page, ".verdict")


@pytest.mark.parametrize("field", ["title", "run_id", "message", "class", "check", "parameter", "not_needed"])
def test_no_field_of_the_result_can_bring_a_script_or_break_the_page(field: str) -> None:
    evil = f'"><{SCRIPT}\x1b[31m\x00\ud800'
    named = {field: evil}
    folder = recorded.result("r1", "60_deploy", "dev", "failed", title=named.get("title", "t"),
        error={"class": named.get("class", "E"), "message": named.get("message", "m"), "cell": evil},
        checks=[check(named.get("check", "c"), "failed", evil, evil)], parameters={named.get("parameter", "p"): evil},
        not_needed=named.get("not_needed"), inputs={evil: evil},
    )  # fmt: skip
    document = (
        (folder / "result.json")
        .read_text()
        .replace('"run_id": "r1"', f'"run_id": {recorded.quoted(named.get("run_id", "r1"))}')
    )
    (folder / "result.json").write_text(document)
    page = read(report.step(folder).parent)
    assert_harmless(page)
    assert "alert(1)" in page.get_text()
    assert not re.search("[\x00\x1b]", str(page))


def test_a_commit_with_uncommitted_changes_is_named_so() -> None:
    folder = recorded.result("r1", "60_deploy", "dev", "passed")
    recorded.manifest("r1", [("60_deploy", "dev", "passed")], dirty=True)
    page = read(report.step(folder).parent)
    assert f"{recorded.COMMIT}, with uncommitted changes" in page.get_text()


def test_an_output_that_the_converter_cannot_draw_is_shown_as_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNBOOK_REPORTS", str(tmp_path))
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path / "notebooks")
    notebook("20_train", "Train", '# Print half a colour\nprint("\\x1b[38mhalf a <colour>")', CHECKED)
    execute("20_train", None, "r1")
    notes: list[str] = []
    page = read(report.step(tmp_path / "r1" / "20_train", notes.append).parent)
    assert "half a <colour>" in page.get_text() and "could not be drawn" in page.get_text()
    assert page.select_one("section.verdict.passed") and not notes


def endless(path: Path) -> None:
    """Make a recorded duration one that JSON can hold and no page can show."""
    path.write_text(path.read_text().replace("123456.5", "1e999"))


def test_pages_that_cannot_be_drawn_are_replaced_by_plain_ones_with_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNBOOK_REPORTS", str(tmp_path))
    folder = recorded.manifest("r1", [("20_train", None, "failed")], status="failed", seconds=123456.5)
    red = [check("p95, ms", "failed")]
    step = recorded.result("r1", "20_train", None, "failed", error=recorded.SLOW, checks=red, seconds=123456.5)
    endless(folder / "manifest.json")
    endless(step / "result.json")
    notes: list[str] = []
    report.step(step, notes.append)
    report.run(folder, notes.append)
    report.runs(tmp_path, notes.append)
    for path in (step / "report.html", folder / "index.html", folder / "summary.md"):
        page = path.read_text(encoding="utf-8")
        assert "Failed" in page and "could not be drawn in full" in page, path
    assert "p95, ms" in (step / "report.html").read_text(encoding="utf-8")
    assert "r1" in (tmp_path / "index.html").read_text(encoding="utf-8")
    assert len(notes) == 4 and all("The verdict stands" in note for note in notes)
