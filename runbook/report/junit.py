"""junit.xml of a run: a suite per step run, a case per check, and one that says whether the step ran to its end."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from runbook.check import Check
from runbook.report import format
from runbook.report.evidence import Run, StepRun


def render(this: Run) -> str:
    """Return the JUnit document of a run.

    A failed check is a failure, a check that did not run is skipped; a red step without a failed check carries its error in
    the case "<step> ran to its end", and a step that did not run has that case alone, skipped.
    """
    root = Element("testsuites", name=format.printable(f"{_rehearsal(this)}{this.run_id}"))
    suites = [_suite(root, this, step) for step in this.steps]
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in suites)))
    root.set("time", f"{this.manifest['seconds'] or 0:.3f}")
    indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _suite(root: Element, this: Run, step: StepRun) -> Element:
    label = format.printable(f"{step.step}-{step.stage}" if step.stage else step.step)
    suite = SubElement(root, "testsuite", name=f"{_rehearsal(this)}{label}")
    for check in step.checks:
        _case(suite, this, label, check)
    _end(suite, this, label, step)
    cases = list(suite)
    suite.set("tests", str(len(cases)))
    for key, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(key, str(sum(case.find(tag) is not None for case in cases)))
    suite.set("time", f"{step.seconds or 0:.3f}")
    if step.started:
        suite.set("timestamp", format.printable(step.started))
    return suite


def _case(suite: Element, this: Run, label: str, check: Check) -> None:
    case = _testcase(suite, this, label, check.name)
    if check.status == "failed":
        message = format.printable(f"expected {check.wanted}, found {check.found}")
        SubElement(case, "failure", message=message, type="CheckFailed").text = message
    elif check.status == "not_run":
        SubElement(case, "skipped", message="this check did not apply")


def _end(suite: Element, this: Run, label: str, step: StepRun) -> None:
    case = _testcase(suite, this, label, f"{label} ran to its end", step.seconds)
    if step.status == "not_run":
        SubElement(case, "skipped", message=format.printable(step.problem or "the step did not run"))
    elif not step.green and step.failed_check:
        SubElement(case, "skipped", message="stopped by the failed check")
    elif not step.green:
        kind, message = (step.failure.kind, step.failure.message) if step.failure else (step.status, "")
        said = format.printable(message)
        SubElement(case, "error", message=format.short(said) or kind, type=format.printable(kind)).text = said


def _testcase(suite: Element, this: Run, label: str, name: str, seconds: float | None = None) -> Element:
    group = format.printable(f"{_rehearsal(this)}{this.manifest['plan']}.{label}")
    return SubElement(suite, "testcase", classname=group, name=format.printable(name), time=f"{seconds or 0:.3f}")


def _rehearsal(this: Run) -> str:
    # The tests of a build are listed by these names alone, far from any page.
    return f"{format.REHEARSAL} " if this.rehearsal else ""
