"""Metropolis proposals on all scales, for sets that are thin tubes and branches of crossings.

{K < e} may be 1e-15 wide around one curve and of order 1 around another; near a singular point it looks the same on
all scales. So sizes are log-uniform within each decade, over all decades. There are several kinds of moves. Absolute
moves follow lines parallel to an axis. Relative moves (with their Jacobian) follow branches of crossings at 0 and
change scale near them. Differences of two other particles (ter Braak 2006) follow straight branches of any direction,
and differences of logarithms the curves |w1|^a = c |w2|^b. Every proposal is symmetric up to its Jacobian.
The posterior's moves share no code with these: that two paths agree is evidence for both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sandbox.tools.arrays import Array

Ints = NDArray[np.intp]

DECADES = 18
"""The number of decades of sizes, downwards from 3 times the scale; the last is the rounding of such a coordinate."""

_LARGEST = 0.5  # log10 of the largest size
_FLOOR = 0.006  # least weight of a size, so that a size that was not accepted at the last level is tried again
_FLIP = 0.1  # share of the relative moves that may also change a sign
_FORGET = 0.5  # factor on the counts of earlier levels
_TABLE = 4096  # entries of the table from which sizes are chosen
_STEEPEST = 300.0  # largest logarithm of a factor: beyond it a coordinate leaves the range of floats


@dataclass(frozen=True)
class Crowd:
    """The input of a move: points (D, M), the prior's scale (D,), and other particles, which give directions.

    The coordinate is the first axis, so that its values are contiguous in memory."""

    points: Array
    scale: Array
    others: Others


class Others:
    """The particles of all replicas at the start of the level: they stay fixed while they give directions.

    points, and logs of their moduli: (D, M). spread: (D,), the standard deviation of the logs (e-folds), at least 1."""

    def __init__(self, points: Array, replicas: int):
        self.points, self.replicas = points.copy(), replicas
        self.logs = np.log(np.maximum(np.abs(points), np.finfo(float).tiny))
        self.spread = np.maximum(self.logs.std(axis=1), 1.0)


Proposal = tuple[Array, Array]
"""The proposed points (D, M) and the logs of the Jacobians (M,)."""

Kind = Callable[[Crowd, Array, np.random.Generator], Proposal]
"""A kind of move: a function of the crowd, steps (M,) of both signs and a generator, which returns a proposal."""


def along_axis(crowd: Crowd, step: Array, rng: np.random.Generator) -> Proposal:
    """Return a proposal that moves one coordinate, the same for all particles."""
    proposal, axis = crowd.points.copy(), rng.integers(len(crowd.points))
    proposal[axis] += crowd.scale[axis] * step
    return proposal, np.zeros_like(step)


def anywhere(crowd: Crowd, step: Array, rng: np.random.Generator) -> Proposal:
    """Return a proposal that moves each particle in a random direction."""
    return crowd.points + crowd.scale[:, None] * step * _either(crowd.points.shape, rng), np.zeros_like(step)


def factor(crowd: Crowd, step: Array, rng: np.random.Generator) -> Proposal:
    """Return a proposal that multiplies one coordinate, the same for all particles, by a factor."""
    exponents = np.zeros_like(crowd.points)
    axis = rng.integers(len(exponents))
    exponents[axis] = crowd.others.spread[axis] * step
    return _scaled(crowd, exponents, rng)


def factors(crowd: Crowd, step: Array, rng: np.random.Generator) -> Proposal:
    """Return a proposal that multiplies each coordinate by its own factor."""
    return _scaled(crowd, crowd.others.spread[:, None] * step * _either(crowd.points.shape, rng), rng)


def dilation(crowd: Crowd, step: Array, rng: np.random.Generator) -> Proposal:
    """Return a proposal that multiplies all coordinates of a particle by the same factor."""
    return _scaled(crowd, np.tile(crowd.others.spread.max() * step, (len(crowd.points), 1)), rng)


def difference(crowd: Crowd, step: Array, rng: np.random.Generator) -> Proposal:
    """Return a proposal that moves each particle by a multiple of the difference of two others of its replica."""
    one, two = _pairs(crowd, rng)
    return crowd.points + step * (crowd.others.points[:, one] - crowd.others.points[:, two]), np.zeros_like(step)


def log_difference(crowd: Crowd, step: Array, rng: np.random.Generator) -> Proposal:
    """Return a proposal that multiplies coordinates by a power of the ratios of the moduli of those of two others."""
    one, two = _pairs(crowd, rng)
    return _scaled(crowd, step * (crowd.others.logs[:, one] - crowd.others.logs[:, two]), rng)


KINDS: tuple[Kind, ...] = (along_axis, anywhere, factor, factors, dilation, difference, log_difference)
"""All kinds of moves. In one dimension several of them coincide, which does no harm."""


def _either(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Return uniform random numbers in (-1, 1): a direction only needs to be symmetric."""
    return 2.0 * rng.random(shape) - 1.0


def _scaled(crowd: Crowd, exponents: Array, rng: np.random.Generator) -> Proposal:
    exponents = np.clip(exponents, -_STEEPEST, _STEEPEST)
    proposal = crowd.points * np.exp(exponents)
    if rng.random() < _FLIP:
        axis = rng.integers(len(proposal))
        proposal[axis] *= np.sign(_either(exponents.shape[1:], rng))
    return proposal, exponents.sum(axis=0)


def _pairs(crowd: Crowd, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Return the indices (M,) of two stored particles of the same replica for each: replicas must share nothing."""
    count = crowd.points.shape[1]
    each = count // crowd.others.replicas
    start = np.repeat(np.arange(crowd.others.replicas) * each, each)
    one, two = rng.integers(each, size=(2, count))
    return start + one, start + two


class Repertoire:
    """The weights of kinds and sizes of moves, from the acceptance at earlier levels; they change only between levels.

    With a the acceptance of a kind and size, half the sizes are weighted with a (1 - a), which is largest if a step is
    about as long as the tube is wide. The other half are weighted with a times a power of the size, which favours long
    steps along W0. Kinds are weighted with the sum of these second weights. Every size and kind keeps some weight.
    """

    def __init__(self) -> None:
        self._tried = np.full((len(KINDS), DECADES), 2.0)
        self._taken = np.full((len(KINDS), DECADES), 1.0)
        self.adapt()

    def adapt(self) -> None:
        """Set the weights from the counts, and reduce the counts by the factor _FORGET."""
        rate = self._taken / self._tried
        far = rate * 2.0 ** -np.arange(DECADES)
        near = rate * (1.0 - rate)
        weight = near / near.sum(axis=1, keepdims=True) + far / far.sum(axis=1, keepdims=True) + _FLOOR
        kind = far.sum(axis=1) / far.sum() + 1.0 / len(KINDS)
        self._kinds = kind / kind.sum()
        shares = np.cumsum(weight, axis=1) / weight.sum(axis=1, keepdims=True)
        places = (np.arange(_TABLE) + 0.5) / _TABLE
        self._table = np.stack([np.minimum(np.searchsorted(share, places), DECADES - 1) for share in shares])
        self._tried = 2.0 + _FORGET * (self._tried - 2.0)
        self._taken = 1.0 + _FORGET * (self._taken - 1.0)

    def propose(self, crowd: Crowd, rng: np.random.Generator) -> tuple[Proposal, int, Ints]:
        """Return a proposal of one kind for all particles, the kind, and the decade of each size (M,)."""
        kind, count = int(rng.choice(len(KINDS), p=self._kinds)), crowd.points.shape[1]
        decades = self._table[kind][rng.integers(_TABLE, size=count, dtype=np.uint16)]
        step = 10.0 ** (_LARGEST - decades - rng.random(count)) * np.sign(_either((count,), rng))
        return KINDS[kind](crowd, step, rng), kind, decades

    def count(self, kind: int, decades: Ints, taken: Ints) -> None:
        """Count the proposals of this kind in each decade, and those accepted: `taken` holds their indices."""
        self._tried[kind] += np.bincount(decades, minlength=DECADES)
        self._taken[kind] += np.bincount(decades[taken], minlength=DECADES)
