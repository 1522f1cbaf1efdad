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
        by a term of second order in it. Points that stray much further than `within` are given up: most are far
        away, and to find out by how much is most of the work.
        """
        result = points.copy()
        if self.constants is not None:
            for axis, value in self.constants.items():
                result[:, axis] = value
            return result
        with np.errstate(all="ignore"):
            return self._descend(result, within)

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
    def _values(self) -> Callable[..., list[Array]]:
        return numpy_function(self.symbols, self.equations)

    @functools.cached_property
    def _slopes(self) -> Callable[..., list[Array]]:
        return numpy_function(self.symbols, [d for e in self.equations for d in gradient(e, self.symbols)])

    def _descend(self, result: Array, within: float) -> Array:
        """Take the steps in place; what is not on the solutions at their end, or strays, is set to inf."""
        # Steps shrink to their square: after one this short the next would be a millionth of what was asked for.
        still_at = max(_STILL, _FINE * min(within, 0.1)) if np.isfinite(within) else _STILL
        active, start = np.arange(len(result)), result.copy()
        for _ in range(_STEPS if len(result) else 0):
            values = np.stack(self._values(*result[active].T), axis=1)
            slopes = np.stack(self._slopes(*result[active].T), axis=1).reshape(len(active), len(self.equations), -1)
            finite = np.isfinite(slopes).all(axis=(1, 2)) & np.isfinite(values).all(axis=1)
            result[active[~finite]] = np.inf
            active, values, slopes = active[finite], values[finite], slopes[finite]
            move = least_move(slopes, values)
            result[active] -= move
            still = np.linalg.norm(move, axis=1) <= still_at
            # A place without slope, like the centre of a circle, stands still without being a solution.
            reach = 2 * still_at * np.linalg.norm(slopes, axis=(1, 2))
            strays = np.linalg.norm(result[active] - start[active], axis=1) > _STRAY * within
            result[active[strays | (still & (np.linalg.norm(values, axis=1) > reach))]] = np.inf
            active = active[~still & ~strays]
            if not len(active):
                return result
        result[active] = np.inf
        return result


def least_move(slopes: Array, values: Array) -> Array:
    """Return the shortest v (N, D) with slopes (N, M, D) v = values (N, M), in least squares where there is none."""
    if slopes.shape[1] == 1:
        squares = (slopes[:, 0] ** 2).sum(axis=1)
        scaled = np.where(squares > 0, values[:, 0] / squares, 0.0)
        shortest: Array = slopes[:, 0] * scaled[:, None]
        return shortest
    sizes = np.linalg.norm(slopes, axis=2)
    unit = slopes / sizes[:, :, None]
    correlations = np.einsum("nij,nkj->nik", unit, unit)
    # Solving is ten times as fast as the pseudoinverse, which only dependent equations need.
    simple = np.linalg.det(correlations) > _INDEPENDENT
    move = np.empty((len(slopes), slopes.shape[2]))
    weights = np.linalg.solve(correlations[simple], (values / sizes)[simple][:, :, None])[:, :, 0]
    move[simple] = np.einsum("nij,ni->nj", unit[simple], weights)
    move[~simple] = np.einsum("nij,nj->ni", np.linalg.pinv(slopes[~simple]), values[~simple])
    return move
