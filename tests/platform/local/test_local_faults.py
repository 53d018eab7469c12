from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from local_cloud import APP, Cloud, eventually, listening, platform, sockets

from runbook.engine import text
from runbook.errors import PlatformError
from runbook.platform.local import controller_client, process
from runbook.platform.local.controller import channel, standby, state
from runbook.platform.local.haproxy import binary
from runbook.platform.local.process import Process


def test_a_killed_replica_is_replaced_and_no_request_is_lost(cloud: Cloud) -> None:
    cloud.edit("dev", instance_count=2)
    before = cloud.serve("dev")
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(cloud.posts, "dev", 200, {"sleep": 0.01}, 2)
        time.sleep(0.3)
        os.killpg(before.replicas["r1"].process.pid, signal.SIGKILL)
        statuses = [r.status for r in sending.result()]
    assert statuses == [200] * 200
    assert eventually(lambda: len(cloud.state("dev").ready("blue")) == 2)
    assert "r1" not in cloud.state("dev").replicas
    found = cloud.platform.find_endpoint("dev")
    assert found is not None
    assert found.deployments[0].replicas == 2


def test_a_replica_history_tells_wanted_and_ready_over_time(cloud: Cloud) -> None:
    begin = time.time()
    before = cloud.serve("dev")
    os.killpg(before.replicas["r1"].process.pid, signal.SIGKILL)
    assert eventually(lambda: "r2" in {r.id for r in cloud.state("dev").ready("blue")})
    assert eventually(lambda: _levels(cloud, begin) == [(1, 1), (1, 0), (1, 1)])
    at = time.time()
    assert cloud.platform.replica_history("dev", "blue", at) == [(at, 1, 1)]


def test_a_deployment_with_traffic_is_retried_without_end_and_healed_by_deploying_it_again(cloud: Cloud) -> None:
    before = cloud.serve("dev")
    snapshot = next((cloud.platform.home.endpoint("titanic-dev") / "code").glob("*/score.py"))
    good = snapshot.read_text()
    snapshot.write_text("raise RuntimeError('broken on disk')")
    os.killpg(before.replicas["r1"].process.pid, signal.SIGKILL)
    assert eventually(lambda: _logged(cloud).count('"start failed"') >= 4, 100)
    found = cloud.platform.find_endpoint("dev")
    assert found is not None
    assert (found.deployments[0].state, found.deployments[0].replicas) == ("retrying", 0)
    assert text.endpoint_fields(cloud.platform, "dev")["states"] == {"blue": "retrying"}
    shown = str(cloud.platform.status()[0])
    assert "blue retrying" in shown and "ended with exit code" in shown
    assert cloud.post("dev").status == 429
    with pytest.raises(PlatformError, match="broken on disk"):
        cloud.platform.deploy("dev", "blue", cloud.model())
    snapshot.write_text(good)
    again = cloud.platform.deploy("dev", "blue", cloud.model())
    assert again.changed and again.result.state == "ready"
    assert cloud.post("dev").status == 200


def test_a_deployment_that_could_not_start_heals_by_itself(cloud: Cloud) -> None:
    before = cloud.serve("dev")
    snapshot = next((cloud.platform.home.endpoint("titanic-dev") / "code").glob("*/score.py"))
    good = snapshot.read_text()
    snapshot.write_text("raise RuntimeError('broken on disk')")
    # The scoring server ends by itself when a new worker fails: soon after ready, that is a failed start.
    psutil.Process(before.replicas["r1"].process.pid).children()[0].kill()
    assert eventually(lambda: '"start failed"' in _logged(cloud), 100)
    assert "replica r1 ended with exit code 3" in _logged(cloud)
    snapshot.write_text(good)
    assert eventually(lambda: cloud.post("dev").status == 200, 100)
    assert cloud.state("dev").condition("blue") == "ready"


def test_a_replica_killed_as_often_as_it_becomes_ready_is_no_failed_start(cloud: Cloud) -> None:
    cloud.serve("dev")
    for _ in range(5):
        assert eventually(lambda: bool(cloud.state("dev").ready("blue")), 100)
        one = cloud.state("dev").ready("blue")[0]
        os.killpg(one.process.pid, signal.SIGKILL)
        assert eventually(lambda one=one: one.id not in cloud.state("dev").replicas, 100)  # type: ignore[misc]
    assert eventually(lambda: cloud.post("dev").status == 200, 100)
    assert cloud.state("dev").condition("blue") == "ready"
    assert cloud.state("dev").deployments["blue"].failure == ""
    assert "start failed" not in _logged(cloud)


def test_a_deployment_whose_replica_is_killed_while_it_starts_becomes_ready(cloud: Cloud) -> None:
    cloud.platform.create_endpoint("dev")
    (cloud.files / "score.py").write_text("import time\ntime.sleep(1)\n" + APP)
    with ThreadPoolExecutor(1) as pool:
        deploying = pool.submit(cloud.platform.deploy, "dev", "blue", cloud.model())
        assert eventually(lambda: "r1" in cloud.state("dev").replicas)
        os.killpg(cloud.state("dev").replicas["r1"].process.pid, signal.SIGKILL)
        assert deploying.result().result.state == "ready"


def test_a_killed_controller_loses_no_request_and_its_successor_adopts_what_lives(cloud: Cloud) -> None:
    before = cloud.serve("dev")
    assert before.controller
    assert before.router
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(cloud.posts, "dev", 200, {"sleep": 0.01}, 2)
        os.kill(before.controller.pid, signal.SIGKILL)
        found = cloud.platform.find_endpoint("dev")
        assert {r.status for r in sending.result()} == {200}
    assert found is not None
    now = cloud.state("dev")
    assert (now.replicas, now.router, now.port) == (before.replicas, before.router, before.port)
    assert now.controller != before.controller


def test_a_controller_that_hangs_is_replaced(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    before = cloud.serve("dev")
    monkeypatch.setattr(controller_client, "ANSWER_S", 1.0)
    assert before.controller
    os.kill(before.controller.pid, signal.SIGSTOP)
    assert cloud.platform.find_endpoint("dev") is not None
    assert cloud.state("dev").replicas == before.replicas
    assert not process.alive(before.controller)


def test_what_died_while_no_controller_looked_is_started_again(cloud: Cloud) -> None:
    cloud.edit("dev", instance_count=2)
    before = cloud.serve("dev")
    assert before.controller
    os.kill(before.controller.pid, signal.SIGKILL)
    os.killpg(before.replicas["r1"].process.pid, signal.SIGKILL)
    found = cloud.platform.find_endpoint("dev")
    assert found is not None
    assert found.deployments[0].replicas == 2
    assert before.replicas["r2"] in cloud.state("dev").replicas.values()


@pytest.mark.parametrize("worker_only", [False, True])
def test_a_killed_router_is_restarted_on_its_port(cloud: Cloud, worker_only: bool) -> None:
    before = cloud.serve("dev")
    assert before.router
    victim = psutil.Process(before.router.pid).children()[0].pid if worker_only else before.router.pid
    os.kill(victim, signal.SIGKILL)
    assert eventually(lambda: process.alive(cloud.state("dev").router) and cloud.state("dev").router != before.router)
    assert eventually(lambda: listening(before.port))
    assert cloud.state("dev").port == before.port
    assert cloud.post("dev").status == 200


def test_after_kill_9_of_everything_the_next_verb_revives_the_endpoint(cloud: Cloud) -> None:
    before = cloud.serve("dev")
    _kill_everything(cloud, before)
    found = cloud.platform.find_endpoint("dev")
    assert found is not None
    assert (found.scoring_uri, found.traffic, found.deployments[0].state) == (
        before.scoring_uri,
        {"blue": 100},
        "ready",
    )
    assert cloud.post("dev").document["version"] == "1"


def test_a_port_taken_after_a_crash_is_replaced_and_the_move_is_told(cloud: Cloud) -> None:
    before = cloud.serve("dev")
    _kill_everything(cloud, before)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", before.port))
        other.listen()
        with pytest.warns(UserWarning, match=f"port {before.port} is taken by another program"):
            found = cloud.platform.find_endpoint("dev")
        assert found is not None
        assert found.scoring_uri != before.scoring_uri
        assert cloud.post("dev").status == 200
        assert str(before.port) in str(cloud.platform.status()[0])


def test_a_taken_port_is_passed_over(cloud: Cloud) -> None:
    taken = []
    for port in (8601, 8603):
        other = socket.socket()
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(("127.0.0.1", port))
            other.listen()
            taken.append(other)
        except OSError:
            other.close()  # somebody else has it already, which serves as well
    try:
        assert cloud.serve("dev").port not in (8601, 8602, 8603)
        assert cloud.post("dev").status == 200
    finally:
        for other in taken:
            other.close()


def test_two_homes_never_share_a_port(cloud: Cloud, tmp_path: Path) -> None:
    before = cloud.serve("dev")
    cloud.platform.down()
    shutil.copytree(cloud.platform.home.path, tmp_path / "copy")
    assert cloud.platform.find_endpoint("dev") is not None
    copy = platform(tmp_path / "copy")
    try:
        with pytest.warns(UserWarning, match="taken by another program"):
            found = copy.find_endpoint("dev")
        assert found is not None
        assert found.scoring_uri != before.scoring_uri
    finally:
        copy.down()
    assert cloud.post("dev").status == 200


def test_a_copied_home_leaves_the_processes_of_the_original_alone(cloud: Cloud, tmp_path: Path) -> None:
    before = cloud.serve("dev")
    shutil.copytree(cloud.platform.home.path, tmp_path / "copy")
    copy = platform(tmp_path / "copy")
    assert copy.status() == []
    assert copy.down() == []
    assert cloud.state("dev") == before
    assert cloud.post("dev").status == 200


def test_a_moved_home_takes_its_endpoints_along(cloud: Cloud, tmp_path: Path) -> None:
    before = cloud.serve("dev")
    place = cloud.platform.home.path
    moved = platform(place.rename(tmp_path / "moved"))
    try:
        found = moved.find_endpoint("dev")
        assert found is not None
        assert found.deployments[0].replicas == 1
        assert not any(map(process.alive, _processes(before)))
        assert Cloud(moved, cloud.files).post("dev").status == 200
    finally:
        moved.down()
        moved.home.path.rename(place)


def test_down_ends_everything_keeps_the_state_and_the_next_verb_revives(cloud: Cloud) -> None:
    before = cloud.serve("dev")
    keys = cloud.platform.keys("dev")
    stopped = cloud.platform.down()
    assert [line.split(",")[0] for line in stopped] == [
        "titanic-dev: controller",
        "titanic-dev: standby controller",
        "titanic-dev: router",
        "titanic-dev: replica r1 of blue",
    ]
    assert not any(map(process.alive, _processes(before)))
    assert not listening(before.port)
    assert sockets(cloud.platform.home) == []
    assert cloud.platform.status() == []
    assert cloud.platform.down() == []
    assert cloud.platform.find_endpoint("dev") is not None
    assert cloud.platform.keys("dev") == keys
    assert cloud.post("dev").status == 200


def test_down_finds_what_the_state_does_not_know(cloud: Cloud) -> None:
    before = cloud.serve("dev")
    standby.end(cloud.platform.home, "titanic-dev", 2.0)
    state.path(cloud.platform.home, "titanic-dev").write_text("{not json")
    stopped = cloud.platform.down()
    assert "is damaged" in stopped[0]
    assert eventually(lambda: not any(map(process.alive, _processes(before))), 1)
    with pytest.raises(PlatformError, match="is damaged"):
        cloud.platform.find_endpoint("dev")


def test_down_spares_a_stranger_that_got_the_pid_of_a_replica(cloud: Cloud) -> None:
    before = cloud.serve("dev")
    cloud.platform.down()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True) as stranger:
        reused = replace(before.replicas["r1"], process=Process(stranger.pid, before.replicas["r1"].process.started))
        state.save(
            state.path(cloud.platform.home, "titanic-dev"), replace(before, replicas={"r1": reused}, controller=None)
        )
        assert cloud.platform.down() == []
        assert stranger.poll() is None
        stranger.kill()


def test_a_deployment_interrupted_by_a_kill_leaves_no_replica_and_can_be_repeated(cloud: Cloud) -> None:
    cloud.serve("dev")
    (cloud.files / "score.py").write_text("import time\ntime.sleep(2)\n" + APP)
    failures: list[BaseException] = []

    def deploy() -> None:
        try:
            cloud.platform.deploy("dev", "green", cloud.model("2"))
        except PlatformError as error:
            failures.append(error)

    deploying = threading.Thread(target=deploy)
    deploying.start()
    assert eventually(lambda: any(r.deployment == "green" for r in cloud.state("dev").replicas.values()))
    half = next(r for r in cloud.state("dev").replicas.values() if r.deployment == "green")
    controller = cloud.state("dev").controller
    assert controller
    os.kill(controller.pid, signal.SIGKILL)
    deploying.join()
    assert "Call again" in str(failures[0])
    found = cloud.platform.find_endpoint("dev")
    assert found is not None
    green = found.deployment("green")
    assert green is not None
    assert green.state == "failed"
    assert eventually(lambda: not process.alive(half.process))
    assert cloud.platform.deploy("dev", "green", cloud.model("2")).result.state == "ready"


def test_sockets_that_a_cleaner_removed_are_made_again(cloud: Cloud) -> None:
    before = cloud.serve("dev")
    shutil.rmtree(cloud.platform.home.runtime())
    found = cloud.platform.find_endpoint("dev")
    assert found is not None
    assert found.deployments[0].replicas == 1
    assert cloud.post("dev").status == 200
    assert not any(map(process.alive, _processes(before)))


def test_a_deleted_checkout_leaves_an_endpoint_that_the_next_one_takes_over(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "checkout"
    venv.create(checkout / "venv", with_pip=False, symlinks=True)
    packages = next((checkout / "venv" / "lib").glob("python*/site-packages"))
    (packages / "borrowed.pth").write_text(f"{Path(psutil.__file__).parent.parent}\n")
    shutil.copytree(binary.find()[0].parent, checkout / "bin")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(checkout / "venv" / "bin" / "python"))
        patch.setenv(binary.OVERRIDE, str(checkout / "bin" / "haproxy"))
        before = cloud.serve("dev")
    shutil.rmtree(checkout)
    assert cloud.post("dev").status == 200
    found = cloud.platform.find_endpoint("dev")
    assert found is not None
    now = cloud.state("dev")
    assert now.replicas == before.replicas
    assert now.controller != before.controller
    assert now.router != before.router
    os.killpg(now.replicas["r1"].process.pid, signal.SIGKILL)
    assert eventually(lambda: "r2" in {r.id for r in cloud.state("dev").ready("blue")})
    assert eventually(lambda: cloud.post("dev").status == 200)


def test_without_a_usable_haproxy_nothing_is_started(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_SERVE_HAPROXY_BINARY_PATH", "/no/such/haproxy")
    with pytest.raises(PlatformError, match="not an executable file"):
        cloud.platform.create_endpoint("dev")
    assert cloud.platform.status() == []


def _logged(cloud: Cloud) -> str:
    return (cloud.platform.home.endpoint("titanic-dev") / channel.LOG).read_text()


def _levels(cloud: Cloud, since: float) -> list[tuple[int, int]]:
    return [(w, r) for _, w, r in cloud.platform.replica_history("dev", "blue", since) or []]


def _processes(of: state.Endpoint) -> list[Process]:
    return [p for p in (of.controller, of.router, *(r.process for r in of.replicas.values())) if p]


def _kill_everything(cloud: Cloud, of: state.Endpoint) -> None:
    # The standby goes first. Otherwise it takes over and starts again what dies here.
    for one in standby.find(cloud.platform.home, "titanic-dev") | set(_processes(of)):
        process.kill_group(one)

    def dead() -> bool:
        left = standby.find(cloud.platform.home, "titanic-dev")
        for one in left:
            process.kill_group(one)
        return not left and not any(map(process.alive, _processes(of))) and not listening(of.port)

    assert eventually(dead)


@pytest.mark.parametrize("endpoint_too", [True, False])
def test_a_home_deleted_while_its_endpoints_live_is_not_mistaken_for_the_next_one(
    cloud: Cloud, endpoint_too: bool
) -> None:
    before = cloud.serve("dev")
    shutil.rmtree(cloud.platform.home.path)
    after = platform(cloud.platform.home.path)
    if endpoint_too:
        with pytest.raises(PlatformError, match=f"id was {before.home_id}.*has the id {after.home.id}.*runbook down"):
            after.create_endpoint("dev")
        assert cloud.state("dev").deployments == {}

    ended = after.down()

    lived = [before.controller, before.router, *(r.process for r in before.replicas.values())]
    assert ended
    assert not any(process.alive(one) for one in lived)
    assert after.create_endpoint("dev").result.deployments == ()


def test_the_controller_of_a_deleted_home_writes_nothing_into_the_next_one(cloud: Cloud) -> None:
    before = cloud.serve("dev")
    shutil.rmtree(cloud.platform.home.path)
    after = platform(cloud.platform.home.path)
    mine = replace(before, home_id=after.home.id, deployments={}, replicas={}, traffic={})
    path = state.path(after.home, "titanic-dev")
    state.save(path, mine)

    controller = after.home.runtime() / "titanic-dev" / channel.SOCKET
    answer = channel.ask(controller, {"verb": "tag", "tags": {"theirs": "1"}}, 10)

    assert "which was deleted" in answer["error"]
    assert state.load(path) == mine
