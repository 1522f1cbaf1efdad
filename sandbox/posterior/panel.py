"""One interval of a line: a Gauss-Legendre rule, how rough the values on it are, and where they can still matter.

An adaptive rule that looks only at the density misses a tube of width n^(-1/2) between two of its nodes. So two
functions are sampled on every interval (a *panel*): the density, which is integrated, and a *guide*, the energy that
the density is made of. The guide has no narrow features, whatever n is; its interpolating polynomial says where in
the panel the density can be, before any node has seen it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ORDER = 10
"""Nodes of the rule; it is exact for polynomials of degree 2 ORDER - 1."""
NODES: Floats
GAUSS: Floats
NODES, GAUSS = legendre.leggauss(ORDER)

PLACES: Floats = np.concatenate([[-1.0 + 1e-9], NODES, [1.0 - 1e-9]])
"""The nodes and the ends, moved inside by a hair: a label may change between the last node and the end."""

_FINE = np.linspace(-1.0, 1.0, 33)
_COEFFICIENTS = (legendre.legvander(NODES, ORDER - 1) * GAUSS[:, None]) * (np.arange(ORDER) + 0.5)
_TAIL = np.ascontiguousarray(_COEFFICIENTS[:, -6:])
_INTERPOLATE = np.ascontiguousarray(_COEFFICIENTS @ legendre.legvander(_FINE, ORDER - 1).T)
_ENDS = np.ascontiguousarray(_INTERPOLATE[:, [0, -1]])

BINS = 4
"""Pieces of a panel for which `profile` tells the least guide apart."""
_GUIDE_SAFETY = 4.0
_ERROR_SAFETY = 30.0
_LEVEL_HALF_WIDTH = 2e-3  # several times what linear interpolation on the fine grid can miss


@dataclass(frozen=True)
class Reach:
    """What the guide says about P panels: `low` is its smallest value, `bound` lies below all of it.

    `alive` (P,) is False where the guide is above the ceiling on the whole panel; elsewhere it can be below the
    ceiling only between `first` and `last` (P,), places on the panel mapped to [-1, 1].
    """

    low: Floats
    bound: Floats
    alive: Bools
    first: Floats
    last: Floats


def nodes_in(lo: Floats, hi: Floats, places: Floats = NODES) -> Floats:
    """Return the nodes (P, ORDER) of the rule, or other places of [-1, 1], on the panels [lo, hi], each (P,)."""
    return np.asarray((0.5 * (lo + hi))[:, None] + (0.5 * (hi - lo))[:, None] * places)


def safe_log(values: Floats) -> Floats:
    """Return the logarithm, -inf at 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(values))


def log_rule(logs: Floats) -> Floats:
    """Return log of the rule on [-1, 1] for the values exp(logs), (P, ORDER, ...) -> (P, ...)."""
    top = logs.max(axis=1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    return np.asarray(top[:, 0] + safe_log(np.tensordot(np.exp(logs - top), GAUSS, axes=([1], [0]))))


def tails(scaled: Floats) -> Floats:
    """Return how the highest Legendre coefficients of values (P, ORDER, ...) fall off: (P, ..., 3).

    They are the sums of the moduli of the last two, the two before these, and the two before those; in pairs, because
    even and odd functions have only every second one.
    """
    each = np.abs(np.tensordot(scaled, _TAIL, axes=([1], [0])))
    return np.asarray((each[..., 0::2] + each[..., 1::2])[..., ::-1])


def log_rule_error(log_scale: Floats, tail: Floats) -> Floats:
    """Return log of the estimated error of the rule on [-1, 1] for exp(log_scale) times values with these `tails`.

    The Gauss rule errs by the coefficients from the degree 2 ORDER on. Their size is extrapolated from the last pair
    by its ratio to earlier ones (the slower of two), over four of the ORDER degrees only: where a kink makes the
    coefficients fall algebraically, a geometric series would promise too much.
    """
    tail = np.maximum(tail, np.finfo(float).tiny)
    ratio = np.minimum(1.0, np.maximum(tail[..., 0] / tail[..., 1], tail[..., 1] / tail[..., 2]))
    return np.asarray(log_scale + np.log(2.0) + np.minimum(0.0, np.log(_ERROR_SAFETY * tail[..., 0] * ratio**2)))


def at_ends(scaled: Floats) -> Floats:
    """Return the polynomials through the values (P, ORDER, ...) at the left and right ends, (P, ..., 2)."""
    return np.asarray(np.tensordot(scaled, _ENDS, axes=([1], [0])))


def reach(guide: Floats, ceiling: float) -> Reach:
    """Bound the guide, sampled at the nodes (P, ORDER), from below, and find where it may be at most `ceiling`.

    Between the points of a fine grid a function dips by at most an eighth of its second difference; twice that is
    allowed, and several times what the interpolation itself may miss.
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


def profile(guide: Floats) -> Floats:
    """Return the least guide in each of BINS equal parts of the panels, (P, ORDER) -> (P, BINS).

    The least point of a fine grid is improved by a parabola through its neighbours, so that the profiles of
    neighbouring lines differ smoothly; what the interpolation may miss is taken off.
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


def _walled(guide: Floats) -> tuple[Floats, Bools]:
    """Return the guide (P, ORDER) with infinite values lifted above the finite ones, and which panels have any finite.

    An infinite value is a wall; lifted, it makes the panel rough, so that little is concluded from it.
    """
    finite = np.isfinite(guide)
    if finite.all():
        return guide, np.ones(len(guide), dtype=bool)
    some = np.asarray(finite.any(axis=1))
    bottom = np.where(some, np.min(np.where(finite, guide, np.inf), axis=1), 0.0)
    top = np.where(some, np.max(np.where(finite, guide, -np.inf), axis=1), 0.0)
    return np.where(finite, guide, (2.0 * top - bottom + 1.0)[:, None]), some


def label_bracket(marks: Ints) -> Floats:
    """Return the PLACES (P, 2) before and after the first change of the marks (P, PLACES), nan where there is none."""
    change = marks[:, 1:] != marks[:, :-1]
    at = np.argmax(change, axis=1)
    bracket = np.column_stack([PLACES[at], PLACES[at + 1]])
    return np.where(change.any(axis=1)[:, None], bracket, np.nan)


def level_bracket(guide: Floats, level: float) -> Floats:
    """Return a narrow interval (P, 2) of [-1, 1] about the first place where the guide crosses the level, else nan.

    guide: (P, ORDER). The place is where the polynomial through the nodes crosses; if it does not where the nodes
    say, because the guide is not smooth, it is the interval between the nodes.
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


def step_bracket(values: Floats) -> Floats:
    """Return the nodes (P, 2) about the step that makes over half of the variation of values (P, ORDER), or nan."""
    steps = np.abs(np.diff(values, axis=1))
    largest = np.argmax(steps, axis=1)
    bracket = np.column_stack([NODES[largest], NODES[largest + 1]])
    return np.where((steps.max(axis=1) > 0.5 * steps.sum(axis=1))[:, None], bracket, np.nan)


def group_sum(group: Ints, values: Floats, count: int) -> Floats:
    """Return the sum of the values (P,) in each of `count` groups."""
    return np.bincount(group, values, count).astype(np.float64, copy=False)


def group_log_sum(group: Ints, logs: Floats, count: int) -> Floats:
    """Return log of the sum of exp(logs) (P,) in each of `count` groups; an empty group gives -inf."""
    top = np.full(count, -np.inf)
    np.maximum.at(top, group, logs)
    shift = np.where(np.isfinite(top), top, 0.0)
    return np.asarray(shift + safe_log(group_sum(group, np.exp(logs - shift[group]), count)))
