"""What router and scoring server add to a request on a live endpoint."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from local_cloud import Cloud, build
from sides import compare

from runbook import paths

ROUNDS = 1000


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    mine = build(tmp_path)
    monkeypatch.setattr(paths, "DEPLOYMENT", mine.files)
    yield mine
    mine.platform.down()


class Straight(http.client.HTTPConnection):
    """A connection to a replica's own socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self) -> None:
        """Connect, again too when the server has closed the last one."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self.path)


def asking(connection: http.client.HTTPConnection, path: str, headers: dict[str, str]) -> Callable[[], None]:
    def ask() -> None:
        connection.request("POST", path, b"{}", {"Content-Type": "application/json", **headers})
        reply = connection.getresponse()
        assert reply.status == 200, reply.read()
        reply.read()

    return ask


def test_a_request_through_the_router_beside_one_to_the_replica(cloud: Cloud) -> None:
    cloud.serve("dev")
    endpoint, key = cloud.platform.find_endpoint("dev"), cloud.platform.keys("dev").primary
    assert endpoint
    address, path = endpoint.scoring_uri.removeprefix("http://").split("/", 1)
    through = http.client.HTTPConnection(address, timeout=10)
    direct = Straight(next(iter(cloud.state("dev").replicas.values())).socket)
    sides = {
        "straight to the replica": asking(direct, "/score", {}),
        "through the router": asking(through, f"/{path}", {"Authorization": f"Bearer {key}"}),
    }
    compare("A request", sides, ROUNDS)
