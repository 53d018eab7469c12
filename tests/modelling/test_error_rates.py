"""The gate's error rates on simulated pairs, in a short form; docs/gate.md holds those of 300 pairs."""

from __future__ import annotations

import error_rates
import pytest

PAIRS = 30


def test_an_equal_model_rarely_fails_and_is_usually_promoted() -> None:
    found = error_rates.decisions(error_rates.equal, PAIRS)
    assert found["fail"] <= 1
    assert found["promote"] >= 0.8 * PAIRS


def test_a_model_that_is_two_margins_worse_is_not_promoted() -> None:
    assert error_rates.decisions(error_rates.worse(2), PAIRS)["promote"] <= 1


def test_a_model_that_is_broken_on_one_slice_is_stopped() -> None:
    assert error_rates.decisions(error_rates.broken_slice, PAIRS)["promote"] <= 0.2 * PAIRS


def test_the_worse_models_are_worse_by_what_they_say() -> None:
    lost = error_rates.expected_loss(error_rates.worse_noise(0.1)) - error_rates.expected_loss(error_rates.NOISE)
    assert lost == pytest.approx(0.1, abs=1e-3)
