"""Real resolution of a plane curve by toric blow-ups, and the poles of its zeta function.

The function is |u|^a |v|^b prod_i |f_i|^{k_i} near the origin of a chart, the density is |u|^{ν_u - 1} |v|^{ν_v - 1} du
dv, and the f_i are squarefree without common factors. The Newton polygons of the f_i give a fan. A ray (p, q) of the
fan is a divisor E of the toric blow-up, with order N = p a + q b + sum_i k_i min(p x + q y) over the exponents (x, y)
of f_i and ν = p ν_u + q ν_v. Along E the chart coordinates are u = s^p τ^{q'}, v = s^q τ^{p'} with p p' - q q' = 1, a
bijection of the real tori. No factor vanishes in the corners of the fan, so E meets the strict transform only in the
real roots τ of the edge polynomials. A root is a normal crossing if one f_i passes through it once; any other is the
origin of the next chart (s, τ - root). This is the Newton tree of Cassou-Noguès and Veys ("Newton trees for ideals in
two variables and applications", 2014), with real roots only.

If the function is not zero almost everywhere, the largest pole of its zeta function is -λ, with λ the least ν / N over
all divisors. Its order is m = 2 if two least divisors meet, else 1. K^z is positive for real z, so nothing cancels
(Watanabe 2009, section 2.4; Varchenko 1976). Rays that make the fan regular add no smaller ratio: ν and N are linear on
a cone, so ν / N lies between the ratios of the cone's sides.

Most roots need no chart. Let M be the sum over the f_i of k_i times the multiplicity of a root in the edge polynomial
of f_i. Every divisor behind the root has ν = p ν_E + q, N <= p N_E + q M, so ν / N >= min(ν_E / N_E, 1 / M). The root
adds nothing if M < N_E / ν_E. If M = N_E / ν_E, the first edge behind it has the ratio of E, so m = 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

from sandbox.learning_coefficient.plane.real_field import RealField, RealRoot, count, real_roots
from sandbox.learning_coefficient.plane.terms import (
    Terms,
    blown_up,
    complement,
    edge_polynomial,
    normals,
    order_of,
    shifted_along,
    without_axes,
)

Quadrants = frozenset[tuple[int, int]]
"""The quadrants of the plane that belong to the domain, by the signs of the two coordinates."""

EVERYWHERE: Quadrants = frozenset((i, j) for i in (-1, 1) for j in (-1, 1))


@dataclass(frozen=True)
class Divisor:
    """A curve of the resolution: the density has order `nu` - 1 on it, and the function has order `order`."""

    nu: Fraction
    order: int
    words: str

    @property
    def ratio(self) -> Fraction | None:
        """The ratio ν / N, for a candidate pole at -ν / N; None if the function does not vanish on the divisor."""
        return self.nu / self.order if self.order else None


@dataclass(frozen=True)
class Factor:
    """A squarefree polynomial and its power in the function."""

    terms: Terms
    power: int


@dataclass(frozen=True)
class Chart:
    """Coordinates around one point, with the function and the density in these coordinates.

    `axes` are {u = 0} and {v = 0}. No factor vanishes on either; all vanish at the origin. `path` gives the steps.
    """

    field: RealField
    factors: tuple[Factor, ...]
    axes: tuple[Divisor, Divisor]
    quadrants: Quadrants
    names: tuple[str, str]
    path: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pole:
    """A candidate for (λ, m): ν / N, the order and the steps in words. If `order` is None, ν / N is a lower bound."""

    ratio: Fraction
    order: int | None
    words: tuple[str, ...]


def poles(chart: Chart) -> Iterator[Pole]:
    """Yield candidates for the (λ, m) of a chart; the true one is among them."""
    charts = [chart]
    while charts:
        here = charts.pop()
        divisors = _rays(here)
        yield from _poles_of_the_fan(here, list(divisors.values()))
        for (p, q), divisor in divisors.items():
            if p and q:
                for found in _behind(here, (p, q), divisor):
                    if isinstance(found, Pole):
                        yield found
                    else:
                        charts.append(found)


def local_chart(
    field: RealField,
    factors: list[Factor],
    exponents: tuple[Fraction, Fraction],
    quadrants: Quadrants,
    names: tuple[str, str],
) -> Chart:
    """Return the chart (x, y) around the origin with the density |x|^h1 |y|^h2; `names` are those of x and y."""
    here = [0, 0]
    kept = []
    for factor in factors:
        terms, shift = without_axes(factor.terms)
        here = [here[j] + factor.power * shift[j] for j in (0, 1)]
        if (0, 0) not in terms:
            kept.append(Factor(terms, factor.power))
    axes = [Divisor(Fraction(1) + exponents[j], here[j], f"the axis {names[j]} = 0") for j in (0, 1)]
    return Chart(field, tuple(kept), (axes[0], axes[1]), quadrants, names)


def _rays(chart: Chart) -> dict[tuple[int, int], Divisor]:
    """Return the divisors of the fan by their weights (p, q), in their order around the origin."""
    u, v = chart.axes
    rays = {normal for factor in chart.factors for normal in normals(factor.terms)}
    found = {(1, 0): u}
    for p, q in sorted(rays, key=lambda n: Fraction(n[1], n[0])):
        order = p * u.order + q * v.order + sum(f.power * order_of(f.terms, p, q) for f in chart.factors)
        nu = p * u.nu + q * v.nu
        found[p, q] = Divisor(nu, order, f"the edge with weights ({p}, {q}) for ({', '.join(chart.names)})")
    return found | {(0, 1): v}


def _poles_of_the_fan(chart: Chart, divisors: list[Divisor]) -> Iterator[Pole]:
    for divisor in divisors:
        if divisor.ratio is not None:
            yield Pole(divisor.ratio, 1, (*chart.path, _told(divisor)))
    for one, other in pairwise(divisors):
        if one.ratio is not None and one.ratio == other.ratio:
            yield Pole(one.ratio, 2, (*chart.path, f"{_told(one)}, meets {_told(other)}"))


def _behind(chart: Chart, ray: tuple[int, int], divisor: Divisor) -> Iterator[Pole | Chart]:
    """Yield the poles or the next charts at those real roots of one ray's edge polynomials that can matter."""
    sides = _sides(chart.quadrants, ray)
    for shared in _roots_by_multiplicity(chart, ray):
        excess = shared.multiplicity * divisor.nu - divisor.order
        if excess < 0 or not _is_reached(chart.field, shared.polynomial, sides):
            continue
        words = f"real root of its edge polynomial with M = {shared.multiplicity}"
        ratio = Fraction(1, shared.multiplicity)
        if excess == 0:
            yield Pole(ratio, 2, (*chart.path, f"{_told(divisor)}, and a {words} = N/ν"))
        elif shared.is_simple:
            strict = f"a branch of the curve itself: ν = 1, N = {shared.multiplicity}"
            yield Pole(ratio, 1, (*chart.path, f"{strict}, through {_told(divisor)}"))
        else:
            for sign in (-1, 1):
                for root in real_roots(chart.field, shared.polynomial, *_ENDS[sign]) if sides[sign] else ():
                    if root is None:
                        yield Pole(ratio, None, (*chart.path, f"{_told(divisor)}, and a {words} of too high degree"))
                    else:
                        yield _next_chart(chart, ray, divisor, root, sides[sign], f"{_told(divisor)}; {words} > N/ν")


def _told(divisor: Divisor) -> str:
    return f"{divisor.words}: ν = {divisor.nu}, N = {divisor.order}"


# The real roots on a divisor.

_ENDS = {-1: (None, Fraction(0)), 1: (Fraction(0), None)}
"""The numbers of each sign, as an open interval."""


@dataclass(frozen=True)
class _Roots:
    """Roots at which the factors vanish alike: `multiplicity` is M; `is_simple` if one factor vanishes, to order 1."""

    polynomial: Any
    multiplicity: int
    is_simple: bool


def _roots_by_multiplicity(chart: Chart, ray: tuple[int, int]) -> list[_Roots]:
    """Return the edge polynomials of a ray as squarefree polynomials without common roots."""
    found: list[_Roots] = []
    for factor in chart.factors:
        for polynomial, times in edge_polynomial(chart.field, factor.terms, ray).sqf_list()[1]:
            found = _joined(found, _Roots(polynomial, times * factor.power, times == 1))
    return found


def _joined(known: list[_Roots], new: _Roots) -> list[_Roots]:
    joined, rest = [], new.polynomial
    for old in known:
        common = old.polynomial.gcd(rest)
        if common.degree() > 0:
            rest = rest.quo(common)
            joined.append(_Roots(common, old.multiplicity + new.multiplicity, False))
            old = _Roots(old.polynomial.quo(common), old.multiplicity, old.is_simple)
        joined.append(old)
    joined.append(_Roots(rest, new.multiplicity, new.is_simple))
    return [roots for roots in joined if roots.polynomial.degree() > 0]


def _sides(quadrants: Quadrants, ray: tuple[int, int]) -> dict[int, frozenset[int]]:
    """Return, for each sign of τ, the signs of s whose points lie in the domain."""
    p, q = ray
    over, up = complement(p, q)
    return {
        sign: frozenset(u ** (up % 2) * v ** (over % 2) for u, v in quadrants if v ** (p % 2) * u ** (q % 2) == sign)
        for sign in (-1, 1)
    }


def _is_reached(field: RealField, polynomial: Any, sides: dict[int, frozenset[int]]) -> bool:
    """Return whether a real root lies on a part of the divisor that belongs to the domain."""
    return any(sides[sign] and count(field, polynomial, *_ENDS[sign]) > 0 for sign in (-1, 1))


# Changes of coordinates.


def _next_chart(
    chart: Chart, ray: tuple[int, int], divisor: Divisor, root: RealRoot, sides: frozenset[int], words: str
) -> Chart:
    depth = len(chart.path) + 1
    names = (f"s{depth}", f"t{depth}")
    kept, order = [], 0
    for factor in chart.factors:
        raised = {at: root.embed(c) for at, c in blown_up(factor.terms, ray).items()}
        terms, (_, times) = without_axes(shifted_along(root.field, raised, 1, root.value))
        order += factor.power * times
        if (0, 0) not in terms:
            kept.append(Factor(terms, factor.power))
    axes = (
        Divisor(divisor.nu, divisor.order, f"the exceptional divisor {names[0]} = 0"),
        Divisor(Fraction(1), order, f"the curve {names[1]} = 0"),
    )
    quadrants = frozenset((s, t) for s in sides for t in (-1, 1))
    path = (*chart.path, f"{words}: {_substitution(chart.names, names, ray, root)}")
    return Chart(root.field, tuple(kept), axes, quadrants, names, path)


def _substitution(old: tuple[str, str], new: tuple[str, str], ray: tuple[int, int], root: RealRoot) -> str:
    unit = f"({root.field.told(root.value)} + {new[1]})"
    powers = zip(old, ray, complement(*ray), strict=True)
    return ", ".join(f"{o} = {_power(new[0], k)}" + f" {_power(unit, e)}" * (e != 0) for o, k, e in powers)


def _power(base: str, exponent: int) -> str:
    return base if exponent == 1 else f"{base}^{exponent}"
