"""Learning coefficients in closed form from the literature, and the recognition of ideals that have one of them.

Each formula gives the least λ over W0. For truth zero (rank 0) this is λ at the origin, where all strata meet.
- regular models: D/2;
- reduced rank regression: Aoyagi and Watanabe, "Stochastic complexities of reduced rank regression in Bayesian
  estimation", Neural Networks 18, 2005, main theorem;
- deep linear networks: Aoyagi, "Consideration on the learning efficiency of multiple-layered neural networks with
  linear units", Neural Networks, 2024, main theorem;
- tanh networks with one input and truth zero: Aoyagi and Watanabe, "Resolution of singularities and the generalization
  error with Bayesian estimation for layered neural network", IEICE, 2006.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, pairwise
from math import isqrt
from typing import Any

import sympy

from sandbox.learning_coefficient.coefficient import LearningCoefficient
from sandbox.tools.errors import InputError


def regular(size: int) -> LearningCoefficient:
    """Return λ = D/2, m = 1 of a regular model with D = `size` parameters (Watanabe 2009); InputError if D < 1."""
    _check(size=size)
    return LearningCoefficient(Fraction(size, 2), 1, "regular", f"a regular model with {size} parameters: λ = {size}/2")


def reduced_rank(inputs: int, hidden: int, outputs: int, rank: int = 0) -> LearningCoefficient:
    """Return the least λ over W0 of y = B A x, A hidden x inputs, B outputs x hidden, with `rank` the rank of B A.

    The four cases of Aoyagi and Watanabe 2005, main theorem. InputError for sizes below 1 and for an impossible rank.
    """
    _check(inputs=inputs, hidden=hidden, outputs=outputs)
    _check_rank(rank, min(inputs, hidden, outputs))
    M, H, N, r = inputs, hidden, outputs, rank
    multiplicity = 1
    if N + r <= M + H and M + r <= N + H and H + r <= M + N:
        odd = (M + H + N + r) % 2
        value = Fraction(2 * (H + r) * (M + N) - (M - N) ** 2 - (H + r) ** 2 + odd, 8)
        multiplicity = 1 + odd
    elif N + r > M + H:
        value = Fraction(H * M - H * r + N * r, 2)
    elif M + r > N + H:
        value = Fraction(H * N - H * r + M * r, 2)
    else:
        value = Fraction(M * N, 2)
    words = f"reduced rank regression with widths {M}, {H}, {N} and true rank {r}: the least λ over W0"
    return LearningCoefficient(value, multiplicity, "Aoyagi and Watanabe 2005", words)


def deep_linear(widths: Sequence[int], rank: int = 0) -> LearningCoefficient:
    """Return the least λ over W0 of a product of matrices of consecutive widths whose truth has the given rank.

    Aoyagi 2024, main theorem: S is the sum of the l + 1 least of M_i = width_i - rank that satisfy its conditions. With
    a = S - (ceil(S/l) - 1) l, m = a (l - a) + 1. InputError for under 2 widths, a width below 1 or an impossible rank.
    """
    if len(widths) < 2:
        raise InputError(f"{len(widths)} widths; a linear network has at least 2: inputs and outputs")
    _check(**{f"width {i}": width for i, width in enumerate(widths)})
    _check_rank(rank, min(widths))
    outer = Fraction(rank * (widths[0] + widths[-1]) - rank**2, 2)
    words = f"linear network with widths {', '.join(map(str, widths))} and true rank {rank}: the least λ over W0"
    free = sorted(width - rank for width in widths)
    layers = next(size for size in range(1, len(free)) if _are_the_least(free, size))
    chosen = free[: layers + 1]
    total = sum(chosen)
    a = total - (-(-total // layers) - 1) * layers
    pairs = sum(x * y for x, y in combinations(chosen, 2))
    inner = Fraction(a * (layers - a), 4 * layers) - Fraction((layers - 1) * total**2, 4 * layers) + Fraction(pairs, 2)
    return LearningCoefficient(outer + inner, a * (layers - a) + 1, "Aoyagi 2024", words)


def _are_the_least(free: Sequence[int], size: int) -> bool:
    """Return whether the l + 1 least widths, l = `size`, satisfy S >= l max and S < l min of the rest (Aoyagi 2024)."""
    total = sum(free[: size + 1])
    rest = free[size + 1 :]
    return total >= size * free[size] and (not rest or total < size * rest[0])


def tanh(hidden: int) -> LearningCoefficient:
    """Return λ and m at the origin of sum_k a_k tanh(b_k x), one input, truth zero (Aoyagi and Watanabe 2006)."""
    _check(hidden=hidden)
    i = isqrt(hidden)
    words = f"{hidden} tanh units with one input and truth zero"
    value = Fraction(hidden + i * i + i, 4 * i + 2)
    return LearningCoefficient(value, 2 if i * i == hidden else 1, "Aoyagi and Watanabe 2006", words)


def _check(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise InputError(f"{name} is {size}; it must be at least 1")


def _check_rank(rank: int, most: int) -> None:
    if not 0 <= rank <= most:
        raise InputError(f"the true rank is {rank}; it must be from 0 to {most}, the least width")


@dataclass(frozen=True)
class Recognised:
    """A closed form for an ideal: λ at the origin if `at_origin`, else the least λ over W0 at an unspecified point."""

    coefficient: LearningCoefficient
    widths: tuple[int, ...]
    rank: int
    at_origin: bool


def recognise(generators: Sequence[Any], symbols: Sequence[Any]) -> Recognised | None:
    """Return the closed form of the ideal of the entries of a matrix product minus a constant matrix, else None.

    The generators are the entries, in any order and up to a sign; all symbols that occur are entries of the matrices.
    Two matrices are found from the generators alone. More are searched for among consecutive symbols, row by row, with
    the factors from left to right or from right to left.
    """
    polys = [sympy.Poly(g.as_expr(), *symbols) for g in generators]
    degree = max((p.total_degree() for p in polys), default=0)
    if degree < 2 or any(p.is_ground for p in polys):
        return None
    found = _two_matrices(polys) if degree == 2 else _chain(polys, symbols, degree)
    if found is None:
        return None
    widths, constant = found
    rank = int(constant.rank())
    if rank > min(widths):
        return None
    form = reduced_rank(widths[2], widths[1], widths[0], rank) if degree == 2 else deep_linear(widths, rank)
    return Recognised(form, widths, rank, rank == 0)


Found = tuple[tuple[int, ...], Any]
"""The widths, rows of the product first, and the constant matrix."""


def _two_matrices(polys: Sequence[Any]) -> Found | None:
    """Return (N, H, M) and C for generators +-(sum_k b_ik a_kj - c_ij), else None.

    Variables are joined if a monomial holds both. The components are then k = 1 .. H, each with all b_ik and all a_kj,
    and each generator has one monomial in each. In the first component either side may be called b.
    """
    entries = [_products(p) for p in polys]
    if any(entry is None or len(entry[0]) != len((entries[0] or ([], 0))[0]) for entry in entries):
        return None
    products = [entry[0] for entry in entries if entry is not None]
    sides = _bipartition([pair for pairs in products for pair in pairs])
    if sides is None:
        return None
    table = [{sides[x][0]: ((x, y) if sides[x][1] == 0 else (y, x)) for x, y in pairs} for pairs in products]
    components = sorted({component for component, _ in sides.values()})
    if any(sorted(row) != components for row in table):
        return None
    labels = [row[components[0]] for row in table]
    if not all(_agrees(labels, [row[k] for row in table]) for k in components):
        return None
    rows, columns = (sorted({label[i] for label in labels}) for i in (0, 1))
    if len(set(labels)) != len(labels) or len(labels) != len(rows) * len(columns):
        return None
    values = {label: entry[1] for label, entry in zip(labels, entries, strict=True) if entry is not None}
    constant = sympy.Matrix(len(rows), len(columns), lambda i, j: values[rows[i], columns[j]])
    return (len(rows), len(components), len(columns)), constant


def _products(p: Any) -> tuple[list[tuple[int, int]], Any] | None:
    """Return the pairs of variables and c for +-(sum of products of distinct variables - c), else None."""
    pairs, constant, signs = [], sympy.Integer(0), set()
    for monomial, c in p.terms():
        variables = [j for j, e in enumerate(monomial) for _ in range(e)]
        if not variables:
            constant = c
            continue
        if len(variables) != 2:
            return None
        pairs.append((variables[0], variables[1]))
        signs.add(c)
    if len({j for pair in pairs for j in pair}) != 2 * len(pairs) or signs not in ({1}, {-1}):
        return None
    return pairs, -constant * signs.pop()


def _bipartition(edges: Sequence[tuple[int, int]]) -> dict[int, tuple[int, int]] | None:
    """Return (component, side) of each variable, None if some component has an odd cycle."""
    neighbours: dict[int, set[int]] = {}
    for x, y in edges:
        neighbours.setdefault(x, set()).add(y)
        neighbours.setdefault(y, set()).add(x)
    sides: dict[int, tuple[int, int]] = {}
    for start in neighbours:
        if start in sides:
            continue
        sides[start] = (start, 0)
        waiting = [start]
        while waiting:
            x = waiting.pop()
            for y in neighbours[x]:
                if y not in sides:
                    sides[y] = (start, 1 - sides[x][1])
                    waiting.append(y)
                elif sides[y][1] == sides[x][1]:
                    return None
    return sides


def _agrees(labels: Sequence[tuple[int, int]], others: Sequence[tuple[int, int]]) -> bool:
    """Return whether one side of `others` matches the rows of the labels one to one, and the other side the columns."""
    return any(
        all(
            len(set(zip(mine, theirs, strict=True))) == len(set(mine)) == len(set(theirs))
            for mine, theirs in ((rows, [o[i] for o in others]), (columns, [o[1 - i] for o in others]))
        )
        for i in (0, 1)
        for rows, columns in [tuple(zip(*labels, strict=True))]
    )


def _chain(polys: Sequence[Any], symbols: Sequence[Any], degree: int) -> Found | None:
    """Return widths and C for the entries of a product of `degree` matrices of consecutive symbols minus C."""
    if any(max(m) > 1 or sum(m) not in (0, degree) for p in polys for m in p.monoms()):
        return None
    used = [s for j, s in enumerate(symbols) if any(m[j] for p in polys for m in p.monoms())]
    wanted = {_signless(p - p.eval(dict.fromkeys(symbols, 0))): p for p in polys}
    for widths in _widths(len(used), degree, len(polys)):
        for order in (1, -1):
            product = _product(widths[::order], used, order)
            rows = [[sympy.Poly(e, *symbols) for e in product.row(i)] for i in range(product.rows)]
            if {_signless(e) for row in rows for e in row} != wanted.keys():
                continue
            constant = sympy.Matrix([[(e - _signed(e, wanted[_signless(e)])).as_expr() for e in row] for row in rows])
            return tuple(map(int, widths)), constant
    return None


def _signless(p: Any) -> Any:
    return p if p.LC() > 0 else -p


def _signed(entry: Any, p: Any) -> Any:
    """Return p or -p, the one with the leading coefficient of the entry."""
    return p if p.LC() == entry.LC() else -p


def _widths(size: int, depth: int, entries: int) -> Iterator[tuple[int, ...]]:
    """Yield widths (d_0, ..., d_depth) with sum d_i d_(i+1) = size and d_0 d_depth = entries."""

    def grown(widths: tuple[int, ...], left: int) -> Iterator[tuple[int, ...]]:
        if len(widths) == depth + 1:
            if left == 0 and widths[0] * widths[-1] == entries:
                yield widths
            return
        for width in range(1, left // widths[-1] + 1):
            yield from grown((*widths, width), left - widths[-1] * width)

    for first in range(1, entries + 1):
        if entries % first == 0:
            yield from grown((first,), size)


def _product(widths: Sequence[int], symbols: Sequence[Any], order: int) -> Any:
    """Return the product of matrices filled with symbols in turn, from left to right (order 1) or right to left."""
    shapes = list(pairwise(widths))
    matrices, taken = [], 0
    for shape in shapes:
        rows, columns = shape[::order]
        matrices.append(sympy.Matrix(rows, columns, symbols[taken : taken + rows * columns]))
        taken += rows * columns
    product = sympy.Matrix.eye((widths[0], widths[-1])[order == -1])
    for matrix in matrices[::order]:
        product = product * matrix
    return product
