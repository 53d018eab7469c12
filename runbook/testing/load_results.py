"""Holds the results of a load: percentiles, errors by kind and a line per second, as frozen values and tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from hdrh.histogram import HdrHistogram

from runbook.testing.processor_use import ProcessorUse

if TYPE_CHECKING:
    import pandas as pd

OK = "ok"
WRONG_BODY = "wrong body"
WRONG_REQUEST = "answer to another request"
_STATUS = "status "
_HOUR_US = 3_600_000_000


class Sample(NamedTuple):
    """One request: seconds from the load's start to its intended time, latency and lag in seconds, and how it ended.

    ``latency`` counts from the intended time, so waiting in the generator or behind a stalled endpoint is part of it;
    ``lag`` is how late the generator itself was. A request that was never sent has neither.
    """

    due: float
    latency: float | None
    lag: float | None
    kind: str


@dataclass(frozen=True)
class Percentiles:
    """Milliseconds from an HDR histogram of three significant digits; None where nothing was measured."""

    p50_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    p999_ms: float | None = None
    max_ms: float | None = None


@dataclass(frozen=True)
class Second:
    """One second of the load, by intended time; ``second`` counts from the load's start."""

    second: int
    phase: str
    requests: int
    errors: int
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None


@dataclass(frozen=True)
class PhaseResult:
    """One phase: every planned request is either ok or in exactly one kind of ``errors``."""

    name: str
    counted: bool = True
    seconds: float = 0.0
    planned: int = 0
    sent: int = 0
    answered: int = 0
    ok: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)
    intended_per_second: float = 0.0
    achieved_per_second: float = 0.0
    latency: Percentiles = Percentiles()
    lag: Percentiles = Percentiles()
    timeline: tuple[Second, ...] = ()

    @property
    def error_percent(self) -> float | None:
        """Percent of the planned requests that did not end well, or None when none was planned."""
        return 100 * (self.planned - self.ok) / self.planned if self.planned else None


@dataclass(frozen=True)
class LoadResult:
    """Every phase in order; ``began`` is unix time, ``seconds`` runs until the last answer.

    ``machine`` is what kept the cores of the sending machine busy meanwhile.
    """

    began: float
    seconds: float
    phases: tuple[PhaseResult, ...]
    machine: ProcessorUse = ProcessorUse()

    @property
    def after_lag(self) -> str:
        """What to do when the generator was late: what was busy, and the way on."""
        return (
            f"The deployment was not judged: the load left late, because this machine was busy ({self.machine}). "
            "End what else runs here, or send the load from a machine with more cores, then run this step again."
        )

    def phase(self, name: str) -> PhaseResult:
        """Return the phase of that name; one that was not sent has no requests and no percentiles."""
        return next((p for p in self.phases if p.name == name), PhaseResult(name))

    @property
    def planned(self) -> int:
        """How many requests the counted phases planned."""
        return sum(p.planned for p in self.phases if p.counted)

    @property
    def error_percent(self) -> float | None:
        """Percent of the counted phases' planned requests that did not end well, or None when none was planned."""
        failed = sum(p.planned - p.ok for p in self.phases if p.counted)
        return 100 * failed / self.planned if self.planned else None

    def table(self) -> pd.DataFrame:
        """Return a row per phase: requests, rates and percentiles in milliseconds, with the generator's lag last."""
        import pandas as pd

        measured = list(Percentiles.__annotations__)
        rows = [
            (
                p.name if p.counted else f"{p.name} (not counted)",
                *(p.planned, p.planned - p.ok, round(p.intended_per_second, 1), round(p.achieved_per_second, 1)),
                *(getattr(p.latency, name) for name in measured),
                p.lag.p99_ms,
            )
            for p in self.phases
        ]
        rates = ["intended/s", "achieved/s"]
        names = [name.replace("_", " ") for name in measured]
        return pd.DataFrame(rows, columns=["phase", "requests", "errors", *rates, *names, "lag p99 ms"])

    def timeline(self) -> pd.DataFrame:
        """Return a row per second of the load that had requests: second, phase, requests, errors, p50, p99 and max."""
        import pandas as pd

        return pd.DataFrame([vars(s) for p in self.phases for s in p.timeline], columns=list(Second.__annotations__))

    def errors(self) -> pd.DataFrame:
        """Return a row per phase and kind of error: phase, kind, requests."""
        import pandas as pd

        rows = [(p.name, kind, count) for p in self.phases for kind, count in sorted(p.errors.items())]
        return pd.DataFrame(rows, columns=["phase", "kind", "requests"])


def percentiles(seconds: Sequence[float]) -> Percentiles:
    """Return the percentiles of durations in seconds; one below a microsecond counts as a microsecond."""
    if not seconds:
        return Percentiles()
    histogram = HdrHistogram(1, _HOUR_US, 3)
    for value in seconds:
        histogram.record_value(min(max(1, round(value * 1e6)), _HOUR_US))

    def at(percent: float) -> float:
        return float(round(histogram.get_value_at_percentile(percent) / 1000, 3))

    return Percentiles(at(50), at(90), at(95), at(99), at(99.9), round(max(seconds) * 1000, 3))


def phase_result(
    name: str, samples: Sequence[Sample], *, seconds: float, requests_per_second: float, counted: bool
) -> PhaseResult:
    """Return the statistics of one phase; latency covers every request that was sent, also the ones that failed."""
    kinds = Counter(s.kind for s in samples)
    answered = sum(
        n for kind, n in kinds.items() if kind in (OK, WRONG_BODY, WRONG_REQUEST) or kind.startswith(_STATUS)
    )
    sent = [s for s in samples if s.latency is not None]
    first, last = (
        min((s.due for s in sent), default=0.0),
        max((s.due + (s.latency or 0.0) for s in sent), default=0.0),
    )
    return PhaseResult(
        name=name,
        counted=counted,
        seconds=seconds,
        planned=len(samples),
        sent=len(sent),
        answered=answered,
        ok=kinds[OK],
        errors={kind: n for kind, n in kinds.items() if kind != OK},
        intended_per_second=requests_per_second,
        achieved_per_second=answered / max(seconds, last - first) if seconds else 0.0,
        latency=percentiles([s.latency for s in sent if s.latency is not None]),
        lag=percentiles([s.lag for s in sent if s.lag is not None]),
        timeline=_timeline(name, samples),
    )


def status_kind(status: int) -> str:
    """Return the kind under which an answer with this HTTP status is counted."""
    return f"{_STATUS}{status}"


def _timeline(name: str, samples: Sequence[Sample]) -> tuple[Second, ...]:
    seconds: dict[int, list[Sample]] = {}
    for sample in samples:
        seconds.setdefault(int(sample.due), []).append(sample)
    return tuple(_second(number, name, seconds[number]) for number in sorted(seconds))


def _second(number: int, name: str, samples: Sequence[Sample]) -> Second:
    latency = percentiles([s.latency for s in samples if s.latency is not None])
    errors = sum(s.kind != OK for s in samples)
    return Second(number, name, len(samples), errors, latency.p50_ms, latency.p99_ms, latency.max_ms)
