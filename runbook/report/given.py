"""The values that ``-f``, ``-p`` and params/gate.yml changed: a limit that was loosened must not look like the rule."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runbook.report import format, notebook
from runbook.report.evidence import Run

# The file of the project's limits, as the source of a value names it.
GATE = "params/gate.yml"
# How limits are named, such as max_p99_ms and cv_min_accuracy.
_LIMIT = re.compile(r"(^|_)(max|min)_")


@dataclass(frozen=True)
class Given:
    """One value as the run used it, what the plain command uses, who set it, and the steps that took it."""

    name: str
    value: str
    plain: str
    source: str
    steps: tuple[str, ...]

    @property
    def beside(self) -> str:
        """The name of the value that ``plain`` holds."""
        return "default" if self.source.startswith(GATE) else "plain command"


def read(this: Run) -> list[Given]:
    """Return every changed value of a run once, limits first; a step that did not run took none."""
    found: dict[tuple[str, str, str, str], list[str]] = {}
    ran = {s.folder for s in this.steps if s.status != "not_run"}
    for folder, rows in dict(this.manifest.get("given", {})).items():
        for row in rows if folder in ran else []:
            found.setdefault(_key(row), []).append(folder)
    values = [Given(*key, tuple(steps)) for key, steps in found.items()]
    return sorted(values, key=lambda value: not _LIMIT.search(value.name))


def of_step(manifest: Mapping[str, Any] | None, folder: str) -> dict[str, Given]:
    """Return the changed values of one step by name."""
    rows = (manifest or {}).get("given", {}).get(folder, [])
    return {str(row["name"]): Given(*_key(row), (folder,)) for row in rows}


def sentence(values: list[Given]) -> str:
    """Return how many values differ and which come first, as one sentence; nothing when none does."""
    if not values:
        return ""
    loosened = list(dict.fromkeys(value.name for value in values if value.source.startswith(GATE)))
    names = [name for name in dict.fromkeys(value.name for value in values) if name not in loosened]
    told = []
    if loosened:
        told.append(f"{GATE} loosens {format.count(len(loosened), 'limit')}: {format.listing(loosened)}.")
    if names:
        told.append(_differing(names))
    return " ".join(told)


def _differing(names: list[str]) -> str:
    verb = "differs" if len(names) == 1 else "differ"
    first = [*names[:3], *(["more"] if len(names) > 3 else [])]
    return f"{format.count(len(names), 'value')} {verb} from the plain command's: {format.listing(first)}."


def _key(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return str(row["name"]), notebook.value(row["value"]), notebook.value(row["plain"]), str(row["source"])
