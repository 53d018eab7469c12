from __future__ import annotations

import numpy as np
import pytest

from runbook.testing import load_results
from runbook.testing.load_results import Percentiles, Sample


def test_percentiles_agree_with_the_exact_ones_to_three_digits() -> None:
    seconds = list(np.random.default_rng(1).lognormal(-5, 1, size=20_000))
    found = load_results.percentiles(seconds)
    wanted = np.percentile(seconds, [50, 90, 95, 99, 99.9]) * 1000
    found_ms = [found.p50_ms, found.p90_ms, found.p95_ms, found.p99_ms, found.p999_ms]
    assert found_ms == pytest.approx(list(wanted), rel=0.02)
    assert found.max_ms == pytest.approx(max(seconds) * 1000, abs=0.001)


def test_no_measurement_has_no_percentiles() -> None:
    assert load_results.percentiles([]) == Percentiles()


def test_a_failed_request_counts_in_the_latency_and_one_that_was_never_sent_does_not() -> None:
    samples = [Sample(0.1, 0.010, 0.0, "ok"), Sample(0.2, 2.0, 0.0, "timeout"), Sample(1.3, None, None, "not sent")]
    found = load_results.phase_result("sustained", samples, seconds=2.0, requests_per_second=1.5, counted=True)
    assert (found.planned, found.sent, found.answered, found.ok) == (3, 2, 1, 1)
    assert found.latency.max_ms == 2000
    assert found.errors == {"timeout": 1, "not sent": 1}
    assert found.error_percent == pytest.approx(200 / 3)


def test_the_timeline_has_a_line_per_second_of_intended_time() -> None:
    samples = [Sample(0.1, 0.010, 0.0, "ok"), Sample(0.9, 3.0, 0.0, "ok"), Sample(2.5, 0.020, 0.0, "status 503")]
    found = load_results.phase_result("burst", samples, seconds=3.0, requests_per_second=1.0, counted=True)
    assert [(s.second, s.requests, s.errors, s.max_ms) for s in found.timeline] == [(0, 2, 0, 3000), (2, 1, 1, 20)]
