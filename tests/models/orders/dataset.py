"""The facts about the orders of a wholesaler, which tests/models/make_data.py invents."""

from __future__ import annotations

from typing import Any

FILE = "orders.csv"
SHA256 = "9801ceb6312c8e03b2d4c9e15b50c5cc60ab252cfc13f48d99c74f178ae9d2b5"
ROWS = 1_200

LABEL = "Arrived Late"
GROUP = "Customer"
KEY = "Order No"

HOLDOUT_SHARE = 0.2
HOLDOUT_SALT = "orders-1"

COLUMNS = {
    "placed_on": "Placed On",
    "shipping_method": "Shipping Method",
    "warehouse": "Warehouse",
    "items": "Items",
    "weight_kg": "Weight (kg)",
    "distance_km": "Distance (km)",
}
CODES = {
    "shipping_method": {"standard": 0, "express": 1, "pick-up": 2},
    "warehouse": {"north": 0, "south": 1, "west": 2},
    "Arrived Late": {"no": 0, "yes": 1},
}
DATES = {"placed_on": "2023-01-01"}

TITLE = "Late orders"
ROW = "order"
POSITIVE = "arrives late"

BASELINES = {"distance alone": "distance_km", "method alone": "shipping_method"}


def slices(table: Any) -> dict[str, Any]:
    """Return the orders by what a dispatcher asks about."""
    day_of_year = table["placed_on"] % 365
    return {
        "standard": table["shipping_method"] == 0,
        "express": table["shipping_method"] == 1,
        "pick-up": table["shipping_method"] == 2,
        "before Christmas": day_of_year >= 304,
        "weight unknown": table["weight_kg"].isna(),
        "warehouse unknown": table["warehouse"].isna(),
        "400 km and more": table["distance_km"] >= 400,
    }


KNOWN_CASES: dict[str, dict[str, tuple[tuple[float | None, ...], int | None]]] = {
    "orders that a dispatcher knows": {
        "far away, before Christmas": ((700, 0, 2, 10, 60, 780), 1),
        "picked up next door": ((500, 2, 1, 1, 2, 25), 0),
        "nothing known but the distance": ((365, 0, None, 2, None, 300), None),
    },
}
