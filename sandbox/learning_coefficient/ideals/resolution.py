"""A search for λ and m of an ideal: rules that split the question, the Newton polyhedron, and blow-ups in between.

Each rule is a theorem, so every answer is exact; if the search ends without an answer, it raises `UndecidedError` and
claims nothing. The rules, in the order in which they are tried:
- a generator u w_j + r, u a unit, is a coordinate (implicit function theorem);
- product: K = F G in disjoint variables has λ = min(λ_F, λ_G), and m = m_F + m_G if these are equal; F^k has λ(F) / k;
- sum: K = F + G in disjoint variables has λ = λ_F + λ_G, m = m_F + m_G - 1 (Lin 2011);
- the Newton polyhedron, if it is shown to be non-degenerate;
- two variables: real resolution of plane curves;
- a factor of a generator as a coordinate; cases F = 0 and F != 0; another basis of the ideal;
- blow-up of a coordinate subspace: (λ, m) is the least over all points above.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import reduce
from itertools import islice

import sympy
from sympy.polys.rings import PolyElement

from sandbox.learning_coefficient.ideals.canonical import canonical
from sandbox.learning_coefficient.ideals.germ import (
    Germ,
    blown_up,
    centres,
    components,
    eliminated,
    normalised,
    split,
    straightened,
)
from sandbox.learning_coefficient.ideals.nondegenerate import Toric, toric
from sandbox.learning_coefficient.ideals.polynomials import Budget, UndecidedError, factors, groebner

_CENTRES_TRIED = 4
_BASIS_STEPS = 20_000
_MOST_TERMS = 300
_STEPS_OF_A_TERM = 20


@dataclass(frozen=True)
class Pole:
    """A result: λ, m and the steps that give them; `ratio` None means no pole, or none that beats the bound."""

    ratio: Fraction | None
    order: int = 0
    steps: tuple[str, ...] = ()

    def scaled(self, factor: Fraction) -> Pole:
        """Return the pole for a power of the function: λ(F^(1 / factor)) = factor λ(F)."""
        return self if self.ratio is None else replace(self, ratio=self.ratio * factor)


def least(one: Pole, other: Pole) -> Pole:
    """Return the pole that decides for the points of both together: lower λ, then higher m."""
    poles = [p for p in (one, other) if p.ratio is not None]
    return min(poles, key=lambda p: (p.ratio, -p.order), default=Pole(None))


Bound = tuple[Fraction, int]
"""The (λ, m) to beat: only a pole with lower λ, or the same λ and higher m, is of use."""


def beats(pole: Pole, bound: Bound | None) -> bool:
    """Return whether there is a pole and it is simpler than the bound."""
    return pole.ratio is not None and (bound is None or (pole.ratio, -pole.order) < (bound[0], -bound[1]))


def product_rule(one: Pole, other: Pole) -> Pole:
    """Return λ and m of F G in disjoint variables from those of F and of G."""
    if one.ratio is not None and one.ratio == other.ratio:
        return Pole(one.ratio, one.order + other.order, one.steps + other.steps)
    return least(one, other)


def sum_rule(one: Pole, other: Pole) -> Pole:
    """Return λ and m of F + G, both >= 0, in disjoint variables; if one has no pole (no zero), the sum has none."""
    if one.ratio is None or other.ratio is None:
        return Pole(None)
    return Pole(one.ratio + other.ratio, one.order + other.order - 1, one.steps + other.steps)


@dataclass
class Search:
    """A search with its budget; at most `depth` blow-ups are made on top of each other."""

    budget: Budget
    depth: int = 4
    plane: bool = True
    _known: dict[object, Pole] = field(default_factory=dict)
    _polyhedra: dict[object, Toric] = field(default_factory=dict)
    _hopeless: dict[object, tuple[int, str]] = field(default_factory=dict)

    @contextmanager
    def lent(self, steps: int) -> Iterator[Search]:
        """Yield a separate search with at most `steps` steps of this one's budget."""
        with self.budget.part(steps) as part:
            yield Search(part, self.depth, self.plane)

    def pole(self, germ: Germ, bound: Bound | None = None, depth: int | None = None) -> Pole:
        """Return λ and m of a germ, or Pole(None) if they do not beat the bound; UndecidedError if no rule decides."""
        depth = self.depth if depth is None else depth
        germ, steps = self.with_coordinates(germ)
        size = sum(map(len, germ.generators))
        if size > _MOST_TERMS:
            raise UndecidedError(f"the generators have grown to {size} terms")
        self.budget.spend(_STEPS_OF_A_TERM * size)
        if not germ.generators:
            return monomial(germ, germ.local)
        if not any(germ.generators):
            raise UndecidedError("the ideal is zero")
        idle = [j for j in germ.local if germ.power[j] and j not in germ.occurring()]
        if idle:
            # Unlike the sum rule, the product rule for disjoint variables needs no sign: |F G| = |F| |G|.
            kept = tuple(0 if j in idle else k for j, k in enumerate(germ.power))
            first = monomial(germ, idle)
            rest = self.pole(replace(germ, power=kept), _beside(first, bound), depth)
            return _after(steps, product_rule(first, rest))
        parts = components(germ)
        if len(parts) > 1 and not any(germ.power[j] for j in germ.occurring()):
            return _after(steps, self._sum(parts, bound, depth))
        if len(germ.generators) == 1:
            factored = self._by_factors(germ, bound, depth)
            if factored is not None:
                return _after(steps, factored)
        return _after(steps, self._connected(germ, bound, depth))

    def with_coordinates(self, germ: Germ) -> tuple[Germ, tuple[str, ...]]:
        """Return the germ in which every possible generator is a coordinate, and the steps in words."""
        steps: list[str] = []
        germ = normalised(germ)
        while germ.generators:
            found = eliminated(germ)
            if found is None:
                break
            germ, j = found
            self.budget.spend(sum(map(len, germ.generators)))
            steps.append(f"a generator is made the coordinate {germ.generators[0].ring.symbols[j]}")
            germ = normalised(germ)
        return germ, tuple(steps)

    def _sum(self, parts: list[Germ], bound: Bound | None, depth: int) -> Pole:
        *others, last = sorted(parts, key=lambda part: len(part.local) + len(part.nonzero))
        total = reduce(sum_rule, [self.pole(part, None, depth) for part in others])
        if total.ratio is None:
            return total
        left = None if bound is None else (bound[0] - total.ratio, bound[1] - total.order + 1)
        return sum_rule(total, self.pole(last, left, depth))

    def _by_factors(self, germ: Germ, bound: Bound | None, depth: int) -> Pole | None:
        """Return the pole of one generator that is a product in disjoint variables, or a power; else None."""
        groups: list[tuple[set[int], list[tuple[PolyElement, int]]]] = []
        for f, k in factors(germ.generators[0]):
            variables = {j for m in f for j, e in enumerate(m) if e}
            touching = [g for g in groups if g[0] & variables]
            groups = [g for g in groups if not g[0] & variables]
            groups.append((variables.union(*(g[0] for g in touching)), [(f, k), *(x for g in touching for x in g[1])]))
        if len(groups) == 1:
            (f, k), *others = groups[0][1]
            if others or k == 1 or any(germ.power[j] for j in groups[0][0]):
                return None
            bound = None if bound is None else (bound[0] * k, bound[1])
            return self.pole(replace(germ, generators=(f,)), bound, depth).scaled(Fraction(1, k))
        poles = []
        bound = None if bound is None else (bound[0], 0)
        for variables, parts in groups:
            generator = reduce(lambda a, b: a * b, (f**k for f, k in parts))
            local = tuple(j for j in germ.local if j in variables)
            nonzero = tuple(j for j in germ.nonzero if j in variables)
            poles.append(self.pole(replace(germ, generators=(generator,), local=local, nonzero=nonzero), bound, depth))
        return reduce(product_rule, poles)

    def _connected(self, germ: Germ, bound: Bound | None, depth: int) -> Pole:
        key = canonical(germ)
        if key in self._known:
            return self._known[key]
        polyhedron = self._polyhedra.get(key) or self.toric(germ)
        self._polyhedra[key] = polyhedron
        if not _may_beat(polyhedron, bound):
            return Pole(None)
        tried, reason = self._hopeless.get(key, (-1, ""))
        if tried >= depth:
            raise UndecidedError(reason)
        try:
            pole = self._resolved(germ, polyhedron, bound, depth)
        except UndecidedError as why:
            self._hopeless[key] = (depth, str(why))
            raise
        if beats(pole, bound):
            self._known[key] = pole
        return pole

    def toric(self, germ: Germ) -> Toric:
        """Return the result of the Newton polyhedron of a germ with generators."""
        return toric(germ.generators, germ.power, germ.prior, germ.local, germ.nonzero, self.budget)

    def _resolved(self, germ: Germ, polyhedron: Toric, bound: Bound | None, depth: int) -> Pole:
        if polyhedron.is_exact:
            return _of(polyhedron)
        if self.plane and not germ.nonzero and len(germ.local) <= 2:
            return _in_the_plane(germ)
        if polyhedron.upper is not None and (bound is None or polyhedron.upper < bound[0]):
            bound = (polyhedron.upper, 0)
        straight = straightened(germ, self.budget)
        if straight is not None:
            return _after(("a factor is made a coordinate",), self.pole(straight, bound, depth))
        cases = split(germ)
        if cases is not None:
            return self._least_of(cases, bound, depth, "cases of a factor on the divisor")
        other = self._in_another_basis(germ)
        if other is not None and other.is_exact:
            return _of(other)
        return self._blown_up(germ, bound, depth)

    def _in_another_basis(self, germ: Germ) -> Toric | None:
        """Return the result of a Groebner basis's polyhedron, None if the basis is too expensive or the same."""
        try:
            with self.budget.part(_BASIS_STEPS) as part:
                basis = tuple(groebner(germ.generators, part))
        except UndecidedError:
            return None
        other = normalised(replace(germ, generators=basis))
        if not other.generators or {*other.generators} == {*germ.generators}:
            return None
        return self.toric(other)

    def _blown_up(self, germ: Germ, bound: Bound | None, depth: int) -> Pole:
        if depth == 0:
            raise UndecidedError("as many blow-ups as allowed were made")
        why = UndecidedError("no coordinate subspace to blow up")
        names = germ.generators[0].ring.symbols
        self.budget.spend(2 ** len(germ.local))
        for centre in islice(centres(germ), _CENTRES_TRIED):
            words = "blow-up of " + " = ".join(str(names[j]) for j in centre) + " = 0"
            try:
                return self._least_of(blown_up(germ, centre), bound, depth - 1, words)
            except UndecidedError as undecided:
                why = undecided
        raise why

    def _least_of(self, germs: list[Germ], bound: Bound | None, depth: int, words: str) -> Pole:
        """Return the least pole that beats the bound; the last germs, after a blow-up the least special, go first."""
        found = Pole(None)
        for germ in reversed({canonical(g): g for g in germs}.values()):
            pole = self.pole(germ, bound, depth)
            if pole.ratio is not None and beats(pole, bound):
                found, bound = pole, (pole.ratio, pole.order)
        return _after((words,), found)


def _may_beat(polyhedron: Toric, bound: Bound | None) -> bool:
    """Return whether a germ with this polyhedron has zeros and may be simpler than the bound."""
    if polyhedron.lower is None:
        return False
    if bound is None or polyhedron.lower < bound[0]:
        return True
    return polyhedron.lower == bound[0] and (polyhedron.most is None or polyhedron.most > bound[1])


def _beside(first: Pole, bound: Bound | None) -> Bound | None:
    """Return the bound that the other factor of a product has to beat: m adds if the ratios are equal."""
    if first.ratio is None:
        return bound
    if bound is None or first.ratio <= bound[0]:
        return (first.ratio, 0)
    return bound


def monomial(germ: Germ, variables: Sequence[int]) -> Pole:
    """Return the pole in some variables of a normal crossing w^(2 power) (Watanabe 2009, section 2.4)."""
    ratios = [(germ.prior[j] + 1) / (2 * germ.power[j]) for j in variables if germ.power[j]]
    if not ratios:
        return Pole(None)
    return Pole(min(ratios), ratios.count(min(ratios)), ("normal crossing",))


def _after(steps: tuple[str, ...], pole: Pole) -> Pole:
    return pole if pole.ratio is None else replace(pole, steps=steps + pole.steps)


def _of(polyhedron: Toric) -> Pole:
    if polyhedron.multiplicity is None:
        raise UndecidedError("the polyhedron does not give m")
    return Pole(polyhedron.upper, polyhedron.multiplicity, (polyhedron.words,))


def _in_the_plane(germ: Germ) -> Pole:
    """Return the pole in two variables, by resolution of the plane curve K = 0 over the reals."""
    from sandbox.learning_coefficient.plane.of_polynomial import at_origin

    ring = germ.generators[0].ring
    pair = (*germ.local, *(j for j in range(ring.ngens) if j not in germ.local))[:2]
    total = sum((g.as_expr() ** 2 for g in germ.generators), sympy.Integer(0))
    monomial = sympy.prod([ring.symbols[j] ** (2 * germ.power[j]) for j in germ.local])
    poly = sympy.Poly(sympy.expand(monomial * total), *(ring.symbols[j] for j in pair), domain=sympy.QQ)
    first, second = (germ.prior[j] if j in germ.local else Fraction(0) for j in pair)
    found = at_origin(poly, (first, second))
    if found.value is None or found.multiplicity is None:
        raise UndecidedError("the plane curve was not decided")
    return Pole(found.value, found.multiplicity, (found.explanation,))
