"""Metropolis moves that leave a tempered posterior, or a level set of the prior, as it is: on all scales at once.

A singular posterior is thin across W0 and wide along it, and near a crossing it looks alike on all scales. So every
kind of move draws its size log-uniformly within bins that reach over ten decades, and the choice of bins and kinds
follows what helped at the stage before. Kinds:
- trajectories of Hamiltonian dynamics (Duane et al. 1987; Neal 2011), reflected at the walls of the prior; the slope
  only proposes: leapfrog steps keep volume and can be reversed whatever the force is, so a wrong slope costs efficiency
  and nothing else;
- one coordinate at a time, reflected at the walls;
- differences of two others (ter Braak 2006), whole ones too, which lead from one mode to another;
- ratios of two others, signs included: differences in logarithms, which follow rescaling orbits and lead from one
  mirror image to another; and factors of their own for some coordinates.
Others are always of the other half of the population, which stands still meanwhile (Goodman, Weare 2010), so that the
moves are exactly invariant. Differences and ratios that leave the support are rejected: folding them back at the walls
would not be symmetric, as their coordinates depend on one another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BINS = 16
"""Of sizes, each a factor _FACTOR wide, downwards from _LARGEST."""

_FACTOR = 4.0
_LARGEST = 2.0
_LEAPS = 6  # most leapfrog steps of a trajectory
_BOUNCES = 8  # off walls within one step; a wilder step is rejected, from either end
_WHOLE = 0.3  # of the differences have size 1 exactly
_FLIPS = 0.5  # of the relative moves also change signs
_STEEPEST = 300.0  # largest logarithm of a factor: beyond it a coordinate leaves the range of floats
_FLOOR = 0.01  # weight of a bin that did not help
_EQUAL = 0.5  # of the choices among kinds are blind to how they fared
_FORGET = 0.5  # of the counts of former stages


@dataclass(frozen=True)
class Crowd:
    """From where moves start.

    points: those that move (M, D); others: those that give directions (O, D); root: of the population's covariance
    matrix, root root^T (D, D); scale: its spread per coordinate (D,); bounds: support of the prior (D, 2); force:
    points (N, D) -> gradient of the log target (N, D).
    """

    points: Floats
    others: Floats
    root: Floats
    scale: Floats
    bounds: Floats
    force: Callable[[Floats], Floats]


Proposal = tuple[Floats, Floats]
"""Points (M, D), and (M,) the log of the Jacobian, or minus the change of kinetic energy."""

Kind = Callable[[Crowd, Floats, np.random.Generator], Proposal]
"""A kind of move: the crowd, sizes (M,), a generator -> a proposal; symmetric but for the second part of it."""


def trajectory(crowd: Crowd, size: Floats, rng: np.random.Generator) -> Proposal:
    """Follow Hamiltonian dynamics, each coordinate in units of its spread, reflected at the walls."""
    return _trajectory(crowd, np.diag(crowd.scale), size, rng, walls=True)


def whitened(crowd: Crowd, size: Floats, rng: np.random.Generator) -> Proposal:
    """Follow Hamiltonian dynamics in coordinates in which the population is isotropic, across the walls."""
    return _trajectory(crowd, crowd.root, size, rng, walls=False)


def along_axis(crowd: Crowd, size: Floats, rng: np.random.Generator) -> Proposal:
    """Move one coordinate."""
    axis = rng.integers(crowd.points.shape[1])
    points = crowd.points.copy()
    points[:, axis] += crowd.scale[axis] * size * rng.standard_normal(len(size))
    return reflected(points, crowd.bounds)[0], np.zeros_like(size)


def difference(crowd: Crowd, size: Floats, rng: np.random.Generator) -> Proposal:
    """Move by a multiple of the difference of two others."""
    one, two = _pair(crowd, rng)
    multiple = np.where(rng.random(len(size)) < _WHOLE, 1.0, size)
    return crowd.points + multiple[:, None] * (one - two), np.zeros_like(size)


def ratio(crowd: Crowd, size: Floats, rng: np.random.Generator) -> Proposal:
    """Multiply by a power of the ratios of two others, and by the signs of the ratios or not."""
    one, two = _pair(crowd, rng)
    flips = np.where(rng.random(len(size)) < _FLIPS, 1.0, 0.0)[:, None]
    signs = np.where(flips * one * np.sign(two) < 0, -1.0, 1.0)
    return _scaled(crowd.points, size[:, None] * (_log(one) - _log(two)), signs)


def factors(crowd: Crowd, size: Floats, rng: np.random.Generator) -> Proposal:
    """Multiply some coordinates by factors of their own."""
    shape = crowd.points.shape
    chosen = rng.random(shape) < rng.random(len(size))[:, None]
    flips = chosen & (rng.random(shape) < 0.5) & (rng.random(len(size)) < _FLIPS)[:, None]
    return _scaled(crowd.points, chosen * size[:, None] * rng.standard_normal(shape), np.where(flips, -1.0, 1.0))


KINDS: tuple[Kind, ...] = (trajectory, whitened, along_axis, difference, ratio, factors)


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


def _trajectory(crowd: Crowd, root: Floats, size: Floats, rng: np.random.Generator, walls: bool) -> Proposal:
    """Take leapfrog steps with the inverse mass matrix root root^T; `walls` asks for a diagonal one."""
    points, step = crowd.points, size[:, None]
    momentum = rng.standard_normal(points.shape)
    before = 0.5 * (momentum**2).sum(axis=1)
    momentum = momentum + 0.5 * step * (crowd.force(points) @ root)
    leaps = int(rng.integers(1, _LEAPS + 1))
    for left in range(leaps, 0, -1):
        points = points + step * (momentum @ root.T)
        if walls:
            points, turned = reflected(points, crowd.bounds)
            momentum = momentum * turned
        momentum = momentum + (0.5 if left == 1 else 1.0) * step * (crowd.force(points) @ root)
    return points, before - 0.5 * (momentum**2).sum(axis=1)


def _pair(crowd: Crowd, rng: np.random.Generator) -> tuple[Floats, Floats]:
    one, two = rng.integers(len(crowd.others), size=(2, len(crowd.points)))
    return crowd.others[one], crowd.others[two]


def _log(points: Floats) -> Floats:
    return np.log(np.maximum(np.abs(points), np.finfo(np.float64).tiny))


def _scaled(points: Floats, exponents: Floats, signs: Floats) -> Proposal:
    exponents = np.clip(exponents, -_STEEPEST, _STEEPEST)
    return points * signs * np.exp(exponents), exponents.sum(axis=1)


@dataclass(frozen=True)
class Repertoire:
    """How kinds and sizes fared so far, and the choice that follows from it; it is fixed while a stage lasts.

    tried, taken, gain: moves proposed, accepted, and their squared jumps in units of the population's spread, each
    (kinds, BINS); cost: evaluations (kinds,). Half of the sizes are drawn with weights a (1 - a), a the share accepted,
    which are large on all scales between the width and the length of the posterior, and half by the mean gain, which is
    large where a move goes far. Kinds are drawn by gain over cost, but each has a set share.
    """

    tried: Floats
    taken: Floats
    gain: Floats
    cost: Floats

    @classmethod
    def fresh(cls) -> Repertoire:
        """Return what knows nothing."""
        shape = (len(KINDS), BINS)
        return cls(np.full(shape, 2.0), np.ones(shape), np.ones(shape), np.full(len(KINDS), float(BINS)))

    def sizes(self) -> Floats:
        """Return the cumulative probabilities of the bins of each kind (kinds, BINS)."""
        rate, far = self.taken / self.tried, self.gain / self.tried
        near = rate * (1.0 - rate) + _FLOOR
        weight = near / near.sum(axis=1, keepdims=True) + far / far.sum(axis=1, keepdims=True)
        shares: Floats = np.cumsum(weight, axis=1) / 2.0
        return shares

    def kinds(self) -> Floats:
        """Return the probabilities of the kinds."""
        use = self.gain.sum(axis=1) / self.cost
        shares: Floats = (1.0 - _EQUAL) * use / use.sum() + _EQUAL / len(use)
        return shares

    def learned(self, tally: Repertoire) -> Repertoire:
        """Return the repertoire with the counts of a stage; older counts fade."""

        def mixed(old: Floats, new: Floats, start: float) -> Floats:
            faded: Floats = start + _FORGET * (old - start) + new
            return faded

        return Repertoire(
            mixed(self.tried, tally.tried, 2.0),
            mixed(self.taken, tally.taken, 1.0),
            mixed(self.gain, tally.gain, 0.0),
            mixed(self.cost, tally.cost, 0.0),
        )


def empty_tally() -> Repertoire:
    """Return counts of nothing, to be filled in place."""
    shape = (len(KINDS), BINS)
    return Repertoire(np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(len(KINDS)))


def drawn_sizes(shares: Floats, count: int, rng: np.random.Generator) -> tuple[Floats, Ints]:
    """Return sizes (count,), and their bins, drawn from cumulative probabilities of the bins (BINS,)."""
    bins = np.minimum(np.searchsorted(shares, rng.random(count)), BINS - 1)
    return _LARGEST * _FACTOR ** -(bins + rng.random(count)), bins
