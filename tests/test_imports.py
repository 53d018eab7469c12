"""The arrows between the rooms: who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from runbook import paths
from runbook.lint.notebooks import OWN_MODULES

PACKAGE = paths.ROOT / "runbook"
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Names below runbook that a file imports, such as "platform.base" or "errors"."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "runbook":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("runbook."):
            module = (node.module or "").removeprefix("runbook.")
            names |= {f"{module}.{alias.name}" for alias in node.names} | {module}
        elif isinstance(node, ast.Import):
            names |= {a.name.removeprefix("runbook.") for a in node.names if a.name.startswith("runbook.")}
    return names


def room(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def within(*folders: str) -> list[Path]:
    return [p for p in MODULES if room(p).startswith(tuple(f"{folder}." for folder in folders))]


def parts(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", within("platform"), ids=room)
def test_a_platform_never_imports_the_engine_the_report_or_the_command_line(path: Path) -> None:
    assert not parts(path) & {"engine", "report", "cli", "lint", "new_project"}


@pytest.mark.parametrize("path", within("engine"), ids=room)
def test_the_engine_knows_the_protocol_of_platforms_and_no_platform(path: Path) -> None:
    reached = {name for name in imported(path) if name.startswith("platform.")}
    assert {name for name in reached if not name.startswith(("platform.base", "platform.files"))} == set()


@pytest.mark.parametrize("path", within("report"), ids=room)
def test_the_report_never_imports_the_engine(path: Path) -> None:
    assert not parts(path) & {"engine", "cli", "lint", "new_project", "platform"}


@pytest.mark.parametrize("path", [p for p in MODULES if room(p) != "cli" and p not in within("lint")], ids=room)
def test_only_the_command_line_imports_the_lint(path: Path) -> None:
    assert "lint" not in parts(path)


@pytest.mark.parametrize("path", within("modelling", "testing"), ids=room)
def test_what_notebooks_use_knows_nothing_of_what_runs_them(path: Path) -> None:
    assert not parts(path) & {"engine", "report", "cli", "lint", "new_project"}


@pytest.mark.parametrize("path", [p for p in MODULES if not room(p).startswith("platform.azure")], ids=room)
def test_the_azure_sdk_is_imported_only_by_the_azure_platform(path: Path) -> None:
    nodes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Import | ast.ImportFrom)]
    names = [a.name for n in nodes if isinstance(n, ast.Import) for a in n.names]
    names += [n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)]
    assert not [name for name in names if name.split(".")[0] in ("azure", "msrest")]


def test_errors_imports_nothing_of_ours() -> None:
    assert imported(PACKAGE / "errors.py") == set()


@pytest.mark.parametrize("path", sorted(paths.NOTEBOOKS.glob("*.ipynb")), ids=lambda p: p.stem)
def test_a_notebook_imports_of_ours_only_what_notebooks_use(path: Path) -> None:
    found: set[str] = set()
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.ImportFrom) and node.module == "runbook":
                    found |= {a.name for a in node.names}
                elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("runbook."):
                    found.add((node.module or "").split(".")[1])
    assert found <= OWN_MODULES


@pytest.mark.parametrize(
    ("work", "allowed"),
    [
        ("import runbook; runbook.connect('local').binding()", ()),
        # papermill itself reaches for the Azure storage libraries when they are installed; none of ours may follow.
        (
            "import runbook.engine.plan, runbook.engine.text, runbook.platform; runbook.platform.open('local')",
            ("azure.identity", "azure.core"),
        ),
    ],
    ids=["kernel", "runner"],
)
def test_the_local_target_imports_no_azure_module(work: str, allowed: tuple[str, ...]) -> None:
    source = f"import sys; {work}; print(*sorted(m for m in sys.modules if m.startswith(('azure', 'runbook.platform.azure'))))"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120, check=True)
    strange = [
        m for m in done.stdout.split() if not (m == "azure" or m.startswith((*allowed, "azure.storage")) and allowed)
    ]
    assert strange == []
