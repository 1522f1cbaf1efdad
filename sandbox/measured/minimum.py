"""The minimiser of L_n inside the prior's box (for a model: the maximum-likelihood estimate), regular or not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sandbox.descent import descend, held
from sandbox.errors import InputError
from sandbox.loss import Loss
from sandbox.measured.labelled import Array
from sandbox.prior import Prior

_STARTS = 64

_WINDOW_EDGE = 1e-9
"""Distance from a wall, relative to the box, at which a point counts as on it."""


@dataclass(frozen=True)
class Minimum:
    """A minimiser of K_n, shape (D,), with K_n and the gradient's norm there, and whether a wall holds it."""

    point: Array
    excess: float
    slope: float
    at_wall: bool


def minimise(loss: Loss, prior: Prior, start: Array | None = None) -> Minimum:
    """Return the lowest minimum of K_n met from draws of the prior, or the one met from `start`, shape (D,).

    Raises InputError where K_n is nowhere finite.
    """
    points = prior.draw(_STARTS, 0, "minimiser") if start is None else np.array(start, dtype=np.float64)[None, :]
    points = points[np.isfinite(loss.excess(points))]
    if not len(points):
        raise InputError("K_n is not finite anywhere the search for its minimum could start")
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
