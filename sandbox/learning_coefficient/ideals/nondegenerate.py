"""λ and m of an ideal from its Newton polyhedron, if the ideal is shown to be non-degenerate enough over the reals.

K = w^(2k) (g_1^2 + ... + g_s^2) with prior w^h. Let λ0 = min over facets of ((h + 1) . w) / (2 N(w)) and m0 be the
codimension of the face that the ray h + 1 hits. Near a point q of the orbit of a compact face, a toric modification
turns K into u^(2N) times a sum of squares; on u = 0 these are the squares of the initial forms of the g_i. Hence:
- λ <= λ0 always: every facet is a divisor (Watanabe 2009, chapter 2).
- If the initial forms of no compact face have a common zero in (R - 0)^D, then (λ, m) = (λ0, m0) (Lin 1003.5338, on
  sos-non-degenerate ideals; Varchenko 1976 for one function).
- If the forms have rank at least r at every such zero, then K >= c u^(2N) (s_1^2 + ... + s_r^2) there with coordinates
  s, so λ >= min(λ0, r/2), and (λ, m) = (λ0, m0) if r/2 > λ0.
- If there are r generators in all, K = u^(2N) |s|^2 there, so λ = min(λ0, r/2). If r/2 = λ0, m is 1 + the number of the
  u that attain λ0. With more generators this number is an upper bound of m.
- If r/2 = λ0, there are r forms and all of the u attain λ0, then K lies between u^(2N) |s|^2 and u^(2N) (|s|^2 +
  |u|^2), which have the same λ and m, so m equals the bound. (If some u does not attain λ0, m can be less: u^4 s^2 has
  m = 2, but u^4 (s^2 + v^2) has m = 1.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor

from sympy.polys.rings import PolyElement

from sandbox.learning_coefficient.ideals.polyhedron import Face, Hit, NewtonPolyhedron
from sandbox.learning_coefficient.ideals.polynomials import Budget, Exponent, UndecidedError, groebner, rank, stripped
from sandbox.learning_coefficient.ideals.torus import branches, changes_sign_on_torus, log_minors, no_common_torus_zero

_STEPS_OF_A_FACE = 100


@dataclass(frozen=True)
class Toric:
    """The polyhedron's result: λ in [lower, upper]; `multiplicity` is None if m is not known.

    `upper` None means no upper bound, `lower` None means no zeros near any of the points. If λ is `lower`, m is at most
    `most`; `most` None means no such bound.
    """

    lower: Fraction | None
    upper: Fraction | None
    multiplicity: int | None
    words: str
    most: int | None = None

    @property
    def is_exact(self) -> bool:
        """True if λ and m are both known."""
        return self.lower == self.upper and self.multiplicity is not None


def toric(
    generators: Sequence[PolyElement],
    power: Sequence[int],
    prior: Sequence[Fraction],
    local: Sequence[int],
    nonzero: Sequence[int],
    budget: Budget,
) -> Toric:
    """Return λ and m of w^(2 power) sum g^2 with prior w^prior at all points with local w = 0 and the others not 0.

    `power` and `prior` have an entry for each variable of the ring, read for the `local` ones. The bounds always hold;
    `is_exact` says whether the theorems above close them. UndecidedError for too many steps or facets.
    """
    ideal = _Ideal(tuple(generators), tuple(power), tuple(local), tuple(nonzero))
    budget.spend(20 * len(local) * len(ideal.polyhedron.points))
    hit = ideal.polyhedron.hit([(prior[j] + 1) / 2 for j in local])
    where = f"Newton polyhedron: λ0 = {hit.ratio}, the ray meets a face of codimension {hit.codimension}"
    if hit.ratio is None:
        where = "only coordinates along the divisor are left"
    try:
        lowest, multiplicity, most = _ranks(ideal, hit, budget)
    except UndecidedError as why:
        return Toric(Fraction(0), hit.ratio, None, f"{where}; not shown to be non-degenerate: {why}")
    if lowest is None or (hit.ratio is not None and lowest > hit.ratio):
        return Toric(hit.ratio, hit.ratio, hit.codimension, f"{where}, non-degenerate", hit.codimension)
    if lowest == hit.ratio:
        words = f"{where}; zeros off the axes are smooth with λ = {lowest}"
        return Toric(hit.ratio, hit.ratio, multiplicity, words, most)
    if multiplicity is not None:
        return Toric(lowest, lowest, 1, f"{where}; zeros off the axes are smooth with λ = {lowest}, which is less")
    return Toric(lowest, hit.ratio, None, f"{where}; initial forms have zeros off the axes of rank {2 * lowest}")


@dataclass(frozen=True)
class _Ideal:
    generators: tuple[PolyElement, ...]
    power: Exponent
    local: tuple[int, ...]
    nonzero: tuple[int, ...]

    def __post_init__(self) -> None:
        exponents = {self._exponent(m) for g in self.generators for m in g}
        object.__setattr__(self, "polyhedron", NewtonPolyhedron.of(exponents))

    polyhedron: NewtonPolyhedron = None  # type: ignore[assignment]

    def _exponent(self, monomial: Exponent) -> Exponent:
        return tuple(monomial[j] + self.power[j] for j in self.local)

    def forms(self, face: Face) -> frozenset[PolyElement]:
        """Return the initial forms of the generators that meet a compact face, without monomial content."""
        on_it = {self.polyhedron.points[i] for i in face.points}
        found = []
        for g in self.generators:
            terms = {m: c for m, c in g.items() if self._exponent(m) in on_it}
            if terms:
                found.append(stripped(g.ring.from_dict(terms)))
        return frozenset(found)

    def scalable(self, face: Face) -> list[int]:
        """Return variables that a complex torus action sets to 1 without a change in whether the forms vanish."""
        normals = [self.polyhedron.facets[k][0] for k in face.facets]
        chosen: list[int] = []
        for j in range(len(self.local)):
            if rank([tuple(w[i] for i in (*chosen, j)) for w in normals]) > len(chosen):
                chosen.append(j)
        return [self.local[j] for j in chosen]


def _ranks(ideal: _Ideal, hit: Hit, budget: Budget) -> tuple[Fraction | None, int | None, int | None]:
    """Return (r/2, m, upper bound of m): the least λ at zeros off the axes (None: no zeros), and m if it is known."""
    groups: dict[frozenset[PolyElement], list[Face]] = {}
    size = sum(map(len, ideal.generators))
    for face in ideal.polyhedron.compact_faces:
        budget.spend(size)
        forms = ideal.forms(face)
        if not any(len(f) == 1 for f in forms):
            groups.setdefault(forms, []).append(face)
    lowest: Fraction | None = None
    enough = len(ideal.generators) + 1 if hit.ratio is None else floor(2 * hit.ratio) + 1
    tied: list[tuple[frozenset[PolyElement], list[Face]]] = []
    for forms, faces in groups.items():
        budget.spend(_STEPS_OF_A_FACE + len(ideal.local) ** 3)
        assured = _assured_rank(sorted(forms, key=len), ideal.scalable(faces[0]), ideal, enough, budget)
        if assured is None:
            continue
        lowest = Fraction(assured, 2) if lowest is None else min(lowest, Fraction(assured, 2))
        if assured < enough:
            tied.append((forms, faces))
    if lowest is None or (hit.ratio is not None and lowest > hit.ratio):
        return lowest, None, None
    if hit.ratio is None or lowest < hit.ratio:
        exact = len(ideal.generators) == 2 * lowest and any(_have_zero(forms) for forms, _ in tied)
        return lowest, 1 if exact else None, None
    return lowest, *_tied_multiplicity(ideal, hit, tied)


def _tied_multiplicity(
    ideal: _Ideal, hit: Hit, tied: list[tuple[frozenset[PolyElement], list[Face]]]
) -> tuple[int | None, int]:
    """Return m for r/2 = λ0, or None if it is not known, and an upper bound of m."""
    certain = possible = hit.codimension
    for forms, faces in tied:
        for face in faces:
            attaining = 1 + ideal.polyhedron.rank(face.facets & hit.facets)
            possible = max(possible, attaining)
            smooth = len(ideal.generators) == _twice(hit) or (len(forms) == _twice(hit) and face.facets <= hit.facets)
            if attaining > certain and smooth and _have_zero(forms):
                certain = attaining
    return certain if certain == possible else None, possible


def _twice(hit: Hit) -> Fraction:
    return 2 * (hit.ratio or Fraction(0))


def _have_zero(forms: frozenset[PolyElement]) -> bool:
    return len(forms) == 1 and changes_sign_on_torus(next(iter(forms)))


def _assured_rank(
    forms: list[PolyElement], scalable: list[int], ideal: _Ideal, enough: int, budget: Budget
) -> int | None:
    """Return a lower bound, at most `enough`, of the rank at the forms' common real torus zeros; None: no zeros."""
    if _empty(forms, [], scalable, budget):
        return None
    variables = [*ideal.local, *ideal.nonzero]
    for size in range(min(enough, len(forms)), 0, -1):
        minors = log_minors(forms, size, variables)
        if minors and _empty(forms, minors, scalable, budget):
            return size
    return 0


def _empty(forms: list[PolyElement], more: list[PolyElement], scalable: list[int], budget: Budget) -> bool:
    """Return whether forms and minors have no common real torus zero; complex zeros are tried first: it is cheaper."""
    for system in branches(forms):
        ring = forms[0].ring
        scaled = [p.compose([(ring.gens[j], ring.one) for j in scalable]) for p in [*system, *more]]
        basis = groebner(scaled, budget, torus=True)
        if not (basis and basis[0].is_ground) and not no_common_torus_zero([*system, *more], budget):
            return False
    return True
