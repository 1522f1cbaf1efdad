"""Descent to the minima of a loss inside a box, regular or not, for many points at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sandbox.model.loss import Loss
from sandbox.tools.arrays import Array

_STEPS = 300
_STILL = 1e-16
"""A step shorter than this, relative to 1 + |w|, is the last."""


def descend(loss: Loss, points: Array, bounds: Array) -> Array:
    """Return the ends (N, D) of descents from points (N, D), at which the loss is finite, inside the bounds (D, 2).

    The steps are damped Newton steps with |Hessian| (its eigenvalues made positive, so that saddles repel: Dauphin et
    al. 2014, 1406.2572) and Marquardt's damping, clipped to the box. At a minimum of order 2k each step multiplies the
    distance by 1 - 1/(2k - 1), so 300 of them reach 1e-10 up to order 14.
    """
    low, high = bounds.T
    points, excess = points.copy(), loss.excess(points)
    damping = np.ones(len(points))
    active = np.arange(len(points))
    with np.errstate(all="ignore"):
        for _ in range(_STEPS):
            here = points[active]
            trial = np.clip(here - _move(loss, here, damping[active], low, high), low, high)
            risen = loss.excess(trial)
            better = risen <= excess[active]
            moved = active[better]
            points[moved], excess[moved] = trial[better], risen[better]
            damping[active] = np.where(better, damping[active] / 4, np.minimum(4 * damping[active] + 1e-12, 1e12))
            active = active[(np.abs(trial - here) > _STILL * (1 + np.abs(here))).any(axis=1)]
            if not len(active):
                break
    return points


def held(points: Array, slopes: Array, low: Array, high: Array) -> npt.NDArray[np.bool_]:
    """Return whether each coordinate (N, D) is at a wall and the descent would cross the wall: shape (N, D)."""
    return ((points <= low) & (slopes > 0)) | ((points >= high) & (slopes < 0))


def _move(loss: Loss, points: Array, damping: Array, low: Array, high: Array) -> Array:
    """Return (|H| + damping)^-1 g on the coordinates that no wall holds, 0 on the others, shape (N, D)."""
    slopes, hessians = loss.gradient(points), loss.hessian(points)
    pressed = held(points, slopes, low, high)
    slopes[pressed] = 0.0
    hessians[pressed[:, :, None] | pressed[:, None, :]] = 0.0
    finite = np.isfinite(hessians).all(axis=(1, 2)) & np.isfinite(slopes).all(axis=1)
    hessians[~finite], slopes[~finite] = 0.0, 0.0
    values, vectors = np.linalg.eigh(hessians)
    along = np.einsum("nji,nj->ni", vectors, slopes)
    scaled = np.where(along == 0, 0.0, along / (np.abs(values) + damping[:, None]))
    moves: Array = np.einsum("nij,nj->ni", vectors, scaled)
    return moves
