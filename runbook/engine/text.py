"""Text for the terminal: plans, endpoints, status and what a run says at its end."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from runbook import hint, paths
from runbook.errors import NotFound

if TYPE_CHECKING:
    from runbook.engine.manifest import Manifest
    from runbook.engine.step import Step
    from runbook.platform.base import Endpoint, Platform, Stage


def plan(steps: Sequence[Step], parameters: Mapping[Step, Mapping[str, Any]]) -> str:
    """Return the steps in order, each with the values that would be injected."""
    lines = []
    for number, step in enumerate(steps, 1):
        lines.append(f"{number:>2}  {step.label}")
        lines += [f"      {k}: {v!r}" for k, v in parameters[step].items()]
    return "\n".join(lines)


def bodies(sent: Mapping[str, Any] | None) -> str:
    """Return the bodies that would be ``sent`` as YAML; None for a platform that sends nothing."""
    if sent is not None:
        return yaml.safe_dump(dict(sent), sort_keys=False)
    return (
        f"The local platform sends nothing: it obeys the files of {paths.DEPLOYMENT} and {paths.ENVIRONMENT_SETUP} "
        f"as they are. See the bodies for Azure with: {hint.line('plan', '--target', 'azure', '--bodies')}"
    )


def endpoint_fields(found: Platform, stage: Stage) -> dict[str, Any]:
    """Return what `runbook endpoint --json` prints; raises NotFound when the stage has no endpoint."""
    this = _endpoint(found, stage)
    keys = found.keys(stage)
    return {
        "scoring_uri": this.scoring_uri,
        "key": keys.primary,
        "secondary_key": keys.secondary,
        "traffic": dict(this.traffic),
        "replicas": {d.name: d.replicas for d in this.deployments},
        "states": {d.name: d.state for d in this.deployments},
        "model_version": this.live.model_version if this.live else None,
    }


def endpoint(found: Platform, stage: Stage) -> str:
    """Return one endpoint in words, without its key."""
    this = _endpoint(found, stage)
    lines = [f"{this.name} ({this.profile})", f"  uri      {this.scoring_uri}"]
    for d in this.deployments:
        replicas = "not measured" if d.replicas is None else d.replicas
        share = this.traffic.get(d.name, 0)
        lines.append(
            f"  {d.name:<8} {share:>3} % of traffic, model {d.model_name}:{d.model_version}, {d.state}, replicas: {replicas}"
        )
    return "\n".join([*lines, f"  key      {hint.RUNBOOK} endpoint {stage} --key"])


def status(running: Sequence[object]) -> str:
    """Return what the local platform runs in words, a line for each of ``running``."""
    rows = [str(row) for row in running]
    if not rows:
        return f"Nothing runs. State: {paths.home()}"
    return "\n".join([*rows, f"State: {paths.home()}", "Stop everything with: make down"])


def closing(this: Manifest, endpoints: bool) -> str:
    """Return what a green run says at its end: verdict, report, how to try the endpoints, what still runs."""
    lines = ["", f"{this.run_id}: {this.status} in {_minutes(this.seconds)}"]
    if this.rehearsal:
        # The stand-in ends with the command, so there is no endpoint left to try.
        endpoints = False
        lines[-1] = (
            f"REHEARSAL {this.run_id}: ran to its end in {_minutes(this.seconds)}. Nothing of it happened on Azure."
        )
    decision = this.folder / "metadata" / "decision.json"
    if decision.exists():
        document = json.loads(decision.read_text(encoding="utf-8"))
        lines.append(f"Decision: {document['decision']}. {document['reason']}")
    changed = {value["name"] for row in this.steps for value in this.given.get(row["folder"], [])}
    if changed:
        lines.append(f"Values that differ from the plain command's: {', '.join(sorted(changed))}")
    lines.append(f"Report: {this.folder / 'index.html'}")
    if endpoints and this.endpoints:
        for row in this.endpoints:
            lines += [
                "",
                f"{row['name']} serves model {row['model_version']}. Try it:",
                _curl(row["stage"], this.target, row["scoring_uri"]),
            ]
        if this.target == "local":
            lines += ["", "The endpoints keep running. Stop everything with: make down"]
    return "\n".join(lines)


def _curl(stage: str, target: str, uri: str) -> str:
    from runbook.modelling import request

    command = Path(paths.ROOT, ".venv", "bin", "runbook")
    # A path may hold spaces and quotes. Inside $( ) quoting starts anew, also between double quotes.
    name = shlex.quote(str(command) if command.exists() else "runbook")
    where = "" if target == "local" else f" --target {target}"
    return (
        f'  curl -s {shlex.quote(uri)} -H "Authorization: Bearer $({name} endpoint {stage}{where} --key)" \\\n'
        f"    -H 'Content-Type: application/json' -d '{json.dumps(request.EXAMPLE)}'"
    )


def _endpoint(found: Platform, stage: Stage) -> Endpoint:
    this = found.find_endpoint(stage)
    if this is None:
        raise NotFound(
            f"There is no {stage} endpoint on the {found.target} target. Make it with: {hint.line('run', 'all')}"
        )
    return this


def _minutes(seconds: float | None) -> str:
    whole = int(seconds or 0)
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
