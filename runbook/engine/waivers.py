"""Reads params/gate.yml: limits of this project, each looser one with its reason, its owner and a last day.

A line is ``key: value  # reason; owner; until YYYY-MM-DD``.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook.errors import ParamsError

if TYPE_CHECKING:
    from runbook.engine.params import Parameter

FILE = "gate.yml"
SHAPE = "# reason; owner; until YYYY-MM-DD"
# How limits are named: max_p99_ms, holdout_min_accuracy, margin_log_loss, must_be_shown.
_UPPER = re.compile(r"(^|_)max_|^margin_")
_LOWER = re.compile(r"(^|_)min_")
_LIST = "must_be_shown"


@dataclass(frozen=True)
class Waiver:
    """A limit that is looser than its notebook's default, by whom, why, and the last day on which it counts."""

    name: str
    value: Any
    default: Any
    reason: str
    owner: str
    until: dt.date

    @property
    def source(self) -> str:
        """The file and the comment, as pages show them."""
        return f"params/{FILE}: {self.reason}; {self.owner}; until {self.until.isoformat()}"


def looser(parameter: Parameter, value: Any) -> bool:
    """Return whether ``value`` lets more pass than the default of a limit."""
    if _UPPER.search(parameter.name):
        return bool(value > parameter.default)
    if _LOWER.search(parameter.name):
        return bool(value < parameter.default)
    return not set(parameter.default) <= set(value)


def waivers(path: Path, values: Mapping[str, Any], known: Mapping[str, Parameter]) -> dict[str, Waiver]:
    """Return the looser limits among the checked ``values`` of params/gate.yml by name.

    Raises ParamsError for a value that is no limit, for a looser limit without reason, owner and last day, and for one
    whose last day has passed.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    found = {}
    for name, value in values.items():
        parameter = known[name]
        number = next(n for n, line in enumerate(lines, 1) if re.match(rf"""["']?{name}["']?\s*:""", line))
        where = f"params/{FILE}:{number}: {name}"
        if name != _LIST and not _UPPER.search(name) and not _LOWER.search(name):
            raise ParamsError(f"{where} is not a limit; expected names with max_, min_ or margin_. Set it in base.yml.")
        if looser(parameter, value):
            found[name] = _waiver(where, parameter, value, lines[number - 1])
    return found


def _waiver(where: str, parameter: Parameter, value: Any, line: str) -> Waiver:
    looser_than = f"{where} is {value!r}, looser than the default {parameter.default!r} of {parameter.notebook}"
    parts = [part.strip() for part in line.partition(" #")[2].split(";")]
    day = re.fullmatch(r"until (\d{4}-\d{2}-\d{2})", parts[-1])
    if len(parts) != 3 or not all(parts) or not day:
        raise ParamsError(f"{looser_than}; expected '{SHAPE}' after the value. Say why, who decides, and until when.")
    try:
        until = dt.date.fromisoformat(day[1])
    except ValueError:
        raise ParamsError(f"{looser_than}, until {day[1]}, which is no day; expected '{SHAPE}'.") from None
    if until < dt.datetime.now(dt.UTC).date():
        raise ParamsError(
            f"{looser_than}, until {day[1]}, which has passed. Remove the line, or let {parts[1]} decide on a new day."
        )
    return Waiver(parameter.name, value, parameter.default, parts[0], parts[1], until)
