"""index.html of a run: the decision in words, its gates, what changed, what serves now and the way back, steps, provenance."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from runbook.report import commands, comparison, criteria, format, given, page, verdict
from runbook.report.evidence import Run, StepRun

# The bar of one step, in thousandths of the timeline.
AXIS = 1000
GROUPS = {None: "CI", "dev": "dev", "prod": "prod"}


@dataclass(frozen=True)
class Line:
    """One step on the page; ``start`` and ``width`` place its bar in thousandths of the timeline."""

    step: StepRun
    href: str
    start: int
    width: int


def render(this: Run, earlier: Sequence[Run]) -> str:
    """Return the page of a run; ``earlier`` are the runs it may be compared with, newest first."""
    since, changes = comparison.changes(this, earlier)
    stopped = this.stopped_at
    return page.render(
        "run.html.j2",
        run=this,
        tab=format.tab(this.status, this.rehearsal, f"run {this.run_id}"),
        title=verdict.title(this),
        verdict=verdict.of(this),
        jump=f"{_href(this, stopped.folder)}#failed" if stopped and _href(this, stopped.folder) else "",
        facts=_facts(this),
        given=given.read(this),
        gates=[(group, _href(this, group.folder)) for group in criteria.read(this)],
        tables=comparison.read(this, earlier),
        since=since,
        changes=changes,
        unknown=verdict.unknown(this),
        plain=verdict.in_the_clear(this),
        endpoints=[(row, _traffic(row), commands.undo(this, row)) for row in this.manifest["endpoints"]],
        groups=_groups(this),
        span=format.took(_span(this)[1]),
        provenance=provenance(this),
        trend=trend,
    )


def provenance(this: Run) -> list[tuple[str, str]]:
    """Return who ran what from which commit, data and packages; the last row is the digest of the manifest itself."""
    manifest, training, model = this.manifest, this.training, this.model
    rows = [("Model", f"{model['modelId']}, sha256 {model['sha256']}")] if model else []
    if training:
        data = training["data"]
        rows += [
            ("Kind of model", str(training["model"]["kind"])),
            ("Trained model", f"sha256 {training['model']['sha256']}"),
            ("Training data", f"{data['path']}, {data['rows']:,} rows, sha256 {data['sha256']}"),
            ("Split", f"{data['development_rows']:,} training rows, {data['sealed_rows']:,} holdout rows"),
            ("Trained at commit", str(training["properties"]["git_commit"] or "not recorded")),
            ("Training key", str(training["training_key"])),
            ("Lock of packages", f"sha256 {training['code']['lock_sha256']}"),
        ]
    rows += [
        ("Target", this.target),
        *_commits(this),
        ("Result of CI from", str(manifest["source_run"] or "this run")),
        ("Run by", f"{manifest['user']} on {manifest['host']}, Python {manifest['python']}"),
        ("Command", str(manifest["command"])),
        ("manifest.json", f"sha256 {hashlib.sha256((this.folder / 'manifest.json').read_bytes()).hexdigest()}"),
    ]
    return rows


def _commits(this: Run) -> list[tuple[str, str]]:
    """Return the commit of the run, or those of its steps when it went on with other code."""
    if len(this.commits) == 1:
        return [("Commit of this run", this.commits[0].said)]
    return [(f"Commit of {format.listing(c.folders)}", c.said) for c in this.commits]


def trend(values: Sequence[float]) -> list[tuple[float, float]]:
    """Return the points of a line 80 wide and 16 high, offset by 2, from the oldest value to the newest."""
    low, span = min(values), max(values) - min(values)
    heights = [(v - low) / span if span else 0.5 for v in values]
    return [(round(2 + 80 * n / (len(values) - 1), 1), round(18 - 16 * h, 1)) for n, h in enumerate(heights)]


def _facts(this: Run) -> list[tuple[str, str]]:
    counts = [(word, sum(s.status == word for s in this.steps)) for word in format.STATUS]
    steps = ", ".join(f"{number} {format.STATUS[word].lower()}" for word, number in counts if number)
    checks = [c for s in this.steps for c in s.checks if c.status != "not_run"]
    facts = [
        ("Took", format.took(this.manifest["seconds"]) or "not ended"),
        ("Steps", steps),
        ("Checks held", f"{sum(c.status == 'passed' for c in checks)} of {len(checks)}"),
    ]
    if this.decision:
        facts.append(("Decision", str(this.decision["decision"])))
    if this.model:
        facts.append(("Model", str(this.model["modelId"])))
    return facts


def _groups(this: Run) -> list[tuple[str, list[Line]]]:
    first, span = _span(this)
    found: dict[str, list[Line]] = {}
    for step in this.steps:
        began = format.moment(step.started)
        start = width = 0
        if began and step.seconds is not None and span:
            start = min(AXIS - 4, int(AXIS * (began.timestamp() - first) / span))
            width = max(4, min(AXIS - start, round(AXIS * step.seconds / span)))
        found.setdefault(GROUPS[step.stage], []).append(Line(step, _href(this, step.folder), start, width))
    return list(found.items())


def _span(this: Run) -> tuple[float, float]:
    """Return when the first step began (unix time), and the seconds until the last one ended."""
    times = [(b.timestamp(), s.seconds or 0.0) for s in this.steps if (b := format.moment(s.started))]
    if not times:
        return 0.0, 0.0
    first = min(began for began, _ in times)
    return first, max(began + seconds for began, seconds in times) - first


def _traffic(row: dict[str, Any]) -> str:
    shares = sorted(row["traffic"].items(), key=lambda pair: str(pair))
    return ", ".join(f"{name} {share} %" for name, share in shares) or "none"


def _href(this: Run, folder: str) -> str:
    """Return the relative address of a step's page, or nothing when there is none."""
    return f"{quote(folder)}/report.html" if folder and (this.folder / folder / "report.html").exists() else ""
