"""report.html of one step: verdict and checks first, then the notebook's story with its code folded, provenance last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runbook import release
from runbook.errors import RunError
from runbook.report import commands, evidence, format, given, notebook, outline, page
from runbook.report.commands import Command
from runbook.report.evidence import Commit, StepRun
from runbook.report.given import Given
from runbook.report.notebook import Story
from runbook.report.outline import Entry

FRAME = {
    "report": "",
    "checks": "What was checked",
    "parameters": "Parameters",
    "provenance": "Provenance",
    "failed": "",
}


@dataclass(frozen=True)
class Verdict:
    """What a page says first: a sentence, the reason below it, and the commands that a reader needs next."""

    headline: str
    reason: str
    commands: tuple[Command, ...] = ()


@dataclass(frozen=True)
class Value:
    """One parameter as the run used it; ``default`` is the notebook's own where it differs.

    ``given`` says what the plain command uses where ``-f`` or ``-p`` changed the value.
    """

    name: str
    value: str
    default: str
    meaning: str
    given: Given | None = None


def render(result: StepRun, folder: Path) -> str:
    """Return the page of one step run; reads executed.ipynb beside result.json and manifest.json of the run."""
    story = notebook.read(folder / "executed.ipynb", result)
    manifest = _manifest(folder.parent)
    rehearsal = evidence.rehearsal(manifest)
    body = page.render("cells.html.j2", story=story, result=result)
    content, headings = outline.finish(body, taken=FRAME)
    failed = any(e.failed for e in headings)
    status, title = evidence.status(result.status, manifest), story.title or result.title or result.step
    changed = given.of_step(manifest, result.folder)
    said = rehearsed(verdict(result, failed)) if rehearsal else verdict(result, failed)
    if manifest and result.status in commands.RED:
        said = replace(said, commands=_commands(result, manifest, folder.parent))
    return page.render(
        "step.html.j2",
        result=result,
        story=story,
        tab=format.tab(status, rehearsal, f"{result.folder}, run {result.run_id}"),
        title=f"{format.REHEARSAL}: {title}" if rehearsal else title,
        status=status,
        verdict=said,
        jump=failed,
        warnings=evidence.warnings(manifest),
        facts=_facts(result, changed),
        parameters=_parameters(result, story, changed),
        body=content,
        contents=_contents(result, headings),
        provenance=_provenance(result, story, manifest),
        files=[
            n
            for n in ("executed.ipynb", "result.json", "handoff.json", "job.log", "progress.log")
            if (folder / n).exists()
        ],
    )


def verdict(result: StepRun, jump: bool = False) -> Verdict:
    """Return the verdict on one step run in words."""
    held = f"{result.held} of {format.count(result.applied, 'check')} held"
    idle = len(result.checks) - result.applied
    rest = f" {format.count(idle, 'check')} did not apply here and did not run." if idle else ""
    if result.status == "passed":
        return Verdict(f"Passed: {held}", f"Every code cell ran, and every check that applies held.{rest}")
    if result.status == "not_needed":
        return Verdict("Not needed", f"{format.sentence(result.not_needed or '')} {format.sentence(held)}{rest}")
    if result.status == "not_run":
        return Verdict("Not run", format.sentence(format.short(result.problem or "This step did not run", 400)))
    return Verdict(*_red(result))


def _commands(result: StepRun, manifest: Mapping[str, Any], run: Path) -> tuple[Command, ...]:
    further = commands.go_on(manifest, result)
    # The pages of a release and of its rollback are where the reader looks for the way back.
    release_step = result.step in (release.STEP, release.UNDO)
    undone = commands.broken_off(evidence.Run(run, manifest)) if release_step else []
    return (*([further] if further else []), *undone)


def rehearsed(found: Verdict) -> Verdict:
    """Return a verdict that nobody can take for one on Azure."""
    return Verdict(f"{format.REHEARSAL}: {found.headline}", f"{format.REHEARSED} {found.reason}")


def _red(result: StepRun) -> tuple[str, str]:
    left = result.cells - result.cells_run - 1
    after = f" {format.count(left, 'code cell')} after it did not run." if left > 0 else ""
    word = format.STATUS[result.status]
    if check := result.failed_check:
        return (
            f"{word}: {format.short(check.name, 120)}",
            f"Expected {format.wish(check.wanted)}, found {check.found}.{after}",
        )
    if result.failure:
        message = format.sentence(format.short(result.failure.message, 400))
        return f"{word}: {format.short(result.failure.kind, 80)}", f"{message}{after}"
    return word, f"{result.cells_run} of {format.count(result.cells, 'code cell')} ran."


def _facts(result: StepRun, changed: Mapping[str, Given]) -> list[tuple[str, str]]:
    facts = [
        ("Took", format.took(result.seconds) or "–"),
        ("Started", format.when(result.started)),
        ("Checks held", f"{result.held} of {result.applied}"),
        ("Code cells run", f"{result.cells_run} of {result.cells}"),
    ]
    if changed:
        facts.append(("Values changed", f"{len(changed)} of {len(result.parameters)}"))
    return facts


def _parameters(result: StepRun, story: Story, changed: Mapping[str, Given]) -> list[Value]:
    values = []
    for name in dict.fromkeys([*story.parameters, *result.parameters]):
        declared = story.parameters.get(name)
        default = declared.default if declared else ""
        used = notebook.value(result.parameters[name]) if name in result.parameters else default
        other = default if declared and default != used else ""
        values.append(Value(name, used, other, declared.meaning if declared else "", changed.get(name)))
    # The changed ones first: they are what a reviewer has to know.
    return sorted(values, key=lambda v: v.given is None)


def _contents(result: StepRun, headings: Sequence[Entry]) -> list[Entry]:
    first = [Entry(name, FRAME[name]) for name in ("checks", "parameters")]
    return [*first, *headings, Entry("provenance", FRAME["provenance"])]


def _provenance(result: StepRun, story: Story, manifest: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    rows = [
        ("Run", result.run_id),
        ("Step", result.folder),
        ("Target", evidence.target(manifest) if manifest else result.target),
        ("Commit", _commit(result, manifest)),
        ("Ran with", ", ".join(f"{name} {version}" for name, version in story.versions.items() if version)),
    ]
    rows += [(f"sha256 of {name}", digest) for name, digest in result.inputs.items()]
    return [(name, text) for name, text in rows if text]


def _commit(result: StepRun, manifest: Mapping[str, Any] | None) -> str:
    if result.commit:
        return Commit(result.commit, bool(result.dirty), ()).said
    return Commit(manifest["commit"], bool(manifest["dirty"]), ()).said if manifest else "not recorded"


def _manifest(folder: Path) -> Mapping[str, Any] | None:
    try:
        return evidence.read(folder / "manifest.json", "manifest")
    except RunError:
        return None
