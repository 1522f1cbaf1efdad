"""Brackets of λ at a point without a known exact value: a lower and an upper bound, each by a theorem.

With K = w^(2 power) sum g_i^2 and prior |w|^prior:
- λ <= ((prior + 1) . v) / (2 N(v)) for every weight vector v: a toric divisor is a divisor (Watanabe 2009, chapter 2).
- K <= K + w_j^2, so λ(I) <= λ(I + (w_j)) = (prior_j + 1) / 2 + λ(I on w_j = 0), if K has no monomial factor.
- K is at least the sum over fewer generators, so λ(I) >= λ(J) for J inside I.
- λ >= min(λ0, r/2), with r the rank of the initial forms at their zeros (`nondegenerate`).
- Blow-up: λ is the least over the points above, so the least of their bounds is a bound of λ.
- λ >= 1 / order(K) if the prior is bounded: along some line through the point K grows at least as distance^order(K).
The inequality λ(K) >= λ(K on a linear subspace) is not used, because it fails over the reals: (x^2 + y^2 + z^2 - t)^2
has λ = 1/2, but on t = 0 it has λ = 3/4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from sympy.polys.rings import PolyElement

from sandbox.learning_coefficient.ideals.canonical import canonical
from sandbox.learning_coefficient.ideals.germ import Germ, blown_up, centres, components
from sandbox.learning_coefficient.ideals.polynomials import UndecidedError
from sandbox.learning_coefficient.ideals.resolution import Pole, Search, monomial

Bracket = tuple[Fraction, Fraction]

_STEPS_OF_A_PART = 6_000
_DEPTH_OF_A_PART = 2
_LARGEST_RESOLVED = 30
_STEPS_OF_A_TERM = 10
_MOST_GENERATORS_LEFT_OUT = 6


def bounds_at(search: Search, germ: Germ) -> Bracket:
    """Return (lower, upper) with lower <= λ <= upper for a germ that vanishes at its point, within the search's budget.

    A too small budget gives (0, (D + sum of prior) / 2) for D local variables: W0 holds the point, so its codimension
    is at most D.
    """
    try:
        found = Bounds(search).bracket(germ)
    except UndecidedError:
        found = None
    weights = sum((germ.prior[j] + 1 for j in germ.local), Fraction(0))
    return found or (Fraction(0), weights / 2)


@dataclass
class Bounds:
    """A finder of brackets within the budget of a search; it keeps the brackets that it has found."""

    search: Search
    _known: dict[object, Bracket | None] = field(default_factory=dict)

    def bracket(self, germ: Germ, depth: int = 1) -> Bracket | None:
        """Return (lower, upper) for a germ, or None if K has no zero at its points.

        `depth` limits the nesting of bounds and blow-ups. UndecidedError if the budget ends or no upper bound is found.
        """
        key = (depth, canonical(germ))
        if key not in self._known:
            self._known[key] = self._sought(germ, depth)
        return self._known[key]

    def _sought(self, germ: Germ, depth: int) -> Bracket | None:
        germ, _ = self.search.with_coordinates(germ)
        self.search.budget.spend(_STEPS_OF_A_TERM * sum(map(len, germ.generators)))
        if not germ.generators:
            return _exact(monomial(germ, germ.local))
        if not any(germ.generators):
            return Fraction(0), Fraction(0)
        idle = [j for j in germ.local if germ.power[j] and j not in germ.occurring()]
        if idle:
            kept = tuple(0 if j in idle else k for j, k in enumerate(germ.power))
            return _least([_exact(monomial(germ, idle)), self.bracket(replace(germ, power=kept), depth)])
        if any(germ.power[j] for j in germ.occurring()):
            return self._connected(germ, depth)
        lower = upper = Fraction(0)
        for part in components(germ):
            found = self._connected(part, depth)
            if found is None:
                return None
            lower, upper = lower + found[0], upper + found[1]
        return lower, upper

    def _connected(self, germ: Germ, depth: int) -> Bracket | None:
        lower, upper = _order(germ), _by_degrees(germ)
        try:
            with self.search.lent(_STEPS_OF_A_PART) as part:
                polyhedron = part.toric(germ)
        except UndecidedError:
            pass
        else:
            if polyhedron.lower is None:
                return None
            lower = max(lower, polyhedron.lower)
            upper = min((b for b in (upper, polyhedron.upper) if b is not None), default=None)
        if lower != upper and sum(map(len, germ.generators)) <= _LARGEST_RESOLVED:
            try:
                with self.search.lent(_STEPS_OF_A_PART) as part:
                    return _exact(part.pole(germ, None, _DEPTH_OF_A_PART))
            except UndecidedError:
                pass
        if depth > 0 and lower != upper:
            above = self._above(germ)
            lowers, uppers = ([above[0]], [above[1]]) if above is not None else ([], [])
            lower = max([lower, *lowers, *self._fewer(germ, depth)])
            upper = min([*([] if upper is None else [upper]), *uppers, *self._more(germ, depth)], default=None)
        if upper is None:
            raise UndecidedError("no bound from above was found")
        return lower, upper

    def _above(self, germ: Germ) -> Bracket | None:
        """Return bounds from the blow-up of the first centre: the least over all points above."""
        centre = next(centres(germ), None)
        if centre is None:
            return None
        try:
            return _least([self.bracket(chart, 0) for chart in blown_up(germ, centre)])
        except UndecidedError:
            return None

    def _fewer(self, germ: Germ, depth: int) -> Iterator[Fraction]:
        """Yield lower bounds from subsets of the generators."""
        if not 1 < len(germ.generators) <= _MOST_GENERATORS_LEFT_OUT:
            return
        for left_out in germ.generators:
            fewer = tuple(g for g in germ.generators if g is not left_out)
            try:
                found = self.bracket(replace(germ, generators=fewer), depth - 1)
            except UndecidedError:
                continue
            if found is not None:
                yield found[0]

    def _more(self, germ: Germ, depth: int) -> Iterator[Fraction]:
        """Yield upper bounds from the ideal with one variable added as a generator."""
        if germ.nonzero or any(germ.power[j] for j in germ.local):
            return
        for j in sorted(germ.occurring() & set(germ.local)):
            on_it = tuple(_without(g, j) for g in germ.generators)
            half = (germ.prior[j] + 1) / 2
            if not any(on_it):
                yield half
                continue
            try:
                local = tuple(i for i in germ.local if i != j)
                found = self.bracket(replace(germ, generators=on_it, local=local), depth - 1)
            except UndecidedError:
                continue
            if found is not None:
                yield half + found[1]


def _exact(pole: Pole) -> Bracket | None:
    return None if pole.ratio is None else (pole.ratio, pole.ratio)


def _least(brackets: Sequence[Bracket | None]) -> Bracket | None:
    """Return the bracket of the least of several λ; None stands for no zero."""
    found = [b for b in brackets if b is not None]
    return (min(b[0] for b in found), min(b[1] for b in found)) if found else None


def _total_weight(germ: Germ) -> Fraction:
    return sum((germ.prior[j] + 1 for j in germ.local), Fraction(0))


def _order(germ: Germ) -> Fraction:
    # A coefficient in coordinates along a divisor may vanish; then K's order is not the least degree of its terms.
    if germ.nonzero or any(germ.prior[j] < 0 for j in germ.local):
        return Fraction(0)
    power = sum(germ.power[j] for j in germ.local)
    return Fraction(1, 2 * (power + min(sum(m) for g in germ.generators for m in g)))


def _by_degrees(germ: Germ) -> Fraction | None:
    """Return the ratio of the divisor of the ordinary blow-up of the point; None if K does not vanish on it."""
    least = min(sum(germ.power[j] + m[j] for j in germ.local) for g in germ.generators for m in g)
    return _total_weight(germ) / (2 * least) if least else None


def _without(g: PolyElement, j: int) -> PolyElement:
    return g.ring.from_dict({m: c for m, c in g.items() if not m[j]})
