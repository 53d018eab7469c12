"""What a request costs inside a replica, beside the usual way: a data frame into the fitted pipeline."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sides import compare
from workbench import cells

from runbook import paths
from runbook.modelling import dataset, onnx_model
from runbook.modelling import request as contract


def served(onnx_file: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return deployment/score.py with its model loaded, as a worker holds it."""
    (folder / "model.onnx").write_bytes(onnx_file)
    monkeypatch.setenv("AZUREML_MODEL_DIR", str(folder))
    monkeypatch.setenv("MODEL_SHA256", dataset.digest(onnx_file))
    monkeypatch.setenv("MODEL_VERSION", "1")
    spec = importlib.util.spec_from_file_location("score", paths.DEPLOYMENT / "score.py")
    assert spec and spec.loader
    score = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(score)
    score.init()
    return score


@pytest.mark.parametrize("count", [1, 1000])
def test_the_contract_and_onnx_beside_a_data_frame_and_scikit_learn(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = cells()
    fitted = names["candidates"]["logistic_regression"].fit(names["rows"], names["outcomes"])
    score = served(onnx_model.export(fitted), tmp_path, monkeypatch)
    body = json.dumps([{**contract.EXAMPLE, "Age": 20 + i % 40} for i in range(count)]).encode()

    def ours() -> list[float]:
        answers: list[float] = score.score(contract.decode(body)[0])
        return answers

    def usual() -> Any:
        return fitted.predict_proba(pd.DataFrame(json.loads(body))[list(contract.FIELDS)].to_numpy(float))[:, 1]

    assert ours() == pytest.approx(list(usual()), abs=1e-5)
    compare(f"A request of {count}", {"contract and ONNX": ours, "data frame and scikit-learn": usual}, 100)
