"""Where things happen: one protocol (base), two platforms (local, azure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.errors import UsageError

if TYPE_CHECKING:
    from runbook.platform.base import Platform


def open(target: str) -> Platform:
    """Return the platform of ``target``; only that platform's libraries are imported."""
    if target == "local":
        from runbook.platform.local import LocalPlatform

        return LocalPlatform()
    if target == "azure":
        from runbook.platform.azure import AzurePlatform

        return AzurePlatform()
    raise UsageError(f"target is {target!r}: wanted local or azure.")
