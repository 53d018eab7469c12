"""The verdict on a run in words: the decision, where it stopped, what serves now, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runbook.report import commands, format, given
from runbook.report.evidence import Run
from runbook.report.step_page import Verdict, rehearsed, verdict

PLANS = {
    "all": "From data to production",
    "ci": "CI: train, evaluate and register the model",
    "cd": "CD: deploy, test and release the model",
}

# A run in one of these states has not ended well, so its page says how to go on.
UNENDED = (*commands.RED, "running")


def title(this: Run) -> str:
    """Return the title of a run's page."""
    plan = str(this.manifest["plan"])
    said = PLANS.get(plan, f"Step {plan}")
    return f"{format.REHEARSAL}: {said}" if this.rehearsal else said


def of(this: Run) -> Verdict:
    """Return the verdict on a run: a sentence, and the reason with expected and found and what serves now."""
    reason = [_why(this), serves(this), given.sentence(given.read(this))]
    reason += commands.taken_back(this)
    if this.outcome in ("failed", "cancelled") and _untouched(this):
        reason.append("No step of prod ran.")
    further = [commands.go_on(this.manifest, this.stopped_at)] if this.outcome in UNENDED else []
    next_commands = [*further, *commands.broken_off(this)]
    found = Verdict(_headline(this), " ".join(part for part in reason if part), tuple(filter(None, next_commands)))
    return rehearsed(found) if this.rehearsal else found


def serves(this: Run) -> str:
    """Return which model version serves which stage, as one sentence; a run that has not ended has not looked yet."""
    if this.outcome == "running":
        return "When nothing runs any more, it was killed."
    if problem := unknown(this):
        return problem
    rows, where = this.manifest["endpoints"], "in the stand-in " if this.rehearsal else ""
    if len(rows) > 1 and len({row["model_version"] for row in rows}) == 1:
        return format.sentence(f"{where}{format.listing([row['stage'] for row in rows])} serve {_served(rows[0])}")
    parts = [f"{row['stage']} serves {_served(row)}" for row in rows]
    return format.sentence(where + format.listing(parts)) if parts else "No endpoint stands."


def unknown(this: Run) -> str:
    """Return why it is not known what serves after the run, as one sentence; empty when the platform has answered."""
    problem = this.manifest.get("endpoints_problem")
    return format.sentence(f"What serves now is not known: {format.short(str(problem), 200)}") if problem else ""


def _served(row: Mapping[str, Any]) -> str:
    return f"model {row['model_version']}" if row["model_version"] else "nobody"


def in_the_clear(this: Run) -> str:
    """Return a warning when prod in the cloud is spoken to without TLS, else nothing."""
    # Dev is a managed endpoint, which always has TLS; this machine's endpoints are reached over loopback alone.
    prod = next((str(row["scoring_uri"]) for row in this.manifest["endpoints"] if row["stage"] == "prod"), "")
    if this.manifest["target"] == "local" or not prod.startswith("http://"):
        return ""
    return "Requests and keys travel unencrypted on whatever network the cluster is on (ssl_enabled: false)."


def _headline(this: Run) -> str:
    status, stopped = this.outcome, this.stopped_at
    if status == "running":
        done = sum(s.status != "not_run" for s in this.steps)
        return f"Running: {done} of {format.count(len(this.steps), 'step')} done"
    if status == "passed":
        return _green(this)
    if stopped is None:
        return f"{format.STATUS[status]}: the runner stopped between two steps"
    if _refused(this):
        return "Do not release: the candidate failed its evaluation"
    check = stopped.failed_check
    why = check.name if check else stopped.failure.kind if stopped.failure else ""
    return f"{format.STATUS[status]} at {stopped.name}" + (f": {format.short(why, 120)}" if why else "")


def _green(this: Run) -> str:
    decision, version = this.decision, (this.model or {}).get("version")
    live = {row["stage"]: row["model_version"] for row in this.manifest["endpoints"]}
    ran = {(s.step, s.stage) for s in this.steps if s.green}
    released = [s.stage for s in this.steps if s.step == "90_release" and s.status == "passed"]
    if decision and decision["decision"] == "hold" and released:
        return f"Released on {format.listing([str(stage) for stage in released])}: model {version} stays, its deployment is new"
    if decision and decision["decision"] == "hold":
        return f"Hold: model {version} stays, nothing had to be released"
    if ("90_release", "prod") in ran and version and live.get("prod") == version:
        return f"Promoted: model {version} serves prod"
    if decision and decision["decision"] == "promote" and ("40_register", None) in ran:
        return f"Promote: model {version} is registered and ready for release"
    return f"Passed: {format.count(sum(s.green for s in this.steps), 'step')} done"


def _why(this: Run) -> str:
    stopped, decision = this.stopped_at, this.decision
    decided = format.sentence(format.short(decision["reason"], 400)) if decision else ""
    if stopped is None or this.outcome == "running" or _refused(this):
        return decided
    return verdict(stopped).reason


def _refused(this: Run) -> bool:
    """Whether the run stopped because the evaluation said fail."""
    at, decision = this.stopped_at, this.decision
    return at is not None and at.step == "30_evaluate" and decision is not None and decision["decision"] == "fail"


def _untouched(this: Run) -> bool:
    staged = [s for s in this.steps if s.stage == "prod"]
    return bool(staged) and all(s.status == "not_run" and not s.problem for s in staged)
