"""Every kind of page in a real browser: accessible, readable in light and dark, on a desk and on a phone, and silent."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
import recorded
from small_notebooks import STEPS, executed

from runbook import report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Without these, Chromium calls home at every start.
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync"
).split()
PAGES = [
    "index.html",
    "r1/index.html",
    "r2/index.html",
    *(f"steps/{name}/report.html" for name in STEPS),
    "bare/report.html",
]
MODES: list[tuple[int, int, Literal["light", "dark"]]] = [
    (width, height, scheme) for width, height in ((1280, 900), (390, 844)) for scheme in ("light", "dark")
]


@dataclass(frozen=True)
class Seen:
    """A page in a browser, with every address it asked for."""

    page: Page
    requests: list[str]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Returns a folder with a page of every kind: green, failed and hostile steps, runs, and the list of them."""
    with executed(tmp_path_factory.mktemp("reports"), "steps") as run:
        for name in STEPS:
            report.step(run / name)
        report.run(recorded.whole("r1", day=20, log_loss=0.43))
        report.run(recorded.failed("r2"))
        broken = run.parent / "bare"
        broken.mkdir()
        report.step(broken)
        (broken / "manifest.json").write_text("{")
        report.runs(run.parent)
        yield run.parent


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH; on Debian: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(params=MODES, ids=lambda m: f"{m[0]}-{m[2]}")
def seen(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Seen]:
    width, height, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    requests: list[str] = []
    page = context.new_page()
    page.on("request", lambda r: requests.append(r.url))
    yield Seen(page, requests)
    context.close()


def show(seen: Seen, path: Path) -> None:
    seen.page.goto(path.as_uri(), wait_until="load")
    # What is folded would else be seen by nobody, a checker included.
    seen.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_accessible_asks_for_nothing_and_never_scrolls_sideways(reports: Path, seen: Seen, name: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    show(seen, reports / name)
    violations = Axe().run(seen.page).response["violations"]
    assert [(v["id"], [n["html"][:200] for n in v["nodes"]]) for v in violations] == []
    assert [u for u in seen.requests if not u.startswith(("file:", "data:"))] == []
    wide, window = seen.page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= window


@pytest.mark.parametrize("name", ["r2/index.html", "steps/80_stress_test/report.html"])
def test_the_verdict_is_on_the_first_screen(reports: Path, seen: Seen, name: str) -> None:
    seen.page.goto((reports / name).as_uri())
    verdict = seen.page.locator(".verdict").bounding_box()
    size = seen.page.viewport_size
    assert verdict and size and verdict["y"] + verdict["height"] < size["height"] / 2


@pytest.mark.parametrize("name", ["r2/index.html", "steps/20_train/report.html"])
def test_no_text_is_cut_off_outside_a_region_that_scrolls(reports: Path, seen: Seen, name: str) -> None:
    show(seen, reports / name)
    cut = seen.page.evaluate(
        """[...document.querySelectorAll('main :is(h1, h2, h3, p, pre, li, dt, dd, figcaption, summary)')]
           .filter(e => !e.closest('.scroll') && e.clientWidth && e.scrollWidth > e.clientWidth + 1)
           .map(e => e.outerHTML.slice(0, 120))"""
    )
    assert cut == []


def test_one_click_leads_from_the_run_to_the_open_failed_cell(reports: Path, seen: Seen) -> None:
    seen.page.goto((reports / "r2" / "index.html").as_uri())
    seen.page.get_by_role("link", name="Open the failed cell").click()
    assert seen.page.url.endswith("80_stress_test-prod/report.html#failed")
    assert seen.page.locator("#failed").is_visible()


def test_every_stop_of_the_keyboard_can_be_seen(reports: Path, seen: Seen) -> None:
    seen.page.goto((reports / "steps" / "80_stress_test" / "report.html").as_uri())
    unseen, stops = [], 0
    for _ in range(40):
        seen.page.keyboard.press("Tab")
        stop = seen.page.evaluate(
            "e = document.activeElement, e === document.body ? null : [e.outerHTML, getComputedStyle(e).outlineStyle]"
        )
        if stop is None:
            break
        stops += 1
        unseen += [stop[0]] if stop[1] == "none" else []
    assert stops > 5
    assert unseen == []


def test_paper_is_light_even_when_the_screen_is_dark(reports: Path, browser: Browser) -> None:
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto((reports / "steps" / "80_stress_test" / "report.html").as_uri())
    page.emulate_media(media="print")
    look = page.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    assert look == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    assert page.locator("nav.contents").is_hidden()
    assert page.locator("#failed .source").is_visible()
    context.close()
