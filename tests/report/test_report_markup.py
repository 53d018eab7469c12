"""What becomes of the HTML that cells produce, and of numbers and times."""

from __future__ import annotations

from typing import Any

import pytest
from bs4 import BeautifulSoup

from runbook.report import format, outline, outputs
from runbook.report.markup import Removed, safe


@pytest.mark.parametrize(
    ("source", "shown", "removed"),
    [
        ("<b>kept</b><script>alert(1)</script>", "<b>kept</b>", 1),
        ("<scr<script>ipt>alert(1)</script>", "ipt&gt;alert(1)", 0),
        (
            '<b onclick="x()" id="failed" class="verdict dataframe" style="color:red">kept</b>',
            '<b class="dataframe">kept</b>',
            1,
        ),
        ('<i style="background:url(https://example.org)">kept</i>', "<i>kept</i>", 1),
        ("<style>body{display:none}</style><!-- <b>note</b> --><blink>kept</blink>", "kept", 0),
        ("<h1>loud</h1>", "<p>loud</p>", 0),
        ('<img alt="a plot" src="plot.png">', "[picture not embedded: a plot]", 1),
        ('<img src="data:image/png;base64,AAAA">', '<img alt="" src="data:image/png;base64,AAAA"/>', 0),
        ('<img src="data:text/html;base64,AAAA">', "[picture not embedded: data:text/html;base64,AAAA]", 1),
        ('<a href="https://example.org">out</a>', '<a href="https://example.org" rel="noreferrer">out</a>', 0),
        ('<a href="60_deploy.ipynb">beside</a><a href="java&#115;cript:x">in</a>', "besidein", 0),
        ("<svg><script>1</script></svg><form><input></form>", "", 2),
        (
            "<details open><summary>more</summary>text</details>",
            '<details open=""><summary>more</summary>text</details>',
            0,
        ),
    ],
)
def test_html_of_a_cell_is_reduced_to_what_is_allowed(source: str, shown: str, removed: int) -> None:
    count = Removed()
    assert str(safe(source, count)) == shown
    assert count.elements == removed


def test_prose_keeps_its_headings_and_loses_links_to_notebooks() -> None:
    shown = outputs.markdown(
        "## 1. Go\n\n[90_release](90_release.ipynb) and [x](javascript:alert(1)) <script>1</script>", Removed()
    )
    assert '<h2 id="1.-Go">' in shown
    assert "90_release" in shown and "ipynb" not in shown and "javascript" not in shown and "script" not in shown


def data(**bundle: Any) -> list[dict[str, Any]]:
    return [
        {"output_type": "display_data", "data": {k.replace("_", "/"): v for k, v in bundle.items()}, "metadata": {}}
    ]


def test_a_diagram_made_of_controls_is_shown_as_its_text() -> None:
    removed = Removed()
    diagram = '<style>x</style><div><input type="checkbox"><label>Pipeline</label></div>'
    (shown,) = outputs.read(data(text_html=diagram, text_plain="Pipeline(steps=[...])"), removed)
    assert (shown.kind, str(shown.html)) == ("text", "Pipeline(steps=[...])")
    assert removed.elements == 1


def test_a_table_keeps_its_place_even_when_a_script_came_with_it() -> None:
    source = "<table><tr><td>1</td></tr></table><script>1</script>"
    (shown,) = outputs.read(data(text_html=source, text_plain="<IPython.core.display.HTML object>"), Removed())
    assert shown.kind == "html" and "<table>" in shown.html


def test_html_without_anything_to_see_is_shown_as_its_text() -> None:
    (shown,) = outputs.read(data(text_html="<script>draw()</script>", text_plain="a plot of losses"), Removed())
    assert str(shown.html) == "a plot of losses"


def test_an_output_nobody_can_show_leaves_nothing_and_is_counted() -> None:
    removed = Removed()
    assert outputs.read(data(**{"application_javascript": "x"}), removed) == ()
    assert removed.elements == 1


def test_ids_that_the_page_uses_itself_are_not_given_away() -> None:
    body, entries = outline.finish('<h2 id="failed">failed</h2><h2>failed</h2><h1>Big</h1><h2>?</h2>', taken=["failed"])
    assert [e.id for e in entries] == ["failed-2", "failed-3", "Big", "section"]
    assert "<h1" not in body


def test_an_empty_frame_says_that_it_has_no_rows() -> None:
    body, _ = outline.finish(
        '<table class="dataframe"><thead><tr><th></th><th>a</th></tr></thead><tbody></tbody></table>', []
    )
    assert '<td class="words" colspan="2">no rows</td>' in body


def test_a_wide_table_says_so_before_it_is_read() -> None:
    body, _ = outline.finish(f"<table><tr>{'<td>1</td>' * 9}</tr></table>", [])
    assert body.startswith(
        '<p class="hint">Wide table; scroll sideways</p><div aria-label="Table in this step, 9 columns"'
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.0034, "3 ms"),
        (0.9999, "1.0 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (3599.7, "1 h 00 min"),
        (7930, "2 h 12 min"),
    ],
)
def test_a_duration_is_told_in_its_own_unit(seconds: float | None, text: str) -> None:
    assert format.took(seconds) == text


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        ("at least 3 and at most 6", "≥ 3 and ≤ 6"),
        ("at most the limit", "at most the limit"),
        ("one of a, b", "one of a, b"),
    ],
)
def test_a_bound_is_shown_as_a_sign(wanted: str, shown: str) -> None:
    assert format.wish(wanted) == shown


@pytest.mark.parametrize("text", ["yesterday", "", "2026-13-01"])
def test_a_time_that_is_none_is_no_moment(text: str) -> None:
    assert format.moment(text) is None


def test_times_are_told_in_utc() -> None:
    assert format.when("2026-11-22T23:16:00+01:00") == "2026-11-22 22:16 UTC"
    assert format.when("2026-11-22T22:16:00") == "2026-11-22 22:16 UTC"


def table(rows: int) -> str:
    body = "".join(f"<tr><th>{n}</th><td>a request with some words, as it was sent</td></tr>" for n in range(rows))
    return f'<div><table class="dataframe"><thead><tr><th></th><th>sent</th></tr></thead><tbody>{body}</tbody></table></div>'


# Drawing took 25 s for a tenth of these rows when the table was parsed before it was cut; now it takes 1 s.
@pytest.mark.timeout(60)
def test_a_table_of_200_000_rows_is_cut_with_a_count_before_it_is_drawn() -> None:
    html = {"output_type": "display_data", "data": {"text/html": table(200_000), "text/plain": "rows"}}
    (shown,) = outputs.read([html], Removed())
    soup = BeautifulSoup(shown.html, "html.parser")
    cells = [row.get_text(" ", strip=True).split()[0] for row in soup.select("tbody tr")]
    assert cells == [*map(str, range(50)), "…", *map(str, range(199_950, 200_000))]
    assert "… 199,900 rows left out …" in soup.get_text()


def test_each_long_table_of_an_output_is_cut_by_itself_and_a_short_one_stays_whole() -> None:
    nested = "<table><tbody><tr><td>" + table(3) + "</td></tr></tbody></table>"
    html = {"output_type": "display_data", "data": {"text/html": table(4_000) + nested + table(5_000)}}
    (shown,) = outputs.read([html], Removed())
    found = BeautifulSoup(shown.html, "html.parser").get_text(" ")
    assert "3,900 rows left out" in found and "4,900 rows left out" in found and found.count("left out") == 2
    assert len(BeautifulSoup(shown.html, "html.parser").select("table table tbody tr")) == 3
