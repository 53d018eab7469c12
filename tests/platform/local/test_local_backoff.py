"""How long a replica's next start waits, by what happened before."""

from __future__ import annotations

from runbook.platform.local.controller.backoff import Backoff


def pauses(count: int, failed: bool) -> list[float]:
    backoff, found = Backoff(), [0.0]
    for _ in range(count):
        if failed:
            backoff.failed()
        else:
            backoff.killed()
        found.append(backoff.pause_s)
    return found


def test_failed_starts_wait_longer_and_longer_up_to_half_a_minute() -> None:
    assert pauses(9, failed=True) == [0, 0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_a_death_by_signal_makes_the_next_start_wait_a_little_and_never_long() -> None:
    assert pauses(40, failed=False)[:7] == [0, 0.25, 0.5, 1, 2, 2, 2]
    assert max(pauses(40, failed=False)) == 2


def test_a_replica_that_stays_alive_clears_both_counts() -> None:
    backoff = Backoff()
    backoff.failed()
    backoff.failed()
    backoff.killed()
    assert backoff.lasting and backoff.pause_s == 1
    backoff.lived()
    assert not backoff.lasting and backoff.pause_s == 0
