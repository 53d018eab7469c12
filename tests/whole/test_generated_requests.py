"""Ten thousand generated requests to the live endpoints: every answer is the contract's, and nothing falls over."""

from __future__ import annotations

import http.client
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import hypothesis
import psutil
import pytest
import requests
import schemathesis
from hypothesis import strategies as st
from place import Place
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from runbook.lint import swagger
from runbook.modelling import request as contract
from runbook.platform.base import Profile
from runbook.platform.local import LocalPlatform
from runbook.testing import scoring_client

PROFILES: dict[str, Profile] = {"dev": "managed", "prod": "kubernetes"}
REPLICAS = {"dev": 1, "prod": 3}
OURS, SWAGGERS = {"dev": 400, "prod": 9_000}, {"dev": 100, "prod": 1_000}
# Written down a second time, and on purpose: what the contract accepts is compared with what makes sense.
SENSE: dict[str, Callable[[Any], bool]] = {
    "Pclass": lambda v: type(v) is int and v in (1, 2, 3),
    "Sex": lambda v: type(v) is int and v in (0, 1),
    "Age": lambda v: v is None or (type(v) in (int, float) and 0 <= v <= 120),
    "SibSp": lambda v: type(v) is int and 0 <= v <= 20,
    "Parch": lambda v: type(v) is int and 0 <= v <= 20,
    "Fare": lambda v: v is None or (type(v) in (int, float) and 0 <= v <= 1000),
    "Embarked": lambda v: v is None or (type(v) is int and v in (0, 1, 2)),
}

pytestmark = [pytest.mark.whole, pytest.mark.slow, pytest.mark.timeout(1200)]


@dataclass
class Live:
    """One stage's endpoint, asked over one connection that is kept; ``seen`` counts the statuses score.py meant."""

    stage: str
    uri: str
    key: str
    version: str
    connection: http.client.HTTPConnection
    seen: Counter[int] = field(default_factory=Counter)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}

    def send(self, body: bytes) -> None:
        """Post one body and compare the answer with what the contract says of it in this process."""
        self.connection.request("POST", urlsplit(self.uri).path, body, self.headers)
        reply = self.connection.getresponse()
        self.judge(body, reply.status, reply.read(), reply.getheader(scoring_client.ORIGINAL_STATUS))

    def judge(self, body: bytes, status: int, content: bytes, original: str | None) -> None:
        wanted, name, rows = meant(body)
        assert status == scoring_client.expected_status(wanted, "score.py", PROFILES[self.stage]), content
        if wanted == 200:
            assert sensible(body)
            assert scoring_client.answers(content, rows, self.version)
        else:
            error = json.loads(content)["error"]
            assert set(error) == {"code", "field", "message"} and error["field"] == name
            # Other refusals (no rows, no object) are about no field.
            assert error["field"] is not None or error["code"] not in ("bad_value", "missing_field", "unknown_field")
            assert status != 424 or original == str(wanted)
        self.seen[wanted] += 1


def meant(body: bytes) -> tuple[int, str | None, int | None]:
    """Return status, field at fault and number of rows (None: no list) as the contract has them."""
    try:
        passengers, many = contract.decode(body)
    except contract.ContractError as refused:
        return refused.status, refused.field, None
    return 200, None, len(passengers) if many else None


def sensible(body: bytes) -> bool:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    document = json.loads(body.decode("utf-8"), object_pairs_hook=once)
    rows = document if isinstance(document, list) else [document]
    return bool(rows) and all(set(r) == set(SENSE) and all(SENSE[k](v) for k, v in r.items()) for r in rows)


def right(name: str) -> st.SearchStrategy[Any]:
    f = contract.field(name)
    numbers: st.SearchStrategy[Any]
    if f.whole:
        numbers = st.integers(int(f.low), int(f.high))
    else:
        numbers = st.floats(f.low, f.high) | st.integers(int(f.low), int(f.high)) | st.sampled_from([f.low, f.high])
    return numbers | st.none() if f.nullable else numbers


def wrong(name: str) -> st.SearchStrategy[Any]:
    """Values that are mostly wrong for the field; some happen to be right, which the contract decides."""
    f = contract.field(name)
    edges = [
        f.low - 1,
        f.low - 1e-9,
        -0.0,
        f.high + 1,
        math.nextafter(f.high, math.inf),
        f.low + 0.5,
        1.0,
        2**63,
        10**400,
    ]
    anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=60)
    return st.sampled_from(edges) | anything | st.lists(anything, max_size=2) | st.dictionaries(st.text(), anything)


@st.composite
def passengers(draw: st.DrawFn) -> dict[str, Any]:
    row = {name: draw(right(name)) for name in draw(st.permutations(contract.FIELDS))}
    match draw(st.sampled_from(["right", "right", "wrong", "missing", "unknown"])):
        case "wrong":
            for name in draw(st.sets(st.sampled_from(contract.FIELDS), min_size=1, max_size=2)):
                row[name] = draw(wrong(name))
        case "missing":
            del row[draw(st.sampled_from(contract.FIELDS))]
        case "unknown":
            row[draw(st.text(max_size=60) | st.sampled_from(["age", "Age ", "Ａge", "__class__"]))] = draw(wrong("Age"))
    return row


@st.composite
def written(draw: st.DrawFn) -> bytes:
    """A passenger or a list of them as a client may write it."""
    document = draw(passengers() | passengers() | st.lists(passengers(), max_size=4))
    spaces, indent = (
        draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " :\n")])),
        draw(st.sampled_from([None, 2])),
    )
    text = json.dumps(document, ensure_ascii=draw(st.booleans()), separators=spaces, indent=indent)
    return text.encode("utf-8", "surrogatepass")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """What was written, with a stretch of it lost, given twice or overwritten by other bytes."""
    body = draw(written())
    begin = draw(st.integers(0, len(body)))
    end = draw(st.integers(begin, min(len(body), begin + 40)))
    return body[:begin] + draw(st.sampled_from([b"", body[begin:end] * 2]) | st.binary(max_size=8)) + body[end:]


def documents() -> st.SearchStrategy[bytes]:
    """Any JSON, but no request."""
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    nested = st.recursive(leaves, lambda some: st.lists(some) | st.dictionaries(st.text(), some), max_leaves=12)
    return nested.map(lambda document: json.dumps(document).encode())


def bodies() -> st.SearchStrategy[bytes]:
    deep = st.integers(1, 5_000).map(lambda depth: b"[" * depth)
    return written() | written() | written() | damaged() | documents() | st.binary(max_size=400) | deep


def limits(count: int) -> hypothesis.settings:
    """Generate this many, the same ones every time, and none smaller afterwards: each costs the endpoint a request."""
    phases = [hypothesis.Phase.generate]
    return hypothesis.settings(
        max_examples=count,
        phases=phases,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


def replicas(stage: str) -> list[int]:
    rows = [row for row in LocalPlatform().status() if row.stage == stage]
    return [pid for row in rows for deployment in row.deployments for pid in deployment.replicas]


def processes(stage: str) -> dict[int, list[int]]:
    """The pid of every replica of the stage, and the pids of its workers."""
    return {pid: sorted(child.pid for child in psutil.Process(pid).children(recursive=True)) for pid in replicas(stage)}


def at_rest(stage: str) -> None:
    """Wait until the replicas that an earlier load called for have gone: they may go, and would look like deaths."""
    deadline = time.monotonic() + 90
    while len(replicas(stage)) != REPLICAS[stage]:
        assert time.monotonic() < deadline, replicas(stage)
        time.sleep(0.5)


@pytest.fixture(params=["dev", "prod"])
def live(request: pytest.FixtureRequest, place: Place) -> Iterator[Live]:
    found = place.endpoint(request.param)
    address = urlsplit(found["scoring_uri"])
    assert address.hostname == "127.0.0.1" and address.port
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    with closing(connection):
        yield Live(request.param, found["scoring_uri"], found["key"], found["model_version"], connection)


def test_generated_requests_are_answered_by_the_contract_and_harm_no_worker(
    live: Live, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNBOOK_HOME", str(place.home))
    at_rest(live.stage)
    before = processes(live.stage)
    assert all(before.values())
    ours, swaggers = OURS[live.stage], SWAGGERS[live.stage]

    limits(ours)(hypothesis.given(bodies())(live.send))()
    send_from_the_swagger(live, swaggers)

    assert live.seen.total() == ours + swaggers
    # Without enough of each kind, nothing would have been tried.
    assert {status: live.seen[status] * 20 >= ours for status in (200, 400, 422)} == {200: True, 400: True, 422: True}
    assert processes(live.stage) == before


def send_from_the_swagger(live: Live, count: int) -> None:
    """Half of the requests as the committed swagger has them, half in breach of it; each answer fits the swagger."""
    document = swagger.swagger()
    # Else it makes up keys, and the router would answer for score.py.
    del document["securityDefinitions"], document["paths"]["/score"]["post"]["security"]
    operation = schemathesis.openapi.from_dict(document)["/score"]["POST"]
    # On a managed endpoint a refusal is 424, which the swagger has under "default" as the router's word.
    checks = [not_a_server_error, status_code_conformance, response_schema_conformance]
    base = live.uri.removesuffix("/score")
    with requests.Session() as session:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @limits(count // 2)
            @hypothesis.given(operation.as_strategy(generation_mode=mode))
            def each(case: Any) -> None:
                reply = case.call(base_url=base, session=session, headers=live.headers, timeout=30)
                case.validate_response(reply, checks=checks)
                body = reply.request.body or b""
                sent = body.encode() if isinstance(body, str) else body
                original = reply.headers.get(scoring_client.ORIGINAL_STATUS, [None])[0]
                live.judge(sent, reply.status_code, reply.content, original)

            each()
