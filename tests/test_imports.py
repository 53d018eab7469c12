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
ENGINE = {
    "cli",
    "console",
    "show",
    "plan",
    "step",
    "params",
    "anatomy",
    "rules",
    "events",
    "report",
    "manifest",
    "lock",
    "pipelines",
}
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


@pytest.mark.parametrize("path", [p for p in MODULES if room(p).startswith("platform.")], ids=room)
def test_a_platform_never_imports_the_engine(path: Path) -> None:
    assert not {name.split(".")[0] for name in imported(path)} & ENGINE


@pytest.mark.parametrize(
    "path", [p for p in MODULES if not room(p).startswith(("platform", "cli", "show", "__init__"))], ids=room
)
def test_only_the_command_line_knows_which_platforms_there_are(path: Path) -> None:
    reached = {name for name in imported(path) if name.startswith("platform.")}
    assert not {name for name in reached if name.startswith(("platform.local", "platform.azure"))}


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
            "import runbook.plan, runbook.show, runbook.platform; runbook.platform.open('local')",
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
