"""Loads the data set, checks every row, and splits it once into training set and holdout."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn import metrics as sk

from runbook import paths
from runbook.errors import UsageError

DATA_SHA256 = "97c590906391d4156c8bd86908136a63ded53089482933af5908fc126a70a708"


DATA_ROWS = 891


SALT = "titanic-runbook-1"


SEALED_SHARE = 0.2


SEXES = {"female": 0, "male": 1}


PORTS = {"S": 0, "C": 1, "Q": 2}


LABEL, GROUP = "Survived", "Ticket"


# A probability of at least this much is the verdict 1, here as in deployment/score.py.
THRESHOLD = 0.5


Floats = npt.NDArray[np.floating[Any]]


_openings = 0


@functools.cache
def contract() -> ModuleType:
    """Return deployment/contract.py as a module; it is shipped to the endpoint and therefore lies outside this package."""
    spec = importlib.util.spec_from_file_location("contract", paths.DEPLOYMENT / "contract.py")
    if spec is None or spec.loader is None:
        raise UsageError(f"{paths.DEPLOYMENT / 'contract.py'} can not be loaded as a module.")
    module = importlib.util.module_from_spec(spec)
    sys.modules["contract"] = module  # where msgspec looks the struct's annotations up
    spec.loader.exec_module(module)
    return module


def load(path: Path = paths.DATA) -> pd.DataFrame:
    """Return all 891 passengers, coded, sealed ones included, and count this as an opening.

    Raises UsageError when the file is not the one this project was built on.
    """
    global _openings
    _openings += 1
    return _read(path)


def _read(path: Path) -> pd.DataFrame:
    data = path.read_bytes()
    found = digest(data)
    if found != DATA_SHA256 and digest(data.replace(b"\r\n", b"\n")) == DATA_SHA256:
        raise UsageError(
            f"{path} has Windows line endings (CRLF), wanted LF: this checkout was made by a git that rewrote them. "
            f"Commit what you have changed, then: {paths.RENEW_CHECKOUT}"
        )
    if found != DATA_SHA256:
        raise UsageError(
            f"{path} has sha256 {found}; wanted {DATA_SHA256}. Restore it with: git checkout -- {shlex.quote(str(path))}; "
            "or, when the data has changed on purpose, write its digest and rows into runbook/modelling/dataset.py."
        )
    table = coded(pd.read_csv(io.BytesIO(data)))
    if len(table) != DATA_ROWS:
        raise UsageError(f"{path} has {len(table)} rows; wanted {DATA_ROWS}.")
    return table


def coded(raw: pd.DataFrame) -> pd.DataFrame:
    """Return PassengerId, the contract's fields in its order, label and group; raises UsageError naming the row at fault.

    ``raw`` has the columns of data/titanic.csv. Every row must satisfy deployment/contract.py, as every request must.
    """
    needed = ["PassengerId", *contract().FIELDS, LABEL, GROUP]
    missing = [name for name in needed if name not in raw.columns]
    if missing:
        raise UsageError(
            f"The training data has no column {', '.join(missing)}; it has {', '.join(map(str, raw.columns))}. "
            f"Wanted {', '.join(needed)}: rename the columns of the file, or the fields of deployment/contract.py."
        )
    codes: dict[str, dict[str, int]] = {"Sex": SEXES, "Embarked": PORTS}
    # A word without a code stays a word, which the contract refuses; a null becomes None, which it may allow.
    columns = [[None if pd.isna(v) else codes.get(f, {}).get(v, v) for v in raw[f].tolist()] for f in contract().FIELDS]
    rows = [dict(zip(contract().FIELDS, values, strict=True)) for values in zip(*columns, strict=True)]
    for number, (row, passenger) in enumerate(zip(rows, raw["PassengerId"], strict=True), 1):
        try:
            contract().passenger(row, f"row {number}, PassengerId {passenger}: ")
        except contract().ContractError as error:
            raise UsageError(f"The training data breaks the contract: {error}") from None
    table = pd.DataFrame(rows, index=raw.index)
    table.insert(0, "PassengerId", raw["PassengerId"])
    table[[LABEL, GROUP]] = raw[[LABEL, GROUP]]
    if not table[LABEL].isin([0, 1]).all():
        raise UsageError(f"The training data has values of {LABEL} other than 0 and 1.")
    return table


def is_sealed(ticket: str) -> bool:
    """Return whether the passengers of this ticket are sealed: about one ticket in five."""
    number = int.from_bytes(hashlib.sha256(f"{SALT}:{ticket}".encode()).digest()[:8], "big")
    return number / 2**64 < SEALED_SHARE


def development() -> pd.DataFrame:
    """Return the rows for choice, calibration and refit."""
    table = _read(paths.DATA)
    return table[~table[GROUP].map(is_sealed)].reset_index(drop=True)


def sealed() -> pd.DataFrame:
    """Return the rows that judge a candidate, and count this as an opening; only 30_evaluate may ask for them."""
    table = load()
    return table[table[GROUP].map(is_sealed)].reset_index(drop=True)


def openings() -> int:
    """Return how often this process has read sealed rows, by ``load`` or ``sealed``; a training must end with 0."""
    return _openings


def matrix(table: pd.DataFrame) -> Floats:
    """Return [rows, 7] float32 in the contract's order, NaN for null: what pipelines are trained on and what is served."""
    rows: Floats = table[list(contract().FIELDS)].to_numpy(dtype=np.float32)
    return rows


def slices(table: pd.DataFrame) -> dict[str, npt.NDArray[np.bool_]]:
    """Return named row masks: the groups of passengers for which a model is looked at on its own."""
    age, family = table["Age"], table["SibSp"] + table["Parch"]
    masks = {
        "women": table["Sex"] == 0,
        "men": table["Sex"] == 1,
        **{f"class {c}": table["Pclass"] == c for c in (1, 2, 3)},
        "under 14": age < 14,
        "14 to 49": (age >= 14) & (age < 50),
        "50 and over": age >= 50,
        "age unknown": age.isna(),
        "alone": family == 0,
        "family of 2 to 4": (family >= 1) & (family <= 3),
        "family of 5 or more": family >= 4,
    }
    return {name: mask.to_numpy(dtype=bool) for name, mask in masks.items()}


def metrics(outcomes: npt.ArrayLike, probabilities: npt.ArrayLike) -> dict[str, float]:
    """Return log loss, Brier score, ROC AUC and accuracy of probabilities [rows] for outcomes [rows] of 0 and 1."""
    y, p = np.asarray(outcomes), np.asarray(probabilities, dtype=np.float64)
    return {
        "log_loss": float(sk.log_loss(y, p, labels=[0, 1])),
        "brier": float(sk.brier_score_loss(y, p)),
        "roc_auc": float(sk.roc_auc_score(y, p)),
        "accuracy": float(sk.accuracy_score(y, p >= THRESHOLD)),
    }


def digest(source: bytes | Path) -> str:
    """Return the sha256 of bytes or of a file, as 64 hexadecimal digits."""
    return hashlib.sha256(source if isinstance(source, bytes) else source.read_bytes()).hexdigest()


def predictions_digest(probabilities: Mapping[str, Floats]) -> str:
    """Return one sha256 over named predictions, each rounded to 6 decimals so that it survives another CPU."""
    total = hashlib.sha256()
    for name in sorted(probabilities):
        total.update(name.encode() + b"\0" + np.round(probabilities[name], 6).astype("<f8").tobytes())
    return total.hexdigest()
