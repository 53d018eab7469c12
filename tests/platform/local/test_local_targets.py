from __future__ import annotations

from pathlib import Path

import pytest

from runbook import paths
from runbook.errors import PlatformError, UsageError
from runbook.platform import base
from runbook.platform.base import Platform
from runbook.platform.local import LocalPlatform, machine, state_dir
from runbook.platform.local.machine import Machine


@pytest.fixture
def platform() -> LocalPlatform:
    return LocalPlatform()


def test_the_local_platform_speaks_the_whole_protocol(platform: LocalPlatform) -> None:
    spoken: Platform = platform
    assert spoken.target == "local"
    verbs = [name for name in vars(Platform) if not name.startswith("_") and callable(getattr(Platform, name))]
    assert [verb for verb in verbs if not callable(getattr(platform, verb, None))] == []


def test_the_binding_shows_the_home_and_what_is_not_enforced(platform: LocalPlatform) -> None:
    binding = platform.binding()
    assert binding["workspace"] == str(paths.home())
    assert "HAProxy 2." in binding["router"] or "HAProxy 3." in binding["router"]
    assert "cpu and memory limits" in binding["not enforced here"]


def test_compute_is_this_machine_recorded_under_a_name(platform: LocalPlatform) -> None:
    assert platform.find_compute("titanic-train") is None
    made = platform.create_compute("titanic-train")
    assert (made.changed, made.result.ours, made.result.size) == (True, True, "Standard_D2s_v5")
    assert made.result.details["where"] == "this machine"
    assert not platform.create_compute("titanic-train").changed
    found = platform.find_compute("titanic-train")
    assert found is not None
    assert found.name == "titanic-train"
    assert platform.delete_compute("titanic-train").changed
    assert not platform.delete_compute("titanic-train").changed
    assert platform.find_compute("titanic-train") is None


def test_compute_that_is_not_ours_is_left_alone(platform: LocalPlatform) -> None:
    record = {"name": "their-train", "size": "x", "tags": {"team": "other"}, "details": {}}
    state_dir.write_json(platform.home.path / "computes" / "their-train.json", record)
    found = platform.find_compute("their-train")
    assert found is not None
    assert not found.ours
    for verb in (platform.create_compute, platform.delete_compute):
        with pytest.raises(PlatformError, match="somebody else made it"):
            verb("their-train")
    assert platform.find_compute("their-train") is not None


def test_a_compute_name_cannot_leave_its_folder(platform: LocalPlatform) -> None:
    with pytest.raises(UsageError, match="compute name"):
        platform.create_compute("../../outside")


@pytest.mark.parametrize(
    ("has", "misses"), [(Machine(0.5, 8, 8), "cores"), (Machine(2, 1, 8), "memory"), (Machine(2, 8, 0.1), "disk")]
)
def test_a_machine_too_small_to_train_on_is_refused_with_its_size(
    platform: LocalPlatform, monkeypatch: pytest.MonkeyPatch, has: Machine, misses: str
) -> None:
    monkeypatch.setattr(machine, "measure", lambda folder: has)
    with pytest.raises(PlatformError, match=misses):
        platform.create_compute("titanic-train")
    assert platform.find_compute("titanic-train") is None


def test_the_cluster_is_recorded_when_the_prod_replicas_fit(platform: LocalPlatform) -> None:
    assert platform.find_cluster() is None
    made = platform.create_cluster()
    assert made.changed
    assert made.result.fits >= 3
    assert "not enforced here" in made.result.details["cores"]
    assert not platform.create_cluster().changed
    found = platform.find_cluster()
    assert found is not None
    assert (found.name, found.ours) == ("titanic-aks", True)
    assert platform.delete_cluster().changed
    assert not platform.delete_cluster().changed


def test_a_machine_that_cannot_hold_the_least_replicas_is_no_cluster(
    platform: LocalPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A replica asks for 1 GiB, and the sidecar for 0.1.
    monkeypatch.setattr(machine, "measure", lambda folder: Machine(2, 3.29, 8))
    with pytest.raises(PlatformError, match="2 replicas of 1.10 GiB fit, expected at least 3"):
        platform.create_cluster()
    monkeypatch.setattr(machine, "measure", lambda folder: Machine(2, 3.31, 8))
    assert platform.create_cluster().result.fits == 3


def test_the_cloud_of_cluster_yml_holds_what_its_nodes_have_left(platform: LocalPlatform) -> None:
    # 3 nodes of 4 cores less the extension's 3.6 leave 8.4 cores; a replica with its sidecar asks for 0.51.
    assert "16 replicas" in platform.create_cluster().result.details["in the cloud"]


def test_a_container_is_measured_by_its_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text(f"{512 * 1024**2}\n")
    found = machine.measure(tmp_path)
    assert (found.cores, found.memory_gib) == (0.5, 0.5)
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.measure(tmp_path).cores >= 1
    assert base.OWNER_TAG == "runbook-owner"
