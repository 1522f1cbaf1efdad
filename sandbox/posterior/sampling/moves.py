"""Metropolis moves on all scales at once, for sets that are thin tubes and branches of crossings.

A singular posterior, like a level set of the prior, is thin across W0 and wide along it, and near a crossing it looks
alike on all scales. So every kind of move draws its size log-uniformly within bins that span many decades, and the
probabilities of bins and kinds depend on their success at the stage before. The kinds here need points only:
- one coordinate at a time, reflected at the walls;
- some coordinates times factors (with the Jacobian), which change scale near a crossing;
- multiples of differences of two others (ter Braak 2006), which follow straight branches of any direction;
- ratios of two others, signs included: differences in logarithms, which follow the curves |w1|^a = c |w2|^b, rescaling
  orbits among them, and lead from one mirror image to another.
The others are points at which particles started; they do not move. Differences and ratios that leave the support are
rejected: reflecting them at the walls would not be symmetric, as their coordinates depend on one another.
The moves that measure volumes share no code with these: that two paths agree is evidence for both.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sandbox.tools.arrays import Array

Ints = NDArray[np.int64]

FACTOR = 4.0
"""Width of a bin as a ratio of sizes: those of bin k are between LARGEST FACTOR^-k and LARGEST FACTOR^-(k + 1)."""

LARGEST = 2.0

_BOUNCES = 8  # most reflections at walls within one step; a step with more is rejected, from either end
_FLIPS = 0.5  # share of the relative moves that also change signs
_ALIKE = 0.5  # share of the factor moves that use the same factor for all chosen coordinates
_STEEPEST = 300.0  # largest logarithm of a factor: beyond it a coordinate leaves the range of floats
_FLOOR = 0.01  # weight added to every bin: that of a bin that did not help
_EQUAL = 0.5  # share of the effort that does not depend on the success of the kinds
_FORGET = 0.5  # factor on the counts of earlier stages


@dataclass(frozen=True)
class Crowd:
    """The points from which moves start.

    points: those that move (M, D); others: those that give directions (O, D); scale: a length per coordinate (D,);
    bounds: support of the prior (D, 2); replicas: number of equal consecutive parts that share no particle.
    """

    points: Array
    others: Array
    scale: Array
    bounds: Array
    replicas: int = 1

    @functools.cached_property
    def logs(self) -> Array:
        """The logarithms of the moduli of the others (O, D)."""
        return np.log(np.maximum(np.abs(self.others), np.finfo(np.float64).tiny))

    @functools.cached_property
    def spread(self) -> Array:
        """The spread of each coordinate of the others in e-folds: the deviation of `logs` (D,), at least one."""
        return np.asarray(np.maximum(self.logs.std(axis=0), 1.0))

    def pairs(self, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Return, for each moving point, the indices of two others of the same replica, each (M,)."""
        each = len(self.others) // self.replicas
        start = np.repeat(np.arange(self.replicas) * each, len(self.points) // self.replicas)
        one, two = rng.integers(each, size=(2, len(self.points)))
        return start + one, start + two


Proposal = tuple[Array, Array]
"""Points (M, D), and (M,) the log ratio of the reverse to the forward proposal density, such as a log Jacobian."""


def along_axis(crowd: Crowd, size: Array, rng: np.random.Generator) -> Proposal:
    """Propose to move one coordinate, reflected at the walls."""
    axis = rng.integers(crowd.points.shape[1])
    points = np.copy(crowd.points)
    column = points[:, axis] + crowd.scale[axis] * size * rng.standard_normal(len(size))
    points[:, axis] = reflected(column[:, None], crowd.bounds[axis : axis + 1])[0][:, 0]
    return points, np.zeros_like(size)


def difference(crowd: Crowd, size: Array, rng: np.random.Generator) -> Proposal:
    """Propose to move by `size` (M,) times the difference of two others."""
    one, two = crowd.pairs(rng)
    return crowd.points + size[:, None] * (crowd.others[one] - crowd.others[two]), np.zeros_like(size)


def ratio(crowd: Crowd, size: Array, rng: np.random.Generator) -> Proposal:
    """Propose to multiply by the ratios of two others to the power `size` (M,), with or without the ratios' signs."""
    one, two = crowd.pairs(rng)
    flips = (rng.random(len(size)) < _FLIPS)[:, None] & (np.sign(crowd.others[one]) * np.sign(crowd.others[two]) < 0)
    return _scaled(crowd.points, size[:, None] * (crowd.logs[one] - crowd.logs[two]), flips)


def factors(crowd: Crowd, size: Array, rng: np.random.Generator) -> Proposal:
    """Propose to multiply some coordinates by factors, one for each or the same for all of them."""
    shape = crowd.points.shape
    chosen = rng.random(shape) < rng.random(len(size))[:, None]
    flips = chosen & (rng.random(shape) < 0.5) & (rng.random(len(size)) < _FLIPS)[:, None]
    alike = (rng.random(len(size)) < _ALIKE)[:, None]
    own = crowd.spread * rng.standard_normal(shape)
    common = crowd.spread.max() * rng.standard_normal((len(size), 1))
    return _scaled(crowd.points, chosen * size[:, None] * np.where(alike, common, own), flips)


KINDS = (along_axis, difference, ratio, factors)
"""The kinds of move that need points only. In one dimension several coincide, which does no harm."""


def reflected(points: Array, bounds: Array) -> tuple[Array, Array]:
    """Return points (N, D) reflected into the box `bounds` (D, 2), and signs (N, D): -1 if the velocity is reversed."""
    low, high = bounds.T
    turned = np.ones_like(points)
    for _ in range(_BOUNCES):
        below, above = points < low, points > high
        out = below | above
        if not out.any():
            break
        points = np.where(below, 2 * low - points, np.where(above, 2 * high - points, points))
        turned = np.where(out, -turned, turned)
    return points, turned


def _scaled(points: Array, exponents: Array, flips: NDArray[np.bool_]) -> Proposal:
    exponents = np.clip(exponents, -_STEEPEST, _STEEPEST)
    return points * np.where(flips, -1.0, 1.0) * np.exp(exponents), exponents.sum(axis=1)


@dataclass(frozen=True)
class Repertoire:
    """The success of kinds and sizes of moves so far, and the resulting probabilities; fixed during a stage.

    tried, taken, gain: moves proposed, moves accepted, and the gain of the accepted ones, each (kinds, bins); cost:
    evaluations (kinds,). Half of the sizes are drawn with weights a (1 - a), a the share accepted, which are large on
    all scales between the width and the length of the set. The other half are drawn by the mean gain, which is large
    for moves that go far. Half of the effort is divided equally among kinds, half by gain over cost.
    """

    tried: Array
    taken: Array
    gain: Array
    cost: Array

    @classmethod
    def fresh(cls, kinds: int, bins: int) -> Repertoire:
        """Return the repertoire before the first stage, with equal probabilities."""
        shape = (kinds, bins)
        return cls(np.full(shape, 2.0), np.ones(shape), np.ones(shape), np.full(kinds, 2.0 * bins))

    @classmethod
    def tally(cls, kinds: int, bins: int) -> Repertoire:
        """Return counts that are all 0, to be filled in place by `count`."""
        shape = (kinds, bins)
        return cls(np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(kinds))

    def count(self, kind: int, bins: Ints, taken: Ints, gain: Array, cost: float) -> None:
        """Count moves of a kind: their bins (M,), the indices and gains (A,) of the accepted ones, and the cost."""
        size = self.tried.shape[1]
        self.tried[kind] += np.bincount(bins, minlength=size)
        self.taken[kind] += np.bincount(bins[taken], minlength=size)
        self.gain[kind] += np.bincount(bins[taken], gain, minlength=size)
        self.cost[kind] += cost

    def sizes(self) -> Array:
        """Return the cumulative probabilities of the bins of each kind (kinds, bins)."""
        rate, far = self.taken / self.tried, self.gain / self.tried
        near = rate * (1.0 - rate) + _FLOOR
        weight = near / near.sum(axis=1, keepdims=True) + far / far.sum(axis=1, keepdims=True)
        shares: Array = np.cumsum(weight, axis=1) / 2.0
        return shares

    def kinds(self) -> Array:
        """Return the probabilities of the kinds (kinds,)."""
        use, cheap = self.gain.sum(axis=1) / self.cost, self.tried.sum(axis=1) / self.cost
        shares: Array = (1.0 - _EQUAL) * use / use.sum() + _EQUAL * cheap / cheap.sum()
        return shares

    def learned(self, tally: Repertoire) -> Repertoire:
        """Return the repertoire with the counts of a stage added; older counts are multiplied by _FORGET before."""
        start = Repertoire.fresh(*self.tried.shape)

        def mixed(old: Array, new: Array, least: Array) -> Array:
            faded: Array = least + _FORGET * (old - least) + new
            return faded

        return Repertoire(
            mixed(self.tried, tally.tried, start.tried),
            mixed(self.taken, tally.taken, start.taken),
            mixed(self.gain, tally.gain, np.zeros_like(self.gain)),
            mixed(self.cost, tally.cost, np.zeros_like(self.cost)),
        )


def drawn_sizes(shares: Array, count: int, rng: np.random.Generator) -> tuple[Array, Ints]:
    """Return sizes (count,) and their bins (count,), drawn with cumulative probabilities `shares` (bins,)."""
    bins = np.minimum(np.searchsorted(shares, rng.random(count)), len(shares) - 1)
    return LARGEST * FACTOR ** -(bins + rng.random(count)), bins
