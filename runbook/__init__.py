"""Support package of the executable runbook; notebooks start with ``connect``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runbook.platform.base import Platform

__all__ = ["connect"]


def connect(target: str) -> Platform:
    """Return the platform of ``target`` (local or azure).

    Inside a step that the runner started it also shares the run's lock, so that no other run can begin while this
    kernel can still act.
    """
    from runbook import lock, platform

    lock.share()
    return platform.open(target)
