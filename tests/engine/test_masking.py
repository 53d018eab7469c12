from __future__ import annotations

import base64
import html
import json
import re
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from built import HOLDS, Builder
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from markupsafe import escape

from runbook import paths, report
from runbook.engine import step
from runbook.engine.event_log import EventLog
from runbook.engine.masking import MASKED, Mask, names_a_secret
from runbook.engine.step import Limits, Result, Step

SECRET = "pa\"ss/w+rd<\\ 100%'&x"
FORMS = {
    "plain": SECRET,
    "json": json.dumps(SECRET),
    "json in json": json.dumps(json.dumps(SECRET)),
    "url": urllib.parse.quote(SECRET, safe=""),
    "url path": urllib.parse.quote(SECRET),
    "form": urllib.parse.quote_plus(SECRET),
    "url, small letters": re.sub("%..", lambda m: m[0].lower(), urllib.parse.quote(SECRET, safe="")),
    "html": html.escape(SECRET),
    "html text": html.escape(SECRET, quote=False),
    "markup": str(escape(SECRET)),
    "python": repr(SECRET),
}


def pem() -> str:
    """Return a private key as a file holds it: header, lines of 64 characters, a short last line, footer."""
    key = ec.generate_private_key(ec.SECP384R1())
    kind, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, kind, none).decode()


def rest(text: str, secret: str = SECRET) -> list[str]:
    """Return the pieces of ``secret`` of six characters and more that ``text`` still shows."""
    return [secret[at : at + 6] for at in range(len(secret) - 5) if secret[at : at + 6] in text]


@pytest.mark.parametrize("name", FORMS)
def test_a_known_secret_is_masked_in_every_form(name: str) -> None:
    shown = FORMS[name]
    inside = MASKED if shown[0] not in "\"'" else f"{shown[0]}{MASKED}{shown[0]}"
    masked = Mask(lambda: [SECRET])(f"before {shown} after")
    assert masked.replace("\\", "").replace('""', '"') == f"before {inside} after"


@pytest.mark.parametrize("secret", ["pässwörd & more", "tab\tand\"'<>", "snow☃man=1/2+3"])
@pytest.mark.parametrize("outer", [html.escape, repr, json.dumps, urllib.parse.quote, lambda text: text])
@pytest.mark.parametrize("inner", [html.escape, repr, json.dumps, urllib.parse.quote_plus, ascii])
def test_a_secret_is_masked_that_was_escaped_more_than_once(
    inner: Callable[[str], str], outer: Callable[[str], str], secret: str
) -> None:
    masked = Mask(lambda: [secret])(f"a {outer(inner(f'b {secret} c'))} d")
    around = len(f"a {outer(inner('b  c'))} d")
    assert MASKED in masked and len(masked) <= around + len(MASKED) + 4


@pytest.mark.parametrize("urlsafe", [False, True])
@pytest.mark.parametrize("before", ["", "u", "us", "user:", "a longer user:"])
@pytest.mark.parametrize("after", ["", "\n", "xy"])
def test_a_known_secret_is_masked_in_base64_wherever_it_stands(before: str, after: str, urlsafe: bool) -> None:
    secret = "kQ7~?>tilde??>>secret~~value"
    encode = base64.urlsafe_b64encode if urlsafe else base64.b64encode
    whole = encode(f"{before}{secret}{after}".encode()).decode()
    masked = Mask(lambda: [secret])(whole)
    assert MASKED in masked
    # At most one character at each end is shared with a neighbour, and stays.
    left, right = masked.split(MASKED)
    shared = len(encode(before.encode()).decode().rstrip("=")) + len(encode(after.encode()).decode()) + 2
    assert len(left) + len(right) <= shared


def test_a_private_key_is_masked_as_a_block_and_line_by_line() -> None:
    key = pem()
    lines = key.splitlines()
    mask = Mask(lambda: [key])
    wrapped = base64.encodebytes(key.encode()).decode()
    shown = [key, key.replace("\n", "\r\n"), json.dumps(key), repr(key), key.replace("\n", " "), *lines[1:-1]]
    for text in [*shown, base64.b64encode(key.encode()).decode(), wrapped, "\n".join(f"  > {line}" for line in lines)]:
        masked = mask(f"it says {text}.")
        assert not [line for line in lines[1:-1] if line in masked], text
        assert rest(masked, base64.b64encode(key.encode()).decode()) == [], text


def test_a_private_key_is_masked_that_was_not_known() -> None:
    key = pem()
    for text in (key, json.dumps({"key": key}), repr(key), key[: len(key) // 2]):
        masked = Mask()(f"before {text}")
        assert not [line for line in key.splitlines()[1:-1] if line in masked]
        assert masked.startswith("before ")


@pytest.mark.parametrize("secrets", [["abc-short", "xx-abc-short-and-long"], ["xx-abc-short-and-long", "abc-short"]])
def test_a_secret_inside_a_longer_one_leaves_nothing_of_the_longer_one(secrets: list[str]) -> None:
    assert Mask(lambda: secrets)("it is xx-abc-short-and-long or abc-short.") == f"it is {MASKED} or {MASKED}."
    assert Mask(lambda: ["first-half", "half-second"])("a first-half-second b") == f"a {MASKED} b"


@pytest.mark.parametrize(
    "name",
    [
        "API_KEY", "API_KEY_2", "ARM_CLIENT_SECRET", "SYSTEM_ACCESSTOKEN", "DB_PASSWORD", "STORAGE_CONNECTION_STRING",
        "GITHUB_PAT", "DB_PASS", "DB_PWD", "BLOB_SAS", "MY_CREDENTIALS", "RUNBOOK_TLS_PRIVATE_KEY_PEM", "clientSecret",
        "ApiKey", "db-passphrase", "AWS_SECRET_ACCESS_KEY", "PASSWORDS", "APP_SASToken",
    ],
)  # fmt: skip
def test_the_value_of_a_variable_named_like_a_secret_is_masked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "very-secret-value")
    assert "very-secret-value" not in Mask()("x very-secret-value y")


@pytest.mark.parametrize(
    "name",
    [
        "PATH", "PWD", "OLDPWD", "PATTERN", "KEYBOARD_LAYOUT", "COMPASS", "TURKEY", "TOKENIZERS_PARALLELISM",
        "KEY_VAULT_NAME", "TOKEN_URL", "PASSWORD_FILE", "SSH_KEY_PATH", "RUNBOOK_TLS_CERTIFICATE_PEM", "SASKIA",
    ],
)  # fmt: skip
def test_the_value_of_a_variable_that_is_no_secret_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not names_a_secret(name)
    monkeypatch.setenv(name, "ordinary-value")
    assert Mask()("x ordinary-value y") == "x ordinary-value y"


def test_a_variable_that_names_a_file_of_a_key_leaves_the_paths_in_reports_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path))
    assert Mask()(f"State: {tmp_path}") == f"State: {tmp_path}"


def test_secrets_inside_a_json_value_or_a_connection_string_are_masked_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_CREDENTIALS", json.dumps({"clientId": "client-7", "clientSecret": "inner-secret-1"}))
    monkeypatch.setenv("DB_CONNECTION_STRING", "Server=db-1;User=titanic-app;Password=inner-secret-2")
    text = "client-7 on db-1 as titanic-app: inner-secret-1, inner-secret-2"
    assert Mask()(text) == f"client-7 on db-1 as titanic-app: {MASKED}, {MASKED}"


@pytest.mark.parametrize(
    "text",
    [
        "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=Zm9vYmFyZm9vYmFy;EndpointSuffix=x",
        "https://a.example/c?sv=2024&sig=Zm9vYmFyZm9vYmFy&se=1",
        "Authorization: Bearer Zm9vYmFyZm9vYmFy",
        "Authorization: Basic Zm9vYmFyZm9vYmFy",
        "{'Authorization': 'Basic Zm9vYmFyZm9vYmFy'}",
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


@pytest.mark.parametrize(
    "text",
    [
        "blue serves 100 % at http://127.0.0.1:8601/score, sha256 97c590906391d4156c8bd86908136a63",
        "Basic authentication is off. The bearer of news. A key such as -----BEGIN PRIVATE KEY----- opens nothing here.",
        "see https://example.org/a?b=c and user@example.org; mailto:someone@example.org",
        '{"key": "value", "status": "passed", "found": 0.4537, "wanted": "at most 0.52"}',
    ],
)
def test_ordinary_text_stays_as_it_is(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in [("SOME_KEY", "blue"), ("OTHER_TOKEN", "passed"), ("A_SECRET", "0.4537"), ("LINES_KEY", pem())]:
        monkeypatch.setenv(name, value)
    assert Mask()(text) == text


@pytest.mark.parametrize(
    "path", sorted(paths.ROOT.glob("reports/sample/*/executed.ipynb")), ids=lambda p: p.parent.name
)
def test_a_notebook_without_secrets_stays_as_it_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, value in enumerate(["passed", "True", "None", "100", "20_train", "stdout", pem()]):
        monkeypatch.setenv(f"SECRET_{number}", value)
    assert Mask().notebook(path.read_text(encoding="utf-8")).rstrip() == path.read_text(encoding="utf-8").rstrip()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("blue7", "shorter than 6 characters"),
        ("true", "shorter than 6 characters"),
        ("Passed", "a word that reports are made of"),
        ("not_needed", "a word that reports are made of"),
        ("60_deploy-prod", "a word that reports are made of"),
        ("20261125", "a bare number"),
        ("0.451234", "a bare number"),
    ],
)
def test_a_secret_that_cannot_be_told_from_ordinary_text_is_not_masked_and_named(
    value: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", value)
    assert reason in Mask().refused()["SOME_KEY"]
    assert Mask()(f"x {value} y") == f"x {value} y"


@pytest.mark.parametrize("value", ["123456789012", "correct horse", "a-good-secret"])
def test_a_secret_that_is_masked_is_not_named_as_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", value)
    monkeypatch.setenv("TLS_KEY", "-")  # the placeholder of a variable group
    assert Mask().refused() == {}
    assert Mask()(f"x {value} y") == f"x {MASKED} y"


def run(secrets: list[str]) -> Result:
    mask = Mask(lambda: secrets)
    log = EventLog(paths.run_folder("r1") / "events.jsonl", "r1", mask)
    limits = Limits(60, time.monotonic() + 120)
    return step.run(Step("20_train", None), "local", "r1", {"run_id": "r1"}, {}, limits, log, mask, lambda *_: None)


def test_no_file_of_a_step_shows_a_secret_in_any_form(build: Builder, tmp_path: Path) -> None:
    key = pem()
    told = [
        *FORMS.values(),
        base64.b64encode(f"user:{SECRET}".encode()).decode(),
        key,
        json.dumps(key),
        key.splitlines()[2],
    ]
    (tmp_path / "told.json").write_text(json.dumps(told))
    load = f"import json, pandas as pd\ntold = json.load(open({str(tmp_path / 'told.json')!r}))"
    build(
        "20_train",
        HOLDS,
        load,
        "print(*told, sep='\\n')",
        "pd.set_option('display.max_colwidth', None); pd.DataFrame({'told': told})",
        "told",
        "{'key': told[0], 'secondary_key': told[-3]}",
        f"x = {SECRET!r}",
        "raise RuntimeError('\\n'.join(told))",
    )
    result = run([SECRET, key])
    folder = paths.step_folder("r1", "20_train")
    report.step(folder)
    assert result.status == "failed" and result.cells_run == 8
    for path in [*folder.iterdir(), folder.parent / "events.jsonl"]:
        text = path.read_text()
        for written in (text, html.unescape(text), text.replace("\\", ""), html.unescape(text).replace("\\", "")):
            assert [piece for piece in rest(written) if piece in told[0]] == [], path.name
        assert not [line for line in key.splitlines()[1:-1] if line in text], path.name
        assert base64.b64encode(f"user:{SECRET}".encode()).decode()[8:-4] not in text, path.name
        assert MASKED in text, path.name


def test_a_verdict_does_not_change_when_a_secret_is_called_passed(build: Builder) -> None:
    build("20_train", HOLDS, "print('passed', 'and-a-secret')")
    result = run(["passed", "and-a-secret"])
    assert (result.status, [c["status"] for c in result.checks]) == ("passed", ["passed"])
    notebook = nbformat.read(paths.step_folder("r1", "20_train") / "executed.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[-1].outputs[0].text == f"passed {MASKED}\n"


@pytest.mark.parametrize(
    "value",
    [
        "status",
        "cell_type",
        "not_run",
        "application/vnd.runbook.checks+json",
        "execution_count",
        "cell-one",
        "kernelspec",
    ],
)
def test_no_value_of_a_secret_changes_the_structure_of_a_notebook(value: str) -> None:
    checks = [{"name": f"a {value}", "wanted": value, "found": "x", "status": "not_run"}]
    data = {"application/vnd.runbook.checks+json": checks, "text/plain": value, "application/json": {value: value}}
    output = nbformat.v4.new_output("display_data", data)
    stream = nbformat.v4.new_output("stream", text=f"it is {value}\n")
    cell = nbformat.v4.new_code_cell(
        f"x = {value!r}", id="cell-one", outputs=[output, stream], metadata={"tags": [value]}
    )
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": {"name": "k", "display_name": "k"}})
    masked = nbformat.reads(Mask(lambda: [value]).notebook(nbformat.writes(notebook)), as_version=4)
    nbformat.validate(masked)
    shown = masked.cells[0].outputs[0].data
    said = value if value in ("not_run", "status") else MASKED
    assert set(shown) == set(data) and shown["application/json"] == {value: said}
    assert shown["application/vnd.runbook.checks+json"] == [
        {"name": f"a {said}", "wanted": said, "found": "x", "status": "not_run"}
    ]
    assert (masked.cells[0].id, masked.cells[0].metadata.tags, masked.metadata) == (
        "cell-one",
        [value],
        notebook.metadata,
    )
    assert (masked.cells[0].source, masked.cells[0].outputs[1].text) == (f"x = '{said}'", f"it is {said}\n")
