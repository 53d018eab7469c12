"""Holds the four places against each other and against the data; lists what does not fit and what is still blank."""

from __future__ import annotations

import json
from typing import Any

from runbook import paths
from runbook.errors import RunbookError
from runbook.modelling.description import BLANK, THINK, marked, place, place_of_error


def problems() -> list[str]:
    """Return every blank and everything that does not fit; an empty list means that training can begin."""
    found = blanks()
    if found:
        return found
    # These modules read the description and the fields when they are imported.
    try:
        return [*_rows(), *_words(), *_slices_and_cases()]
    except RunbookError as error:
        return [str(error)]


def blanks() -> list[str]:
    """Return a line for every value that only a person can give and that is still missing."""
    return [f"{where}: still blank. {question}" for where, question in marked(paths.ROOT, BLANK)]


def thoughts() -> list[str]:
    """Return a line for every limit that `runbook new` has chosen and that a person should decide."""
    return [f"{where}: {question}" for where, question in marked(paths.ROOT, THINK)]


def _rows() -> list[str]:
    from runbook.modelling import dataset

    dataset.load()
    return []


def _words() -> list[str]:
    from runbook.modelling import request
    from runbook.modelling.description import description

    facts = description()
    found = []
    unknown = {
        "COLUMNS": set(facts.columns) - set(request.FIELDS),
        "CODES": set(facts.codes) - set(request.FIELDS) - {facts.label},
        "DATES": set(facts.dates) - set(request.FIELDS),
        "BASELINES": set(facts.baselines.values()) - set(request.FIELDS),
    }
    for name, fields in unknown.items():
        for field in sorted(fields):
            found.append(
                f"{place(paths.DATASET, name)}: {name} speaks of {field!r}; expected a field of deployment/request.py: "
                f"{', '.join(request.FIELDS)}."
            )
    return found


def _slices_and_cases() -> list[str]:
    from runbook.modelling import dataset, request
    from runbook.testing import cases

    found = [*_sides(), *_slices(dataset.load())]
    cases.known_cases()
    try:
        request.validated(request.EXAMPLE)
    except request.ContractError as error:
        example = json.dumps(request.EXAMPLE)
        where = place(paths.DEPLOYMENT / "request.py", "EXAMPLE")
        found.append(f"{where}: {example} is no valid request. {error.message}")
    return found


def _sides() -> list[str]:
    from runbook.modelling import dataset

    found = []
    for name, table in {"training set": dataset.training_set(), "holdout": dataset.holdout()}.items():
        positives = int(dataset.outcomes(table).sum())
        if not 0 < positives < len(table):
            found.append(
                f"{place(paths.DATASET, 'HOLDOUT_SHARE')}: the {name} has {len(table)} rows, {positives} of them with label 1; "
                "expected both labels. Choose another HOLDOUT_SHARE or HOLDOUT_SALT there, or another GROUP."
            )
    return found


def _slices(table: Any) -> list[str]:
    from runbook.modelling import dataset, request

    where = place(paths.DATASET, "slices")
    try:
        masks = dataset.slices(table)
        wrong = [name for name, mask in masks.items() if mask.shape != (len(table),)]
    except KeyError as error:
        where = place_of_error(paths.DATASET, error, "slices")
        return [f"{where}: slices() reads the field {error}; expected one of {', '.join(request.FIELDS)}."]
    except Exception as error:  # the function is a person's own code, which may raise anything
        where = place_of_error(paths.DATASET, error, "slices")
        return [f"{where}: slices() fails: {type(error).__name__}: {error}. Return {{name: condition on a field}}."]

    idle = [name for name, mask in masks.items() if name not in wrong and not mask.any()]
    return [
        *(
            f"{where}: the slice {name!r} is no condition for every row. Compare a field with a value."
            for name in wrong
        ),
        *(f"{where}: the slice {name!r} has no rows. Correct its condition, or remove it." for name in idle),
    ]
