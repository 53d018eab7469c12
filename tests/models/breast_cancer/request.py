"""The request: thirty measurements of the cell nuclei in one sample."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One request. The order of the fields is the order of the model's inputs."""

    mean_radius: Annotated[float, Meta(ge=0, le=50, description="micrometres, from 0 to 50")]
    mean_texture: Annotated[float, Meta(ge=0, le=100, description="a deviation of grey values, from 0 to 100")]
    mean_perimeter: Annotated[float, Meta(ge=0, le=500, description="micrometres, from 0 to 500")]
    mean_area: Annotated[float, Meta(ge=0, le=5000, description="square micrometres, from 0 to 5000")]
    mean_smoothness: Annotated[float, Meta(ge=0, le=0.5, description="a variation of the radius, from 0 to 0.5")]
    mean_compactness: Annotated[float, Meta(ge=0, le=1, description="perimeter squared by area, from 0 to 1")]
    mean_concavity: Annotated[float, Meta(ge=0, le=1, description="the depth of dents, from 0 to 1")]
    mean_concave_points: Annotated[float, Meta(ge=0, le=0.5, description="a share of dents, from 0 to 0.5")]
    mean_symmetry: Annotated[float, Meta(ge=0, le=0.5, description="a difference of halves, from 0 to 0.5")]
    mean_fractal_dimension: Annotated[float, Meta(ge=0, le=0.2, description="a roughness, from 0 to 0.2")]
    radius_error: Annotated[float, Meta(ge=0, le=5, description="micrometres, from 0 to 5")]
    texture_error: Annotated[float, Meta(ge=0, le=10, description="a deviation of grey values, from 0 to 10")]
    perimeter_error: Annotated[float, Meta(ge=0, le=50, description="micrometres, from 0 to 50")]
    area_error: Annotated[float, Meta(ge=0, le=1000, description="square micrometres, from 0 to 1000")]
    smoothness_error: Annotated[float, Meta(ge=0, le=0.05, description="a variation of the radius, from 0 to 0.05")]
    compactness_error: Annotated[float, Meta(ge=0, le=0.5, description="perimeter squared by area, from 0 to 0.5")]
    concavity_error: Annotated[float, Meta(ge=0, le=1, description="the depth of dents, from 0 to 1")]
    concave_points_error: Annotated[float, Meta(ge=0, le=0.1, description="a share of dents, from 0 to 0.1")]
    symmetry_error: Annotated[float, Meta(ge=0, le=0.2, description="a difference of halves, from 0 to 0.2")]
    fractal_dimension_error: Annotated[float, Meta(ge=0, le=0.05, description="a roughness, from 0 to 0.05")]
    worst_radius: Annotated[float, Meta(ge=0, le=100, description="micrometres, from 0 to 100")]
    worst_texture: Annotated[float, Meta(ge=0, le=100, description="a deviation of grey values, from 0 to 100")]
    worst_perimeter: Annotated[float, Meta(ge=0, le=500, description="micrometres, from 0 to 500")]
    worst_area: Annotated[float, Meta(ge=0, le=10000, description="square micrometres, from 0 to 10000")]
    worst_smoothness: Annotated[float, Meta(ge=0, le=0.5, description="a variation of the radius, from 0 to 0.5")]
    worst_compactness: Annotated[float, Meta(ge=0, le=2, description="perimeter squared by area, from 0 to 2")]
    worst_concavity: Annotated[float, Meta(ge=0, le=2, description="the depth of dents, from 0 to 2")]
    worst_concave_points: Annotated[float, Meta(ge=0, le=0.5, description="a share of dents, from 0 to 0.5")]
    worst_symmetry: Annotated[float, Meta(ge=0, le=1, description="a difference of halves, from 0 to 1")]
    worst_fractal_dimension: Annotated[float, Meta(ge=0, le=0.5, description="a roughness, from 0 to 0.5")]


# The first sample of the data, which is malignant.
EXAMPLE: dict[str, float | None] = {
    "mean_radius": 17.99,
    "mean_texture": 10.38,
    "mean_perimeter": 122.8,
    "mean_area": 1001.0,
    "mean_smoothness": 0.1184,
    "mean_compactness": 0.2776,
    "mean_concavity": 0.3001,
    "mean_concave_points": 0.1471,
    "mean_symmetry": 0.2419,
    "mean_fractal_dimension": 0.07871,
    "radius_error": 1.095,
    "texture_error": 0.9053,
    "perimeter_error": 8.589,
    "area_error": 153.4,
    "smoothness_error": 0.006399,
    "compactness_error": 0.04904,
    "concavity_error": 0.05373,
    "concave_points_error": 0.01587,
    "symmetry_error": 0.03003,
    "fractal_dimension_error": 0.006193,
    "worst_radius": 25.38,
    "worst_texture": 17.33,
    "worst_perimeter": 184.6,
    "worst_area": 2019.0,
    "worst_smoothness": 0.1622,
    "worst_compactness": 0.6656,
    "worst_concavity": 0.7119,
    "worst_concave_points": 0.2654,
    "worst_symmetry": 0.4601,
    "worst_fractal_dimension": 0.1189,
}
