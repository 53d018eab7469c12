"""The bad requests follow from the fields, and each is refused as it says."""

from __future__ import annotations

from typing import Any

import pytest

from runbook.modelling import request as contract
from runbook.testing.bad_requests import bad_requests

BAD = list(bad_requests())


@pytest.mark.parametrize("bad", BAD, ids=[b.name for b in BAD])
def test_a_bad_request_is_refused_with_its_status_and_field(bad: Any) -> None:
    with pytest.raises(contract.ContractError) as caught:
        contract.decode(bad.body)
    error = caught.value
    assert (error.status, error.field) == (bad.status, bad.field)
    assert set(error.body()["error"]) == {"code", "field", "message"}


def test_every_field_is_broken_in_every_way_that_its_type_allows() -> None:
    names = {b.name for b in BAD}
    assert len(names) == len(BAD)
    for field in contract.fields():
        assert {f"{field.name}: {way}" for way in ("missing", "too small", "too large", "a word", "NaN")} <= names
        assert (f"{field.name}: null" in names) == (not field.nullable)
        assert (f"{field.name}: a fraction" in names) == field.whole
