"""The plain parts of talking HTTP: requests, responses, and a threaded server that hands one to a function."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True)
class Request:
    """One request as the handlers see it; header names are lower case."""

    method: str
    host: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        """The body as JSON, or None when there is none."""
        return json.loads(self.content) if self.content else None


@dataclass(frozen=True)
class Response:
    """One response; a body that is not bytes is sent as JSON. ``drop`` closes the connection without a word."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    drop: bool = False

    @property
    def content(self) -> bytes:
        """The bytes of the body."""
        if self.body is None:
            return b""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


def error(status: int, code: str, message: str, **headers: str) -> Response:
    """Return an error in ARM's shape."""
    return Response(status, {"error": {"code": code, "message": message}}, headers)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    # A burst of connections must wait for its threads, not be refused.
    request_queue_size = 512


class Server:
    """A threaded HTTP server on loopback; with certificates it speaks TLS."""

    def __init__(self, handle: Callable[[Request], Response], tls: ssl.SSLContext | None = None) -> None:
        self._server = _Listener(("127.0.0.1", 0), _handler(handle))
        if tls:
            # The handshake happens in the connection's thread: a client that sends nothing must not block the others.
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


def _handler(handle: Callable[[Request], Response]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            headers = {k.lower(): v for k, v in self.headers.items()}
            content = self.rfile.read(int(headers.get("content-length") or 0))
            host = headers.get("host", "").split(":")[0]
            request = Request(self.command, host, unquote(parts.path), dict(parse_qsl(parts.query)), headers, content)
            response = handle(request)
            if response.drop:
                self.close_connection = True
                return
            self.send_response(response.status)
            body = response.content
            given = {"content-type": "application/json", **{k.lower(): v for k, v in response.headers.items()}}
            for name, value in {**given, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = _answer

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing; the stand-in keeps its own log."""

        def handle(self) -> None:
            """Serve one connection; one that breaks off is the client's affair."""
            try:
                super().handle()
            except (ConnectionError, ssl.SSLError, TimeoutError):
                self.close_connection = True

    return Handler
