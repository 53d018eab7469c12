"""One output of a cell -> what the page shows of it, as data for the template."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bs4 import BeautifulSoup
from markupsafe import Markup, escape
from nbconvert.filters import ansi2html
from nbconvert.filters.markdown_mistune import markdown2html_mistune

from runbook.check import MIME, NOT_NEEDED_MIME, Check, Status
from runbook.report import format, markup
from runbook.report.markup import Removed

# Above this size an output is cut to its head and tail; the executed notebook beside the page keeps all of it.
LIMIT = 200_000
HEAD, TAIL = 60_000, 20_000
ROWS = 50
LONG = 30

Kind = Literal["checks", "not_needed", "html", "figure", "text", "warning", "error"]
_TABLE_TAGS = re.compile(r"<(/?)(table|tbody|tr)\b", re.IGNORECASE)
_CONTROLS = re.compile("<(input|button|select)")
_STATUSES: dict[Any, Status] = {"passed": "passed", "failed": "failed"}
_FIGURES = ("image/svg+xml", "image/png", "image/jpeg")
_SCRIPTED = ("application/javascript", "application/vnd.jupyter.widget-view+json", "application/vnd.plotly.v1+json")


@dataclass(frozen=True)
class Output:
    """One output: ``html`` is safe markup, ``text`` is a picture's address or an error's message, ``long`` asks for a frame."""

    kind: Kind
    html: Markup = Markup("")
    text: str = ""
    title: str = ""
    checks: tuple[Check, ...] = ()
    long: bool = False


def read(outputs: Sequence[Mapping[str, Any]], removed: Removed) -> tuple[Output, ...]:
    """Return what to show of a cell's outputs, in order; counts in ``removed`` what needs a network or a script."""
    return tuple(found for output in outputs if (found := _drawn(output, removed)) is not None)


def markdown(source: str, removed: Removed) -> Markup:
    """Return a markdown cell as safe markup."""
    return markup.safe(markdown2html_mistune(source), removed, prose=True)


def _drawn(output: Mapping[str, Any], removed: Removed) -> Output | None:
    try:
        return _output(output, removed)
    except Exception as error:
        # A cell may put out what the converters do not expect, such as half a colour code; its text is shown instead.
        text = (
            output.get("text") or "\n".join(output.get("traceback", [])) or output.get("data", {}).get("text/plain", "")
        )
        note = f"(This output could not be drawn: {type(error).__name__}. It is shown as text.)"
        plain = escape(format.printable(f"{_cut(str(text))}\n{note}"))
        kind: Kind = "error" if output["output_type"] == "error" else "text"
        return Output(kind, plain, str(output.get("evalue", "")), str(output.get("ename", "")))


def _output(output: Mapping[str, Any], removed: Removed) -> Output | None:
    kind = output["output_type"]
    if kind == "stream":
        return _text(output["text"], "warning" if output["name"] == "stderr" else "text")
    if kind == "error":
        message = Output("error", _ansi("\n".join(output["traceback"])), str(output["evalue"]), str(output["ename"]))
        return message if output["ename"] or output["evalue"] or output["traceback"] else None
    return _data(output["data"], removed)


def _data(data: Mapping[str, Any], removed: Removed) -> Output | None:
    if MIME in data:
        return Output("checks", checks=_checks(data[MIME]))
    if NOT_NEEDED_MIME in data:
        return Output("not_needed", text=str(dict(data[NOT_NEEDED_MIME]).get("reason", "")))
    removed.elements += any(kind in data for kind in _SCRIPTED)
    plain = str(data.get("text/plain", data.get("text/latex", "")))
    if "text/html" in data and (shown := _html(str(data["text/html"]), plain, removed)):
        return Output("html", shown)
    if "text/markdown" in data:
        return Output("html", markup.safe(markdown2html_mistune(_cut(str(data["text/markdown"]))), removed))
    for kind in _FIGURES:
        if kind in data:
            return Output("figure", text=_picture(kind, str(data[kind])))
    return _text(plain, "text")


def _html(source: str, plain: str, removed: Removed) -> Markup | None:
    # A diagram made of controls (scikit-learn's is one) reads better as its text than as its wreck.
    if _CONTROLS.search(source) and "dataframe" not in source and plain and not plain.startswith("<"):
        removed.elements += 1
        return None
    if len(source) > LIMIT:
        source = _fewer_rows(source)
    if len(source) > LIMIT:
        return None if plain else _ansi(source)
    shown = markup.safe(source, removed)
    seen = BeautifulSoup(shown, "html.parser")
    return shown if seen.get_text(strip=True) or seen.find("img") else None


def _fewer_rows(source: str) -> str:
    """Return HTML whose tables keep their first and last rows, with the number of rows left out between them.

    Works on the text: a parser needs a minute and a half for a table of 200,000 rows, to throw most of them away.
    """
    kept: list[str] = []
    end, depth = 0, 0
    rows: list[int] = []
    for tag in _TABLE_TAGS.finditer(source):
        closing, name = tag[1] == "/", tag[2].lower()
        if name == "table":
            depth += -1 if closing else 1
        elif name == "tr" and not closing and depth == 1:
            rows.append(tag.start())
        elif name == "tbody" and depth == 1 and not closing:
            rows = []
        elif name == "tbody" and depth == 1 and len(rows) > 2 * ROWS:
            note = f"<tr><td>… {len(rows) - 2 * ROWS:,} rows left out …</td></tr>"
            kept += [source[end : rows[ROWS]], note]
            end = rows[-ROWS]
    return "".join([*kept, source[end:]])


def _checks(rows: Iterable[Mapping[str, Any]]) -> tuple[Check, ...]:
    return tuple(
        Check(
            name=str(row.get("name", "")),
            wanted=str(row.get("wanted", "")),
            found=str(row.get("found", "")),
            status=_STATUSES.get(row.get("status"), "not_run"),
        )
        for row in rows
    )


def _picture(kind: str, content: str) -> str:
    encoded = b64encode(content.encode()).decode() if kind == "image/svg+xml" else re.sub(r"\s", "", content)
    return f"data:{kind};base64,{encoded}"


def _text(text: str, kind: Literal["text", "warning"]) -> Output | None:
    if not text.strip():
        return None
    return Output(kind, _ansi(text.rstrip("\n")), long=text.count("\n") > LONG)


def _ansi(text: str) -> Markup:
    # Colours beyond the sixteen names come as styles without any promise of contrast; the allow-list drops them.
    return markup.safe(ansi2html(_cut(text)), Removed())


def _cut(text: str) -> str:
    if len(text) <= LIMIT:
        return text
    left_out = len(text) - HEAD - TAIL
    return f"{text[:HEAD]}\n\n… {left_out:,} characters left out; executed.ipynb holds them …\n\n{text[-TAIL:]}"
