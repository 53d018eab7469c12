"""Renders reports/index.html; updates `latest` and `latest.txt`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from runbook.errors import RunError
from runbook.report import comparison, evidence, format, page, verdict
from runbook.report.evidence import Run

LATEST = "latest"


@dataclass(frozen=True)
class Listed:
    """One folder with a manifest; ``run`` is None when it cannot be read, and ``problem`` says why."""

    folder: str
    run: Run | None
    problem: str = ""


@dataclass(frozen=True)
class Line:
    """One run in the list, in words."""

    href: str
    name: str
    status: str
    what: str
    plan: str
    target: str
    started: str
    took: str
    log_loss: str
    p95: str
    commit: str


def read(reports: Path) -> tuple[Listed, ...]:
    """Return every folder of ``reports`` with a manifest, the newest run first, the unreadable ones last."""
    found = []
    for path in sorted(reports.glob("*/manifest.json")):
        if path.parent.is_symlink():
            continue
        try:
            found.append(Listed(path.parent.name, evidence.run(path.parent)))
        except RunError as error:
            found.append(Listed(path.parent.name, None, str(error)))
    return tuple(sorted(found, key=_started, reverse=True))


def render(listed: Sequence[Listed]) -> str:
    """Return the list of runs."""
    lines = [_line(this) for this in listed]
    newest = next((x.run.status for x in listed if x.run), "not_run")
    return page.render("runs.html.j2", lines=lines, status=newest, latest=_newest(listed))


def point_to_latest(reports: Path, listed: Sequence[Listed]) -> None:
    """Make latest (a relative link) and latest.txt name the newest run made here; does nothing when there is none.

    A folder that is not named after its run was copied from elsewhere. A latest that is no link is somebody's own and stays.
    """
    newest = _newest(listed)
    if newest is None:
        return
    page.write(reports / f"{LATEST}.txt", f"{newest}\n")
    link = reports / LATEST
    if link.is_symlink() or not link.exists():
        fresh = reports / f".{LATEST}.{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        fresh.symlink_to(newest, target_is_directory=True)
        fresh.replace(link)


def _newest(listed: Sequence[Listed]) -> str | None:
    return next((x.folder for x in listed if x.run and x.run.run_id == x.folder), None)


def _line(listed: Listed) -> Line:
    this = listed.run
    href = f"{quote(listed.folder)}/index.html"
    if this is None:
        return Line("", listed.folder, "unreadable", format.short(listed.problem, 200), *[""] * 7)
    manifest = this.manifest
    copied = "" if this.run_id == listed.folder else f" (in {listed.folder})"
    numbers = {t.name: {r.name: r.now for r in t.rows} for t in comparison.read(this, ())}
    p95 = [
        f"{numbers[name]['p95']}"
        for name in ("Stress test, prod", "Stress test, dev")
        if "p95" in numbers.get(name, {})
    ]
    return Line(
        href=href if (this.folder / "index.html").exists() else "",
        name=f"{this.run_id}{copied}",
        status=this.status,
        what=verdict.of(this).headline,
        plan=str(manifest["plan"]),
        target=this.target,
        started=format.when(manifest["started"]),
        took=format.took(manifest["seconds"]),
        log_loss=numbers.get("Model, cross-validated", {}).get("log loss", ""),
        p95=p95[0] if p95 else "",
        commit=", ".join(f"{(c.name or '')[:8]}{' +' if c.dirty else ''}" for c in this.commits),
    )


def _started(this: Listed) -> float:
    found = format.moment(this.run.manifest["started"]) if this.run else None
    return found.timestamp() if found else 0.0
