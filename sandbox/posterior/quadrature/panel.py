"""One interval of a line: its Gauss-Legendre rule, the roughness of the values on it, and the part that can matter.

An adaptive rule that uses only the density misses a tube of width n^(-1/2) between two of its nodes. So two functions
are sampled on every interval (a *panel*): the density, which is integrated, and a *guide*, the energy from which the
density is computed. The guide has no narrow features, for any n. Its interpolating polynomial bounds the part of
the panel in which the density can be large, even before a node is in that part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from sandbox.tools.arrays import Array

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ORDER = 10
"""Nodes of the rule; it is exact for polynomials of degree 2 ORDER - 1."""
NODES: Array
GAUSS: Array
NODES, GAUSS = legendre.leggauss(ORDER)

PLACES: Array = np.concatenate([[-1.0 + 1e-9], NODES, [1.0 - 1e-9]])
"""The nodes and the ends, moved inside by 1e-9: a stratum may change between the last node and the end."""

_FINE = np.linspace(-1.0, 1.0, 33)
_COEFFICIENTS = (legendre.legvander(NODES, ORDER - 1) * GAUSS[:, None]) * (np.arange(ORDER) + 0.5)
_TAIL = np.ascontiguousarray(_COEFFICIENTS[:, -6:])
_INTERPOLATE = np.ascontiguousarray(_COEFFICIENTS @ legendre.legvander(_FINE, ORDER - 1).T)
_ENDS = np.ascontiguousarray(_INTERPOLATE[:, [0, -1]])

BINS = 4
"""The number of parts of a panel; `profile` returns the least guide in each."""
_GUIDE_SAFETY = 4.0
_ERROR_SAFETY = 30.0
_LEVEL_HALF_WIDTH = 2e-3  # several times the error of linear interpolation on the fine grid


@dataclass(frozen=True)
class Reach:
    """The range of the guide on P panels: `low` (P,) is its smallest value, `bound` (P,) a lower bound.

    `alive` (P,) is False if the guide is above the ceiling on the whole panel; else it can be below the ceiling only
    between `first` and `last` (P,), coordinates of the panel mapped to [-1, 1].
    """

    low: Array
    bound: Array
    alive: Bools
    first: Array
    last: Array


def nodes_in(lo: Array, hi: Array, places: Array = NODES) -> Array:
    """Return the nodes (P, ORDER) of the rule, or other `places` of [-1, 1], on the panels [lo, hi], each (P,)."""
    return np.asarray((0.5 * (lo + hi))[:, None] + (0.5 * (hi - lo))[:, None] * places)


def safe_log(values: Array) -> Array:
    """Return the logarithm of each value, -inf at 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(values))


def log_rule(logs: Array) -> Array:
    """Return the log of the rule on [-1, 1] for the values exp(logs), (P, ORDER, ...) -> (P, ...)."""
    top = logs.max(axis=1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    return np.asarray(top[:, 0] + safe_log(np.tensordot(np.exp(logs - top), GAUSS, axes=([1], [0]))))


def tails(scaled: Array) -> Array:
    """Return the sizes of the highest Legendre coefficients of values (P, ORDER, ...), in three pairs: (P, ..., 3).

    They are the sums of the moduli of the last two, the two before these, and the two before those. Pairs are needed
    because every second coefficient of an even or odd function is 0.
    """
    each = np.abs(np.tensordot(scaled, _TAIL, axes=([1], [0])))
    return np.asarray((each[..., 0::2] + each[..., 1::2])[..., ::-1])


def log_rule_error(log_scale: Array, tail: Array) -> Array:
    """Return the log of the estimated error of the rule on [-1, 1], for exp(log_scale) times values with these tails.

    The error of the Gauss rule is due to the coefficients from degree 2 ORDER on. Their size is extrapolated from the
    last pair by its ratio to earlier ones (the slower of two), over four of the ORDER degrees only: if a kink makes the
    coefficients fall algebraically, a geometric series would be too optimistic.
    """
    tail = np.maximum(tail, np.finfo(float).tiny)
    ratio = np.minimum(1.0, np.maximum(tail[..., 0] / tail[..., 1], tail[..., 1] / tail[..., 2]))
    return np.asarray(log_scale + np.log(2.0) + np.minimum(0.0, np.log(_ERROR_SAFETY * tail[..., 0] * ratio**2)))


def at_ends(scaled: Array) -> Array:
    """Return the values (P, ..., 2) at the left and right ends of the polynomials through values (P, ORDER, ...)."""
    return np.asarray(np.tensordot(scaled, _ENDS, axes=([1], [0])))


def reach(guide: Array, ceiling: float) -> Reach:
    """Return the range of a guide, given at the nodes (P, ORDER), and the part in which it may be at most `ceiling`.

    Between the points of a fine grid a function dips by at most an eighth of its second difference. The bound allows
    for twice that, and for several times the error of the interpolation itself.
    """
    guide, some = _walled(guide)
    fine = _INTERPOLATE.T @ guide.T
    bend = np.abs(np.diff(fine, n=2, axis=0))
    bend = np.concatenate([bend[:1], bend, bend[-1:]])
    slack = 0.25 * np.maximum(bend[:-1], bend[1:]) + _GUIDE_SAFETY * tails(guide)[:, 0]
    below = np.minimum(fine[:-1], fine[1:]) - slack
    may = below <= ceiling
    first = _FINE[np.argmax(may, axis=0)]
    last = _FINE[len(may) - np.argmax(may[::-1], axis=0)]
    low = np.where(some, np.minimum(fine.min(axis=0), guide.min(axis=1)), np.inf)
    bound = np.where(some, below.min(axis=0), np.inf)
    return Reach(low, bound, may.any(axis=0) & some, first, last)


def profile(guide: Array) -> Array:
    """Return the least guide in each of BINS equal parts of the panels, (P, ORDER) -> (P, BINS).

    The least point of a fine grid is improved by a parabola through its neighbours, so that the profiles of
    neighbouring lines differ smoothly; a bound of the interpolation error is subtracted.
    """
    guide, some = _walled(guide)
    fine = _INTERPOLATE.T @ guide.T
    middle = np.concatenate([fine[1:2], fine[1:-1], fine[-2:-1]])
    left = np.concatenate([fine[:1], fine[:-2], fine[-3:-2]])
    right = np.concatenate([fine[2:3], fine[2:], fine[-1:]])
    bend = left - 2.0 * middle + right
    step = np.clip(0.5 * (left - right) / np.where(bend > 0, bend, np.inf), -0.5, 0.5)
    least = np.minimum(fine, middle + 0.5 * step * (right - left) + 0.5 * step**2 * bend)
    size = (len(_FINE) - 1) // BINS
    parts = [least[b * size : (b + 1) * size + 1].min(axis=0) for b in range(BINS)]
    return np.where(some[:, None], np.column_stack(parts) - _GUIDE_SAFETY * tails(guide)[:, :1], np.inf)


def _walled(guide: Array) -> tuple[Array, Bools]:
    """Return the guide (P, ORDER), infinite values replaced by large finite ones, and whether a panel has finite ones.

    An infinite value is a wall. Its replacement makes the panel rough, so that little is concluded from it.
    """
    finite = np.isfinite(guide)
    if finite.all():
        return guide, np.ones(len(guide), dtype=bool)
    some = np.asarray(finite.any(axis=1))
    bottom = np.where(some, np.min(np.where(finite, guide, np.inf), axis=1), 0.0)
    top = np.where(some, np.max(np.where(finite, guide, -np.inf), axis=1), 0.0)
    return np.where(finite, guide, (2.0 * top - bottom + 1.0)[:, None]), some


def stratum_bracket(marks: Ints) -> Array:
    """Return the PLACES (P, 2) before and after the first change of the strata `marks` (P, PLACES), nan if none."""
    change = marks[:, 1:] != marks[:, :-1]
    at = np.argmax(change, axis=1)
    bracket = np.column_stack([PLACES[at], PLACES[at + 1]])
    return np.where(change.any(axis=1)[:, None], bracket, np.nan)


def level_bracket(guide: Array, level: float) -> Array:
    """Return a narrow interval (P, 2) of [-1, 1] about the first crossing of the level by the guide, nan if none.

    guide: (P, ORDER). The crossing is that of the polynomial through the nodes. If it is not between the two nodes with
    values on either side of the level, because the guide is not smooth, the interval between these nodes is returned.
    """
    inside = guide <= level
    change = inside[:, 1:] != inside[:, :-1]
    node = np.argmax(change, axis=1)
    coarse = np.where(change.any(axis=1)[:, None], np.column_stack([NODES[node], NODES[node + 1]]), np.nan)
    fine = _INTERPOLATE.T @ _walled(guide)[0].T - level
    cross = (fine[1:] <= 0.0) != (fine[:-1] <= 0.0)
    at, each = np.argmax(cross, axis=0), np.arange(len(guide))
    before, after = fine[at, each], fine[at + 1, each]
    part = before / np.where(before == after, 1.0, before - after)
    place = _FINE[at] + (_FINE[1] - _FINE[0]) * np.clip(part, 0.0, 1.0)
    narrow = np.clip(np.column_stack([place - _LEVEL_HALF_WIDTH, place + _LEVEL_HALF_WIDTH]), -1.0, 1.0)
    elsewhere = (narrow[:, 1] < coarse[:, 0]) | (narrow[:, 0] > coarse[:, 1])
    return np.where((cross.any(axis=0) & ~elsewhere)[:, None], narrow, coarse)


def step_bracket(values: Array) -> Array:
    """Return the nodes (P, 2) about a step that makes over half of the variation of values (P, ORDER), else nan."""
    steps = np.abs(np.diff(values, axis=1))
    largest = np.argmax(steps, axis=1)
    bracket = np.column_stack([NODES[largest], NODES[largest + 1]])
    return np.where((steps.max(axis=1) > 0.5 * steps.sum(axis=1))[:, None], bracket, np.nan)


def group_sum(group: Ints, values: Array, count: int) -> Array:
    """Return the sum of the values (P,) in each of `count` groups, shape (count,)."""
    return np.bincount(group, values, count).astype(np.float64, copy=False)


def group_log_sum(group: Ints, logs: Array, count: int) -> Array:
    """Return the log of the sum of exp(logs) (P,) in each of `count` groups, (count,); -inf for an empty group."""
    top = np.full(count, -np.inf)
    np.maximum.at(top, group, logs)
    shift = np.where(np.isfinite(top), top, 0.0)
    return np.asarray(shift + safe_log(group_sum(group, np.exp(logs - shift[group]), count)))
