"""Tells the runner what a kernel knows besides outputs: secrets it has read, the operation it waits for, its progress.

A kernel is a process of its own. The runner's mask does not know the keys that a platform reads there, and a kernel that
was interrupted can no longer say what it had started. So a kernel writes both into a private folder that its runner made,
before it goes on; the runner reads them whenever it masks a text or explains how a cell ended.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from runbook import paths

FOLDER = "RUNBOOK_SIDE_CHANNEL"
_SECRETS, _OPERATION, _PROGRESS = "secrets.jsonl", "operation.json", "progress.jsonl"


@contextlib.contextmanager
def opened(target: str) -> Iterator[None]:
    """Keep a channel for the kernels of one run on ``target``; the caller holds the target's lock.

    The folder is readable by its owner only and is removed at the end. What a killed runner left is removed first.
    """
    folder = paths.home() / "side-channel" / target
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    before = os.environ.get(FOLDER)
    os.environ[FOLDER] = str(folder)
    try:
        yield
    finally:
        os.environ.pop(FOLDER) if before is None else os.environ.update({FOLDER: before})
        shutil.rmtree(folder, ignore_errors=True)


def tell_secrets(*values: str) -> None:
    """Tell the runner that these values are secrets; without a runner do nothing.

    Call it before the values can reach an output. Raises OSError when it cannot be written, so that no secret goes on
    unmasked.
    """
    folder = _folder()
    if folder is None:
        return
    lines = "".join(json.dumps(value) + "\n" for value in values if value)
    with open(folder / _SECRETS, "a", encoding="utf-8", opener=_privately) as file:
        file.write(lines)


def secrets() -> list[str]:
    """Return every secret that the kernels of this run have told so far."""
    folder = _folder()
    if folder is None or not (folder / _SECRETS).exists():
        return []
    return [str(json.loads(line)) for line in (folder / _SECRETS).read_text(encoding="utf-8").splitlines()]


def tell_progress(line: str) -> None:
    """Tell the onlooker of the run what a service says while a cell or a job waits for it; without a runner do nothing."""
    folder = _folder()
    if folder is None:
        return
    # An onlooker's line is no reason to fail: the operation itself goes on.
    with contextlib.suppress(OSError), open(folder / _PROGRESS, "a", encoding="utf-8", opener=_privately) as file:
        file.write(json.dumps(line) + "\n")


def progress(seen: int) -> list[str]:
    """Return what was told after the first ``seen`` lines of progress; a line that is still being written comes later."""
    folder = _folder()
    if folder is None or not (folder / _PROGRESS).exists():
        return []
    whole = (folder / _PROGRESS).read_text(encoding="utf-8").rpartition("\n")[0]
    return [str(json.loads(line)) for line in whole.splitlines()[seen:]]


@contextlib.contextmanager
def waiting(what: str, look: str) -> Iterator[None]:
    """Tell the runner that ``what`` goes on while the block waits for it; ``look`` is the command that shows its state.

    The note is taken back when the block ends or raises an error. It stays when the block is interrupted or its process is
    killed, because the operation goes on then.
    """
    folder = _folder()
    if folder is None:
        yield
        return
    path = folder / _OPERATION
    began = dt.datetime.now(dt.UTC).strftime("%H:%M:%S UTC")
    with open(path, "w", encoding="utf-8", opener=_privately) as file:
        json.dump({"what": what, "look": look, "began": began}, file)
    try:
        yield
    except Exception:
        path.unlink(missing_ok=True)
        raise
    path.unlink(missing_ok=True)


def forget_operation() -> None:
    """Forget the operation of an earlier step."""
    folder = _folder()
    if folder is not None:
        (folder / _OPERATION).unlink(missing_ok=True)


def going_on() -> str:
    """Return a sentence on the operation that a kernel left going on, and what to do; empty when there is none."""
    folder = _folder()
    if folder is None or not (folder / _OPERATION).exists():
        return ""
    try:
        note = json.loads((folder / _OPERATION).read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        return ""  # the kernel died while it wrote
    return (
        f"It had begun {note['what']} ({note['began']}), and the service goes on with it.\n"
        f"Next: see how far it is: {note['look']}\n"
        "Then run the step again: it waits for what goes on and takes what is there."
    )


def _folder() -> Path | None:
    name = os.environ.get(FOLDER)
    return Path(name) if name else None


def _privately(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
