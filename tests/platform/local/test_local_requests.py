from __future__ import annotations

import http.client
import json
import re
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from local_cloud import Cloud, Reply, eventually, sockets

from runbook.platform.base import Stage
from runbook.platform.local.haproxy import config, refusal

STAGES: tuple[Stage, ...] = ("dev", "prod")


@pytest.mark.parametrize("stage", STAGES)
def test_each_of_the_two_keys_opens_the_endpoint(both: Cloud, stage: Stage) -> None:
    keys = both.platform.keys(stage)
    assert keys.primary != keys.secondary
    assert both.post(stage, key=keys.primary).status == 200
    assert both.post(stage, key=keys.secondary).status == 200


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("key", ["", "wrong", "#", "Bearer"])
def test_without_a_right_key_nothing_is_scored(both: Cloud, stage: Stage, key: str) -> None:
    assert both.post(stage, key=key).status == 401


ALMOST: dict[str, Callable[[str], str]] = {
    "longer": lambda key: key + "x",
    "longer by a word": lambda key: key + " x",
    "shorter": lambda key: key[:-1],
    "without its beginning": lambda key: key[1:],
    "with something before it": lambda key: "x" + key,
    "in the other case": lambda key: key.swapcase(),
    "one letter": lambda key: key[0],
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("change", ALMOST)
def test_a_key_that_is_almost_right_does_not_open_the_endpoint(both: Cloud, stage: Stage, change: str) -> None:
    for key in (both.platform.keys(stage).primary, both.platform.keys(stage).secondary):
        assert both.post(stage, key=ALMOST[change](key)).status == 401


@pytest.mark.parametrize("stage", STAGES)
def test_the_callers_key_never_reaches_a_replica(both: Cloud, stage: Stage) -> None:
    reply = both.post(stage)
    received = {name.lower(): value for name, value in reply.document["headers"]}
    assert received["content-type"] == "application/json"
    assert both.platform.keys(stage).primary not in json.dumps(reply.document)
    assert "authorization" not in received


def test_every_socket_of_ours_is_open_to_its_owner_only(both: Cloud) -> None:
    runtime = both.platform.home.runtime()
    found = {f"{p.parent.name}/{p.name}": p.lstat().st_mode for p in sockets(both.platform.home)}
    assert {f"titanic-prod/{name}.sock" for name in ("r1", "r2", "control", "admin", "master")} <= set(found)
    assert {name: oct(mode) for name, mode in found.items() if mode & 0o077} == {}
    assert [p for p in (runtime, *runtime.iterdir()) if p.stat().st_mode & 0o077] == []


def test_a_key_of_one_stage_does_not_open_the_other(both: Cloud) -> None:
    assert both.post("dev", key=both.platform.keys("prod").primary).status == 401


def test_keys_are_in_no_command_line_and_in_private_files_only(both: Cloud) -> None:
    secrets = both.platform.secrets()
    assert len(set(secrets)) == 4
    for process in psutil.process_iter(["cmdline"]):
        assert not any(key in " ".join(process.info["cmdline"] or []) for key in secrets)
    for path in both.platform.home.path.rglob("*"):
        if path.is_file() and any(key in path.read_text("utf-8", "replace") for key in secrets):
            assert path.name in ("keys.json", "keys.lst")
            assert path.stat().st_mode & 0o077 == 0


def test_nothing_of_ours_listens_beyond_loopback(both: Cloud) -> None:
    pids = {p for s in both.platform.status() for d in s.deployments for p in (s.controller, s.router, *d.replicas)}
    found = []
    for pid in pids:
        assert pid is not None
        tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        found += [c.laddr.ip for p in tree for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert set(found) == {"127.0.0.1"}


def test_a_replica_sees_what_its_deployment_file_says_and_nothing_of_the_caller(
    both: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = both.post("dev").document["environment"]
    assert environment["WORKER_COUNT"] == "2"
    assert environment["ORT_DISABLE_TELEMETRY"] == "1"
    assert environment["MODEL_VERSION"] == "1"
    assert environment["MODEL_SHA256"] == both.model("1").digest
    assert environment["SCORING_TIMEOUT_MS"] == "2000"
    assert environment["HOME"].startswith(str(both.platform.home.path))
    assert not {"RUNBOOK_HOME", "USER", "PYTHONPATH"} & set(environment)


def test_prod_maps_statuses_as_documented_for_kubernetes_endpoints(both: Cloud) -> None:
    assert both.post("prod", {"raise": 1}).status == 502
    assert both.post("prod", {"sleep": 3}).status == 504
    for status in (400, 405, 413, 415, 422):
        assert both.post("prod", {"status": status}).status == status


def test_dev_maps_statuses_as_documented_for_managed_endpoints(both: Cloud) -> None:
    for status in (400, 405, 413, 415, 422, 503, 504):
        reply = both.post("dev", {"status": status})
        assert (reply.status, reply.headers[config.MODEL_STATUS]) == (424, str(status))
        assert reply.headers[config.MODEL_REASON]
        assert reply.document == {"said": status}
    raised = both.post("dev", {"raise": 1})
    assert (raised.status, raised.headers[config.MODEL_STATUS]) == (424, "500")
    assert both.post("dev", {"sleep": 3}).status == 408


def test_a_worker_that_dies_while_it_scores_is_an_error_of_the_model(both: Cloud) -> None:
    assert both.post("prod", {"exit": 1}).status == 502
    died = both.post("dev", {"exit": 1})
    assert (died.status, died.headers[config.MODEL_STATUS]) == (424, "502")
    for stage in STAGES:
        assert eventually(lambda stage=stage: len(_workers(both, stage)) == 2)  # type: ignore[misc]


def test_a_timed_out_request_gives_its_place_back(both: Cloud) -> None:
    assert {r.status for r in both.posts("prod", 2, {"sleep": 8}, at_once=2)} == {504}
    time.sleep(1.5)  # the router gave up after 1.5 s, the replica after 2
    assert both.post("prod").seconds < 1.0


def test_a_replica_answers_only_as_many_requests_at_once_as_allowed(both: Cloud) -> None:
    begin = time.monotonic()
    replies = both.posts("prod", 4, {"sleep": 0.3}, at_once=4)
    assert [r.status for r in replies] == [200] * 4
    assert time.monotonic() - begin >= 0.6
    assert sorted(r.seconds for r in replies)[2] >= 0.5


def test_prod_refuses_with_503_what_waited_longer_than_allowed(both: Cloud) -> None:
    replies = both.posts("prod", 6, {"sleep": 1.0}, at_once=6)
    refused = [r for r in replies if r.status == 503]
    assert sorted(r.status for r in replies) == [200, 200, 503, 503, 503, 503]
    assert all(0.6 <= r.seconds <= 7 for r in refused)
    assert "overloaded" in refused[0].document["message"]


def test_dev_refuses_with_429_more_than_twice_what_it_can_hold(both: Cloud) -> None:
    replies = both.posts("dev", 8, {"sleep": 0.5}, at_once=8)
    assert sorted(r.status for r in replies) == [200] * 4 + [429] * 4


def test_traffic_is_split_exactly(both: Cloud) -> None:
    changed = both.platform.set_traffic("prod", {"blue": 75, "green": 25}, {"phase": "canary"})
    try:
        assert changed.changed
        assert (changed.result.traffic, changed.result.tags["phase"]) == ({"blue": 75, "green": 25}, "canary")
        replies = both.posts("prod", 400, at_once=4)
        green = sum(r.document["version"] == "2" for r in replies)
        # 25 % of 400 is 100; outside these bounds lies one run in a hundred thousand.
        assert 62 <= green <= 138
    finally:
        both.platform.set_traffic("prod", {"blue": 100}, {})
    assert {r.document["version"] for r in both.posts("prod", 50)} == {"1"}


def test_traffic_that_is_already_so_changes_nothing(both: Cloud) -> None:
    assert not both.platform.set_traffic("prod", {"blue": 100, "green": 0}, {}).changed


def test_no_request_is_lost_while_traffic_moves(both: Cloud) -> None:
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(both.posts, "prod", 400, None, 2)
        while not sending.done():
            both.platform.set_traffic("prod", {"blue": 0, "green": 100}, {})
            both.platform.set_traffic("prod", {"blue": 100, "green": 0}, {})
        assert [r.status for r in sending.result()] == [200] * 400


def test_the_pinning_header_reaches_a_deployment_without_traffic(both: Cloud) -> None:
    reply = both.post("prod", azureml_model_deployment="green")
    assert reply.document["version"] == "2"
    assert reply.headers[config.PIN] == "green"
    assert both.post("prod").headers[config.PIN] == "blue"


@pytest.mark.parametrize("stage", STAGES)
def test_pinning_to_an_unknown_deployment_is_404(both: Cloud, stage: Stage) -> None:
    assert both.post(stage, azureml_model_deployment="red").status == 404


def test_an_unknown_path_is_404_and_swagger_stands_beside_score(both: Cloud) -> None:
    assert both.post("prod", path="/other").status == 404
    assert both.state("prod").scoring_uri.endswith("/api/v1/service/titanic-prod/score")
    assert both.state("dev").scoring_uri.endswith(f":{both.state('dev').port}/score")


def test_a_body_as_large_as_score_accepts_can_be_posted(both: Cloud) -> None:
    assert both.post("prod", b" " * 262_144 + b"{}").document["length"] == 262_146


MIB = 1024 * 1024
TOO_LARGE: dict[Stage, int] = {"dev": 424, "prod": 413}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("size", [refusal.LARGEST_BODY + 1, MIB, 17 * MIB, 40 * MIB])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_the_bound_gets_its_413_in_whatever_form_it_is_sent(
    both: Cloud, stage: Stage, size: int, chunked: bool
) -> None:
    status, headers, content = _send(both, stage, size, chunked)
    assert status == TOO_LARGE[stage]
    assert json.loads(content) == {"message": f"The body is larger than {refusal.LARGEST_BODY} bytes"}
    assert headers.get(config.MODEL_STATUS) == ("413" if stage == "dev" else None)


@pytest.mark.parametrize("chunked", [False, True])
def test_the_largest_body_still_reaches_the_replica_whole(both: Cloud, chunked: bool) -> None:
    status, _, content = _send(both, "prod", refusal.LARGEST_BODY, chunked)
    assert (status, json.loads(content)["length"]) == (200, refusal.LARGEST_BODY)


def test_a_body_in_the_smallest_chunks_is_bounded_too(both: Cloud) -> None:
    status, _, _ = _send(both, "prod", refusal.LARGEST_BODY + 1, chunked=True, piece=64)
    assert status == 413


def test_long_headers_cannot_make_room_for_a_body_of_unknown_size(both: Cloud) -> None:
    # Also of headers that the router replaces.
    names = ("x-long", "x-longer", "x-request-id", config.CLIENT_ID)
    long = {name: "a" * 60_000 for name in names}
    status, _, content = _send(both, "prod", MIB, chunked=True, more=long)
    assert (status, "headers" in json.loads(content)["message"]) == (431, True)


def test_a_small_content_length_beside_chunks_does_not_let_a_large_body_in(both: Cloud) -> None:
    address = urlsplit(both.state("prod").scoring_uri)
    lines = [
        f"POST {address.path} HTTP/1.1",
        "host: 127.0.0.1",
        f"authorization: Bearer {both.platform.keys('prod').primary}",
        "content-length: 5",
        "transfer-encoding: chunked",
    ]
    body = b"%x\r\n" % MIB + b" " * MIB + b"\r\n0\r\n\r\n"
    with socket.create_connection(("127.0.0.1", address.port), timeout=60) as line:
        line.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        assert line.recv(12) == b"HTTP/1.1 413"


def test_a_client_that_waits_for_100_continue_gets_its_413(both: Cloud) -> None:
    status, _, _ = _send(both, "prod", 17 * MIB, more={"expect": "100-continue"})
    assert status == 413


def test_a_wrong_key_with_a_large_body_is_answered_too(both: Cloud) -> None:
    status, _, _ = _send(both, "prod", refusal.LARGEST_BODY, more={"authorization": "Bearer wrong"})
    assert status == 401
    status, _, _ = _send(both, "prod", 17 * MIB, more={"authorization": "Bearer wrong"})
    assert status == 413


def test_http_2_which_has_bodies_without_a_length_is_not_spoken(both: Cloud) -> None:
    with socket.create_connection(("127.0.0.1", both.state("prod").port), timeout=30) as line:
        line.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0")
        assert line.recv(12).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("evil", ['a"b', 'x","status":200,"y":"', "a" * 101, "a b", "\\"])
def test_what_a_client_sends_cannot_forge_a_line_of_the_request_log(both: Cloud, evil: str) -> None:
    reply = both.post("prod", x_ms_client_request_id=evil, azureml_model_deployment=evil)
    line = _logged(both, reply)
    assert (line["status"], line["deployment"]) == (404, evil)
    assert re.fullmatch("[A-Za-z0-9_-]{0,40}", line["client_id"])


def test_the_request_log_tells_who_answered_and_how_long_it_took(both: Cloud) -> None:
    reply = both.post("prod", {"sleep": 0.2}, x_ms_client_request_id="mine-1")
    line = _logged(both, reply)
    assert (line["deployment"], line["status"], line["client_id"]) == ("blue", 200, "mine-1")
    assert line["replica"].startswith("r")
    assert line["total_ms"] >= 200


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("key", [None, "wrong"])
def test_x_request_id_is_the_routers_own_as_documented_for_azure(both: Cloud, stage: Stage, key: str | None) -> None:
    mine = "7b0bd4a6-3c5f-4a0a-9f0e-1f6f0f1f2f3f"
    reply = both.post(stage, key=key, x_request_id=mine)
    given = reply.headers["x-request-id"]
    assert str(uuid.UUID(given)) == given != mine


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    ("sent", "wanted"),
    [
        ("a_Z-9", "a_Z-9"),
        ("0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdef"),
        ("functional-0123456789abcdef0123456789abcdef", "functional-0123456789abcdef0123456789abc"),
        ('a.b c"d', "abcd"),
        ("x" * 5000, "x" * 40),
        ("...", None),
        (None, None),
    ],
)
def test_the_clients_request_id_comes_back_cleaned_and_cut_at_40_characters(
    both: Cloud, stage: Stage, sent: str | None, wanted: str | None
) -> None:
    reply = both.post(stage, **({"x_ms_client_request_id": sent} if sent else {}))
    assert (reply.status, reply.headers.get("x-ms-client-request-id")) == (200, wanted)


def _send(
    both: Cloud,
    stage: Stage,
    size: int,
    chunked: bool = False,
    piece: int = 65_536,
    more: Mapping[str, str] | None = None,
) -> tuple[int, Mapping[str, str], bytes]:
    """Post spaces with http.client, which sends all of the body before it reads the answer."""
    address = urlsplit(both.state(stage).scoring_uri)
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=60)
    body = b" " * (size - 2) + b"{}"
    headers = {"authorization": f"Bearer {both.platform.keys(stage).primary}", "content-type": "application/json"}
    if chunked:
        headers["transfer-encoding"] = "chunked"
    pieces = (body[n : n + piece] for n in range(0, size, piece))
    try:
        connection.request(
            "POST", address.path, pieces if chunked else body, {**headers, **(more or {})}, encode_chunked=chunked
        )
        reply = connection.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def _workers(both: Cloud, stage: Stage) -> set[int]:
    return {r.document["pid"] for r in both.posts(stage, 4, {"sleep": 0.1}, at_once=2) if r.status == 200}


def _logged(both: Cloud, reply: Reply) -> dict[str, Any]:
    path = both.platform.home.endpoint("titanic-prod") / "access.log"
    found: list[dict[str, Any]] = []

    def written() -> bool:
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]
        found[:] = [line for line in lines if line["id"] == reply.headers["x-request-id"]]
        return bool(found)

    assert eventually(written, 5)
    assert len(found) == 1
    return found[0]
