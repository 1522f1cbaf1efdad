"""The gradient flow of a loss inside a box, followed to its end: the solution below each of many points."""

from __future__ import annotations

from functools import partial

import numpy as np

from sandbox.model.descent import held
from sandbox.model.loss import Loss
from sandbox.model.prior import Prior
from sandbox.tools.arrays import Array
from sandbox.tools.parallel import end_if_stopped, in_threads

TOLERANCE = 1e-3
"""The largest error of a step, in the prior's scales."""
_STILL, _STILL_STEPS = 1e-4, 3
"""A flow has ended if it moves less than this, in the prior's scales, in each of so many steps in turn. Steps without
motion grow a thousandfold, so a valley whose floor falls 10^6 times more slowly than its sides is still followed."""
_STEPS = 500
_TOGETHER = 2048
"""The number of points that one thread moves together."""


def solutions(loss: Loss, prior: Prior, points: Array) -> Array:
    """Return the ends (N, D) of the gradient flow dw/dt = -grad K that starts at points (N, D), inside the prior's box.

    A coordinate at a wall stays there while the flow presses against the wall. A point at which the loss is not finite
    stays. Steps are exponential Rosenbrock steps of third order with an error of second order (exprb32: Hochbruck,
    Ostermann and Schweitzer 2009, "Exponential Rosenbrock-type methods"). They are exact for a quadratic loss and may
    be long in a steep valley.
    """
    if not len(points):
        return points.copy()
    # A loss derives its expressions at its first evaluation, by SymPy, which is not made for threads.
    loss.gradient(points[:1]), loss.hessian(points[:1])
    parts = [points[k : k + _TOGETHER] for k in range(0, len(points), _TOGETHER)]
    return np.concatenate(in_threads([partial(_ends, loss, prior, part) for part in parts]))


def _ends(loss: Loss, prior: Prior, points: Array) -> Array:
    """Return the ends (N, D) of the flow that starts at points (N, D)."""
    points, scale = points.copy(), prior.scale
    active = np.flatnonzero(np.isfinite(points).all(axis=1))
    still, step = np.zeros(len(points), np.int64), np.full(len(points), np.nan)
    with np.errstate(all="ignore"):
        for _ in range(_STEPS):
            end_if_stopped()
            here = points[active]
            trial, error, first = _step(loss, prior, here, step[active])
            step[active] = first
            good = error <= TOLERANCE
            moved = active[good]
            points[moved] = trial[good]
            quiet = good & (np.abs((trial - here) / scale).max(axis=1) < _STILL)
            still[active] = np.where(quiet, still[active] + 1, 0)
            ended = (still[active] >= _STILL_STEPS) | np.isnan(error)
            # The error grows like the third power of the step.
            growth = 0.8 * np.cbrt(TOLERANCE / np.maximum(error, 1e-300))
            step[active] *= np.clip(growth, 0.1, np.where(quiet, 1000.0, 5.0))
            active = active[~ended]
            if not len(active):
                break
    return points


def _step(loss: Loss, prior: Prior, points: Array, step: Array) -> tuple[Array, Array, Array]:
    """Return the points (N, D) after a step (N,) of the flow, its error in the prior's scales (N,), and the step.

    A step that is nan is chosen. The error is nan where the loss is not finite. A step beyond a wall counts as an
    error, so that the flow turns at the wall.
    """
    low, high = prior.bounds.T
    slopes, hessians = loss.gradient(points), loss.hessian(points)
    pressed = held(points, slopes, low, high)
    slopes[pressed] = 0.0
    hessians[pressed[:, :, None] | pressed[:, None, :]] = 0.0
    lost = ~(np.isfinite(hessians).all(axis=(1, 2)) & np.isfinite(slopes).all(axis=1))
    hessians[lost], slopes[lost] = 0.0, 0.0
    curvature, axes = np.linalg.eigh(hessians)
    step = np.where(np.isnan(step), 0.1 / np.maximum(np.abs(curvature).max(axis=1), 1e-12), step)
    # Beyond e^30 a step away from a saddle is refused by its error in any case.
    z = np.minimum(-step[:, None] * curvature, 30.0)
    one, three = _phi(z)
    along = np.einsum("nji,nj->ni", axes, slopes)
    first = points - np.einsum("nij,nj->ni", axes, step[:, None] * one * along)
    then = loss.gradient(np.clip(first, low, high))
    then[pressed] = 0.0
    bend = (
        np.einsum("nji,nj->ni", axes, then) - along + z / step[:, None] * np.einsum("nji,nj->ni", axes, first - points)
    )
    correction = np.einsum("nij,nj->ni", axes, 2 * step[:, None] * three * bend)
    free = first - correction
    end = np.clip(free, low, high)
    error = np.abs(np.stack([correction, free - end]) / prior.scale).max(axis=(0, 2))
    # A nan here comes from a loss that is not finite further on: the step is too long.
    error = np.where(np.isfinite(error), error, np.inf)
    return end, np.where(lost, np.nan, error), step


def _phi(z: Array) -> tuple[Array, Array]:
    """Return phi_1 = (e^z - 1) / z and phi_3 = (e^z - 1 - z - z^2 / 2) / z^3, any shape."""
    small = np.abs(z) < 0.1
    safe = np.where(small, 1.0, z)
    one = np.where(small, 1 + z / 2 * (1 + z / 3 * (1 + z / 4 * (1 + z / 5))), np.expm1(safe) / safe)
    three = np.where(
        small,
        (1 + z / 4 * (1 + z / 5 * (1 + z / 6 * (1 + z / 7)))) / 6,
        (np.expm1(safe) - safe - safe**2 / 2) / safe**3,
    )
    return one, three
