"""The quick way to read a body and the way that explains an error come to the same end."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runbook.modelling import request as contract

decode = sys.modules[contract.decode.__module__]
ROW = dict(contract.EXAMPLE)

# Numbers as a client may spell them, and what is no number.
spelled = st.sampled_from(
    ["0", "1", "2", "-0", "-0.0", "1.0", "1e0", "1E1", "2.5", "1e-400", "1e400", "120", "1001", "null"]
)
other = st.sampled_from(['"1"', "true", "[]", "{}", '"a:b"', "NaN", "", "01", '"\\ud800"'])
digits = st.floats(0, 1000).map(repr) | st.integers(-1, 10**20).map(str)
values = spelled | digits | st.one_of(other)
keys = st.sampled_from([*(json.dumps(f) for f in contract.FIELDS), '"strange"', json.dumps(contract.FIELDS[0]).replace(
    contract.FIELDS[0][0], f"\\u{ord(contract.FIELDS[0][0]):04x}", 1)])  # fmt: skip


@st.composite
def rows(draw: st.DrawFn) -> str:
    """A row of the example with a few values changed, left out or given twice, in any order."""
    pairs = [(json.dumps(field), json.dumps(value)) for field, value in ROW.items()]
    for key, value in draw(st.lists(st.tuples(keys, values), max_size=2)):
        way = draw(st.sampled_from(["replace", "add", "leave out"]))
        if way != "add":
            pairs = [pair for pair in pairs if pair[0] != key]
        if way != "leave out":
            pairs.insert(draw(st.integers(0, len(pairs))), (key, value))
    return "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}"


bodies = (
    rows()
    | st.lists(rows() | values, max_size=4).map(lambda found: "[" + ",\n".join(found) + "]")
    | rows().map(lambda row: row[:-1])
    | rows().map(lambda row: row + "]")
)


def ending(read: Any, body: bytes) -> Any:
    try:
        return repr(read(body))
    except contract.ContractError as error:
        return error.status, error.body()


@settings(max_examples=400, deadline=None, database=None)
@given(bodies)
@example(json.dumps([ROW] * contract.MAX_ROWS))
@example(json.dumps([ROW] * (contract.MAX_ROWS + 1)))
@example("[1" + ", 1" * contract.MAX_ROWS + "]")
@example("[]")
@example("[" * 3000)
def test_the_quick_way_and_the_explaining_way_agree_on_every_body(body: str) -> None:
    raw = body.encode()
    assert ending(contract.decode, raw) == ending(decode._explained, raw)


def test_a_good_body_is_read_without_the_way_that_explains(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = contract.decode(json.dumps([ROW, ROW]))
    monkeypatch.setattr(decode, "_explained", None)
    assert contract.decode(json.dumps([ROW, ROW])) == expected
