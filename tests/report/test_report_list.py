"""The list of runs, and the two signs that point to the newest one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import recorded
from bs4 import BeautifulSoup
from pages import SCRIPT, assert_harmless, text
from recorded import endpoint, failed, whole

from runbook import paths, report


def listed() -> BeautifulSoup:
    return BeautifulSoup(report.runs(paths.reports()).read_text(encoding="utf-8"), "html.parser")


def lines(soup: BeautifulSoup) -> list[str]:
    for twice in soup.select(".narrow-only"):
        twice.decompose()
    return [r.get_text(" ", strip=True) for r in soup.select("tbody tr")]


def test_the_newest_run_comes_first_with_what_it_came_to() -> None:
    whole("r1", day=20)
    report.run(failed("r2"))
    soup = listed()
    assert lines(soup) == [
        "r2 2026-11-22 22:16 UTC Failed Failed at stress test, prod: sustained p95, in ms all local 0.4203 – 3 min 04 s 26e51d9f",
        "r1 2026-11-20 10:00 UTC Passed Promoted: model 12 serves prod all local 0.4200 – 3 min 04 s 26e51d9f",
    ]
    assert [a["href"] for a in soup.select("tbody a")] == ["r2/index.html"], "r1 has no page to link to"


def test_latest_names_the_newest_run_as_a_link_and_as_text() -> None:
    whole("r1", day=20)
    listed()
    whole("r2", day=21)
    listed()
    reports = paths.reports()
    assert (reports / "latest.txt").read_text() == "r2\n"
    assert os.readlink(reports / "latest") == "r2"
    assert not list(reports.glob(".latest*"))


def test_latest_itself_is_not_listed_as_a_run() -> None:
    whole("r1")
    listed()
    assert len(lines(listed())) == 1


def test_a_latest_that_is_somebodys_folder_is_left_alone() -> None:
    whole("r1")
    (paths.reports() / "latest").mkdir()
    listed()
    assert not (paths.reports() / "latest").is_symlink()
    assert (paths.reports() / "latest.txt").read_text() == "r1\n"


def test_a_run_copied_from_elsewhere_is_listed_but_never_the_latest() -> None:
    whole("r1", day=25).rename(paths.reports() / "sample")
    whole("r2", day=20)
    assert lines(listed())[0].startswith("r1 (in sample)")
    assert (paths.reports() / "latest.txt").read_text() == "r2\n"


@pytest.mark.parametrize(
    "content", ["{", "[]", "null", '{"schema_version": "2.0"}', '{"schema_version": "1.0"}', "\xff", f'"{SCRIPT}"']
)
def test_an_unreadable_run_is_listed_last_with_the_reason(content: str) -> None:
    whole("r1")
    old = paths.reports() / "old"
    old.mkdir()
    (old / "manifest.json").write_bytes(content.encode("latin-1"))
    soup = listed()
    assert_harmless(soup)
    assert lines(soup)[0].startswith("r1")
    assert lines(soup)[1].startswith("old Unreadable manifest.json")
    assert (paths.reports() / "latest.txt").read_text() == "r1\n"


def test_a_place_without_runs_says_how_to_make_one() -> None:
    paths.reports().mkdir(parents=True)
    assert "make run" in text(listed(), "main")
    assert not (paths.reports() / "latest.txt").exists()


def test_a_hostile_run_stays_text() -> None:
    evil = f'r1"><{SCRIPT}'
    recorded.manifest("r1", [], run_id=evil, commit=evil, endpoints=[endpoint("prod", evil)])
    (paths.reports() / "r1").rename(paths.reports() / "a'><b>\"")
    report.run(paths.reports() / "a'><b>\"")
    soup = listed()
    assert_harmless(soup)
    assert SCRIPT in lines(soup)[0]


def test_writing_a_page_leaves_nothing_half_done(tmp_path: Path) -> None:
    whole("r1")
    report.run(recorded.folder("r1"))
    assert not [p for p in recorded.folder("r1").rglob(".*")]


def test_a_rehearsal_is_listed_as_one() -> None:
    whole("r1", day=20, target="azure", rehearsal=True)
    (line,) = lines(listed())
    assert line.startswith(
        "r1 2026-11-20 10:00 UTC Rehearsed REHEARSAL: Promoted: model 12 serves prod all azure (rehearsal)"
    )
