from __future__ import annotations

import base64
import json
import urllib.parse
from pathlib import Path

import pytest

from runbook.events import MASKED, EventLog, Mask, MaskedNotebooks

SECRET = 'pa"ss/w+rd\\ 100%'


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        json.dumps(SECRET),
        json.dumps(json.dumps(SECRET)),
        urllib.parse.quote(SECRET, safe=""),
        base64.b64encode(SECRET.encode()).decode(),
    ],
)
def test_a_known_secret_is_masked_in_every_form(form: str) -> None:
    masked = Mask(lambda: [SECRET])(f"before {form} after")
    assert MASKED in masked and "pa" not in masked.replace("before", "").replace("after", "")


@pytest.mark.parametrize(
    "name", ["API_KEY", "ARM_CLIENT_SECRET", "SYSTEM_ACCESSTOKEN", "DB_PASSWORD", "STORAGE_CONNECTION_STRING"]
)
def test_the_value_of_a_variable_named_like_a_secret_is_masked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "very-secret-value")
    assert "very-secret-value" not in Mask()("x very-secret-value y")


@pytest.mark.parametrize(
    "text",
    [
        "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=Zm9vYmFyZm9vYmFy;EndpointSuffix=x",
        "https://a.example/c?sv=2024&sig=Zm9vYmFyZm9vYmFy&se=1",
        "Authorization: Bearer Zm9vYmFyZm9vYmFy",
        "https://user:Zm9vYmFyZm9vYmFy@example.org/x",
        "token eyJhbGciOiJub25lIn0.eyJzdWIiOiJab20ifQ.Zm9vYmFyZm9vYmFy",
        "InstrumentationKey=Zm9vYmFyZm9vYmFy",
    ],
)
def test_what_is_shaped_like_a_secret_is_masked_without_being_known(text: str) -> None:
    masked = Mask()(text)
    assert "Zm9vYmFyZm9vYmFy" not in masked and MASKED in masked


def test_a_secret_that_appears_later_is_masked_from_then_on() -> None:
    known: list[str] = []
    mask = Mask(lambda: known)
    assert mask("key-number-one") == "key-number-one"
    known.append("key-number-one")
    assert mask("key-number-one") == MASKED


def test_ordinary_text_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "blue")
    text = "blue serves 100 % at http://127.0.0.1:8601/score, sha256 97c590906391d4156c8bd86908136a63"
    assert Mask()(text) == text


def test_events_are_one_masked_json_line_each(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "r1" / "events.jsonl", "r1", Mask(lambda: ["secret-value"]))
    log.write("step_started", "20_train", note="with secret-value")
    log.write("step_ended", "20_train")
    lines = [json.loads(line) for line in (tmp_path / "r1" / "events.jsonl").read_text().splitlines()]
    assert [e["kind"] for e in lines] == ["step_started", "step_ended"]
    assert lines[0]["note"] == f"with {MASKED}" and lines[0]["run_id"] == "r1"


def test_a_notebook_is_masked_when_it_is_written_and_whole_when_it_is_read(tmp_path: Path) -> None:
    writer = MaskedNotebooks(Mask(lambda: ["secret-value"]))
    writer.write('{"cells": ["secret-value"]}', f"masked://{tmp_path / 'x.ipynb'}")
    assert writer.read(f"masked://{tmp_path / 'x.ipynb'}") == f'{{"cells": ["{MASKED}"]}}'
    assert [p.name for p in tmp_path.iterdir()] == ["x.ipynb"]
