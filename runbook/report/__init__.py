"""Pages from evidence: executed notebook -> one HTML file; the page of a run with its summary and JUnit file; the list of runs.

Everything here is a view. What a page says comes from result.json, manifest.json and metadata/*.json; the notebook only
tells the story. Rendering the same evidence again gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path

from runbook.report import evidence, junit, page, run_list, run_page, step_page, summary


def step(folder: Path) -> Path:
    """Render report.html of one step run and return its path.

    ``folder`` holds result.json and executed.ipynb. A notebook that is missing or truncated leaves a page made from
    result.json alone; without a readable result.json the page says "Not run" and why.
    """
    return page.write(folder / "report.html", step_page.render(evidence.step_run(folder), folder))


def run(run_folder: Path) -> Path:
    """Render index.html, summary.md and junit.xml of one run and return the path of index.html.

    Raises RunError (or HandoffMissing) when manifest.json can not be read; a step without a readable result.json is
    shown as not run.
    """
    this = evidence.run(run_folder)
    others = evidence.earlier(this)
    page.write(run_folder / "summary.md", summary.render(this, others))
    page.write(run_folder / "junit.xml", junit.render(this))
    return page.write(run_folder / "index.html", run_page.render(this, others))


def runs(reports: Path) -> Path:
    """Render the list of runs, newest first, and return its path; also points latest and latest.txt to the newest.

    A run whose manifest can not be read is listed with the reason.
    """
    listed = run_list.read(reports)
    run_list.point_to_latest(reports, listed)
    return page.write(reports / "index.html", run_list.render(listed))
