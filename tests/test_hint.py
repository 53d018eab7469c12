"""Every command that a message, a page or a notebook shows can be pasted in the checkout."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import nbformat
import pytest

from runbook import hint, paths

# A command of ours without the folder it lies in, which no shell finds: the environment is not on PATH.
BARE = re.compile(r"(?<![\w/.])runbook (run|step|plan|check|endpoint|status|down|report|verify)\b")


def shown(path: Path) -> list[str]:
    """Return the texts of a file that people read: strings of a module, prose of a notebook, a page's template."""
    if path.suffix == ".ipynb":
        return [str(cell.source) for cell in nbformat.read(path, as_version=4).cells]
    if path.suffix != ".py":
        return [path.read_text(encoding="utf-8")]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    described = [n for n in ast.walk(tree) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)]
    # The command line prints its docstrings as help; no other docstring is shown.
    hidden = {ast.get_docstring(n, clean=False) for n in described if path.name != "cli.py"}
    strings = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return [text for text in strings if text not in hidden]


PLACES = [
    *sorted((paths.ROOT / "runbook").rglob("*.py")),
    *sorted((paths.ROOT / "runbook" / "report" / "templates").glob("*.j2")),
    *sorted(paths.NOTEBOOKS.glob("*.ipynb")),
]


@pytest.mark.parametrize("path", PLACES, ids=lambda p: p.name)
def test_no_text_shows_a_command_that_a_shell_does_not_find(path: Path) -> None:
    assert [text for text in shown(path) if BARE.search(text)] == []


def test_a_hint_is_a_command_that_can_be_pasted_in_the_checkout() -> None:
    command = hint.step("60_deploy", "r1", "prod", "azure")
    assert command == ".venv/bin/runbook step 60_deploy --run-id r1 --stage prod --target azure"
    assert shlex.split(hint.line("run", "all", "-p", "name=two words"))[-1] == "name=two words"


def test_the_command_stands_where_the_setup_puts_it() -> None:
    setup = (paths.ENVIRONMENT_SETUP / "install-requirements.sh").read_text(encoding="utf-8")
    assert f"[ -x {hint.RUNBOOK} ]" in setup
