"""A pipeline that cannot become an ONNX file, or cannot answer null, is refused with its part and what to use instead."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, SplineTransformer, StandardScaler

from runbook import paths
from runbook.errors import RunError
from runbook.modelling import onnx_model, request

MODULES = ("impute", "preprocessing", "linear_model", "ensemble")


def fitted(pipeline: Any) -> Any:
    rows = np.random.default_rng(1).integers(0, 5, (300, len(request.FIELDS))).astype(np.float32)
    return pipeline.fit(rows, rows[:, 0] > 2)


def part(text: str) -> Any:
    name = text.partition("(")[0]
    options = dict(re.findall(r'(\w+)="([^"]+)"', text))
    found = (getattr(importlib.import_module(f"sklearn.{module}"), name, None) for module in MODULES)
    return next(this for this in found if this is not None)(**options)


@pytest.mark.parametrize("unfit", [SplineTransformer(), FunctionTransformer(np.log1p)], ids=str)
def test_a_part_that_does_not_convert_is_named_with_what_does(unfit: Any) -> None:
    pipeline = fitted(make_pipeline(unfit, LogisticRegression()))
    with pytest.raises(RunError, match=f"20_train.ipynb: {type(unfit).__name__} .*does not convert.*StandardScaler"):
        onnx_model.export(pipeline)


def test_the_cell_that_spells_the_part_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [
        {"id": "imports", "cell_type": "code", "source": ["from sklearn.preprocessing import SplineTransformer"]},
        {"id": "curves", "cell_type": "code", "source": ["curves = SplineTransformer()"]},
    ]
    (tmp_path / "20_train.ipynb").write_text(json.dumps({"cells": cells}))
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path)
    with pytest.raises(RunError, match="20_train.ipynb, cell curves: SplineTransformer .*does not convert"):
        onnx_model.export(fitted(make_pipeline(SplineTransformer(), LogisticRegression())))


@pytest.mark.parametrize("name", onnx_model.CONVERTS)
def test_every_part_that_a_refusal_recommends_converts(name: str) -> None:
    this = part(name)
    pipeline = this if hasattr(this, "predict_proba") else make_pipeline(this, LogisticRegression())
    assert onnx_model.export(fitted(pipeline))


def test_a_pipeline_that_refuses_a_null_of_the_contract_is_refused() -> None:
    if not any(field.nullable for field in request.fields()):
        pytest.skip("no field of this project may be null")
    pipeline = fitted(make_pipeline(StandardScaler(), LogisticRegression()))
    rows = np.zeros((3, len(request.FIELDS)), dtype=np.float32)
    with pytest.raises(RunError, match="Put a SimpleImputer before the part that refuses null"):
        onnx_model.parity(pipeline, onnx_model.export(pipeline), rows, 1e-5)
