"""Reads repository, branch and commit from git, or from what was passed on to a job."""

from __future__ import annotations

import os
import subprocess
from urllib.parse import urlsplit, urlunsplit

from runbook import paths

# A job's snapshot has no history, so whoever sends the job passes the facts on; the names are those of run.json.
VARIABLES = {
    "git_repository_uri": "RUNBOOK_GIT_REPOSITORY_URI",
    "git_branch": "RUNBOOK_GIT_BRANCH",
    "git_commit": "RUNBOOK_GIT_COMMIT",
    "git_dirty": "RUNBOOK_GIT_DIRTY",
}
# This file: git knows it in every checkout of the project.
OURS = "runbook/git.py"


def facts() -> dict[str, str | bool | None]:
    """Return where the code comes from, in the names of run.json; None for what nobody can tell here."""
    status = git("status", "--porcelain")
    # A repository around an unpacked copy, such as one of a home directory, knows nothing of our files.
    if status is None or git("ls-files", "--error-unmatch", "--", OURS) is None:
        return _passed_on()
    return {
        "git_repository_uri": _without_login(git("config", "--get", "remote.origin.url")),
        "git_branch": git("rev-parse", "--abbrev-ref", "HEAD"),
        "git_commit": git("rev-parse", "HEAD"),
        "git_dirty": status != "",
    }


def commit() -> tuple[str | None, bool | None]:
    """Return the commit of the code here and whether it has uncommitted changes; None for what cannot be told."""
    found = facts()
    name, dirty = found["git_commit"], found["git_dirty"]
    return (name if isinstance(name, str) else None), (dirty if isinstance(dirty, bool) else None)


def variables() -> dict[str, str]:
    """Return the facts as environment variables, for a job that gets a copy without history; unknown ones are left out."""
    known = {name: value for name, value in facts().items() if value is not None}
    return {VARIABLES[n]: str(v).lower() if isinstance(v, bool) else v for n, v in known.items()}


def _passed_on() -> dict[str, str | bool | None]:
    found: dict[str, str | bool | None] = {name: os.environ.get(v) or None for name, v in VARIABLES.items()}
    dirty = found["git_dirty"]
    return {**found, "git_dirty": None if dirty is None else dirty == "true"}


def git(*words: str) -> str | None:
    """Return what a git command says of this checkout, or None: a copy without history, or no git, cannot tell."""
    command = ["git", "-C", str(paths.ROOT), *words]
    # A git hook sets GIT_DIR and others, which would turn every question into one about its own repository.
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True, env=own)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _without_login(uri: str | None) -> str | None:
    # A build agent's remote may carry a token before the @.
    if uri is None or "://" not in uri:
        return uri
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
