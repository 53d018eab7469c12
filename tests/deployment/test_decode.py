"""A body becomes requests, or is refused with a status, the field and what was expected."""

from __future__ import annotations

import ast
import json
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook import paths
from runbook.modelling import request as contract

ROW = dict(contract.EXAMPLE)
FIELDS = contract.fields()
FIRST = FIELDS[0]
LAST = FIELDS[-1]

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers()
leaves = st.none() | st.booleans() | numbers | st.text(max_size=5)
values = leaves | st.lists(leaves, max_size=3) | st.dictionaries(st.text(max_size=5), leaves, max_size=3)


def refusal(body: bytes | str) -> Any:
    with pytest.raises(contract.ContractError) as caught:
        contract.decode(body)
    return caught.value


def text(**changes: Any) -> str:
    return json.dumps({**ROW, **changes})


def edges() -> list[dict[str, Any]]:
    """Return both ends of every field and each null, one at a time, and all nulls together."""
    kinds = {field.name: int if field.whole else float for field in FIELDS}
    one = [{f.name: kinds[f.name](end)} for f in FIELDS for end in (f.low, f.high)]
    nulls = [{f.name: None} for f in FIELDS if f.nullable]
    return [*one, *nulls, {f.name: None for f in FIELDS if f.nullable}]


@pytest.mark.parametrize("changes", edges(), ids=str)
def test_the_edges_of_every_field_are_accepted(changes: dict[str, Any]) -> None:
    (row,), many = contract.decode(text(**changes))
    assert not many
    assert {name: getattr(row, name) for name in changes} == changes


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_a_value_out_of_range_is_shown_with_the_meaning_of_its_field(field: Any) -> None:
    message = refusal(text(**{field.name: field.low - 5})).message
    assert message.startswith(f"{field.name} is {field.low - 5:g}; expected: {field.name} is ")
    assert message.endswith(f"{field.meaning}.")


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_a_word_is_shown_with_the_meaning_of_its_field(field: Any) -> None:
    message = refusal(text(**{field.name: "word"})).message
    assert message == f'{field.name} is "word"; expected: {field.name} is {field.meaning}.'


def test_the_order_of_fields_white_space_and_a_decimal_point_do_not_matter() -> None:
    backwards = json.dumps(dict(reversed(ROW.items())), indent=3)
    numbers = {f.name for f in FIELDS if not f.whole}
    with_a_point = {name: float(v) if name in numbers and v is not None else v for name, v in ROW.items()}
    assert contract.decode(backwards) == contract.decode(text()) == contract.decode(json.dumps(with_a_point))


def test_a_thousand_rows_come_back_in_order() -> None:
    field = max(FIELDS, key=lambda f: f.high - f.low)
    span = int(field.high - field.low) + 1
    given_values = [int(field.low) + n % span for n in range(contract.MAX_ROWS)]
    rows, many = contract.decode(json.dumps([{**ROW, field.name: value} for value in given_values]))
    assert many
    assert [getattr(row, field.name) for row in rows] == given_values


def test_the_first_bad_row_of_a_list_is_named() -> None:
    bad = [{**ROW, field.name: field.low - 1} for field in (LAST, FIRST)]
    error = refusal(json.dumps([ROW, *bad]))
    assert error.message.startswith(f"Row 1: {LAST.name} is {LAST.low - 1:g};")


def test_what_is_not_json_is_no_matter_of_fields() -> None:
    assert refusal(f'{{"{FIRST.name}": 7, "{LAST.name}":').status == 400


def test_a_field_given_twice_is_found_even_when_it_is_spelled_with_an_escape() -> None:
    name = f"\\u{ord(FIRST.name[0]):04x}{FIRST.name[1:]}"
    again = f', "{name}": {json.dumps(ROW[FIRST.name])}}}'
    assert refusal(text()[:-1] + again).code == "duplicate_field"


def test_an_answer_never_echoes_a_long_value() -> None:
    room = len(FIRST.meaning) + 2 * len(FIRST.name)
    assert len(refusal(text(**{FIRST.name: "x" * 10_000})).message) < room + 110
    assert len(refusal(text(**{"y" * 10_000: 1})).message) < 200


@settings(max_examples=200, deadline=None, database=None)
@given(st.binary() | st.text())
def test_no_body_breaks_the_decoder(body: bytes | str) -> None:
    refusal(body)


@settings(max_examples=200, deadline=None, database=None)
@given(st.dictionaries(st.sampled_from(contract.FIELDS), values) | st.lists(values, max_size=3))
def test_no_json_document_breaks_the_decoder(document: Any) -> None:
    try:
        rows, _ = contract.decode(json.dumps(document))
    except contract.ContractError as error:
        assert error.status in (400, 413, 422)
    else:
        assert rows


@pytest.mark.parametrize(("file", "needs"), [("request.py", {"msgspec"}), ("decode.py", {"msgspec", "request"})])
def test_what_decodes_needs_msgspec_and_nothing_else(file: str, needs: set[str]) -> None:
    tree = ast.parse((paths.DEPLOYMENT / file).read_text())
    imported = {(n.module or "").split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    imported |= {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert imported - sys.stdlib_module_names == needs
