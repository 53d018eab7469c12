"""The state of an endpoint in memory and in files: what holds while the files cannot be written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runbook.errors import PlatformError
from runbook.platform.local.controller import state
from runbook.platform.local.controller.state import Endpoint
from runbook.platform.local.controller.state_store import HISTORY, Book
from runbook.platform.local.haproxy import config
from runbook.platform.local.haproxy.router import Router


@pytest.fixture
def book(tmp_path: Path) -> Book:
    folder = tmp_path / "titanic-dev"
    endpoint = Endpoint(str(tmp_path), "titanic-dev", "dev", "managed", 8601, {})
    book = Book(folder, endpoint, Router(folder, tmp_path / "s"))
    book.commit(note="before")
    return book


def block(book: Book) -> Path:
    """Let every write fail, also for root: where the folder was, there is a file."""
    away = book.folder.rename(book.folder.with_name("away"))
    book.folder.write_text("")
    return away


def unblock(book: Book, away: Path) -> None:
    book.folder.unlink()
    away.rename(book.folder)


def on_disk(book: Book) -> Endpoint:
    found = state.load(book.folder / "state.json")
    assert found is not None
    return found


def test_a_wish_that_cannot_be_written_changes_nothing_and_says_so(book: Book) -> None:
    away = block(book)
    with pytest.raises(PlatformError, match="cannot be written.*Make room"):
        book.commit(port=8603)
    assert book.state.port == 8601
    unblock(book, away)
    assert book.flush()
    assert on_disk(book) == book.state
    assert "127.0.0.1:8601" in (book.folder / config.CONFIG).read_text()


def test_a_fact_that_cannot_be_written_counts_at_once_and_reaches_the_disk_later(book: Book) -> None:
    away = block(book)
    book.follow(port=8603)
    assert book.state.port == 8603 and book.unsaved
    unblock(book, away)
    assert on_disk(book).port == 8601
    assert book.flush() and not book.unsaved
    assert on_disk(book) == book.state
    assert "127.0.0.1:8603" in (book.folder / config.CONFIG).read_text()


def test_the_history_goes_on_after_a_line_that_could_not_be_written(book: Book) -> None:
    book.note("blue", 1)
    away = block(book)
    book.note("blue", 2)
    unblock(book, away)
    book.note("blue", 2)
    lines = (book.folder / HISTORY).read_text().splitlines()
    assert [json.loads(line)["wanted"] for line in lines if line] == [1, 2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_log_line_that_cannot_be_written_ends_nothing() -> None:
    words = "from runbook.platform.local.controller.state_store import say; say('ready', replica='r1')"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-u", "-c", words], stdout=full, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert (done.returncode, done.stderr) == (0, b"")
