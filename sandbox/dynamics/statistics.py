"""Statistics of points that particles and posterior samples share: tubes, quantiles, histograms along the strata."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from sandbox.expressions.quantity import QUANTILES, Quantity
from sandbox.model.labelled import coordinates, labelled, texts
from sandbox.model.problem import Problem
from sandbox.model.strata import ZeroSet
from sandbox.tools.arrays import Array

TUBE_FACTORS = (0.5, 1.0, 2.0)
"""Factors of the tubes' radius with which the last frame is counted: a result should not depend on the radius."""


def tube_radii(zero_set: ZeroSet) -> list[float]:
    """Return the tubes' radius times each of TUBE_FACTORS."""
    return [factor * zero_set.tube for factor in TUBE_FACTORS]


def quantiles(derived: Sequence[Quantity], points: Array, weights: Array | None = None) -> Array:
    """Return QUANTILES of each derived quantity over points (N, D), shape (quantities, QUANTILES).

    Points at which a quantity is not defined (0 / 0) are left out of it. `weights` (N,) are the points' weights, all 1
    by default.
    """
    weights = np.ones(len(points)) if weights is None else weights
    found = np.full((len(derived), len(QUANTILES)), np.nan)
    for row, quantity in zip(found, derived, strict=True):
        values = quantity(points)
        known = ~np.isnan(values)
        if known.any():
            row[:] = np.quantile(values[known], QUANTILES, method="inverted_cdf", weights=weights[known])
    return found


def spread(derived: Sequence[Quantity], dims: tuple[str, ...], values: Array) -> xr.Dataset:
    """Return quantiles of derived quantities, `values` (*dims, quantities, QUANTILES), as a Dataset; empty if none."""
    if not derived:
        return xr.Dataset()
    words = "quantiles of the derived quantities, without diverged particles"
    return xr.Dataset(
        {"derived_quantile": labelled((*dims, "derived", "quantile"), values, words)},
        coords=coordinates(derived=texts(quantity.name for quantity in derived), quantile=QUANTILES),
    )


def along_edges(problem: Problem, bins: int) -> Array:
    """Return the edges of equal bins along the strata that have a position along them, (along_strata, bins + 1)."""
    edges = [np.linspace(*_extent(problem, k), bins + 1) for k in problem.zero_set.along_strata]
    return np.array(edges).reshape(len(edges), bins + 1)


def _extent(problem: Problem, k: int) -> tuple[float, float]:
    """Return the lowest and the highest position along stratum k inside the prior's window."""
    points = problem.zero_set.sample(problem.prior, k, 4096)
    axis = problem.zero_set.along_axis(k)
    bounds = problem.prior.bounds
    if axis is not None and np.isfinite(bounds[axis]).all():
        low, high = bounds[axis]
    else:
        low, high = np.quantile(problem.zero_set.along(points, k), [0.0, 1.0])
    return float(low), float(high)
