"""The points of a box in the plane that decide the global (λ, m) of K.

Let q_k be the product of the factors that K contains k times, and q that of all q_k. If q is regular at a point of q_k
= 0 inside the box and off the axes with a prior exponent, λ = 1/k and m = 1 there. Only a few other zeros matter:
- the singular points of q, isolated zeros among them;
- the points at which an edge of the box or an axis with an exponent touches q, where q on that line has a multiple root
  (a simple root is a transversal crossing, and regular points lie beside it);
- the crossings of two of those lines.
A connected component of q = 0 meets an edge, or is a singular point, or has a leftmost and a rightmost point inside the
box. So these points, with one line x = a between any two neighbouring roots of the discriminant, miss no component
(this is the idea of a cylindrical decomposition, Collins 1975).
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import isqrt
from typing import Any

import sympy

from sandbox.learning_coefficient.plane.blow_up import Chart, Factor, Pole, Quadrants, local_chart, poles
from sandbox.learning_coefficient.plane.curve import (
    Place,
    PlaneCurve,
    PlanePoint,
    places,
    points_over,
    restricted,
    zeros_between,
)
from sandbox.learning_coefficient.plane.real_field import LARGEST_DEGREE, RATIONALS, Interval, RealRoot, count
from sandbox.learning_coefficient.plane.terms import shifted

MOST_TERMS = 12
"""The most terms of the factors of K that an explanation repeats."""

Powers = list[tuple[sympy.Poly, int]]
Pair = tuple[Fraction, Fraction]
Box = tuple[Interval, Interval]


def chart_at(factors: Powers, point: PlanePoint, exponents: Pair, quadrants: Quadrants) -> Chart | None:
    """Return the chart around a point; None if K is not zero there. An exponent counts on its axis only."""
    field = point.field
    moved = []
    for polynomial, power in factors:
        terms = {at: field.of(c) for at, c in polynomial.terms()}
        moved.append(Factor(shifted(field, terms, (point.x, point.y)), power))
    here = [Fraction(0) if at else h for at, h in zip((point.x, point.y), exponents, strict=True)]
    x, y = factors[0][0].gens if factors else ("x", "y")
    chart = local_chart(field, moved, (here[0], here[1]), quadrants, (str(x), str(y)))
    return chart if chart.factors or any(axis.order for axis in chart.axes) else None


def poles_in_box(factors: Powers, box: Box, exponents: Pair) -> list[Pole]:
    """Return candidates for the global (λ, m) over a box, the true one among them; empty if K has no zero."""
    found = [_regular(q, power) for q, power in factors if _crosses_a_line(q, box, exponents)]
    for point in _points_on_lines(factors, box, exponents):
        found += _poles_at(factors, point, box, exponents)
    curves = [PlaneCurve(q) for q, _ in factors]
    for (q, power), curve in zip(factors, curves, strict=True):
        if (Fraction(1, power), -1) < _best(found) and _crosses_a_sample(curve, box, exponents):
            found.append(_regular(q, power))
    powers = [power for _, power in factors]
    for place in sorted(places(curves), key=lambda place: int(place.polynomial.degree())):
        if min(exponents) < 0 or _least(place, powers) < _best(found):
            for point in points_over(place, curves, box):
                found += _poles_at(factors, point, box, exponents)
    return found


def _best(found: list[Pole]) -> tuple[Fraction, int]:
    """Return (λ, -m) of the best candidate so far."""
    beyond = (Fraction(10**6), 0)
    return min(((pole.ratio, -pole.order) for pole in found if pole.order is not None), default=beyond)


def _least(place: Place, powers: list[int]) -> tuple[Fraction, int]:
    """Return a lower bound of (λ, -m) at the points over a place, for prior exponents that are not negative.

    A node of one curve has (1/k, 2) at best; a node of two has λ = 1 / (larger power of its branches) and m = 1. In
    general λ >= 1 / (n k) with n the multiplicity of the point on all curves together, and (n - 1)^2 <= μ <= total.
    """
    sources = list(place.sources)
    if place.total == 2 and len(sources) == 1:
        return Fraction(1, max(powers[k] for k in sources[0])), -2 if len(sources[0]) == 1 else -1
    return Fraction(1, (1 + isqrt(place.total)) * max(powers)), -2


def _regular(q: sympy.Poly, power: int) -> Pole:
    curve = f"{q.as_expr()} = 0" if len(q.monoms()) <= MOST_TERMS else "a factor"
    return Pole(Fraction(1, power), 1, (f"a regular point of {curve} in the box: ν = 1, N = {power}",))


def _lines(box: Box, exponents: Pair) -> list[tuple[int, Fraction]]:
    """Return the edges of the box and the axes with an exponent, each as (coordinate, its value)."""
    found = []
    for axis, (low, high) in enumerate(box):
        axes = {Fraction(0)} if exponents[axis] != 0 and low <= 0 <= high else set()
        found += [(axis, value) for value in sorted({low, high} | axes)]
    return found


def _points_on_lines(factors: Powers, box: Box, exponents: Pair) -> Iterator[PlanePoint | None]:
    """Yield the points at which a line touches K = 0 and the crossings of two lines; None as `real_roots`."""
    for axis, value in _lines(box, exponents):
        here = RATIONALS.of(value)
        for q, _ in factors:
            row = _beside(q, axis, value)
            for root in zeros_between(RATIONALS, row.gcd(row.diff()), box[1 - axis]):
                yield None if root is None else _on_line(root, axis, root.embed(here))
    lines = _lines(box, exponents)
    for a, b in ((a, b) for one, a in lines for other, b in lines if (one, other) == (0, 1)):
        yield PlanePoint(RATIONALS, RATIONALS.of(a), RATIONALS.of(b))


def _on_line(root: RealRoot, axis: int, value: Any) -> PlanePoint:
    return PlanePoint(root.field, value, root.value) if axis == 0 else PlanePoint(root.field, root.value, value)


def _poles_at(factors: Powers, point: PlanePoint | None, box: Box, exponents: Pair) -> Iterator[Pole]:
    if point is None:
        # λ >= 1 / (multiplicity of K) without a prior exponent; a positive exponent only raises λ.
        total = sum(power * q.total_degree() for q, power in factors)
        least = Fraction(1, total) if min(exponents) >= 0 else Fraction(0)
        yield Pole(least, None, (f"a zero of K with coordinates of a degree over Q beyond {LARGEST_DEGREE}",))
        return
    place = ", ".join(point.field.told(value) for value in (point.x, point.y))
    chart = chart_at(factors, point, exponents, _quadrants(point, box))
    for pole in () if chart is None else poles(chart):
        yield Pole(pole.ratio, pole.order, (f"with ({place}) as the origin", *pole.words))


def _quadrants(point: PlanePoint, box: Box) -> Quadrants:
    """Return the directions from a point of the box that lead into it."""
    signs = []
    for value, (low, high) in zip((point.x, point.y), box, strict=True):
        onto = {-1: low, 1: high}
        signs.append([s for s, end in onto.items() if point.field.sign(value - point.field.of(end))])
    return frozenset((u, v) for u in signs[0] for v in signs[1])


def _beside(q: sympy.Poly, axis: int, value: Fraction) -> Any:
    """Return q on a line as a polynomial in one unknown; if q contains the line, the line is divided out first."""
    line = sympy.Poly(value.denominator * q.gens[axis] - value.numerator, *q.gens, domain=sympy.ZZ)
    if q.rem(line).is_zero:
        q = q.quo(line)
    return restricted(RATIONALS, q, axis, RATIONALS.of(value))


def _crosses_a_line(q: sympy.Poly, box: Box, exponents: Pair) -> bool:
    """Return whether q crosses an edge or an axis with an exponent, so that regular points lie beside it."""
    return any(
        _has_simple_zero(_beside(q, axis, value), box[1 - axis], exponents[1 - axis])
        for axis, value in _lines(box, exponents)
    )


def _crosses_a_sample(curve: PlaneCurve, box: Box, exponents: Pair) -> bool:
    rows = (_beside(curve.polynomial, 0, a) for a in curve.sample_lines(box[0]))
    return any(_has_simple_zero(row, box[1], exponents[1]) for row in rows)


def _has_simple_zero(row: Any, bounds: Interval, exponent: Fraction) -> bool:
    """Return whether a polynomial has a simple root inside the bounds; with an exponent, 0 does not count."""
    simple = [factor for factor, times in row.sqf_list()[1] if times == 1]
    if exponent != 0:
        axis = RATIONALS.poly([RATIONALS.domain.zero, RATIONALS.domain.one])
        simple = [factor if factor.rem(axis) else factor.quo(axis) for factor in simple]
    return any(count(RATIONALS, factor, *bounds) > 0 for factor in simple)
