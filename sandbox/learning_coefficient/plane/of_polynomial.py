"""The exact (λ, m) of every polynomial K in two parameters, at a point or over a box, under priors |x|^h1 |y|^h2.

-λ is the largest pole of ζ(z) = ∫ K^z |x|^h1 |y|^h2 dx dy and m is its order. A loss gives K >= 0; if K changes sign,
|K| is meant. All geometry is real: a factor that vanishes at a point, but on no real curve through it, still counts for
the exceptional divisors there and for nothing else.

The factors of K are separated by multiplicity (gcds with the derivatives; no factorisation is needed), and the curve is
resolved by `blow_up`. Numbers are rational or real algebraic, never rounded. References: Watanabe,
"Algebraic Geometry and Statistical Learning Theory", 2009, section 2.4; Varchenko, "Newton polyhedra and estimation of
oscillating integrals", 1976; Phong, Stein and Sturm, "On the growth and stability of real-analytic functions", 1999;
Ikromov and Müller, "On adapted coordinate systems", 2011 (in the plane Newton polygons suffice after real changes of
coordinates); Cassou-Noguès and Veys, "Newton trees for ideals in two variables and applications", 2014.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import sympy

from sandbox.learning_coefficient.coefficient import LearningCoefficient
from sandbox.learning_coefficient.plane.blow_up import EVERYWHERE, Factor, Pole, local_chart, poles
from sandbox.learning_coefficient.plane.branches import is_negative_near
from sandbox.learning_coefficient.plane.curve import PlanePoint, squarefree_factors
from sandbox.learning_coefficient.plane.over_box import MOST_TERMS, Box, Powers, chart_at, poles_in_box
from sandbox.learning_coefficient.plane.real_field import RATIONALS, RealField, adjoined
from sandbox.tools.errors import InputError

Pair = tuple[Fraction, Fraction]

_FLAT = (Fraction(0), Fraction(0))
_METHOD = "resolution of a plane curve"
_MOST_STEPS = 10
"""The most steps that an explanation lists in full; from a longer list it leaves out the middle."""


def at_origin(K: sympy.Poly, exponents: Pair = _FLAT) -> LearningCoefficient:
    """Return λ and m of K at (0, 0) under the prior |x|^h1 |y|^h2, where (h1, h2) = `exponents`, both above -1.

    K is a polynomial in two generators with rational or real algebraic coefficients. Raises InputError if it is not, or
    not zero at the origin. The answer is exact, unless it needs a field of degree over Q beyond
    `real_field.LARGEST_DEGREE`; then it is a bracket.
    """
    factors = _checked(K, exponents)
    field, embed = _field_of(K)
    own = [Factor({at: embed(c) for at, c in q.terms()}, power) for q, power in factors]
    x, y = map(str, K.gens)
    chart = local_chart(field, own, exponents, EVERYWHERE, (x, y))
    if not (chart.factors or any(axis.order for axis in chart.axes)):
        raise InputError("K is not zero at (0, 0); λ belongs to points of W0")
    return _answer(factors, poles(chart), exponents)


def negativity(K: sympy.Poly) -> str | None:
    """Return how K, zero at (0, 0), is negative near it; "" if it is not; None if its fields have a too high degree."""
    field, embed = _field_of(K)
    return is_negative_near(K, field, embed)


def _field_of(K: sympy.Poly) -> tuple[RealField, Callable[[Any], Any]]:
    """Return the field of K's coefficients, and the map of K's own coefficients, and those of its factors, into it."""
    if not K.domain.is_Algebraic:
        return RATIONALS, RATIONALS.of
    root = adjoined(RATIONALS, K.domain.to_sympy(K.domain.unit))

    def embed(element: Any) -> Any:
        powers = K.domain.convert(element).to_list()
        return sum((root.field.of(c) * root.value**k for k, c in enumerate(reversed(powers))), root.field.of(0))

    return root.field, embed


def at_point(K: sympy.Poly, point: tuple[Any, Any], exponents: Pair = _FLAT) -> LearningCoefficient:
    """Return λ and m of K at a zero (x, y) of K; x, y are Fractions, ints or real algebraic SymPy numbers.

    The exponents belong to the axes x = 0 and y = 0; off an axis its exponent has no effect. InputError if K is not 0.
    """
    factors = _checked(K, exponents)
    first = adjoined(RATIONALS, point[0])
    second = adjoined(first.field, point[1])
    place = PlanePoint(second.field, second.embed(first.value), second.value)
    chart = chart_at(factors, place, exponents, EVERYWHERE)
    if chart is None:
        raise InputError(f"K is not zero at ({point[0]}, {point[1]}); λ belongs to points of W0")
    return _answer(factors, poles(chart), exponents)


def over_box(K: sympy.Poly, bounds: Box, exponents: Pair = _FLAT) -> LearningCoefficient:
    """Return the global λ and m of K over the box ((x_lo, x_hi), (y_lo, y_hi)) under |x|^h1 |y|^h2.

    λ is the least over the zeros of K in the box, m the largest among the points that attain it. At a point on an edge
    only the directions into the box count. Exact as `at_origin` is; points with irrational coordinates are treated in
    their own field. Raises InputError if K has no zero in the box, or if a lower bound is not below the upper.
    """
    factors = _checked(K, exponents)
    _check_rational(*bounds[0], *bounds[1])
    for low, high in bounds:
        if not low < high:
            raise InputError(f"a box needs lower < upper bounds, not [{low}, {high}]")
    found = poles_in_box(factors, bounds, exponents) if factors else []
    if not found:
        raise InputError("K has no zero in the box")
    return _answer(factors, found, exponents)


def _checked(K: sympy.Poly, exponents: Pair) -> Powers:
    """Return the factors of K by multiplicity; InputError if K or the exponents are invalid."""
    if len(K.gens) != 2:
        raise InputError(f"K has the generators {K.gens}; two are needed")
    if not (K.domain.is_ZZ or K.domain.is_QQ or K.domain.is_Algebraic):
        raise InputError(f"K has coefficients in {K.domain}; rational or algebraic ones are needed")
    if K.is_zero:
        raise InputError("K is zero everywhere: no point is worse than another, and there is no λ")
    _check_rational(*exponents)
    for h in exponents:
        if not h > -1:
            raise InputError(f"the prior exponent {h} is not above -1: no such prior can be normalised")
    return squarefree_factors(K)


def _check_rational(*numbers: Any) -> None:
    for number in numbers:
        if not isinstance(number, int | Fraction):
            raise InputError(f"{number!r} is no exact number; prior exponents and bounds are Fractions or integers")


def _answer(factors: Powers, found: Iterable[Pole], exponents: Pair) -> LearningCoefficient:
    """Return the least candidate with its order; a bracket if a candidate with only a lower bound may be less."""
    candidates = list(found)
    # The blow-up of the point alone has ν = 2 + h1 + h2 and N >= 1, which bounds λ.
    nothing = Pole(Fraction(2) + abs(exponents[0]) + abs(exponents[1]), 1, ())
    best = min((p for p in candidates if p.order), key=lambda p: (p.ratio, -(p.order or 0)), default=nothing)
    doubts = sorted((p for p in candidates if not p.order and p.ratio <= best.ratio), key=lambda p: p.ratio)
    start = ""
    if sum(len(q.monoms()) for q, _ in factors) <= MOST_TERMS:
        start = f"K = c {' '.join(f'({q.as_expr()})^{power}' for q, power in factors)}. "
    if doubts and doubts[0].ratio < best.ratio:
        words = f"{start}Known: {_told(best.words)}. Left open: {_told(doubts[0].words)}"
        return LearningCoefficient(None, None, _METHOD, words, (doubts[0].ratio, best.ratio))
    order = None if doubts and best.order == 1 else best.order
    words = f"{start}{_told(best.words)}. This ν/N is the least: λ = {best.ratio}, m = {order or 'unknown'}"
    return LearningCoefficient(best.ratio, order, _METHOD, words)


def _told(words: tuple[str, ...]) -> str:
    """Return the steps as one sentence; a long chain keeps its first two and its last two steps."""
    if len(words) > _MOST_STEPS:
        words = (*words[:2], f"... {len(words) - 4} further blow-ups of this kind ...", *words[-2:])
    return "; ".join(words)
