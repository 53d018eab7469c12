"""An executed notebook -> its story: title, what it is about, its parameters, and every cell as the page shows it."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import nbformat
from markupsafe import Markup
from nbconvert.filters import Highlight2HTML

from runbook.report import format, markup, outputs
from runbook.report.evidence import StepRun
from runbook.report.markup import Removed
from runbook.report.outputs import Output

# Papermill marks a failure with cells of its own; the page has its own way of saying it.
_BANNERS = "papermill-error"
_OPTION = re.compile(r"^#\|\s*([\w-]+):\s*(.+?)\s*$\n?", re.MULTILINE)


@dataclass(frozen=True)
class Parameter:
    """One line of the parameters cell."""

    default: str
    meaning: str


@dataclass(frozen=True)
class Cell:
    """One cell; ``prose`` is a markdown cell's markup, the rest is a code cell's."""

    prose: Markup = Markup("")
    label: str = ""
    source: Markup = Markup("")
    lines: int = 0
    seconds: float | None = None
    status: Literal["", "failed", "not_run"] = ""
    outputs: tuple[Output, ...] = ()
    alt: str = ""
    caption: str = ""


@dataclass(frozen=True)
class Story:
    """What the page tells of a notebook; ``problem`` says why there is none."""

    title: str = ""
    lead: Markup = Markup("")
    about: Markup = Markup("")
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    cells: tuple[Cell, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    removed: int = 0
    problem: str = ""


def read(path: Path, result: StepRun) -> Story:
    """Return the story of an executed notebook; one that is missing or broken becomes a story with a ``problem``."""
    if not path.exists():
        return Story(problem="The step left no executed notebook; this page is made from result.json alone.")
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except (ValueError, KeyError, AttributeError, TypeError, OSError, nbformat.ValidationError) as error:
        return Story(
            problem=f"executed.ipynb cannot be read ({format.short(str(error), 120)}); this page is made from result.json alone."
        )
    return _story(notebook, result)


def _story(notebook: Any, result: StepRun) -> Story:
    removed = Removed()
    cells = [c for c in notebook.cells if not any(t.startswith(_BANNERS) for t in c.metadata.get("tags", []))]
    title, lead, about = _opening(cells)
    failed = _failed(cells, result)
    shown = [
        _markdown(c, removed) if c.cell_type == "markdown" else _code(c, failed is c, removed)
        for c in _told(cells[1:] if title else cells, failed)
    ]
    own = notebook.metadata.get("papermill", {})
    language = notebook.metadata.get("language_info", {})
    return Story(
        title=title or "",
        lead=outputs.markdown(lead, removed),
        about=outputs.markdown(about, removed),
        parameters=_parameters(cells),
        cells=tuple(shown),
        versions={"papermill": str(own.get("version", "")), "Python": str(language.get("version", ""))},
        removed=removed.elements,
    )


def _opening(cells: Sequence[Any]) -> tuple[str | None, str, str]:
    """Split the first cell into title, one-line purpose, and the rest."""
    source = cells[0].source if cells and cells[0].cell_type == "markdown" else ""
    if not source.startswith("# "):
        return None, "", ""
    title, _, rest = source[2:].partition("\n")
    lead, _, about = rest.strip().partition("\n\n")
    if lead.startswith("|"):
        return title.strip(), "", rest.strip()
    return title.strip(), lead, about.strip()


def _told(cells: Sequence[Any], failed: Any) -> list[Any]:
    """Return the cells that the body tells: without the parameters and the heading that only leads to them."""
    kept: list[Any] = []
    for cell in cells:
        if cell.cell_type == "raw" or (cell.cell_type == "code" and not cell.source.strip()):
            continue
        if cell is not failed and {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", [])):
            if kept and kept[-1].cell_type == "markdown" and kept[-1].source.startswith("## Parameters"):
                kept.pop()
            continue
        kept.append(cell)
    return kept


def _failed(cells: Sequence[Any], result: StepRun) -> Any:
    """Return the cell that stopped the step: the one the runner names, else the first with an error; None when green."""
    if result.status not in ("failed", "cancelled"):
        return None
    code = [c for c in cells if c.cell_type == "code"]
    named = next((c for c in code if result.failure and c.get("id") == result.failure.cell), None)
    return named or next((c for c in code if any(o.output_type == "error" for o in c.outputs)), None)


def _markdown(cell: Any, removed: Removed) -> Cell:
    return Cell(prose=outputs.markdown(cell.source, removed))


def _code(cell: Any, failed: bool, removed: Removed) -> Cell:
    options = dict(_OPTION.findall(cell.source))
    source = _OPTION.sub("", cell.source).strip("\n")
    first = next((line for line in source.splitlines() if line.strip()), "")
    label = first.lstrip("# ").strip() or first or "Code"
    seconds = cell.metadata.get("papermill", {}).get("duration")
    return Cell(
        label=label,
        source=_highlighted(source),
        lines=len(source.splitlines()),
        seconds=seconds if isinstance(seconds, int | float) else None,
        status="failed" if failed else "not_run" if cell.execution_count is None else "",
        outputs=outputs.read(cell.outputs, removed),
        alt=options.get("fig-alt", "") or f"Figure: {options.get('fig-cap', label)}",
        caption=options.get("fig-cap", ""),
    )


def _highlighted(source: str) -> Markup:
    return markup.safe(Highlight2HTML(pygments_lexer="ipython3")(source), Removed())


def _parameters(cells: Sequence[Any]) -> dict[str, Parameter]:
    """Return the defaults and meanings of the tagged cell; a cell that is no Python declares nothing."""
    source = next((c.source for c in cells if "parameters" in c.metadata.get("tags", [])), "")
    try:
        statements = ast.parse(source).body
    except SyntaxError:
        return {}  # the cell itself failed then, and the page shows it
    found, lines = {}, source.splitlines()
    for statement in statements:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
            _, _, comment = lines[(statement.end_lineno or 1) - 1][statement.end_col_offset or 0 :].partition("#")
            found[statement.target.id] = Parameter(_literal(statement.value), comment.strip())
    return found


def _literal(node: ast.expr) -> str:
    try:
        return value(ast.literal_eval(node))
    except ValueError:
        return ast.unparse(node)


def value(found: Any) -> str:
    """Return a parameter's value as words: text without quotes, everything else as Python writes it."""
    return found if isinstance(found, str) else repr(found)
