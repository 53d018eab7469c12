"""Pieces of the small notebooks that the fixture ``build`` writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Builder = Callable[..., Path]

PARAMETERS = (
    'target: str = "local"  # where things happen, local|azure\n'
    'stage: str = "dev"  # what is released to, dev|prod\n'
    'run_id: str = "interactive"  # the run this step belongs to\n'
)
HOLDS = 'from runbook.check import check\ncheck("one is one", found=1, wanted=1)'
