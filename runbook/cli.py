"""The commands; parsing and printing only."""

from __future__ import annotations

import errno
import json
import logging
import os
import shlex
import signal
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

import click

from runbook import platform
from runbook.engine import foreign_text
from runbook.errors import RunbookError

TARGET = click.option("--target", type=click.Choice(platform.targets()), default="local", show_default=True)
PARAMS_FILE = click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=Path)
FILES = click.option("-f", "files", multiple=True, type=PARAMS_FILE, help="A params file over the stage's.")
OVERRIDES = click.option("-p", "overrides", multiple=True, metavar="KEY=VALUE", help="One value over all files.")
STAGES = click.Choice(["dev", "prod"])
PLANS = click.Choice(["all", "ci", "cd"])


NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)


class Commands(click.Group):
    """Shows our errors as one message without a traceback, and turns them into the exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; exit 1 when something failed, 2 when it was used wrongly."""
        try:
            return super().invoke(ctx)
        except RunbookError as error:
            if ctx.params.get("debug"):
                raise
            from runbook.engine.masking import Mask

            _say(f"Error: {Mask()(str(error))}", err=True)
            sys.exit(error.exit_code)
        except OSError as error:
            if ctx.params.get("debug") or error.errno not in (*NO_ROOM, *NO_RIGHT):
                raise
            from runbook import hint, paths

            if error.errno in NO_RIGHT:
                _say(
                    f"Error: {error.filename or 'a file'}: {error.strerror}. Let this user write there, or name other "
                    f"folders: RUNBOOK_REPORTS is {paths.reports()}, RUNBOOK_HOME is {paths.home()}.",
                    err=True,
                )
                sys.exit(1)
            # A run never goes on without its evidence, and this is the one error that keeps it from leaving any.
            _say(
                f"Error: {error.strerror}: what a run must leave in {paths.reports()} and {paths.home()} could not "
                "be written, so it is not done. Make room on the disk, then run the command again, or go on with: "
                f"{hint.line('run', '--resume', 'RUN_ID')}",
                err=True,
            )
            sys.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Take a model from data to a tested, autoscaled endpoint, by notebooks that leave reports."""
    log = logging.StreamHandler()
    log.setFormatter(foreign_text.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.DEBUG if debug else logging.ERROR, handlers=[log])
    # An interrupt leaves unfinished tasks of the kernel's client behind. asyncio would print a traceback for each.
    logging.getLogger("asyncio").setLevel(logging.DEBUG if debug else logging.CRITICAL)
    sys.excepthook = _uncaught
    # Nothing leaves this machine unasked; the kernels inherit it.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # A pipeline agent that is cancelled sends SIGTERM, a terminal that is closed SIGHUP: both must leave the same evidence
    # as Ctrl-C. Under nohup SIGHUP is ignored, and stays so.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)


@main.command()
@click.argument("plan_name", metavar="[all|ci|cd]", type=PLANS, default="all")
@TARGET
@click.option("--from", "source", metavar="DIR|RUN_ID", help="cd: CI's result; default the latest green ci run here.")
@click.option("--resume", metavar="RUN_ID", help="Go on with a run: finished steps whose inputs are unchanged stay.")
@click.option("--run-id", metavar="RUN_ID", help="Name of the run; default the build id, else local-<time>.")
@FILES
@OVERRIDES
def run(
    plan_name: str,
    target: str,
    source: str | None,
    resume: str | None,
    run_id: str | None,
    files: tuple[Path, ...],
    overrides: tuple[str, ...],
) -> None:
    """Run the whole runbook, or its CI or CD half.

    .venv/bin/runbook run all -p cv_repeats=2
    """
    from runbook import hint
    from runbook.engine import ci_artifact, manifest, plan

    if resume:
        earlier = manifest.load(resume)
        if earlier.plan not in plan.PLANS:
            raise click.UsageError(f"{resume} ran single steps; run the step again with: {hint.step('NAME', resume)}")
        # What the run took from CI lies in its own folder since it began; where it came from may be gone.
        plan_name, target, run_id = earlier.plan, earlier.target, resume
        files, overrides = earlier.values(files, overrides)
    if plan_name == "cd" and not resume:
        source = source or ci_artifact.latest_ci(target)
    _run(
        plan.Request(
            plan_name,
            plan.PLANS[plan_name],
            target,
            run_id or plan.new_run_id(),
            _command(),
            source,
            files,
            overrides,
            bool(resume),
        ),
        closing=plan_name != "ci",
    )


@main.command()
@click.argument("name")
@click.option("--stage", type=STAGES)
@TARGET
@click.option(
    "--run-id", metavar="RUN_ID", help="The run this step belongs to; its handoffs are read and written there."
)
@click.option("--from", "source", metavar="DIR|RUN_ID", help="CI's result, for a step of CD in a new run.")
@click.option(
    "--here",
    is_flag=True,
    help="Run the notebook in this process even where the platform would send it to the compute.",
)
@FILES
@OVERRIDES
def step(
    name: str,
    stage: str | None,
    target: str,
    run_id: str | None,
    source: str | None,
    here: bool,
    files: tuple[Path, ...],
    overrides: tuple[str, ...],
) -> None:
    """Run one step.

    .venv/bin/runbook step 95_rollback --stage prod
    """
    from runbook import steps
    from runbook.engine import plan

    this = plan.single(name, stage)
    # A step of no plan makes a run of its own name.
    half = steps.row(name).plan or name
    _run(
        plan.Request(
            half, [this], target, run_id or plan.new_run_id(), _command(), source, files, overrides, here=here
        ),
        closing=False,
    )


@main.command("plan")
@click.argument("plan_name", metavar="[all|ci|cd]", type=PLANS, default="all")
@TARGET
@FILES
@OVERRIDES
@click.option("--bodies", is_flag=True, help="Also show what would be sent.")
def plan_command(
    plan_name: str, target: str, files: tuple[Path, ...], overrides: tuple[str, ...], bodies: bool
) -> None:
    """Show what would run, with resolved parameters; changes nothing."""
    from runbook.engine import plan, text

    request = plan.Request(plan_name, plan.PLANS[plan_name], target, "RUN_ID", _command(), None, files, overrides)
    _say(text.plan(request.steps, plan.resolve(request)))
    if bodies:
        sent = None
        if target == "azure":
            from runbook.platform.azure import bodies as azure_bodies

            sent = azure_bodies()
        _say(text.bodies(sent))


@main.command()
def check() -> None:
    """Check notebooks, params, deployment files, pipelines and the four places of the model."""
    from runbook import lint, paths

    problems = lint.problems()
    for problem in problems:
        _say(problem, err=True)
    if problems:
        _say(f"{len(problems)} problem{'s' * (len(problems) != 1)}.", err=True)
        sys.exit(1)
    for thought in lint.thoughts():
        _say(f"To decide: {thought}")
    notebooks = len(list(paths.NOTEBOOKS.glob("*.ipynb")))
    _say(f"{notebooks} notebooks, params, deployment files, pipelines and the four places keep their rules.")


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--data", required=True, metavar="FILE", type=PARAMS_FILE, help="A CSV file in UTF-8 with a header.")
@click.option("--label", required=True, metavar="COLUMN", help="The column to predict: yes or no, 1 or 0.")
@click.option("--group", metavar="COLUMN", help="Rows with the same value here stay on one side of every split.")
@click.option("--positive", metavar="VALUE", help="The label's value that means 1, where its words do not say it.")
def new(folder: Path, data: Path, label: str, group: str | None, positive: str | None) -> None:
    """Make a project for your own data: a copy of this one with the four places written for a CSV file.

    runbook new ../churn --data churn.csv --label churned --group customer
    """
    from runbook.new_project import summary, writer
    from runbook.new_project.profile import profile

    described = profile(data, label, group, positive)
    _say(summary.text(writer.create(folder, described), described))


@main.command()
@click.argument("stage", type=STAGES)
@TARGET
@click.option("--json", "as_json", is_flag=True, help="Everything, with both keys.")
@click.option("--key", is_flag=True, help="Only the primary key.")
def endpoint(stage: Any, target: str, as_json: bool, key: bool) -> None:
    """Show what serves on a stage; the key only when asked for.

    curl -H "Authorization: Bearer $(.venv/bin/runbook endpoint prod --key)" ...
    """
    from runbook.engine import text

    found = platform.open(target)
    if key:
        click.echo(found.keys(stage).primary)
    elif as_json:
        click.echo(json.dumps(text.endpoint_fields(found, stage), indent=2))
    else:
        _say(text.endpoint(found, stage))


@main.command()
def status() -> None:
    """Show what the local platform runs."""
    from runbook.engine import text
    from runbook.platform.local import LocalPlatform

    _say(text.status(LocalPlatform().status()))


@main.command()
def down() -> None:
    """Stop everything the local platform runs; its state stays, and the next run revives it."""
    from runbook.platform.local import LocalPlatform

    stopped = LocalPlatform().down()
    for line in stopped:
        _say(f"stopped {line}")
    _say("Nothing of the local platform runs any more." if stopped else "Nothing was running.")


@main.command()
@click.argument("run_id")
def report(run_id: str) -> None:
    """Render a run's pages again from its evidence."""
    from runbook import paths
    from runbook import report as pages

    folder = paths.run_folder(run_id)
    for result in sorted(folder.glob("*/result.json")):
        pages.step(result.parent, _say)
    _say(str(pages.run(folder, _say)))
    pages.runs(paths.reports(), _say)


@main.command()
@click.argument("run", metavar="RUN_ID|PATH")
def verify(run: str) -> None:
    """Compare a run's files with the digests taken when it ended.

    A PATH is a run's folder that was copied or downloaded, or the artifact that CI hands to CD.
    """
    from runbook import paths
    from runbook.engine import ci_artifact, manifest, seal

    folder = manifest.place(run)
    if not (folder / seal.MANIFEST).exists() and (folder / "metadata").is_dir():
        ci_artifact.read(folder)
        _say(f"The three files of {folder / 'metadata'} agree. An artifact has no digests: only a run's folder has.")
        return
    problems = manifest.verify(run)
    for problem in problems:
        _say(problem, err=True)
    if problems:
        sys.exit(1)
    this = manifest.read(folder)
    _say(f"{len(this.files)} files of {this.run_id} are as they were when it ended.")
    if folder != paths.reports() / this.run_id:
        _say(f"This is a copy of that run: {folder}")
    _say(f"Without a digest, because they are rendered from those files: {', '.join(seal.VIEWS)}")


def _say(said: str, err: bool = False) -> None:
    click.echo(foreign_text.shown(said), err=err)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of an error that is not ours as text from elsewhere, without secrets."""
    from runbook.engine.masking import Mask

    _say(Mask()("".join(traceback.format_exception(kind, error, trace)).rstrip()), err=True)


def _run(request: Any, closing: bool) -> None:
    from runbook.engine import plan, text
    from runbook.engine.progress import Terminal, outlast_reader

    outlast_reader()
    with Terminal() as terminal:
        this = plan.run(request, platform.open(request.target), terminal)
    _say(text.closing(this, endpoints=closing))


def _command() -> str:
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


if __name__ == "__main__":
    main()
