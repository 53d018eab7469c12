"""What holds for every model: these tests read the fields and the facts, and name no column.

test_models.py runs this file again in projects for other data sets.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import nbformat
import numpy as np
import pytest
import workbench

from runbook import paths
from runbook.check import check
from runbook.errors import CheckFailed
from runbook.lint import four_places, swagger
from runbook.modelling import dataset, onnx_model, request
from runbook.testing import cases
from runbook.testing.bad_requests import BadRequest, bad_requests

KINDS = ("logistic_regression", "gradient_boosting", "random_forest")


def widest(field: Any) -> float:
    """Return a valid value whose JSON is about as long as JSON gets."""
    if field.whole:
        return int(max(field.low, field.high, key=lambda v: len(str(int(v)))))
    low, high = float(field.low), float(field.high)
    return low + math.nextafter(high - low, 0) / 3


def test_the_four_places_fit_the_data_and_each_other() -> None:
    assert four_places.problems() == []


def test_every_row_is_on_one_side_and_no_group_is_on_both() -> None:
    training_set, holdout = dataset.training_set(), dataset.holdout()
    assert len(training_set) + len(holdout) == dataset.all_rows()
    assert 0.1 < len(holdout) / dataset.all_rows() < 0.3
    assert not set(dataset.groups(training_set)) & set(dataset.groups(holdout))


def test_rows_are_float32_in_the_contracts_order_with_nan_only_where_null_is_allowed() -> None:
    table = dataset.load()
    rows = dataset.matrix(table)
    assert rows.dtype == np.float32 and rows.shape == (dataset.all_rows(), len(request.FIELDS))
    for place, field in enumerate(request.fields()):
        given = rows[:, place][~np.isnan(rows[:, place])]
        assert len(given) == len(rows) or field.nullable, field.name
        assert ((given >= np.float32(field.low)) & (given <= np.float32(field.high))).all(), field.name
    assert set(dataset.outcomes(table)) == {0, 1}


@pytest.mark.parametrize("kind", KINDS)
def test_the_onnx_file_answers_what_the_pipeline_answers_up_to_the_edges_of_every_field(kind: str) -> None:
    names = workbench.cells()
    pipeline = names["candidates"][kind].fit(names["rows"], names["outcomes"])
    found = onnx_model.parity(pipeline, onnx_model.export(pipeline), names["rows"], 1e-5)
    assert found.rows > len(names["rows"]) + 2 * len(request.FIELDS)
    assert found.largest_difference < 1e-5 and found.flipped_verdicts == 0
    assert (found.with_nulls > 0) == any(field.nullable for field in request.fields())


def test_edge_rows_hold_both_ends_and_the_null_of_every_field() -> None:
    rows = onnx_model.edge_rows()
    assert len(rows) <= onnx_model.MOST_EDGES
    for place, field in enumerate(request.fields()):
        column = rows[:, place]
        assert {np.float32(field.low), np.float32(field.high)} <= set(column[~np.isnan(column)]), field.name
        assert bool(np.isnan(column).any()) == field.nullable, field.name


def test_the_swagger_describes_these_fields() -> None:
    assert swagger.problems() == []
    described = json.loads(swagger.SWAGGER.read_text())["definitions"]["Request"]
    assert list(described["properties"]) == list(request.FIELDS)
    assert described["example"] == request.EXAMPLE


def test_every_field_has_at_least_fourteen_bad_requests() -> None:
    counts = Counter(bad.name.split(":")[0] for bad in bad_requests() if ":" in bad.name)
    assert {name: counts[name] >= 14 for name in request.FIELDS} == dict.fromkeys(request.FIELDS, True)


def test_every_bad_request_is_refused_with_its_status_and_field() -> None:
    def refusal(bad: BadRequest) -> tuple[int, str | None]:
        with pytest.raises(request.ContractError) as refused:
            request.decode(bad.body)
        return refused.value.status, refused.value.field

    for bad in bad_requests():
        assert refusal(bad) == (bad.status, bad.field), bad.name


def test_every_known_case_and_golden_row_is_a_request_of_its_own() -> None:
    golden = cases.golden_rows()
    assert len(golden) == len(set(golden)) >= cases.fewest_golden_rows()
    for case in cases.known_cases():
        assert not request.decode(case.request.body)[1]
    for row in golden:
        request.validated(cases.document(row))


def test_the_functional_test_finds_enough_cases_and_notices_a_lost_golden_row() -> None:
    document = nbformat.read(paths.NOTEBOOKS / "70_functional_test.ipynb", as_version=4)
    source = next(cell.source for cell in document.cells if cell.id == "check-cases")

    def judge(golden: list[cases.Row]) -> None:
        names = {"check": check, "request": request, "cases": cases, "bad": cases.bad_cases(), "golden": golden}
        exec(source, names)  # noqa: S102 - the notebook's own cell is what is tested

    judge(cases.golden_rows())
    with pytest.raises(CheckFailed, match="golden rows: both ends of every field, and the example"):
        judge(cases.golden_rows()[: cases.fewest_golden_rows() - 1])


def test_a_list_of_a_thousand_long_rows_fits_the_most_bytes() -> None:
    row = {field.name: widest(field) for field in request.fields()}
    body = json.dumps([row] * request.MAX_ROWS, indent=1).encode()
    assert len(request.decode(body)[0]) == request.MAX_ROWS
