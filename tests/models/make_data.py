"""Writes the CSV files of the models in this folder: `python tests/models/make_data.py`."""

from __future__ import annotations

import csv
import datetime as dt
import io
import math
import random
from pathlib import Path

from sklearn.datasets import load_breast_cancer

HERE = Path(__file__).parent

CUSTOMERS = 260
ORDERS = 1_200
FIRST_DAY = dt.date(2023, 1, 1)


def breast_cancer() -> str:
    """Return scikit-learn's data set with a number for every sample, and 1 for malignant."""
    data = load_breast_cancer()
    header = ["sample", *(name.replace(" ", "_") for name in data.feature_names), "malignant"]
    rows: list[list[object]] = [
        [number, *map(float, values), 1 - int(target)]
        for number, (values, target) in enumerate(zip(data.data, data.target, strict=True), 1)
    ]
    return _csv(header, rows)


def orders() -> str:
    """Return invented orders of a wholesaler. Far, heavy, slow and before Christmas means late."""
    # Python promises that random() gives the same numbers in every version.
    draw = random.Random(2026).random  # noqa: S311 - no secret is made of it

    def one_of(*values: str) -> str:
        return values[int(draw() * len(values))]

    # A customer always lives at one distance, and some are hard to find at home.
    distances = [20 + 780 * draw() ** 2 for _ in range(CUSTOMERS)]
    absences = [1.2 * (draw() - 0.5) for _ in range(CUSTOMERS)]
    rows: list[list[object]] = []
    for number in range(1, ORDERS + 1):
        customer = int(draw() * CUSTOMERS)
        day = FIRST_DAY + dt.timedelta(days=int(draw() * 730))
        method = one_of("standard", "standard", "standard", "express", "pick-up")
        warehouse = one_of("north", "south", "south", "west")
        items = 1 + int(12 * draw() ** 3)
        weight = items * (0.5 + 6 * draw())

        score = -4.2 + 0.007 * distances[customer] + 0.04 * weight + absences[customer]
        score += {"standard": 1.0, "express": -1.2, "pick-up": -2.0}[method]
        score += 1.8 if day.month >= 11 else 0.0
        score += 0.8 if warehouse == "west" else 0.0
        late = draw() < 1 / (1 + math.exp(-score))

        rows.append(
            [
                f"A-{10_000 + number}",
                f"C-{customer:03}",
                day.isoformat(),
                method,
                "" if draw() < 0.05 else warehouse,
                items,
                "" if draw() < 0.12 else round(weight, 1),
                round(distances[customer], 1),
                "yes" if late else "no",
            ]
        )
    header = [
        "Order No",
        "Customer",
        "Placed On",
        "Shipping Method",
        "Warehouse",
        "Items",
        "Weight (kg)",
        "Distance (km)",
        "Arrived Late",
    ]
    return _csv(header, rows)


def _csv(header: list[str], rows: list[list[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


DATA = {"breast_cancer": breast_cancer, "orders": orders}

if __name__ == "__main__":
    for model, make in DATA.items():
        (HERE / model / f"{model}.csv").write_text(make(), encoding="utf-8")
