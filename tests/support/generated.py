"""Random polynomials, changes of coordinates, and losses whose λ and m are known by other means than the package's."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import Any

import sympy


def polynomial(rng: random.Random, symbols: Sequence[Any], least: int, most: int, terms: int = 2) -> Any:
    """Return a sum of up to `terms` monomials of degrees from `least` to `most` with small integer coefficients."""
    total = sympy.Integer(0)
    for _ in range(rng.randint(1, terms)):
        chosen = [rng.choice(list(symbols)) for _ in range(rng.randint(least, most))]
        total += rng.choice([-2, -1, 1, 2, 3]) * sympy.prod(chosen)
    return total


def changed(rng: random.Random, symbols: Sequence[Any], shears: int = 3) -> dict[Any, Any]:
    """Return an invertible linear change of coordinates with small integers, as a product of shears and scalings."""
    rows = sympy.eye(len(symbols))
    for _ in range(shears):
        i, j = rng.sample(range(len(symbols)), 2)
        rows[i, :] = rows[i, :] + rng.choice([-2, -1, 1, 2]) * rows[j, :]
    image = rows * sympy.Matrix(symbols)
    return dict(zip(symbols, image, strict=True))


Known = tuple[Fraction, int]
"""λ and m."""


@dataclass(frozen=True)
class Loss:
    """A loss with its parameters and the λ and m that a theorem gives it at the origin."""

    K: Any
    symbols: tuple[Any, ...]
    known: Known
    story: str


def loss(rng: random.Random, size: int) -> Loss:
    """Return a loss in `size` parameters, made of parts with known λ by rules that keep λ known."""
    w = sympy.symbols(f"w1:{size + 1}", real=True)
    made = _built(rng, w)
    K, story = made.K, made.story
    if rng.random() < 0.3:
        power = rng.choice([2, 2, 3])
        value, order = made.known
        made = Loss(K**power, w, (value / power, order), f"{story}, to the power {power}")
        K, story = made.K, made.story
    if rng.random() < 0.35:
        K, story = K.xreplace(changed(rng, w)), f"{story}, in other linear coordinates"
    elif rng.random() < 0.3:
        j = rng.randrange(size)
        others = [v for v in w if v != w[j]]
        K = K.xreplace({w[j]: w[j] + polynomial(rng, others, 2, 3, 1)})
        story = f"{story}, in other curved coordinates"
    if rng.random() < 0.3:
        K, story = K * (1 + rng.choice(w) ** 2 + rng.choice(w)), f"{story}, times a unit"
    if rng.random() < 0.4:
        expanded = sympy.expand(K)
        K = expanded if len(str(expanded)) < 1500 else K
    return Loss(K, w, made.known, story)


def _built(rng: random.Random, w: Sequence[Any]) -> Loss:
    """Return a base, or a sum or product of two in disjoint parameters (Watanabe 2009, remark 7.2; Lin 2011)."""
    if len(w) > 2 and rng.random() < 0.6:
        cut = rng.randint(1, len(w) - 1)
        one, other = _built(rng, w[:cut]), _built(rng, w[cut:])
        story = f"({one.story}) {{}} ({other.story})"
        (first, m1), (second, m2) = one.known, other.known
        if rng.random() < 0.5:
            return Loss(one.K + other.K, tuple(w), (first + second, m1 + m2 - 1), story.format("plus"))
        order = m1 + m2 if first == second else m1 if first < second else m2
        return Loss(one.K * other.K, tuple(w), (min(first, second), order), story.format("times"))
    return rng.choice(_BASES[min(len(w), 3)])(rng, tuple(w))


def _powers(rng: random.Random, w: tuple[Any, ...]) -> Loss:
    halves = [rng.randint(1, 3) for _ in w]
    K = sum(rng.choice([1, 2, 3]) * v ** (2 * k) for v, k in zip(w, halves, strict=True))
    return Loss(K, w, (sum((Fraction(1, 2 * k) for k in halves), Fraction(0)), 1), "a sum of powers")


def _crossing(rng: random.Random, w: tuple[Any, ...]) -> Loss:
    halves = [rng.randint(1, 3) for _ in w]
    most = max(halves)
    K = sympy.prod(v ** (2 * k) for v, k in zip(w, halves, strict=True))
    return Loss(K, w, (Fraction(1, 2 * most), halves.count(most)), "a normal crossing")


def _monomials(rng: random.Random, w: tuple[Any, ...]) -> Loss:
    exponents = {tuple(rng.randint(0, 3) for _ in w) for _ in range(rng.randint(2, 4))} - {(0,) * len(w)}
    exponents = exponents or {(1,) * len(w)}
    K = sum(sympy.prod(v**e for v, e in zip(w, m, strict=True)) ** 2 for m in sorted(exponents))
    return Loss(K, w, monomial_ideal(exponents), "a monomial ideal")


def monomial_ideal(exponents: Iterable[tuple[int, ...]]) -> Known:
    """Return λ and m of a sum of squares of monomials: the least sum(w) / 2 over w >= 0 with w . v >= 1 for each v.

    The vertices of this polyhedron are found by trying all sets of tight constraints; m is the rank of the best ones.
    """
    rows = sorted(exponents)
    size = len(rows[0])
    sides = [(row, 1) for row in rows] + [(tuple(int(i == j) for j in range(size)), 0) for i in range(size)]
    best: dict[Fraction, list[Any]] = {}
    for tight in combinations(sides, size):
        matrix = sympy.Matrix([row for row, _ in tight])
        if matrix.det() == 0:
            continue
        vertex = matrix.LUsolve(sympy.Matrix([level for _, level in tight]))
        if min(vertex) >= 0 and all(sum(a * b for a, b in zip(row, vertex, strict=True)) >= 1 for row in rows):
            total = sum(vertex)
            best.setdefault(Fraction(int(total.p), int(total.q)) / 2, []).append(list(vertex))
    least = min(best)
    return least, int(sympy.Matrix(best[least]).rank())


def _quadric(rng: random.Random, w: tuple[Any, ...]) -> Loss:
    """Return the square of a quadratic form: a cone is a surface (1/2), a definite form is |w|^4 (D / 4)."""
    signs = [rng.choice([-1, 1]) for _ in w]
    form = sum(s * rng.choice([1, 2]) * v**2 for s, v in zip(signs, w, strict=True))
    value = Fraction(1, 2) if len(set(signs)) == 2 else Fraction(len(w), 4)
    return Loss(form**2, w, (value, 1), "the square of a quadratic form")


def _curve(rng: random.Random, w: tuple[Any, ...]) -> Loss:
    """Return (x^p - y^q)^2 with coprime p, q (Varchenko 1976)."""
    p, q = rng.choice([(2, 3), (2, 5), (3, 4), (3, 5), (2, 7)])
    value = min(Fraction(p + q, 2 * p * q), Fraction(1, 2))
    return Loss((w[0] ** p - rng.choice([1, 2]) * w[1] ** q) ** 2, w, (value, 1), "a cusp")


def _graph(rng: random.Random, w: tuple[Any, ...]) -> Loss:
    K = (w[0] - polynomial(rng, w[1:], 1, 3)) ** 2
    return Loss(K, w, (Fraction(1, 2), 1), "the square of a graph")


_BASES = {
    1: [_powers],
    2: [_powers, _crossing, _monomials, _curve, _graph],
    3: [_powers, _crossing, _monomials, _quadric, _graph],
}
