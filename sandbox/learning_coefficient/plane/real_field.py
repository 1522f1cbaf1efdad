"""Exact real algebraic numbers: Q or Q(θ) with one chosen real root θ, signs, real roots, further extensions.

No number here is rounded. An interval around θ shrinks until it decides a sign; this ends, because zero is recognised
algebraically first. Real roots are counted by Sturm's theorem; a tower of extensions is flattened with a primitive
element (Trager 1976, "Algebraic factoring and rational function integration").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import sympy

from sandbox.tools.errors import InputError

Interval = tuple[Fraction, Fraction]
Bound = Fraction | None
"""An end of an interval of the real line; None is infinity."""

_BITS = 16
"""The number of bits by which the interval around θ shrinks each time that it does not decide a sign."""

LARGEST_DEGREE = 32
"""The largest degree over Q of a field that is built; with a larger one, arithmetic takes too long to wait for."""

T = sympy.Dummy("t")


def as_fraction(number: Any) -> Fraction:
    """Return a rational number of SymPy or of a domain as a Fraction."""
    return Fraction(int(number.numerator), int(number.denominator))


class RealField:
    """A field Q(θ) of real numbers: θ is the one root of `minimal`, its minimal polynomial over Q, in `interval`.

    Without `minimal` it is Q. Elements belong to `domain`, a SymPy domain; they do not record which root θ is.
    """

    def __init__(self, minimal: Any = None, interval: Interval = (Fraction(0), Fraction(0))):
        self.minimal: Any = None if minimal is None else minimal.set_domain(sympy.QQ).monic().replace(minimal.gen, T)
        self._low, self._high = interval
        self.domain = sympy.QQ if minimal is None else sympy.QQ.alg_field_from_poly(self.minimal, root_index=0)

    @property
    def degree(self) -> int:
        """The degree over Q."""
        return 1 if self.minimal is None else int(self.minimal.degree())

    @property
    def generator(self) -> Any:
        """The element θ, or 0 in Q."""
        return self.domain.zero if self.minimal is None else self.domain.unit

    def of(self, number: Any) -> Any:
        """Return a rational number as an element of the field."""
        return self.domain.convert(sympy.QQ(number.numerator, number.denominator))

    def coefficients(self, element: Any) -> list[Fraction]:
        """Return the rational coefficients of an element as a polynomial in θ, highest power first."""
        numbers = [element] if self.minimal is None else element.to_list()
        return [as_fraction(c) for c in numbers]

    def poly(self, coefficients: list[Any]) -> Any:
        """Return the SymPy polynomial with these elements as coefficients, lowest power first."""
        return sympy.Poly.from_list(coefficients[::-1], T, domain=self.domain)

    def enclose(self, element: Any) -> Interval:
        """Return an interval that contains an element, as narrow as the interval around θ permits."""
        low, high = Fraction(0), Fraction(0)
        for c in self.coefficients(element):
            corners = [low * self._low, low * self._high, high * self._low, high * self._high]
            low, high = min(corners) + c, max(corners) + c
        return low, high

    def sharpen(self) -> None:
        """Narrow the interval around θ."""
        if self.minimal is not None:
            self._low, self._high = _narrowed(RATIONALS, self.minimal, (self._low, self._high))

    def sign(self, element: Any) -> int:
        """Return the exact sign of an element: -1, 0 or 1."""
        if not element:
            return 0
        while True:
            low, high = self.enclose(element)
            if low > 0 or high < 0:
                return 1 if low > 0 else -1
            self.sharpen()

    def approximately(self, element: Any) -> float:
        """Return an element as a float, to about twelve digits, for display."""
        low, high = self.enclose(element)
        while high - low > Fraction(1, 10**12) * (1 + abs(low)):
            self.sharpen()
            low, high = self.enclose(element)
        return float((low + high) / 2)

    def told(self, element: Any) -> str:
        """Return an element as text: exact if it is rational, else its first digits."""
        numbers = self.coefficients(element)
        if len(numbers) < 2:
            return str(numbers[0] if numbers else 0)
        return f"{self.approximately(element):.6g}.."


RATIONALS = RealField()


@dataclass(frozen=True)
class RealRoot:
    """A real root: `value` in `field`, and `embed`, which maps elements of the previous field into this one."""

    field: RealField
    value: Any
    embed: Callable[[Any], Any]


def real_roots(field: RealField, polynomial: Any, low: Bound = None, high: Bound = None) -> Iterator[RealRoot | None]:
    """Yield the distinct real roots of a polynomial over `field` in the open interval (low, high).

    None stands for a root in a field of a degree beyond `LARGEST_DEGREE`.
    """
    for factor, _ in polynomial.factor_list()[1]:
        if factor.degree() == 1:
            yield from (RealRoot(field, root, lambda element: element) for root in _linear(field, factor, low, high))
        else:
            is_small = field.degree * factor.degree() <= LARGEST_DEGREE
            for interval in _isolated(field, factor, low, high):
                yield _extended(field, factor, interval) if is_small else None


def count(field: RealField, polynomial: Any, low: Bound = None, high: Bound = None) -> int:
    """Return the number of distinct real roots of a polynomial over `field` in the open interval (low, high)."""
    if field.degree > 1:
        return _count(field, polynomial.sturm(), low, high)
    factors = [factor for factor, _ in polynomial.factor_list()[1]]
    finders = [_linear if factor.degree() == 1 else _isolated for factor in factors]
    return sum(len(find(field, factor, low, high)) for find, factor in zip(finders, factors, strict=True))


def _linear(field: RealField, factor: Any, low: Bound, high: Bound) -> list[Any]:
    lead, constant = factor.set_domain(field.domain).rep.to_list()
    root = -constant / lead
    above = low is None or field.sign(root - field.of(low)) > 0
    below = high is None or field.sign(root - field.of(high)) < 0
    return [root] * (above and below)


def _isolated(field: RealField, factor: Any, low: Bound = None, high: Bound = None) -> list[Interval]:
    """Return disjoint intervals within (low, high), one per root of a polynomial without rational roots."""
    if field.degree > 1:
        return _isolated_by_sturm(field, factor.sturm(), low, high)
    found = []
    for (a, b), _ in factor.intervals():
        interval = (as_fraction(a), as_fraction(b))
        while any(end is not None and interval[0] < end < interval[1] for end in (low, high)):
            interval = _narrowed(field, factor, interval)
        if (low is None or low <= interval[0]) and (high is None or interval[1] <= high):
            found.append(interval)
    return found


def _isolated_by_sturm(field: RealField, chain: list[Any], low: Bound, high: Bound) -> list[Interval]:
    total = _count(field, chain, low, high)
    if total == 0:
        return []
    left = low if low is not None else _far(field, chain, -1, high)
    right = high if high is not None else _far(field, chain, 1, low)
    found, waiting = [], [(left, right, total)]
    while waiting:
        a, b, inside = waiting.pop()
        if inside == 1:
            found.append((a, b))
        elif inside > 1:
            middle = (a + b) / 2
            lower = _count(field, chain, a, middle)
            waiting += [(middle, b, inside - lower), (a, middle, lower)]
    return found


def _far(field: RealField, chain: list[Any], side: int, other: Bound) -> Fraction:
    """Return a number beyond all roots on one side, and beyond the other end of the interval."""
    far = Fraction(side) if other is None else other + side
    while _variations(field, chain, far) != _variations(field, chain, None, side):
        far += side * (1 + abs(far))
    return far


def _count(field: RealField, chain: list[Any], low: Bound, high: Bound) -> int:
    # Sturm's theorem counts the roots in (low, high]; the end `high` must not count.
    inside = _variations(field, chain, low, -1) - _variations(field, chain, high, 1)
    return inside - (high is not None and not _value(field, chain[0], high))


def _variations(field: RealField, chain: list[Any], at: Bound, side: int = 1) -> int:
    if at is None:
        signs = [field.sign(p.rep.LC()) * side ** (p.degree() % 2) for p in chain]
    else:
        signs = [field.sign(_value(field, p, at)) for p in chain]
    kept = [s for s in signs if s]
    return sum(a != b for a, b in pairwise(kept))


def _value(field: RealField, polynomial: Any, at: Fraction) -> Any:
    point, value = field.of(at), field.domain.zero
    for c in polynomial.rep.to_list():
        value = value * point + c
    return value


def _extended(field: RealField, factor: Any, interval: Interval) -> RealRoot:
    """Return the root β in `interval` of an irreducible `factor` of degree 2 or more, in the extended field.

    θ' = β + k θ is primitive if its norm is squarefree; θ is then the common root of two polynomials over Q(θ').
    """
    if field.degree == 1:
        first = RealField(factor, interval)
        return RealRoot(first, first.generator, first.domain.convert)
    (k,), _, norm = factor.sqf_norm()
    shift = Fraction(int(k))
    larger = RealField(norm, _place(field, factor, interval, shift, norm))

    def as_polynomial(element: Any) -> Any:
        return larger.poly([larger.of(c) for c in reversed(field.coefficients(element))] or [larger.domain.zero])

    beta = larger.poly([larger.generator, larger.of(-shift)])
    relation = larger.poly([larger.domain.zero])
    for c in factor.rep.to_list():
        relation = relation * beta + as_polynomial(c)
    lead, constant = relation.gcd(field.minimal.set_domain(larger.domain)).rep.to_list()
    theta = -constant / lead
    return RealRoot(larger, larger.generator - larger.of(shift) * theta, lambda e: as_polynomial(e).rep.eval(theta))


def _place(field: RealField, factor: Any, interval: Interval, shift: Fraction, minimal: Any) -> Interval:
    """Return the interval around θ' = β + k θ without another root of its minimal polynomial."""
    candidates = _isolated(RATIONALS, minimal)
    while True:
        theta = field.enclose(field.generator)
        low, high = (interval[j] + shift * theta[j] for j in (0, 1))
        near = [c for c in candidates if c[0] < high and low < c[1]]
        if len(near) == 1:
            return near[0]
        field.sharpen()
        interval = _narrowed(field, factor, interval)


def _narrowed(field: RealField, polynomial: Any, interval: Interval) -> Interval:
    """Return a narrower interval around the one root in `interval` of a polynomial without rational roots."""
    low, high = interval
    at_high = field.sign(_value(field, polynomial, high))
    for _ in range(_BITS):
        middle = (low + high) / 2
        if field.sign(_value(field, polynomial, middle)) == at_high:
            high = middle
        else:
            low = middle
    return low, high


def adjoined(field: RealField, number: Any) -> RealRoot:
    """Adjoin a Fraction, int or real algebraic SymPy number; InputError for others and for too high a degree."""
    if isinstance(number, int | Fraction | sympy.Rational):
        return RealRoot(field, field.of(number), lambda element: element)
    if not isinstance(number, sympy.Expr) or not number.is_algebraic or not number.is_real or number.has(sympy.Float):
        raise InputError(f"{number!r} is no exact number; use a Fraction, or a real algebraic number such as sqrt(2)")
    minimal = sympy.minimal_polynomial(number, T, polys=True)
    place: tuple[Bound, Bound] = (None, None)
    if minimal.degree() > 1:
        place = next(i for i in _isolated(RATIONALS, minimal) if i[0] < number < i[1])
    root = next(real_roots(field, minimal.set_domain(field.domain), *place))
    if root is None:
        raise InputError(f"{number} lies in a field of too high degree over Q, beyond {LARGEST_DEGREE}")
    return root
