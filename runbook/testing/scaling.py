"""Replicas of a deployment over time: what deployment.yml allows, and what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runbook.platform import files
from runbook.platform.base import Stage

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Scaling:
    """How many replicas a deployment may have, and the seconds between two looks of the autoscaler."""

    minimum: int
    maximum: int
    polling_seconds: int

    @property
    def scales(self) -> bool:
        """Whether the number of replicas ever changes."""
        return self.maximum > self.minimum

    def settle_seconds(self, calm_polls: int) -> int:
        """Return the seconds of calm that bring a deployment back to its minimum, with some polls to spare."""
        # Twice: the first descent stops at the most that the tail of the burst still asked for, the second one does not.
        return (2 * calm_polls + 5) * self.polling_seconds


def scaling(stage: Stage) -> Scaling:
    """Return the scaling that deployment/<stage>/deployment.yml asks for; a fixed number of replicas does not scale."""
    document = files.deployment(stage)
    settings = document.get("scale_settings", {})
    if settings.get("type") == "target_utilization":
        return Scaling(settings["min_instances"], settings["max_instances"], settings["polling_interval"])
    fixed = int(document.get("instance_count", 1))
    return Scaling(fixed, fixed, 1)


def table(history: Sequence[tuple[float, int, int]] | None, began: float, seconds: float) -> pd.DataFrame:
    """Return a row per change: second (since ``began``, unix time), expected, ready; empty where nothing was measured.

    The last row repeats what held when ``seconds`` had passed.
    """
    import pandas as pd

    rows = [(round(at - began, 1), wanted, ready) for at, wanted, ready in history or []]
    rows += [(round(seconds, 1), *rows[-1][1:])] if rows and rows[-1][0] < seconds else []
    return pd.DataFrame(rows, columns=["second", "wanted", "ready"])
