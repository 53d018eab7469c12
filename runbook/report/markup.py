"""HTML that cells produced, reduced to what a page without network and script can show; an allow-list, not a block-list."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bs4 import BeautifulSoup, Tag
from bs4.element import PreformattedString
from markupsafe import Markup

_KEPT = frozenset(
    "a abbr b blockquote br caption code col colgroup dd del details div dl dt em figcaption figure h1 h2 h3 h4 h5 h6 hr i "
    "img ins kbd li mark ol p pre q s samp small span strong sub summary sup table tbody td tfoot th thead tr tt u ul var".split()
)
# Gone with all they hold. A style is no loss: the page has its own.
_SILENT = frozenset({"style", "title", "template", "noscript"})
_NEEDS_MORE = frozenset(
    "applet audio base button canvas embed form frame frameset iframe input link math meta object option param picture script "
    "select source svg textarea track video".split()
)
_ATTRIBUTES = frozenset({"alt", "colspan", "rowspan", "scope", "open", "start", "dir", "lang"})
_CLASSES = re.compile(r"dataframe|highlight|anchor-link|ansi-[a-z-]+|[a-z]{1,2}[a-z0-9]?")
_PICTURE = re.compile(r"data:image/(png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=\s]+")
_OUTSIDE = re.compile(r"(https?|mailto):", re.IGNORECASE)


@dataclass
class Removed:
    """How many elements of one page were left out because they need a network or a script; grows while it is rendered."""

    elements: int = 0


def safe(source: str, removed: Removed, *, prose: bool = False) -> Markup:
    """Return ``source`` with allowed elements and attributes only, and count in ``removed`` what needed more.

    Headings keep their rank and id in ``prose`` (markdown cells); in outputs they become paragraphs. Links lead outside or
    nowhere: what a cell links to beside the notebook is not beside the page.
    """
    soup = BeautifulSoup(source, "html.parser")
    for text in soup.find_all(string=lambda t: isinstance(t, PreformattedString)):
        text.extract()  # comments, declarations, processing instructions
    for element in soup.find_all(True):
        if not element.decomposed:
            _reduce(element, removed, prose)
    return Markup(soup.decode(formatter="minimal"))  # noqa: S704 - every element was just reduced to the allow-list


def _reduce(element: Tag, removed: Removed, prose: bool) -> None:
    name = element.name.lower()
    if name in _SILENT:
        element.decompose()
    elif name in _NEEDS_MORE:
        removed.elements += 1
        element.decompose()
    elif name not in _KEPT:
        element.unwrap()
    elif name == "img" and not _PICTURE.fullmatch(str(element.get("src", ""))):
        removed.elements += 1
        element.replace_with(f"[picture not embedded: {element.get('alt') or element.get('src', '')}]")
    else:
        _attributes(element, removed, prose)
        if name == "a":
            _link(element, prose)
        elif not prose and re.fullmatch("h[1-6]", name):
            element.name = "p"


def _attributes(element: Tag, removed: Removed, prose: bool) -> None:
    kept: dict[str, str] = {}
    for key, value in element.attrs.items():
        text = " ".join(value) if isinstance(value, list) else str(value or "")
        if key in _ATTRIBUTES:
            kept[key] = text
        elif key == "class" and (names := [n for n in text.split() if _CLASSES.fullmatch(n)]):
            kept[key] = " ".join(names)
        elif (key == "src" and element.name == "img") or (key == "href" and element.name == "a"):
            kept[key] = text
        elif key == "id" and prose and re.fullmatch("h[1-6]", element.name):
            kept[key] = text
        elif key.startswith("on") or (key == "style" and "url(" in text):
            removed.elements += 1
    if element.name == "img":
        kept.setdefault("alt", "")
    element.attrs = dict(kept)


def _link(element: Tag, prose: bool) -> None:
    target = str(element.get("href", ""))
    if _OUTSIDE.match(target):
        element["rel"] = "noreferrer"
    elif not (prose and target.startswith("#") and "anchor-link" in element.get_attribute_list("class")):
        element.unwrap()
