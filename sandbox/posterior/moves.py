"""Metropolis moves on all scales at once, for sets that are thin tubes and arms of crossings.

A singular posterior, like a level set of the prior, is thin across W0 and wide along it, and near a crossing it looks
alike on all scales. So every kind of move draws its size log-uniformly within bins that reach over many decades, and
the choice of bins and kinds follows what helped at the stage before. The kinds here need points only:
- one coordinate at a time, reflected at the walls;
- some coordinates times factors (with the Jacobian), which change scale near a crossing;
- multiples of differences of two others (ter Braak 2006), which follow straight arms of any direction;
- ratios of two others, signs included: differences in logarithms, which follow the curves |w1|^a = c |w2|^b, rescaling
  orbits among them, and lead from one mirror image to another.
Others stood where the particles started and do not move. Differences and ratios that leave the support are rejected:
folding them back at the walls would not be symmetric, as their coordinates depend on one another.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FACTOR = 4.0
"""Width of a bin of sizes: the sizes of bin k are between LARGEST FACTOR^-k and LARGEST FACTOR^-(k + 1)."""

LARGEST = 2.0

_BOUNCES = 8  # off walls within one step; a wilder step is rejected, from either end
_FLIPS = 0.5  # of the relative moves also change signs
_ALIKE = 0.5  # of the factors are the same for all coordinates that have one
_STEEPEST = 300.0  # largest logarithm of a factor: beyond it a coordinate leaves the range of floats
_FLOOR = 0.01  # weight of a bin that did not help
_EQUAL = 0.5  # of the effort spent on moves is blind to how the kinds fared
_FORGET = 0.5  # of the counts of former stages


@dataclass(frozen=True)
class Crowd:
    """From where moves start.

    points: those that move (M, D); others: those that give directions (O, D); scale: a length per coordinate (D,);
    bounds: support of the prior (D, 2); replicas: as many equal parts, one after the other, share no particle.
    """

    points: Floats
    others: Floats
    scale: Floats
    bounds: Floats
    replicas: int = 1

    @functools.cached_property
    def logs(self) -> Floats:
        """Logarithms of the moduli of the others (O, D)."""
        return np.log(np.maximum(np.abs(self.others), np.finfo(np.float64).tiny))

    @functools.cached_property
    def spread(self) -> Floats:
        """How many e-folds each coordinate of the others ranges over, at least one (D,)."""
        return np.asarray(np.maximum(self.logs.std(axis=0), 1.0))

    def pairs(self, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Return the places (M,) of two others of the same replica for each particle."""
        each = len(self.others) // self.replicas
        start = np.repeat(np.arange(self.replicas) * each, len(self.points) // self.replicas)
        one, two = rng.integers(each, size=(2, len(self.points)))
        return start + one, start + two


Proposal = tuple[Floats, Floats]
"""Points (M, D), and (M,) the log of how much likelier the way back is to be proposed: of the Jacobian, for one."""


def along_axis(crowd: Crowd, size: Floats, rng: np.random.Generator) -> Proposal:
    """Move one coordinate."""
    axis = rng.integers(crowd.points.shape[1])
    points = np.copy(crowd.points)
    column = points[:, axis] + crowd.scale[axis] * size * rng.standard_normal(len(size))
    points[:, axis] = reflected(column[:, None], crowd.bounds[axis : axis + 1])[0][:, 0]
    return points, np.zeros_like(size)


def difference(crowd: Crowd, size: Floats, rng: np.random.Generator) -> Proposal:
    """Move by a multiple of the difference of two others."""
    one, two = crowd.pairs(rng)
    return crowd.points + size[:, None] * (crowd.others[one] - crowd.others[two]), np.zeros_like(size)


def ratio(crowd: Crowd, size: Floats, rng: np.random.Generator) -> Proposal:
    """Multiply by a power of the ratios of two others, and by the signs of the ratios or not."""
    one, two = crowd.pairs(rng)
    flips = (rng.random(len(size)) < _FLIPS)[:, None] & (np.sign(crowd.others[one]) * np.sign(crowd.others[two]) < 0)
    return _scaled(crowd.points, size[:, None] * (crowd.logs[one] - crowd.logs[two]), flips)


def factors(crowd: Crowd, size: Floats, rng: np.random.Generator) -> Proposal:
    """Multiply some coordinates by factors, of their own or the same for all of them."""
    shape = crowd.points.shape
    chosen = rng.random(shape) < rng.random(len(size))[:, None]
    flips = chosen & (rng.random(shape) < 0.5) & (rng.random(len(size)) < _FLIPS)[:, None]
    alike = (rng.random(len(size)) < _ALIKE)[:, None]
    own = crowd.spread * rng.standard_normal(shape)
    common = crowd.spread.max() * rng.standard_normal((len(size), 1))
    return _scaled(crowd.points, chosen * size[:, None] * np.where(alike, common, own), flips)


KINDS = (along_axis, difference, ratio, factors)
"""In one dimension several are the same, which does no harm."""


def reflected(points: Floats, bounds: Floats) -> tuple[Floats, Floats]:
    """Fold points (N, D) back into the box `bounds` (D, 2); return them and -1 where a velocity has been turned."""
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


def _scaled(points: Floats, exponents: Floats, flips: NDArray[np.bool_]) -> Proposal:
    exponents = np.clip(exponents, -_STEEPEST, _STEEPEST)
    return points * np.where(flips, -1.0, 1.0) * np.exp(exponents), exponents.sum(axis=1)


@dataclass(frozen=True)
class Repertoire:
    """How kinds and sizes fared so far, and the choice that follows from it; it is fixed while a stage lasts.

    tried, taken, gain: moves proposed, accepted, and what the accepted ones gained, each (kinds, bins); cost:
    evaluations (kinds,). Half of the sizes are drawn with weights a (1 - a), a the share accepted, which are large on
    all scales between the width and the length of the set, and half by the mean gain, which is large where a move goes
    far. Half of the effort is shared out equally among kinds, half by gain over cost.
    """

    tried: Floats
    taken: Floats
    gain: Floats
    cost: Floats

    @classmethod
    def fresh(cls, kinds: int, bins: int) -> Repertoire:
        """Return what knows nothing."""
        shape = (kinds, bins)
        return cls(np.full(shape, 2.0), np.ones(shape), np.ones(shape), np.full(kinds, 2.0 * bins))

    @classmethod
    def tally(cls, kinds: int, bins: int) -> Repertoire:
        """Return counts of nothing, to be filled in place."""
        shape = (kinds, bins)
        return cls(np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(kinds))

    def count(self, kind: int, bins: Ints, taken: Ints, gain: Floats, cost: float) -> None:
        """Note moves of a kind: their bins (M,), the places of those accepted, what each of those gained, the cost."""
        size = self.tried.shape[1]
        self.tried[kind] += np.bincount(bins, minlength=size)
        self.taken[kind] += np.bincount(bins[taken], minlength=size)
        self.gain[kind] += np.bincount(bins[taken], gain, minlength=size)
        self.cost[kind] += cost

    def sizes(self) -> Floats:
        """Return the cumulative probabilities of the bins of each kind (kinds, bins)."""
        rate, far = self.taken / self.tried, self.gain / self.tried
        near = rate * (1.0 - rate) + _FLOOR
        weight = near / near.sum(axis=1, keepdims=True) + far / far.sum(axis=1, keepdims=True)
        shares: Floats = np.cumsum(weight, axis=1) / 2.0
        return shares

    def kinds(self) -> Floats:
        """Return the probabilities of the kinds."""
        use, cheap = self.gain.sum(axis=1) / self.cost, self.tried.sum(axis=1) / self.cost
        shares: Floats = (1.0 - _EQUAL) * use / use.sum() + _EQUAL * cheap / cheap.sum()
        return shares

    def learned(self, tally: Repertoire) -> Repertoire:
        """Return the repertoire with the counts of a stage; older counts fade."""
        start = Repertoire.fresh(*self.tried.shape)

        def mixed(old: Floats, new: Floats, least: Floats) -> Floats:
            faded: Floats = least + _FORGET * (old - least) + new
            return faded

        return Repertoire(
            mixed(self.tried, tally.tried, start.tried),
            mixed(self.taken, tally.taken, start.taken),
            mixed(self.gain, tally.gain, np.zeros_like(self.gain)),
            mixed(self.cost, tally.cost, np.zeros_like(self.cost)),
        )


def drawn_sizes(shares: Floats, count: int, rng: np.random.Generator) -> tuple[Floats, Ints]:
    """Return sizes (count,), and their bins, drawn from cumulative probabilities of the bins (bins,)."""
    bins = np.minimum(np.searchsorted(shares, rng.random(count)), len(shares) - 1)
    return LARGEST * FACTOR ** -(bins + rng.random(count)), bins
