from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import recorded
from built import HOLDS, Builder

from runbook import git, handoff, paths, release, steps
from runbook.engine import ci_artifact as ci_result
from runbook.engine import inputs, manifest, plan
from runbook.engine.step import Result, Step
from runbook.errors import HandoffMissing, ParamsError, RunError, StepFailed, UsageError
from runbook.platform.base import Endpoint


class NoPlatform:
    """Knows no secret and has no endpoint: enough for notebooks that touch no platform."""

    target = "local"

    longest_wait = 60.0

    def secrets(self) -> list[str]:
        return []

    def find_endpoint(self, stage: str) -> None:
        return None

    def run_step(self, step: str, run_id: str, arguments: list[str], into: Path) -> None:
        return None


class Heard:
    """Keeps what a console is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def run_started(self, run_id: str, steps: int, page: Path) -> None:
        self.lines.append(f"report {page}")

    def step_started(self, number: int, this: Step) -> None:
        self.lines.append(f"start {this.label}")

    def cell_started(self, number: int, cells: int, cell: str) -> None:
        pass

    def step_ended(self, number: int, result: Result, page: Path) -> None:
        assert page.exists()
        self.lines.append(f"{result.status} {result.step}")

    def note(self, text: str) -> None:
        self.lines.append(text)


CI = [Step(name, None) for name in ("10_create_compute", "20_train", "30_evaluate", "49_delete_compute")]
HANDS_OVER = 'from runbook import handoff\nhandoff.save("20_train", run_id, answer=42)'


def request(steps: list[Step] = CI, **more: Any) -> plan.Request:
    return plan.Request("ci", steps, "local", more.pop("run_id", "r1"), "runbook run ci", **more)


def go(this: plan.Request) -> tuple[list[str], Exception | None]:
    heard = Heard()
    try:
        plan.run(this, NoPlatform(), heard)  # type: ignore[arg-type]
    except StepFailed as error:
        return heard.lines, error
    return heard.lines, None


@pytest.fixture
def params_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "params"
    folder.mkdir()
    for name in ("base", "local", "azure", "dev", "prod"):
        (folder / f"{name}.yml").write_text("")
    monkeypatch.setattr(paths, "PARAMS", folder)
    return folder


@pytest.fixture
def ci(build: Builder, params_files: Path) -> Builder:
    for name in ("10_create_compute", "30_evaluate", "49_delete_compute"):
        build(name, HOLDS)
    build("20_train", HANDS_OVER, HOLDS)
    return build


def statuses(run_id: str = "r1") -> dict[str, str]:
    return {row["folder"]: row["status"] for row in manifest.load(run_id).steps}


def test_a_key_that_only_a_kernel_has_read_is_masked_in_every_file_and_word_of_the_run(ci: Builder) -> None:
    key = "an-endpoint-key-0123456789"
    read = f"from runbook.platform.base import Keys\nkeys = Keys({key!r}, {key[::-1]!r})"
    ci("20_train", HOLDS, read, "print(keys.primary)", "raise ValueError('refused ' + keys.primary)")
    lines, error = go(request())
    assert error and "refused [masked]" in str(error)
    assert not [line for line in lines if key in line]
    files = [p for p in paths.run_folder("r1").rglob("*") if p.is_file()]
    assert [p for p in files if key in p.read_text(errors="replace")] == []
    assert len(files) > 10


def test_the_plans_are_the_fixed_ones() -> None:
    assert [s.label for s in plan.PLANS["all"]] == [
        "10_create_compute", "20_train", "30_evaluate", "40_register", "49_delete_compute",
        "60_deploy-dev", "70_functional_test-dev", "80_stress_test-dev", "90_release-dev",
        "50_create_cluster-prod", "60_deploy-prod", "70_functional_test-prod", "80_stress_test-prod", "90_release-prod",
    ]  # fmt: skip
    assert [*plan.PLANS["ci"], *plan.PLANS["cd"]] == plan.PLANS["all"]


def test_every_row_of_the_table_has_its_notebook() -> None:
    assert {p.stem for p in paths.NOTEBOOKS.glob("*.ipynb")} == {*steps.NAMES, "00_explore"}


def test_a_green_run_leaves_every_piece_of_evidence(ci: Builder) -> None:
    lines, error = go(request())
    assert error is None and not any("could not be drawn" in line for line in lines)
    folder = paths.run_folder("r1")
    assert lines[0] == f"report {folder / 'index.html'}"
    assert set(statuses().values()) == {"passed"}
    for name in (
        "index.html",
        "summary.md",
        "junit.xml",
        "manifest.json",
        "events.jsonl",
        "20_train/report.html",
        "20_train/executed.ipynb",
    ):
        assert (folder / name).stat().st_size > 0, name
    assert (paths.reports() / "index.html").exists()
    assert (paths.reports() / "latest.txt").read_text().strip() == "r1"
    assert manifest.verify("r1") == []


def test_a_failed_step_stops_the_plan_but_not_the_cleaning_up(ci: Builder) -> None:
    ci("20_train", HOLDS, "1 / 0")
    lines, error = go(request())
    assert error and "20_train: failed: division by zero" in str(error) and "--resume r1" in str(error)
    assert statuses() == {
        "10_create_compute": "passed", "20_train": "failed", "30_evaluate": "not_run", "49_delete_compute": "passed",
    }  # fmt: skip
    assert manifest.load("r1").status == "failed"
    assert (paths.run_folder("r1") / "index.html").exists()


def test_nothing_is_cleaned_up_that_was_never_started(ci: Builder) -> None:
    ci("20_train", HOLDS, "1 / 0")
    go(request([s for s in CI if s.name != "10_create_compute"]))
    assert statuses()["49_delete_compute"] == "not_run"


def test_a_failed_release_is_rolled_back(ci: Builder) -> None:
    ci("90_release", "1 / 0")
    ci("95_rollback", HOLDS)
    lines, error = go(request([Step("90_release", "prod")]))
    assert error and "90_release-prod" in str(error)
    assert statuses() == {"90_release-prod": "failed", "95_rollback-prod": "passed"}


INTERRUPTED = "import os, signal, time; os.kill(os.getppid(), signal.SIGINT); time.sleep(60)"


def test_an_interrupted_release_is_taken_back_and_the_run_stays_cancelled(ci: Builder) -> None:
    ci("90_release", INTERRUPTED)
    ci("95_rollback", HOLDS)
    lines, error = go(request([Step("90_release", "prod"), Step("95_rollback", "dev")]))
    assert statuses() == {
        "90_release-prod": "cancelled", "95_rollback-dev": "not_run", "95_rollback-prod": "passed",
    }  # fmt: skip
    assert manifest.load("r1").status == "cancelled"
    assert "90_release-prod was interrupted: taking it back, which ends within 240 s" in lines
    assert error and "Take it back with" not in str(error)


def test_a_release_that_could_not_be_taken_back_says_the_command_that_does_it(ci: Builder) -> None:
    ci("90_release", INTERRUPTED)
    ci("95_rollback", INTERRUPTED)
    _, error = go(request([Step("90_release", "prod")]))
    assert statuses() == {"90_release-prod": "cancelled", "95_rollback-prod": "cancelled"}
    undo = ".venv/bin/runbook step 95_rollback --run-id r1 --stage prod"
    assert error and f"The release to prod was broken off and not taken back. Take it back with: {undo}" in str(error)


def test_a_rollback_of_an_earlier_attempt_does_not_answer_for_a_later_one(ci: Builder) -> None:
    ci("90_release", "1 / 0")
    ci("95_rollback", HOLDS)
    go(request([Step("90_release", "prod")]))
    folder = paths.run_folder("r1")
    assert release.unfinished(folder) == []
    ci("90_release", "import os; os.kill(os.getppid(), 9)")
    source = (
        "import sys; sys.path[:0] = ['tests', 'tests/engine']; import test_plan as t; from runbook import paths\n"
        f"from pathlib import Path; paths.NOTEBOOKS = Path({str(paths.NOTEBOOKS)!r}); "
        f"paths.PARAMS = Path({str(paths.PARAMS)!r})\n"
        "t.go(t.request([t.Step('90_release', 'prod')], resume=True))"
    )
    subprocess.run([sys.executable, "-c", source], check=False, timeout=120, cwd=paths.ROOT)
    assert release.unfinished(folder) == ["prod"]


def test_an_interrupt_between_two_steps_says_how_to_go_on(ci: Builder) -> None:
    class Impatient(Heard):
        def step_started(self, number: int, this: Step) -> None:
            if this.name == "30_evaluate":
                raise KeyboardInterrupt

    with pytest.raises(StepFailed, match="The run was interrupted.\n  To go on: .venv/bin/runbook run --resume r1"):
        plan.run(request(), NoPlatform(), Impatient())  # type: ignore[arg-type]
    assert manifest.load("r1").status == "cancelled"


def test_a_misspelt_parameter_is_refused_before_anything_starts(ci: Builder, params_files: Path) -> None:
    (params_files / "base.yml").write_text("run_idd: x\n")
    with pytest.raises(ParamsError, match="Did you mean 'run_id'"):
        plan.run(request(), NoPlatform(), Heard())  # type: ignore[arg-type]
    assert not paths.run_folder("r1").exists()


def test_resume_runs_only_what_is_not_done(ci: Builder) -> None:
    ci("30_evaluate", "1 / 0")
    go(request())
    ci("30_evaluate", HOLDS)
    lines, error = go(request(resume=True))
    assert error is None
    assert [line for line in lines if line.startswith("start")] == ["start 30_evaluate"]
    assert any(line.startswith("20_train: passed in this run already") for line in lines)
    assert set(statuses().values()) == {"passed"} and manifest.load("r1").status == "passed"


def test_resume_runs_a_step_again_when_its_notebook_or_what_it_read_has_changed(ci: Builder) -> None:
    go(request())
    ci("20_train", HANDS_OVER.replace("42", "43"), HOLDS)
    lines, _ = go(request(resume=True))
    started = [line for line in lines if line.startswith("start")]
    assert started == ["start 10_create_compute", "start 20_train", "start 30_evaluate", "start 49_delete_compute"]


def test_a_run_remembers_the_values_it_was_given_and_a_step_that_joins_it_does_not_change_them(
    ci: Builder, tmp_path: Path
) -> None:
    ci("20_train", HOLDS, extra="seed: int = 1  # seed\n")
    file = tmp_path / "more.yml"
    file.write_text("seed: 2\n")
    go(request(files=(file,), overrides=("seed=3",)))
    go(request([Step("20_train", None)], overrides=("seed=9",)))
    this = manifest.load("r1")
    assert this.values((), ()) == ((file,), ("seed=3",))
    assert this.values((file,), ("seed=3", "seed=4")) == ((file,), ("seed=3", "seed=4"))
    assert this.values((), ("seed=4",)) == ((file,), ("seed=3", "seed=4"))


def test_a_run_records_which_values_differ_from_the_plain_commands(ci: Builder, params_files: Path) -> None:
    ci("20_train", HOLDS, extra="seed: int = 1  # seed\nmax_rows: int = 5  # most rows\n")
    (params_files / "base.yml").write_text("max_rows: 6\n")
    go(request(overrides=("seed=1", "max_rows=9")))
    given = manifest.load("r1").given
    assert given.pop("20_train") == [{"name": "max_rows", "value": 9, "plain": 6, "source": "-p"}]
    assert set(given) == {s.label for s in CI} - {"20_train"} and not any(given.values())
    go(request(resume=True))
    assert manifest.load("r1").given["20_train"] == []


def test_a_page_lost_with_its_runner_is_rendered_when_the_run_goes_on(ci: Builder) -> None:
    go(request())
    page = paths.run_folder("r1") / "20_train" / "report.html"
    page.unlink()
    # A killed runner leaves a run without digests, whose status is still running.
    this = manifest.load("r1")
    this.status, this.files = "running", {}
    this.save()
    go(request(resume=True))
    assert page.exists()


def test_a_secret_that_is_not_masked_is_said_on_the_screen_in_the_events_and_on_every_page(
    ci: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHORT_TOKEN", "blue7")
    monkeypatch.setenv("PLAIN_PASSWORD", "passed")
    lines, error = go(request([Step("20_train", None)]))
    assert error is None and statuses() == {"20_train": "passed"}
    folder = paths.run_folder("r1")
    pages = ("index.html", "summary.md", "20_train/report.html")
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    for name, reason in (
        ("SHORT_TOKEN", "it is shorter than 6 characters"),
        ("PLAIN_PASSWORD", "it is a word that reports are made of"),
    ):
        said = f"The value of {name} is not masked in reports, because {reason}."
        assert sum(line.startswith(said) for line in lines) == 1
        assert all(said in (folder / page).read_text() for page in pages)
        assert [(e["name"], e["reason"]) for e in events if e["kind"] == "secret_not_masked" and e["name"] == name] == [
            (name, reason)
        ]
    assert "blue7" not in "".join(lines) + "".join((folder / page).read_text() for page in pages)


def test_the_next_run_is_told_of_one_that_was_killed(ci: Builder) -> None:
    source = (
        "import os; from runbook.engine import lock\n"
        "with lock.hold('local', 'killed', 'runbook run all'): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", source], check=False, timeout=60)
    lines, _ = go(request())
    assert any("Run killed did not end" in line and "runbook run --resume killed" in line for line in lines)
    lines, _ = go(request(run_id="r2"))
    assert not any("did not end" in line for line in lines)


def test_resume_runs_a_step_again_when_its_parameters_have_changed(ci: Builder) -> None:
    ci("20_train", HOLDS, extra="seed: int = 1  # seed\n")
    go(request())
    lines, _ = go(request(resume=True, overrides=("seed=2",)))
    # The training needs its compute target again, which then has to go again.
    again = ["start 10_create_compute", "start 20_train", "start 49_delete_compute"]
    assert [line for line in lines if line.startswith("start")] == again


def test_resume_runs_a_step_again_when_the_code_behind_its_notebook_has_changed(
    ci: Builder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(paths.DEPLOYMENT, tmp_path / "deployment")
    shutil.copytree(paths.ROOT / "runbook", tmp_path / "runbook")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "DEPLOYMENT", tmp_path / "deployment")
    ci("60_deploy", HOLDS)
    before = inputs.inputs(Step("60_deploy", "dev"), [], "r1")
    assert "deployment/score.py" in before and "deployment/dev/deployment.yml" in before
    score = paths.DEPLOYMENT / "score.py"
    score.write_text(score.read_text() + "# mended\n")
    after = inputs.inputs(Step("60_deploy", "dev"), [], "r1")
    assert {name for name in before if before[name] != after[name]} == {"deployment/score.py"}


def test_resume_clears_up_also_when_its_counterpart_was_skipped(ci: Builder) -> None:
    ci("30_evaluate", "import os; os.kill(os.getppid(), 9)")
    source = (
        "import sys; sys.path[:0] = ['tests', 'tests/engine']; import test_plan as t; from runbook import paths\n"
        f"from pathlib import Path; paths.NOTEBOOKS = Path({str(paths.NOTEBOOKS)!r}); "
        f"paths.PARAMS = Path({str(paths.PARAMS)!r})\n"
        "t.go(t.request())"
    )
    subprocess.run([sys.executable, "-c", source], check=False, timeout=120, cwd=paths.ROOT)
    assert statuses()["30_evaluate"] == "not_run" and statuses()["20_train"] == "passed"
    ci("30_evaluate", "1 / 0")
    _, error = go(request(resume=True))
    assert error and statuses()["49_delete_compute"] == "passed"


def test_a_cell_has_more_time_than_the_platforms_longest_wait(ci: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "CELL_SECONDS", 1.0)
    monkeypatch.setattr(plan, "CELL_MARGIN_SECONDS", 1.0)
    ci("20_train", "import time; time.sleep(6)", HANDS_OVER, HOLDS)
    monkeypatch.setattr(NoPlatform, "longest_wait", 2.0)
    _, error = go(request(run_id="r1"))
    assert error and "stopped at the deadline of 3 s per cell" in str(error)
    monkeypatch.setattr(NoPlatform, "longest_wait", 59.0)
    _, error = go(request(run_id="r2"))
    assert error is None


def test_clearing_up_has_time_left_when_the_run_had_none(ci: Builder) -> None:
    ci("20_train", "import time; time.sleep(60)")
    ci("49_delete_compute", "import time; time.sleep(3)", HOLDS)
    _, error = go(request(run_seconds=8.0))
    assert error and "the run's deadline" in str(error)
    assert statuses()["49_delete_compute"] == "passed"


def test_a_run_that_goes_on_is_not_verified_by_the_digests_of_its_last_end(ci: Builder) -> None:
    go(request())
    assert manifest.verify("r1") == []
    this = manifest.load("r1")
    this.status = "running"
    this.save()
    assert manifest.verify("r1") == ["r1 has no digests: it did not end (status running)."]


def test_a_run_is_green_when_the_release_succeeds_after_a_rollback_that_failed(ci: Builder) -> None:
    ci("90_release", "1 / 0")
    ci("95_rollback", "1 / 0")
    go(request([Step("90_release", "prod")]))
    assert statuses()["95_rollback-prod"] == "failed"
    ci("90_release", HOLDS)
    _, error = go(request([Step("90_release", "prod")], resume=True))
    assert error is None and manifest.load("r1").status == "passed"


def rows(**status: str) -> manifest.Manifest:
    """A run of CI with these statuses, as an earlier runner left it."""
    this = manifest.Manifest("r1", "ci", "local", "runbook run ci", status="cancelled")
    for name, word in status.items():
        this.record(name.removeprefix("s"), None, name.removeprefix("s"), word, 1.0)
    return this


@pytest.mark.parametrize("red", ["failed", "cancelled", "not_run"])
def test_a_later_step_does_not_make_a_run_green_whose_other_step_is_not(ci: Builder, red: str) -> None:
    rows(s20_train=red, s49_delete_compute="passed").save()
    _, error = go(request([Step("49_delete_compute", None)]))
    assert error is None and statuses() == {"20_train": red, "49_delete_compute": "passed"}
    assert manifest.load("r1").status == ("failed" if red == "failed" else "cancelled")
    folder = paths.run_folder("r1")
    for page in ("summary.md", "index.html"):
        assert "Passed" not in (folder / page).read_text(encoding="utf-8").partition("Steps")[0], page
    with pytest.raises(HandoffMissing, match="No green CI run"):
        ci_result.latest_ci("local")


def test_an_earlier_verdict_does_not_stand_for_a_step_that_was_killed_in_its_second_run(ci: Builder) -> None:
    rows(s10_create_compute="passed", s49_delete_compute="passed").save()
    ci("10_create_compute", "import os; os.kill(os.getppid(), 9)")
    source = (
        "import sys; sys.path[:0] = ['tests', 'tests/engine']; import test_plan as t; from runbook import paths\n"
        f"from pathlib import Path; paths.NOTEBOOKS = Path({str(paths.NOTEBOOKS)!r}); "
        f"paths.PARAMS = Path({str(paths.PARAMS)!r})\n"
        "t.go(t.request([t.Step('10_create_compute', None)]))"
    )
    subprocess.run([sys.executable, "-c", source], check=False, timeout=120, cwd=paths.ROOT)
    go(request([Step("49_delete_compute", None)]))
    assert statuses()["10_create_compute"] == "not_run" and manifest.load("r1").status == "cancelled"


def test_cd_takes_no_result_from_a_run_whose_ci_is_not_green() -> None:
    folder = recorded.whole("r1")
    assert ci_result.take("r1", "r2") == "r1"
    this = manifest.load("r1")
    this.record("49_delete_compute", None, "49_delete_compute", "cancelled", 1.0)
    this.save()
    for source in ("r1", str(folder)):
        with pytest.raises(RunError, match="49_delete_compute is cancelled"):
            ci_result.take(source, "r2")


def test_cd_takes_no_result_of_a_ci_run_that_was_not_green_all_through() -> None:
    recorded.whole("r1")
    assert ci_result.latest_ci("local") == "r1"
    with pytest.raises(HandoffMissing, match="on the azure target"):
        ci_result.latest_ci("azure")
    this = manifest.load("r1")
    this.record("49_delete_compute", None, "49_delete_compute", "failed", 1.0)
    this.save()
    with pytest.raises(HandoffMissing):
        ci_result.latest_ci("local")


def test_verify_names_what_was_changed_after_the_run(ci: Builder) -> None:
    go(request())
    page = paths.run_folder("r1") / "20_train" / "report.html"
    page.write_text(page.read_text() + "<!-- better -->")
    (paths.run_folder("r1") / "30_evaluate" / "result.json").unlink()
    assert manifest.verify("r1") == [
        "20_train/report.html was changed after the run",
        "30_evaluate/result.json is gone",
    ] or sorted(manifest.verify("r1")) == [
        "20_train/report.html was changed after the run",
        "30_evaluate/result.json is gone",
    ]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_reports_and_cleans_up(ci: Builder, tmp_path: Path, how: signal.Signals) -> None:
    mark = tmp_path / "mark"
    ci("20_train", f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(60)", HOLDS)
    source = (
        "import signal, sys; sys.path[:0] = ['tests', 'tests/engine']\n"
        "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        "import pathlib; from runbook import paths; from runbook.engine import plan; import test_plan\n"
        f"paths.NOTEBOOKS = pathlib.Path({str(paths.NOTEBOOKS)!r})\n"
        f"paths.PARAMS = pathlib.Path({str(paths.PARAMS)!r})\n"
        "print(test_plan.go(test_plan.request())[1])"
    )
    process = subprocess.Popen([sys.executable, "-c", source], cwd=paths.ROOT, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not mark.exists() or not mark.read_text():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(how)
    out, _ = process.communicate(timeout=60)
    assert "20_train: cancelled" in out
    assert statuses() == {
        "10_create_compute": "passed", "20_train": "cancelled", "30_evaluate": "not_run", "49_delete_compute": "passed",
    }  # fmt: skip
    assert manifest.load("r1").status == "cancelled"
    assert (paths.run_folder("r1") / "20_train" / "report.html").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


DECISION = {
    "decision": "promote",
    "reason": "new",
    "criteria": [{"name": "x", "wanted": "y", "found": 1.0, "interval": None, "verdict": "passed"}],
}
MODEL = {
    "workspaceName": "w", "resourceGroupName": "g", "modelId": "Titanic:1", "name": "Titanic", "version": "1",
    "sha256": "0" * 64, "training_key": "1" * 64, "new": True,
}  # fmt: skip


def artifact(folder: Path, **changes: Any) -> Path:
    (folder / "metadata").mkdir(parents=True)
    run = {
        "_experiment_name": "e", "run_id": "m1", "root_run_id": "m1", "parent_run_id": None, "experiment_id": "1",
        "status": "Completed",
        "name": "n", "display_name": "n", "script_name": "20_train.ipynb", "target": "t", "tags": {}, "created_utc": "x",
        "properties": {
            "mlflow_run_id": "m1", "mlflow_tracking_uri": "u", "git_repository_uri": None, "git_branch": None, "git_commit": None,
            "git_dirty": None,
        },
        "start_time_utc": "x", "end_time_utc": "x", "user_id": "u", "created_by": {"user_name": "u"}, "run_type": "local",
        "model": {"uri": "runs:/m1/model", "sha256": "0" * 64, "kind": "logistic"}, "code": {"sha256": "a", "lock_sha256": "b"},
        "data": {"path": "d", "sha256": "0" * 64, "rows": 1, "development_rows": 1, "sealed_rows": 0}, "metrics": {},
        "training_key": "1" * 64,
    }  # fmt: skip
    documents: dict[str, dict[str, Any]] = {"run": run, "model": MODEL, "decision": {**DECISION, **changes}}
    for name, document in documents.items():
        (folder / "metadata" / f"{name}.json").write_text(json.dumps({"schema_version": "1.0", **document}))
    return folder


def test_cd_takes_the_three_files_of_ci_and_nothing_else(tmp_path: Path) -> None:
    folder = artifact(tmp_path / "titanic_pred_artifact")
    (folder / "metadata" / "notes.txt").write_text("not ours")
    assert ci_result.take(str(folder), "r2") == "titanic_pred_artifact"
    assert {p.name for p in (paths.run_folder("r2") / "metadata").iterdir()} == {
        "run.json",
        "model.json",
        "decision.json",
    }
    assert handoff.load_metadata("model", "r2")["modelId"] == "Titanic:1"


def test_an_artifact_whose_decision_is_fail_is_refused(tmp_path: Path) -> None:
    folder = artifact(tmp_path / "artifact", decision="fail", reason="worse than the champion")
    with pytest.raises(RunError, match="worse than the champion"):
        ci_result.take(str(folder), "r2")


def test_an_artifact_without_a_model_is_refused(tmp_path: Path) -> None:
    folder = artifact(tmp_path / "artifact")
    (folder / "metadata" / "model.json").unlink()
    with pytest.raises(HandoffMissing, match="runbook run ci"):
        ci_result.take(str(folder), "r2")


def test_cd_without_a_green_ci_run_says_what_to_run() -> None:
    with pytest.raises(HandoffMissing, match="Run first: .venv/bin/runbook run ci"):
        ci_result.latest_ci("local")


@pytest.mark.parametrize(
    ("name", "stage", "words"),
    [
        ("21_train", None, "No step '21_train'"),
        ("60_deploy", None, "add --stage"),
        ("50_create_cluster", "dev", "prod only"),
    ],
)
def test_a_step_that_does_not_exist_or_fit_is_refused(name: str, stage: str | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        plan.single(name, stage)


class Unreachable(NoPlatform):
    """A platform whose endpoints can not be asked about."""

    def find_endpoint(self, stage: str) -> None:
        raise ConnectionError("the controller did not start")


def test_a_run_is_recorded_and_sealed_before_a_platform_is_asked_what_serves(ci: Builder) -> None:
    heard = Heard()
    ci("20_train", HOLDS, "1 / 0")
    with pytest.raises(StepFailed, match="20_train: failed: division by zero"):
        plan.run(request(), Unreachable(), heard)  # type: ignore[arg-type]
    this = manifest.load("r1")
    assert (this.status, this.endpoints) == ("failed", []) and "did not start" in str(this.endpoints_problem)
    assert manifest.verify("r1") == []
    page = (paths.run_folder("r1") / "index.html").read_text(encoding="utf-8")
    assert "No endpoint stands" not in page and "What serves now is not known: the controller did not start" in page
    assert any("What serves now is not known" in line for line in heard.lines)


def test_whatever_breaks_around_a_step_is_recorded_as_its_failure_and_cleared_up_after(ci: Builder) -> None:
    class Broken(NoPlatform):
        def run_step(self, step: str, run_id: str, arguments: list[str], into: Path) -> None:
            raise ConnectionError("the workspace did not answer")

    with pytest.raises(StepFailed, match="20_train: failed: the workspace did not answer"):
        plan.run(request(), Broken(), Heard())  # type: ignore[arg-type]
    assert statuses() == {
        "10_create_compute": "passed", "20_train": "failed", "30_evaluate": "not_run", "49_delete_compute": "passed",
    }  # fmt: skip
    result = json.loads((paths.run_folder("r1") / "20_train" / "result.json").read_text())
    assert result["error"] == {"class": "ConnectionError", "message": "the workspace did not answer", "cell": None}
    assert "ConnectionError" in (paths.run_folder("r1") / "20_train" / "report.html").read_text()


def test_a_release_is_taken_back_also_when_its_kernel_never_started(ci: Builder, tmp_path: Path) -> None:
    # The first kernel finds this file in its working directory, dies of it and removes it.
    launcher = tmp_path / "notebooks" / "ipykernel_launcher.py"
    launcher.write_text("import os; os.remove(__file__); raise SystemExit('no licence')")
    for name in ("90_release", "95_rollback"):
        ci(name, HOLDS)
    _, error = go(request([Step("90_release", "prod")]))
    assert error and "no licence" in str(error)
    assert statuses() == {"90_release-prod": "failed", "95_rollback-prod": "passed"}


def test_an_interrupt_between_two_steps_ends_the_run_as_one_in_a_step_does(ci: Builder) -> None:
    class Impatient(Heard):
        def step_ended(self, number: int, result: Result, page: Path) -> None:
            if result.step == "20_train":
                raise KeyboardInterrupt

    with pytest.raises(StepFailed, match="interrupted"):
        plan.run(request(), NoPlatform(), Impatient())  # type: ignore[arg-type]
    assert statuses() == {
        "10_create_compute": "passed", "20_train": "passed", "30_evaluate": "not_run", "49_delete_compute": "passed",
    }  # fmt: skip
    assert manifest.load("r1").status == "cancelled" and manifest.verify("r1") == []


def test_evidence_that_cannot_be_written_fails_the_step_and_the_run_clears_up(ci: Builder) -> None:
    folder = paths.run_folder("r1") / "20_train"
    ci("20_train", HANDS_OVER, HOLDS, f"import os; os.mkdir({str(folder / 'result.json')!r})")
    _, error = go(request())
    assert error and "20_train: failed" in str(error)
    assert statuses()["20_train"] == "failed" and statuses()["49_delete_compute"] == "passed"
    assert manifest.load("r1").status == "failed"


@pytest.mark.parametrize("newer", [True, False], ids=["newer", "older"])
def test_a_run_older_than_the_last_release_to_prod_is_not_resumed(ci: Builder, newer: bool) -> None:
    class Released(NoPlatform):
        def find_endpoint(self, stage: str) -> Any:
            return (
                None
                if stage == "dev"
                else Endpoint(
                    "titanic-prod", "prod", "kubernetes", "http://127.0.0.1/score", {}, (), {"released_by": "r2"}
                )
            )

    ci("30_evaluate", "1 / 0")
    go(request())
    started = "2999-01-01T00:00:00+00:00" if newer else "2000-01-01T00:00:00+00:00"
    recorded.manifest("r2", recorded.CI, started=started)
    with pytest.raises(RunError, match="older than the last release to prod, made by run r2" if newer else "division"):
        plan.run(request(resume=True), Released(), Heard())  # type: ignore[arg-type]


def test_a_run_that_goes_on_with_other_code_names_the_commit_of_every_step(
    ci: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = "1" * 40, "2" * 40
    ci("30_evaluate", "1 / 0")
    monkeypatch.setattr(git, "commit", lambda: (first, False))
    go(request())
    ci("30_evaluate", HOLDS)
    monkeypatch.setattr(git, "commit", lambda: (second, True))
    go(request(resume=True))
    this = manifest.load("r1")
    assert (this.status, this.commit, this.dirty) == ("passed", second, True)
    assert {row["folder"]: (row["commit"], row["dirty"]) for row in this.steps} == {
        "10_create_compute": (first, False), "20_train": (first, False), "30_evaluate": (second, True),
        "49_delete_compute": (first, False),
    }  # fmt: skip
    folder = paths.run_folder("r1")
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "Commit of 10_create_compute, 20_train and 49_delete_compute" in page and first in page and second in page
    for name, commit in (("20_train", first), ("30_evaluate", second)):
        assert json.loads((folder / name / "result.json").read_text())["commit"] == commit
        assert commit in (folder / name / "report.html").read_text(encoding="utf-8")
    assert f"{first} and {second}, with uncommitted changes" in (folder / "summary.md").read_text(encoding="utf-8")
    assert f"{first[:8]}, {second[:8]} +" in (paths.reports() / "index.html").read_text(encoding="utf-8")
