"""Whether a polynomial in two parameters is negative near a zero: decided by its real branches, never by samples.

Off its zeros K changes sign only across a real branch of odd multiplicity. So K >= 0 near the point if the product F of
the factors with odd powers has no real branch there, and K is positive at one vertex of its Newton polygon.

F is followed through the charts of `blow_up`. A vertex (i, j) gives F the sign of its coefficient times u^i v^j, so an
odd exponent gives both signs. Along an edge F has the sign of the edge polynomial, which changes at its real roots of
odd multiplicity. At roots of even multiplicity the next chart decides; F is squarefree, so this ends.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import sympy

from sandbox.learning_coefficient.plane.curve import squarefree_factors
from sandbox.learning_coefficient.plane.real_field import RealField, RealRoot, count, real_roots
from sandbox.learning_coefficient.plane.terms import (
    Terms,
    blown_up,
    corners,
    edge_polynomial,
    normals,
    shifted_along,
)


def is_negative_near(K: sympy.Poly, field: RealField, embed: Callable[[Any], Any]) -> str | None:
    """Return how K(x, y), zero at the origin, is negative near it; "" if it is not; None if that is not decided.

    `embed` maps the coefficients of K and of its factors into the field.
    """
    factors = [factor for factor, power in squarefree_factors(K) if power % 2]
    odd = reduce(lambda one, other: one * other, factors) if factors else K.one
    found = both_signs(field, {at: embed(c) for at, c in odd.terms()})
    if found is None:
        return None
    if found:
        return f"it changes its sign across a real branch of {odd.as_expr()} = 0"
    corner = corners(dict(K.terms()))[0]
    is_below = field.sign(embed(K.as_dict()[corner])) < 0
    return f"its term with the exponents {corner} dominates there" if is_below else ""


def both_signs(field: RealField, terms: Terms) -> bool | None:
    """Return whether a squarefree polynomial has both signs in every neighbourhood of the origin.

    None if that depends on a root in a field of too high a degree (`real_field.LARGEST_DEGREE`).
    """
    ends = corners(terms)
    if any(i % 2 or j % 2 for i, j in ends) or len({field.sign(terms[at]) for at in ends}) == 2:
        return True
    edges = [(ray, edge_polynomial(field, terms, ray).sqf_list()[1]) for ray in normals(terms)]
    if any(times % 2 and count(field, polynomial) for _, edge in edges for polynomial, times in edge):
        return True
    beyond = [
        None if root is None else both_signs(root.field, _strict_transform(terms, ray, root))
        for ray, edge in edges
        for polynomial, times in edge
        if times % 2 == 0
        for root in real_roots(field, polynomial)
    ]
    return True if True in beyond else None if None in beyond else False


def _strict_transform(terms: Terms, ray: tuple[int, int], root: RealRoot) -> Terms:
    """Return the polynomial in the chart around a root of an edge polynomial, without the exceptional divisor."""
    raised = {at: root.embed(c) for at, c in blown_up(terms, ray).items()}
    return shifted_along(root.field, raised, 1, root.value)
