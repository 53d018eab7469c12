from __future__ import annotations

import os
import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from local_cloud import APP, SHIPPED, Cloud, eventually, sockets

from runbook.errors import Busy, NotFound, PlatformError, UsageError
from runbook.platform.local import process
from runbook.platform.local.controller import state
from runbook.platform.local.haproxy import config


def test_an_unchanged_deployment_is_left_alone(cloud: Cloud) -> None:
    before = cloud.serve("dev")
    assert not cloud.platform.create_endpoint("dev").changed
    assert not cloud.platform.deploy("dev", "blue", cloud.model("1")).changed
    assert cloud.state("dev").replicas == before.replicas


def test_other_code_another_version_or_other_settings_make_another_deployment(cloud: Cloud) -> None:
    cloud.serve("dev")
    assert cloud.platform.deploy("dev", "blue", cloud.model("2")).changed
    assert cloud.post("dev").document["version"] == "2"
    (cloud.files / "score.py").write_text(APP + "# another line\n")
    assert cloud.platform.deploy("dev", "blue", cloud.model("2")).changed
    cloud.edit("dev", instance_count=2)
    changed = cloud.platform.deploy("dev", "blue", cloud.model("2"))
    assert (changed.changed, changed.result.replicas) == (True, 2)
    assert len(cloud.state("dev").replicas) == 2
    assert len(list((cloud.platform.home.endpoint("titanic-dev") / "code").iterdir())) == 1


def test_the_platform_overrides_name_version_and_digest_and_nothing_else(cloud: Cloud) -> None:
    cloud.platform.create_endpoint("dev")
    sent = cloud.platform.deploy("dev", "green", cloud.model("2")).sent
    shipped = yaml.safe_load((cloud.files / "dev" / "deployment.yml").read_text())
    assert {key for key in sent if sent[key] != shipped.get(key)} == {"name", "model", "environment_variables"}
    assert sent["model"] == "azureml:Tiny:2"
    variables = sent["environment_variables"]
    assert {k for k in variables if variables[k] != shipped["environment_variables"].get(k)} == {
        "MODEL_SHA256",
        "MODEL_VERSION",
    }


def test_a_later_edit_of_the_checkout_changes_nothing_that_is_live(cloud: Cloud) -> None:
    cloud.serve("dev")
    (cloud.files / "score.py").write_text("this is not Python")
    os.killpg(next(iter(cloud.state("dev").replicas.values())).process.pid, signal.SIGKILL)
    assert eventually(lambda: cloud.post("dev").status == 200)


def test_no_request_is_lost_while_a_live_deployment_is_replaced(cloud: Cloud) -> None:
    cloud.serve("dev")
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(cloud.posts, "dev", 300, {"sleep": 0.01}, 2)
        cloud.platform.deploy("dev", "blue", cloud.model("2"))
        replies = sending.result()
    assert {r.status for r in replies} == {200}
    assert cloud.post("dev").document["version"] == "2"


def test_a_deployment_whose_init_fails_shows_its_log_and_leaves_nothing_behind(cloud: Cloud) -> None:
    before = cloud.serve("dev")
    cloud.edit("dev", environment_variables={"FAIL": "yes"})
    with pytest.raises(PlatformError) as failed:
        cloud.platform.deploy("dev", "green", cloud.model("2"))
    assert "this init was told to fail" in failed.value.log
    assert "titanic-dev, deployment green" in str(failed.value.args[0])
    now = cloud.platform.find_endpoint("dev")
    assert now is not None
    green = now.deployment("green")
    assert green is not None
    assert (green.state, green.replicas, now.traffic) == ("failed", 0, {"blue": 100})
    assert cloud.state("dev").replicas == before.replicas
    assert len(sockets(cloud.platform.home)) == len(before.replicas) + 3
    assert "this init was told to fail" in cloud.platform.logs("dev", "green")
    assert cloud.post("dev").status == 200


def test_when_one_replica_of_several_fails_the_others_are_ended(cloud: Cloud) -> None:
    before = cloud.serve("dev")
    cloud.edit("dev", instance_count=2)
    # The first replica to be here starts; the other one fails once that one is ready.
    (cloud.files / "score.py").write_text(
        APP.replace("def init():", "def init():\n    first()") + "\n\ndef first():\n"
        "    import pathlib\n"
        "    try:\n        pathlib.Path.home().joinpath('first').mkdir()\n"
        "    except FileExistsError:\n        time.sleep(3)\n        raise\n"
    )
    with pytest.raises(PlatformError, match="exit code 3"):
        cloud.platform.deploy("dev", "green", cloud.model("2"))
    _only_these_replicas_run(cloud, before)


def test_when_the_router_refuses_a_new_deployment_its_replicas_are_ended(cloud: Cloud) -> None:
    before = cloud.serve("dev")
    keys = cloud.platform.home.endpoint("titanic-dev") / config.KEYS
    text = keys.read_text()
    keys.unlink()  # HAProxy refuses a configuration that names a missing file
    with pytest.raises(PlatformError, match="refused its new configuration"):
        cloud.platform.deploy("dev", "green", cloud.model("2"))
    keys.write_text(text)
    _only_these_replicas_run(cloud, before)
    assert cloud.post("dev").document["version"] == "1"


def _only_these_replicas_run(cloud: Cloud, before: state.Endpoint) -> None:
    assert cloud.state("dev").replicas == before.replicas
    mark = f"unix:{cloud.platform.home.runtime()}"
    running = {one.pid for one in process.strays(lambda argv: any(mark in word for word in argv))}
    masters = {one.process.pid for one in before.replicas.values()}
    assert {os.getpgid(pid) for pid in running} == masters


def test_a_failed_deployment_can_be_deployed_again(cloud: Cloud) -> None:
    cloud.platform.create_endpoint("dev")
    cloud.edit("dev", environment_variables={"FAIL": "yes"})
    with pytest.raises(PlatformError):
        cloud.platform.deploy("dev", "blue", cloud.model())
    cloud.edit("dev", environment_variables={"FAIL": ""})
    assert cloud.platform.deploy("dev", "blue", cloud.model()).result.state == "ready"


def test_a_model_whose_bytes_are_not_the_registered_ones_is_not_deployed(cloud: Cloud) -> None:
    cloud.platform.create_endpoint("dev")
    model = cloud.model()
    (cloud.platform.home.models / "Tiny" / "1" / "model" / "model.onnx").write_bytes(b"other bytes")
    with pytest.raises(NotFound, match="Tiny has no version 1"):
        cloud.platform.deploy("dev", "blue", model)


def test_an_endpoint_that_does_not_exist_says_which_step_makes_it(cloud: Cloud) -> None:
    assert cloud.platform.find_endpoint("dev") is None
    for verb in (lambda: cloud.platform.keys("dev"), lambda: cloud.platform.logs("dev", "blue")):
        with pytest.raises(NotFound, match="60_deploy --stage dev"):
            verb()
    with pytest.raises(NotFound, match="50_create_cluster"):
        cloud.platform.create_endpoint("prod")


@pytest.mark.parametrize(
    "traffic", [{"blue": 50}, {"blue": 101}, {"blue": -1, "green": 101}, {"blue": True, "green": 99}]
)
def test_traffic_that_does_not_add_up_is_refused(cloud: Cloud, traffic: dict[str, int]) -> None:
    cloud.platform.create_endpoint("dev")
    with pytest.raises(UsageError):
        cloud.platform.set_traffic("dev", traffic, {})


def test_traffic_to_a_deployment_that_is_not_ready_is_refused(cloud: Cloud) -> None:
    cloud.serve("dev")
    with pytest.raises(PlatformError, match="green of titanic-dev is not there"):
        cloud.platform.set_traffic("dev", {"green": 100}, {"released": "green"})
    assert "released" not in cloud.state("dev").tags
    assert cloud.post("dev").status == 200


def test_without_traffic_a_managed_endpoint_answers_404_and_a_kubernetes_endpoint_503(cloud: Cloud) -> None:
    cloud.edit("prod", scale_settings={"type": "default"}, instance_count=1)
    for stage, status in (("dev", 404), ("prod", 503)):
        cloud.serve(stage)  # type: ignore[arg-type]
        cloud.platform.set_traffic(stage, {"blue": 0}, {})  # type: ignore[arg-type]
        assert cloud.post(stage).status == status  # type: ignore[arg-type]


def test_a_deployment_with_traffic_is_not_deleted_and_one_without_is(cloud: Cloud) -> None:
    cloud.serve("dev")
    with pytest.raises(PlatformError, match="has 100 % of the traffic"):
        cloud.platform.delete_deployment("dev", "blue")
    cloud.platform.set_traffic("dev", {"blue": 0}, {})
    assert cloud.platform.delete_deployment("dev", "blue").changed
    assert not cloud.platform.delete_deployment("dev", "blue").changed
    assert cloud.state("dev").replicas == {}
    assert cloud.state("dev").deployments == {}


def test_an_endpoint_that_is_not_ours_is_left_alone(cloud: Cloud) -> None:
    path = cloud.files / "dev" / "endpoint.yml"
    path.write_text(path.read_text().replace("runbook-owner", "somebody"))
    cloud.platform.create_endpoint("dev")
    shutil.copyfile(SHIPPED / "dev" / "endpoint.yml", path)
    for verb in (cloud.platform.create_endpoint, cloud.platform.delete_endpoint):
        with pytest.raises(PlatformError, match="no tag runbook-owner"):
            verb("dev")
    assert cloud.platform.find_endpoint("dev") is not None


def test_a_deleted_endpoint_leaves_no_process_no_key_and_no_file(cloud: Cloud) -> None:
    before = cloud.serve("dev")
    assert cloud.platform.delete_endpoint("dev").changed
    assert not cloud.platform.delete_endpoint("dev").changed
    assert cloud.platform.find_endpoint("dev") is None
    assert cloud.platform.secrets() == []
    # The port itself may belong to another test by now.
    assert before.router is not None and not process.alive(before.router)
    assert not cloud.platform.home.endpoint("titanic-dev").exists()


def test_a_second_operation_is_refused_while_one_is_in_progress(cloud: Cloud) -> None:
    cloud.serve("dev")
    (cloud.files / "score.py").write_text("import time\ntime.sleep(2)\n" + APP)
    deploying = threading.Thread(target=cloud.platform.deploy, args=("dev", "green", cloud.model("2")))
    deploying.start()
    try:
        assert eventually(lambda: "green" in cloud.state("dev").deployments)
        with pytest.raises(Busy, match="busy with 'deploy'"):
            cloud.platform.set_traffic("dev", {"blue": 0}, {})
        assert cloud.post("dev").status == 200
    finally:
        deploying.join()
    assert cloud.state("dev").deployments["green"].state == "ready"


def test_making_the_same_again_waits_for_what_a_killed_run_left_in_progress(cloud: Cloud) -> None:
    cloud.serve("dev")
    (cloud.files / "score.py").write_text("import time\ntime.sleep(2)\n" + APP)
    model = cloud.model("2")
    deploying = threading.Thread(target=cloud.platform.deploy, args=("dev", "green", model))
    deploying.start()
    try:
        assert eventually(lambda: "green" in cloud.state("dev").deployments)
        assert not cloud.platform.create_endpoint("dev").changed
        again = cloud.platform.deploy("dev", "green", model)
    finally:
        deploying.join()
    assert not again.changed and again.result.state == "ready"
