"""λ and m of the strata of W0: at a generic point, and at the most singular one.

At a generic point two theorems apply at floating-point coordinates (`normal_crossing`). Otherwise, and at the special
points where strata meet, `local`, `ideal` and `plane` give exact values at rational points found on the stratum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import sympy

from sandbox.expressions.parsing import symbol
from sandbox.learning_coefficient import at_point
from sandbox.learning_coefficient.axes import by_axes
from sandbox.learning_coefficient.coefficient import LearningCoefficient
from sandbox.learning_coefficient.ideal_of_loss import squares_of
from sandbox.learning_coefficient.ideals import of_ideal
from sandbox.learning_coefficient.ideals.polynomials import is_polynomial
from sandbox.learning_coefficient.normal_crossing import by_normal_crossing, codimension
from sandbox.learning_coefficient.plane import of_polynomial
from sandbox.model.loss import Loss
from sandbox.model.prior import Prior
from sandbox.model.strata import Stratum, ZeroSet
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError

Point = tuple[Fraction, ...]

_GENERIC = 5
"""The number of points that must agree before a stratum is said to have one λ."""
_NEAR = 1e-6
_CLOSE = 0.1
"""A solution further away than this lies on another part of W0."""
_DENOMINATOR = 64
"""The free coordinates of a rational point are multiples of 1 / this number."""


@dataclass(frozen=True)
class StratumTheory:
    """Known facts about a stratum: its dimension, and λ and m at a generic and at its most singular point."""

    dimension: int | None
    generic: LearningCoefficient | None
    deepest: LearningCoefficient | None
    deepest_point: Point | None


def theory_of(loss: Loss, prior: Prior, zero_set: ZeroSet, k: int) -> StratumTheory:
    """Return the dimension and coefficients of stratum k; `loss` is the population's or a potential."""
    generic = of_stratum(loss, prior, zero_set, k)
    sizes = [codimension(zero_set, k, point) for point in generic_points(prior, zero_set, k)]
    known = {size for size in sizes if size is not None}
    dimension = len(prior.names) - known.pop() if len(known) == 1 and None not in sizes else None
    found = [(point, at_rational(loss, point, prior)) for point in special_points(prior, zero_set, k)]
    exact = [(c.rank, point, c) for point, c in found if c is not None and c.is_exact]
    _, point, deepest = min(exact, key=lambda row: row[0]) if exact else (None, None, None)
    if deepest is None or (generic is not None and generic.rank <= deepest.rank):
        return StratumTheory(dimension, generic, generic, None)
    return StratumTheory(dimension, generic, deepest, point)


def of_stratum(loss: Loss, prior: Prior, zero_set: ZeroSet, k: int) -> LearningCoefficient | None:
    """Return λ and m at a generic point of stratum k; None if no theorem applies or the points tried differ."""
    points = generic_points(prior, zero_set, k)
    inside = [point for point in points if not _on_wall(prior, point)]
    found: list[LearningCoefficient | None] = [by_normal_crossing(loss, p, codimension(zero_set, k, p)) for p in inside]
    if not found or None in found:
        near = [
            p for point in inside or points if (p := rational_point(zero_set.strata[k], zero_set.parameters, point))
        ]
        found = [at_rational(loss, p, prior) for p in dict.fromkeys(near)]
    exact = [c for c in found if c is not None and c.is_exact]
    if not exact or len(exact) < len(found) or any(c.rank != exact[0].rank for c in exact):
        return None
    return exact[0]


def at_rational(loss: Loss, point: Point, prior: Prior | None = None) -> LearningCoefficient | None:
    """Return λ and m of K at a point of W0 with rational coordinates; None if no method applies there.

    A wall of the prior's box cuts off a part of the neighbourhood: there only `by_axes` holds.
    """
    walled = prior is not None and _on_wall(prior, np.array([float(c) for c in point]))
    try:
        if not loss.data_symbols and not walled:
            return at_point.at(loss.sample_loss, loss.symbols, point)
        crossing = by_axes(loss, point)
        if crossing is not None or walled:
            return crossing
        squares = squares_of(loss)
        if squares is None:
            return None
        move = {w: w + sympy.Rational(c) for w, c in zip(loss.symbols, point, strict=True)}
        moved = [sympy.expand(g.xreplace(move)) for g in squares.generators]
        if not all(is_polynomial(g, loss.symbols) for g in moved):
            return None
        if len(loss.symbols) == 2:
            total = sum(g**2 for g in moved)
            found = of_polynomial.at_origin(sympy.Poly(total, *loss.symbols, domain="QQ"))
        else:
            found = of_ideal.of_ideal(moved, loss.symbols)
    except InputError:
        return None
    return replace(found, explanation=f"{squares.note}; {found.explanation}") if squares.note else found


def _on_wall(prior: Prior, point: Array) -> bool:
    """Return whether a point (D,) lies on a wall of the prior's box, up to rounding errors."""
    return bool((np.abs(prior.bounds.T - point) <= _NEAR * prior.scale).any())


def special_points(prior: Prior, zero_set: ZeroSet, k: int) -> Iterator[Point]:
    """Yield rational points of stratum k's closure at which other strata meet it."""
    seen = set()
    bounds = prior.bounds
    for j, other in enumerate(zero_set.strata):
        if j == k:
            continue
        both = Stratum("both", (*zero_set.strata[k].zero, *other.zero))
        meeting = ZeroSet(zero_set.parameters, (both,), zero_set.tube)
        for place in meeting.sample(prior, 0, 16)[:4]:
            point = rational_point(both, zero_set.parameters, place)
            inside = point is not None and all(lo <= c <= hi for c, (lo, hi) in zip(point, bounds, strict=True))
            if point is not None and inside and point not in seen:
                seen.add(point)
                yield point


def rational_point(stratum: Stratum, parameters: Sequence[str], near: Array) -> Point | None:
    """Return a point with rational coordinates on a stratum, close to a floating-point one (D,); None if none is found.

    Coordinates are rounded one after the other: as many as possible are free, and the others are solved for.
    """
    symbols = [symbol(name) for name in parameters]
    rounded = [sympy.Rational(round(float(c) * _DENOMINATOR), _DENOMINATOR) for c in near]
    solved = _solve(list(stratum.zero), symbols, rounded, near)
    if solved is None:
        return None
    return tuple(Fraction(int(c.p), int(c.q)) for c in solved)


def _solve(equations: list[Any], symbols: Sequence[Any], rounded: Sequence[Any], near: Array) -> list[Any] | None:
    """Return coordinates that satisfy the equations, each solved for one coordinate with a rational root, else None."""
    values: dict[Any, Any] = {}
    for position, equation in enumerate(equations):
        now = equation.xreplace(values)
        if now.is_number:
            if now != 0:
                return None
            continue
        # A coordinate that occurs in no later equation is tried first: it affects this equation only.
        later = set().union(*(e.xreplace(values).free_symbols for e in equations[position + 1 :]))
        for w in sorted(now.free_symbols, key=lambda w: (w in later, symbols.index(w))):
            others = {v: rounded[symbols.index(v)] for v in now.free_symbols - {w}}
            fixed = now.xreplace(others)
            if not fixed.is_polynomial(w) or not fixed.has(w):
                continue
            place = float(near[symbols.index(w)])
            roots = sorted(sympy.roots(sympy.Poly(fixed, w), filter="Q"), key=lambda r: abs(float(r) - place))
            if roots and abs(float(roots[0]) - place) < _CLOSE:
                values |= {**others, w: roots[0]}
                break
        else:
            return None
    return [values.get(w, c) for w, c in zip(symbols, rounded, strict=True)]


def generic_points(prior: Prior, zero_set: ZeroSet, k: int) -> Array:
    """Return a few points of stratum k that belong to no stratum before it, shape (M, D)."""
    points = zero_set.sample(prior, k, 64)
    chosen: Array = points[zero_set.strata_of(points, _NEAR) == k][:_GENERIC]
    return chosen


def whole(loss: Loss, prior: Prior, zero_set: ZeroSet) -> LearningCoefficient | None:
    """Return λ and m of all of W0: those of its most singular point. None if those of a stratum are not known."""
    found = [theory_of(loss, prior, zero_set, k).deepest for k in range(len(zero_set.strata))]
    known = [c for c in found if c is not None]
    return min(known, key=lambda c: c.rank) if known and len(known) == len(found) else None
