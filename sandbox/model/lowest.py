"""The lowest value of a loss over the prior's support, found by descent: the minimum of a loss must be 0."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from sandbox.model.descent import descend
from sandbox.model.loss import Loss
from sandbox.model.prior import Prior
from sandbox.model.strata import lattice
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError

_STARTS = 64
_POINTS = 512
_POLISHED = 4
"""The lowest ends of descents from which a search without derivatives goes on: at kinks a descent may get stuck."""
_SEARCHES = 2
"""The simplex searches in turn from a point: a second one starts with a fresh simplex where the first has shrunk."""
_RADII = 4.0 ** np.arange(6)
"""Beyond an open side the loss is also looked at this many times further out, where it may fall without bound."""
BELOW = 1e-9
"""A value this far below 0, relative to the loss's median over the prior, is no rounding error."""
ABOVE = 1e-6
"""A least value this far above 0, relative to the median, is no unfinished descent."""


@dataclass(frozen=True)
class Lowest:
    """The lowest value that was found, its point (D,), and the median height of the loss above it."""

    value: float
    point: Array
    typical: float
    is_flat: bool

    @property
    def is_zero(self) -> bool:
        """Whether the value is 0 up to rounding errors and unfinished descents."""
        return -BELOW * self.typical <= self.value <= ABOVE * self.typical

    @property
    def rounded(self) -> float:
        """The value, or the simple fraction from which it differs by no more than a descent's error."""
        simple = float(Fraction(self.value).limit_denominator(10_000))
        return simple if abs(simple - self.value) <= 1e-3 * BELOW * self.typical else self.value


@np.errstate(all="ignore")
def lowest(loss: Loss, prior: Prior, known: Array | None = None) -> Lowest:
    """Return the lowest value of a loss; `known` (M, D) are points that may be lower than all that the search finds.

    Raises InputError if the loss is finite at no point that was tried.
    """
    inside = prior.quantile(lattice(_POINTS, len(prior.names)))
    points = np.concatenate([inside, _outside(prior), *([] if known is None else [known])])
    heights = loss.excess(points)
    points, heights = points[np.isfinite(heights)], heights[np.isfinite(heights)]
    if not len(points):
        raise InputError("the loss is a finite number at none of the points that were tried inside the prior's box")
    half = min(_STARTS // 2, len(points))
    ends = descend(loss, points[np.union1d(np.argsort(heights)[:half], np.arange(half))], prior.bounds)
    every = np.concatenate([points, ends])
    reached = np.array([_at(loss, point) for point in ends])
    order = np.concatenate([heights, reached]).argsort()
    best = every[order[0]]
    typical = float(np.median(heights)) - _at(loss, best)
    for k in order[:_POLISHED]:
        if abs(_at(loss, best)) > BELOW * typical:
            best = min(best, _polished(loss, prior, every[k]), key=lambda point: _at(loss, point))
    return Lowest(_at(loss, best), best, typical, float(np.ptp(heights)) == 0.0)


def _at(loss: Loss, point: Array) -> float:
    value = float(loss.excess(point[None])[0])
    return value if np.isfinite(value) else np.inf


def _outside(prior: Prior) -> Array:
    """Return points far out on the sides where the prior has no wall, on both sides of each axis and diagonal."""
    size = len(prior.names)
    corners = np.where(lattice(_STARTS, size) < 0.5, -1.0, 1.0)
    directions = np.concatenate([np.eye(size), -np.eye(size), corners])
    moves = (_RADII[:, None, None] * directions).reshape(-1, size)
    low, high = prior.bounds.T
    return np.asarray(np.clip(prior.centre + 8 * prior.scale * moves, low, high))


def _polished(loss: Loss, prior: Prior, point: Array) -> Array:
    """Return the end of a simplex search from a point, inside the box."""
    from scipy import optimize

    low, high = prior.bounds.T

    def height(x: Any) -> float:
        return _at(loss, np.clip(x, low, high))

    options: Any = {"xatol": 1e-12, "fatol": 1e-300, "maxiter": 200 * len(point)}
    for _ in range(_SEARCHES):
        with np.errstate(all="ignore"):
            found = optimize.minimize(height, point, method="Nelder-Mead", options=options)
        point = np.asarray(np.clip(found.x, low, high), dtype=np.float64)
    return point
