from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from runbook import handoff, paths
from runbook.engine import job, step
from runbook.engine.masking import Mask
from runbook.engine.step import Result, Step
from runbook.errors import PlatformError
from runbook.platform.base import Change

TRAIN = Step("20_train", None)


class Elsewhere:
    """A platform whose compute is not this machine: it leaves a verdict, or breaks, as the test asks."""

    def __init__(
        self,
        leaves: str | None = "passed",
        breaks: BaseException | None = None,
        hands_over: bool = True,
        log: str = "",
    ) -> None:
        self.leaves, self.breaks, self.hands_over, self.asked = leaves, breaks, hands_over, list[list[str]]()
        self.log = log

    def run_step(self, name: str, run_id: str, arguments: list[str], into: Path) -> Change[SimpleNamespace]:
        self.asked.append(arguments)
        if self.leaves and self.hands_over:
            handoff.save(name, run_id, answer=42)
        if self.leaves:
            error = (
                None if self.leaves == "passed" else {"class": "ValueError", "message": "inside the job", "cell": "fit"}
            )
            step.save(
                into,
                Result(run_id, name, None, "azure", "Train", self.leaves, None, 1.0, 2, 3, error, [], None, {}, {}),  # type: ignore[arg-type]
            )
        if self.breaks:
            raise self.breaks
        return Change("jobs.create_or_update", {}, True, SimpleNamespace(log=self.log))


class Here:
    def run_step(self, name: str, run_id: str, arguments: list[str], into: Path) -> None:
        return None


def run(platform: object, s: Step = TRAIN) -> Result | None:
    secrets = Mask(lambda: ["secret-in-a-log"])
    return job.run(s, "azure", "r1", {"cv_folds": 5, "target": "azure", "run_id": "r1"}, {}, platform, secrets)  # type: ignore[arg-type]


def test_the_verdict_of_the_job_comes_home() -> None:
    platform = Elsewhere()
    result = run(platform)
    assert result and result.status == "passed"
    assert platform.asked == [["-p", "cv_folds=5"]]


def test_only_training_goes_to_the_compute() -> None:
    platform = Elsewhere()
    assert run(platform, Step("30_evaluate", None)) is None and platform.asked == []


def test_where_this_machine_is_the_compute_the_step_is_run_here() -> None:
    assert run(Here()) is None


def test_a_failed_job_keeps_the_verdict_it_left_and_its_log_lies_beside_it() -> None:
    result = run(Elsewhere("failed", PlatformError("the job failed", "Traceback, with secret-in-a-log")))
    assert result and result.error and result.error["message"] == "inside the job"
    log = paths.step_folder("r1", "20_train") / "job.log"
    assert log.read_text() == "Traceback, with [masked]"
    run(Elsewhere())
    assert not log.exists()


def test_a_green_job_keeps_its_log_too_and_a_failure_without_one_keeps_what_is_known() -> None:
    run(Elsewhere(log="Warning: secret-in-a-log"))
    log = paths.step_folder("r1", "20_train") / "job.log"
    assert log.read_text() == "Warning: [masked]"
    run(Elsewhere(None, PlatformError("the image could not be built")))
    assert log.read_text() == "the image could not be built"


@pytest.mark.parametrize(
    ("platform", "status", "words"),
    [
        (Elsewhere(None, PlatformError("quota exceeded", "log says secret-in-a-log")), "failed", "quota exceeded"),
        (Elsewhere("passed", PlatformError("the upload failed")), "failed", "the upload failed"),
        (Elsewhere(None), "failed", "without leaving a verdict"),
        (Elsewhere(None, KeyboardInterrupt()), "cancelled", "job cancelled"),
    ],
)
def test_a_job_that_leaves_no_green_verdict_is_not_green(platform: Elsewhere, status: str, words: str) -> None:
    result = run(platform)
    assert result and result.status == status and result.error
    assert words in (result.error["message"] or "") and "secret-in-a-log" not in (result.error["message"] or "")
    assert step.load(paths.step_folder("r1", "20_train")) == result


def test_a_job_that_passed_without_its_handoff_is_not_green() -> None:
    run(Elsewhere())  # the handoff of an earlier attempt does not count
    result = run(Elsewhere(hands_over=False))
    assert result and result.error and result.error["class"] == "NoHandoff"


def test_an_old_verdict_is_not_taken_for_the_new_one() -> None:
    run(Elsewhere())
    result = run(Elsewhere(None))
    assert result and result.status == "failed"


def test_parameters_travel_as_they_are_typed() -> None:
    given = {"a": True, "b": None, "c": 0.00001, "d": "x y", "stage": "dev"}
    assert job.arguments(given) == ["-p", "a=true", "-p", "b=null", "-p", "c=1e-05", "-p", "d=x y"]
