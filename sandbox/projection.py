"""Onto the solutions of equations by Gauss-Newton steps, many points at once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy

from sandbox.expression import gradient, numpy_function

Array = npt.NDArray[np.float64]

_STEPS = 30
_STILL = 1e-9
_FINE = 1e-3
"""A step this short, relative to the distance that is asked for, is the last."""
_STRAY = 10.0
"""Near a singular point a step may overshoot: points are given up this many times further away than asked for."""
_INDEPENDENT = 1e-10
"""Least determinant of the correlations of the equations' slopes that counts as independent equations."""


@dataclass(frozen=True)
class Projection:
    """The map of points to the place, near each, where all of `equations` vanish."""

    symbols: tuple[Any, ...]
    equations: tuple[Any, ...]

    def __call__(self, points: Array, within: float = np.inf) -> Array:
        """Return where Gauss-Newton steps from `points` (N, D) come to rest, shape (N, D); inf where they fail.

        Exact where every equation says `w = constant`. Elsewhere the way there exceeds the distance to the solutions
        by a term of second order in it. Points further away than `within` may be given up: most are far away, and to
        find out by how much is most of the work.
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
        return result

    @functools.cached_property
    def constants(self) -> dict[int, float] | None:
        """{axis: value} where the equations say `w = constant` only, without contradiction; else None."""
        found: dict[int, float] = {}
        for equation in self.equations:
            free = list(equation.free_symbols)
            if len(free) != 1 or not sympy.diff(equation, free[0]).is_number:
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
        """The equations' values, then those of their derivatives that are no constants, in the order of `_varying`."""
        return numpy_function(self.symbols, [*self.equations, *(self._slopes[k][axis] for k, axis in self._varying)])

    @functools.cached_property
    def _varying(self) -> list[tuple[int, int]]:
        """(equation, axis) of the derivatives that are no constants."""
        return [(k, axis) for k, slope in enumerate(self._slopes) for axis, d in enumerate(slope) if not d.is_number]

    @functools.cached_property
    def _constant(self) -> Array:
        """The equations' derivatives, 0 where they vary, shape (equations, D, 1)."""
        slopes = [[float(d) if d.is_number else 0.0 for d in slope] for slope in self._slopes]
        return np.array(slopes).reshape(len(self.equations), len(self.symbols), 1)

    @functools.cached_property
    def _flat(self) -> tuple[Array, Array]:
        """Q (D, r) and q (r,): the way to where all affine equations hold has the coordinates w Q + q."""
        size = len(self.symbols)
        affine = [k for k, slope in enumerate(self._slopes) if all(d.is_number for d in slope)]
        matrix = np.array([[float(d) for d in self._slopes[k]] for k in affine]).reshape(-1, size)
        at_zero = dict.fromkeys(self.symbols, sympy.S.Zero)
        offsets = np.array([float(self.equations[k].xreplace(at_zero)) for k in affine])
        left, sizes, right = np.linalg.svd(matrix, full_matrices=False)
        kept = sizes > _INDEPENDENT * sizes.max(initial=0.0)
        return right[kept].T, offsets @ (left[:, kept] / sizes[kept])

    @functools.cached_property
    def _is_flat(self) -> bool:
        """Whether all equations are affine, independent, and so without contradiction: then one step leads there."""
        return not self._varying and self._flat[0].shape[1] == len(self.equations)

    def _at_least(self, points: Array) -> Array:
        """Return how far points (N, D) are at least, shape (N,): as far as from where the affine equations hold."""
        directions, offsets = self._flat
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray(np.sqrt(((points @ directions + offsets) ** 2).sum(axis=1)))

    def _descend(self, here: Array, active: npt.NDArray[np.int64], result: Array, within: float) -> None:
        """Take steps from `here` (D, N); where they come to rest goes to the rows `active` (N,) of `result`."""
        # Steps shrink to their square: after one this short the next would be a millionth of what was asked for.
        still_at = max(_STILL, _FINE * min(within, 0.1)) if np.isfinite(within) else _STILL
        size, start = len(self.equations), here
        for _ in range(_STEPS):
            if not len(active):
                return
            found = self._evaluate(*here)
            values, slopes = np.stack(found[:size]), np.repeat(self._constant, here.shape[1], axis=2)
            for (k, axis), derivative in zip(self._varying, found[size:], strict=True):
                slopes[k, axis] = derivative
            move, steepness = least_move(slopes, values)
            here = here - move
            length = _norm(move)
            still = length <= still_at
            # A place without slope, like the centre of a circle, stands still without being a solution.
            arrived = still & (_norm(values) <= 2 * still_at * steepness)
            result[active[arrived]] = here[:, arrived].T
            goes_on = ~still & (_norm(here - start) <= _STRAY * within)
            active, here, start = active[goes_on], here[:, goes_on], start[:, goes_on]


def least_move(slopes: Array, values: Array) -> tuple[Array, Array]:
    """Return the shortest v (D, N) with slopes (M, D, N) v = values (M, N), in least squares where there is none.

    Also the slopes' Frobenius norm, shape (N,). By Gram and Schmidt's method, in which each equation adds to v what it
    still lacks along the part of its slope that is new. What is not finite gives nan.
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
        # Only dependent equations need the pseudoinverse, which takes ten times as long.
        inverse = np.linalg.pinv(slopes[:, :, dependent].transpose(2, 0, 1))
        move[:, dependent] = np.einsum("ndm,mn->dn", inverse, values[:, dependent])
    return move, np.sqrt(steepness)


def _dot(a: Array, b: Array) -> Array:
    return np.asarray((a * b).sum(axis=0))


def _norm(a: Array) -> Array:
    return np.sqrt(_dot(a, a))
