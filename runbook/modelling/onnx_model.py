"""The model as bytes: ONNX export, predictions, and parity with the pipeline it came from."""

from __future__ import annotations

import itertools
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runbook import paths
from runbook.errors import RunError
from runbook.modelling import dataset, request

# Names and versions inside the ONNX file. They are part of its digest: changing one makes every model a new model.
INPUT, OUTPUT, GRAPH = "request", "probability", "model"
OPSET = {"": 21, "ai.onnx.ml": 3}

# Parts of scikit-learn that convert faithfully; a refusal names them.
CONVERTS = (
    "SimpleImputer",
    "StandardScaler",
    "MinMaxScaler",
    "Binarizer",
    'KBinsDiscretizer(encode="onehot-dense")',
    "OneHotEncoder",
    "OrdinalEncoder",
    "PolynomialFeatures",
    "LogisticRegression",
    "GradientBoostingClassifier",
    "RandomForestClassifier",
    "ExtraTreesClassifier",
)
# Most rows that the comparison makes up from the edges of the fields.
MOST_EDGES = 20_000


def export(pipeline: Any) -> bytes:
    """Return a fitted scikit-learn classifier as an ONNX file: float32 [rows, fields] in, probability of 1 [rows] out.

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
        f"{name} ends in {type(last).__name__}, which gives no probabilities; expected a classifier with predict_proba. "
        "An endpoint answers a probability: use LogisticRegression or another classifier that has one."
    )


def _exported(pipeline: Any) -> bytes:
    import onnx
    from skl2onnx.helpers.onnx_helper import select_model_inputs_outputs

    converted = _converted(pipeline, len(request.FIELDS))
    answer = select_model_inputs_outputs(converted, outputs=["probabilities"])
    answer.graph.initializer.append(onnx.helper.make_tensor("positive", onnx.TensorProto.INT64, [], [1]))
    answer.graph.node.append(onnx.helper.make_node("Gather", ["probabilities", "positive"], [OUTPUT], OUTPUT, axis=1))
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
    bad = [(type(part).__name__, name) for name, part in _parts(pipeline) if not _converts(part)]
    names = " and ".join(f"{kind} ({name})" for kind, name in bad) or type(pipeline).__name__
    place = _cell(bad[0][0]) if bad else _cell(type(pipeline).__name__)
    words = str(error).strip().splitlines() or [type(error).__name__]
    return (
        f"{place}: {names} does not convert to ONNX, and only ONNX is served. Replace it there; these convert: "
        f"{', '.join(CONVERTS)}. The converter said: {words[0][:200]}"
    )


def _cell(word: str) -> str:
    """Return where 20_train uses ``word`` last, for example "notebooks/20_train.ipynb, cell random-forest"."""
    cells = json.loads((paths.NOTEBOOKS / "20_train.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    using = [cell["id"] for cell in code if re.search(rf"\b{word}\b", "".join(cell["source"]))]
    return f"notebooks/20_train.ipynb, cell {using[-1]}" if using else "notebooks/20_train.ipynb"


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


def predict(onnx_file: bytes | Path, rows: dataset.Floats) -> dataset.Floats:
    """Return the probability of 1 [rows] that an exported model answers for float32 ``rows`` [rows, fields]."""
    source = onnx_file if isinstance(onnx_file, bytes) else onnx_file.read_bytes()
    session = _session(source)
    # A champion may be older than the name that the input has today.
    name = session.get_inputs()[0].name
    answer: dataset.Floats = session.run([OUTPUT], {name: rows.astype(np.float32)})[0].astype(np.float64)
    if answer.shape != (len(rows),):
        raise RunError(f"The model answered shape {answer.shape} for {len(rows)} rows; expected one probability a row.")
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


def parity(pipeline: Any, onnx_file: bytes, rows: dataset.Floats, within: float) -> Parity:
    """Compare both row by row: on ``rows``, on ``rows`` with every nullable field emptied in turn, and on ``edge_rows()``.

    A row whose pipeline's probability lies at most ``within`` from the threshold is counted as at the threshold.
    """
    emptied = []
    for i, name in enumerate(request.FIELDS):
        if request.field(name).nullable:
            emptied.append(rows.copy())
            emptied[-1][:, i] = np.nan
    probes = np.vstack([rows, *emptied, edge_rows()])

    try:
        ours = pipeline.predict_proba(probes)[:, 1]
    except ValueError as error:
        words = str(error).strip().splitlines()[0][:200]
        raise RunError(
            f"The pipeline does not answer every request that deployment/request.py allows: {words} Put a SimpleImputer "
            "before the part that refuses null, in notebooks/20_train.ipynb."
        ) from error
    theirs = predict(onnx_file, probes)
    flipped = (ours >= dataset.THRESHOLD) != (theirs >= dataset.THRESHOLD)
    close = np.abs(ours - dataset.THRESHOLD) <= within
    return Parity(
        rows=len(probes),
        with_nulls=int(np.isnan(probes).any(axis=1).sum()),
        largest_difference=float(np.abs(ours - theirs).max()),
        at_threshold=int(close.sum()),
        flipped_verdicts=int((flipped & ~close).sum()),
    )


def edge_rows() -> dataset.Floats:
    """Return rows at the edges of every field, with null where the contract allows it, float32 [rows, fields].

    Every combination of edges where there are at most ``MOST_EDGES`` of them. Otherwise every edge alone, in the example
    request, and seeded draws of combinations. Example: 30 fields with four edges each have 4^30 combinations.
    """
    edges = [_edges(name) for name in request.FIELDS]
    if math.prod(map(len, edges)) <= MOST_EDGES:
        return np.array(list(itertools.product(*edges)), dtype=np.float32)

    usual = [np.nan if value is None else value for value in request.EXAMPLE.values()]
    alone = [[*usual[:i], value, *usual[i + 1 :]] for i, values in enumerate(edges) for value in values]
    draw = np.random.default_rng(2026)
    drawn = np.column_stack([draw.choice(values, size=MOST_EDGES // 4) for values in edges])
    return np.vstack([np.array(alone), drawn]).astype(np.float32)


def _edges(name: str) -> list[float]:
    field = request.field(name)
    inner = [0.17, field.high / 10, field.high / 2]
    if field.whole:
        inner = [field.low + 1, field.low + 2]
    values = sorted({field.low, *(v for v in inner if field.low < v < field.high), field.high})
    return [*values, float("nan")] if field.nullable else values
