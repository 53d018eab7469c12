"""The body of a step page made navigable: contents, unique ids, and every table in a region that scrolls by itself."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from bs4 import BeautifulSoup, Tag
from markupsafe import Markup

WIDE = 8
_NUMBER = re.compile(r"[+\-−]?[\d,.]+(e[+-]?\d+)?\s?(%|ms|s)?|NaN|nan|None|<NA>|-?inf|…|\.\.\.|", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """One line of the contents."""

    id: str
    text: str
    failed: bool = False


def finish(body: str, taken: Iterable[str]) -> tuple[Markup, tuple[Entry, ...]]:
    """Return the body and its contents; ``taken`` are the ids that the frame of the page uses itself."""
    soup = BeautifulSoup(body, "html.parser")
    entries = tuple(_headings(soup, set(taken)))
    for table in soup.find_all("table"):
        _table(soup, table)
    _name_regions(soup)
    return Markup(soup.decode(formatter="minimal")), entries  # noqa: S704 - made of safe markup and our templates only


def _headings(soup: BeautifulSoup, taken: set[str]) -> Iterable[Entry]:
    for heading in soup.find_all(re.compile("^h[1-6]$")):
        if heading.find_parent(id="failed"):
            yield Entry("failed", "Failed cell", failed=True)
            continue
        if heading.name == "h1":
            heading.name = "h2"  # the page has one title
        anchor = heading.find("a", class_="anchor-link")
        if anchor:
            anchor.extract()
        text = " ".join(heading.get_text(" ", strip=True).split())
        name = base = re.sub(r"[^\w.-]+", "-", text).strip("-") or "section"
        number = 1
        while name in taken:
            number += 1
            name = f"{base}-{number}"
        taken.add(name)
        heading["id"] = name
        if anchor:
            anchor.attrs = {"class": "anchor-link", "href": f"#{name}", "aria-label": f"Link to {text}"}
            anchor.string = "#"
            heading.append(anchor)
        if heading.name == "h2":
            yield Entry(name, text)


def _table(soup: BeautifulSoup, table: Tag) -> None:
    if table.find_parent(class_="scroll"):
        return
    rows = table.find_all("tr")
    columns = max((len(row.find_all(["th", "td"])) for row in rows), default=0)
    for row in rows:
        cells = row.find_all(["th", "td"], recursive=False)
        if row.find_parent("thead") and not any(c.get_text(strip=True) for c in cells):
            row.decompose()  # the empty header line that markdown asks for
    if table.thead and not table.thead.find("tr"):
        table.thead.decompose()
    for cell in table.find_all("th"):
        if not cell.get_text(strip=True):
            cell.name = "td"
            cell.attrs.pop("scope", None)
        else:
            cell["scope"] = "row" if cell.find_parent("tbody") else "col"
    if "dataframe" in table.get_attribute_list("class"):
        _align(table)
        if table.tbody and not table.tbody.find("tr"):
            table.tbody.append(
                BeautifulSoup(f'<tr><td colspan="{columns}" class="words">no rows</td></tr>', "html.parser")
            )
    heading = table.find_previous(re.compile("^h[2-6]$"))
    where = _title(heading) if isinstance(heading, Tag) else "this step"
    frame = soup.new_tag("div", attrs={"class": "scroll", "role": "region", "tabindex": "0"})
    frame["aria-label"] = f"Table in {where}, {columns} columns"
    table.wrap(frame)
    if columns > WIDE:
        hint = soup.new_tag("p", attrs={"class": "hint"})
        hint.string = "Wide table; scroll sideways"
        frame.insert_before(hint)


def _align(table: Tag) -> None:
    """Mark the columns that hold words, so that they stand left and numbers stand right."""
    rows = [row.find_all(["th", "td"], recursive=False) for row in table.find_all("tr")]
    cells = [cell for row in rows for cell in row]
    if any("rowspan" in cell.attrs or "colspan" in cell.attrs for cell in cells):
        return
    for column in zip(*rows, strict=False):
        body = [cell.get_text(strip=True) for cell in column if cell.find_parent("tbody")]
        if not all(_NUMBER.fullmatch(text) for text in body):
            for cell in column:
                cell["class"] = "words"


def _title(heading: Tag) -> str:
    return " ".join(heading.get_text(" ", strip=True).split()).removesuffix("#").strip()


def _name_regions(soup: BeautifulSoup) -> None:
    # Landmarks of one name cannot be told apart in a list of landmarks.
    seen: dict[str, int] = {}
    for region in soup.find_all(True, role="region"):
        name = str(region.get("aria-label", "Output"))
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            region["aria-label"] = f"{name} ({seen[name]})"
