"""Pages for the case that a page cannot be drawn: the verdict as recorded, without templates and without the notebook."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from xml.etree.ElementTree import Element, SubElement, tostring

from runbook.report import format
from runbook.report.evidence import Run, StepRun


def step(result: StepRun, problem: str) -> str:
    """Return the page of one step run: its status, its error and its checks."""
    lines = [f"Run {result.run_id}, step {result.folder}, target {result.target}"]
    if result.failure:
        lines.append(f"{result.failure.kind}: {result.failure.message}")
    lines += [f"{format.STATUS[c.status]}: {c.name}. Expected {c.wanted}, found {c.found}" for c in result.checks]
    title = f"{format.STATUS[result.status]}: {result.title or result.step}"
    return _html(title, [*lines, _note(problem, "executed.ipynb and result.json")])


def run(this: Run, problem: str) -> str:
    """Return the page of a run: its status and that of every step."""
    lines = [f"{format.STATUS[s.status]}: {s.folder or s.step}" for s in this.steps]
    return _html(f"{format.STATUS[this.status]}: run {this.run_id}", [*lines, _note(problem, "manifest.json")])


def summary(this: Run, problem: str) -> str:
    """Return the summary of a run as Markdown that no text of the run can change."""
    lines = [f"### {format.STATUS[this.status]}", *(f"    {format.STATUS[s.status]}: {s.folder}" for s in this.steps)]
    return "\n\n".join([*lines, f"    {_note(problem, 'manifest.json')}", ""])


def junit(this: Run, problem: str) -> str:
    """Return a JUnit document with one error, so that a build shows that its list of checks is missing."""
    root = Element("testsuites", name=format.printable(this.run_id), tests="1", errors="1", failures="0", skipped="0")
    suite = SubElement(root, "testsuite", name="report", tests="1", errors="1", failures="0", skipped="0")
    case = SubElement(suite, "testcase", classname="report", name=f"the list of checks of a run that is {this.status}")
    SubElement(case, "error", message=format.printable(_note(problem, "manifest.json")))
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def runs(reports: Sequence[str], problem: str) -> str:
    """Return the list of runs as links to their pages."""
    return _html("Runs", [_note(problem, "the folders of the runs"), *reports])


def _note(problem: str, where: str) -> str:
    return f"This page could not be drawn in full ({problem}). The verdict stands; {where} hold the rest."


def _html(title: str, lines: Sequence[str]) -> str:
    said, body = (escape(format.printable(text)) for text in (title, "\n".join(lines)))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{said}</title></head>'
        f'<body><main><h1>{said}</h1><pre style="white-space: pre-wrap">{body}</pre></main></body></html>\n'
    )
