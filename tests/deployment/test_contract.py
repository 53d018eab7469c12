from __future__ import annotations

import ast
import json
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook import paths
from runbook.lint import swagger
from runbook.modelling import request as contract
from runbook.testing.bad_requests import bad_requests

ROW = dict(contract.EXAMPLE)
BAD = list(bad_requests())

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers()
leaves = st.none() | st.booleans() | numbers | st.text(max_size=5)
values = leaves | st.lists(leaves, max_size=3) | st.dictionaries(st.text(max_size=5), leaves, max_size=3)


def refusal(body: bytes | str) -> Any:
    with pytest.raises(contract.ContractError) as caught:
        contract.decode(body)
    return caught.value


def text(**changes: Any) -> str:
    return json.dumps({**ROW, **changes})


@pytest.mark.parametrize("bad", BAD, ids=[b.name for b in BAD])
def test_a_bad_request_is_refused_with_its_status_and_field(bad: Any) -> None:
    error = refusal(bad.body)
    assert (error.status, error.field) == (bad.status, bad.field)
    assert set(error.body()["error"]) == {"code", "field", "message"}


def test_every_field_is_broken_in_every_way_that_its_type_allows() -> None:
    names = {b.name for b in BAD}
    assert len(names) == len(BAD)
    for field in contract.FIELDS:
        assert {f"{field}: {way}" for way in ("missing", "too small", "too large", "a word", "NaN")} <= names
        assert (f"{field}: null" in names) == (field not in ("Age", "Fare", "Embarked"))
        assert (f"{field}: a fraction" in names) == (field not in ("Age", "Fare"))


def test_a_word_in_place_of_a_code_is_answered_with_the_codes() -> None:
    assert refusal(text(Sex="male")).message == 'Sex is "male"; expected: Sex is 0 (female) or 1 (male).'


def test_a_value_out_of_range_is_shown_with_the_range() -> None:
    assert refusal(text(Age=-5)).message == "Age is -5; expected: Age is years from 0 to 120, null when unknown."


@pytest.mark.parametrize(
    "changes",
    [
        {"Age": 0.17},
        {"Age": 0},
        {"Age": 120},
        {"Age": None},
        {"Age": -0.0},
        {"Age": 1e-320},
        {"Fare": 0},
        {"Fare": 512.3292},
        {"Fare": 1000},
        {"Fare": None},
        {"SibSp": 20, "Parch": 9},
        {"Embarked": None},
        {"Age": None, "Fare": None, "Embarked": None},
    ],
    ids=str,
)
def test_the_edges_of_the_contract_are_accepted(changes: dict[str, Any]) -> None:
    (passenger,), many = contract.decode(text(**changes))
    assert not many
    assert {name: getattr(passenger, name) for name in changes} == changes


def test_the_articles_payload_and_mr_kelly_are_accepted() -> None:
    contract.decode(text(Embarked=2))
    contract.decode('{"Pclass": 3, "Sex": 1, "Age": 34.5, "SibSp":0,"Parch":0,"Fare":7.8292,"Embarked":2}')


def test_the_order_of_fields_white_space_and_a_decimal_point_do_not_matter() -> None:
    backwards = json.dumps(dict(reversed(ROW.items())), indent=3)
    assert contract.decode(backwards) == contract.decode(text()) == contract.decode(text(Age=38.0))


def test_a_thousand_rows_come_back_in_order() -> None:
    ages = [n % 121 for n in range(contract.MAX_ROWS)]
    passengers, many = contract.decode(json.dumps([{**ROW, "Age": age} for age in ages]))
    assert many
    assert [p.Age for p in passengers] == ages


def test_the_first_bad_row_of_a_list_is_named() -> None:
    error = refusal(json.dumps([ROW, {**ROW, "Fare": -1}, {**ROW, "Age": -1}]))
    assert error.message.startswith("Row 1: Fare is -1;")


def test_what_is_not_json_is_no_matter_of_fields() -> None:
    assert refusal('{"Pclass": 7, "Sex":').status == 400


def test_a_field_given_twice_is_found_even_when_it_is_spelled_with_an_escape() -> None:
    assert refusal(text()[:-1] + ', "\\u0041ge": 38}').code == "duplicate_field"


def test_an_answer_never_echoes_a_long_value() -> None:
    assert len(refusal(text(Age="x" * 10_000)).message) < 150
    assert len(refusal(text(**{"y" * 10_000: 1})).message) < 200


@settings(max_examples=200, deadline=None, database=None)
@given(st.binary() | st.text())
def test_no_body_breaks_the_decoder(body: bytes | str) -> None:
    refusal(body)


@settings(max_examples=200, deadline=None, database=None)
@given(st.dictionaries(st.sampled_from(contract.FIELDS), values) | st.lists(values, max_size=3))
def test_no_json_document_breaks_the_decoder(document: Any) -> None:
    try:
        passengers, _ = contract.decode(json.dumps(document))
    except contract.ContractError as error:
        assert error.status in (400, 413, 422)
    else:
        assert passengers


def test_the_committed_swagger_is_current() -> None:
    committed = json.loads(swagger.SWAGGER.read_text())
    assert committed == swagger.swagger(), "Run: make swagger"


def test_swagger_says_what_the_struct_says() -> None:
    properties = swagger.swagger()["definitions"]["Request"]["properties"]
    assert list(properties) == list(contract.FIELDS)
    assert (properties["Age"]["minimum"], properties["Age"]["maximum"]) == (0, 120)
    assert properties["Age"]["x-nullable"] and not properties["Sex"]["x-nullable"]
    assert properties["Embarked"]["enum"] == [0, 1, 2]
    assert properties["Fare"]["type"] == "number" and properties["SibSp"]["type"] == "integer"


@pytest.mark.parametrize(("file", "needs"), [("request.py", {"msgspec"}), ("decode.py", {"msgspec", "request"})])
def test_what_decodes_needs_msgspec_and_nothing_else(file: str, needs: set[str]) -> None:
    tree = ast.parse((paths.DEPLOYMENT / file).read_text())
    imported = {(n.module or "").split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    imported |= {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert imported - sys.stdlib_module_names == needs
