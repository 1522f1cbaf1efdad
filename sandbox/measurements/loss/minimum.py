"""The minimiser of L_n inside the prior's box (for a model: the maximum-likelihood estimate), regular or not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sandbox.model.descent import descend, held
from sandbox.model.loss import Loss
from sandbox.model.prior import Prior
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError

_STARTS = 64

_WINDOW_EDGE = 1e-9
"""Distance from a wall, relative to the box, at which a point counts as on it."""


@dataclass(frozen=True)
class Minimum:
    """A minimiser of K_n, shape (D,), with K_n and the gradient's norm there; `at_wall`: whether it is on a wall."""

    point: Array
    excess: float
    slope: float
    at_wall: bool


def minimise(loss: Loss, prior: Prior, start: Array | None = None) -> Minimum:
    """Return the lowest minimum of K_n that descents from prior draws reach, or the one reached from `start` (D,).

    Raises InputError if K_n is finite at none of these starting points.
    """
    points = prior.draw(_STARTS, 0, "minimiser") if start is None else np.array(start, dtype=np.float64)[None, :]
    points = points[np.isfinite(loss.excess(points))]
    if not len(points):
        raise InputError("K_n is not finite at any point from which the search for its minimum starts")
    low, high = prior.bounds.T
    points = descend(loss, points, prior.bounds)
    excess = loss.excess(points)
    best = int(np.argmin(excess))
    point = points[best]
    edge = _WINDOW_EDGE * np.diff(prior.window(), axis=1)[:, 0]
    slope = loss.gradient(point[None])[0]
    slope[held(point[None], slope[None], low, high)[0]] = 0.0
    at_wall = bool(((point <= low + edge) | (point >= high - edge)).any())
    return Minimum(point, float(excess[best]), float(np.linalg.norm(slope)), at_wall)
