"""Takes out of a notebook what a run or an editor adds to it; git calls this on every notebook it stores.

``make lab`` sets it up as git's clean filter "notebook" (see .gitattributes), so that opening, running and saving a
notebook changes nothing that git sees. It reads a notebook on standard input and writes it to standard output, with
the standard library only: git starts it for every notebook. What is no notebook passes through as it is.
"""

from __future__ import annotations

import json
import sys
from typing import Any

# What the committed notebooks say of their kernel; editors write the version and display name of the machine instead.
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# The cell metadata that people write on purpose; everything else is left by editors and runners.
KEPT = ("tags", "jupyter", "slideshow")


def clean(text: str) -> str:
    """Return a notebook's JSON without outputs, counts and traces of editors, as Jupyter writes it; other text unchanged."""
    try:
        notebook = json.loads(text)
    except ValueError:
        return text
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        return text

    for cell in notebook["cells"]:
        _clean_cell(cell)
    notebook["metadata"] = METADATA
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _clean_cell(cell: dict[str, Any]) -> None:
    cell["metadata"] = {key: value for key, value in cell.get("metadata", {}).items() if key in KEPT}
    if cell.get("cell_type") == "code":
        cell["outputs"] = []
        cell["execution_count"] = None


if __name__ == "__main__":
    given = sys.stdin.buffer.read()
    try:
        cleaned = clean(given.decode("utf-8")).encode("utf-8")
    except (UnicodeError, AttributeError):
        cleaned = given  # not a notebook that this filter knows: stored as it is
    sys.stdout.buffer.write(cleaned)
