"""Holds the targets by name, and opens one of them as a platform (base.py is the protocol)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from runbook import paths
from runbook.errors import UsageError

if TYPE_CHECKING:
    from runbook.platform.base import Platform

# A target is a row here, its module, and its values in params/<target>.yml. The class is imported when it is opened, so that
# the local target never loads the Azure SDK.
TARGETS = {
    "local": ("runbook.platform.local", "LocalPlatform"),
    "azure": ("runbook.platform.azure", "AzurePlatform"),
}


def targets() -> tuple[str, ...]:
    """Return the names of the targets that have a file in params/."""
    return tuple(name for name in TARGETS if (paths.PARAMS / f"{name}.yml").exists())


def open(target: str) -> Platform:
    """Return the platform of ``target``; raises UsageError for a name that is no target."""
    if target not in TARGETS:
        raise UsageError(f"target is {target!r}: expected one of {', '.join(targets())}.")
    module, name = TARGETS[target]
    opened: Platform = getattr(importlib.import_module(module), name)()
    return opened
