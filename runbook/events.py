"""The run's event log, and the one place where secrets are masked.

Everything that reaches a file under reports/ or the terminal passes ``Mask``: events here, notebooks through
``MaskedNotebooks`` (papermill's own writer), error messages through the step's result.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import re
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

MASKED = "[masked]"
SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|CONNECTION_STRING|SAS)S?$", re.IGNORECASE)
# What a secret looks like when nobody told us its value: Azure connection strings and SAS signatures, bearer headers,
# JSON web tokens, passwords in URLs.
PATTERNS = [
    re.compile(r"((?:Account|SharedAccess|Instrumentation)Key=)[^;\s\"'\\]+", re.IGNORECASE),
    re.compile(r"([?&]sig=)[^&\s\"'\\]+"),
    re.compile(r"(Bearer\s+)[A-Za-z0-9._~+/=-]{12,}"),
    re.compile(r"()eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*"),
    re.compile(r"(://[^/\s:@\"']+:)[^/\s:@\"']+(?=@)"),
]


class Mask:
    """Replaces every known secret, plain, URL-quoted, JSON-escaped or in base64, and everything shaped like one."""

    def __init__(self, secrets: Callable[[], list[str]] = list) -> None:
        self._secrets = secrets

    def values(self) -> list[str]:
        """Return the secret values known now, longest first: of environment variables named like one, and the platform's."""
        named = [v for k, v in os.environ.items() if SECRET_NAME.search(k)]
        # A secret of five characters would mask half of a report; such a value is no secret.
        return sorted({s for s in named + self._secrets() if len(s) >= 6}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """Return ``text`` without secrets."""
        for secret in self.values():
            for form in _forms(secret):
                text = text.replace(form, MASKED)
        for pattern in PATTERNS:
            text = pattern.sub(rf"\1{MASKED}", text)
        return text


def _forms(secret: str) -> set[str]:
    escaped = json.dumps(secret)[1:-1]
    encoded = base64.b64encode(secret.encode()).decode()
    return {secret, escaped, json.dumps(escaped)[1:-1], urllib.parse.quote(secret, safe=""), encoded}


class EventLog:
    """Appends one JSON line per step, cell, action and call to events.jsonl of a run."""

    def __init__(self, path: Path, run_id: str, mask: Mask) -> None:
        self._path, self._run_id, self._mask = path, run_id, mask
        path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, kind: str, step: str | None = None, **fields: Any) -> None:
        """Append one event; raises OSError when the disk is full, so that a run never goes on without its evidence."""
        now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        event = {"time": now, "run_id": self._run_id, "step": step, "kind": kind, **fields}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(self._mask(json.dumps(event, ensure_ascii=False, default=str)) + "\n")


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
        partial.write_text(self._mask(text), encoding="utf-8")
        partial.replace(target)

    def pretty_path(self, path: str) -> str:
        """Return the path as papermill may show it."""
        return path.removeprefix(self.SCHEME)

    def listdir(self, path: str) -> list[str]:
        """Return the names in a folder."""
        return os.listdir(path.removeprefix(self.SCHEME))
