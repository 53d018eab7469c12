"""The list of every notebook's checks, so that a check that disappears is noticed."""

from __future__ import annotations

from nbval_reference import CHECKS, every_check


def test_no_check_has_disappeared_from_a_notebook() -> None:
    found, listed = every_check().splitlines(), CHECKS.read_text(encoding="utf-8").splitlines()
    lost, new = [c for c in listed if c not in found], [c for c in found if c not in listed]
    assert found == listed, (
        f"gone: {lost}; new: {new}. If this is meant: .venv/bin/python tests/nbval/nbval_reference.py checks"
    )
