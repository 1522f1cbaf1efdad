"""Metropolis proposals that cross all scales, for sets that are thin tubes and arms of crossings.

{K < e} may be 1e-15 wide along a curve and of order 1 along another; near a singular point it looks alike on all
scales. So sizes are drawn log-uniformly over all decades, and moves come in kinds: absolute ones follow lines that
are parallel to an axis, relative ones (with their Jacobian) follow the arms of crossings at 0 and change scale near
them, differences of two other particles (ter Braak 2006), linear or of logarithms, follow straight arms of any
direction and the curves |w1|^a = c |w2|^b. Every proposal is symmetric up to its Jacobian.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

DECADES = 18
"""Of sizes, downwards from three times the scale: the last is the rounding of a coordinate of that size."""

_LARGEST = 0.5  # log10 of the largest size
_FLOOR = 0.006  # weight of a size that did not help at the last level
_FLIP = 0.1  # of the relative moves may also change a sign
_FORGET = 0.5  # of the counts of former levels
_TABLE = 4096  # places of the table that sizes are drawn from
_STEEPEST = 300.0  # largest logarithm of a factor: beyond it a coordinate leaves the range of floats


@dataclass(frozen=True)
class Crowd:
    """From where moves start: points (D, M), the prior's scale (D,), and what the others tell.

    Coordinates come first here, so that each is one run of memory.
    """

    points: Floats
    scale: Floats
    others: Others


class Others:
    """The particles of all replicas as they stood when the level was reached: they do not move while they give
    directions. points, and logs of their moduli: (D, M); spread: (D,), how many e-folds a coordinate ranges over."""

    def __init__(self, points: Floats, replicas: int):
        self.points, self.replicas = points.copy(), replicas
        self.logs = np.log(np.maximum(np.abs(points), np.finfo(float).tiny))
        self.spread = np.maximum(self.logs.std(axis=1), 1.0)


Proposal = tuple[Floats, Floats]
"""Points (D, M) and the logs of the Jacobians (M,)."""

Kind = Callable[[Crowd, Floats, np.random.Generator], Proposal]
"""A kind of move: the crowd, steps (M,) of either sign, a generator -> a proposal."""


def along_axis(crowd: Crowd, step: Floats, rng: np.random.Generator) -> Proposal:
    """Move one coordinate."""
    proposal, axis = crowd.points.copy(), rng.integers(len(crowd.points))
    proposal[axis] += crowd.scale[axis] * step
    return proposal, np.zeros_like(step)


def anywhere(crowd: Crowd, step: Floats, rng: np.random.Generator) -> Proposal:
    """Move in any direction."""
    return crowd.points + crowd.scale[:, None] * step * _either(crowd.points.shape, rng), np.zeros_like(step)


def factor(crowd: Crowd, step: Floats, rng: np.random.Generator) -> Proposal:
    """Multiply one coordinate."""
    exponents = np.zeros_like(crowd.points)
    axis = rng.integers(len(exponents))
    exponents[axis] = crowd.others.spread[axis] * step
    return _scaled(crowd, exponents, rng)


def factors(crowd: Crowd, step: Floats, rng: np.random.Generator) -> Proposal:
    """Multiply each coordinate by a factor of its own."""
    return _scaled(crowd, crowd.others.spread[:, None] * step * _either(crowd.points.shape, rng), rng)


def dilation(crowd: Crowd, step: Floats, rng: np.random.Generator) -> Proposal:
    """Multiply all coordinates by the same factor."""
    return _scaled(crowd, np.tile(crowd.others.spread.max() * step, (len(crowd.points), 1)), rng)


def difference(crowd: Crowd, step: Floats, rng: np.random.Generator) -> Proposal:
    """Move by a multiple of the difference of two others."""
    one, two = _pairs(crowd, rng)
    return crowd.points + step * (crowd.others.points[:, one] - crowd.others.points[:, two]), np.zeros_like(step)


def log_difference(crowd: Crowd, step: Floats, rng: np.random.Generator) -> Proposal:
    """Multiply the coordinates by a power of the ratios of those of two others."""
    one, two = _pairs(crowd, rng)
    return _scaled(crowd, step * (crowd.others.logs[:, one] - crowd.others.logs[:, two]), rng)


KINDS: tuple[Kind, ...] = (along_axis, anywhere, factor, factors, dilation, difference, log_difference)
"""In one dimension several are the same, which does no harm."""


def _either(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Return draws of either sign: symmetry is all that a direction needs."""
    return 2.0 * rng.random(shape) - 1.0


def _scaled(crowd: Crowd, exponents: Floats, rng: np.random.Generator) -> Proposal:
    exponents = np.clip(exponents, -_STEEPEST, _STEEPEST)
    proposal = crowd.points * np.exp(exponents)
    if rng.random() < _FLIP:
        axis = rng.integers(len(proposal))
        proposal[axis] *= np.sign(_either(exponents.shape[1:], rng))
    return proposal, exponents.sum(axis=0)


def _pairs(crowd: Crowd, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Return two others of the same replica for each particle; replicas must share nothing."""
    count = crowd.points.shape[1]
    each = count // crowd.others.replicas
    start = np.repeat(np.arange(crowd.others.replicas) * each, each)
    one, two = rng.integers(each, size=(2, count))
    return start + one, start + two


class Repertoire:
    """Kinds and sizes of moves, chosen by how they fared at the level before; the choice changes between levels only.

    With a the share accepted of a kind and size, one half are sizes weighted with a (1 - a), largest where a step is
    about as long as the tube is wide, and one half sizes weighted with a times a power of the size, the far steps that
    carry particles along W0; kinds are weighted with the latter. Every size and kind is tried now and then.
    """

    def __init__(self) -> None:
        self._tried = np.full((len(KINDS), DECADES), 2.0)
        self._taken = np.full((len(KINDS), DECADES), 1.0)
        self.adapt()

    def adapt(self) -> None:
        """Set the weights from the counts, and let the counts fade."""
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
        """Return a proposal of one kind for all, the kind, and the decade of each size (M,)."""
        kind, count = int(rng.choice(len(KINDS), p=self._kinds)), crowd.points.shape[1]
        decades = self._table[kind][rng.integers(_TABLE, size=count, dtype=np.uint16)]
        step = 10.0 ** (_LARGEST - decades - rng.random(count)) * np.sign(_either((count,), rng))
        return KINDS[kind](crowd, step, rng), kind, decades

    def count(self, kind: int, decades: Ints, taken: Ints) -> None:
        """Note which moves (their places) were accepted."""
        self._tried[kind] += np.bincount(decades, minlength=DECADES)
        self._taken[kind] += np.bincount(decades[taken], minlength=DECADES)
