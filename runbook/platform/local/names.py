"""Names that reach a file name, a command line or the router's configuration, checked before they do."""

from __future__ import annotations

import re

from runbook.errors import UsageError

NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]{1,30}[a-zA-Z0-9]")
MODEL_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,254}")
VERSION = re.compile(r"[1-9][0-9]{0,8}")


def name(kind: str, value: str) -> str:
    """Return ``value`` when it is a name Azure ML takes for an endpoint, deployment or compute; else raise UsageError."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise UsageError(
            f"{kind} name is {value!r}: expected 3 to 32 letters, digits and '-', starting with a letter and not ending in '-'."
        )
    return value


def model(value: str) -> str:
    """Return ``value`` when it can name a registered model and its folder; else raise UsageError."""
    if not isinstance(value, str) or not MODEL_NAME.fullmatch(value):
        raise UsageError(
            f"model name is {value!r}: expected letters, digits, '.', '_' and '-', starting with a letter or digit."
        )
    return value


def version(value: str) -> str:
    """Return ``value`` when it is a model version, a number without leading zero; else raise UsageError."""
    if not isinstance(value, str) or not VERSION.fullmatch(value):
        raise UsageError(f"model version is {value!r}: expected a whole number from 1 on, as text.")
    return value
