"""Support package of the executable runbook; notebooks start with ``connect``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runbook.platform.base import Platform

__all__ = ["connect"]


def connect(target: str) -> Platform:
    """Return the platform of ``target`` (local or azure).

    Inside a step that the runner started it also shares the run's lock, so that no other run can begin while this
    kernel can still act.
    """
    from runbook import handoff, platform
    from runbook.engine import lock

    # ONNX Runtime reports to its makers unless this stands before its first import, which notebooks do later.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    lock.share()
    handoff.use_target(target)
    return platform.open(target)
