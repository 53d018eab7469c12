"""The page of a run, its summary and its JUnit file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pages
import pytest
import recorded
from bs4 import BeautifulSoup
from pages import SCRIPT, assert_harmless, only, text
from recorded import CI, DEV, PROD, check, endpoint, failed, whole, write

from runbook import handoff, report
from runbook.errors import RunError
from runbook.report import evidence, verdict


def page(folder: Path) -> BeautifulSoup:
    return BeautifulSoup(report.run(folder).read_text(encoding="utf-8"), "html.parser")


def junit(folder: Path) -> ElementTree.Element:
    report.run(folder)
    return ElementTree.fromstring((folder / "junit.xml").read_bytes())  # noqa: S314 - made by us, a line above


def rows(soup: BeautifulSoup, section: str) -> list[str]:
    return [r.get_text(" ", strip=True) for r in soup.select(f"section[aria-labelledby={section}] tbody tr")]


def test_a_released_model_is_the_headline(tmp_path: Path) -> None:
    soup = page(whole())
    assert text(soup, ".verdict .headline") == "Promoted: model 12 serves prod"
    assert "New, and not worse than the champion. Dev and prod serve model 12." in text(soup, ".verdict")
    assert only(soup, "title").get_text() == "Passed: run r1"


def test_a_model_that_does_not_serve_prod_is_not_called_promoted() -> None:
    soup = page(whole(endpoints=[endpoint("prod", "11")]))
    assert text(soup, ".verdict .headline") == "Promote: model 12 is registered and ready for release"
    assert "Prod serves model 11." in text(soup, ".verdict")


def test_hold_is_green_and_says_which_model_stays() -> None:
    soup = page(whole(word="hold", version=11))
    assert text(soup, ".verdict .headline") == "Hold: model 11 stays, nothing had to be released"
    assert only(soup, ".verdict").get("class") == ["verdict", "passed"]


def test_a_step_by_hand_that_was_killed_is_gone_on_with_by_that_step() -> None:
    command = ".venv/bin/runbook step 95_rollback --stage prod"
    soup = page(write("r1", [("95_rollback", "prod", "not_run")], status="running", seconds=None, command=command))
    assert f"Go on with: {command} --run-id r1" in text(soup, ".verdict")


def test_a_hold_that_released_changed_scoring_code_says_so() -> None:
    recorded.metadata("r1", "hold", version="11")
    rows = [(s, stage, "not_needed" if s == "40_register" else status) for s, stage, status in [*CI, *DEV, *PROD]]
    soup = page(write("r1", rows, endpoints=[endpoint("prod", "11")]))
    assert text(soup, ".verdict .headline") == "Released on dev and prod: model 11 stays, its deployment is new"


def test_a_criterion_that_does_not_speak_for_promotion_is_no_failure_on_hold() -> None:
    whole(word="hold")
    recorded.metadata("r1", "hold", verdict="failed", found="the champion's own", interval=None)
    gate = rows(page(recorded.folder("r1")), "gates")[1]
    assert gate == "log loss on the holdout ≤ 0.46 the champion's own Not met"


def test_a_failed_run_says_where_why_what_serves_and_links_the_cell() -> None:
    folder = failed()
    soup = page(folder)
    assert text(soup, ".verdict .headline") == "Failed at stress test, prod: sustained p95, in ms"
    assert "Expected ≤ 150, found 412.7." in text(soup, ".verdict")
    assert "Dev serves model 12 and prod serves model 11." in text(soup, ".verdict")
    link = str(only(soup, ".verdict a")["href"])
    assert link == "80_stress_test-prod/report.html#failed"
    assert (folder / link.partition("#")[0]).exists()
    assert "12 passed, 1 failed, 1 not run" in text(soup, ".facts")


def test_a_refused_candidate_is_the_headline_and_prod_is_said_to_be_untouched() -> None:
    recorded.metadata("r1", "fail", found=0.5112, verdict="failed")
    steps = [
        (s, stage, "failed" if s == "30_evaluate" else "passed" if s < "30" else "not_run")
        for s, stage, _ in [*CI, *DEV, *PROD]
    ]
    soup = page(write("r1", steps, status="failed", endpoints=[endpoint("prod", "11")]))
    assert text(soup, ".verdict .headline") == "Do not release: the candidate failed its evaluation"
    assert "Log loss on the holdout: found 0.5112, expected at most 0.46." in text(soup, ".verdict")
    assert "Prod serves model 11. No step of prod ran." in text(soup, ".verdict")
    assert "log loss on the holdout ≤ 0.46 0.5112 0.36 to 0.48 Failed" in rows(soup, "gates")


def test_gates_show_wanted_found_and_uncertainty_and_name_what_was_not_reached() -> None:
    gates = rows(page(failed()), "gates")
    assert "log loss minus the champion's ≤ 0.01, the whole interval −0.0031 −0.011 to 0.0052 Passed" in gates
    assert "sustained p95, in ms ≤ 150 412.7 Failed" in gates
    waiting = write("r2", [*CI, ("70_functional_test", "dev", "not_run")], status="failed")
    assert rows(page(waiting), "gates")[-2:] == ["Functional test, dev", "All checks to hold – Not run"]


def test_the_comparison_is_with_the_last_run_that_reached_the_step() -> None:
    recorded.metadata("r1", "promote", log_loss=0.50)
    write("r1", [*CI, *DEV], p95=40.0, started="2026-11-20T10:00:00+00:00")
    recorded.metadata("r2", "promote", log_loss=0.43)
    write("r2", [*CI, ("80_stress_test", "dev", "not_run")], started="2026-11-21T10:00:00+00:00", status="failed")
    recorded.metadata("r3", "promote", log_loss=0.42)
    write("r3", [*CI, *DEV], p95=60.0, started="2026-11-22T10:00:00+00:00")
    found = rows(page(recorded.folder("r3")), "compared")
    assert found[:2] == [
        "Model, cross-validated, compared with r2",
        "log loss 0.4200 0.400 to 0.440 0.4300 −0.0100 within noise",
    ]
    assert "Stress test, dev, compared with r1" in found
    assert "p95 60.0 ms 40.0 ms +20.0 ms worse" in found


@pytest.mark.parametrize("other", [{"plan": "cd"}, {"target": "azure"}, {"started": "2026-11-23T10:00:00+00:00"}])
def test_runs_of_another_plan_target_or_a_later_day_are_not_compared_with(other: dict[str, Any]) -> None:
    whole("r1", **{"day": 20, **other})
    assert "nothing to compare with yet" in rows(page(whole("r2", day=22)), "compared")[0]


def test_a_run_copied_from_another_machine_is_not_compared_with() -> None:
    whole("r1", day=20).rename(recorded.folder("sample"))
    assert "nothing to compare with yet" in rows(page(whole("r2", day=22)), "compared")[0]


def test_an_unreadable_run_beside_it_does_not_break_a_page() -> None:
    recorded.folder("old").mkdir(parents=True)
    (recorded.folder("old") / "manifest.json").write_text('{"schema_version": "0.9"}')
    assert "nothing to compare with yet" in rows(page(whole()), "compared")[0]


def test_what_changed_since_the_run_before_is_said_item_by_item() -> None:
    whole("r1", day=20, version=11)
    changed = rows(page(whole("r2", day=22, version=12)), "changed")
    assert changed[0] == f"Commit {recorded.COMMIT[:8]} {recorded.COMMIT[:8]} same"
    assert changed[-1] == "Version Titanic:12 Titanic:11 changed"


OURS = {"released_by": "r1", "released_in": "90_release"}
NOTHING = "Nothing to undo: this run moved no traffic here"


def test_the_way_back_is_a_command_per_stage() -> None:
    soup = page(whole(endpoints=[endpoint("dev", "12", **OURS), endpoint("prod", "12", "11", **OURS)]))
    serves = text(soup, "section[aria-labelledby=serves]")
    undo = ".venv/bin/runbook step 95_rollback --stage prod -p only_release_of=r1 back to model 11"
    assert undo in serves and undo.replace("prod", "dev").replace("back to model 11", "nobody was served") in serves
    assert "/api/v1/service/titanic-prod/score" in serves


def test_a_run_offers_to_undo_only_what_it_changed_itself() -> None:
    before = {"released_by": "r0", "released_in": "90_release"}
    taken_back = {"released_by": "r1", "released_in": "95_rollback"}
    rows = [("60_deploy", "dev", "failed"), ("60_deploy", "prod", "not_run")]
    for fields in ({}, before):
        served = [endpoint("dev", "11", **fields), endpoint("prod", "11", **fields)]
        serves = text(page(write("r1", rows, status="failed", endpoints=served)), "section[aria-labelledby=serves]")
        assert serves.count(NOTHING) == 2 and "99_teardown" not in serves and "95_rollback" not in serves
    rows += [("90_release", "prod", "failed"), ("95_rollback", "prod", "passed")]
    soup = page(write("r1", rows, status="failed", endpoints=[endpoint("prod", "11", "12", **taken_back)]))
    assert NOTHING in text(soup, "section[aria-labelledby=serves]")
    assert "broken off" not in text(soup, ".verdict")
    assert "The release to prod was rolled back." in text(soup, ".verdict")


@pytest.mark.parametrize("served", [[], [endpoint("prod", "12", "11", **OURS)]], ids=["not asked", "moved"])
@pytest.mark.parametrize("rollback", ["", "cancelled", "failed"])
def test_a_release_that_was_broken_off_and_not_taken_back_is_said_with_the_command(
    served: list[dict[str, Any]], rollback: str
) -> None:
    rows = [("90_release", "prod", "cancelled"), *([("95_rollback", "prod", rollback)] if rollback else [])]
    folder = write("r1", rows, status="cancelled", endpoints=served, target="azure")
    undo = ".venv/bin/runbook step 95_rollback --run-id r1 --stage prod --target azure"
    said = f"The release to prod was broken off. Take it back with: {undo}"
    assert said in text(page(folder), ".verdict") and said in (folder / "summary.md").read_text().replace("\\", "")
    report.step(folder / "90_release-prod")
    assert said in text(pages.read(folder / "90_release-prod"), ".verdict")


def test_every_page_of_a_red_run_says_how_to_go_on() -> None:
    folder = recorded.failed()
    go_on = "Go on with: .venv/bin/runbook run --resume r1"
    assert go_on in text(page(folder), ".verdict") and go_on in (folder / "summary.md").read_text().replace("\\", "")
    assert go_on in text(pages.read(folder / "80_stress_test-prod"), ".verdict")
    assert "--resume" not in text(page(whole("r2")), ".verdict")


def test_a_run_of_single_steps_goes_on_with_the_step_that_failed() -> None:
    first = 'runbook step 60_deploy --stage prod --target azure --run-id 42 --from "a b"'
    rows = [("60_deploy", "prod", "passed"), ("70_functional_test", "prod", "failed")]
    folder = write("42", rows, status="failed", command=first, target="azure", plan="cd")
    again = ".venv/bin/runbook step 70_functional_test --run-id 42 --stage prod --target azure"
    assert f"Go on with: {again}" in text(page(folder), ".verdict")


LOOSENED = {
    "20_train": [],
    "60_deploy-dev": [{"name": "model_name", "value": "Try", "plain": "Titanic", "source": "-p"}],
    "80_stress_test-dev": [{"name": "max_p99_ms", "value": 5000.0, "plain": 1000.0, "source": "test.yml"}],
    "80_stress_test-prod": [
        {"name": "max_p99_ms", "value": 5000.0, "plain": 1000.0, "source": "test.yml"},
        {"name": "arrival_seed", "value": 7, "plain": 1, "source": "-p"},
    ],
    "95_rollback-prod": [{"name": "confirm_requests", "value": 5, "plain": 20, "source": "-p"}],
}


def test_a_limit_that_was_loosened_is_marked_before_everything_else_on_the_page_of_a_run() -> None:
    folder = whole(given=LOOSENED)
    soup = page(folder)
    assert "3 values differ from the plain command's: max_p99_ms, model_name and arrival_seed." in text(
        soup, ".verdict"
    )
    assert rows(soup, "given") == [
        "max_p99_ms 5000.0 1000.0 test.yml 80_stress_test-dev, 80_stress_test-prod",
        "model_name Try Titanic -p 60_deploy-dev",
        "arrival_seed 7 1 -p 80_stress_test-prod",
    ]
    first = next(h for h in soup.select("main h2"))
    assert first["id"] == "given"
    assert "| max_p99_ms | 5000.0 | 1000.0 | test.yml |" in (folder / "summary.md").read_text()
    assert not page(whole("r2")).select("#given")


def test_a_changed_value_is_marked_first_on_the_page_of_its_step() -> None:
    folder = whole(given=LOOSENED)
    recorded.result("r1", "80_stress_test", "prod", "passed", parameters={"run_id": "r1", "max_p99_ms": 5000.0})
    report.step(folder / "80_stress_test-prod")
    soup = pages.read(folder / "80_stress_test-prod")
    changed = soup.select(".parameters .changed")
    assert [c.get_text(" ", strip=True) for c in changed] == [
        "max_p99_ms 5000.0 plain command 1000.0, changed by test.yml"
    ]
    assert soup.select(".parameters > div")[0] is changed[0]
    assert "Values changed 2 of 2" in text(soup, ".facts")


WAIVED = {
    "name": "max_p99_ms",
    "value": 5000.0,
    "plain": 1000.0,
    "source": "params/gate.yml: slow; Ada; until 2999-01-31",
}


def test_a_limit_that_gate_yml_loosens_is_shown_with_its_reason_on_every_page() -> None:
    folder = whole(given={"80_stress_test-dev": [WAIVED], "60_deploy-dev": LOOSENED["60_deploy-dev"]})
    recorded.result("r1", "80_stress_test", "dev", "passed", parameters={"run_id": "r1", "max_p99_ms": 5000.0})
    soup = page(folder)
    assert "params/gate.yml loosens 1 limit: max_p99_ms. 1 value differs" in text(soup, ".verdict")
    assert "params/gate.yml: slow; Ada; until 2999-01-31" in rows(soup, "given")[0]
    assert "params/gate.yml: slow; Ada; until 2999-01-31" in (folder / "summary.md").read_text()
    report.step(folder / "80_stress_test-dev")
    changed = pages.read(folder / "80_stress_test-dev").select_one(".parameters .changed strong")
    assert changed is not None
    assert changed.get_text() == "default 1000.0, changed by params/gate.yml: slow; Ada; until 2999-01-31"


def test_slices_with_too_few_rows_are_one_line_of_the_gates() -> None:
    folder = whole()
    path = folder / "metadata" / "decision.json"
    document = json.loads(path.read_text())
    row = {"wanted": "at most 0.1, 12 rows", "found": 0.01, "interval": [-0.2, 0.2], "verdict": "unsure"}
    names = ("under 14", "50 and over")
    document["criteria"] += [{**row, "name": f"slice {name}: log loss minus the champion's"} for name in names]
    path.write_text(json.dumps(document))
    told = [line for line in rows(page(folder), "gates") if "Unsure" in line]
    assert told == ["2 slices with too few rows to tell to be shown under 14 and 50 and over Unsure"]


def test_a_step_without_a_result_is_shown_as_not_run_with_the_reason() -> None:
    folder = whole()
    (folder / "90_release-prod" / "result.json").unlink()
    (folder / "80_stress_test-prod" / "result.json").write_text("{")
    soup = page(folder)
    table = " ".join(r.get_text(" ", strip=True) for r in soup.select("main > .scroll tbody tr"))
    assert "90_release result.json is missing." in table
    assert "80_stress_test result.json is not JSON" in table
    assert "12 passed, 2 not run" in text(soup, ".facts")
    assert text(soup, ".verdict .headline") != "Promoted: model 12 serves prod"


def test_provenance_names_model_data_commit_lock_people_and_digests() -> None:
    soup = page(whole(dirty=True, source_run="ci-7"))
    provenance = only(soup, "main > .pairs").get_text(" ", strip=True)
    for words in (
        f"Titanic:12, sha256 {recorded.HEX}",
        f"data/titanic.csv, 891 rows, sha256 {recorded.HEX}",
        f"{recorded.COMMIT}, with uncommitted changes",
        f"Lock of packages sha256 {recorded.HEX}",
        "rivera on build-7, Python 3.11.7",
        "Command runbook run all",
        "Result of CI from ci-7",
    ):
        assert words in provenance
    assert re.search("manifest.json sha256 [0-9a-f]{64}", provenance)


def test_a_run_that_goes_on_says_so_and_how_to_go_on() -> None:
    rows = [("20_train", None, "passed"), ("30_evaluate", None, "not_run")]
    soup = page(write("r1", rows, status="running", seconds=None))
    assert text(soup, ".verdict .headline") == "Running: 1 of 2 steps done"
    assert ".venv/bin/runbook run --resume r1" in text(soup, ".verdict")


def test_a_run_without_a_manifest_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="manifest.json is missing"):
        report.run(tmp_path)


@pytest.mark.parametrize("folder", ["../../etc", "/etc", "..", "", f"a{SCRIPT}b"])
def test_a_folder_in_a_manifest_can_not_lead_out_of_its_run(folder: str) -> None:
    made = recorded.manifest("r1", [("60_deploy", "dev", "passed")])
    text_ = (
        (made / "manifest.json")
        .read_text()
        .replace('"folder": "60_deploy-dev"', f'"folder": {recorded.quoted(folder)}')
    )
    (made / "manifest.json").write_text(text_)
    soup = page(made)
    assert_harmless(soup)
    assert not soup.select("main > .scroll tbody a")


def hostile() -> Path:
    """Write a run in which every text is an attack, and return its folder."""
    evil = f'"><{SCRIPT}|\x1b[31m\x00\ud800 [x](https://example.org) `a` *b*\n# c'
    recorded.metadata("r1", "promote", name=evil, wanted=evil, found=evil)
    error = {"class": evil, "message": evil, "cell": evil}
    told = [check(evil, "failed", evil, evil), check(evil, "not_run", evil, evil)]
    recorded.result("r1", "70_functional_test", "dev", "failed", title=evil, error=error, checks=told)
    served = {**endpoint("dev", evil, evil), "scoring_uri": evil, "traffic": {evil: 100}, "name": evil}
    said = dict.fromkeys(("command", "user", "host", "python", "commit", "source_run", "started"), evil)
    return recorded.manifest(
        "r1", [("70_functional_test", "dev", "failed")], status="failed", endpoints=[served], **said
    )


def test_hostile_text_is_shown_as_text_on_the_page_of_a_run() -> None:
    soup = page(hostile())
    assert_harmless(soup)
    assert str(soup).count("alert(1)") > 10
    assert not re.search("[\x00\x1b]", str(soup))


def test_hostile_text_stays_text_in_the_summary() -> None:
    folder = hostile()
    report.run(folder)
    summary = (folder / "summary.md").read_text(encoding="utf-8")
    assert "<" not in summary.replace("&lt;", "")
    assert not re.search(r"(?<!\\)\]\(https", summary)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in summary.splitlines() if line.startswith("|")} == {6}


def test_the_summary_is_a_verdict_tables_and_a_line_of_steps_per_stage() -> None:
    folder = failed()
    report.run(folder)
    summary = (folder / "summary.md").read_text(encoding="utf-8")
    assert summary.startswith(
        "### ❌ Failed at stress test, prod: sustained p95, in ms\n\nExpected ≤ 150, found 412.7."
    )
    assert "\n\n| Step | Gate | Expected | Found | Result |\n|:--|" in summary, (
        "a table without a blank line before it is no table"
    )
    assert "| Stress test, prod | sustained p95, in ms | ≤ 150 | 412.7 | ❌ Failed |" in summary
    assert "❌ 80_stress_test (12 s) → ⬜ 90_release" in summary
    assert "[index.html](index.html)" in summary
    assert "<" not in summary


def test_junit_has_a_suite_per_step_and_a_case_per_check() -> None:
    suites = junit(failed())
    assert len(suites) == 14
    stress = suites.findall("testsuite[@name='80_stress_test-prod']")[0]
    assert [c.get("name") for c in stress] == ["sustained p95, in ms", "80_stress_test-prod ran to its end"]
    failure = stress[0].find("failure")
    assert failure is not None and failure.get("message") == "expected at most 150, found 412.7"
    assert stress[1].find("skipped") is not None


def test_junit_carries_the_error_of_a_red_step_without_a_failed_check() -> None:
    error = {"class": "KernelDied", "message": "killed\nfrom outside", "cell": "train"}
    recorded.result("r1", "20_train", None, "failed", error=error, checks=[check("it holds")])
    suites = junit(
        recorded.manifest("r1", [("20_train", None, "failed"), ("30_evaluate", None, "not_run")], status="failed")
    )
    found = suites.find("testsuite[@name='20_train']/testcase[@name='20_train ran to its end']/error")
    assert found is not None and (found.get("type"), found.get("message"), found.text) == (
        "KernelDied",
        "killed",
        "killed\nfrom outside",
    )
    assert (suites.get("tests"), suites.get("failures"), suites.get("errors"), suites.get("skipped")) == (
        "3",
        "0",
        "1",
        "1",
    )


@pytest.mark.parametrize("make", [whole, failed, hostile])
def test_junit_counts_are_right(make: Any) -> None:
    suites = junit(make())
    for suite in [suites, *suites]:
        cases = list(suite.iter("testcase"))
        assert int(suite.get("tests", "")) == len(cases)
        for key, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.get(key, "")) == len(list(suite.iter(tag)))


def test_rendering_a_run_again_gives_the_same_bytes() -> None:
    folder = whole()
    first = [(report.run(folder).parent / name).read_bytes() for name in ("index.html", "summary.md", "junit.xml")]
    report.run(folder)
    assert [(folder / name).read_bytes() for name in ("index.html", "summary.md", "junit.xml")] == first


def test_a_value_that_is_no_number_is_not_compared() -> None:
    folder = whole()
    recorded.save_handoff(
        "r1", "80_stress_test", "prod", p95_ms="fast", p99_ms=None, error_percent=True, sustained={"p50_ms": 12.0}
    )
    assert [r.split()[0:2] for r in rows(page(folder), "compared")][-1] == ["sustained", "p50"]
    assert handoff.load("80_stress_test", "r1", "prod")["p95_ms"] == "fast"


def rehearsed(**fields: Any) -> Path:
    return whole(target="azure", rehearsal=True, **fields)


def test_a_rehearsal_is_titled_so_and_never_reads_as_green_on_azure() -> None:
    folder = rehearsed()
    soup = page(folder)
    assert only(soup, "title").get_text() == "REHEARSAL: run r1"
    assert only(soup, "h1").get_text() == "REHEARSAL: From data to production"
    assert only(soup, ".verdict").get("class") == ["verdict", "rehearsed"]
    assert text(soup, ".verdict .headline") == "REHEARSAL: Promoted: model 12 serves prod"
    assert "nothing of this happened on Azure" in text(soup, ".verdict")
    assert "In the stand-in dev and prod serve model 12." in text(soup, ".verdict")
    assert "on the azure (rehearsal) target" in text(soup, ".lead")
    assert not soup.find(string=re.compile("What serves now")) and not soup.find(string="Undo")
    summary = (folder / "summary.md").read_text()
    assert summary.startswith("### 🎭 REHEARSAL: ") and "target azure (rehearsal)" in summary
    assert "- in the stand-in prod serves model 12" in summary


def test_a_failed_rehearsal_stays_red() -> None:
    soup = page(write("r1", [("20_train", None, "failed")], status="failed", target="azure", rehearsal=True))
    assert only(soup, "title").get_text() == "REHEARSAL: Failed: run r1"
    assert only(soup, ".verdict").get("class") == ["verdict", "failed"]


def test_each_test_of_a_rehearsal_says_that_it_is_one() -> None:
    document = junit(rehearsed())
    assert document.get("name") == "REHEARSAL r1"
    names = [suite.get("name", "") for suite in document] + [c.get("classname", "") for c in document.iter("testcase")]
    assert all(name.startswith("REHEARSAL ") for name in names)


def test_a_rehearsal_is_rendered_from_the_evidence_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    views = ("index.html", "summary.md", "junit.xml")
    monkeypatch.setenv("RUNBOOK_REHEARSAL", "1")
    folder = rehearsed()
    report.run(folder)
    before = [(folder / name).read_bytes() for name in views]
    monkeypatch.delenv("RUNBOOK_REHEARSAL")
    report.run(folder)
    assert [(folder / name).read_bytes() for name in views] == before


def test_a_run_on_azure_is_not_compared_with_a_rehearsal() -> None:
    whole("real", day=20, target="azure")
    whole("rehearsal", day=21, target="azure", rehearsal=True)
    assert "compared with real" in page(whole("next", day=22, target="azure")).get_text()
    assert "compared with rehearsal" in page(rehearsed(run_id="again", day=23)).get_text()


def test_the_way_back_names_the_target_that_serves() -> None:
    assert ".venv/bin/runbook step 95_rollback --stage prod --target azure" in page(whole(target="azure")).get_text()


@pytest.mark.parametrize(("target", "uri", "warned"), [
    ("azure", "http://20.1.2.3/api/v1/endpoint/titanic-prod/score", True),
    ("azure", "https://titanic.example.org/api/v1/endpoint/titanic-prod/score", False),
    ("local", "http://127.0.0.1:8180/api/v1/service/titanic-prod/score", False),
])  # fmt: skip
def test_prod_without_tls_is_a_warning_on_page_and_summary(target: str, uri: str, warned: bool) -> None:
    folder = whole(target=target, endpoints=[{**endpoint("prod", "12"), "scoring_uri": uri}])
    assert ("Requests and keys travel unencrypted" in text(page(folder), "section[aria-labelledby=serves]")) == warned
    assert ("Requests and keys travel unencrypted" in (folder / "summary.md").read_text()) == warned


def test_a_run_is_not_shown_as_passed_when_the_verdict_of_one_step_is_red_or_missing() -> None:
    for status in ("cancelled", "failed"):
        folder = recorded.manifest("r1", [("20_train", None, status), ("49_delete_compute", None, "passed")])
        recorded.result("r1", "20_train", None, status)
        recorded.result("r1", "49_delete_compute", None, "passed")
        assert evidence.run(folder).status == status
    recorded.result("r1", "20_train", None, "passed")
    assert evidence.run(folder).status == "failed"  # the row is red, whatever an earlier attempt has left
    folder = recorded.manifest("r2", [("20_train", None, "passed")])
    assert evidence.run(folder).status == "cancelled"
    assert verdict.of(evidence.run(folder)).headline.startswith("Cancelled")
