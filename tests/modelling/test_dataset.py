"""Data that do not fit their description are refused in one line, with the file, the row and what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from facts_copy import FactsCopy

from runbook import paths
from runbook.errors import UsageError
from runbook.modelling import dataset, description, request
from runbook.modelling.description import place

Rows = list[list[str]]

FACTS = description.description()
FIELDS = [field for field in request.fields() if field.name not in FACTS.dates]
FIELD = FIELDS[0]
COLUMN = FACTS.column(FIELD.name)
FIELD_PLACE = place(paths.DEPLOYMENT / "request.py", f"Request.{FIELD.name}")


def cell(column: str, value: str, row: int = 5) -> Callable[[Rows], None]:
    """Return a change of one cell of a row; rows count from 1, as in a message."""

    def change(rows: Rows) -> None:
        rows[row][rows[0].index(column)] = value

    return change


def column(name: str, value: str) -> Callable[[Rows], None]:
    """Return a change of every cell of a column."""

    def change(rows: Rows) -> None:
        for row in rows[1:]:
            row[rows[0].index(name)] = value

    return change


def without(name: str) -> Callable[[Rows], None]:
    def change(rows: Rows) -> None:
        place = rows[0].index(name)
        for row in rows:
            del row[place]

    return change


def with_group(rows: Rows) -> None:
    for number, row in enumerate(rows):
        row.append(f"group {number}" if number else "group")


def test_another_digest_is_named_with_the_line_to_correct(facts: FactsCopy) -> None:
    facts.data.write_text(facts.data.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    said = facts.problems()
    assert said.startswith(f"data/{FACTS.file.name} has sha256 ")
    assert f"expected {FACTS.sha256} ({facts.where('SHA256')})" in said
    assert f"git checkout -- data/{FACTS.file.name}" in said and "write the new SHA256 and ROWS there" in said


def test_other_line_ends_are_called_that(facts: FactsCopy) -> None:
    facts.data.write_bytes(facts.data.read_bytes().replace(b"\n", b"\r\n"))
    assert "Only the line ends differ" in facts.problems()


def test_another_number_of_rows_is_named(facts: FactsCopy) -> None:
    facts.set("ROWS", "3")
    assert facts.problems().endswith(f"expected 3 ({facts.where('ROWS')}). Write the right number there.")


def test_a_missing_file_is_named(facts: FactsCopy) -> None:
    facts.set("FILE", "'no_such.csv'")
    assert facts.problems() == (
        f"data/no_such.csv is missing. Put it there, or name another file in {facts.where('FILE')}."
    )


@pytest.mark.parametrize("name", ["LABEL", "GROUP", "KEY"])
def test_a_column_that_the_file_lacks_is_named_with_its_line(facts: FactsCopy, name: str) -> None:
    facts.set(name, "'no such column'")
    said = facts.problems()
    assert f"has no column 'no such column', which {name} is read from ({facts.where(name)})" in said
    assert COLUMN in said and said.endswith("Name the right column there.")


def test_a_field_that_the_data_lack_is_named(facts: FactsCopy) -> None:
    facts.rewrite(without(COLUMN))
    said = facts.problems()
    assert f"has no column {COLUMN!r}, which the field {FIELD.name} of deployment/request.py is read from" in said
    assert facts.where("COLUMNS") in said and said.endswith("Name the right column there, or remove the field.")


def test_a_field_that_reads_the_label_is_refused(facts: FactsCopy) -> None:
    facts.set("LABEL", repr(COLUMN))
    assert facts.problems().endswith("Remove that field, or name another label.")


@pytest.mark.parametrize(("value", "shown"), [("maybe", "'maybe'"), ("2", "'2'"), ("", "an empty cell")])
def test_a_label_of_another_value_is_named(facts: FactsCopy, value: str, shown: str) -> None:
    facts.rewrite(cell(FACTS.label, value))
    said = facts.problems()
    assert f"the label {FACTS.label} ({facts.where('LABEL')}) holds {shown}; expected " in said
    assert description.YES_NO in said


def test_a_label_that_is_the_same_in_every_row_is_refused(facts: FactsCopy) -> None:
    one = next(iter(FACTS.codes.get(FACTS.label, {"1": 1})))
    facts.rewrite(column(FACTS.label, one))
    assert "in every row; expected rows with 0 and with 1" in facts.problems()


def test_a_word_among_numbers_is_named_with_its_own_row(facts: FactsCopy) -> None:
    facts.rewrite(cell(COLUMN, "a word", row=7))
    said = facts.problems()
    assert f"row 7, {FACTS.key}" in said and f'{FIELD.name} is "a word"; expected: {FIELD.name} is' in said
    assert f"give the word a code in {facts.where('CODES')} (CODES)" in said
    assert f"{paths.DEPLOYMENT.name}/request.py:{FIELD_PLACE.rsplit(':')[-1]}" in said


def test_an_empty_cell_where_null_is_not_allowed_is_named(facts: FactsCopy) -> None:
    full = next(field for field in FIELDS if not field.nullable)
    facts.rewrite(cell(FACTS.column(full.name), ""))
    said = facts.problems()
    assert "row 5" in said and f"{full.name} is null" in said and "or allow null for the field" in said


def test_an_empty_group_is_named(facts: FactsCopy) -> None:
    if FACTS.group is None:
        facts.rewrite(with_group)
        facts.set("GROUP", "'group'")
    facts.rewrite(cell(FACTS.group or "group", ""))
    said = facts.problems()
    assert "row 5" in said and f"the GROUP of {facts.where('GROUP')}, is empty" in said


@pytest.mark.parametrize("change", [lambda row: row.append("more"), lambda row: row.pop()], ids=["long", "short"])
def test_a_row_of_another_length_is_named_with_its_line(facts: FactsCopy, change: Callable[[list[str]], None]) -> None:
    facts.rewrite(lambda rows: change(rows[4]))
    assert facts.problems().startswith(f"data/{FACTS.file.name}:5: the row has ")


def test_two_columns_of_one_name_are_refused(facts: FactsCopy) -> None:
    facts.rewrite(lambda rows: rows[0].__setitem__(0, rows[0][1]))
    assert facts.problems().startswith(f"data/{FACTS.file.name}:1: two columns are named ")


def test_a_file_without_rows_is_refused(facts: FactsCopy) -> None:
    facts.rewrite(lambda rows: rows.__delitem__(slice(1, None)))
    assert facts.problems().startswith(f"data/{FACTS.file.name} has no rows")


def test_bytes_that_are_not_utf_8_are_named(facts: FactsCopy) -> None:
    facts.data.write_bytes(facts.data.read_bytes() + b"\xff")
    facts.set("SHA256", repr(dataset.digest(facts.data)))
    assert "is not UTF-8 at byte" in facts.problems()


def test_a_checkout_with_windows_line_endings_is_told_so_and_how_to_mend_it(tmp_path: Path) -> None:
    path = tmp_path / FACTS.file.name
    path.write_bytes(FACTS.file.read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(UsageError, match=r"Windows line ends \(CRLF\)") as caught:
        dataset.load(replace(FACTS, file=path))
    assert str(caught.value).endswith("then run: git rm -rq --cached . && git reset -q --hard")


@pytest.mark.parametrize(("read", "openings"), [("load", 1), ("holdout", 1), ("training_set", 0)])
def test_every_reading_of_the_holdout_is_counted(read: str, openings: int) -> None:
    before = dataset.openings()
    getattr(dataset, read)()
    assert dataset.openings() - before == openings


def test_metrics_of_a_known_case() -> None:
    found = dataset.metrics([1, 0, 1, 0], [0.8, 0.4, 0.6, 0.5])
    assert found["log_loss"] == pytest.approx(-np.mean(np.log([0.8, 0.6, 0.6, 0.5])))
    assert found["brier"] == pytest.approx((0.04 + 0.16 + 0.16 + 0.25) / 4)
    assert (found["roc_auc"], found["accuracy"]) == (1.0, 0.75)


def test_a_digest_is_the_same_for_bytes_and_for_the_file_that_holds_them(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert dataset.digest(path) == dataset.digest(b"abc")
    assert dataset.digest(b"abc").startswith("ba7816bf")


def test_data_with_another_digest_is_refused_before_it_is_read(tmp_path: Path) -> None:
    changed = tmp_path / FACTS.file.name
    changed.write_bytes(FACTS.file.read_bytes() + b"\n")
    with pytest.raises(UsageError, match=rf"has sha256 .* expected {FACTS.sha256[:8]}.*data/dataset.py:.*git checkout"):
        dataset.load(replace(FACTS, file=changed))
