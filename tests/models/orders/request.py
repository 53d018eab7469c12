"""The request: what is known of an order on the day it is placed."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

_METHOD = Meta(description="0 (standard), 1 (express) or 2 (pick-up)")
_WAREHOUSE = Meta(description="0 (north), 1 (south) or 2 (west), null when not decided")
_WEIGHT = Meta(ge=0, le=500, description="kilograms from 0 to 500, null when not weighed")


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One request. The order of the fields is the order of the model's inputs."""

    placed_on: Annotated[int, Meta(ge=0, le=10000, description="days since 2023-01-01, from 0 to 10000")]
    shipping_method: Annotated[Literal[0, 1, 2], _METHOD]
    warehouse: Annotated[Literal[0, 1, 2], _WAREHOUSE] | None
    items: Annotated[int, Meta(ge=1, le=100, description="a whole number from 1 to 100")]
    weight_kg: Annotated[float, _WEIGHT] | None
    distance_km: Annotated[float, Meta(ge=0, le=2000, description="kilometres from 0 to 2000")]


EXAMPLE: dict[str, float | None] = {
    "placed_on": 414,
    "shipping_method": 1,
    "warehouse": 1,
    "items": 3,
    "weight_kg": 3.4,
    "distance_km": 166.3,
}
