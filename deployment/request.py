"""The request that an endpoint answers: its fields, their types, ranges and meaning.

Everything that speaks of a request reads this file: the check of the training data, decode.py, swagger.json, the bad
requests of the functional test and the edges of the ONNX comparison. After an edit, ``make swagger`` rewrites swagger.json.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

_PORT = Meta(description="0 (Southampton), 1 (Cherbourg) or 2 (Queenstown), null when unknown")


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One request: numbers only, null where a field allows it.

    The order of the fields is the order of the model's inputs. Each description completes the sentence "<field> is ...".
    """

    Pclass: Annotated[Literal[1, 2, 3], Meta(description="the class of the ticket: 1, 2 or 3")]
    Sex: Annotated[Literal[0, 1], Meta(description="0 (female) or 1 (male)")]
    Age: Annotated[float, Meta(ge=0, le=120, description="years from 0 to 120, null when unknown")] | None
    SibSp: Annotated[int, Meta(ge=0, le=20, description="siblings and spouses aboard, a whole number from 0 to 20")]
    Parch: Annotated[int, Meta(ge=0, le=20, description="parents and children aboard, a whole number from 0 to 20")]
    # The dearest ticket cost 512.3292. Twice that may still be pounds; a higher value is in another unit.
    Fare: Annotated[float, Meta(ge=0, le=1000, description="pounds from 0 to 1000, null when unknown")] | None
    Embarked: Annotated[Literal[0, 1, 2], _PORT] | None


# A valid request. It is shown in swagger.json and in hints, and it warms up every replica.
EXAMPLE: dict[str, float | None] = {
    "Pclass": 1,
    "Sex": 0,
    "Age": 38,
    "SibSp": 1,
    "Parch": 0,
    "Fare": 71.2833,
    "Embarked": 1,
}
