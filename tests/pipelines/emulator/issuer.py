"""Azure DevOps as an issuer: gives a fresh assertion for a service connection to whoever holds the job's own token."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from emulator.service import JOB_TOKEN

ASSERTION = "an-assertion-of-the-emulator"
CONNECTION = "00000000-0000-0000-0000-000000000001"


class Issuer:
    """Listens on loopback while it is entered; ``answered`` holds the status of every answer."""

    def __init__(self) -> None:
        self.answered: list[int] = []
        answered = self.answered

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = parse_qs(urlsplit(self.path).query)
                right = self.headers["Authorization"] == f"Bearer {JOB_TOKEN}"
                right = right and asked.get("serviceConnectionId") == [CONNECTION]
                status, body = (200, {"oidcToken": ASSERTION}) if right else (401, {"message": "not this job's token"})
                content = json.dumps(body).encode()
                answered.append(status)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Say nothing: what was answered is kept."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def address(self) -> str:
        """What an agent finds as SYSTEM_OIDCREQUESTURI."""
        return f"http://127.0.0.1:{self._server.server_port}/oidc"

    def __enter__(self) -> Issuer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)
