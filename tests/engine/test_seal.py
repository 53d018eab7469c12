"""Evidence that was changed after its run had ended: what ``verify`` names, and who refuses to build on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import recorded

from runbook import paths, report
from runbook.engine import ci_artifact, manifest, plan
from runbook.engine.event_log import EventLog
from runbook.engine.masking import Mask
from runbook.engine.step import Step
from runbook.errors import RunError, UsageError


def ended(run_id: str = "r1") -> Path:
    """Write a run as it is after its end, and return its folder."""
    folder = recorded.whole(run_id)
    EventLog(folder / "events.jsonl", run_id, Mask()).write("run_ended")
    this = manifest.load(run_id)
    this.seal()
    this.save()
    report.run(folder)
    report.runs(paths.reports())
    return folder


def edited(path: Path) -> None:
    path.write_text(path.read_text() + " ")


def relabelled(folder: Path) -> None:
    document = json.loads((folder / "manifest.json").read_text())
    document["steps"][1]["status"] = "not_needed"
    (folder / "manifest.json").write_text(json.dumps(document))


def linked(path: Path) -> None:
    moved = path.rename(path.with_name(f"moved-{path.name}"))
    path.symlink_to(moved.name, target_is_directory=moved.is_dir())


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "events deleted": (lambda f: (f / "events.jsonl").unlink(), "events.jsonl is gone"),
    "events changed": (lambda f: edited(f / "events.jsonl"), "events.jsonl was changed after the run"),
    "metadata deleted": (lambda f: (f / "metadata/model.json").unlink(), "metadata/model.json is gone"),
    "metadata changed": (lambda f: edited(f / "metadata/decision.json"), "metadata/decision.json was changed after the run"),
    "file planted": (lambda f: (f / "20_train/note.txt").write_text("x"), "20_train/note.txt was added after the run"),
    "file planted beside": (lambda f: (f / "better.html").write_text("x"), "better.html was added after the run"),
    "hidden file planted": (lambda f: (f / "20_train/.x").write_text("x"), "20_train/.x was added after the run"),
    "view planted": (lambda f: (f / "20_train/index.html").write_text("x"), "20_train/index.html was added after the run"),
    "file linked": (lambda f: linked(f / "metadata/run.json"), "metadata/run.json is a link"),
    "folder linked": (lambda f: linked(f / "20_train"), "20_train is a link"),
    "page of the run linked": (lambda f: linked(f / "index.html"), "index.html is a link"),
    "manifest edited": (relabelled, "20_train is not_needed in manifest.json and passed in result.json"),
    "page of another manifest": (
        lambda f: (f / "index.html").write_text("all green"),
        "index.html names another digest of manifest.json",
    ),
}  # fmt: skip


def test_a_run_is_clean_when_it_has_ended_also_after_its_pages_are_rendered_again() -> None:
    folder = ended()
    assert manifest.verify("r1") == []
    report.run(folder)
    assert manifest.verify("r1") == []


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_is_changed_after_a_run_is_named(name: str) -> None:
    folder = ended()
    change, said = CHANGES[name]
    change(folder)
    assert any(problem.startswith(said) for problem in manifest.verify("r1")), manifest.verify("r1")


@pytest.mark.parametrize("name", [name for name in CHANGES if "page of" not in name])
def test_nothing_is_added_to_a_run_that_was_changed_after_its_end(name: str) -> None:
    folder = ended()
    change, said = CHANGES[name]
    change(folder)
    before = manifest.load("r1").files
    for request in (
        plan.Request("90_release", [Step("90_release", "prod")], "local", "r1", "runbook step 90_release"),
        plan.Request("all", plan.PLANS["all"], "local", "r1", "runbook run all", resume=True),
    ):
        with pytest.raises(RunError) as refused:
            plan._begin(request)
        assert said in str(refused.value) and "work in a new run" in str(refused.value)
    assert manifest.load("r1").files == before and any(p.startswith(said) for p in manifest.verify("r1"))


def test_a_killed_run_goes_on_though_it_has_no_digests() -> None:
    folder = ended()
    this = manifest.load("r1")
    this.status, this.files = "running", {}
    this.save()
    (folder / "20_train" / "report.html").unlink(missing_ok=True)
    plan._begin(plan.Request("all", plan.PLANS["all"], "local", "r1", "runbook run all", resume=True))


def test_a_changed_copy_is_named_though_its_original_is_clean(tmp_path: Path) -> None:
    folder = ended()
    for copy in (paths.reports() / "copy", tmp_path / "downloaded", tmp_path / "a" / "r1"):
        shutil.copytree(folder, copy)
        edited(copy / "20_train" / "result.json")
        assert "20_train/result.json was changed after the run" in manifest.verify(str(copy))
    assert "20_train/result.json was changed after the run" in manifest.verify("copy")
    assert manifest.verify("r1") == []


def test_a_folder_of_reports_has_the_name_of_its_run(tmp_path: Path) -> None:
    folder = ended()
    said = ["the folder is called r2, and its manifest is that of run r1"]
    shutil.copytree(folder, paths.reports() / "r2")
    assert manifest.verify("r2") == said and manifest.verify(str(paths.reports() / "r2")) == said
    # A copy elsewhere, and the one run that git keeps, may have other names.
    shutil.copytree(folder, tmp_path / "reports-ci-1")
    shutil.copytree(folder, paths.reports() / "sample")
    assert manifest.verify(str(tmp_path / "reports-ci-1")) == [] and manifest.verify("sample") == []


@pytest.mark.parametrize("run", ["latest", "reports/latest"])
def test_a_link_is_no_name_of_a_run(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ended()
    monkeypatch.chdir(paths.reports().parent)
    before = (paths.reports() / "r1" / "manifest.json").read_bytes()
    with pytest.raises(UsageError, match="is a link to .*r1"):
        manifest.verify(run)
    with pytest.raises(UsageError, match=r"latest is a link to r1. Use the name r1 itself"):
        plan._begin(plan.Request("90_release", [Step("90_release", "prod")], "local", "latest", "runbook step"))
    with pytest.raises(UsageError, match="is a link"):
        ci_artifact.take("latest", "r2")
    assert (paths.reports() / "r1" / "manifest.json").read_bytes() == before
    assert [this.run_id for this in manifest.everything()] == ["r1"]


def test_nothing_is_written_through_a_link_in_the_place_of_a_step(tmp_path: Path) -> None:
    folder = ended()
    shutil.rmtree(folder / "20_train")
    (folder / "20_train").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(UsageError, match="20_train is a link"):
        recorded.save_handoff("r1", "20_train", None, answer=1)


def verify(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("runbook")
    return subprocess.run([command, "verify", *words], capture_output=True, text=True, timeout=120, cwd=cwd)


def test_verify_takes_a_run_or_a_path(tmp_path: Path) -> None:
    folder = ended()
    shutil.copytree(folder, tmp_path / "downloaded")
    done = verify("downloaded", cwd=tmp_path)
    assert done.returncode == 0 and f"This is a copy of that run: {tmp_path / 'downloaded'}" in done.stdout
    assert "index.html, summary.md, junit.xml" in done.stdout
    (tmp_path / "downloaded" / "extra").write_text("x")
    done = verify("./downloaded", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "extra was added after the run\n")


def test_the_sample_that_git_keeps_is_as_it_was_when_its_run_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNBOOK_REPORTS")
    assert manifest.verify("sample") == []
    assert manifest.verify(os.fspath(paths.ROOT / "reports" / "sample")) == []


def test_verify_compares_the_files_of_an_artifact_with_one_another(tmp_path: Path) -> None:
    shutil.copytree(ended() / "metadata", tmp_path / "titanic_pred_artifact" / "metadata")
    assert "agree" in verify("titanic_pred_artifact", cwd=tmp_path).stdout
