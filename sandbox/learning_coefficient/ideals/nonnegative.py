"""λ and m of one polynomial K >= 0, which is turned into an ideal, or into a sum or product of simpler polynomials.

An ideal has K ~ sum g_i^2. These rules bring a polynomial f >= 0 to this form, in this order:
- product in disjoint variables, and powers: λ(f^k) = λ(f) / k;
- hyperplane arrangements, quadrics and cones (`special_forms`);
- sum in disjoint variables: f(x, y) = p(x) + q(y) >= 0 with p(0) = q(0) = 0 makes both p and q >= 0;
- completing the square: f = a w^2 + b w + c with a > 0 at the point is w'^2 + (4 a c - b^2) up to units; this is the
  splitting lemma of Morse theory in the case that needs no power series;
- a certificate as a sum of squares;
- else f^2, an ideal with one generator: λ(f) = 2 λ(f^2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import reduce
from math import gcd
from operator import mul

from sympy.polys.rings import PolyElement

from sandbox.learning_coefficient.ideals.bounds import Bracket, bounds_at
from sandbox.learning_coefficient.ideals.germ import Germ, components
from sandbox.learning_coefficient.ideals.polynomials import UndecidedError, factors
from sandbox.learning_coefficient.ideals.resolution import Pole, Search, product_rule, sum_rule
from sandbox.learning_coefficient.ideals.special_forms import arrangement, cone, quadric
from sandbox.learning_coefficient.ideals.torus import squares
from sandbox.learning_coefficient.sign import has_both_signs

Powers = Sequence[tuple[PolyElement, int]]

_MOST_GENERATORS = 40


@dataclass(frozen=True)
class Nonnegative:
    """A search for λ and m of K at the origin under the prior |w|^prior; `search` lends its budget."""

    search: Search
    prior: tuple[Fraction, ...]

    def germ(self, *generators: PolyElement) -> Germ:
        """Return the germ at the origin of the ideal of some generators."""
        size = len(self.prior)
        return Germ(generators, (0,) * size, self.prior, tuple(range(size)))

    def pole(self, p: PolyElement) -> Pole:
        """Return λ and m of p, which is 0 at the origin and >= 0 near it; UndecidedError if no rule applies."""
        return reduce(product_rule, [self._group(group) for group in self._groups(p)], Pole(None))

    def bracket(self, p: PolyElement) -> Bracket:
        """Return bounds of λ for |p|, from p^2 and from a sum of squares if p is shown to be one."""
        lower, upper = (2 * bound for bound in bounds_at(self.search, self.germ(p)))
        terms = squares(p)
        if terms is not None:
            other = bounds_at(self.search, self.germ(*(q for _, q in terms)))
            lower, upper = max(lower, other[0]), min(upper, other[1])
        for f, k in factors(p):
            # A regular real zero of f near the point, or at it, has λ = 1 / k, as f takes both signs beside it.
            if Fraction(1, k) < upper and has_both_signs(f.as_expr(), f.ring.symbols):
                upper = Fraction(1, k)
        return lower, upper

    def _groups(self, p: PolyElement) -> list[Powers]:
        """Return the factors that vanish at the origin, in groups that share variables."""
        origin = self.germ(p)
        groups: list[tuple[set[int], list[tuple[PolyElement, int]]]] = []
        for f, k in factors(p):
            if origin.is_unit(f):
                continue
            variables = {j for m in f for j, e in enumerate(m) if e}
            touching = [g for g in groups if g[0] & variables]
            groups = [g for g in groups if not g[0] & variables]
            groups.append((variables.union(*(g[0] for g in touching)), [(f, k), *(x for g in touching for x in g[1])]))
        return [group for _, group in groups]

    def _group(self, group: Powers) -> Pole:
        planes = arrangement(group, self.prior)
        if planes is not None:
            return planes
        try:
            return self._searched(group)
        except UndecidedError:
            found = cone(reduce(mul, (f**k for f, k in group)), self.prior)
            if found is None:
                raise
            return found

    def _searched(self, group: Powers) -> Pole:
        if len(group) == 1:
            f, k = group[0]
            return self._single(_upright(f), k % 2 == 1).scaled(Fraction(1, k))
        squared = [_squared(f) for f, _ in group]
        exponents = [k * (1 if terms is None else 2) for (_, k), terms in zip(group, squared, strict=True)]
        unit = gcd(*exponents)
        generators: list[PolyElement] = [group[0][0].ring.one]
        for (f, _), terms, e in zip(group, squared, exponents, strict=True):
            for _ in range(e // unit):
                generators = [g * q for g in generators for q in (terms or [f])]
                if len(generators) > _MOST_GENERATORS:
                    raise UndecidedError("the product of the ideals has too many generators")
        return self.search.pole(self.germ(*generators)).scaled(Fraction(2, unit))

    def _single(self, f: PolyElement, nonnegative: bool) -> Pole:
        """Return the pole of |f|; `nonnegative` says that f is known to be >= 0 near the origin."""
        if not any(self.prior) and (found := quadric(f)) is not None:
            return found
        terms = _squared(f)
        if nonnegative or terms is not None:
            parts = _summands(self.germ(f))
            if len(parts) > 1:
                return reduce(sum_rule, [self.pole(part) for part in parts])
            rest = self._square_completed(f)
            if rest is not None:
                words = ("a square is completed",)
                half = Pole(Fraction(1, 2), 1, words)
                return half if not rest else sum_rule(half, self.pole(rest))
        if terms is not None:
            pole = self.search.pole(self.germ(*terms))
            return replace(pole, steps=("a sum of squares", *pole.steps))
        return self.search.pole(self.germ(f)).scaled(Fraction(2))

    def _square_completed(self, f: PolyElement) -> PolyElement | None:
        """Return 4 a c - b^2 for f = a w^2 + b w + c with a unit a, in a variable without weight; else None."""
        ring, germ = f.ring, self.germ(f)
        for j in germ.local:
            if not germ.plain(j) or max(m[j] for m in f) != 2:
                continue
            c, b, a = (
                ring.from_dict({(*m[:j], 0, *m[j + 1 :]): x for m, x in f.items() if m[j] == k}) for k in range(3)
            )
            if germ.is_unit(a):
                return 4 * a * c - b**2
        return None


def _upright(f: PolyElement) -> PolyElement:
    """Return f or -f, the one that is positive at its lowest term, a vertex of its Newton polyhedron."""
    return f if f[min(f, key=lambda m: (sum(m), m))] > 0 else -f


def _squared(f: PolyElement) -> list[PolyElement] | None:
    """Return the squared polynomials in f or -f as a sum of squares, None if no certificate is found."""
    for sign in (f, -f):
        terms = squares(sign)
        if terms is not None:
            return [q for _, q in terms]
    return None


def _summands(germ: Germ) -> list[PolyElement]:
    """Return the summands of the one generator in disjoint sets of variables."""
    f = germ.generators[0]
    terms = tuple(f.ring.from_dict({m: c}) for m, c in f.items())
    parts = components(replace(germ, generators=terms))
    return [reduce(lambda a, b: a + b, part.generators) for part in parts]
