"""The frame of every page: the templates, the style, and how a file gets written."""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from runbook.report import format

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> str:
    """Return a template of this package with every value escaped, unless it is Markup."""
    return _environment().get_template(template).render(css=_css(), **values)


def write(path: Path, text: str) -> Path:
    """Write a page in one move, so that nobody ever opens half of it; returns the path."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            # A lone surrogate in somebody's output must not cost the page.
            file.write(text.encode("utf-8", "replace"))
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(took=format.took, when=format.when, wish=format.wish)
    environment.globals.update(words=format.STATUS, count=format.count)
    return environment


def _printable(value: Any) -> Any:
    return value if isinstance(value, Markup) or not isinstance(value, str) else format.printable(value)


@functools.cache
def _css() -> Markup:
    # The style is ours and never closes its own element, so it may stand in the page as it is.
    return Markup((TEMPLATES / "page.css").read_text(encoding="utf-8"))  # noqa: S704
