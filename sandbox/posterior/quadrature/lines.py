"""Tables of many lines at once: their intervals, the values sampled on these, and how to split and sum them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sandbox.posterior.quadrature.panel import (
    BINS,
    GAUSS,
    ORDER,
    Bools,
    Ints,
    Reach,
    group_log_sum,
    profile,
    step_bracket,
    tails,
)
from sandbox.tools.arrays import Array

_SHRINK = 0.6  # a panel is cut down to its part that matters if that part is shorter than this share of it


@dataclass(frozen=True)
class Intervals:
    """A table of P intervals: [lo, hi] on the lines with indices `owner`, each (P,).
    `stale` (P, 2) is the roughness of the last panel that each was split from, and of the one before."""

    owner: Ints
    lo: Array
    hi: Array
    stale: Array


@dataclass(frozen=True)
class Sample:
    """Integrals over P intervals from the nodes of their rules; `value`, `error`, `inherited`, `unseen` are logs.

    `error` (P, 2) are the rule's errors of the integral and of the masses per stratum, `inherited` (P, 2) those that
    come from inner lines. `unseen` (P,) bounds the mass that the nodes may have missed. `shares` (P, C) are the
    fractions of the mass per stratum. In units of exp(`top`), `rough` (P, 2) are the tails of the coefficients of the
    density and of the worst stratum's part of it, and `ends` (P, 1 + C, 2) the values at both ends of the polynomials
    through the nodes, of the density and of each stratum's part (on the innermost axis, of the density only).
    `bracket` (P, 2) is an interval of [-1, 1] about a jump, nan if there is none.
    """

    value: Array
    error: Array
    inherited: Array
    unseen: Array
    top: Array
    rough: Array
    ends: Array
    reach: Reach
    shares: Array
    bracket: Array


@dataclass(frozen=True)
class Lines:
    """The integrals along M lines: `value` (M,) and `error` (M, 2) as logs, `low` (M,) the least guide on each.

    `bins` (M, B1, ...) is the least guide in each part of the space that the line and all axes inside it span.
    `shares` (M, C) are the fractions of each line's mass per stratum; the second column of `error` is for these masses.
    `owner`, `lo`, `hi` (P,) are the panels of the final rule.
    """

    value: Array
    error: Array
    low: Array
    bins: Array
    shares: Array
    owner: Ints
    lo: Array
    hi: Array


@dataclass(frozen=True)
class Rule:
    """The final panels `owner`, `lo`, `hi` (P,) of M lines, and the logs of the lines' integrals, `value` (M,)."""

    value: Array
    owner: Ints
    lo: Array
    hi: Array


_Table = TypeVar("_Table", Intervals, Sample, Reach)


def take(table: _Table, chosen: Bools | Ints) -> _Table:
    """Return a table of the chosen rows of every column."""
    columns = (getattr(table, column.name) for column in fields(table))
    chosen_columns: list[Any] = [take(c, chosen) if isinstance(c, Reach) else c[chosen] for c in columns]
    return type(table)(*chosen_columns)


def join(tables: list[_Table]) -> _Table:
    """Return one table: the given ones stacked, one below the other."""
    columns = ([getattr(table, column.name) for table in tables] for column in fields(tables[0]))
    joined: list[Any] = [join(c) if isinstance(c[0], Reach) else np.concatenate(c) for c in columns]
    return type(tables[0])(*joined)


def halves(at: Intervals) -> Intervals:
    """Return both halves of every interval."""
    middle = 0.5 * (at.lo + at.hi)
    lo, hi = np.concatenate([at.lo, middle]), np.concatenate([middle, at.hi])
    return Intervals(np.tile(at.owner, 2), lo, hi, np.tile(at.stale, (2, 1)))


def children(at: Intervals, sample: Sample, cut: Array) -> Intervals:
    """Return the next intervals: each one cut down to the part that matters according to the guide, or split.

    A split is at the cut (P,) if there is one (not nan), else at both ends of a jump's bracket, else in the middle.
    """
    middle, half = 0.5 * (at.lo + at.hi), 0.5 * (at.hi - at.lo)
    uncut = np.isnan(cut)
    shrink = uncut & (sample.reach.last - sample.reach.first < 2.0 * _SHRINK)
    jumps = uncut & ~np.isnan(sample.bracket[:, 0])
    places = np.where(jumps[:, None], sample.bracket, 0.0)
    left = np.where(uncut, middle + half * places[:, 0], cut)
    right = np.where(uncut, middle + half * places[:, 1], cut)
    pieces = [
        (shrink, middle + half * sample.reach.first, middle + half * sample.reach.last),
        (~shrink, at.lo, left),
        (~shrink, left, right),
        (~shrink, right, at.hi),
    ]
    fresh = (shrink | jumps)[:, None]
    stale = np.where(fresh, np.inf, np.column_stack([sample.rough[:, 0], at.stale[:, 0]]))
    parts = [(which & (lo < hi), lo, hi) for which, lo, hi in pieces]
    return Intervals(
        np.concatenate([at.owner[which] for which, _, _ in parts]),
        np.concatenate([lo[which] for which, lo, _ in parts]),
        np.concatenate([hi[which] for which, _, hi in parts]),
        np.concatenate([stale[which] for which, _, _ in parts]),
    )


def stratum_lines(parts: Array) -> tuple[Array, Array, Array]:
    """Return the strata' shares (P, C), and the worst stratum's tails (P, 3) and bracket of a jump (P, 2).
    `parts` (P, ORDER, C) is each stratum's density at the nodes."""
    mass = np.tensordot(parts, GAUSS, axes=([1], [0]))
    tail = tails(parts)
    worst = np.argmax(tail[:, :, 0], axis=1)
    each = np.arange(len(worst))
    total = np.maximum(mass.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    return mass / total, tail[each, worst], step_bracket(parts[each, :, worst])


def profiles(guides: Array, count: int) -> Array:
    """Return the bins (M, B1, ...) of M lines from the guides (P, ORDER, ...) on their first panels."""
    inner = guides.shape[2:]
    rows = np.moveaxis(guides.reshape(len(guides), ORDER, -1), 2, 1).reshape(-1, ORDER)
    bins = profile(rows).reshape(count, len(guides) // count, -1, BINS)
    return np.moveaxis(bins, 2, 3).reshape(count, -1, *inner)


def least_of_neighbours(values: Array, axis: int) -> Array:
    """Return the least of each value and its two neighbours along the axis, in the shape of `values`."""
    padded = np.pad(values, [(int(k == axis),) * 2 for k in range(values.ndim)], constant_values=np.inf)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(padded, 3, axis=axis).min(axis=-1))


def collect(at: Intervals, sample: Sample, low: Array, bins: Array) -> Lines:
    """Return the M lines, as sums over the accepted panels of each."""
    count = len(low)
    error = np.logaddexp(sample.error, sample.inherited)
    error[:, 0] = np.logaddexp(error[:, 0], sample.unseen)
    total = group_log_sum(at.owner, sample.value, count)
    part = np.exp(sample.value - np.where(np.isfinite(total), total, 0.0)[at.owner])
    masses = [np.bincount(at.owner, part * share, count) for share in sample.shares.T]
    return Lines(
        value=total,
        error=np.column_stack([group_log_sum(at.owner, error[:, k], count) for k in range(2)]),
        low=low,
        bins=bins,
        shares=np.column_stack([np.empty((count, 0)), *masses]),
        owner=at.owner,
        lo=at.lo,
        hi=at.hi,
    )


@dataclass(frozen=True)
class Channels:
    """Strata of any numbers as channels 0..C: the index among the known ones, C for one that the coarse pass missed."""

    strata: Callable[[Array], NDArray[np.integer]]
    known: NDArray[np.integer]

    def __call__(self, points: Array) -> Ints:
        """Return the channel (N,) of each point (N, D)."""
        values = np.asarray(self.strata(points))
        place = np.minimum(np.searchsorted(self.known, values), len(self.known) - 1)
        return np.where(self.known[place] == values, place, len(self.known)).astype(np.int64)
