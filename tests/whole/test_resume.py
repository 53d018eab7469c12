"""One run, killed again and again, ends as if nobody had touched it; a point to kill it at is one line of ``POINTS``."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import pytest
from built import checkout
from place import COMMAND, SHORT, Place
from test_whole import CUMINGS, champion, results, versions

from runbook import paths
from runbook.engine import plan

pytestmark = [pytest.mark.whole, pytest.mark.slow, pytest.mark.timeout(900)]

FIRST, SECOND = "first", "second"
PATIENCE_S = 400.0


@dataclass(frozen=True)
class Point:
    """Who is killed, when: after this cell of this step has come back, or at its start (``start``) or end (``end``)."""

    victim: Literal["runner", "kernel", "serving"]
    step: str
    cell: str
    later_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.victim}-{self.step}-{self.cell}" + (f"-{self.later_s:g}s" if self.later_s else "")


# In the order of the run, because each test goes on where the one before was stopped. `slot` is the cell before a deployment.
POINTS = [
    Point("runner", "10_create_compute", "end"),
    Point("kernel", "20_train", "binding", 1.0),
    Point("kernel", "30_evaluate", "binding"),
    Point("kernel", "40_register", "tags"),
    Point("runner", "40_register", "register-model"),
    Point("runner", "49_delete_compute", "end"),
    Point("runner", "60_deploy-dev", "create-endpoint"),
    Point("runner", "90_release-dev", "end"),
    Point("runner", "50_create_cluster-prod", "create-cluster"),
    Point("runner", "60_deploy-prod", "slot", 0.3),
    Point("kernel", "60_deploy-prod", "slot", 0.3),
    Point("runner", "60_deploy-prod", "handoff"),
    Point("serving", "80_stress_test-prod", "phases", 3.0),
    Point("runner", "90_release-prod", "move-traffic"),
    Point("kernel", "90_release-prod", "promote"),
    Point("serving", "90_release-prod", "move-traffic"),
]
# The second run releases changed scoring code over the first; a second victim is struck while the first is cleared up after.
SECOND_POINTS = [
    (Point("kernel", "60_deploy-prod", "slot", 0.3),),
    (Point("runner", "90_release-prod", "move-traffic"),),
    (Point("kernel", "90_release-prod", "move-traffic"),),
    (Point("kernel", "90_release-prod", "promote"), Point("runner", "95_rollback-prod", "move-traffic")),
    (Point("kernel", "90_release-prod", "promote"), Point("kernel", "95_rollback-prod", "wanted")),
]


@dataclass
class Drill:
    """The two runs of this file, the home they work in, and the checkout of the second."""

    place: Place
    changed: Path

    def log(self, run: str) -> Path:
        return self.place.reports / run / "events.jsonl"

    def words(self, run: str) -> list[str]:
        if (self.place.reports / run / "manifest.json").exists():
            return ["run", "--resume", run]
        return ["run", *(["all"] if run == FIRST else ["cd", "--from", FIRST]), *SHORT, "--run-id", run]

    def start(self, run: str, words: list[str] | None = None) -> subprocess.Popen[str]:
        environment = {k: v for k, v in os.environ.items() if k not in ("RUNBOOK_KERNEL_LOCK", "BUILD_BUILDID")}
        environment |= {"RUNBOOK_HOME": str(self.place.home), "RUNBOOK_REPORTS": str(self.place.reports)}
        environment |= self.surroundings(run)
        return subprocess.Popen(
            [str(COMMAND), *(words or self.words(run))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )

    def surroundings(self, run: str) -> dict[str, str]:
        return {"PYTHONPATH": str(self.changed)} if run == SECOND else {}

    def finish(self, run: str) -> subprocess.CompletedProcess[str]:
        place = Place(self.place.home, self.place.reports, environment=self.surroundings(run))
        return place.run(*self.words(run))

    def wait_for(self, point: Point, run: str, runner: subprocess.Popen[str], since: int) -> None:
        """Wait until the log says, behind its first ``since`` bytes, that the run has come to ``point``."""
        wanted = {"start": ("step_started", None), "end": ("step_ended", None)}.get(point.cell, (None, point.cell))
        deadline = time.monotonic() + PATIENCE_S
        while not any(_is(event, point.step, *wanted) for event in _events(self.log(run), since)):
            assert runner.poll() is None, f"the run ended before {point}:\n{_output(runner)}"
            assert time.monotonic() < deadline, f"the run did not come to {point}"
            time.sleep(0.01)
        time.sleep(point.later_s)

    def kill(self, victim: str, runner: subprocess.Popen[str]) -> str:
        """Kill the runner, its kernel, or controller and router of prod, with SIGKILL; says whom and when."""
        if victim == "runner":
            pids = [runner.pid]
        elif victim == "kernel":
            pids = [
                c.pid for c in psutil.Process(runner.pid).children() if "ipykernel_launcher" in " ".join(c.cmdline())
            ]
        else:
            pids = [serving[part]["pid"] for serving in [self.state("prod")] for part in ("controller", "router")]
        assert pids, f"no {victim} to kill"
        killed = [(pid, psutil.Process(pid).status(), psutil.Process(pid).cmdline()) for pid in pids]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return f"killed at {dt.datetime.now(dt.UTC).isoformat()}: {killed}"

    def state(self, stage: str) -> dict[str, Any]:
        found = [json.loads(p.read_text()) for p in self.place.home.glob("endpoints/*/state.json")]
        return next(document for document in found if document["stage"] == stage)

    def processes(self) -> list[str]:
        """Return the living processes whose command line or environment names this home or its sockets."""
        record = self.place.home / "runtime.json"
        names = [str(self.place.home)] + ([json.loads(record.read_text())["runtime"]] if record.exists() else [])
        return [f"{p.pid} {text}" for p in psutil.process_iter() if any(n in (text := _text(p)) for n in names)]


def _text(found: psutil.Process) -> str:
    try:
        if found.pid == os.getpid() or found.status() == psutil.STATUS_ZOMBIE:
            return ""
        return " ".join([*found.cmdline(), *found.environ().values()])
    except psutil.Error:
        return ""


def _events(log: Path, since: int) -> list[dict[str, Any]]:
    if not log.exists():
        return []
    # What follows the last line's end is still being written.
    return [json.loads(line) for line in log.read_bytes()[since:].split(b"\n")[:-1]]


def _is(event: dict[str, Any], step: str, kind: str | None, cell: str | None) -> bool:
    return event["step"] == step and (event["kind"] == kind if kind else event.get("cell") == cell)


def _output(runner: subprocess.Popen[str]) -> str:
    return runner.communicate(timeout=PATIENCE_S)[0]


@pytest.fixture(scope="module")
def drill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    folder = tmp_path_factory.mktemp("drill")
    changed = checkout(paths.ROOT, folder / "changed")
    score = changed / "deployment" / "score.py"
    score.write_text(score.read_text() + "\n# Changed by a test.\n")
    this = Drill(Place(folder / "home", folder / "reports"), changed)
    try:
        yield this
    finally:
        this.place.run("down")


def strike(drill: Drill, run: str, points: tuple[Point, ...]) -> None:
    """Start or resume a run, kill at each point in turn, and look at what it says and leaves."""
    log = drill.log(run)
    since = log.stat().st_size if log.exists() else 0
    runner = drill.start(run)
    deaths: list[str] = []
    try:
        for point in points:
            drill.wait_for(point, run, runner, since)
            deaths.append(drill.kill(point.victim, runner))
        said = _output(runner)
    finally:
        runner.kill()
    victims = {point.victim for point in points}
    if "runner" in victims:
        assert runner.returncode == -signal.SIGKILL
    elif runner.returncode:
        assert runner.returncode == 1 and "Traceback" not in said, said
        assert f"{points[0].step}: failed" in said and f"runbook run --resume {run}" in said, said
    assert victims == {"serving"} or runner.returncode, f"unnoticed: {deaths}\n{_events(log, since)}\n{said}"


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_a_killed_run_keeps_what_is_done_and_says_how_to_go_on(drill: Drill, point: Point) -> None:
    strike(drill, FIRST, (point,))
    if (drill.place.home / "mlflow.db").exists():
        assert versions(drill.place) in ([], ["1"])
    for path in drill.place.home.glob("endpoints/*/state.json"):
        found = json.loads(path.read_text())
        assert set(found["deployments"]) <= {"blue"} and set(found["traffic"].values()) <= {0, 100}, found


def test_the_run_that_was_killed_is_resumed_to_a_green_end(drill: Drill) -> None:
    done = drill.finish(FIRST)
    assert f"{FIRST}: passed" in done.stdout
    statuses = {label: r["status"] for label, r in results(drill.place.reports / FIRST).items()}
    # The compute target was deleted when a step behind the training failed, and nothing after that needed it again.
    wanted = {s.label: "not_needed" if s.name == "49_delete_compute" else "passed" for s in plan.PLANS["all"]}
    assert {label: statuses[label] for label in wanted} == wanted
    for s in plan.PLANS["all"]:
        assert (drill.place.reports / FIRST / s.label / "report.html").exists(), s.label
    assert "as they were when it ended" in drill.place.run("verify", FIRST).stdout


def test_one_version_is_champion_and_has_all_traffic_of_the_one_deployment(drill: Drill) -> None:
    assert versions(drill.place) == ["1"] and champion(drill.place) == "1"
    for stage in ("dev", "prod"):
        found = drill.place.endpoint(stage)
        assert (
            found["traffic"] == {"blue": 100} and set(found["replicas"]) == {"blue"} and found["model_version"] == "1"
        )
        assert drill.place.post(stage, CUMINGS)[1]["model_version"] == "1"
    tags = drill.state("prod")["tags"]
    assert (tags["released"], tags["previous"], tags["released_by"]) == ("blue", "", FIRST)
    release = json.loads((drill.place.reports / FIRST / "90_release-prod" / "handoff.json").read_text())["values"]
    assert release["model_version"] == "1"


def test_resuming_the_green_run_runs_no_step_again(drill: Drill) -> None:
    since = drill.log(FIRST).stat().st_size
    said = drill.finish(FIRST).stdout
    again = {e["step"] for e in _events(drill.log(FIRST), since) if e["kind"] == "step_started"}
    assert again == set(), said


@pytest.mark.parametrize("points", SECOND_POINTS, ids=lambda points: "-then-".join(map(str, points)))
def test_a_killed_second_release_leaves_somebody_in_service(drill: Drill, points: tuple[Point, ...]) -> None:
    strike(drill, SECOND, points)
    assert drill.place.post("prod", CUMINGS)[1]["model_version"] == "1"
    assert sorted(share for share in drill.place.endpoint("prod")["traffic"].values() if share) == [100]
    assert versions(drill.place) == ["1"] and champion(drill.place) == "1"


def test_the_second_release_ends_with_the_first_one_standing_behind_it(drill: Drill) -> None:
    assert f"{SECOND}: passed" in drill.finish(SECOND).stdout
    for stage in ("dev", "prod"):
        found = drill.place.endpoint(stage)
        assert found["traffic"] == {"green": 100} and set(found["replicas"]) == {"blue", "green"}
        tags = drill.state(stage)["tags"]
        assert (tags["released"], tags["previous"], tags["released_by"]) == ("green", "blue", SECOND)
    assert versions(drill.place) == ["1"] and champion(drill.place) == "1"


def test_a_killed_teardown_is_ended_by_running_it_again(drill: Drill) -> None:
    run = "teardown"
    words = ["step", "99_teardown", "--stage", "prod", "--run-id", run]
    runner = drill.start(run, words)
    try:
        drill.wait_for(Point("runner", "99_teardown-prod", "delete-endpoint"), run, runner, 0)
    finally:
        runner.kill()
        runner.communicate(timeout=60)
    drill.place.run(*words)
    assert "There is no prod endpoint" in drill.place.run("endpoint", "prod", wanted=1).stderr
    assert drill.place.post("dev", CUMINGS)[1]["model_version"] == "1"


def test_down_leaves_no_process_that_names_the_home(drill: Drill) -> None:
    assert drill.processes()
    drill.place.run("down")
    assert drill.processes() == []
