"""Numbers and times as a reviewer reads them."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence

STATUS = {
    "passed": "Passed",
    "failed": "Failed",
    "not_needed": "Not needed",
    "not_run": "Not run",
    "cancelled": "Cancelled",
    "running": "Running",
    "not_met": "Not met",
    "unsure": "Unsure",
    "unreadable": "Unreadable",
    "rehearsed": "Rehearsed",
}

REHEARSAL = "REHEARSAL"
REHEARSED = "A stand-in answered in Azure's place: nothing of this happened on Azure."

# What XML 1.0 and a terminal do not take as text: control characters and lone surrogates.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """Return ``text`` without characters that neither XML nor a page can show."""
    return _UNPRINTABLE.sub("", text)


def took(seconds: float | None) -> str:
    """Return a duration, such as 30 ms, 1.3 s, 42 s, 3 min 05 s or 2 h 10 min; empty for None."""
    if seconds is None:
        return ""
    if seconds < 0.9995:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def moment(text: str | None) -> dt.datetime | None:
    """Return an ISO 8601 text as UTC, or None when it is none; a time without a zone is taken as UTC."""
    try:
        when = dt.datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return when.replace(tzinfo=dt.UTC) if when.tzinfo is None else when.astimezone(dt.UTC)


def when(text: str | None) -> str:
    """Return an ISO 8601 text as 2026-11-22 22:16 UTC; anything else as it is."""
    found = moment(text)
    return f"{found:%Y-%m-%d %H:%M} UTC" if found else text or "not recorded"


def count(number: int, noun: str) -> str:
    """Return 1 check, 2 checks."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listing(parts: Sequence[str]) -> str:
    """Return a, b and c."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def wish(text: str) -> str:
    """Return an expected value with the bounds as signs: "at most 0.5" becomes "≤ 0.5"."""
    return re.sub(r"\bat most (?=[\d.-])", "≤ ", re.sub(r"\bat least (?=[\d.-])", "≥ ", text))


def sentence(text: str) -> str:
    """Return ``text`` with a capital and a full stop; a first word that is a name, such as a file's, stays as it is."""
    text = text.strip()
    if not text:
        return ""
    first = text[0] if re.search(r"[._/]", text.split()[0].rstrip(".")) else text[0].upper()
    return first + text[1:] + ("" if text[-1] in ".!?" else ".")


def short(text: str, limit: int = 300) -> str:
    """Return the first line of ``text``, cut to ``limit`` characters."""
    line = next((x.strip() for x in text.splitlines() if x.strip()), "")
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def tab(status: str, rehearsal: bool, what: str) -> str:
    """Return the title of a page in a browser's tab; that of a rehearsal begins with it, and never with a green word."""
    said = what if status == "rehearsed" else f"{STATUS[status]}: {what}"
    return f"{REHEARSAL}: {said}" if rehearsal else said


def step_name(step: str, stage: str | None = None) -> str:
    """Return a step as words: 80_stress_test on prod becomes "stress test, prod"."""
    name = re.sub(r"^\d+_", "", step).replace("_", " ")
    return f"{name}, {stage}" if stage else name
