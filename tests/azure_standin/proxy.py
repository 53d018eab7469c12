"""The CONNECT proxy that clients are aimed with: it knows which host means which local server, and logs every one."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable


class Proxy:
    """Tunnels CONNECT requests to loopback; ``route`` gives the port of a host, or None to refuse it with 403."""

    def __init__(self, route: Callable[[str], int | None]) -> None:
        self._route = route
        self.connections: list[tuple[str, bool]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open = True
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._listener.getsockname()[1])

    def hosts(self) -> set[str]:
        """Every host that anybody has asked for."""
        return {host for host, _ in self.connections}

    def close(self) -> None:
        """Stop listening."""
        self._open = False
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=5)

    def _accept(self) -> None:
        while self._open:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            client.settimeout(30)
            head = b""
            while b"\r\n\r\n" not in head and len(head) < 65536:
                part = client.recv(4096)
                if not part:
                    return
                head += part
            method, target = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")[:2]
            host = target.rpartition(":")[0] if method == "CONNECT" else target
            port = self._route(host) if method == "CONNECT" else None
            self.connections.append((host, port is not None))
            if port is None:
                client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            with socket.create_connection(("127.0.0.1", port), timeout=30) as server:
                client.sendall(b"HTTP/1.1 200 Connection Established\r\n\r\n")
                _pump(client, server)


def _pump(one: socket.socket, other: socket.socket) -> None:
    one.settimeout(None)
    other.settimeout(None)
    with selectors.DefaultSelector() as ready:
        ready.register(one, selectors.EVENT_READ, other)
        ready.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in ready.select(timeout=300):
                try:
                    data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                    if data:
                        key.data.sendall(data)
                except OSError:
                    return
                if not data:
                    return
