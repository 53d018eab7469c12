"""The client of an endpoint: straight HTTP requests with a key, and what an answer must look like."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec

from runbook.errors import UsageError
from runbook.platform.base import Endpoint, Keys, Profile, Stage
from runbook.testing import load, route
from runbook.testing.load import REQUEST_ID, Receiver

Origin = Literal["score.py", "router"]

PIN = "azureml-model-deployment"
# The id that the service gives a request; Azure's support asks for it.
SERVICE_REQUEST_ID = "x-request-id"
ORIGINAL_STATUS = "ms-azureml-model-error-statuscode"
WRONG_KEY = "0" * 32


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The answer to one row, exactly the three fields every caller relies on."""

    prediction: Literal[0, 1]
    probability: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
    model_version: str


@dataclass(frozen=True)
class Request:
    """One HTTP request; ``path`` None is the scoring path, otherwise it is read relative to it."""

    body: bytes = b""
    method: str = "POST"
    path: str | None = None
    content_type: str | None = "application/json"
    key: Literal["right", "wrong", "none"] = "right"


@dataclass(frozen=True)
class Reply:
    """What came back; without an answer ``status`` is None and ``problem`` says why. Header names are lower case.

    ``request_id`` is the id that was sent.
    """

    status: int | None
    seconds: float
    request_id: str
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""

    @property
    def answers_its_request(self) -> bool:
        """Whether the answer carries the id that was sent."""
        return self.headers.get(REQUEST_ID) == self.request_id

    @property
    def document(self) -> Any:
        """The parsed body, or None when it is not JSON."""
        try:
            return json.loads(self.content)
        except ValueError:
            return None


@dataclass(frozen=True)
class Client:
    """Sends requests to one endpoint's scoring URI, pinned to ``deployment`` so that it answers without traffic."""

    endpoint: Endpoint
    keys: Keys
    deployment: str | None = None
    timeout_seconds: float = 30.0

    def headers(self, key: str | None = None) -> dict[str, str]:
        """Return the headers that authorise and pin a request; they hold the key, so they are never shown."""
        pin = {PIN: self.deployment} if self.deployment else {}
        return {"Authorization": f"Bearer {key or self.keys.primary}", **pin}

    def receiver(self) -> Receiver:
        """Return this endpoint and deployment as the receiver of a load."""
        return Receiver(self.endpoint.scoring_uri, self.headers(), timeout_seconds=self.timeout_seconds)

    def send(self, request: Request) -> Reply:
        """Send one request over a connection of its own; no answer is a Reply with a problem, not an exception."""
        request_id = load.new_request_id()
        headers = self.headers(WRONG_KEY if request.key == "wrong" else None) | {REQUEST_ID: request_id}
        if request.key == "none":
            del headers["Authorization"]
        if request.content_type:
            headers["Content-Type"] = request.content_type
        began = time.perf_counter()
        try:
            status, content, found = self._exchange(request, headers)
        except (OSError, http.client.HTTPException) as error:
            words = f"no answer: {type(error).__name__}: {error}"
            return Reply(None, time.perf_counter() - began, request_id, problem=words)
        return Reply(status, time.perf_counter() - began, request_id, content, found)

    def _exchange(self, request: Request, headers: Mapping[str, str]) -> tuple[int, bytes, dict[str, str]]:
        address = urlsplit(self.endpoint.scoring_uri)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise UsageError(f"scoring_uri is {self.endpoint.scoring_uri!r}: expected an http or https address.")
        path = address.path.rsplit("/", 1)[0] + f"/{request.path}" if request.path else address.path
        way = route.to(self.endpoint.scoring_uri)
        sent = dict(headers)
        if way.proxy and way.tls is None:
            # A proxy of plain HTTP reads the whole address in the request line, and its own password among the headers.
            path = f"{address.scheme}://{address.netloc}{path}"
            sent |= way.proxy_headers
        connection = self._connection(way)
        try:
            connection.request(request.method, path, body=request.body or None, headers=sent)
            reply = connection.getresponse()
            return reply.status, reply.read(), {name.lower(): value for name, value in reply.getheaders()}
        finally:
            connection.close()

    def _connection(self, way: route.Route) -> http.client.HTTPConnection:
        address = urlsplit(self.endpoint.scoring_uri)
        first = urlsplit(way.proxy) if way.proxy else address
        host = str(first.hostname)
        if way.tls is None:
            return http.client.HTTPConnection(host, first.port, timeout=self.timeout_seconds)
        connection = http.client.HTTPSConnection(host, first.port, timeout=self.timeout_seconds, context=way.tls)
        if way.proxy:
            connection.set_tunnel(str(address.hostname), address.port or 443, headers=way.proxy_headers)
        return connection


def expected_status(status: int, by: Origin, profile: Profile) -> int:
    """Return the status a caller sees for score.py's own ``status`` (or the router's, when the router answers itself).

    The managed profile reports anything but 200 from score.py as 424; the Kubernetes profile passes it on and
    reports an exception in run(), which is a 500, as 502. Source: "HTTP status codes" in Azure ML's page
    "Troubleshoot online endpoints deployment and scoring".
    """
    if by == "router" or status == 200:
        return status
    if profile == "managed":
        return 424
    return 502 if status == 500 else status


def answers(content: bytes, rows: int | None, model_version: str) -> list[Answer]:
    """Return the answers to a list of ``rows`` requests (None: a single one); raises ValueError for anything else."""
    if rows is None:
        each = [msgspec.json.decode(content, type=Answer)]
    else:
        each = msgspec.json.decode(content, type=list[Answer])
    if len(each) != (1 if rows is None else rows):
        raise ValueError(f"{len(each)} answers, expected {rows}")
    versions = {a.model_version for a in each} - {model_version}
    if versions:
        raise ValueError(f"model_version {', '.join(sorted(versions))}, expected {model_version}")
    return each


def judge(rows: int | None, model_version: str) -> Callable[[bytes], bool]:
    """Return a judge of a 200 answer's bytes for a load: right count, right fields, right model version."""

    def accepts(content: bytes) -> bool:
        try:
            return bool(answers(content, rows, model_version))
        except ValueError:
            return False

    return accepts


def ask(endpoint: Endpoint | None, keys: Callable[[Stage], Keys], body: Any, count: int) -> list[Reply]:
    """Send the JSON of ``body`` ``count`` times through the endpoint, naming no deployment, and return the replies.

    ``keys`` returns the keys of a stage. Without an endpoint, or with a count of 0, no key is read and nothing is sent.
    """
    if endpoint is None or count == 0:
        return []
    client = Client(endpoint, keys(endpoint.stage))
    request = Request(json.dumps(body).encode())
    return [client.send(request) for _ in range(count)]
