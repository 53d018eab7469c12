"""The facts about the samples of breast tissue that scikit-learn brings along."""

from __future__ import annotations

from typing import Any

FILE = "breast_cancer.csv"
SHA256 = "4ec21cf972f30e944eee86f687bfcb26477389a915208ce7d6cf3e1ee7a415e2"
ROWS = 569

LABEL = "malignant"
GROUP = None  # every sample stands alone
KEY = "sample"

HOLDOUT_SHARE = 0.2
HOLDOUT_SALT = "breast-cancer-1"

COLUMNS: dict[str, str] = {}
CODES: dict[str, dict[str, int]] = {}
DATES: dict[str, str] = {}

TITLE = "Malignant breast cancer"
ROW = "sample"
POSITIVE = "is malignant"

BASELINES = {"area alone": "worst_area"}


def slices(table: Any) -> dict[str, Any]:
    """Return the samples by the size and the evenness of their nuclei."""
    radius = table["mean_radius"]
    even = table["worst_texture"] < 25
    return {
        "radius under 12": radius < 12,
        "radius 12 to 15": (radius >= 12) & (radius < 15),
        "radius 15 and over": radius >= 15,
        "even": even,
        "uneven": ~even,
    }


_SAMPLE_20 = (
    *(13.54, 14.36, 87.46, 566.3, 0.09779, 0.08129, 0.06664, 0.04781, 0.1885, 0.05766),
    *(0.2699, 0.7886, 2.058, 23.56, 0.008462, 0.0146, 0.02387, 0.01315, 0.0198, 0.0023),
    *(15.11, 19.26, 99.7, 711.2, 0.144, 0.1773, 0.239, 0.1288, 0.2977, 0.07259),
)
KNOWN_CASES: dict[str, dict[str, tuple[tuple[float | None, ...], int | None]]] = {
    "samples with a diagnosis": {"sample 20 is benign": (_SAMPLE_20, 0)},
}
