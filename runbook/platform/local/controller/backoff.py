"""The pause before a replica is started again, by what happened to the replicas before it."""

from __future__ import annotations

from dataclasses import dataclass

# A start that failed will most likely fail again: 0.5, 1, 2, 4 ... 30 s.
LONGEST_AFTER_FAILURE_S = 30.0
# A death by signal says nothing about the next start, so its pauses stay short: 0.25, 0.5, 1, 2 s.
# Without any pause, a replica that the system kills for lack of memory would start without end.
LONGEST_AFTER_KILL_S = 2.0


@dataclass
class Backoff:
    """The failed starts and early deaths by signal since a replica last stayed alive."""

    failures: int = 0
    kills: int = 0

    @property
    def pause_s(self) -> float:
        """How many seconds to wait before the next start; 0 when nothing went wrong."""
        after_failure = min(0.25 * 2**self.failures, LONGEST_AFTER_FAILURE_S) if self.failures else 0.0
        after_kill = min(0.125 * 2**self.kills, LONGEST_AFTER_KILL_S) if self.kills else 0.0
        return max(after_failure, after_kill)

    @property
    def lasting(self) -> bool:
        """Tell whether so much went wrong that waiting for the next start is of no use."""
        return self.failures > 1 or self.kills > 4

    def failed(self) -> None:
        """Count a start that failed by itself."""
        self.failures = min(self.failures + 1, 20)

    def killed(self) -> None:
        """Count a replica that a signal ended during its start or soon after it."""
        self.kills = min(self.kills + 1, 20)

    def lived(self) -> None:
        """Forget all of it: a replica stayed alive."""
        self.failures = self.kills = 0
