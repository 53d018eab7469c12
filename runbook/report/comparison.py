"""Compares a run's metrics with the last comparable run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runbook.report.evidence import Run

# Latencies of one machine differ by this much from run to run without any cause in the model.
LATENCY_NOISE = 0.25
TREND = 8

_METRICS = ("log_loss", "brier", "roc_auc", "accuracy")
_LOWER = re.compile(r"(log_loss|brier|_ms$|error)")
_HIGHER = re.compile(r"(auc|accuracy|per_second)")
_STRESS = re.compile(r"(?:^|_)(p50|p95|p99|p999)_ms$|error_percent$|achieved_per_second$")


@dataclass(frozen=True)
class Measure:
    """One number of a run; ``low`` and ``high`` are its 95 % interval where the run states one."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Row:
    """One number now and before, in words; ``trend`` holds the values of the last runs, oldest first."""

    name: str
    now: str
    interval: str
    before: str
    change: str
    word: str
    trend: tuple[float, ...]


@dataclass(frozen=True)
class Table:
    """The numbers of one step; ``previous`` is the run compared with, empty when there is none."""

    name: str
    previous: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Change:
    """One thing that makes the model what it is, now and in the run compared with."""

    name: str
    now: str
    before: str

    @property
    def same(self) -> bool:
        """Whether nothing changed."""
        return self.now == self.before


def changes(this: Run, earlier: Sequence[Run]) -> tuple[str, tuple[Change, ...]]:
    """Return the newest earlier run that trained, and what differs from it; without one, an empty name and nothing."""
    previous = next((o for o in earlier if o.training), None)
    if previous is None or this.training is None:
        return "", ()
    now, before = _identity(this), _identity(previous)
    return previous.run_id, tuple(Change(name, now[name], before[name]) for name in now)


def read(this: Run, earlier: Sequence[Run]) -> tuple[Table, ...]:
    """Return a table for the model and one per stage that was under stress; a table without numbers is left out.

    Each compares with the newest of ``earlier`` that has its numbers, so a run that failed early hides nothing.
    """
    tables = [_table("Model, cross-validated", _model(this), [(o.run_id, _model(o)) for o in earlier])]
    for stage in ("dev", "prod"):
        others = [(o.run_id, _stress(o, stage)) for o in earlier]
        tables.append(_table(f"Stress test, {stage}", _stress(this, stage), others))
    return tuple(t for t in tables if t.rows)


def shown(name: str, value: float) -> str:
    """Return one number with its unit, such as 0.4203, 38.4 ms, 0.02 % or 1,204 /s."""
    if name.endswith("_ms"):
        return f"{value:,.0f} ms" if abs(value) >= 100 else f"{value:.1f} ms"
    if name.endswith("_percent"):
        return f"{value:.2f} %"
    if name.endswith("_per_second"):
        return f"{value:,.1f} /s"
    return f"{value:.4f}"


def _table(name: str, now: Mapping[str, Measure], earlier: Sequence[tuple[str, Mapping[str, Measure]]]) -> Table:
    reached = [(run_id, measures) for run_id, measures in earlier if measures]
    previous, before = reached[0] if reached else ("", {})
    history = [now, *(measures for _, measures in reached[: TREND - 1])]
    rows = []
    for key, measure in now.items():
        trend = tuple(h[key].value for h in reversed(history) if key in h)
        rows.append(_row(key, measure, before.get(key), trend))
    return Table(name, previous if any(r.before for r in rows) else "", tuple(rows))


def _row(key: str, now: Measure, before: Measure | None, trend: tuple[float, ...]) -> Row:
    interval = f"{now.low:.3f} to {now.high:.3f}" if now.low is not None and now.high is not None else ""
    if before is None:
        return Row(now.name, shown(key, now.value), interval, "", "", "", trend)
    change = now.value - before.value
    same = shown(key, now.value) == shown(key, before.value)
    sign = "±" if same else "+" if change > 0 else "−"
    return Row(
        now.name, shown(key, now.value), interval, shown(key, before.value),
        f"{sign}{shown(key, 0.0 if same else abs(change))}", "same" if same else _word(key, now, before), trend,
    )  # fmt: skip


def _word(key: str, now: Measure, before: Measure) -> str:
    if now.low is not None and now.high is not None and now.low <= before.value <= now.high:
        return "within noise"
    if key.endswith("_ms") and abs(now.value - before.value) <= LATENCY_NOISE * before.value:
        return "within noise"
    higher = now.value > before.value
    if _LOWER.search(key):
        return "worse" if higher else "better"
    if _HIGHER.search(key):
        return "better" if higher else "worse"
    return ""


def _model(this: Run) -> dict[str, Measure]:
    metrics = (this.training or {}).get("metrics", {})
    found = {}
    for name in _METRICS:
        key = f"cv_{name}"
        if key in metrics:
            label = name.replace("_", " ").replace("roc auc", "ROC AUC").replace("brier", "Brier score")
            found[key] = Measure(label, metrics[key], metrics.get(f"{key}_low"), metrics.get(f"{key}_high"))
    return found


def _stress(this: Run, stage: str) -> dict[str, Measure]:
    # How the numbers are nested is the stress test's own business; here only their names count.
    return {
        key: Measure(_label(key), float(value))
        for key, value in _leaves(this.stress(stage))
        if _STRESS.search(key) and isinstance(value, int | float) and not isinstance(value, bool)
    }


def _identity(this: Run) -> dict[str, str]:
    training, model = this.training or {}, this.model or {}
    return {
        "Commit": _short(training["properties"]["git_commit"]),
        "Data": _short(training["data"]["sha256"]),
        "Training code": _short(training["code"]["sha256"]),
        "Lock of packages": _short(training["code"]["lock_sha256"]),
        "Model": _short(training["model"]["sha256"]),
        "Version": str(model.get("modelId", "none")),
    }


def _short(digest: Any) -> str:
    return str(digest)[:8] if digest else "not recorded"


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}_")
        else:
            yield f"{prefix}{key}", value


def _label(key: str) -> str:
    name = re.sub(r"_(ms|percent)$", "", key).replace("achieved_per_second", "answers").replace("error", "errors")
    return name.replace("_", " ").replace("p999", "p99.9")
