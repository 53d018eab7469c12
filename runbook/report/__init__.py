"""Pages from evidence: executed notebook -> one HTML file; the page of a run with its summary and JUnit file; the list of runs.

Everything here is a view. What a page says comes from result.json, manifest.json and metadata/*.json; the notebook only
tells the story. Rendering the same evidence again gives the same bytes. A page that cannot be drawn is replaced by a plain
one and noted: a verdict is never lost over the drawing of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from runbook.report import evidence, format, junit, page, plain, run_list, run_page, step_page, summary

Note = Callable[[str], None]


def _silent(text: str) -> None:
    """Take a note to nobody."""


def step(folder: Path, note: Note = _silent) -> Path:
    """Render report.html of one step run and return its path.

    ``folder`` holds result.json and executed.ipynb. A notebook that is missing or truncated leaves a page made from
    result.json alone; without a readable result.json the page says "Not run" and why. ``note`` is told when only a plain
    page could be drawn.
    """
    result = evidence.step_run(folder)
    return _draw(
        folder / "report.html",
        lambda: step_page.render(result, folder),
        lambda problem: plain.step(result, problem),
        note,
    )


def run(run_folder: Path, note: Note = _silent) -> Path:
    """Render index.html, summary.md and junit.xml of one run and return the path of index.html.

    Raises RunError (or HandoffMissing) when manifest.json cannot be read; a step without a readable result.json is
    shown as not run. ``note`` is told when only a plain page could be drawn.
    """
    this = evidence.run(run_folder)
    pages = {
        "summary.md": (lambda: summary.render(this, evidence.earlier(this)), plain.summary),
        "junit.xml": (lambda: junit.render(this), plain.junit),
        "index.html": (lambda: run_page.render(this, evidence.earlier(this)), plain.run),
    }
    for name, (render, spare) in pages.items():
        _draw(run_folder / name, render, partial(spare, this), note)
    return run_folder / "index.html"


def runs(reports: Path, note: Note = _silent) -> Path:
    """Render the list of runs, newest first, and return its path; also points latest and latest.txt to the newest.

    A run whose manifest cannot be read is listed with the reason. ``note`` is told when only a plain page could be drawn.
    """
    listed = run_list.read(reports)
    run_list.point_to_latest(reports, listed)
    return _draw(
        reports / "index.html",
        lambda: run_list.render(listed),
        lambda problem: plain.runs([x.folder for x in listed], problem),
        note,
    )


def _draw(path: Path, render: Callable[[], str], spare: Callable[[str], str], note: Note) -> Path:
    try:
        text = render()
    except Exception as error:
        # What notebooks put out is beyond our control, and so is what the libraries that draw it make of it.
        problem = format.short(f"{type(error).__name__}: {error}", 200)
        note(f"{path} could not be drawn in full: {problem}. The verdict stands.")
        text = spare(problem)
    return page.write(path, text)
