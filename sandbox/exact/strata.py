"""λ and m of the strata of W0: at a generic point, and at the most singular one.

At a generic point two theorems answer at floating-point places (`normal_crossing`); else, and at the special places
where strata meet, points with rational coordinates are found on the stratum and `local` answers there, exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy

from sandbox.errors import InputError
from sandbox.exact import ideal, local, plane
from sandbox.exact.coefficient import LearningCoefficient
from sandbox.exact.model import squares_of
from sandbox.exact.normal_crossing import at_point, codimension
from sandbox.expression import symbol
from sandbox.loss import Loss
from sandbox.prior import Prior
from sandbox.zero_set import Stratum, ZeroSet

Array = npt.NDArray[np.float64]
Point = tuple[Fraction, ...]

_GENERIC = 5
"""Points that must agree before a stratum is said to have one λ."""
_NEAR = 1e-6
_CLOSE = 0.1
"""A solution further away than this belongs to another piece of W0."""
_DENOMINATOR = 64
"""Free coordinates of a rational point are multiples of 1 / this."""


@dataclass(frozen=True)
class StratumTheory:
    """What is known of a stratum: its dimension, λ and m at a generic point, and at its most singular point."""

    dimension: int | None
    generic: LearningCoefficient | None
    deepest: LearningCoefficient | None
    deepest_point: Point | None


def theory_of(loss: Loss, prior: Prior, zero_set: ZeroSet, k: int) -> StratumTheory:
    """Return dimension and coefficients of stratum k; `loss` is the population's or a potential."""
    generic = of_stratum(loss, prior, zero_set, k)
    sizes = [codimension(zero_set, k, point) for point in generic_points(prior, zero_set, k)]
    known = {size for size in sizes if size is not None}
    dimension = len(prior.names) - known.pop() if len(known) == 1 and None not in sizes else None
    found = [(point, at_rational(loss, point)) for point in special_points(prior, zero_set, k)]
    exact = [(c.rank, point, c) for point, c in found if c is not None and c.is_exact]
    _, point, deepest = min(exact, key=lambda row: row[0]) if exact else (None, None, None)
    if deepest is None or (generic is not None and generic.rank <= deepest.rank):
        return StratumTheory(dimension, generic, generic, None)
    return StratumTheory(dimension, generic, deepest, point)


def of_stratum(loss: Loss, prior: Prior, zero_set: ZeroSet, k: int) -> LearningCoefficient | None:
    """Return λ and m at a generic point of stratum k; None where no theorem applies or the points tried differ."""
    points = generic_points(prior, zero_set, k)
    found: list[LearningCoefficient | None] = [at_point(loss, p, codimension(zero_set, k, p)) for p in points]
    if not found or None in found:
        rational = [p for point in points if (p := rational_point(zero_set.strata[k], zero_set.parameters, point))]
        found = [at_rational(loss, p) for p in dict.fromkeys(rational)]
    exact = [c for c in found if c is not None and c.is_exact]
    if not exact or len(exact) < len(found) or any(c.rank != exact[0].rank for c in exact):
        return None
    return exact[0]


def at_rational(loss: Loss, point: Point) -> LearningCoefficient | None:
    """Return λ and m of K at a point of W0 with rational coordinates; None where K is not understood there."""
    try:
        if not loss.data_symbols:
            return local.at(loss.sample_loss, loss.symbols, point)
        squares = squares_of(loss)
        if squares is None:
            return None
        move = {w: w + sympy.Rational(c.numerator, c.denominator) for w, c in zip(loss.symbols, point, strict=True)}
        moved = [sympy.expand(g.xreplace(move)) for g in squares.generators]
        if not all(g.is_polynomial(*loss.symbols) for g in moved):
            return None
        if len(loss.symbols) == 2:
            total = sum(g**2 for g in moved)
            found = plane.at_origin(sympy.Poly(total, *loss.symbols, domain="QQ"))
        else:
            found = ideal.of_ideal(moved, loss.symbols)
    except InputError:
        return None
    return replace(found, explanation=f"{squares.note}; {found.explanation}") if squares.note else found


def special_points(prior: Prior, zero_set: ZeroSet, k: int) -> Iterator[Point]:
    """Yield rational points of stratum k's closure where other strata meet it."""
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
    """Return a point with rational coordinates on a stratum, close to one in floating point; None where none is found.

    Coordinates are rounded one after the other, the most of them freely, and the others solved for.
    """
    symbols = [symbol(name) for name in parameters]
    rounded = [sympy.Rational(round(float(c) * _DENOMINATOR), _DENOMINATOR) for c in near]
    solved = _solve(list(stratum.zero), symbols, rounded, near)
    if solved is None:
        return None
    return tuple(Fraction(int(c.p), int(c.q)) for c in solved)


def _solve(equations: list[Any], symbols: Sequence[Any], rounded: Sequence[Any], near: Array) -> list[Any] | None:
    """Satisfy the equations one by one, each by the coordinate that it determines rationally."""
    values: dict[Any, Any] = {}
    for position, equation in enumerate(equations):
        now = equation.xreplace(values)
        if now.is_number:
            if now != 0:
                return None
            continue
        # A coordinate that later equations do not hold is free for this one.
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
    chosen: Array = points[zero_set.labels(points, _NEAR) == k][:_GENERIC]
    return chosen


def whole(loss: Loss, prior: Prior, zero_set: ZeroSet) -> LearningCoefficient | None:
    """Return λ and m of all of W0: those of its most singular point. None where a stratum's are not known."""
    found = [theory_of(loss, prior, zero_set, k).deepest for k in range(len(zero_set.strata))]
    known = [c for c in found if c is not None]
    return min(known, key=lambda c: c.rank) if known and len(known) == len(found) else None
