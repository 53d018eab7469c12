"""Requests and load go the way that the environment names: proxy, exceptions and certificates, as the Azure SDK goes."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from azure_standin import certificates
from azure_standin.proxy import Proxy
from serving import PATH, serving

from runbook.errors import UsageError
from runbook.platform.base import Endpoint, Keys
from runbook.testing import load, route
from runbook.testing.scoring_client import Client, Request

# A name that no resolver answers: only the proxy knows where it is.
HOST = "titanic-dev.invalid"
URI = f"https://{HOST}{PATH}"
NAMES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", *route.BUNDLES)


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def echo(request: web.Request) -> web.Response:
    heard = {"path": request.path, "host": request.headers["host"], "headers": dict(request.headers)}
    return web.json_response(heard)


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy that knows HOST, and behind it a server whose certificate only a company's authority vouches for."""
    made = certificates.make(tmp_path / "certificates", [HOST])
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(made.certificate, made.key)
    with serving(echo, tls) as uri:
        port = urlsplit(uri).port
        through = Proxy(lambda host: port if host == HOST else None)
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{through.port}")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(made.authority))
        try:
            yield through
        finally:
            through.close()


def client(uri: str) -> Client:
    endpoint = Endpoint("titanic-dev", "dev", "managed", uri, {}, (), {})
    return Client(endpoint, Keys("first", "second"), timeout_seconds=5)


def send_load(uri: str) -> dict[str, int]:
    body = load.Body(b"{}", lambda content: bool(json.loads(content)))
    phases = [load.Phase("short", 0.5, 20, body)]
    phase = load.run(load.Receiver(uri, {}), phases, allow_remote=True).phases[0]
    return {"planned": phase.planned, "ok": phase.ok}


def test_a_request_goes_through_the_proxy_and_trusts_the_companys_authority(proxy: Proxy) -> None:
    reply = client(URI).send(Request(b"{}"))
    assert (reply.status, reply.problem) == (200, "")
    assert reply.document["path"] == PATH
    assert proxy.hosts() == {HOST}


def test_a_load_goes_through_the_proxy_and_trusts_the_companys_authority(proxy: Proxy) -> None:
    found = send_load(URI)
    assert found["ok"] == found["planned"] > 0
    assert proxy.hosts() == {HOST}


def test_ssl_cert_file_names_the_authority_too(proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    assert "CERTIFICATE_VERIFY_FAILED" in client(URI).send(Request(b"{}")).problem
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificates" / "authority.pem"))
    assert client(URI).send(Request(b"{}")).status == 200


def test_a_host_of_no_proxy_is_reached_straight(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "localhost,.invalid")
    assert client(URI).send(Request(b"{}")).status is None
    assert proxy.hosts() == set()


def test_this_machine_is_never_reached_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with serving(echo) as uri:
        assert client(uri).send(Request(b"{}")).status == 200
        found = send_load(uri)
    assert found["ok"] == found["planned"] > 0


def test_plain_http_reaches_the_proxy_with_the_whole_address_and_the_proxys_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(echo) as uri:
        monkeypatch.setenv("HTTP_PROXY", f"http://me:it%40s@{urlsplit(uri).netloc}")
        heard = client(f"http://10.1.2.3{PATH}").send(Request(b"{}")).document
        found = send_load(f"http://10.1.2.3{PATH}")
    assert (heard["host"], heard["path"]) == ("10.1.2.3", PATH)
    assert heard["headers"]["Proxy-Authorization"] == "Basic bWU6aXRAcw=="
    assert found["ok"] == found["planned"] > 0


@pytest.mark.parametrize(("exceptions", "straight"), [("10.0.0.0/8", True), ("192.168.0.0/16,x", False), ("*", True)])
def test_no_proxy_may_name_a_network(monkeypatch: pytest.MonkeyPatch, exceptions: str, straight: bool) -> None:
    monkeypatch.setenv("HTTP_PROXY", "proxy.example:8080")
    monkeypatch.setenv("NO_PROXY", exceptions)
    assert route.to("http://10.1.2.3/score").proxy == (None if straight else "http://proxy.example:8080")


def test_a_bundle_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    with pytest.raises(UsageError, match="REQUESTS_CA_BUNDLE is /nowhere/ca.pem"):
        route.to(URI)


def test_the_proxys_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:password@proxy.example:8080")
    assert "Authorization" not in repr(route.to(URI))
