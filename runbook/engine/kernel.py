"""Kernels for notebooks of a run: this interpreter, this checkout's package, sockets that only this user can open.

Papermill asks Jupyter which kernel is called ``python3``, and Jupyter asks the user's folders and environment. A run may
not depend on either: its evidence says which commit ran, so the kernel has to be of this checkout.
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient.util import run_sync
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.log import logger

from runbook import paths
from runbook.errors import KernelUnusable

NAME = "runbook"
START_SECONDS = 60
# A socket's path has 107 bytes on Linux and 103 on macOS; mkdtemp and the names of the sockets add 21 of them.
LONGEST_PLACE = 80
PREFIX, HELD = "runbook-k-", "held"
# What changes where Python finds its modules, or runs code of the user's before that of the notebook. ``GIT_`` is set by
# git's hooks and would make every question about this checkout one about another repository.
FOREIGN = re.compile(
    r"PYTHON(PATH|HOME|STARTUP|USERBASE|PLATLIBDIR|INSPECT|OPTIMIZE)$|IPYTHON|JUPYTER_|JPY_|GIT_(?!PYTHON_)"
)


class Specs(KernelSpecManager):
    """Knows one kernel, whatever is asked for: ipykernel under this interpreter."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Return how the kernel is started."""
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        # Level 50 keeps the banner of every kernel's start out of the log that is shown when it dies.
        return KernelSpec(argv=[*command, "--IPKernelApp.log_level=50"], display_name="Python 3", language="python")


class Client(PapermillNotebookClient):  # type: ignore[misc]
    """Executes a notebook's cells once the kernel has shown which package it imports."""

    started = False

    def papermill_execute_cells(self) -> None:
        """Execute every cell; raises KernelUnusable when the kernel runs another interpreter or package than this one."""
        self.started = True
        questions = {"package": "__import__('runbook').__file__", "interpreter": "__import__('sys').executable"}
        asked = self.kc.execute("", silent=True, store_history=False, user_expressions=questions)
        answers = self.wait_for_reply(asked)["content"].get("user_expressions", {})
        expected = {"package": str(paths.ROOT / "runbook" / "__init__.py"), "interpreter": sys.executable}
        for name, path in expected.items():
            found = _answer(answers.get(name, {}))
            if found != path:
                raise KernelUnusable(f"The kernel's {name} is {found}, expected {path}: it would run other code.")
        super().papermill_execute_cells()


class Engine(NBClientEngine):  # type: ignore[misc]
    """Papermill's engine with a kernel of ours."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> None:
        """Execute a notebook; raises KernelUnusable, with the kernel's last words, when the kernel does not start."""
        wanted = ("on_cell_start", "on_cell_executed", "timeout_func", "iopub_timeout")
        traits = {name: options[name] for name in wanted}
        with private_folder() as place, (place / "log").open("wb") as log:
            # Sockets in this folder instead of ports: the channel of outputs asks nobody for a key.
            kernel = AsyncKernelManager(
                kernel_name=kernel_name,
                kernel_spec_manager=Specs(),
                transport="ipc",
                ip=str(place / "s"),
                connection_file=str(place / "connection.json"),
            )
            client = Client(nb_man, km=kernel, log=logger, startup_timeout=START_SECONDS, **traits)
            try:
                client.execute(cleanup_kc=True, env=environment(place), stdout=log, stderr=log)
            except RuntimeError as error:
                if client.started:
                    raise
                raise KernelUnusable(f"The kernel did not start: {error}\n{_tail(place / 'log')}".strip()) from error
            finally:
                # An interrupt while the kernel starts leaves the process to us.
                if kernel.has_kernel:
                    run_sync(kernel.shutdown_kernel)(now=True)


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a kernel: this process's, without what would make it import or run other code."""
    kept = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
    # IPython reads its profile, with the user's start-up files, from IPYTHONDIR.
    return {**kept, "PYTHONPATH": str(paths.ROOT), "PYTHONNOUSERSITE": "1", "IPYTHONDIR": str(folder / "ipython")}


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """Make a folder that only this user can enter, with a path short enough for sockets; it is removed at the end."""
    places = [os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp"]  # noqa: S108 - mkdtemp makes it private
    usable = [p for p in places if p and len(os.fsencode(p)) <= LONGEST_PLACE and os.access(p, os.W_OK | os.X_OK)]
    if not usable:
        raise KernelUnusable(
            f"No folder for the kernel's sockets: TMPDIR is {tempfile.gettempdir()!r}, expected one of at most "
            f"{LONGEST_PLACE} bytes that can be written. Set it, for example: export TMPDIR=/tmp"
        )
    _sweep(Path(usable[0]))
    made = Path(tempfile.mkdtemp(prefix=PREFIX, dir=usable[0]))
    with (made / "new").open("wb") as lock:
        # Held as long as this process lives. It gets its name when it is held, so that no other run takes it before.
        fcntl.flock(lock, fcntl.LOCK_EX)
        (made / "new").rename(made / HELD)
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)


def _sweep(place: Path) -> None:
    """Remove the folders of runners that were killed: those of this user whose lock is held by no process."""
    for held in place.glob(f"{PREFIX}*/{HELD}"):
        with contextlib.suppress(OSError), held.open("rb") as lock:
            if held.parent.lstat().st_uid == os.getuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(held.parent, ignore_errors=True)


def _answer(answer: Mapping[str, Any]) -> str:
    if answer.get("status") != "ok":
        return f"unknown ({answer.get('ename', 'no answer')}: {answer.get('evalue', '')})"
    return str(ast.literal_eval(answer["data"]["text/plain"]))


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-2000:].strip()


papermill_engines.register(NAME, Engine)
