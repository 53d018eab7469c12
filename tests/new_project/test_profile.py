from __future__ import annotations

from pathlib import Path

import pytest

from runbook.errors import UsageError
from runbook.new_project.profile import Profile, profile

ROWS = 60


def csv(folder: Path, header: str, *columns: list[str], separator: str = ",") -> Path:
    lines = [header, *(separator.join(values) for values in zip(*columns, strict=True))]
    path = folder / "rows.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def numbers(start: int = 0, step: int = 1) -> list[str]:
    return [str(start + step * (i % 17)) for i in range(ROWS)]


LABEL = ["yes" if i % 3 else "no" for i in range(ROWS)]


def of(path: Path, label: str = "left", group: str | None = None, positive: str | None = None) -> Profile:
    return profile(path, label, group, positive)


def test_numbers_get_a_range_with_room_and_nulls_where_the_data_have_them(tmp_path: Path) -> None:
    ages = [*numbers(20)[:-1], ""]
    prices = [f"{i % 9}.25" for i in range(ROWS)]
    found = of(csv(tmp_path, "age,price,left", ages, prices, LABEL))
    age, price = found.columns
    assert (age.kind, age.nullable, age.low, age.high) == ("whole", True, 0, 100)
    assert (price.kind, price.nullable, price.low, price.high) == ("number", False, 0, 20)


def test_text_becomes_codes_in_the_order_of_the_words(tmp_path: Path) -> None:
    plans = [("gold", "basic", "silver")[i % 3] for i in range(ROWS)]
    (plan,) = of(csv(tmp_path, "plan,left", plans, LABEL)).columns
    assert (plan.kind, plan.words, plan.low, plan.high) == ("category", ("basic", "gold", "silver"), 0, 2)


def test_dates_become_days(tmp_path: Path) -> None:
    days = [f"2024-01-{1 + i % 28:02d}" for i in range(ROWS)]
    (since,) = of(csv(tmp_path, "member since,left", days, LABEL)).columns
    assert (since.kind, since.field, since.column) == ("date", "member_since", "member since")
    assert since.low < 19_723 < since.high, "2024-01-01 is day 19,723"


@pytest.mark.parametrize("header", ["first name", "class", "2nd", "Größe", "a-b"])
def test_a_column_of_any_name_becomes_a_field_that_python_accepts(tmp_path: Path, header: str) -> None:
    (column,) = of(csv(tmp_path, f"{header},left", numbers(), LABEL)).columns
    assert column.field.isidentifier() and column.column == header


def test_two_columns_never_share_a_field(tmp_path: Path) -> None:
    found = of(csv(tmp_path, "a b,a-b,left", numbers(), numbers(5), LABEL))
    assert [c.field for c in found.columns] == ["a_b", "a_b_2"]


@pytest.mark.parametrize(
    ("header", "values", "reason"),
    [
        ("customer id", [str(7_000 + i) for i in range(ROWS)], "identifier"),
        ("CustomerID", [str(7_000 + i) for i in range(ROWS)], "identifier"),
        ("code", [f"X{i:04d}" for i in range(ROWS)], "identifier"),
        ("remark", [f"words {i % 50}" for i in range(ROWS)], "free text"),
        ("currency", ["EUR"] * ROWS, "always 'EUR'"),
        ("nothing", [""] * ROWS, "empty"),
        ("cents", [str(20_000_000 + i % 7) for i in range(ROWS)], "float32"),
    ],
)
def test_a_column_that_no_model_should_see_is_left_out_with_its_reason(
    tmp_path: Path, header: str, values: list[str], reason: str
) -> None:
    found = of(csv(tmp_path, f"{header},size,left", values, numbers(), LABEL))
    assert [c.column for c in found.columns] == ["size"]
    assert reason in found.left_out[header]


def test_the_group_is_no_input(tmp_path: Path) -> None:
    found = of(csv(tmp_path, "household,size,left", numbers(), numbers(3), LABEL), group="household")
    assert found.group == "household" and [c.column for c in found.columns] == ["size"]


@pytest.mark.parametrize(("no", "yes"), [("0", "1"), ("no", "yes"), ("False", "True"), ("N", "Y")])
def test_a_label_in_common_words_gets_its_0_and_1(tmp_path: Path, no: str, yes: str) -> None:
    label = [yes if i % 3 else no for i in range(ROWS)]
    found = of(csv(tmp_path, "size,left", numbers(), label))
    assert found.label_codes == {no: 0, yes: 1}
    assert found.positive_share == pytest.approx(2 / 3)


def test_two_other_words_need_to_be_told_which_means_1(tmp_path: Path) -> None:
    label = ["stayed" if i % 2 else "churned" for i in range(ROWS)]
    path = csv(tmp_path, "size,left", numbers(), label)
    with pytest.raises(UsageError, match="--positive churned or --positive stayed"):
        of(path)
    assert of(path, positive="churned").label_codes == {"churned": 1, "stayed": 0}


@pytest.mark.parametrize(
    ("header", "columns", "label", "sentence"),
    [
        ("size,left", [numbers(), [str(i % 3) for i in range(ROWS)]], "left", "3 different values"),
        ("size,left", [numbers(), [str(0.5 * i) for i in range(ROWS)]], "left", "yes/no models"),
        ("size,left", [numbers(), ["", *LABEL[1:]]], "left", "missing in 1 rows"),
        ("size,size,left", [numbers(), numbers(), LABEL], "left", "two columns are named 'size'"),
        ("size,left", [numbers(), LABEL], "gone", "no column 'gone'"),
        ("id,left", [[str(i) for i in range(ROWS)], LABEL], "left", "no column that a model could use"),
    ],
    ids=["three values", "a number", "a missing label", "twice", "no such column", "identifiers only"],
)
def test_what_a_program_cannot_know_is_refused_with_a_sentence(
    tmp_path: Path, header: str, columns: list[list[str]], label: str, sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        of(csv(tmp_path, header, *columns), label=label)


def test_semicolons_and_a_byte_order_mark_are_understood(tmp_path: Path) -> None:
    path = csv(tmp_path, "size;left", numbers(), LABEL, separator=";")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [c.column for c in of(path).columns] == ["size"]


def test_a_file_that_is_not_utf8_is_refused_with_its_byte(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("größe,left\n1,yes\n".encode("latin-1"))
    with pytest.raises(UsageError, match="not UTF-8 at byte 2"):
        of(path)


def test_the_best_field_is_the_one_that_splits_the_label(tmp_path: Path) -> None:
    telling = [str(5 if word == "yes" else 1) for word in LABEL]
    assert of(csv(tmp_path, "noise,telling,left", numbers(), telling, LABEL)).best_field == "telling"
