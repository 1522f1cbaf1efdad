"""λ and m of an ideal, or of one polynomial K >= 0, at the origin, in any number of parameters: exact, or a bracket.

The answer depends on the ideal only: K = sum g_i^2 and K = sum (sum_j u_ij g_j)^2 bound each other (Lin, "Ideal-
theoretic strategies for asymptotic approximation of marginal likelihood integrals", 1003.5338; Watanabe 2009). All
geometry is real. The work is limited by a count of steps, not by a clock, so that the same question has the same answer
on every machine. If the steps run out, the answer is a bracket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import sympy

from sandbox.learning_coefficient.coefficient import LearningCoefficient
from sandbox.learning_coefficient.ideals.bounds import Bracket, bounds_at
from sandbox.learning_coefficient.ideals.closed_forms import recognise
from sandbox.learning_coefficient.ideals.germ import Germ
from sandbox.learning_coefficient.ideals.linear import in_other_coordinates
from sandbox.learning_coefficient.ideals.nonnegative import Nonnegative
from sandbox.learning_coefficient.ideals.polyhedron import NewtonPolyhedron
from sandbox.learning_coefficient.ideals.polynomials import Budget, UndecidedError, to_ring
from sandbox.learning_coefficient.ideals.resolution import Pole, Search
from sandbox.learning_coefficient.written import without_powers
from sandbox.tools.errors import InputError

_STEPS = 150_000
_STEPS_IN_OTHER_COORDINATES = 100_000
_STEPS_FOR_BOUNDS = 200_000
_MOST_STEPS_TOLD = 8


def of_ideal(
    generators: Sequence[Any], symbols: Sequence[Any], exponents: Sequence[Fraction | int] | None = None
) -> LearningCoefficient:
    """Return λ and m of sum g_i^2 at the origin, under a prior that behaves as prod |w_j|^h_j, h = `exponents` (0).

    Generators are SymPy expressions or polynomials in the symbols with rational coefficients that vanish at the origin.
    Raises InputError otherwise, for exponents <= -1 or of another number, and for an ideal that is zero.
    """
    germ = _germ(generators, symbols, exponents)
    known = recognise(generators, symbols) if not any(germ.prior) else None
    if known is not None and known.at_origin:
        return known.coefficient
    search = Search(Budget(_STEPS))
    try:
        return _answer(search.pole(germ))
    except UndecidedError as why:
        return _bracketed(bounds_at(Search(Budget(_STEPS_FOR_BOUNDS)), germ), str(why))


def of_function(
    K: Any, symbols: Sequence[Any], exponents: Sequence[Fraction | int] | None = None
) -> LearningCoefficient:
    """Return λ and m of K at the origin, under a prior that behaves as prod |w_j|^h_j, h = `exponents` (0).

    K is a SymPy expression or polynomial with rational coefficients, zero at the origin and >= 0 near it. Raises
    InputError if K is not zero there, or if its Newton polyhedron shows it negative along a curve into the origin.
    """
    base, power = without_powers(K, symbols)
    germ = _germ([base], symbols, exponents)
    _check_sign(germ, K)
    if len(germ.occurring()) == 2:
        return _in_the_plane(K, symbols, germ)
    try:
        return _answer(_pole(base, symbols, exponents, _STEPS).scaled(Fraction(1, power)))
    except UndecidedError as why:
        reason = str(why)
    if not any(germ.prior):
        for moved in in_other_coordinates(base, symbols):
            try:
                pole = _pole(moved, symbols, exponents, _STEPS_IN_OTHER_COORDINATES)
            except UndecidedError:
                continue
            return _answer(replace(pole, steps=("in other linear coordinates", *pole.steps)).scaled(Fraction(1, power)))
    bounds = Search(Budget(_STEPS_FOR_BOUNDS))
    lower, upper = Nonnegative(bounds, germ.prior).bracket(germ.generators[0])
    return _bracketed((lower / power, upper / power), reason)


def _pole(K: Any, symbols: Sequence[Any], exponents: Sequence[Fraction | int] | None, steps: int) -> Pole:
    """Return the pole of K >= 0, from its squares as written or from the expanded polynomial; else UndecidedError."""
    search = Search(Budget(steps))
    written = _written_squares(K)
    if written is not None:
        try:
            return search.pole(_germ(written, symbols, exponents))
        except UndecidedError:
            search = Search(Budget(steps))
    germ = _germ([K], symbols, exponents)
    return Nonnegative(search, germ.prior).pole(germ.generators[0])


def _germ(generators: Sequence[Any], symbols: Sequence[Any], exponents: Sequence[Fraction | int] | None) -> Germ:
    size = len(symbols)
    powers = tuple(Fraction(h) for h in exponents or [0] * size)
    if len(powers) != size:
        raise InputError(f"{len(powers)} exponents of the prior for {size} parameters")
    if any(h <= -1 for h in powers):
        raise InputError(f"the prior's exponents {', '.join(map(str, powers))} must be above -1 to be integrable")
    ring_elements = to_ring(generators, symbols)
    if not any(ring_elements):
        raise InputError("K is zero everywhere: it has no learning coefficient")
    for g, p in zip(generators, ring_elements, strict=True):
        if p.coeff(1):
            raise InputError(f"{g} is {p.coeff(1)} at the point, not 0: the point is not in W0")
    kept = tuple(p for p in ring_elements if p)
    return Germ(kept, (0,) * size, powers, tuple(range(size)))


def _check_sign(germ: Germ, K: Any) -> None:
    """Raise InputError if a vertex of the Newton polyhedron shows that K is negative somewhere near the origin."""
    p = germ.generators[0]
    polyhedron = NewtonPolyhedron.of(p)
    try:
        vertices = [polyhedron.points[next(iter(f.points))] for f in polyhedron.compact_faces if len(f.points) == 1]
    except UndecidedError:
        return
    for v in vertices:
        if p[v] < 0 or any(e % 2 for e in v):
            raise InputError(f"{K} is negative near the point: its term {p.ring.from_dict({v: p[v]})} dominates there")


def _written_squares(K: Any) -> list[Any] | None:
    """Return the bases of the squares if K is a sum of squares with positive coefficients as written, else None."""
    if isinstance(K, sympy.Poly):
        return None
    found = []
    for term in sympy.Add.make_args(K):
        coefficient, rest = term.as_coeff_Mul()
        powers = [factor.as_base_exp() for factor in sympy.Mul.make_args(rest)]
        if coefficient <= 0 or any(not (e.is_Integer and e.is_even and e > 0) for _, e in powers):
            return None
        found.append(sympy.prod([base ** (e / 2) for base, e in powers]))
    return found


def _in_the_plane(K: Any, symbols: Sequence[Any], germ: Germ) -> LearningCoefficient:
    from sandbox.learning_coefficient.plane.of_polynomial import at_origin

    first, second = sorted(germ.occurring())
    poly = sympy.Poly(K.as_expr(), symbols[first], symbols[second], domain=sympy.QQ)
    return at_origin(poly, (germ.prior[first], germ.prior[second]))


def _answer(pole: Pole) -> LearningCoefficient:
    if pole.ratio is None:
        raise UndecidedError("no pole was found")
    steps = pole.steps
    if len(steps) > _MOST_STEPS_TOLD:
        half = _MOST_STEPS_TOLD // 2
        steps = (*steps[:half], f"... {len(steps) - 2 * half} more ...", *steps[-half:])
    return LearningCoefficient(pole.ratio, pole.order, "resolution", "; ".join(steps))


def _bracketed(bounds: Bracket, why: str) -> LearningCoefficient:
    lower, upper = bounds
    words = f"λ is between {lower} and {upper}; not exact: {why}"
    if lower == upper:
        return LearningCoefficient(lower, None, "bounds that meet", f"both bounds of λ are {lower}; m is not known")
    return LearningCoefficient(None, None, "bracket", words, bounds)
