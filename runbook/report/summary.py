"""summary.md of a run, for the summary of an Azure DevOps build: Markdown without HTML, links relative."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from runbook.report import comparison, criteria, format, given, verdict
from runbook.report.evidence import Run
from runbook.report.page import TEMPLATES

SIGNS = {
    "passed": "✅",
    "failed": "❌",
    "not_needed": "☑️",
    "not_run": "⬜",
    "cancelled": "⚠️",
    "running": "⏳",
    "not_met": "➖",
    "unsure": "❔",
    "rehearsed": "🎭",
}


def render(this: Run, earlier: Sequence[Run]) -> str:
    """Return the summary of a run; every value is escaped, so that no text of a run can become a table or a link."""
    return (
        _environment()
        .get_template("summary.md.j2")
        .render(
            run=this,
            verdict=verdict.of(this),
            plain=verdict.in_the_clear(this),
            gates=criteria.read(this),
            given=given.read(this),
            tables=comparison.read(this, earlier),
            groups=_groups(this),
            signs=SIGNS,
            words=format.STATUS,
        )
    )


def escaped(value: Any) -> Any:
    """Return text in which Markdown and HTML mean nothing, on one line; spaces at its ends stay."""
    if not isinstance(value, str):
        return value
    line = re.sub(r"\s+", " ", format.printable(value))
    line = re.sub(r"[\\`*|\[\]]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\\g<0>", line)
    line = re.sub(r"^(\d*)([-+#=~.)]+)(?=\s|$)", r"\1\\\2", line)
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _groups(this: Run) -> list[tuple[str, list[Any]]]:
    found: dict[str, list[Any]] = {}
    for step in this.steps:
        found.setdefault(step.stage or "CI", []).append(step)
    return list(found.items())


@functools.cache
def _environment() -> Environment:
    environment = Environment(  # noqa: S701 - this is Markdown; finalize escapes every value for it
        loader=FileSystemLoader(TEMPLATES),
        finalize=escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["took"] = format.took
    return environment
