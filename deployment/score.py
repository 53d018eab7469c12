"""Scoring script: Microsoft's scoring server calls ``init`` once per worker, and ``run`` for every request."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime as ort
from azureml_inference_server_http.api.aml_request import AMLRequest, rawhttp
from azureml_inference_server_http.api.aml_response import AMLResponse

# The server does not promise that this folder is importable when it lies below the application's root.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from decode import ContractError, decode, validated
from request import EXAMPLE, Request

_model: Any = None
_version = ""


def init() -> None:
    """Load model.onnx from below AZUREML_MODEL_DIR once its bytes have the digest MODEL_SHA256, and warm it up.

    Anything else raises, which ends the worker: a replica that is not certain of its model serves nobody.
    """
    global _model, _version
    _version = os.environ["MODEL_VERSION"]
    wanted = os.environ["MODEL_SHA256"]
    found = sorted(Path(os.environ["AZUREML_MODEL_DIR"]).rglob("model.onnx"))
    if len(found) != 1:
        raise RuntimeError(f"AZUREML_MODEL_DIR holds {len(found)} files named model.onnx ({found}); expected one.")
    data = found[0].read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if not _version or digest != wanted:
        raise RuntimeError(
            f"{found[0]} has sha256 {digest} and version {_version!r}; expected sha256 {wanted or '(not set)'} and a "
            "version. Deploy the model again: the platform sets MODEL_SHA256 and MODEL_VERSION."
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # replicas share cores; a row is no work to divide
    _model = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    score([validated(EXAMPLE)])


@rawhttp  # type: ignore[untyped-decorator]  # the server publishes no types
def run(request: AMLRequest) -> Any:
    """Answer one request: swagger.json says what a good one gets; a bad one gets its status and an ``error`` body.

    The raw request is asked for because the server's plain form hides the method, and turns a body that does not claim
    to be JSON into an empty text.
    """
    body = request.get_data()  # read before any refusal: a connection closed on an unread body can lose the answer
    try:
        _check(request)
        requests, many = decode(body)
    except ContractError as error:
        headers = {"Allow": "POST"} if error.status == 405 else {}
        return AMLResponse(error.body(), error.status, headers, json_str=True)
    answers = [_answer(p) for p in score(requests)]
    # Encoded here, because the server's own encoder would take most of the time of a long list.
    encoded = msgspec.json.encode(answers if many else answers[0])
    return AMLResponse(encoded, 200, {"Content-Type": "application/json"})


def score(requests: list[Request]) -> list[float]:
    """Return the probability of 1 for each request; raises when the model answers anything but 0 to 1."""
    rows = [msgspec.structs.astuple(r) for r in requests]
    # A null becomes NaN, which the model's own imputers fill as they did in training.
    probabilities = _model.run(["probability"], {_model.get_inputs()[0].name: np.array(rows, dtype=np.float32)})[0]
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise RuntimeError(f"The model answered {probabilities.tolist()}; expected probabilities from 0 to 1.")
    answered: list[float] = probabilities.tolist()
    return answered


def _check(request: AMLRequest) -> None:
    if request.method != "POST":
        raise ContractError(405, "method_not_allowed", None, f"The method is {request.method}; expected POST.")
    if request.mimetype != "application/json":
        message = f"The Content-Type is {request.mimetype or 'missing'}; expected application/json."
        raise ContractError(415, "unsupported_media_type", None, message)


def _answer(probability: float) -> dict[str, Any]:
    return {"prediction": int(probability >= 0.5), "probability": probability, "model_version": _version}
