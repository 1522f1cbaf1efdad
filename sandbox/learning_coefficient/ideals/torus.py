"""Proved facts about real zeros off the coordinate hyperplanes, on the torus (R minus 0)^D.

A monomial is a unit there, so it is divided out. A complex Groebner basis [1] rules zeros out. Signs, root counts and
sums of squares use the real numbers: the real zeros of a sum of squares are those of all squared polynomials.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations, product
from typing import Any

import sympy
from sympy.polys.rings import PolyElement, PolyRing

from sandbox.learning_coefficient.ideals.polynomials import (
    Budget,
    Exponent,
    UndecidedError,
    factors,
    groebner,
    stripped,
)


def squares(p: PolyElement) -> list[tuple[Fraction, PolyElement]] | None:
    """Return [(c, q), ...] with c > 0 and p = sum c q^2, or None if the one Gram matrix that is tried fails.

    The monomials of the q are half the even monomials of p; a mixed coefficient is spread evenly over the products that
    make it. The matrix is tested by an exact LDL^T factorisation (Powers and Wörmann 1998), so the result is exact.
    """
    half = [tuple(e // 2 for e in m) for m, c in p.items() if c > 0 and all(e % 2 == 0 for e in m)]
    if not half or len(half) > 24:
        return None
    size = len(half)
    gram = [[Fraction(0)] * size for _ in half]
    made: dict[Exponent, list[tuple[int, int]]] = {}
    for i, j in combinations(range(size), 2):
        made.setdefault(tuple(a + b for a, b in zip(half[i], half[j], strict=True)), []).append((i, j))
    doubled = {tuple(2 * e for e in m): i for i, m in enumerate(half)}
    for m, c in p.items():
        value = Fraction(int(c.numerator), int(c.denominator))
        if m in doubled:
            gram[doubled[m]][doubled[m]] = value
        elif m not in made:
            return None
        else:
            for i, j in made[m]:
                gram[i][j] = gram[j][i] = value / (2 * len(made[m]))
    return _ldl(gram, half, p.ring)


def _ldl(gram: list[list[Fraction]], monomials: list[Exponent], ring: PolyRing) -> list[tuple[Fraction, Any]] | None:
    found = []
    size = len(gram)
    for k in range(size):
        pivot = gram[k][k]
        if pivot < 0 or (pivot == 0 and any(gram[k][k:])):
            return None
        if pivot == 0:
            continue
        row = [gram[k][j] / pivot for j in range(size)]
        terms = {monomials[j]: sympy.QQ(row[j].numerator, row[j].denominator) for j in range(k, size) if row[j]}
        found.append((pivot, ring.from_dict(terms)))
        for i in range(k + 1, size):
            for j in range(k + 1, size):
                gram[i][j] -= pivot * row[i] * row[j]
    return found


def has_no_torus_zero(p: PolyElement) -> bool:
    """Return whether p certainly has no real torus zeros: by its signs, a root count (Sturm) or squares."""
    p = stripped(p)
    if len(p) == 1:
        return True
    signs = {c > 0 for c in p.values()}
    if len(signs) == 1 and all(e % 2 == 0 for m in p for e in m):
        return True
    line = _along_a_line(p)
    if line is not None:
        return bool(sympy.Poly(line, sympy.Symbol("t"), domain=sympy.QQ).count_roots() == 0)
    for q in (p, -p):
        terms = squares(q)
        if terms is not None and any(len(s) == 1 for _, s in terms):
            return True
    return False


def _along_a_line(p: PolyElement) -> list[Any] | None:
    """Return coefficients in t, highest first, if p is a polynomial in one primitive Laurent monomial t, else None.

    A primitive monomial has an odd exponent, so on the torus t is any real number but 0; 0 is no root.
    """
    exponents = sorted(p)
    first = exponents[0]
    steps = [tuple(a - b for a, b in zip(e, first, strict=True)) for e in exponents]
    unit = sympy.igcd(*steps[1])
    direction = tuple(s // unit for s in steps[1])
    j = next(j for j, d in enumerate(direction) if d)
    multiples = [step[j] // direction[j] for step in steps]
    if any(tuple(k * d for d in direction) != step for k, step in zip(multiples, steps, strict=True)):
        return None
    low = min(multiples)
    coefficients = [sympy.QQ(0)] * (max(multiples) - low + 1)
    for k, e in zip(multiples, exponents, strict=True):
        coefficients[-1 - (k - low)] = p[e]
    return coefficients


def branches(polys: Sequence[PolyElement], most: int = 48) -> list[list[PolyElement]]:
    """Return systems of polynomials whose real torus zeros together are those of `polys`; [] if there are none.

    Factors without real zeros are dropped, a product is split, and a sum of squares is replaced by the squared
    polynomials. Raises UndecidedError for more than `most` systems.
    """
    systems: list[list[list[PolyElement]]] = []
    for p in polys:
        if not p:
            continue
        parts = [f for f, _ in factors(stripped(p)) if not has_no_torus_zero(f)]
        if not parts:
            return []
        systems.append([_real_zeros(f) for f in parts])
    count = 1
    for parts_of_one in systems:
        count *= len(parts_of_one)
    if count > most:
        raise UndecidedError(f"the system splits into {count} cases")
    return [[q for part in choice for q in part] for choice in product(*systems)]


def _real_zeros(f: PolyElement) -> list[PolyElement]:
    for q in (f, -f):
        terms = squares(q)
        if terms is not None:
            return [s for _, s in terms]
    return [f]


def no_common_torus_zero(polys: Sequence[PolyElement], budget: Budget, depth: int = 2) -> bool:
    """Return whether the polynomials certainly have no common real torus zero. False decides nothing."""
    for system in branches(polys):
        basis = groebner(system, budget, torus=True)
        if basis and basis[0].is_ground:
            continue
        if depth == 0 or not basis or {*map(stripped, system)} == {*map(stripped, basis)}:
            return False
        if not no_common_torus_zero(basis, budget, depth - 1):
            return False
    return True


def log_minors(forms: Sequence[PolyElement], size: int, variables: Sequence[int], most: int = 500) -> list[PolyElement]:
    """Return the nonzero minors of a size of the log Jacobian (w_j df_i / dw_j). Raises UndecidedError for too many."""
    columns = [j for j in variables if any(m[j] for f in forms for m in f)]
    rows = [[_log_derivative(f, j) for j in columns] for f in forms]
    if size > min(len(rows), len(columns)):
        return []
    if sympy.binomial(len(rows), size) * sympy.binomial(len(columns), size) > most:
        raise UndecidedError("the Jacobian has too many minors")
    found = [
        _determinant([[rows[i][j] for j in chosen] for i in which])
        for which in combinations(range(len(rows)), size)
        for chosen in combinations(range(len(columns)), size)
    ]
    return [p for p in found if p]


def _log_derivative(p: PolyElement, j: int) -> PolyElement:
    return p.ring.from_dict({m: c * m[j] for m, c in p.items() if m[j]})


def _determinant(matrix: list[list[PolyElement]]) -> PolyElement:
    if len(matrix) == 1:
        return matrix[0][0]
    total = matrix[0][0].ring.zero
    for j, entry in enumerate(matrix[0]):
        if entry:
            total += (-1) ** j * entry * _determinant([[*row[:j], *row[j + 1 :]] for row in matrix[1:]])
    return total


def changes_sign_on_torus(p: PolyElement) -> bool:
    """Return whether p certainly has a real torus zero: a zero value, or both signs in one orthant."""
    size = p.ring.ngens
    used = [j for j in range(size) if any(m[j] for m in p)]
    for signs in product((1, -1), repeat=len(used)):
        seen = set()
        for k in range(12):
            values = [sympy.QQ(1)] * size
            for i, j in enumerate(used):
                # Varied powers of 2 make different terms the largest one, which decides the sign of the polynomial.
                values[j] = signs[i] * sympy.QQ(2) ** ((7 * k * (i + 1) + 3 * k * k * i) % 11 - 5)
            value = p.evaluate(list(zip(p.ring.gens, values, strict=True)))
            seen |= {value > 0} if value else set()
            if value == 0 or len(seen) == 2:
                return True
    return False
