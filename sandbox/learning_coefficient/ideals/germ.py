"""An ideal near a set of points, and the changes of coordinates that keep its (λ, m).

A germ stands for K = w^(2 power) sum g_i^2 with prior |w|^prior at all points at which the `local` variables are 0 and
the `nonzero` variables are any real numbers but 0; its λ is the least over those points. `nonzero` variables appear
when a coordinate subspace is blown up: they are the coordinates along the new divisor, off the axes there. Every change
of a germ here returns a germ with the same (λ, m), or several germs with this (λ, m) as the least.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations
from math import comb
from operator import mul

from sympy.polys.rings import PolyElement

from sandbox.learning_coefficient.ideals.polyhedron import NewtonPolyhedron
from sandbox.learning_coefficient.ideals.polynomials import (
    Budget,
    Exponent,
    UndecidedError,
    divided,
    factors,
    monomial_content,
)
from sandbox.learning_coefficient.ideals.torus import has_no_torus_zero

_MOST_TERMS_OF_A_POWER = 400
_LARGEST_WITH_FACES = 16
"""The most terms of a generator whose initial forms are factored."""


@dataclass(frozen=True)
class Germ:
    """A set of generators in one ring of D variables; `power`, `prior` have D entries, `local`, `nonzero` hold indices.

    A variable in neither set has become idle: nothing depends on it. `power` and `prior` are read for local ones only.
    """

    generators: tuple[PolyElement, ...]
    power: Exponent
    prior: tuple[Fraction, ...]
    local: tuple[int, ...]
    nonzero: tuple[int, ...] = ()

    def occurring(self) -> set[int]:
        """Return the indices of the variables in the generators."""
        return {j for g in self.generators for m in g for j, e in enumerate(m) if e}

    def plain(self, j: int) -> bool:
        """Return whether a local variable may be replaced: neither K's monomial factor nor the prior contains it."""
        return j in self.local and self.power[j] == 0 and self.prior[j] == 0

    def at_points(self, p: PolyElement) -> PolyElement:
        """Return p with the local variables set to 0: a polynomial in the nonzero ones."""
        return p.ring.from_dict({m: c for m, c in p.items() if not any(m[j] for j in self.local)})

    def is_unit(self, p: PolyElement) -> bool:
        """Return whether p certainly vanishes at none of the points."""
        value = self.at_points(p)
        return bool(value) and has_no_torus_zero(value)


def normalised(germ: Germ) -> Germ:
    """Return the germ without units, redundant generators and common monomials; generators () are the unit ideal."""
    parts = [_without_units(germ, g) for g in germ.generators if g]
    if not parts:
        return germ
    if any(p.is_ground for p in parts):
        return replace(germ, generators=())
    local = set(germ.local)
    common = [min(monomial_content(p)[j] for p in parts) if j in local else 0 for j in range(len(germ.power))]
    parts = _independent([divided(p, tuple(common)) for p in parts])
    power = tuple(a + b for a, b in zip(germ.power, common, strict=True))
    reduced = replace(germ, generators=tuple(parts), power=power)
    return reduced if any(p.is_ground for p in parts) is False else replace(reduced, generators=())


def _without_units(germ: Germ, p: PolyElement) -> PolyElement:
    content = monomial_content(p)
    idle = tuple(0 if j in germ.local else e for j, e in enumerate(content))
    p = divided(p, idle).primitive()[1]
    product = p.ring.one
    for factor, k in factors(p):
        if not germ.is_unit(factor):
            product *= factor**k
    return product


def _independent(parts: list[PolyElement]) -> list[PolyElement]:
    """Return simpler generators of the ideal: terms divisible by a monomial dropped, then rows reduced over Q."""
    monomials = [next(iter(p)) for p in parts if len(p) == 1]
    minimal = [m for m in set(monomials) if not any(n != m and _divides(n, m) for n in monomials)]
    ring = parts[0].ring
    others = [
        ring.from_dict({m: c for m, c in p.items() if not any(_divides(n, m) for n in minimal)})
        for p in parts
        if len(p) > 1
    ]
    rows = _echelon([p for p in others if p])
    again = any(len(p) == 1 for p in rows)
    found = [ring.from_dict({m: ring.domain.one}) for m in sorted(minimal)] + rows
    return _independent(found) if again else _without_multiples(found)


def _without_multiples(parts: list[PolyElement]) -> list[PolyElement]:
    kept: list[PolyElement] = []
    for p in sorted(parts, key=lambda q: (max(map(sum, q)), len(q))):
        if not any(
            len(p) * len(q) < 500 and _divides(q.leading_expv(), p.leading_expv()) and not p.rem(q) for q in kept
        ):
            kept.append(p)
    return kept


def _echelon(parts: list[PolyElement]) -> list[PolyElement]:
    """Return the row-reduced polynomials; pivots of lowest degree give as many initial forms as possible."""
    rows: list[tuple[Exponent, PolyElement]] = []
    for p in sorted(parts, key=lambda q: (min(map(sum, q)), len(q))):
        for pivot, row in rows:
            p = p - row.mul_ground(p.get(pivot, 0))
        if p:
            pivot = min(p, key=lambda m: (sum(m), m))
            p = p.quo_ground(p[pivot])
            rows = [(m, q - p.mul_ground(q.get(pivot, 0))) for m, q in rows]
            rows.append((pivot, p))
    return [p.primitive()[1] for _, p in rows]


def _divides(a: Exponent, b: Exponent) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True))


def solved_for(germ: Germ, p: PolyElement, j: int) -> tuple[PolyElement, PolyElement] | None:
    """Return (u, r) with p = u w_j + r, where u is a unit and neither contains w_j, else None."""
    ring = p.ring
    if max(m[j] for m in p) != 1:
        return None
    u = ring.from_dict({(*m[:j], 0, *m[j + 1 :]): c for m, c in p.items() if m[j]})
    r = ring.from_dict({m: c for m, c in p.items() if not m[j]})
    return (u, r) if germ.is_unit(u) else None


def substituted(p: PolyElement, j: int, u: PolyElement, numerator: PolyElement) -> PolyElement:
    """Return u^d p with w_j = numerator / u, where d is the degree of p in w_j.

    Raises UndecidedError if the powers in this formula have too many terms.
    """
    ring = p.ring
    degree = max((m[j] for m in p), default=0)
    terms = comb(degree + max(len(numerator), 1) - 1, degree) * comb(degree + len(u) - 1, degree)
    if terms > _MOST_TERMS_OF_A_POWER:
        raise UndecidedError(f"a generator with {len(numerator)} terms would be raised to the power {degree}")
    total = ring.zero
    for k in range(degree + 1):
        part = ring.from_dict({(*m[:j], 0, *m[j + 1 :]): c for m, c in p.items() if m[j] == k})
        if part:
            total += part * (numerator**k if k else ring.one) * u ** (degree - k)
    return total


def eliminated(germ: Germ) -> tuple[Germ, int] | None:
    """Return the germ with one generator made a coordinate w_j that occurs in no other generator, and j; else None.

    The generator is p = u w_j + r with r = 0 at the points, and p becomes the coordinate (implicit function theorem).
    """
    for p in sorted(germ.generators, key=len):
        for j in germ.local:
            if not germ.plain(j) or len(p) == 1 or not any(m[j] for m in p):
                continue
            solution = solved_for(germ, p, j)
            if solution is None or germ.at_points(solution[1]):
                continue
            u, r = solution
            try:
                others = [substituted(q, j, u, -r) for q in germ.generators if q is not p]
            except UndecidedError:
                continue
            return replace(germ, generators=(p.ring.gens[j], *others)), j
    return None


def straightened(germ: Germ, budget: Budget) -> Germ | None:
    """Return the germ with some u w_j + r made the coordinate w_j, if that leaves fewer terms; else None.

    The candidates are factors of the generators and of their initial forms on the faces of their own polyhedra.
    """
    size = sum(map(len, germ.generators))
    for f in _candidates(germ):
        for j in germ.local:
            if not germ.plain(j) or not any(m[j] for m in f):
                continue
            solution = solved_for(germ, f, j)
            if solution is None or germ.at_points(solution[1]):
                continue
            u, r = solution
            budget.spend(3 * size)
            try:
                changed = [substituted(q, j, u, f.ring.gens[j] - r) for q in germ.generators]
            except UndecidedError:
                continue
            if sum(map(len, changed)) < size:
                return normalised(replace(germ, generators=tuple(changed)))
    return None


def _candidates(germ: Germ) -> Iterator[PolyElement]:
    for g in germ.generators:
        yield from (f for f, _ in factors(g) if len(f) > 1)
    for g in germ.generators:
        if len(g) > _LARGEST_WITH_FACES:
            continue
        polyhedron = NewtonPolyhedron.of(g)
        for face in polyhedron.compact_faces:
            normals = [polyhedron.facets[k] for k in face.facets]
            form = g.ring.from_dict(
                {m: c for m, c in g.items() if all(sum(map(mul, w, m)) == level for w, level in normals)}
            )
            if 1 < len(form) < len(g):
                yield from (f for f, _ in factors(form) if len(f) > 1)


def split(germ: Germ) -> list[Germ] | None:
    """Return two germs in place of one if a factor F of a generator vanishes at some of the points only, else None.

    F is a unit at points with F != 0. The first germ drops F everywhere. This makes the ideal larger at F = 0, but
    there the second germ, with F as a local variable, has the lower λ anyway. F must be u w_j + r in a nonzero w_j,
    with units u and r.
    """
    for g in germ.generators:
        for f, k in factors(g):
            if len(f) == 1 or not germ.at_points(f):
                continue
            vanishing = _on_zeros(germ, f)
            if vanishing is not None:
                off = tuple(g.quo(f**k) if q is g else q for q in germ.generators)
                return [replace(germ, generators=off), vanishing]
    return None


def _on_zeros(germ: Germ, f: PolyElement) -> Germ | None:
    ring = f.ring
    for j in germ.nonzero:
        if not any(m[j] for m in f):
            continue
        solution = solved_for(germ, f, j)
        # A unit r keeps w_j != 0 at the zeros of f, so that no weight of the divisor w_j = 0 is lost.
        if solution is None or not germ.is_unit(solution[1]):
            continue
        u, r = solution
        moved = tuple(substituted(q, j, u, ring.gens[j] - r) for q in germ.generators)
        return _made_local(germ, moved, j)
    return None


def _made_local(germ: Germ, generators: tuple[PolyElement, ...], j: int) -> Germ:
    """Return a germ of `generators` with the nonzero variable j made local, without power or prior exponent."""
    power = tuple(0 if i == j else k for i, k in enumerate(germ.power))
    prior = tuple(Fraction(0) if i == j else h for i, h in enumerate(germ.prior))
    nonzero = tuple(i for i in germ.nonzero if i != j)
    return Germ(generators, power, prior, tuple(sorted((*germ.local, j))), nonzero)


def centres(germ: Germ) -> Iterator[tuple[int, ...]]:
    """Yield sets of local variables to blow up: homogeneous generators first, then least degree spread, then small."""
    used = [j for j in germ.local if j in germ.occurring()]
    ranked = []
    for size in range(2, len(used) + 1):
        for centre in combinations(used, size):
            degrees = [{sum(m[j] for j in centre) for m in g} for g in germ.generators]
            lowest = [min(d) for d in degrees]
            if min(lowest) > 0:
                mixed = sum(len(d) - 1 for d in degrees) + max(lowest) - min(lowest)
                ranked.append((mixed > 0, mixed, size, centre))
    yield from (centre for *_, centre in sorted(ranked))


def blown_up(germ: Germ, centre: tuple[int, ...]) -> list[Germ]:
    """Return the germs at all points over w = 0 of the blow-up of a coordinate subspace w_centre = 0.

    The points of the exceptional divisor are grouped by their homogeneous coordinates that are not 0; the first of
    these coordinates is the chart.
    """
    found = []
    for size in range(1, len(centre) + 1):
        for pattern in combinations(centre, size):
            chart = pattern[0]
            others = [j for j in centre if j != chart]
            power, prior = list(germ.power), list(germ.prior)
            power[chart] = sum(germ.power[j] for j in centre)
            prior[chart] = sum((germ.prior[j] for j in centre), Fraction(len(others)))
            ring = germ.generators[0].ring
            lifted = tuple(
                ring.from_dict({_lifted(m, chart, others): c for m, c in g.items()}) for g in germ.generators
            )
            local = tuple(j for j in germ.local if j not in pattern[1:])
            nonzero = tuple(sorted((*germ.nonzero, *pattern[1:])))
            found.append(Germ(lifted, tuple(power), tuple(prior), local, nonzero))
    return found


def _lifted(m: Exponent, chart: int, others: list[int]) -> Exponent:
    raised = list(m)
    raised[chart] += sum(m[j] for j in others)
    return tuple(raised)


def components(germ: Germ) -> list[Germ]:
    """Return the parts of the ideal in disjoint sets of variables, each with its generators."""
    graph = {j: {j} for j in germ.occurring()}
    for g in germ.generators:
        joined = set().union(*(graph[j] for m in g for j, e in enumerate(m) if e))
        for j in joined:
            graph[j] = joined
    parts = []
    for variables in {frozenset(s): s for s in graph.values()}.values():
        generators = tuple(g for g in germ.generators if any(m[j] for m in g for j in variables))
        local = tuple(j for j in germ.local if j in variables)
        nonzero = tuple(j for j in germ.nonzero if j in variables)
        parts.append(replace(germ, generators=generators, local=local, nonzero=nonzero))
    return parts
