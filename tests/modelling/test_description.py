"""What is wrong in data/dataset.py is said in one line, with its place and what to do."""

from __future__ import annotations

import pytest
from facts_copy import FactsCopy

from runbook.lint import four_places
from runbook.modelling import request

FIRST = request.FIELDS[0]
VALID = tuple(request.EXAMPLE.values())


def test_facts_without_a_fault_have_no_problem(facts: FactsCopy) -> None:
    assert four_places.problems() == []


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ROWS", "'many'", "expected a whole number"),
        ("ROWS", "True", "expected a whole number"),
        ("LABEL", "None", "LABEL is None; expected text"),
        ("HOLDOUT_SHARE", "2.0", "expected a share, such as 0.2"),
        ("HOLDOUT_SHARE", "0.00001", "the holdout has 0 rows, 0 of them with label 1; expected both labels"),
        ("COLUMNS", "{'no_such_field': 'x'}", "speaks of 'no_such_field'; expected a field of deployment/request.py"),
        ("COLUMNS", "{'x': 3}", "expected text for text"),
        ("CODES", "{'x': 3}", "expected a code for each word"),
        ("CODES", "{'x': {'word': 0.5}}", "expected whole numbers as codes"),
        ("DATES", f"{{{FIRST!r}: 'yesterday'}}", "is 'yesterday'; expected a date such as '2000-01-01'"),
        ("BASELINES", "{'rule': 'no_such_field'}", "expected a field of deployment/request.py"),
        ("TITLE", "'TODO: What does it predict?'", "still blank. TITLE. What does it predict?"),
        ("slices", "lambda table: {'none': table.iloc[:, 1] > 1e30}", "the slice 'none' has no rows. Correct"),
        (
            "slices",
            "lambda table: {'one': table['no_such_field'] > 0}",
            "reads the field 'no_such_field'; expected one",
        ),
        ("slices", "lambda table: {'yes': True}", "the slice 'yes' is no condition for every row"),
        ("slices", "lambda table: table.no_such_field", "slices() fails: AttributeError"),
        ("slices", "lambda table: 3", "slices() fails: AttributeError"),
        (
            "KNOWN_CASES",
            "{'a group': {'a case': ((), 1)}}",
            "the known case 'a case' of 'a group' has 0 values; expected",
        ),
        ("KNOWN_CASES", "{'a group': {'a case': 1}}", "expected a tuple of values and the prediction 0, 1 or None"),
        ("KNOWN_CASES", f"{{'a group': {{'a case': ({VALID}, 7)}}}}", "the prediction 0, 1 or None"),
        (
            "KNOWN_CASES",
            f"{{'a group': {{'a case': ({(1e30, *VALID[1:])}, None)}}}}",
            f"is not a valid request. {FIRST} is 1e+30; expected: {FIRST} is",
        ),
    ],
)
def test_a_wrong_value_is_named_with_its_line_and_the_expected_one(
    facts: FactsCopy, name: str, value: str, words: str
) -> None:
    facts.set(name, value)
    said = facts.problems()
    assert said.startswith(facts.where(name)) and words in said, said


def test_a_missing_name_is_named(facts: FactsCopy) -> None:
    facts.path.write_text(facts.path.read_text().replace("\nTITLE =", "\nTITEL ="))
    assert facts.problems() == "data/dataset.py does not define TITLE; expected text. Define it there."


@pytest.mark.parametrize("line", ["x = = 3", "x = y", "import no_such_module", "x = 1 / 0", "x = {}['key']"])
def test_a_line_that_cannot_run_is_named(facts: FactsCopy, line: str) -> None:
    facts.path.write_text(f"{facts.path.read_text()}{line}\n")
    number = len(facts.path.read_text().splitlines())
    assert facts.problems().startswith(f"data/dataset.py:{number}: ")


def test_a_missing_file_of_facts_is_named(facts: FactsCopy) -> None:
    facts.path.unlink()
    assert "git checkout -- data/dataset.py" in facts.problems()
