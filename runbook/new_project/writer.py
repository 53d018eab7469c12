"""Copies this project into a new folder and writes the four places for another data set."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from runbook import paths
from runbook.errors import UsageError
from runbook.new_project import pipelines, places
from runbook.new_project.profile import Profile

# What is only about the data set that comes with this project.
OWN = ("data/titanic.csv", "data/README.md", "reports/sample", "tests/test_titanic.py", "docs/run-page.png")
REMOTE = "runbook"


@dataclass(frozen=True)
class NewProject:
    """The new folder, the project's name, and what was written there."""

    folder: Path
    name: str
    written: tuple[str, ...]


def create(folder: Path, profile: Profile) -> NewProject:
    """Make ``folder`` a copy of this project that is about ``profile``; raises UsageError when it exists and is not empty.

    In a git checkout the copy is a clone whose remote ``runbook`` is this checkout, so that a newer runbook can be merged
    (docs/upgrading.md). Elsewhere the files are copied and a repository is begun.
    """
    folder = folder.resolve()
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} exists and is not empty. Name a folder that does not exist yet.")
    name = project_name(folder)
    # The folder appears only when it is complete, so that a failed attempt can be repeated.
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        _copy(unfinished)
        _remove_own(unfinished)
        written = _write(unfinished, name, profile)
        _commit(unfinished, profile)
        unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return NewProject(folder, name, tuple(written))


def project_name(folder: Path) -> str:
    """Return a name for endpoints and models from the folder's name; raises UsageError when none can be made of it."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")
    # "-prod" follows, and an endpoint's name has at most 32 characters.
    name = name[:24].strip("-")
    if not re.match(r"[a-z]", name) or len(name) < 3:
        raise UsageError(
            f"The folder's name {folder.name!r} gives no project name; expected at least three letters or digits, beginning "
            "with a letter, because endpoints are named after it."
        )
    return name


def _copy(folder: Path) -> None:
    if (paths.ROOT / ".git").exists():
        _git(paths.ROOT, "clone", "--quiet", "--no-hardlinks", "--origin", REMOTE, str(paths.ROOT), str(folder))
        return
    ignored = shutil.ignore_patterns(".venv", ".runbook", "__pycache__", ".*_cache", ".git")
    shutil.copytree(paths.ROOT, folder, ignore=ignored, dirs_exist_ok=True)
    _git(folder, "init", "--quiet", "--initial-branch", "main")
    _git(folder, "add", "--all")
    _git_commit(folder, "Begin with the runbook")


def _remove_own(folder: Path) -> None:
    for name in OWN:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _write(folder: Path, name: str, profile: Profile) -> list[str]:
    (folder / "data" / profile.path.name).write_bytes(profile.data)
    for yaml in sorted(
        p for part in ("deployment", "environment_setup", "pipelines") for p in (folder / part).rglob("*.yml")
    ):
        _rename_project(yaml, name)
    _rename_project(folder / "params" / "azure.yml", name)
    texts = {
        "data/dataset.py": places.dataset(profile),
        "deployment/request.py": places.request(profile),
        "params/base.yml": places.base(name, profile),
    }
    for path, text in texts.items():
        (folder / path).write_text(text, encoding="utf-8")

    notebook = folder / "notebooks" / "20_train.ipynb"
    document = json.loads(notebook.read_text(encoding="utf-8"))
    pipelines.rewrite(document, profile)
    notebook.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for step in ("20_train", "30_evaluate"):
        _write_defaults(folder / "notebooks" / f"{step}.ipynb", profile)
    _format(folder, ["data/dataset.py", "deployment/request.py", "notebooks/20_train.ipynb"])

    _replace(folder / "README.md", r"\A# .*", f"# {name} runbook")
    return [
        f"data/{profile.path.name}",
        *texts,
        "notebooks/20_train.ipynb",
        "the limits in notebooks/30_evaluate.ipynb",
    ]


def _write_defaults(notebook: Path, profile: Profile) -> None:
    """Write the first limits into the parameters cell, because a notebook in JupyterLab reads no params file."""
    text = notebook.read_text(encoding="utf-8")
    for name, (value, _) in places.limits(profile).items():
        text = re.sub(rf"(\b{name}: float = )[\d.]+", rf"\g<1>{round(value, 4)}", text)
    notebook.write_text(text, encoding="utf-8")


def _format(folder: Path, names: list[str]) -> None:
    # The formatter belongs to the development packages; without it the files are valid and only laid out differently.
    command = [sys.executable, "-m", "ruff", "format", "--quiet", *names]
    subprocess.run(command, cwd=folder, capture_output=True, check=False)


def _rename_project(path: Path, name: str) -> None:
    # These names are literal, for people who use `az` by hand. The runbook derives its own from params/base.yml.
    text = path.read_text(encoding="utf-8")
    for old in ("Titanic survival", "Titanic Pred"):
        text = text.replace(old, name)
    text = text.replace("azureml:Titanic:", f"azureml:{name}:")
    # The artifact titanic_pred_artifact keeps its name: the pipelines, the docs and the commands speak of it.
    text = re.sub(r"\btitanic\b", name, text)
    path.write_text(text, encoding="utf-8")


def _replace(path: Path, pattern: str, replacement: str) -> None:
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(pattern, lambda _: replacement, text), encoding="utf-8")


def _commit(folder: Path, profile: Profile) -> None:
    _git(folder, "add", "--all")
    _git_commit(folder, f"Describe {profile.path.name} in the four places")


def _git_commit(folder: Path, message: str) -> None:
    author = (
        ()
        if _git(folder, "config", "--get", "user.email", check=False)
        else (
            "-c",
            "user.name=runbook new",
            "-c",
            "user.email=runbook@localhost",
        )
    )
    _git(folder, *author, "commit", "--quiet", "--message", message)


def _git(folder: Path, *words: str, check: bool = True) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True)
    if check and done.returncode:
        raise UsageError(f"git {words[0]} failed in {folder}: {done.stderr.strip()}")
    return done.stdout.strip()
