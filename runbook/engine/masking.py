"""Secrets: which values are secret, in which forms they appear, and how they are taken out of text and documents.

Everything that reaches a file under reports/ or the terminal passes ``Mask``: events through the event log, executed
notebooks through ``MaskedNotebooks`` (papermill's own writer), error messages through the step's result.
"""

from __future__ import annotations

import base64
import functools
import html.entities
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from runbook.check import MIME

MASKED = "[masked]"
# A variable of the environment may hold bytes that are no UTF-8; Python gives them as lone surrogates.
UTF8 = ("utf-8", "surrogateescape")
# A shorter value would mask half of a report.
SHORTEST = 6
# A longer number is no version, count or measurement.
LONGEST_NUMBER = 11

# Backslashes that four JSON texts in one another put before one character.
DEEPEST = 16

# Parts of a variable's name that say its value is secret. A short one must be a whole part: PAT is not in PATH.
SECRET_PARTS = frozenset(
    "KEY KEYS PAT PATS PASS PWD SAS AUTHORIZATION APIKEY APIKEYS ACCESSKEY ACCOUNTKEY SECRETKEY PRIVATEKEY MASTERKEY "
    "CONNECTIONSTRING CONNECTIONSTRINGS CONNSTR".split()
)
SECRET_ENDINGS = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL)S?$")
# A name that ends so tells where a secret is or what it is called, and its value is ordinary text.
PLACE_PARTS = frozenset("PATH FILE DIR FOLDER NAME URL URI ID HOST PORT USER TYPE VERSION SOCK".split())
# The shell's own names for the working directory.
NOT_SECRET = frozenset({"PWD", "OLDPWD"})

# Words that reports are made of. A secret with such a value cannot be told from ordinary text.
VOCABULARY = frozenset(
    "passed failed not_run not_needed cancelled running rehearsed masked [masked] promote champion candidate "
    "default secret password changeme python python3 localhost stdout stderr stream metadata source "
    "parameters outputs execute_result display_data traceback markdown message target status string number boolean "
    "version manifest report result handoff decision release deploy rollback teardown explore evaluate register "
    "runbook notebook papermill interactive managed kubernetes promoted released registered deployed".split()
)
STEP_NAME = re.compile(r"\d\d_[a-z_]+(-dev|-prod)?")

# The shapes of secrets whose values are not known: Azure connection strings and SAS signatures, authorization headers,
# JSON web tokens, passwords in URLs, private keys. What stands before the secret is kept as the first group.
PATTERNS = [
    re.compile(r"((?:Account|SharedAccess|Instrumentation)Key=)[^;\s\"'\\]+", re.IGNORECASE),
    re.compile(r"([?&]sig=)[^&\s\"'\\]+"),
    re.compile(r"(Bearer\s+)[A-Za-z0-9._~+/=-]{12,}"),
    re.compile(r"(Authorization[\"']?\s*[:=]\s*[\"']?Basic\s+)[A-Za-z0-9+/=_-]+", re.IGNORECASE),
    re.compile(r"()eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*"),
    re.compile(r"(://[^/\s:@\"']+:)[^/\s:@\"']+(?=@)"),
    # The lines of a key may be separated by real or escaped line ends, and the end of the block may be cut off.
    re.compile(
        r"(-----BEGIN [A-Z ]*PRIVATE KEY-----)"
        r"(?:(?:\s|\\+[nr])+[A-Za-z0-9+/=]{16,})+"
        r"(?:(?:\s|\\+[nr])*[A-Za-z0-9+/=]*(?:\s|\\+[nr])*-----END [A-Z ]*PRIVATE KEY-----)?"
    ),
]
FRAME = re.compile(r"-----(BEGIN|END) [A-Z0-9 ]+-----")
# Parts of a connection string such as AccountName=a;AccountKey=b.
SETTING = re.compile(r"([A-Za-z][A-Za-z ]*)=([^;\r\n]+)")

# What programs read in an event, in the metadata of a notebook and in a check: keys whose values stay as they are.
EVENT = frozenset({"time", "run_id", "step", "kind", "status", "cell", "reply", "key", "plan", "target", "notebook"})
METADATA = frozenset({"tags", "status", "start_time", "end_time"})
CHECK = frozenset({"status"})
BINARY = frozenset({"image/png", "image/jpeg", "application/pdf"})


class Mask:
    """Replaces every known secret, in every form it may appear in, and everything shaped like a secret."""

    def __init__(self, secrets: Callable[[], list[str]] = list) -> None:
        self._secrets = secrets

    def values(self) -> list[str]:
        """Return the secret values known now, longest first: of the environment's variables, and the platform's."""
        return sorted({v for _, v in self._known() if why_refused(v) is None}, key=len, reverse=True)

    def refused(self) -> dict[str, str]:
        """Return the secrets that are not masked, by name, each with the reason; never their values."""
        found = ((name, why_refused(value)) for name, value in self._known())
        return {name: reason for name, reason in found if reason}

    def __call__(self, text: str) -> str:
        """Return ``text`` without secrets."""
        return self.now()(text)

    def now(self) -> Callable[[str], str]:
        """Return a function that masks what is secret at this moment; for many texts in a row."""
        known = [form for secret in self.values() for form in forms(secret)]

        def masked(text: str) -> str:
            text = _without(text, known)
            for pattern in PATTERNS:
                text = pattern.sub(rf"\1{MASKED}", text)
            return text

        return masked

    def event(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Return an event with its texts masked; the fields that programs read stay as they are."""
        masked = self.now()
        return {k: v if k in EVENT else _document(v, masked) for k, v in event.items()}

    def notebook(self, text: str) -> str:
        """Return a notebook's JSON with sources, outputs and values of metadata masked; its structure stays as it is."""
        import nbformat

        masked = self.now()
        # This reader joins the lines of a text, so that a secret of several lines is seen whole.
        found = nbformat.v4.reads(text)
        for cell in found.cells:
            cell.source = masked(cell.source)
            cell.metadata = _document(cell.metadata, masked, METADATA)
            if cell.cell_type == "code":
                cell.outputs = [_output(output, masked) for output in cell.outputs]
        if "papermill" in found.metadata:
            found.metadata["papermill"] = _document(found.metadata["papermill"], masked, METADATA)
        return str(nbformat.v4.writes(nbformat.from_dict(found)))

    def _known(self) -> Iterator[tuple[str, str]]:
        for name, value in sorted(os.environ.items()):
            if names_a_secret(name) and not _is_path(value) and not _is_placeholder(value):
                yield from ((name, part) for part in _with_parts(value))
        yield from (("a key of the platform", value) for value in self._secrets())


def names_a_secret(name: str) -> bool:
    """Return whether a variable's or setting's name says that its value is secret, such as DB_PASS or clientSecret."""
    if name.upper() in NOT_SECRET:
        return False
    joined = re.sub(r"CONNECTION_STRING", "CONNECTIONSTRING", name.upper() if "_" in name else name)
    parts = [part.upper() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", joined)]
    if not parts or parts[-1] in PLACE_PARTS:
        return False
    return any(part in SECRET_PARTS or SECRET_ENDINGS.search(part) for part in parts)


def why_refused(value: str) -> str | None:
    """Return why a secret value cannot be masked without changing ordinary text, or None when it can be."""
    word = value.strip()
    if len(word) < SHORTEST:
        return f"it is shorter than {SHORTEST} characters"
    if word.lower() in VOCABULARY or STEP_NAME.fullmatch(word):
        return "it is a word that reports are made of"
    if re.fullmatch(r"[-+]?[\d.,_]+", word) and len(word) <= LONGEST_NUMBER:
        return "it is a bare number"
    return None


def _document(value: Any, masked: Callable[[str], str], kept: Collection[str] = ()) -> Any:
    """Return a JSON value with its texts masked; its keys, and the values of the keys in ``kept``, stay as they are."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, list):
        return [_document(item, masked, kept) for item in value]
    if isinstance(value, dict):
        return {k: v if k in kept else _document(v, masked, kept) for k, v in value.items()}
    return value


def _output(output: Mapping[str, Any], masked: Callable[[str], str]) -> dict[str, Any]:
    """Return one output of a cell with its texts masked; pictures stay as they are."""
    found = dict(output)
    for name in ("text", "evalue", "traceback", "metadata"):
        if name in found:
            found[name] = _document(found[name], masked)
    data = found.get("data", {})
    for kind in data.keys() - BINARY:
        data[kind] = _document(data[kind], masked, CHECK if kind == MIME else ())
    return found


@functools.lru_cache(maxsize=256)
def forms(secret: str) -> tuple[re.Pattern[str], ...]:
    """Return patterns for everything that stands for ``secret``: the whole, each of its lines, and both in base64.

    Each pattern also finds its text where URLs, HTML, JSON or Python have escaped it, however often.
    """
    lines = [line.strip() for line in secret.strip().splitlines()]
    blocks = {secret.strip(), "\n".join(lines), "\r\n".join(lines)}
    pieces = {line for line in lines if why_refused(line) is None and not FRAME.fullmatch(line)}
    for block in blocks:
        for text in (block, f"{block}\n"):
            pieces |= {piece for piece in _in_base64(text.encode(*UTF8)) if len(piece) >= SHORTEST}
    between = rf"(?:\s|{_BACKSLASH}+[rn]|{_percent(0x0A)}|{_percent(0x0D)})+"
    whole = between.join(_pattern(line) for line in lines)
    return tuple(map(re.compile, {whole, *(_pattern(piece) for piece in pieces)}))


def _pattern(text: str) -> str:
    return "".join(_written(part) for part in re.findall(r"\\+|.", text, re.DOTALL))


@functools.cache
def _written(character: str) -> str:
    """Return a pattern for one character as it is, and as URLs, HTML, JSON and Python write it, escaped once or more.

    ``character`` may be a run of backslashes.
    """
    if character[0] == "\\":
        # A bound, because a run without one is tried in every way that it can be divided.
        return f"{_BACKSLASH}{{{len(character)},{DEEPEST * len(character)}}}"
    if character.isascii() and (character.isalnum() or character in "-_.~"):
        return character
    code, byte_codes = ord(character), character.encode(*UTF8)
    name = html.entities.codepoint2name.get(code, "apos")
    # A letter of an escape is searched without its backslash, which the pattern allows before every way.
    ways = [
        re.escape(character),
        "".join(_percent(byte) for byte in byte_codes),
        f"{_AND}(?:{name}|{_HASH}0*{code}|{_HASH}[xX]0*(?i:{code:x})){_SEMICOLON}",
        f"[ux]0*(?i:{code:x})",
        f"{_BACKSLASH}{{0,{DEEPEST}}}".join(f"x(?i:{byte:02x})" for byte in byte_codes),
    ]
    more = {"&": [_AND], " ": [r"\+", _percent(0x2B)], "\t": ["t"]}.get(character, [])
    return f"{_BACKSLASH}{{0,{DEEPEST}}}(?:{'|'.join([*more, *ways])})"


def _percent(byte: int) -> str:
    """Return a pattern for one byte in a URL; a URL inside a URL has its percent signs escaped as %25."""
    return f"%(?:25)*(?i:{byte:02x})"


# The signs that escapes are made of, which an outer URL or page may have escaped again.
_BACKSLASH = rf"(?:\\|{_percent(0x5C)})"
_HASH = f"(?:#|{_percent(0x23)})"
_SEMICOLON = f"(?:;|{_percent(0x3B)})"
_AND = f"(?:&|{_percent(0x26)})(?:amp{_SEMICOLON})*"


def _in_base64(data: bytes) -> set[str]:
    """Return what base64 makes of ``data``, alone and as a part of something longer, standard and URL-safe.

    Base64 turns 3 bytes into 4 characters. What stands before a secret, such as "user:", moves it by 0, 1 or 2 bytes; the
    characters it shares with its neighbours then differ, and are left out here.
    """
    found = {base64.b64encode(data).decode()}
    # Tools that wrap base64 end its lines after 76 or 64 characters.
    for width in (57, 48):
        if len(data) > width:
            found |= {base64.b64encode(data[at : at + width]).decode() for at in range(0, len(data), width)}
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + data).decode()
        first, last = (0, 2, 3)[before], (0, 3, 2)[(before + len(data)) % 3]
        found.add(encoded[first : len(encoded) - last])
    return found | {form.translate(str.maketrans("+/", "-_")) for form in found}


def _without(text: str, found: Iterable[re.Pattern[str]]) -> str:
    """Return ``text`` with every stretch that any of ``found`` covers replaced; stretches that overlap are one."""
    kept: list[str] = []
    end = 0
    for start, stop in sorted(match.span() for pattern in found for match in pattern.finditer(text)):
        if start > end or not kept:
            kept += [text[end:start], MASKED]
        end = max(end, stop)
    return "".join([*kept, text[end:]])


def _with_parts(value: str) -> Iterator[str]:
    """Yield a secret value, and the secrets inside it when it is a JSON object or a connection string."""
    yield value
    try:
        inside = json.loads(value)
    except ValueError:
        inside = None
    if isinstance(inside, dict):
        settings = [(k, v) for k, v in inside.items() if isinstance(v, str)]
    else:
        settings = SETTING.findall(value)
    yield from (v for k, v in settings if names_a_secret(k) and why_refused(v) is None)


def _is_path(value: str) -> bool:
    """Return whether a value names a file or folder here, such as that of a key, and so is no secret itself."""
    try:
        return value.startswith("/") and Path(value).exists()
    except (OSError, ValueError):
        return False


def _is_placeholder(value: str) -> bool:
    """Return whether a value stands for no secret, such as the single dash of a variable that has to exist."""
    return len(value) < SHORTEST and not any(c.isalnum() for c in value)
