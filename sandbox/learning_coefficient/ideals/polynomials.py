"""Polynomials with rational coefficients: factors, ranks and Groebner bases, each within a budget of steps.

Everything here is exact and every loop is counted: a `Budget` that runs out raises `UndecidedError`. So no question
about an ideal runs for ever, and the same question always ends in the same way.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import combinations
from math import gcd, prod
from typing import Any

import sympy
from sympy.polys.rings import PolyElement, PolyRing

from sandbox.tools.errors import InputError

Exponent = tuple[int, ...]

_LARGEST_FACTORED = 1500
"""The largest product of (degree + 1) over the variables for which a polynomial is factored."""
_SMALL = 200
_LARGEST_SPLIT = 6_000
"""The same for its division into factors by multiplicity, which takes greatest common divisors only."""


class UndecidedError(Exception):
    """An error: no theorem that was tried decides the question within its budget."""


class Budget:
    """A count of the elementary steps (terms touched) that are left for a question."""

    def __init__(self, steps: int):
        self.steps = steps

    def spend(self, steps: int) -> None:
        """Take steps from the budget. Raises UndecidedError if too few are left."""
        self.steps -= steps
        if self.steps < 0:
            raise UndecidedError("the budget of the search is used up")

    @contextmanager
    def part(self, most: int) -> Iterator[Budget]:
        """Yield a budget of at most `most` steps for one attempt; afterwards the unused steps come back."""
        lent = min(most, self.steps)
        part = Budget(lent)
        try:
            yield part
        finally:
            self.steps -= lent - max(part.steps, 0)


def is_polynomial(expression: Any, symbols: Sequence[Any], algebraic: bool = False) -> bool:
    """Return whether the expression is a polynomial in the symbols with rational (or real algebraic) coefficients."""
    if not expression.is_polynomial(*symbols):
        return False
    if all(number.is_Rational for number in _numbers(expression)):
        return True
    coefficients = sympy.Poly(expression, *symbols).coeffs()
    return all(c.is_Rational or (algebraic and c.is_algebraic and c.is_real) for c in coefficients)


def _numbers(expression: Any) -> Iterator[Any]:
    walk = sympy.preorder_traversal(expression)
    for node in walk:
        if node.is_number:
            yield node
            walk.skip()


def to_ring(expressions: Sequence[Any], symbols: Sequence[Any]) -> tuple[PolyElement, ...]:
    """Return expressions or `sympy.Poly` as elements of Q[symbols] in graded reverse lexicographic order.

    Raises InputError for an expression that is no polynomial in the symbols with rational coefficients.
    """
    ring = PolyRing([str(s) for s in symbols], sympy.QQ, sympy.grevlex)
    elements = []
    for expression in expressions:
        try:
            poly = sympy.Poly(expression.as_expr(), *symbols, domain=sympy.QQ)
        except (sympy.PolynomialError, sympy.CoercionFailed) as error:
            raise InputError(
                f"{expression} is not a polynomial in {', '.join(map(str, symbols))} with rational coefficients"
            ) from error
        elements.append(ring.from_dict(dict(poly.rep.to_dict())))
    return tuple(elements)


def monomial_content(p: PolyElement) -> Exponent:
    """Return the exponents of the largest monomial that divides p."""
    return tuple(map(min, zip(*p, strict=True)))


def divided(p: PolyElement, exponent: Exponent) -> PolyElement:
    """Return p divided by a monomial that divides it."""
    return p.ring.from_dict({tuple(a - b for a, b in zip(e, exponent, strict=True)): c for e, c in p.items()})


def stripped(p: PolyElement) -> PolyElement:
    """Return p divided by its monomial content and made primitive."""
    return divided(p, monomial_content(p)).primitive()[1]


@lru_cache(maxsize=4096)
def factors(p: PolyElement) -> tuple[tuple[PolyElement, int], ...]:
    """Return the irreducible factors over Q with exponents; a factor too large for factoring stays whole."""
    content = monomial_content(p)
    gens = p.ring.gens
    found = [(gens[j], k) for j, k in enumerate(content) if k]
    p = divided(p, content)
    if len(p) > 1:
        found += [(f, k) for f, k in _factors(p) if not f.is_ground]
    return tuple(found)


def _factors(p: PolyElement) -> list[tuple[PolyElement, int]]:
    """Return factors of p, which has no monomial content. Sparse shortcuts come first: dense factoring is slow."""
    ring, used = p.ring, [j for j in range(p.ring.ngens) if any(m[j] for m in p)]
    for j in used:
        if max(m[j] for m in p) == 1:
            # u w + r with coprime u and r is irreducible.
            u = ring.from_dict({(*m[:j], 0, *m[j + 1 :]): c for m, c in p.items() if m[j]})
            r = ring.from_dict({m: c for m, c in p.items() if not m[j]})
            common = u.gcd(r)
            return [(p.quo(common), 1), *([] if common.is_ground else _factors(common))]
    for size in range(2, len(used) + 1):
        for chosen in combinations(used, size):
            degrees = (sum([m[j] for j in chosen]) for m in p)
            first = next(degrees)
            if all(d == first for d in degrees):
                j = chosen[0]
                flat = ring.from_dict({(*m[:j], 0, *m[j + 1 :]): c for m, c in p.items()})
                return [(_homogeneous(f, chosen), k) for f, k in _factors(flat)]
    if _size(p) <= _SMALL:
        return [(f, int(k)) for f, k in p.factor_list()[1]]
    # A power is split first, because its root is factored much faster.
    parts = p.sqf_list()[1] if _size(p) <= _LARGEST_SPLIT else [(p, 1)]
    return [
        (f, int(j * k))
        for part, k in parts
        for f, j in (part.factor_list()[1] if _size(part) <= _LARGEST_FACTORED else [(part, 1)])
    ]


def _size(p: PolyElement) -> int:
    """Return the product of (degree + 1) over the variables."""
    return prod(1 + degree for degree in map(max, zip(*p, strict=True)))


def rank(rows: Sequence[Exponent]) -> int:
    """Return the exact rank of an integer matrix (elimination without fractions, Bareiss 1968)."""
    left = [list(row) for row in rows]
    found = 0
    for j in range(len(left[0]) if left else 0):
        pivot = next((row for row in left[found:] if row[j]), None)
        if pivot is None:
            continue
        left.remove(pivot)
        left.insert(found, pivot)
        found += 1
        for row in left[found:]:
            factor = row[j]
            row[:] = [pivot[j] * x - factor * y for x, y in zip(row, pivot, strict=True)]
            unit = gcd(*row)
            row[:] = [x // unit for x in row] if unit > 1 else row
    return found


def _homogeneous(p: PolyElement, chosen: tuple[int, ...]) -> PolyElement:
    """Return p made homogeneous in the chosen variables by powers of the first, which p does not contain."""
    j, *others = chosen
    degree = max(sum(m[i] for i in others) for m in p)
    return p.ring.from_dict({(*m[:j], degree - sum(m[i] for i in others), *m[j + 1 :]): c for m, c in p.items()})


def _degree_of_lcm(a: Exponent, b: Exponent) -> int:
    return sum(map(max, a, b))


def _divides(a: Exponent, b: Exponent) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True))


def remainder(p: PolyElement, basis: Sequence[PolyElement], budget: Budget) -> PolyElement:
    """Return p reduced by monic polynomials until its leading term is divisible by none of their leading terms."""
    heads = [g.leading_expv() for g in basis]
    while p:
        top = p.leading_expv()
        k = next((k for k, head in enumerate(heads) if _divides(head, top)), None)
        if k is None:
            break
        budget.spend(len(p) + len(basis[k]))
        shift = tuple(a - b for a, b in zip(top, heads[k], strict=True))
        p = p - basis[k].mul_term((shift, p[top]))
    return p


def _s_polynomial(f: PolyElement, g: PolyElement) -> PolyElement:
    a, b = f.leading_expv(), g.leading_expv()
    top = tuple(map(max, a, b))
    one = f.ring.domain.one
    left = f.mul_term((tuple(x - y for x, y in zip(top, a, strict=True)), one))
    return left - g.mul_term((tuple(x - y for x, y in zip(top, b, strict=True)), one))


def groebner(generators: Sequence[PolyElement], budget: Budget, torus: bool = False) -> list[PolyElement]:
    """Return a minimal Groebner basis (Buchberger 1965); with `torus`, of an ideal with the same zeros on the torus.

    With `torus` each element is divided by its monomial content when it appears. The basis [1] means that there are no
    zeros, not even complex ones. Raises UndecidedError when the budget is used up.
    """
    basis: list[PolyElement] = []
    pairs: list[tuple[int, int, int]] = []
    waiting = sorted((g for g in generators if g), key=len, reverse=True)
    while waiting or pairs:
        if waiting:
            p = waiting.pop()
        else:
            _, i, j = heapq.heappop(pairs)
            p = _s_polynomial(basis[i], basis[j])
        budget.spend(len(p))
        p = remainder(stripped(p) if torus and p else p, basis, budget)
        if torus and p:
            p = stripped(p)
        if not p:
            continue
        p = p.monic()
        if p.is_ground:
            return [p]
        head, new = p.leading_expv(), len(basis)
        for i, g in enumerate(basis):
            other = g.leading_expv()
            # Buchberger's first criterion: coprime leading terms give a pair that reduces to zero.
            if any(map(min, head, other)):
                heapq.heappush(pairs, (_degree_of_lcm(head, other), i, new))
        basis.append(p)
    return _minimal(basis, budget)


def _minimal(basis: list[PolyElement], budget: Budget) -> list[PolyElement]:
    kept: list[PolyElement] = []
    for p in sorted(basis, key=lambda g: sum(g.leading_expv())):
        if not any(_divides(g.leading_expv(), p.leading_expv()) for g in kept):
            kept.append(p)
    return [_tail_reduced(p, [g for g in kept if g is not p], budget) for p in kept]


def _tail_reduced(p: PolyElement, others: list[PolyElement], budget: Budget) -> PolyElement:
    done = p.ring.zero
    while p:
        p = remainder(p, others, budget)
        if p:
            top = p.leading_expv()
            term = p.ring.from_dict({top: p[top]})
            done, p = done + term, p - term
    return done
