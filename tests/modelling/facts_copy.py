"""A copy of data/dataset.py and its CSV, for tests that put something wrong into one of them."""

from __future__ import annotations

import ast
import csv
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runbook.lint import four_places
from runbook.modelling import description


@dataclass
class FactsCopy:
    """The two files of a copy; the package reads them instead of the project's own."""

    path: Path
    data: Path

    def set(self, name: str, value: str) -> None:
        """Replace the definition of ``name`` by an assignment of ``value``, as Python text."""
        lines = self.path.read_text(encoding="utf-8").splitlines()
        first, last = self._lines(name)
        lines[first - 1 : last] = [f"{name} = {value}"]
        self.path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def where(self, name: str) -> str:
        """Return the place of a definition as a message should name it."""
        return f"data/dataset.py:{self._lines(name)[0]}"

    def rewrite(self, change: Callable[[list[list[str]]], None]) -> None:
        """Change the rows of the CSV, the header first, and write its new digest and number of rows."""
        rows = list(csv.reader(io.StringIO(self.data.read_text(encoding="utf-8-sig"))))
        change(rows)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self.data.write_text(text.getvalue(), encoding="utf-8")
        self.set("SHA256", repr(hashlib.sha256(self.data.read_bytes()).hexdigest()))
        self.set("ROWS", str(len(rows) - 1))

    def problems(self) -> str:
        """Return what the check of the four places says, which must be one line."""
        description.description.cache_clear()
        found = four_places.problems()
        assert len(found) == 1, found
        assert "\n" not in found[0]
        return found[0]

    def _lines(self, name: str) -> tuple[int, int]:
        for node in ast.parse(self.path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name == name:
                return node.lineno, node.end_lineno or node.lineno
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if any(isinstance(t, ast.Name) and t.id == name for t in targets):
                return node.lineno, node.end_lineno or node.lineno
        raise AssertionError(f"data/dataset.py does not define {name}")
