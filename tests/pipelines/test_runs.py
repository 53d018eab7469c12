"""CI, then CD, for real on the local target: every job on an agent that has nothing but a clone and a bare environment.

The tests stand in the order in which an organisation would meet them: each push builds on what the one before released.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from emulator.service import commit
from organisation import Organisation, decision, said, set_up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def organisation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Organisation]:
    nowhere = dict.fromkeys(("ml.subscriptionId", "ml.resourceGroup", "ml.workspace"), "none")
    with set_up(tmp_path_factory.mktemp("organisation"), "local", nowhere, {}, {}) as this:
        yield this


def test_a_first_push_goes_from_data_to_two_live_endpoints(organisation: Organisation) -> None:
    ci, cd = organisation.push("first")
    assert (ci.result, ci.stages) == ("Succeeded", {"check": "Skipped", "train": "Succeeded"}), ci.log()
    assert cd is not None and cd.result == "Succeeded", cd and cd.log()
    assert cd.stages == {"dev": "Succeeded", "prod": "Succeeded"}
    assert decision(ci) == "promote"
    for stage in ("dev", "prod"):
        assert organisation.endpoint(stage)["model_version"] == "1"

    artifact = ci.artifacts["titanic_pred_artifact"]
    assert {p.name for p in artifact.iterdir()} == {"metadata", "environment_setup", "deployment"}
    assert not [p for p in artifact.rglob("*") if "__pycache__" in p.name]
    assert {p.name for p in (artifact / "metadata").iterdir()} == {"run.json", "model.json", "decision.json"}
    assert set(ci.artifacts) == {"titanic_pred_artifact", "reports-ci-1"}
    assert set(cd.artifacts) == {"reports-dev-1", "reports-prod-1"}
    for run, name, step in (
        (ci, "reports-ci-1", "20_train"),
        (cd, "reports-dev-1", "70_functional_test-dev"),
        (cd, "reports-prod-1", "90_release-prod"),
    ):
        assert (run.artifacts[name] / "index.html").stat().st_size > 1_000
        assert (run.artifacts[name] / step / "report.html").stat().st_size > 1_000
    for title, (passed, failed) in {**ci.tests, **cd.tests}.items():
        assert passed >= 4 and failed == 0, title
    # Whoever approves prod reads what dev has shown.
    assert len(organisation.seen) == 1 and "60_deploy" in organisation.seen[0][0]


def test_the_same_data_and_code_hold_and_stay_green(organisation: Organisation) -> None:
    before = [organisation.endpoint(stage) for stage in ("dev", "prod")]
    ci, cd = organisation.push("nothing new")
    assert ci.result == "Succeeded", ci.log()
    assert cd is not None and cd.result == "Succeeded", cd and cd.log()
    assert decision(ci) == "hold"
    assert "hold" in "".join(ci.summaries).lower() and "hold" in "".join(cd.summaries).lower()
    assert [organisation.endpoint(stage) for stage in ("dev", "prod")] == before


def test_a_failing_training_deletes_the_compute_publishes_reports_and_releases_nothing(
    organisation: Organisation,
) -> None:
    organisation.insert("20_train", "parameters", "raise ValueError('broken by a test')")
    ci, cd = organisation.push("break the training")
    organisation.restore("notebooks/20_train.ipynb")
    found = ci.results("train")
    assert (ci.result, cd) == ("Failed", None)
    assert found["papermill 20_train"] == "Failed"
    assert found["papermill 40_register"] == found["Publish titanic_pred_artifact"] == "Skipped"
    assert found["papermill 49_delete_compute"] == found["Publish reports"] == "Succeeded", ci.log()
    assert set(ci.artifacts) == {"reports-ci-1"}
    assert "broken by a test" in (ci.artifacts["reports-ci-1"] / "20_train" / "report.html").read_text()
    assert [text for kind, text in ci.issues if kind == "error" and "broken by a test" in text]
    assert ci.tests["reports-ci"][1] >= 1
    result = json.loads((ci.artifacts["reports-ci-1"] / "49_delete_compute" / "result.json").read_text())
    assert result["status"] == "passed"


def test_a_failing_functional_test_in_dev_keeps_prod_from_starting(organisation: Organisation) -> None:
    before = [organisation.endpoint(stage)["traffic"] for stage in ("dev", "prod")]
    score = organisation.clone / "deployment" / "score.py"
    # Right by the contract, wrong by the values: only a test that knows the answers can notice.
    rightly, wrongly = "int(probability >= 0.5)", "int(probability < 0.5)"
    assert rightly in score.read_text()
    score.write_text(score.read_text().replace(rightly, wrongly))
    ci, cd = organisation.push("answer wrongly")
    organisation.restore("deployment/score.py")
    assert ci.result == "Succeeded", ci.log()
    assert cd is not None and cd.result == "Failed"
    assert cd.stages == {"dev": "Failed", "prod": "Skipped"}
    assert cd.results("dev")["papermill 70_functional_test"] == "Failed"
    assert cd.results("dev")["papermill 90_release"] == "Skipped"
    assert "prod" not in cd.jobs and "reports-dev-1" in cd.artifacts
    # What serves is another run's release: the hook sees that and leaves it alone.
    assert cd.jobs["dev on.failure"].result == "Succeeded", cd.log()
    assert said(cd, "rollback-dev-1", "95_rollback-dev")["rolled_back"] is False
    assert [organisation.endpoint(stage)["traffic"] for stage in ("dev", "prod")] == before


def test_a_release_that_dies_in_prod_is_rolled_back_by_the_hook(organisation: Organisation) -> None:
    before = organisation.traffic("prod")
    organisation.die_in_the_middle_of_the_release_to_prod()
    ci, cd = organisation.push("die in the middle of a release")
    organisation.restore("deployment/score.py", "notebooks/90_release.ipynb")
    assert ci.result == "Succeeded", ci.log()
    assert cd is not None and cd.stages == {"dev": "Succeeded", "prod": "Failed"}, cd and cd.log()
    assert cd.results("prod")["papermill 90_release"] == "Failed"
    assert cd.results("prod on.failure")["papermill 95_rollback"] == "Succeeded", cd.log()
    assert said(cd, "rollback-prod-1", "95_rollback-prod")["rolled_back"] is True
    assert organisation.traffic("prod") == before


def test_a_release_to_prod_that_is_cancelled_is_taken_back_by_its_own_job(organisation: Organisation) -> None:
    before = organisation.traffic("prod")
    organisation.wait_in_the_middle_of_the_release_to_prod()
    organisation.service.cancel = ("prod", ": broken\n")
    ci, cd = organisation.push("wait in the middle of a release")
    organisation.service.cancel = ("", "")
    organisation.restore("deployment/score.py", "notebooks/90_release.ipynb")
    assert cd is not None and cd.stages == {"dev": "Succeeded", "prod": "Canceled"}, cd and cd.log()
    found = cd.results("prod")
    assert (found["papermill 90_release"], found["papermill 95_rollback"]) == ("Canceled", "Succeeded"), cd.log()
    assert found["Publish reports"] == "Succeeded" and "prod on.failure" not in cd.jobs
    assert said(cd, "reports-prod-1", "95_rollback-prod")["rolled_back"] is True
    assert organisation.traffic("prod") == before


def test_a_stage_that_breaks_before_its_deployment_rolls_nothing_back(organisation: Organisation) -> None:
    before = [organisation.endpoint(stage) for stage in ("dev", "prod")]
    organisation.insert("60_deploy", "parameters", "raise ValueError('broken by a test')")
    _, cd = organisation.push("break the deployment")
    organisation.restore("notebooks/60_deploy.ipynb")
    assert cd is not None and cd.stages == {"dev": "Failed", "prod": "Skipped"}
    assert cd.jobs["dev on.failure"].result == "Succeeded", cd.log()
    assert said(cd, "rollback-dev-1", "95_rollback-dev")["rolled_back"] is False
    assert [organisation.endpoint(stage) for stage in ("dev", "prod")] == before


def test_a_pull_request_is_checked_and_tested_and_trains_nothing(organisation: Organisation) -> None:
    # The real commands on a small part: whether the whole tree is clean is not this test's question.
    makefile = organisation.clone / "Makefile"
    lines = [
        line for line in makefile.read_text().splitlines() if "(BIN)/ruff" not in line and "(BIN)/mypy" not in line
    ]
    makefile.write_text("\n".join(lines).replace("(BIN)/pytest -q", "(BIN)/pytest -q tests/test_check.py") + "\n")
    commit(organisation.clone, "a proposal")
    run = organisation.service.start("pipelines/ci.yml", "PullRequest", organisation.parameters)
    organisation.restore("Makefile")
    assert run.stages == {"check": "Succeeded", "train": "Skipped"}, run.log()
    passed, failed = run.tests["make test"]
    assert passed >= 5 and failed == 0
    assert "runbook/check.py" in "".join(run.summaries)
    assert run.artifacts == {}


def test_no_secret_is_in_any_log_or_report_of_these_runs(organisation: Organisation) -> None:
    organisation.assert_nothing_published_shows()
