"""Algebra of plane curves over Q: factors by multiplicity, restrictions to lines, singular points, sample lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, reduce
from itertools import pairwise
from typing import Any

import sympy

from sandbox.learning_coefficient.plane.real_field import (
    RATIONALS,
    Interval,
    RealField,
    RealRoot,
    as_fraction,
    real_roots,
)


@dataclass(frozen=True)
class PlanePoint:
    """A real point of the plane: two elements of one field."""

    field: RealField
    x: Any
    y: Any


def squarefree_factors(K: sympy.Poly) -> list[tuple[sympy.Poly, int]]:
    """Return squarefree polynomials without common factors and their powers in K, constants left out.

    The greatest common divisor of K and its two derivatives holds every factor once less than K does (Musser 1971).
    """
    x, y = K.gens
    K = K if K.domain.is_Algebraic else K.clear_denoms(convert=True)[1]
    rest = K.gcd(K.diff(x)).gcd(K.diff(y))
    once, found, power = K.quo(rest), [], 1
    while once.total_degree() > 0:
        more = rest.gcd(once)
        exactly = once.quo(more)
        if exactly.total_degree() > 0:
            found.append((exactly.primitive()[1], power))
        rest, once, power = rest.quo(more), more, power + 1
    return found


def restricted(field: RealField, polynomial: sympy.Poly, axis: int, value: Any) -> Any:
    """Return the polynomial in the other coordinate on the line where coordinate `axis` is a value of the field."""
    tops = [max(at[j] for at in polynomial.monoms()) for j in (axis, 1 - axis)]
    row = [field.domain.zero] * (tops[1] + 1)
    powers = [field.domain.one]
    for _ in range(tops[0]):
        powers.append(powers[-1] * value)
    for at, c in polynomial.terms():
        row[at[1 - axis]] += powers[at[axis]] * field.of(c)
    return field.poly(row)


def zeros_between(field: RealField, polynomial: Any, bounds: Interval) -> Iterator[RealRoot | None]:
    """Yield the real roots of a polynomial over the field in the closed interval; None as in `real_roots`."""
    for end in bounds:
        line = field.poly([field.of(-end), field.domain.one])
        if not polynomial.rem(line):
            yield from real_roots(field, line)
    yield from real_roots(field, polynomial, *bounds)


class PlaneCurve:
    """The real zeros of a squarefree polynomial in two generators x and y, with the algebra that finds its points."""

    def __init__(self, polynomial: sympy.Poly):
        self.polynomial = polynomial

    def sample_lines(self, bounds: Interval) -> Iterator[Fraction]:
        """Yield numbers a inside the bounds such that some line x = a meets every oval that lies strictly in between.

        An oval has a multiple root in y at its leftmost and rightmost points, so one number is needed between any two
        neighbouring roots of the discriminant.
        """
        low, high = bounds
        yield (low + high) / 2
        roots = _separated(self.discriminant.sqf_part())
        for (_, left), (right, _) in pairwise(roots):
            if low < (left + right) / 2 < high:
                yield (left + right) / 2

    @cached_property
    def split(self) -> tuple[Any, sympy.Poly]:
        """The largest factor that depends on x alone, with lines x = a as zeros, and the remaining factor."""
        x, y = self.polynomial.gens
        rows: dict[int, dict[tuple[int], Any]] = {}
        for (i, j), c in self.polynomial.terms():
            rows.setdefault(j, {})[(i,)] = c
        parts = [sympy.Poly.from_dict(row, x, domain=sympy.ZZ) for row in rows.values()]
        content = reduce(lambda one, other: one.gcd(other), parts)
        return content, self.polynomial.quo(sympy.Poly(content.as_expr(), x, y, domain=sympy.ZZ))

    @cached_property
    def discriminant(self) -> Any:
        """The discriminant in y of the part without lines x = a, times its leading coefficient."""
        rest = self.split[1]
        return _resultant(rest, rest.diff(rest.gens[1]))


@dataclass(frozen=True)
class Place:
    """Numbers x over which curves are singular or meet: the roots of a squarefree polynomial.

    `total` is the order to which the discriminant of all curves together vanishes there, tangents x = a left out. It is
    at least the Milnor number of every singular point above, and it is 2 only if one ordinary node is all that lies
    above. `sources` holds the indices of the curves: (k,) if curve k is singular, (j, k) if j and k meet.
    """

    polynomial: Any
    total: int
    sources: frozenset[tuple[int, ...]]


_UNKNOWN = 10**6
"""The order at a line x = a of the curve itself, about which the discriminant gives no information."""


def places(curves: list[PlaneCurve]) -> list[Place]:
    """Return the places over which the product of curves without common factors may be singular; none share a root.

    The discriminant of one curve vanishes to the order μ + (multiplicity of the root in y) - 1 at least, summed over
    the points above, so twice or more over a singular one. The resultant of two vanishes to the order of their meeting.
    """
    found: list[Place] = []
    for k, curve in enumerate(curves):
        own = [(factor, times) for factor, times in curve.discriminant.sqf_list()[1] if times > 1]
        for factor, times in [*own, (curve.split[0], _UNKNOWN)]:
            found = _joined(found, Place(factor, times, frozenset({(k,)})))
        for j, other in enumerate(curves[:k]):
            common = _resultant(other.split[1], curve.split[1]).sqf_list()[1]
            for factor, times in [*common, (curve.split[0], _UNKNOWN), (other.split[0], _UNKNOWN)]:
                found = _joined(found, Place(factor, 2 * times, frozenset({(j, k)})))
    return found


def points_over(place: Place, curves: list[PlaneCurve], box: tuple[Interval, Interval]) -> Iterator[PlanePoint | None]:
    """Yield the points of a box over a place at which curves are singular or meet; None as in `real_roots`."""
    for factor, _ in place.polynomial.set_domain(sympy.QQ).factor_list()[1]:
        columns: dict[tuple[int, ...], Any] = {}
        for a in zeros_between(RATIONALS, factor, box[0]):
            if a is None:
                yield None
                continue
            for source in place.sources:
                # The algebra is the same over all roots of one factor: only signs differ.
                if source not in columns:
                    columns[source] = _column(a, [curves[k].polynomial for k in source])
                if columns[source].degree() > 0:
                    for b in zeros_between(a.field, columns[source], box[1]):
                        yield None if b is None else PlanePoint(b.field, b.embed(a.value), b.value)


def _column(a: RealRoot, polynomials: list[sympy.Poly]) -> Any:
    """Return the polynomial in y whose roots are the singular points of one curve, or the common points of two."""
    if len(polynomials) == 1:
        polynomials = polynomials + [polynomials[0].diff(generator) for generator in polynomials[0].gens]
    first, *others = (restricted(a.field, polynomial, 0, a.value) for polynomial in polynomials)
    return reduce(lambda one, other: one.gcd(other), others, first)


def _joined(known: list[Place], new: Place) -> list[Place]:
    joined, rest = [], new.polynomial
    for old in known:
        common = old.polynomial.gcd(rest)
        rest = rest.quo(common)
        joined.append(Place(common, old.total + new.total, old.sources | new.sources))
        joined.append(Place(old.polynomial.quo(common), old.total, old.sources))
    joined.append(Place(rest, new.total, new.sources))
    return [place for place in joined if place.polynomial.degree() > 0]


def _resultant(one: sympy.Poly, other: sympy.Poly) -> Any:
    """Return the resultant in y, a polynomial in x; 1 if one of the two does not depend on y.

    That one is then a constant, or the derivative of a curve y = b(x) / a(x), which has no singular point.
    """
    x, y = one.gens
    if min(one.degree(y), other.degree(y)) < 1:
        return sympy.Poly(1, x, domain=sympy.ZZ)
    return one.reorder(y, x).resultant(other.reorder(y, x))


def _separated(polynomial: Any) -> list[Interval]:
    """Return an interval around each real root of a squarefree polynomial; no two of them touch in a root."""
    width = None
    while polynomial.degree() > 0:
        roots = [(as_fraction(a), as_fraction(b)) for (a, b), _ in polynomial.intervals(eps=width)]
        # Neighbours may touch, but not in a root: the number between two roots must lie strictly between them.
        touching = [one[1] for one, two in pairwise(roots) if one[1] == two[0]]
        if all(polynomial.eval(sympy.Rational(end.numerator, end.denominator)) for end in touching):
            return roots
        width = sympy.Rational(1, 1024) * (width or 1)
    return []
