"""Rewrites the cells of 20_train.ipynb that spell out the data and the pipelines; every other cell stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from runbook.errors import AnatomyError
from runbook.new_project.profile import Column, Profile


def rewrite(document: dict[str, Any], profile: Profile) -> None:
    """Replace the cells of ``CELLS`` in the notebook ``document``, as nbformat's JSON.

    Raises AnatomyError when a cell is missing: the notebook and this module belong together.
    """
    cells = {cell["id"]: cell for cell in document["cells"]}
    for name, text in CELLS.items():
        if name not in cells:
            raise AnatomyError(f"20_train.ipynb has no cell {name!r}; expected it, to write the first pipelines there.")
        cells[name]["source"] = text(profile).splitlines(keepends=True)


def _imports(profile: Profile) -> str:
    preparation = ["OneHotEncoder"] if any(c.words for c in profile.columns) else []
    preparation += ["StandardScaler"] if any(not c.words for c in profile.columns) else []
    return "\n".join(
        [
            "# Import scikit-learn, MLflow and the runbook",
            "import mlflow",
            "import pandas as pd",
            "from sklearn.compose import ColumnTransformer",
            "from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier",
            "from sklearn.impute import SimpleImputer",
            "from sklearn.linear_model import LogisticRegression",
            "from sklearn.pipeline import make_pipeline",
            f"from sklearn.preprocessing import {', '.join(preparation)}",
            "",
            "from runbook import connect, handoff",
            "from runbook.check import check, summary",
            "from runbook.modelling import dataset, figures, onnx_model, request, training",
        ]
    )


def _missing_note(profile: Profile) -> str:
    return (
        "Fields with missing values. The pipelines below fill a gap with the median or the most frequent value, nothing "
        "cleverer."
    )


def _rates_note(profile: Profile) -> str:
    return (
        f"The share of rows with `{profile.label}` = 1 by the fields that say most at a glance. Each share has its 95 % Wilson "
        "interval and the number of rows behind it."
    )


def _rates(profile: Profile) -> str:
    column = next((c for c in profile.columns if c.words), profile.columns[0])
    field = column.field
    named = f'table["{field}"].map(dict(enumerate({json.dumps(list(column.words), ensure_ascii=False)})))'
    grouped = named if column.words else f'pd.qcut(table["{field}"], 4, duplicates="drop").astype(str)'
    return "\n".join(
        [
            f"# Draw the share by {field}",
            f"#| fig-alt: Share of rows with label 1 by {field}, with intervals and counts; the dashed line is the share of all.",
            f"#| fig-cap: Share of rows with label 1 by {field}, with 95 % Wilson intervals.",
            f"grouped = table.assign(part={grouped})",
            'counts = figures.positive_counts(grouped, ["part"])',
            'drawn["shares"] = figures.shares(counts, "share with label 1", overall=float(dataset.outcomes(table).mean()))',
            'drawn["shares"]',
        ]
    )


def _slices_note(profile: Profile) -> str:
    return "The slices of data/dataset.py, on which every report looks at a model separately."


def _places(profile: Profile) -> str:
    lines = [
        "# Name the places of the columns",
        "place = {name: i for i, name in enumerate(fields)}",
        *_group("numbers", [c for c in profile.columns if not c.words]),
        *_group("categories", [c for c in profile.columns if c.words]),
        "rows, outcomes = dataset.matrix(table), dataset.outcomes(table)",
    ]
    return "\n".join(lines)


def _group(name: str, columns: list[Column]) -> list[str]:
    if not columns:
        return []
    names = ", ".join(json.dumps(c.field) for c in columns)
    return [f"{name} = [place[name] for name in ({names},)]"]


def _check_places(profile: Profile) -> str:
    names = json.dumps([c.field for c in profile.columns])
    return f'# Check that the places are the request\'s\ncheck("fields in order", found=fields, wanted={names})'


def _logistic_note(profile: Profile) -> str:
    return "**Logistic regression.** Numbers are scaled, every word of a category gets a coefficient. A first, plain model."


def _logistic(profile: Profile) -> str:
    numbers = '("numbers", make_pipeline(median, StandardScaler()), numbers)'
    one_hot = 'OneHotEncoder(handle_unknown="ignore", sparse_output=False)'
    categories = f'("categories", make_pipeline(mode, {one_hot}), categories)'
    return "\n".join(
        [
            "# A logistic regression",
            'median = SimpleImputer(strategy="median")',
            'mode = SimpleImputer(strategy="most_frequent")',
            "prepared = ColumnTransformer(",
            "    [",
            *[f"        {part}," for part in _parts(profile, numbers, categories)],
            "    ]",
            ")",
            "logistic_regression = make_pipeline(prepared, LogisticRegression(C=1.0, max_iter=2000))",
        ]
    )


def _boosting_note(profile: Profile) -> str:
    return "**Gradient boosting.** Many small trees, each correcting the last a little."


def _boosting(profile: Profile) -> str:
    filled = ", ".join(_parts(profile, '("numbers", median, numbers)', '("categories", mode, categories)'))
    return "\n".join(
        [
            "# A boosted model",
            f"filled = ColumnTransformer([{filled}])",
            "gradient_boosting = make_pipeline(",
            "    filled,",
            "    GradientBoostingClassifier(",
            "        n_estimators=150,",
            "        learning_rate=0.05,",
            "        max_depth=2,",
            "        min_samples_leaf=8,",
            "        subsample=0.6,",
            "        random_state=seed,",
            "    ),",
            ")",
        ]
    )


def _forest_note(profile: Profile) -> str:
    return "**Random forest.** Shallow trees with several rows in every leaf, so that no tree knows a row by heart."


def _forest(profile: Profile) -> str:
    return "\n".join(
        [
            "# A forest",
            "random_forest = make_pipeline(",
            "    filled,",
            "    RandomForestClassifier(n_estimators=200, max_depth=6, min_samples_leaf=4, random_state=seed),",
            ")",
        ]
    )


def _parts(profile: Profile, numbers: str, categories: str) -> list[str]:
    has_numbers = any(not c.words for c in profile.columns)
    has_categories = any(c.words for c in profile.columns)
    return [part for part, present in ((numbers, has_numbers), (categories, has_categories)) if present]


# The cells of 20_train that are about the data set, by id.
CELLS: dict[str, Callable[[Profile], str]] = {
    "imports": _imports,
    "missing-note": _missing_note,
    "survival-note": _rates_note,
    "survival": _rates,
    "slices-note": _slices_note,
    "places": _places,
    "check-places": _check_places,
    "logistic-note": _logistic_note,
    "logistic-regression": _logistic,
    "boosting-note": _boosting_note,
    "gradient-boosting": _boosting,
    "forest-note": _forest_note,
    "random-forest": _forest,
}
