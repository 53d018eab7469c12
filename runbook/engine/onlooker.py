"""Shows what a service says while a step waits for it, in the terminal or pipeline log, and keeps it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from runbook import side_channel
from runbook.engine.event_log import SURROGATES, EventLog
from runbook.engine.masking import Mask

PROGRESS = "progress.log"
SECONDS = 0.5


class Onlooker:
    """Passes on what is told through the side channel while the block of one step lasts.

    Each line is masked, said with ``say``, appended to progress.log in the step's ``folder`` and to the event log.
    """

    def __init__(self, folder: Path, label: str, log: EventLog, mask: Mask, say: Callable[[str], None]) -> None:
        self._path, self._label, self._log, self._mask, self._say = folder / PROGRESS, label, log, mask, say
        self._seen = len(side_channel.progress(0))
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Onlooker:
        self._path.unlink(missing_ok=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ends.wait(SECONDS):
            self._pass_on()
        self._pass_on()

    def _pass_on(self) -> None:
        for line in side_channel.progress(self._seen):
            self._seen += 1
            said = self._mask(line)
            self._say(f"   {said}")
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a", encoding="utf-8", errors=SURROGATES) as file:
                    file.write(said + "\n")
                self._log.write("progress", self._label, said=said)
            except OSError:
                # A full disk stops the step itself; a line about its progress must not hide that.
                continue
