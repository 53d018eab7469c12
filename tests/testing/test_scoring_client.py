from __future__ import annotations

import json
import re

import pytest
from aiohttp import web
from serving import PATH, serving

from runbook.errors import UsageError
from runbook.platform.base import Endpoint, Keys, Profile
from runbook.testing import scoring_client
from runbook.testing.scoring_client import Client, Origin, Request

ANSWER = {"prediction": 1, "probability": 0.75, "model_version": "7"}


def client(uri: str, profile: Profile = "kubernetes", deployment: str | None = "green") -> Client:
    endpoint = Endpoint("titanic-prod", "prod", profile, uri, {"blue": 100}, (), {})
    return Client(endpoint, Keys("first", "second"), deployment, timeout_seconds=2)


async def echo(request: web.Request) -> web.Response:
    heard = {"method": request.method, "path": request.path, "body": (await request.read()).decode()}
    return web.json_response(heard | {"headers": {k.lower(): v for k, v in request.headers.items()}})


def test_a_request_goes_straight_to_the_scoring_uri_with_key_pin_and_request_id() -> None:
    with serving(echo) as uri:
        reply = client(uri).send(Request(b'{"Age": 1}'))
    heard = reply.document
    assert (heard["method"], heard["path"], heard["body"]) == ("POST", PATH, '{"Age": 1}')
    assert heard["headers"]["authorization"] == "Bearer first"
    assert heard["headers"]["azureml-model-deployment"] == "green"
    assert heard["headers"]["content-type"] == "application/json"
    assert heard["headers"]["x-ms-client-request-id"] == reply.request_id
    assert "x-request-id" not in heard["headers"]
    assert reply.seconds > 0


def test_a_request_id_survives_what_the_service_does_to_it_and_is_never_used_twice() -> None:
    with serving(echo) as uri:
        first, second = (client(uri).send(Request()).request_id for _ in range(2))
    # Azure removes everything but letters, digits, hyphens and underscores, and cuts at 40 characters.
    assert re.fullmatch(r"[A-Za-z0-9_-]{32,40}", first)
    assert first != second


def test_without_a_deployment_nothing_is_pinned() -> None:
    with serving(echo) as uri:
        heard = client(uri, deployment=None).send(Request()).document
    assert "azureml-model-deployment" not in heard["headers"]


def test_key_path_method_and_content_type_can_be_wrong_on_purpose() -> None:
    with serving(echo) as uri:
        wrong = client(uri).send(Request(key="wrong", path="unknown", method="PUT", content_type=None)).document
        none = client(uri).send(Request(key="none")).document
    assert wrong["headers"]["authorization"] not in ("Bearer first", "Bearer second")
    assert (wrong["method"], wrong["path"]) == ("PUT", PATH.replace("/score", "/unknown"))
    assert "content-type" not in wrong["headers"]
    assert "authorization" not in none["headers"]


def test_an_endpoint_that_does_not_answer_is_a_reply_with_a_problem() -> None:
    with serving(echo) as uri:
        pass
    reply = client(uri).send(Request())
    assert reply.status is None
    assert "ConnectionRefusedError" in reply.problem


def test_a_scoring_uri_without_a_scheme_is_refused() -> None:
    with pytest.raises(UsageError, match="titanic/score"):
        client("titanic/score").send(Request())


def test_the_keys_are_never_shown() -> None:
    sender = client("http://127.0.0.1:9/score")
    assert "first" not in repr(sender)
    assert "first" not in repr(sender.receiver())
    assert sender.receiver().headers["Authorization"] == "Bearer first"


@pytest.mark.parametrize(
    ("status", "by", "managed", "kubernetes"),
    [
        (200, "score.py", 200, 200),
        (400, "score.py", 424, 400),
        (422, "score.py", 424, 422),
        (500, "score.py", 424, 502),
        (401, "router", 401, 401),
        (404, "router", 404, 404),
    ],
)
def test_a_status_is_seen_through_the_profile_of_the_endpoint(
    status: int, by: Origin, managed: int, kubernetes: int
) -> None:
    assert scoring_client.expected_status(status, by, "managed") == managed
    assert scoring_client.expected_status(status, by, "kubernetes") == kubernetes


@pytest.mark.parametrize(
    "document",
    [
        ANSWER | {"prediction": 2},
        ANSWER | {"prediction": True},
        ANSWER | {"probability": 1.5},
        ANSWER | {"probability": None},
        ANSWER | {"model_version": 7},
        ANSWER | {"model_version": "8"},
        ANSWER | {"extra": 1},
        {"prediction": 1, "probability": 0.75},
        [ANSWER],
        None,
    ],
)
def test_anything_but_the_wanted_answer_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match="."):
        scoring_client.answers(json.dumps(document).encode(), None, "7")
    assert not scoring_client.judge(None, "7")(json.dumps(document).encode())


def test_a_list_is_right_only_with_an_answer_per_row() -> None:
    two = json.dumps([ANSWER, ANSWER]).encode()
    assert scoring_client.judge(2, "7")(two)
    assert not scoring_client.judge(3, "7")(two)
    assert not scoring_client.judge(None, "7")(two)
    assert scoring_client.judge(None, "7")(json.dumps(ANSWER).encode())
