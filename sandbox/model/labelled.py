"""Variables of a record, each with its name in words and its units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr


def labelled(dims: str | Sequence[str], values: Any, long_name: str, units: str = "1") -> xr.Variable:
    """Return the values as a variable over `dims`, with its long name and units as attributes."""
    return xr.Variable(dims, values, {"long_name": long_name, "units": units})


def scalar(value: Any, long_name: str, units: str = "1") -> xr.Variable:
    """Return one number or text as a variable without dimensions, with its long name and units as attributes."""
    # A store has no lasting format for NumPy's own texts.
    return labelled((), np.array(value, dtype=object if isinstance(value, str) else None), long_name, units)


def texts(values: Iterable[str]) -> npt.NDArray[np.object_]:
    """Return texts as an array of objects (N,): a store keeps such an array even if it is empty."""
    return np.array(list(values), dtype=object)


def coordinates(**values: Any) -> dict[str, xr.Variable]:
    """Return each array (N,) as the coordinate of the dimension of its name; texts come as `texts`."""
    return {name: labelled(name, np.asarray(value), *_COORDINATES[name]) for name, value in values.items()}


_COORDINATES = {
    "along_stratum": ("stratum with a position along it",),
    "bound": ("estimate, or end of its interval",),
    "cause": ("cause of a warning",),
    "chain": ("part of the posterior's points; all points are independent",),
    "departure": ("stratum that a passage leaves, or the start of the run",),
    "derived": ("derived quantity",),
    "destination": ("stratum that ends a passage, or any other stratum",),
    "draw": ("number of a point in its chain",),
    "field": ("identity from which the temperature is computed",),
    "level": ("level of a quantile",),
    "map_x": ("first parameter, along the map",),
    "map_y": ("second parameter, along the map",),
    "n": ("number of samples", "sample"),
    "nbeta_factor": ("multiple of nbeta at which solutions are scored",),
    "notion": ("sense in which a distance grows",),
    "origin": ("stratum that a particle leaves",),
    "parameter": ("parameter of the model",),
    "point": ("number of a point",),
    "population": ("population of particles",),
    "quantile": ("level of a quantile",),
    "quantity": ("measured quantity",),
    "radius": ("standard deviation of the scores' kernel, in prior scales",),
    "reference": ("law that the particles are compared with",),
    "rung": ("population between the posterior and SGD",),
    "score": ("local free energy, or local learning coefficient",),
    "source": ("population of particles, or the posterior",),
    "statistic": ("statistic over the points of a stratum",),
    "step": ("steps taken", "step"),
    "stratum": ("first stratum whose tube holds the point; elsewhere: none; diverged: beyond all bounds",),
    "time": ("steps taken", "step"),
    "tube_factor": ("radius of the tubes, relative to the stated one",),
}
"""The names in words, and the units if they are not 1, of the dimensions that have a coordinate."""
