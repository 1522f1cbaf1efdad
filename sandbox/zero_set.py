"""W0, the set of true parameters, cut into strata: who is near which, and where along it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy

from sandbox.errors import InputError
from sandbox.expression import gradient, numpy_function, symbol
from sandbox.loss import Loss
from sandbox.prior import Prior

Array = npt.NDArray[np.float64]

ELSEWHERE = "elsewhere"
DIVERGED = "diverged"
"""Where a particle is that is in no stratum's tube, and where one is that has run away."""

_NEWTON_STEPS = 30
_ON_STRATUM = 1e-9


@dataclass(frozen=True)
class Stratum:
    """A piece of W0: the points where every expression of `zero` vanishes.

    `along` is the position on it, an expression in the parameters; None for a point. The learning coefficient λ and
    its multiplicity m are those stated, if any.
    """

    name: str
    zero: tuple[Any, ...]
    along: Any = None
    learning_coefficient: Fraction | None = None
    multiplicity: int | None = None


@dataclass(frozen=True)
class ZeroSet:
    """The strata in the order in which points are given to them, most degenerate first, with the tube's radius."""

    parameters: tuple[str, ...]
    strata: tuple[Stratum, ...]
    tube: float

    @property
    def names(self) -> tuple[str, ...]:
        """Every label's name: the strata, then `elsewhere`."""
        return (*(stratum.name for stratum in self.strata), ELSEWHERE)

    def labels(self, points: Array, tube: float | None = None) -> npt.NDArray[np.int64]:
        """Return for each of the points (N, D) the first stratum within the tube, len(strata) for none: shape (N,)."""
        labels = np.full(len(points), len(self.strata))
        for k in reversed(range(len(self.strata))):
            labels[self.distance(points, k) < (self.tube if tube is None else tube)] = k
        return labels

    def distance(self, points: Array, k: int) -> Array:
        """Return the distance of points (N, D) to stratum k, shape (N,); inf where the descent onto it fails.

        Points that are not finite are infinitely far. Exact where the stratum is linear. Elsewhere it is the distance
        to the point that Gauss-Newton steps reach, which exceeds the true one by a term of second order in it.
        """
        with np.errstate(invalid="ignore", over="ignore"):
            moves = self.project(points, k) - points
            # Column by column: a norm along so short an axis takes five times as long.
            distance: Array = np.sqrt(sum(move * move for move in moves.T))
        return np.where(np.isnan(distance), np.inf, distance)

    def project(self, points: Array, k: int) -> Array:
        """Return the points of stratum k that Gauss-Newton steps from `points` (N, D) reach; inf where they fail."""
        result = points.copy()
        aligned = self._aligned[k]
        if aligned is not None:
            for axis, value in aligned.items():
                result[:, axis] = value
            return result
        with np.errstate(all="ignore"):
            return self._descend(result, k)

    def _descend(self, result: Array, k: int) -> Array:
        """Gauss-Newton steps in place; what is not on the stratum at their end is set to inf."""
        residual, jacobian = self._residuals[k]
        active = np.arange(len(result))
        for _ in range(_NEWTON_STEPS):
            values = np.stack(residual(*result[active].T), axis=1)
            slopes = np.stack(jacobian(*result[active].T), axis=1).reshape(len(active), -1, result.shape[1])
            finite = np.isfinite(slopes).all(axis=(1, 2)) & np.isfinite(values).all(axis=1)
            result[active[~finite]] = np.inf
            active, values, slopes = active[finite], values[finite], slopes[finite]
            move = np.einsum("nij,nj->ni", np.linalg.pinv(slopes), values)
            result[active] -= move
            still = np.linalg.norm(move, axis=1) <= _ON_STRATUM
            # A place without slope, like the centre of a circle, stands still without being a solution.
            reach = 2 * _ON_STRATUM * np.linalg.norm(slopes, axis=(1, 2))
            result[active[still & (np.linalg.norm(values, axis=1) > reach)]] = np.inf
            active = active[~still]
            if not len(active):
                return result
        result[active] = np.inf
        return result

    def along(self, points: Array, k: int) -> Array:
        """Return the position of points (N, D) along stratum k, shape (N,)."""
        position: Array = numpy_function(self._symbols, [self.strata[k].along])(*points.T)[0]
        return position

    def sample(self, prior: Prior, k: int, count: int) -> Array:
        """Return up to `count` points of stratum k inside the prior's window: prior quantiles sent onto it, (M, D)."""
        # A fixed lattice, so that the same scenario always shows the same points.
        points = self.project(prior.quantile(_lattice(count, len(self.parameters))), k)
        window = prior.window()
        inside = np.atleast_1d(np.isfinite(points).all(axis=1))
        inside[inside] &= ((points[inside] >= window[:, 0]) & (points[inside] <= window[:, 1])).all(axis=1)
        return points[inside]

    def cuts(self, tube: float | None = None) -> tuple[tuple[float, ...], ...]:
        """Return per parameter the edges of the tubes around strata `w = constant`: where labels jump."""
        radius = tube or self.tube
        edges: list[set[float]] = [set() for _ in self.parameters]
        for aligned in self._aligned:
            for axis, value in (aligned or {}).items():
                edges[axis] |= {value - radius, value + radius}
        return tuple(tuple(sorted(values)) for values in edges)

    def along_axis(self, k: int) -> int | None:
        """Return the parameter that is itself the position along stratum k, or None."""
        along = self.strata[k].along
        return self._symbols.index(along) if along in self._symbols else None

    def check(self, loss: Loss, prior: Prior) -> None:
        """Raise InputError, placed at (stratum, "zero"), for each stratum that is empty or where K is not zero.

        `loss` must be the population's, or a potential.
        """
        problems = []
        sizes = np.abs(loss.excess(prior.quantile(_lattice(512, len(self.parameters)))))
        # Where the loss is undefined, or zero on a whole region, it says nothing of its scale.
        scale = sizes[np.isfinite(sizes) & (sizes > 0)]
        typical = float(np.median(scale)) if scale.size else 0.0
        for k, stratum in enumerate(self.strata):
            points = self.sample(prior, k, 256)
            if not len(points):
                problems.append(InputError("no point of this stratum was found inside the prior's box"))
            else:
                excess = loss.excess(points)
                worst = int(np.argmax(np.where(np.isfinite(excess), np.abs(excess), np.inf)))
                if not abs(excess[worst]) <= 1e-9 * max(typical, 1e-12):
                    at = ", ".join(f"{n} = {v:.4g}" for n, v in zip(self.parameters, points[worst], strict=True))
                    problems.append(
                        InputError(
                            f"the loss is not zero on this stratum: K = {excess[worst]:.4g} at {at}; allowed are "
                            "expressions that all vanish only where the model equals the truth"
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
    def _residuals(self) -> list[tuple[Any, Any]]:
        return [
            (
                numpy_function(self._symbols, stratum.zero),
                numpy_function(self._symbols, [d for e in stratum.zero for d in gradient(e, self._symbols)]),
            )
            for stratum in self.strata
        ]

    @functools.cached_property
    def _aligned(self) -> list[dict[int, float] | None]:
        return [self._constants(stratum) for stratum in self.strata]

    def _constants(self, stratum: Stratum) -> dict[int, float] | None:
        """Return {axis: value} where the stratum says `w = constant` only, else None."""
        found: dict[int, float] = {}
        for expression in stratum.zero:
            free = list(expression.free_symbols)
            if len(free) != 1 or not sympy.diff(expression, free[0]).is_number:
                return None
            slope = sympy.diff(expression, free[0])
            axis, value = self._symbols.index(free[0]), float(-expression.xreplace({free[0]: sympy.Integer(0)}) / slope)
            if found.setdefault(axis, value) != value:
                return None
        return found


def _lattice(count: int, size: int) -> Array:
    """Return `count` points of the unit cube of a low-discrepancy (Kronecker) lattice, shape (count, size)."""
    steps = np.sqrt(np.array([2.0, 3.0, 5.0, 7.0, 11.0, 13.0, 17.0, 19.0])[:size])
    lattice: Array = (np.arange(1, count + 1)[:, None] * steps + 0.5) % 1.0
    return lattice
