"""A run against a stand-in of the cloud: the fact is kept in the run's evidence, and nobody builds on it by mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
import recorded
from built import HOLDS, Builder
from pages import only, read, text

from runbook import paths, report
from runbook.engine import ci_artifact, manifest, plan
from runbook.engine import text as show
from runbook.engine.manifest import Manifest
from runbook.engine.step import Result, Step
from runbook.errors import HandoffMissing


class Nothing:
    """A platform without endpoints and secrets."""

    target = "azure"

    longest_wait = 60.0

    def secrets(self) -> list[str]:
        return []

    def find_endpoint(self, stage: str) -> None:
        return None


class Silent:
    def run_started(self, run_id: str, steps: int, page: Path) -> None: ...

    def step_started(self, number: int, this: Step) -> None: ...

    def cell_started(self, number: int, cells: int, cell: str) -> None: ...

    def step_ended(self, number: int, result: Result, page: Path) -> None: ...

    def note(self, text: str) -> None: ...


@pytest.fixture
def small(build: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build("30_evaluate", HOLDS)
    folder = tmp_path / "params"
    folder.mkdir()
    for name in ("base", "local", "azure"):
        (folder / f"{name}.yml").write_text("")
    monkeypatch.setattr(paths, "PARAMS", folder)


def run(target: str = "azure") -> Manifest:
    request = plan.Request("30_evaluate", [Step("30_evaluate", None)], target, "r1", "runbook step 30_evaluate")
    return plan.run(request, Nothing(), Silent())  # type: ignore[arg-type]


def test_a_rehearsal_is_kept_in_the_manifest_and_told_everywhere(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNBOOK_REHEARSAL", "1")
    this = run()
    assert manifest.load("r1").rehearsal
    monkeypatch.delenv("RUNBOOK_REHEARSAL")
    written = (this.folder / "30_evaluate" / "report.html").read_bytes()
    page = read(report.step(this.folder / "30_evaluate").parent)
    assert (this.folder / "30_evaluate" / "report.html").read_bytes() == written
    assert only(page, "title").get_text() == "REHEARSAL: 30_evaluate, run r1"
    assert only(page, "h1").get_text() == "REHEARSAL: Try 30_evaluate"
    assert only(page, ".verdict").get("class") == ["verdict", "rehearsed"]
    assert text(page, ".verdict .headline") == "REHEARSAL: Passed: 1 of 1 check held"
    assert "azure (rehearsal)" in page.get_text()
    closing = show.closing(this, endpoints=True)
    assert closing.startswith("\nREHEARSAL r1: ") and "Nothing of it happened on Azure." in closing
    assert "passed" not in closing


def test_what_was_once_a_rehearsal_stays_one(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNBOOK_REHEARSAL", "1")
    run()
    monkeypatch.delenv("RUNBOOK_REHEARSAL")
    assert run().rehearsal


def test_a_run_on_azure_and_one_on_this_machine_are_no_rehearsals(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not run().rehearsal
    monkeypatch.setenv("RUNBOOK_REHEARSAL", "1")
    assert not manifest.rehearses("local")


def test_a_stand_in_says_nothing_of_its_endpoints_at_the_end() -> None:
    recorded.whole("r1", target="azure", rehearsal=True)
    assert "Try it" not in show.closing(manifest.load("r1"), endpoints=True)
    recorded.whole("r2", target="azure")
    assert "Try it" in show.closing(manifest.load("r2"), endpoints=True)


def test_a_release_never_takes_the_result_of_a_rehearsal(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded.whole("r1", target="azure", rehearsal=True)
    with pytest.raises(HandoffMissing):
        ci_artifact.latest_ci("azure")
    monkeypatch.setenv("RUNBOOK_REHEARSAL", "1")
    assert ci_artifact.latest_ci("azure") == "r1"
