"""Lists the gates of a run: the criteria of the decision, and the key checks of the tests, stage by stage."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from runbook import steps
from runbook.check import Check
from runbook.report import format
from runbook.report.evidence import Run, StepRun

EVALUATE = steps.writer("decision")
TESTS = steps.testing()


@dataclass(frozen=True)
class Gate:
    """One comparison; ``interval`` is the uncertainty of what was found, in words."""

    name: str
    wanted: str
    found: str
    interval: str
    status: str


@dataclass(frozen=True)
class Group:
    """The gates of one step, with the step's folder, to link to its page."""

    name: str
    folder: str
    gates: tuple[Gate, ...]


def read(this: Run) -> tuple[Group, ...]:
    """Return the gates of a run in the order of its steps; a step that did not run keeps its place as not run.

    The tests of the last stage that was tested are told check by check, those of a stage before it in one line.
    """
    groups = []
    tested = [s.stage for s in this.steps if s.step in TESTS and s.status != "not_run"]
    for step in this.steps:
        if step.step == EVALUATE:
            groups.append(Group(f"Decision: {_word(this)}", step.folder, tuple(_criteria(this, step))))
        elif step.step in TESTS:
            name = format.sentence(step.name).removesuffix(".")
            groups.append(Group(name, step.folder, tuple(_tests(step, step.stage in tested[-1:]))))
    if not any(s.step == EVALUATE for s in this.steps) and this.decision:
        # CD takes the decision of the CI run whose result it releases.
        groups.insert(0, Group(f"Decision of CI: {_word(this)}", "", tuple(_criteria(this, None))))
    return tuple(g for g in groups if g.gates)


def number(found: float | str, digits: int = 4) -> str:
    """Return a number with so many significant digits; text as it is."""
    return found if isinstance(found, str) else f"{found:.{digits}g}".replace("-", "−")


def _word(this: Run) -> str:
    return str(this.decision["decision"]) if this.decision else "none"


def _criteria(this: Run, step: StepRun | None) -> Iterator[Gate]:
    if this.decision is None:
        yield Gate(
            "A decision was made",
            "promote or hold",
            "",
            "",
            "not_run" if not step or step.status == "not_run" else "failed",
        )
        return
    # A criterion says whether it speaks for promotion; only on fail is one that does not hold a failure.
    unmet = "failed" if this.decision["decision"] == "fail" else "not_met"
    folded = [r for r in this.decision["criteria"] if r["verdict"] == "unsure" and r["name"].startswith("slice ")]
    criteria = [r for r in this.decision["criteria"] if r not in folded]
    told = [r for r in criteria if r["interval"] or r["verdict"] != "passed"]
    for row in told:
        low_high = row["interval"]
        interval = f"{number(low_high[0], 3)} to {number(low_high[1], 3)}" if low_high else ""
        status = unmet if row["verdict"] == "failed" else row["verdict"]
        yield Gate(row["name"], format.wish(row["wanted"]), number(row["found"]), interval, status)
    if folded:
        names = format.listing([r["name"].removeprefix("slice ").split(":")[0] for r in folded])
        yield Gate(
            f"{format.count(len(folded), 'slice')} with too few rows to tell", "to be shown", names, "", "unsure"
        )
    if others := len(criteria) - len(told):
        yield _others(bool(told), others, others)


def _tests(step: StepRun, every: bool) -> Iterator[Gate]:
    if step.status == "not_run":
        yield Gate("All checks", "to hold", "", "", "not_run")
        return
    if step.status == "not_needed":
        yield Gate(format.sentence(format.short(step.not_needed or "Nothing to test")), "", "", "", "not_needed")
    key = [c for c in step.checks if c.status == "failed" or (every and step.status != "not_needed" and _measured(c))]
    for check in key:
        yield Gate(check.name, format.wish(check.wanted), check.found, "", check.status)
    others = [c for c in step.checks if c not in key and c.status != "not_run"]
    if others:
        yield _others(bool(key), len(others), sum(c.status == "passed" for c in others))
    if not step.green and not step.failed_check:
        what = format.short(step.failure.kind if step.failure else step.status, 80)
        yield Gate("The step ran to its end", "yes", what, "", step.status)


def _others(more: bool, wanted: int, held: int) -> Gate:
    return Gate("All others" if more else "All that apply", f"{wanted} to hold", f"{held} held", "", "passed")


def _measured(check: Check) -> bool:
    return re.match(r"at (most|least) -?\d|-?[\d.,]+$", check.wanted) is not None
