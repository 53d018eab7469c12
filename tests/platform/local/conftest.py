"""Clouds for the tests of the local platform: one shared by the tests that only send requests, or one's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from local_cloud import Cloud, build

from runbook import paths


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    mine = build(tmp_path)
    for stage in ("dev", "prod"):
        mine.edit(stage, environment_variables={"WORKER_COUNT": "1"})  # starts in half the time
    monkeypatch.setattr(paths, "DEPLOYMENT", mine.files)
    yield mine
    mine.platform.down()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Both stages, dev short of time and patience: blue is live, green has no traffic."""
    mine = build(tmp_path_factory.mktemp("shared"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "DEPLOYMENT", mine.files)
        mine.edit("prod", scale_settings={"type": "default"}, instance_count=1)
        for stage in ("dev", "prod"):
            mine.edit(stage, request_settings={"request_timeout_ms": 1500, "max_queue_wait_ms": 700})
        mine.serve("dev")
        mine.serve("prod")
        mine.platform.deploy("prod", "green", mine.model("2"))
        yield mine
        mine.platform.down()


@pytest.fixture
def both(shared: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    monkeypatch.setattr(paths, "DEPLOYMENT", shared.files)
    return shared
