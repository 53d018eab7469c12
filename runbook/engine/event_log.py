"""The run's event log, and papermill's writer for executed notebooks; what both write is masked."""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path
from typing import Any

from runbook.engine.masking import Mask

# A lone surrogate has no UTF-8; written as \\udc80 it is valid JSON and costs no line.
SURROGATES = "backslashreplace"


class EventLog:
    """Appends one JSON line per step, cell, action and call to events.jsonl of a run."""

    def __init__(self, path: Path, run_id: str, mask: Mask) -> None:
        self._path, self._run_id, self._mask = path, run_id, mask
        path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, kind: str, step: str | None = None, **fields: Any) -> None:
        """Append one event; raises OSError when the disk is full, so that a run never goes on without its evidence."""
        now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        event = {"time": now, "run_id": self._run_id, "step": step, "kind": kind, **fields}
        # Masked as values before they become one line of JSON, so that no secret can break the line.
        masked = self._mask.event(json.loads(json.dumps(event, default=str)))
        with self._path.open("a", encoding="utf-8", errors=SURROGATES) as file:
            file.write(json.dumps(masked, ensure_ascii=False) + "\n")


class MaskedNotebooks:
    """Papermill's writer for executed notebooks: what reaches the disk is masked, after every cell."""

    SCHEME = "masked://"

    def __init__(self, mask: Mask) -> None:
        self._mask = mask

    def read(self, path: str) -> str:
        """Return the file's text."""
        return Path(path.removeprefix(self.SCHEME)).read_text(encoding="utf-8")

    def write(self, text: str, path: str) -> None:
        """Write masked text in one move, so that a killed runner leaves a whole notebook."""
        target = Path(path.removeprefix(self.SCHEME))
        partial = target.with_name(f".{target.name}.partial")
        partial.write_text(self._mask.notebook(text), encoding="utf-8", errors=SURROGATES)
        partial.replace(target)

    def pretty_path(self, path: str) -> str:
        """Return the path as papermill may show it."""
        return path.removeprefix(self.SCHEME)

    def listdir(self, path: str) -> list[str]:
        """Return the names in a folder."""
        return os.listdir(path.removeprefix(self.SCHEME))
