"""What the tests of the reports look for on a page."""

from __future__ import annotations

import re
from pathlib import Path

from bs4 import BeautifulSoup, Tag

SCRIPT = "<script>alert(1)</script>"


def read(folder: Path) -> BeautifulSoup:
    return BeautifulSoup((folder / "report.html").read_text(encoding="utf-8"), "html.parser")


def only(soup: BeautifulSoup | Tag, selector: str) -> Tag:
    found = soup.select(selector)
    assert len(found) == 1, f"{selector}: {len(found)}"
    return found[0]


def text(soup: BeautifulSoup | Tag, selector: str) -> str:
    return " ".join(only(soup, selector).get_text(" ", strip=True).split())


def assert_harmless(page: BeautifulSoup) -> None:
    assert not page.select("script, iframe, object, embed, form, input, base")
    assert all(str(e["src"]).startswith("data:image/") for e in page.select("[src]"))
    assert [e["href"] for e in page.select("link") if not str(e["href"]).startswith("data:")] == []
    assert not [a for e in page.find_all(True) for a in e.attrs if a.startswith("on")]
    assert not [
        e["href"] for e in page.select("a") if not re.match(r"#|https?:|(\.\./)?[\w.%-]+(/|\.|$)", str(e["href"]))
    ]
    policy = only(page, "meta[http-equiv=Content-Security-Policy]")["content"]
    assert str(policy).startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
    assert "url(" not in page.select("style")[0].get_text()
