"""One expected/found comparison that can fail the step: what notebooks call after every action.

Every check leaves a machine-readable output (type ``MIME``) before it raises, so that the report, the JUnit file and
the summary show the same expected and found values even when the step fails.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any, Literal

from runbook.errors import CheckFailed, UsageError

MIME = "application/vnd.runbook.checks+json"
NOT_NEEDED_MIME = "application/vnd.runbook.not-needed+json"

DIGEST = re.compile(r"[0-9a-f]{64}")
Status = Literal["passed", "failed", "not_run"]
_UNSET: Any = object()
_done: list[Check] = []


@dataclass(frozen=True)
class Check:
    """One comparison, as words that a reviewer reads."""

    name: str
    wanted: str
    found: str
    status: Status


def check(
    name: str,
    *,
    found: Any,
    wanted: Any = _UNSET,
    at_least: float | None = None,
    at_most: float | None = None,
    one_of: Collection[Any] | None = None,
    needed: bool = True,
    otherwise: str = "",
) -> None:
    """Compare ``found`` with exactly one wish, show the comparison, and raise CheckFailed when it does not hold.

    ``needed=False`` records the check as not run: its wish is shown, nothing is claimed. A missing number (None, NaN)
    never holds a bound. ``otherwise`` is what a reader should know and do when the check fails; the error ends with it.
    """
    wish, holds = _judge(found, wanted, at_least, at_most, one_of)
    status: Status = "not_run" if not needed else "passed" if holds else "failed"
    this = Check(name, wish, _words(found) if needed else "", status)
    _done.append(this)
    _show(this)
    if status == "failed":
        raise CheckFailed(" ".join(filter(None, [f"{name}: found {this.found}, expected {wish}.", otherwise])))


def not_needed(reason: str, *, when: bool = True) -> None:
    """Declare that this step has nothing to do, and why; its status becomes not_needed when every check that ran held."""
    if when:
        _display({NOT_NEEDED_MIME: {"reason": reason}, "text/plain": f"Not needed: {reason}"})


def summary() -> Any:
    """Return a table of every check made in this kernel so far."""
    import pandas as pd

    return pd.DataFrame([asdict(c) for c in _done], columns=["name", "wanted", "found", "status"])


def _judge(
    found: Any, wanted: Any, at_least: float | None, at_most: float | None, one_of: Collection[Any] | None
) -> tuple[str, bool]:
    given = [wanted is not _UNSET, at_least is not None or at_most is not None, one_of is not None]
    if sum(given) != 1:
        raise UsageError("check(...) wants exactly one of wanted=, at_least=/at_most=, one_of=.")
    if one_of is not None:
        return "one of " + ", ".join(_words(x) for x in one_of), found in one_of
    if wanted is not _UNSET:
        return _words(wanted), _equal(found, wanted)
    wish = " and ".join(
        f"{word} {_words(bound)}" for word, bound in (("at least", at_least), ("at most", at_most)) if bound is not None
    )
    if found is None or isinstance(found, bool) or not math.isfinite(found):
        return wish, False
    return wish, (at_least is None or found >= at_least) and (at_most is None or found <= at_most)


def _equal(found: Any, wanted: Any) -> bool:
    # True == 1 in Python; a check that wants True must not accept a count of one.
    if isinstance(found, bool) is not isinstance(wanted, bool):
        return False
    return bool(found == wanted)


def _words(value: Any) -> str:
    if isinstance(value, float) or (hasattr(value, "dtype") and hasattr(value, "item")):
        value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else repr(value)
    if DIGEST.fullmatch(text):
        return f"{text[:16]}..."  # compared whole, shown short
    return text if len(text) <= 300 else text[:280] + f"... ({len(text)} characters)"


def _show(this: Check) -> None:
    mark = {"passed": "passed", "failed": "FAILED", "not_run": "not run"}[this.status]
    _display({MIME: [asdict(this)], "text/plain": f"{mark}: {this.name}: found {this.found}, expected {this.wanted}"})


def _display(bundle: dict[str, Any]) -> None:
    from IPython.core.getipython import get_ipython
    from IPython.display import display

    if get_ipython() is None:
        print(bundle["text/plain"])
    else:
        display(bundle, raw=True)
