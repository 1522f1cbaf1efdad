"""λ and m of one polynomial that theorems decide by its form: arrangements, cones with three parameters, quadrics.

- Hyperplane arrangement, K = prod |l_i|^k_i: λ is the least codim W / sum of the k_i with W in l_i = 0, over all
  intersections W of the hyperplanes (Mustață, "Multiplier ideals of hyperplane arrangements", 2006). Blow-ups of all W,
  points first, give normal crossings; divisors meet if their W form a chain, so m is the longest chain of least W.
- Quasi-homogeneous in three parameters: w_j = s^a_j u_j with max |u_j| = 1 gives K = s^N F(u) with density s^(sum a_j -
  1), and on each side u_j = +-1 F is a polynomial in two parameters over a box.
- Quadrics: if the quadratic part of f has rank 3 or more and both signs, f = 0 has rational singularities, so every
  divisor over the point has ν > N except the surface itself (Saito 1993; real λ are at least complex ones), which has
  real points: |f| has λ = 1, m = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import reduce
from itertools import combinations

import sympy
from sympy.polys.rings import PolyElement

from sandbox.learning_coefficient.ideals.polynomials import UndecidedError, rank
from sandbox.learning_coefficient.ideals.resolution import Pole, least, product_rule
from sandbox.learning_coefficient.plane import of_polynomial
from sandbox.tools.errors import InputError

Powers = Sequence[tuple[PolyElement, int]]

_MOST_PLANES = 10
_LARGEST_CONE = 24
"""The largest degree of K on a side of the box around a cone for which its λ is sought there."""


def arrangement(group: Powers, prior: Sequence[Fraction]) -> Pole | None:
    """Return the pole of a product of powers of linear forms under the prior |w|^prior; None for other products."""
    if len(group) > _MOST_PLANES or any(sum(m) != 1 for f, _ in group for m in f):
        return None
    size = len(prior)
    planes = {_row(f): (k, Fraction(0)) for f, k in group}
    for j, h in enumerate(prior):
        axis = tuple(int(i == j) for i in range(size))
        if h:
            planes[axis] = (planes.get(axis, (0, h))[0], h)
    rows = list(planes)
    flats: dict[frozenset[int], tuple[Fraction, int]] = {}
    for count in range(1, min(size, len(rows)) + 1):
        for chosen in combinations(range(len(rows)), count):
            if rank([rows[i] for i in chosen]) < count:
                continue
            flat = frozenset(i for i, row in enumerate(rows) if rank([*(rows[j] for j in chosen), row]) == count)
            order = sum(planes[rows[i]][0] for i in flat)
            flats[flat] = (count + sum((planes[rows[i]][1] for i in flat), Fraction(0)), order)
    ratios = {flat: nu / order for flat, (nu, order) in flats.items() if order}
    value = min(ratios.values())
    chain: dict[frozenset[int], int] = {}
    for flat in sorted((f for f, ratio in ratios.items() if ratio == value), key=len):
        chain[flat] = 1 + max((m for below, m in chain.items() if below < flat), default=0)
    return Pole(value, max(chain.values()), (f"a hyperplane arrangement with {len(flats)} intersections",))


def _row(form: PolyElement) -> tuple[int, ...]:
    """Return the coefficients of a linear form as coprime integers, the first that is not 0 positive."""
    whole = form.clear_denoms()[1].primitive()[1]
    row = tuple(int(whole.coeff(g)) for g in form.ring.gens)
    return row if next(c for c in row if c) > 0 else tuple(-c for c in row)


def quadric(f: PolyElement) -> Pole | None:
    """Return the pole of |f| if its quadratic part has rank 3 or more and both signs, and no lower terms; else None."""
    if min(map(sum, f)) != 2:
        return None
    used = [j for j in range(f.ring.ngens) if any(m[j] for m in f)]
    form = sympy.zeros(len(used), len(used))
    for m, c in f.items():
        if sum(m) == 2:
            i, j = (k for k, e in enumerate(m) for _ in range(e))
            a, b = used.index(i), used.index(j)
            form[a, b] += sympy.Rational(c.numerator, c.denominator) / 2
            form[b, a] += sympy.Rational(c.numerator, c.denominator) / 2
    if form.rank() < 3 or not form.is_indefinite:
        return None
    return Pole(Fraction(1), 1, ("the quadratic part has both signs and rank 3 or more: rational singularities",))


def cone(p: PolyElement, prior: Sequence[Fraction]) -> Pole | None:
    """Return the pole of |p| under the prior |w|^prior if p is quasi-homogeneous in three parameters, else None."""
    used = [j for j in range(p.ring.ngens) if any(m[j] for m in p)]
    weights = _weights([tuple(m[j] for j in used) for m in p]) if len(used) == 3 else None
    if weights is None or max(map(sum, p)) > _LARGEST_CONE:
        return None
    first = next(iter(p))
    order = sum(a * first[j] for a, j in zip(weights, used, strict=True))
    nu = sum((a * (1 + prior[j]) for a, j in zip(weights, used, strict=True)), Fraction(0))
    ring = p.ring
    found = Pole(nu / order, 1, (f"weights {', '.join(map(str, weights))}: ν = {nu}, N = {order}",))
    poles = [found]
    for j in used:
        others = [i for i in used if i != j]
        for side in (1, -1):
            face = sympy.Poly(p.as_expr().xreplace({ring.symbols[j]: side}), *(ring.symbols[i] for i in others))
            if not face.is_ground:
                poles.append(product_rule(found, _over_square(face, [prior[i] for i in others])))
    return reduce(least, poles)


def _over_square(face: sympy.Poly, prior: Sequence[Fraction]) -> Pole:
    """Return the pole of a polynomial in two parameters over the square [-1, 1]^2."""
    sides = (Fraction(-1), Fraction(1))
    try:
        found = of_polynomial.over_box(face, (sides, sides), (prior[0], prior[1]))
    except InputError:
        # The one error that is possible here: the curve has no point on this side.
        return Pole(None)
    if found.value is None or found.multiplicity is None:
        raise UndecidedError("a curve on the divisor of the cone was not decided")
    return Pole(found.value, found.multiplicity, (f"on a side of the cone: {found.explanation}",))


def _weights(exponents: Sequence[tuple[int, ...]]) -> tuple[int, ...] | None:
    """Return positive integers a with the same a . v for all exponents; None if there are none, or more than one."""
    differences = sympy.Matrix(
        [[x - y for x, y in zip(v, exponents[0], strict=True)] for v in exponents[1:]] or [[0] * 3]
    )
    kernel = differences.nullspace()
    if len(kernel) != 1:
        return None
    vector = kernel[0] * sympy.sign(next(c for c in kernel[0] if c))
    unit = sympy.ilcm(*(c.q for c in vector))
    found = tuple(int(c * unit) for c in vector)
    common = sympy.igcd(*found)
    return tuple(a // int(common) for a in found) if min(found) > 0 else None
