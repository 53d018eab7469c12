"""The model as bytes: ONNX export, predictions, and parity with the pipeline it came from."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runbook.errors import RunError
from runbook.modelling import dataset

# Names and versions inside the ONNX file. They are part of its digest: changing one makes every model a new model.
INPUT, OUTPUT, GRAPH = "passenger", "probability", "titanic"


OPSET = {"": 21, "ai.onnx.ml": 3}


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

    converted = _converted(pipeline, len(dataset.contract().FIELDS))
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


def predict(onnx_file: bytes | Path, rows: dataset.Floats) -> dataset.Floats:
    """Return the probability of survival [rows] that an exported model answers for float32 ``rows`` [rows, 7]."""
    source = onnx_file if isinstance(onnx_file, bytes) else onnx_file.read_bytes()
    answer: dataset.Floats = _session(source).run([OUTPUT], {INPUT: rows.astype(np.float32)})[0].astype(np.float64)
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


def parity(pipeline: Any, onnx_file: bytes, rows: dataset.Floats, within: float) -> Parity:
    """Compare both row by row: on ``rows``, on ``rows`` with every nullable field emptied in turn, and on ``edge_rows()``.

    A row whose pipeline's probability lies at most ``within`` from the threshold is counted as at the threshold.
    """
    emptied = []
    for i, name in enumerate(dataset.contract().FIELDS):
        if dataset.contract().field(name).nullable:
            emptied.append(rows.copy())
            emptied[-1][:, i] = np.nan
    probes = np.vstack([rows, *emptied, edge_rows()])

    ours, theirs = pipeline.predict_proba(probes)[:, 1], predict(onnx_file, probes)
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
    """Return every combination of each field's edges and of null where the contract allows it, float32 [rows, 7]."""

    def edges(name: str) -> list[float]:
        field = dataset.contract().field(name)
        inner = [field.low + 1, field.low + 2] if field.whole else [0.17, field.high / 10, field.high / 2]
        values = sorted({field.low, *(v for v in inner if v < field.high), field.high})
        return [*values, float("nan")] if field.nullable else values

    return np.array(list(itertools.product(*map(edges, dataset.contract().FIELDS))), dtype=np.float32)
