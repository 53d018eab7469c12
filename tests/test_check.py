from __future__ import annotations

import numpy as np
import pytest

from runbook.check import check
from runbook.errors import CheckFailed, UsageError


@pytest.mark.parametrize(
    "wish",
    [
        {"found": 3, "wanted": 3},
        {"found": 2.0, "at_least": 2.0},
        {"found": 1, "at_most": 2},
        {"found": 1.5, "at_least": 1, "at_most": 2},
        {"found": "hold", "one_of": ("promote", "hold")},
        {"found": np.float64(0.5), "at_most": 1},
        {"found": np.int64(3), "wanted": 3},
        {"found": True, "wanted": True},
    ],
)
def test_a_check_that_holds_says_nothing_more(wish: dict[str, object]) -> None:
    check("it holds", **wish)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wish",
    [
        {"found": 3, "wanted": 4},
        {"found": None, "wanted": True},
        {"found": 1, "wanted": True},
        {"found": True, "wanted": 1},
        {"found": 1.9, "at_least": 2.0},
        {"found": 2.1, "at_most": 2.0},
        {"found": float("nan"), "at_most": 2.0},
        {"found": float("nan"), "at_least": 0.0},
        {"found": float("-inf"), "at_most": 2.0},
        {"found": None, "at_most": 2.0},
        {"found": True, "at_least": 0},
        {"found": "fail", "one_of": ("promote", "hold")},
    ],
)
def test_a_check_that_does_not_hold_raises_with_wanted_and_found(wish: dict[str, object]) -> None:
    with pytest.raises(CheckFailed, match="it holds: found .*, expected "):
        check("it holds", **wish)  # type: ignore[arg-type]


def test_a_check_that_is_not_needed_claims_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    check("p99, ms", found=None, at_most=5, needed=False)
    assert capsys.readouterr().out.startswith("not run: p99, ms")


@pytest.mark.parametrize("wish", [{}, {"wanted": 1, "at_most": 2}, {"wanted": 1, "one_of": (1,)}])
def test_a_check_without_exactly_one_wish_is_refused(wish: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        check("vague", found=1, **wish)  # type: ignore[arg-type]
