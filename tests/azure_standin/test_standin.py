"""What the tests of the azure platform lean on: the stand-in stays on this machine, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest
import requests

from azure_standin import microsoft
from azure_standin.standin import KNOWN, StandIn
from azure_standin.state import WORKSPACE_PATH
from azure_standin.wire import Request

pytest_plugins = ["azure_standin.fixtures"]
pytestmark = pytest.mark.slow
ARM = "https://management.azure.com"
SIGNED_IN = {"Authorization": "Bearer some-token", "Content-Type": "application/json"}

PROGRAM = """
import sys, time
from azure_standin.standin import StandIn
standin = StandIn()
print(standin.blobs.process.pid, standin.folder, flush=True)
time.sleep(300)
"""


def test_an_unknown_host_is_refused_and_logged(standin: StandIn) -> None:
    with pytest.raises(requests.exceptions.ProxyError):
        requests.get("https://telemetry.example.org/", timeout=10)
    assert standin.unexpected() == {"telemetry.example.org"}
    standin.proxy.connections.clear()


def test_every_socket_listens_on_loopback(standin: StandIn) -> None:
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    listening = {c.laddr.ip for p in processes for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


def test_a_request_without_a_token_is_refused(standin: StandIn) -> None:
    answer = requests.get(f"{ARM}{WORKSPACE_PATH}?api-version=2024-10-01-preview", timeout=10)
    assert answer.status_code == 401


@pytest.mark.skipif(microsoft.folder() is None, reason=f"{microsoft.VARIABLE} names no folder of Microsoft's types")
def test_a_request_that_does_not_fit_its_type_is_refused_and_counted(standin: StandIn) -> None:
    address = f"{ARM}{WORKSPACE_PATH}/onlineEndpoints/x?api-version=2022-02-01-preview"
    body = '{"location": "eastus", "properties": {"authMode": "Key", "traffik": {}}}'
    answer = requests.put(address, data=body, headers=SIGNED_IN, timeout=10)
    assert answer.status_code == 400
    assert "traffik is not a member of the type" in answer.text
    assert [v.where for v in standin.violations if v not in KNOWN] == [".properties.traffik"]
    standin.violations.clear()


def test_the_service_replaces_x_request_id_and_cuts_the_clients_id_at_40_characters(standin: StandIn) -> None:
    sent = {"x-request-id": "mine", "x-ms-client-request-id": "functional-" + "0" * 32, "authorization": "Bearer wrong"}
    request = Request("POST", "127.0.0.1", "/score", {}, sent, b"{}")
    endpoint = {"id": f"{WORKSPACE_PATH}/onlineEndpoints/x", "properties": {}}
    answer = standin.serving.answer(endpoint, ("first", "second"), request, "/score")
    assert answer.status == 401
    assert uuid.UUID(answer.headers["x-request-id"])
    assert answer.headers["x-ms-client-request-id"] == "functional-" + "0" * 29


def test_a_killed_stand_in_leaves_no_process_and_no_file(standin: StandIn) -> None:
    surroundings = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    for name in ("HTTPS_PROXY", "https_proxy", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        surroundings.pop(name, None)
    running = subprocess.Popen([sys.executable, "-c", PROGRAM], env=surroundings, stdout=subprocess.PIPE, text=True)
    assert running.stdout
    pid, folder = running.stdout.readline().split()
    assert psutil.pid_exists(int(pid))
    running.send_signal(signal.SIGKILL)
    running.wait(timeout=10)
    ends = time.monotonic() + 20
    while (psutil.pid_exists(int(pid)) or Path(folder).exists()) and time.monotonic() < ends:
        time.sleep(0.1)
    assert not Path(folder).exists()
    assert not psutil.pid_exists(int(pid))


def test_a_closed_stand_in_listens_no_more(standin: StandIn) -> None:
    with StandIn() as another:
        port = another.proxy.port
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
