"""Projection onto the solutions of equations by Gauss-Newton steps, for many points at once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy

from sandbox.expressions.calculus import gradient
from sandbox.expressions.evaluation import numpy_function
from sandbox.tools.arrays import Array

_STEPS = 30
_STILL = 1e-9
_FINE = 1e-3
"""A step this short, relative to the requested distance `within`, is the last."""
_STRAY = 10.0
"""A point is given up only this many times `within` from its start: near a singular point a step may overshoot."""
_CORRECTIONS = 2
"""The number of times that a point is moved along the solutions, towards the nearest one."""
_INDEPENDENT = 1e-10
"""The least determinant of the correlations of the equations' slopes for which the equations count as independent."""


@dataclass(frozen=True)
class Projection:
    """A map of each point to a point near it at which all of `equations` vanish."""

    symbols: tuple[Any, ...]
    equations: tuple[Any, ...]

    def __call__(self, points: Array, within: float = np.inf) -> Array:
        """Return the end points (N, D) of Gauss-Newton steps from `points` (N, D); inf for points whose steps fail.

        The result is the nearest solution if all equations are affine. Otherwise the end points are moved twice along
        the solutions, towards the nearest one. The distance to the result is never less than that to the solutions. It
        exceeds it if the solutions bend within it, most of all near a singular point; and from a point at which slopes
        lead to a farther branch, like the axis within a cusp. Points further away than `within` may be given up (inf):
        most points are far away, and finding their exact distances would be most of the work.
        """
        result = points.copy()
        if self.constants is not None:
            for axis, value in self.constants.items():
                result[:, axis] = value
            return result
        least = self._at_least(points)
        near = np.flatnonzero((least <= within) & (least < np.inf))
        result[:] = np.inf
        with np.errstate(all="ignore"):
            if self._is_flat:
                directions, offsets = self._flat
                result[near] = points[near] - (points[near] @ directions + offsets) @ directions.T
            else:
                self._descend(points[near].T, near, result, within)
                self._correct(points, near, result, within)
        return result

    @functools.cached_property
    def constants(self) -> dict[int, float] | None:
        """{axis: value} if every equation is `w = constant` and they do not contradict each other; else None."""
        found: dict[int, float] = {}
        for equation in self.equations:
            free = list(equation.free_symbols)
            # A sum of steps has constant slopes as well, but is not affine.
            if len(free) != 1 or not equation.is_polynomial(*free) or not sympy.diff(equation, free[0]).is_number:
                return None
            slope = sympy.diff(equation, free[0])
            axis, value = self.symbols.index(free[0]), float(-equation.xreplace({free[0]: sympy.Integer(0)}) / slope)
            if found.setdefault(axis, value) != value:
                return None
        return found

    @functools.cached_property
    def _slopes(self) -> list[tuple[Any, ...]]:
        """Each equation's gradient, D expressions."""
        return [gradient(equation, self.symbols) for equation in self.equations]

    @functools.cached_property
    def _evaluate(self) -> Callable[..., list[Array]]:
        """The equations' values, then their derivatives that are not constant, in the order of `_varying`."""
        return numpy_function(self.symbols, [*self.equations, *(self._slopes[k][axis] for k, axis in self._varying)])

    @functools.cached_property
    def _varying(self) -> list[tuple[int, int]]:
        """The pairs (equation, axis) whose derivatives are not constant."""
        return [(k, axis) for k, slope in enumerate(self._slopes) for axis, d in enumerate(slope) if not d.is_number]

    @functools.cached_property
    def _constant(self) -> Array:
        """The equations' constant derivatives, and 0 for those that vary, shape (equations, D, 1)."""
        slopes = [[float(d) if d.is_number else 0.0 for d in slope] for slope in self._slopes]
        return np.array(slopes).reshape(len(self.equations), len(self.symbols), 1)

    @functools.cached_property
    def _flat(self) -> tuple[Array, Array]:
        """Q (D, r) and q (r,): w Q + q are the coordinates of the shift from the solutions of all affine equations."""
        size = len(self.symbols)
        affine = [
            k
            for k, (equation, slope) in enumerate(zip(self.equations, self._slopes, strict=True))
            if equation.is_polynomial(*self.symbols) and all(d.is_number for d in slope)
        ]
        matrix = np.array([[float(d) for d in self._slopes[k]] for k in affine]).reshape(-1, size)
        at_zero = dict.fromkeys(self.symbols, sympy.S.Zero)
        offsets = np.array([float(self.equations[k].xreplace(at_zero)) for k in affine])
        left, sizes, right = np.linalg.svd(matrix, full_matrices=False)
        kept = sizes > _INDEPENDENT * sizes.max(initial=0.0)
        return right[kept].T, offsets @ (left[:, kept] / sizes[kept])

    @functools.cached_property
    def _is_flat(self) -> bool:
        """Whether all equations are affine and independent, so that they have solutions and one step reaches them."""
        return not self._varying and self._flat[0].shape[1] == len(self.equations)

    def _at_least(self, points: Array) -> Array:
        """Return a lower bound of points' (N, D) distances, shape (N,): that to the affine equations' solutions."""
        directions, offsets = self._flat
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray(np.sqrt(((points @ directions + offsets) ** 2).sum(axis=1)))

    def _descend(self, here: Array, active: npt.NDArray[np.int64], result: Array, within: float) -> None:
        """Take steps from `here` (D, N) and write their end points to the rows `active` (N,) of `result`."""
        still_at, start = _still(within), here
        for _ in range(_STEPS):
            if not len(active):
                return
            values, slopes = self._linearised(here)
            move, steepness = least_move(slopes, values)
            here = here - move
            length = _norm(move)
            still = length <= still_at
            # At a point without slope, like the centre of a circle, steps stop although it is not a solution.
            arrived = still & (_norm(values) <= 2 * still_at * steepness)
            result[active[arrived]] = here[:, arrived].T
            goes_on = ~still & (_norm(here - start) <= _STRAY * within)
            active, here, start = active[goes_on], here[:, goes_on], start[:, goes_on]

    def _correct(self, points: Array, active: npt.NDArray[np.int64], result: Array, within: float) -> None:
        """Replace the rows `active` of `result` (N, D) by solutions nearer to `points` (N, D), if any are found.

        The equations are linearised at the solution that was reached; the nearest solution of the linear ones is the
        start of new steps. Without this a point's steps end where its slopes lead, which is not the nearest place.
        """
        active = active[np.isfinite(result[active]).all(axis=1)]
        for _ in range(_CORRECTIONS):
            start, here = points[active].T, result[active].T
            values, slopes = self._linearised(here)
            away = start - here
            guess = start - least_move(slopes, values + np.einsum("mdn,dn->mn", slopes, away))[0]
            # A move of length t shortens a distance d by t^2 / 2 d; below a hundredth of the last step it is left out.
            moved = np.flatnonzero(_dot(guess - here, guess - here) > 0.02 * _still(within) * _norm(away))
            active, reached = active[moved], np.full((len(moved), len(points.T)), np.inf)
            if not len(active):
                return
            self._descend(guess[:, moved], np.arange(len(moved)), reached, within)
            nearer = _norm(reached.T - start[:, moved]) < _norm(away[:, moved])
            active = active[nearer]
            result[active] = reached[nearer]

    def _linearised(self, here: Array) -> tuple[Array, Array]:
        """Return the equations' values (M, N) and slopes (M, D, N) at `here` (D, N)."""
        found, size = self._evaluate(*here), len(self.equations)
        slopes = np.repeat(self._constant, here.shape[1], axis=2)
        for (k, axis), derivative in zip(self._varying, found[size:], strict=True):
            slopes[k, axis] = derivative
        return np.stack(found[:size]), slopes


def least_move(slopes: Array, values: Array) -> tuple[Array, Array]:
    """Return the shortest v (D, N) with slopes (M, D, N) v = values (M, N), or the least-squares v if there is none.

    Also return the slopes' Frobenius norm, shape (N,). The method is Gram and Schmidt's: each equation adds its
    remaining error to v, along the part of its slope that is new. Input that is not finite gives nan.
    """
    move, steepness, independence = np.zeros(slopes.shape[1:]), np.zeros(slopes.shape[2]), np.ones(slopes.shape[2])
    basis: list[Array] = []
    for slope, value in zip(slopes, values, strict=True):
        new = slope
        for direction in basis:
            new = new - direction * _dot(direction, new)
        square, whole = _dot(new, new), _dot(slope, slope)
        move += new * ((value - _dot(slope, move)) / square)
        basis.append(new / np.sqrt(square))
        steepness += whole
        # The product is the determinant of the slopes' correlations.
        independence *= square / whole
    dependent = np.flatnonzero(~(independence > _INDEPENDENT) & np.isfinite(steepness))
    if len(dependent):
        # Use the pseudoinverse, which takes ten times as long, only for dependent equations.
        inverse = np.linalg.pinv(slopes[:, :, dependent].transpose(2, 0, 1))
        move[:, dependent] = np.einsum("ndm,mn->dn", inverse, values[:, dependent])
    return move, np.sqrt(steepness)


def _still(within: float) -> float:
    """Return the length of the last step.

    Steps shrink quadratically: after one of length 1e-3 times `within`, the next is a millionth of `within`.
    """
    return max(_STILL, _FINE * min(within, 0.1)) if np.isfinite(within) else _STILL


def _dot(a: Array, b: Array) -> Array:
    return np.asarray((a * b).sum(axis=0))


def _norm(a: Array) -> Array:
    return np.sqrt(_dot(a, a))
