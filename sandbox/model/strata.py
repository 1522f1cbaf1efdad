"""W0, the set of true parameters, divided into strata: the stratum near a point, and the position along it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from sandbox.compiled import random_numbers
from sandbox.expressions.evaluation import numpy_function
from sandbox.expressions.parsing import parse, symbol
from sandbox.model.loss import Loss
from sandbox.model.prior import Prior
from sandbox.model.projection import Projection
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError

ELSEWHERE = "elsewhere"
DIVERGED = "diverged"
"""The names for a particle in no stratum's tube, and for a particle that has diverged."""

MAX_PARAMETERS = 30
"""The most parameters of a scenario: with more, derivatives and sampling take too long."""

_INSIDE = -1e-7
"""The least value of a condition's expression that counts as satisfied: rounding errors occur on the edge."""
_BESIDE = 1e-9
"""The distance beyond the prior's window, in prior scales, that counts as a rounding error."""
_MARGIN = 1.5
"""The largest factor by which a Gauss-Newton distance near `within` is assumed to exceed the true distance."""
_TOGETHER = 1 << 16
"""The most images of points computed together; this limits the memory."""
_STATED = 0.01
"""The largest relative difference between K and a stated excess."""
_TRIES = 16384
"""The number of points projected onto a small stratum, so that some land on it."""
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


@dataclass(frozen=True)
class Stratum:
    """A named part of W0: the points at which every expression of `zero` vanishes and none of `where` is negative.

    `along` is the position on it, an expression in the parameters; None for a point. The learning coefficient λ and its
    multiplicity m are the stated ones, if any. `excess` is K on it: above 0 for a local minimum that is not in W0.
    """

    name: str
    zero: tuple[Any, ...]
    along: Any = None
    learning_coefficient: Fraction | None = None
    multiplicity: int | None = None
    where: tuple[Any, ...] = ()
    excess: float = 0.0


@dataclass(frozen=True)
class Symmetry:
    """An exchange of parameters, with signs, that leaves the model unchanged: w -> (signs[j] w[axes[j]])_j."""

    axes: tuple[int, ...]
    signs: tuple[int, ...]

    def __call__(self, points: Array) -> Array:
        """Return the images of points (N, D), shape (N, D)."""
        return points[:, list(self.axes)] * np.array(self.signs, dtype=np.float64)

    def after(self, other: Symmetry) -> Symmetry:
        """Return the symmetry that applies `other` first, then this one."""
        return Symmetry(
            tuple(other.axes[a] for a in self.axes),
            tuple(s * other.signs[a] for s, a in zip(self.signs, self.axes, strict=True)),
        )

    @property
    def inverse(self) -> Symmetry:
        """The inverse of this symmetry."""
        order = np.argsort(self.axes)
        return Symmetry(tuple(int(a) for a in order), tuple(self.signs[a] for a in order))


@dataclass(frozen=True)
class ZeroSet:
    """The strata in the order in which points are assigned to them, most degenerate first, with the tube's radius.

    A stratum includes all its images under `symmetries` (a group without its identity): for example, a dead neuron
    counts the same whether it is the first or the second.
    """

    parameters: tuple[str, ...]
    strata: tuple[Stratum, ...]
    tube: float
    symmetries: tuple[Symmetry, ...] = ()

    @classmethod
    def parse(cls, parameters: Sequence[str], strata: Mapping[str, str | Sequence[str]], tube: float = 0.1) -> ZeroSet:
        """Return the zero set of {"crossing": ["w1", "w2"], "arm": "w2", ...}: each stratum by its equations.

        Each expression is 0 on its stratum; the most degenerate stratum comes first. Raises InputError.
        """
        equations = {name: [zero] if isinstance(zero, str) else zero for name, zero in strata.items()}
        parsed = {name: tuple(parse(each, parameters) for each in zero) for name, zero in equations.items()}
        return cls(tuple(parameters), tuple(Stratum(name, zero) for name, zero in parsed.items()), tube)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all strata, then `elsewhere`."""
        return (*(stratum.name for stratum in self.strata), ELSEWHERE)

    @property
    def along_strata(self) -> list[int]:
        """The numbers of the strata that have a position along them."""
        return [k for k, stratum in enumerate(self.strata) if stratum.along is not None]

    def strata_of(self, points: Array, tube: float | None = None) -> npt.NDArray[np.int64]:
        """Return each point's first stratum whose tube contains it, len(strata) if none does: (N, D) -> (N,)."""
        radius = self.tube if tube is None else tube
        found = np.full(len(points), len(self.strata))
        left = np.arange(len(points))
        for k in range(len(self.strata)):
            near = self.distance(points[left], k, within=radius) < radius
            found[left[near]] = k
            left = left[~near]
        return found

    def strata_within(self, points: Array, radii: Sequence[float]) -> npt.NDArray[np.int64]:
        """Return `strata_of` points (N, D) for several tube radii, from one set of distances: (len(radii), N)."""
        found = np.full((len(radii), len(points)), len(self.strata))
        for k in reversed(range(len(self.strata))):
            distance = self.distance(points, k, within=max(radii))
            for row, radius in zip(found, radii, strict=True):
                row[distance < radius] = k
        return found

    def distance(self, points: Array, k: int, within: float = np.inf) -> Array:
        """Return the distance of points (N, D) to stratum k, shape (N,); inf if the projection onto it fails.

        It may also be inf if it is more than `within`; this saves most of the time. It is inf for points that are not
        finite. It is exact if the stratum is linear; else it is that to the point which `Projection` reaches, and may
        exceed the true distance where the stratum bends within it, as near a singular point.
        """
        return self._nearest(points, k, within)[1]

    def project(self, points: Array, k: int) -> Array:
        """Return the points (N, D) of stratum k that Gauss-Newton steps from `points` (N, D) reach; inf on failure."""
        image, _, result = self._nearest(points, k)
        for j, symmetry in enumerate(self.symmetries, 1):
            result[image == j] = symmetry.inverse(result[image == j])
        return result

    def along(self, points: Array, k: int) -> Array:
        """Return the position of points (N, D) along stratum k, shape (N,), computed at the nearest image."""
        if self.symmetries:
            image, points = self._nearest(points, k)[0], points.copy()
            for j, symmetry in enumerate(self.symmetries, 1):
                points[image == j] = symmetry(points[image == j])
        position: Array = self._along[k](*points.T)[0]
        return position

    def sample(self, prior: Prior, k: int, count: int) -> Array:
        """Return up to `count` points (M, D) of stratum k in the prior's window: projections of prior quantiles.

        A small stratum may give fewer points; it gives none only if none of `_TRIES` points lands on it.
        """
        # A fixed lattice, so that the same scenario always gives the same points.
        for tries in (count, _TRIES):
            points = self.landed(prior.quantile(lattice(tries, len(self.parameters))), k, prior)
            points = points[np.isfinite(points).all(axis=1)][:count]
            if len(points):
                break
        return self.over_images(points)

    def landed(self, points: Array, k: int, prior: Prior) -> Array:
        """Return the points (N, D) of stratum k in the prior's window that steps from `points` reach; inf if none."""
        with np.errstate(all="ignore"):
            reached = self._equations[k](points)
            window = prior.window()
            # Points beyond an edge would all land on the edge itself, and would not represent the stratum.
            inside = np.isfinite(reached).all(axis=1) & self._holds(reached, k)
            # Steps that end on a wall end a rounding error beside it.
            held = np.clip(reached, *window.T)
            inside &= (np.abs(held - reached) <= _BESIDE * prior.scale).all(axis=1)
        return np.where(inside[:, None], held, np.inf)

    def over_images(self, points: Array) -> Array:
        """Return points (N, D) of a stratum, distributed in turn over its images under the symmetries."""
        dealt, images = points.copy(), np.arange(len(points)) % (1 + len(self.symmetries))
        for j, symmetry in enumerate(self.symmetries, 1):
            dealt[images == j] = symmetry.inverse(points[images == j])
        return dealt

    def cuts(self, tube: float | None = None) -> tuple[tuple[float, ...], ...]:
        """Return per parameter the edges of the tubes around strata `w = constant`, at which `strata_of` jumps."""
        radius = tube or self.tube
        edges: list[set[float]] = [set() for _ in self.parameters]
        for equations in self._equations:
            for axis, value in (equations.constants or {}).items():
                edges[axis] |= {value - radius, value + radius}
                for symmetry in self.symmetries:
                    image = value * symmetry.signs[axis]
                    edges[symmetry.axes[axis]] |= {image - radius, image + radius}
        return tuple(tuple(sorted(values)) for values in edges)

    def along_axis(self, k: int) -> int | None:
        """Return the index of the parameter that is itself the position along stratum k, or None."""
        along = self.strata[k].along
        return self._symbols.index(along) if along in self._symbols and not self.symmetries else None

    def check(self, loss: Loss, prior: Prior) -> None:
        """Raise InputError, located at (stratum, "zero"), for each stratum that is empty or on which K is wrong.

        K must be the stratum's `excess` (0 by default). `loss` must be the population's loss or a potential.
        """
        problems = []
        sizes = np.abs(loss.excess(prior.quantile(lattice(512, len(self.parameters)))))
        # Values that are undefined, or zero on a whole region, contain no information on the loss's scale.
        scale = sizes[np.isfinite(sizes) & (sizes > 0)]
        typical = float(np.median(scale)) if scale.size else 0.0
        for k, stratum in enumerate(self.strata):
            points = self.sample(prior, k, 256)
            if not len(points):
                problems.append(InputError("no point of this stratum was found inside the prior's box"))
            else:
                excess = loss.excess(points) - stratum.excess
                worst = int(np.argmax(np.where(np.isfinite(excess), np.abs(excess), np.inf)))
                if not abs(excess[worst]) <= max(1e-9 * max(typical, 1e-12), _STATED * stratum.excess):
                    at = ", ".join(f"{n} = {v:.4g}" for n, v in zip(self.parameters, points[worst], strict=True))
                    problems.append(
                        InputError(
                            f"the loss is not {stratum.excess or 'zero'} on this stratum: K = "
                            f"{excess[worst] + stratum.excess:.4g} at {at}; allowed are expressions that all vanish "
                            "only where the model equals the truth, or where K is the stated `excess`"
                        )
                    )
                else:
                    continue
            problems[-1] = problems[-1].within(stratum.name, "zero")
        if problems:
            raise InputError([problem for error in problems for problem in error.problems])

    @property
    def _symbols(self) -> tuple[Any, ...]:
        return tuple(symbol(name) for name in self.parameters)

    @functools.cached_property
    def _equations(self) -> list[Projection]:
        return [Projection(self._symbols, stratum.zero) for stratum in self.strata]

    @functools.cached_property
    def _conditions(self) -> list[Any]:
        return [numpy_function(self._symbols, stratum.where) for stratum in self.strata]

    @functools.cached_property
    def _along(self) -> list[Any]:
        return [numpy_function(self._symbols, [s.along]) if s.along is not None else None for s in self.strata]

    @functools.cached_property
    def _edges(self) -> dict[tuple[int, tuple[int, ...]], Projection]:
        """The projections onto strata's edges computed so far, by stratum and by the conditions that are equalities."""
        return {}

    def _nearest(self, points: Array, k: int, within: float = np.inf) -> tuple[npt.NDArray[np.int64], Array, Array]:
        """Return each point's image nearest to stratum k (N,), its distance (N,), and the point it reaches (N, D).

        Image 0 is the point itself. Symmetries keep distances: the point reached by an image is the image of the
        corresponding point near the original.
        """
        images, rows = 1 + len(self.symmetries), max(1, _TOGETHER // (1 + len(self.symmetries)))
        parts = []
        for i in range(0, len(points) or 1, rows):
            some = points[i : i + rows]
            every = np.concatenate([some, *(symmetry(some) for symmetry in self.symmetries)])
            found = self._onto(every, k, within)
            with np.errstate(invalid="ignore", over="ignore"):
                distance = _length(found - every).reshape(images, len(some))
            distance[np.isnan(distance)] = np.inf
            image = distance.argmin(axis=0)
            here = np.arange(len(some))
            parts.append((image, distance[image, here], found.reshape(images, *some.shape)[image, here]))
        image, distance, found = (np.concatenate(column) for column in zip(*parts, strict=True))
        return image, distance, found

    def _onto(self, points: Array, k: int, within: float) -> Array:
        """Return the points of stratum k itself that steps from `points` reach; on the edge if conditions fail."""
        result = self._equations[k](points, within)
        if not self.strata[k].where:
            return result
        with np.errstate(all="ignore"):
            failed = np.stack(self._conditions[k](*result.T), axis=1) < _INSIDE
            # An edge is no nearer than the set without conditions: if that set is out of reach, so is the edge.
            far = ~(_length(result - points) < _MARGIN * within) & failed.any(axis=1)
        result[far], failed[far] = np.inf, False
        for pattern in np.unique(failed[failed.any(axis=1)], axis=0):
            rows = np.flatnonzero((failed == pattern).all(axis=1))
            broken = tuple(int(c) for c in np.flatnonzero(pattern))
            edge = self._edge(k, broken)(points[rows], within)
            with np.errstate(all="ignore"):
                result[rows] = np.where(self._holds(edge, k)[:, None], edge, np.inf)
        return result

    def _edge(self, k: int, broken: tuple[int, ...]) -> Projection:
        stratum = self.strata[k]
        if (k, broken) not in self._edges:
            equations = (*stratum.zero, *(stratum.where[c] for c in broken))
            self._edges[k, broken] = Projection(self._symbols, equations)
        return self._edges[k, broken]

    def _holds(self, points: Array, k: int) -> npt.NDArray[np.bool_]:
        """Return which of the points (N, D) satisfy the conditions of stratum k."""
        if not self.strata[k].where:
            return np.ones(len(points), dtype=np.bool_)
        return np.asarray((np.stack(self._conditions[k](*points.T), axis=1) >= _INSIDE).all(axis=1))


def _length(moves: Array) -> Array:
    # Sum by columns: a norm along so short an axis takes five times as long.
    return np.asarray(np.sqrt(sum(column * column for column in moves.T)), dtype=np.float64)


def lattice(count: int, size: int) -> Array:
    """Return `count` points spread over the unit cube, shape (count, size), always the same.

    They are a low-discrepancy (Kronecker) lattice. Beyond the lattice's primes, where no set of few points fills a
    cube evenly, they are uniform random numbers.
    """
    if size > len(_PRIMES):
        key = random_numbers.key(0, "spread points")
        return random_numbers.uniforms(key, random_numbers.STREAM_START, np.arange(count), 0, size)
    steps = np.sqrt(np.array(_PRIMES[:size], dtype=np.float64))
    return np.asarray((np.arange(1, count + 1)[:, None] * steps + 0.5) % 1.0)
