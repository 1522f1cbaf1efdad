"""Polynomials in two coordinates as maps of exponents: Newton polygons, toric blow-ups, shifts."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

from sandbox.learning_coefficient.plane.real_field import RealField

Terms = dict[tuple[int, int], Any]
"""A polynomial: a map from the exponents of (u, v) to coefficients, none of them zero."""


def shifted(field: RealField, terms: Terms, point: tuple[Any, Any]) -> Terms:
    """Return f(u + a, v + b) for the point (a, b), two elements of the field."""
    for j, value in enumerate(point):
        terms = shifted_along(field, terms, j, value)
    return terms


def edge_polynomial(field: RealField, terms: Terms, ray: tuple[int, int]) -> Any:
    """Return the part of lowest weight as a polynomial in τ = v^p / u^q, without roots at 0."""
    p, q = ray
    order = order_of(terms, p, q)
    edge = {j: c for (i, j), c in terms.items() if p * i + q * j == order}
    first = min(edge)
    return field.poly([edge.get(j, field.domain.zero) for j in range(first, max(edge) + 1, p)])


def complement(p: int, q: int) -> tuple[int, int]:
    """Return the smallest pair (q', p') with p p' - q q' = 1."""
    up = pow(p, -1, q)
    choices = [((p * k - 1) // q, k) for k in (up + q, up, up - q)]
    return min(choices, key=lambda choice: abs(choice[0]) + abs(choice[1]))


def blown_up(terms: Terms, ray: tuple[int, int]) -> Terms:
    """Return the strict transform in (s, τ), up to a power of τ."""
    p, q = ray
    over, up = complement(p, q)
    moved = {(p * i + q * j, over * i + up * j): c for (i, j), c in terms.items()}
    return without_axes(moved)[0]


def without_axes(terms: Terms) -> tuple[Terms, tuple[int, int]]:
    """Return f / (u^a v^b) with the largest possible a and b, and (a, b)."""
    a, b = (min(at[j] for at in terms) for j in (0, 1))
    return {(i - a, j - b): c for (i, j), c in terms.items()}, (a, b)


def shifted_along(field: RealField, terms: Terms, axis: int, value: Any) -> Terms:
    """Return f with one coordinate moved: u + value for axis 0, v + value for axis 1."""
    if not value:
        return terms
    rows: dict[int, dict[int, Any]] = {}
    for at, c in terms.items():
        rows.setdefault(at[1 - axis], {})[at[axis]] = c
    found: Terms = {}
    for other, row in rows.items():
        for j, c in enumerate(_taylor([row.get(j, field.domain.zero) for j in range(max(row) + 1)], value)):
            if c:
                found[(other, j) if axis == 1 else (j, other)] = c
    return found


def _taylor(coefficients: list[Any], value: Any) -> list[Any]:
    """Return the coefficients of f(t + value), lowest first, by repeated Horner steps."""
    moved = list(coefficients)
    for start in range(len(moved) - 1):
        for j in range(len(moved) - 2, start - 1, -1):
            moved[j] = moved[j] + value * moved[j + 1]
    return moved


def order_of(terms: Terms, p: int, q: int) -> int:
    """Return the least weight p i + q j of the terms."""
    return min(p * i + q * j for i, j in terms)


def corners(terms: Terms) -> list[tuple[int, int]]:
    """Return the vertices of the Newton polygon, those of low u first."""
    lowest: dict[int, int] = {}
    for i, j in terms:
        lowest[i] = min(j, lowest.get(i, j))
    hull: list[tuple[int, int]] = []
    for corner in sorted(lowest.items()):
        if hull and corner[1] >= hull[-1][1]:
            continue
        while len(hull) > 1 and _turn(hull[-2], hull[-1], corner) <= 0:
            hull.pop()
        hull.append(corner)
    return hull


def normals(terms: Terms) -> list[tuple[int, int]]:
    """Return the primitive inner normals of the compact edges of the Newton polygon."""
    steps = [Fraction(a[1] - b[1], b[0] - a[0]) for a, b in pairwise(corners(terms))]
    return [(step.numerator, step.denominator) for step in steps]


def _turn(a: tuple[int, int], b: tuple[int, int], c: tuple[int, int]) -> int:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
