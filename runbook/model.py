"""The data, its split, and the model as bytes: ONNX export, parity, predictions, digests.

Rows are split once, by a salted hash of the ticket, so that a family never lies on both sides. 20_train sees
``development()``; 30_evaluate alone opens ``sealed()``. ``openings()`` counts how often this process read sealed rows.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import itertools
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn import metrics as sk

from runbook import repository
from runbook.errors import RunError, UsageError

DATA_SHA256 = "97c590906391d4156c8bd86908136a63ded53089482933af5908fc126a70a708"
DATA_ROWS = 891
SALT = "titanic-runbook-1"
SEALED_SHARE = 0.2
SEXES = {"female": 0, "male": 1}
PORTS = {"S": 0, "C": 1, "Q": 2}
LABEL, GROUP = "Survived", "Ticket"

# Names and versions inside the ONNX file. They are part of its digest: changing one makes every model a new model.
INPUT, OUTPUT, GRAPH = "passenger", "probability", "titanic"
OPSET = {"": 21, "ai.onnx.ml": 3}

# A probability of at least this much is the verdict 1, here as in deployment/score.py.
THRESHOLD = 0.5

Floats = npt.NDArray[np.floating[Any]]
_openings = 0


@functools.cache
def contract() -> ModuleType:
    """Return deployment/contract.py as a module; it is shipped to the endpoint and therefore lies outside this package."""
    spec = importlib.util.spec_from_file_location("contract", repository.DEPLOYMENT / "contract.py")
    if spec is None or spec.loader is None:
        raise UsageError(f"{repository.DEPLOYMENT / 'contract.py'} can not be loaded as a module.")
    module = importlib.util.module_from_spec(spec)
    sys.modules["contract"] = module  # where msgspec looks the struct's annotations up
    spec.loader.exec_module(module)
    return module


def load(path: Path = repository.DATA) -> pd.DataFrame:
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
            f"Commit what you have changed, then: {repository.RENEW_CHECKOUT}"
        )
    if found != DATA_SHA256:
        raise UsageError(
            f"{path} has sha256 {found}; wanted {DATA_SHA256}. Restore it with: git checkout -- {shlex.quote(str(path))}; "
            "or, when the data has changed on purpose, write its digest and rows into runbook/model.py."
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
    table = _read(repository.DATA)
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


def export(pipeline: Any) -> bytes:
    """Return a fitted scikit-learn classifier as an ONNX file: float32 [rows, 7] in, probability of label 1 [rows] out.

    The same pipeline gives the same bytes in every process. Raises RunError, naming the part at fault, when the pipeline
    gives no probabilities, has no faithful form in ONNX, or makes a file that ONNX Runtime does not load.
    """
    refuse_without_probabilities("The pipeline", pipeline)
    try:
        exported = _exported(pipeline)
        _session(exported)
    # skl2onnx, onnx and ONNX Runtime raise a dozen unrelated classes for what they do not know.
    except Exception as error:
        raise RunError(_unconvertible(pipeline, error)) from None
    return exported


def refuse_without_probabilities(name: str, pipeline: Any) -> None:
    """Raise RunError when ``pipeline``, called ``name`` in the message, has no ``predict_proba``."""
    if hasattr(pipeline, "predict_proba"):
        return
    last = _parts(pipeline)[-1][1]
    raise RunError(
        f"{name} ends in {type(last).__name__}, which gives no probabilities; wanted a classifier with predict_proba. "
        "An endpoint answers a probability: use LogisticRegression or another classifier that has one."
    )


def _exported(pipeline: Any) -> bytes:
    import onnx
    from skl2onnx.helpers.onnx_helper import select_model_inputs_outputs

    converted = _converted(pipeline, len(contract().FIELDS))
    answer = select_model_inputs_outputs(converted, outputs=["probabilities"])
    answer.graph.initializer.append(onnx.helper.make_tensor("survived", onnx.TensorProto.INT64, [], [1]))
    answer.graph.node.append(onnx.helper.make_node("Gather", ["probabilities", "survived"], [OUTPUT], OUTPUT, axis=1))
    del answer.graph.output[:]
    answer.graph.output.append(onnx.helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, [None]))
    # skl2onnx collects the operator sets in a Python set, whose order changes with PYTHONHASHSEED.
    operators = sorted((o.domain, o.version) for o in answer.opset_import)
    del answer.opset_import[:]
    answer.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in operators)
    onnx.checker.check_model(answer)
    return bytes(answer.SerializeToString(deterministic=True))


def _converted(part: Any, columns: int) -> Any:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    return convert_sklearn(
        part,
        name=GRAPH,
        initial_types=[(INPUT, FloatTensorType([None, columns]))],
        options={"zipmap": False} if hasattr(part, "predict_proba") else None,
        target_opset=OPSET,
    )


def _unconvertible(pipeline: Any, error: Exception) -> str:
    names = [f"{type(part).__name__} ({name})" for name, part in _parts(pipeline) if not _converts(part)]
    words = str(error).strip().splitlines() or [type(error).__name__]
    return (
        f"{' and '.join(names) or type(pipeline).__name__} does not convert to ONNX, and only ONNX is served. Use a part that "
        "does: imputers, one-hot encoding, binning, interactions, scaling before a linear model, logistic regression, trees, "
        f"forests, gradient boosting (not its histogram form), SVC with probabilities. The converter said: {words[0][:200]}"
    )


def _converts(part: Any) -> bool:
    try:
        converted = _converted(part, part.n_features_in_)
        del converted.functions[:]  # an exported file carries none, and a nearest-neighbour imputer needs some
        _session(converted.SerializeToString())
    except Exception:  # see export: any class of error means no
        return False
    return True


def _parts(pipeline: Any, path: str = "") -> list[tuple[str, Any]]:
    """Return the innermost fitted parts of pipelines, unions and column transformers, with the path that leads to each."""
    named = getattr(pipeline, "transformers_", None) or getattr(pipeline, "transformer_list", None)
    named = named or getattr(pipeline, "steps", None)
    if not named:
        return [(path or "the pipeline itself", pipeline)]
    inner = [(str(entry[0]), entry[1]) for entry in named if hasattr(entry[1], "get_params")]
    return [found for name, part in inner for found in _parts(part, f"{path} > {name}" if path else name)]


def predict(onnx_file: bytes | Path, rows: Floats) -> Floats:
    """Return the probability of survival [rows] that an exported model answers for float32 ``rows`` [rows, 7]."""
    source = onnx_file if isinstance(onnx_file, bytes) else onnx_file.read_bytes()
    answer: Floats = _session(source).run([OUTPUT], {INPUT: rows.astype(np.float32)})[0].astype(np.float64)
    if answer.shape != (len(rows),):
        raise RunError(f"The model answered shape {answer.shape} for {len(rows)} rows; wanted one probability a row.")
    return answer


def _session(onnx_file: bytes) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class Parity:
    """How far an exported model is from the pipeline it came from, over ``rows`` rows of which ``with_nulls`` have a null.

    ``at_threshold`` rows have a probability so close to the threshold that rounding decides their verdict;
    ``flipped_verdicts`` counts the others whose verdict differs.
    """

    rows: int
    with_nulls: int
    largest_difference: float
    at_threshold: int
    flipped_verdicts: int


def parity(pipeline: Any, onnx_file: bytes, rows: Floats, within: float) -> Parity:
    """Compare both row by row: on ``rows``, on ``rows`` with every nullable field emptied in turn, and on ``edge_rows()``.

    A row whose pipeline's probability lies at most ``within`` from the threshold is counted as at the threshold.
    """
    emptied = []
    for i, name in enumerate(contract().FIELDS):
        if contract().field(name).nullable:
            emptied.append(rows.copy())
            emptied[-1][:, i] = np.nan
    probes = np.vstack([rows, *emptied, edge_rows()])

    ours, theirs = pipeline.predict_proba(probes)[:, 1], predict(onnx_file, probes)
    flipped = (ours >= THRESHOLD) != (theirs >= THRESHOLD)
    close = np.abs(ours - THRESHOLD) <= within
    return Parity(
        rows=len(probes),
        with_nulls=int(np.isnan(probes).any(axis=1).sum()),
        largest_difference=float(np.abs(ours - theirs).max()),
        at_threshold=int(close.sum()),
        flipped_verdicts=int((flipped & ~close).sum()),
    )


def edge_rows() -> Floats:
    """Return every combination of each field's edges and of null where the contract allows it, float32 [rows, 7]."""

    def edges(name: str) -> list[float]:
        field = contract().field(name)
        inner = [field.low + 1, field.low + 2] if field.whole else [0.17, field.high / 10, field.high / 2]
        values = sorted({field.low, *(v for v in inner if v < field.high), field.high})
        return [*values, float("nan")] if field.nullable else values

    return np.array(list(itertools.product(*map(edges, contract().FIELDS))), dtype=np.float32)


def digest(source: bytes | Path) -> str:
    """Return the sha256 of bytes or of a file, as 64 hexadecimal digits."""
    return hashlib.sha256(source if isinstance(source, bytes) else source.read_bytes()).hexdigest()


def predictions_digest(probabilities: Mapping[str, Floats]) -> str:
    """Return one sha256 over named predictions, each rounded to 6 decimals so that it survives another CPU."""
    total = hashlib.sha256()
    for name in sorted(probabilities):
        total.update(name.encode() + b"\0" + np.round(probabilities[name], 6).astype("<f8").tobytes())
    return total.hexdigest()
