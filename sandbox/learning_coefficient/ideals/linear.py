"""Linear changes of coordinates in which a polynomial may have an adapted Newton polyhedron.

λ and m do not change under them if the prior is flat. Two sources: the linear forms in K as it is written, and a flag
of forms that its terms of lowest degree single out, step by step on the subspace where the forms so far are 0: the span
of the partial derivatives that are linear, or, for a quadratic form, Lagrange's squares.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import sympy

from sandbox.learning_coefficient.ideals.polynomials import to_ring

Row = tuple[Any, ...]


def in_other_coordinates(K: Any, symbols: Sequence[Any]) -> Iterator[Any]:
    """Yield K in other linear coordinates, named by the same symbols."""
    K = K.as_expr()
    seen = [sympy.eye(len(symbols))]
    for forms in (_written(K, symbols), _flag(sympy.expand(K), symbols)):
        matrix = _completed(forms, len(symbols))
        if matrix not in seen:
            seen.append(matrix)
            image = matrix.inv() * sympy.Matrix(symbols)
            if not any(term.has(sympy.Add) for term in sympy.Add.make_args(K)):
                # An expanded polynomial is moved in the ring, which is much faster.
                p, *images = to_ring([K, *image], symbols)
                yield p.compose(list(zip(p.ring.gens, images, strict=True))).as_expr(*symbols)
                continue
            moved = K.xreplace(dict(zip(symbols, image, strict=True)))
            yield sympy.core.traversal.bottom_up(moved, lambda e: _tidied(e, symbols))


def _tidied(e: Any, symbols: Sequence[Any]) -> Any:
    """Return a sum of linear forms as one; other expressions as they are."""
    is_linear = e.is_Add and all(a.is_number or a.as_coeff_Mul()[1].is_Symbol or a.has(sympy.Add) for a in e.args)
    expanded = sympy.expand(e) if is_linear else e
    return expanded if is_linear and sympy.Poly(expanded, *symbols).total_degree() <= 1 else e


def _completed(forms: Sequence[Row], size: int) -> Any:
    """Return an invertible matrix with as many of the forms as are independent, the first ones first, then axes."""
    rows: list[Row] = []
    for row in (*forms, *(tuple(int(i == j) for i in range(size)) for j in range(size))):
        if sympy.Matrix([*rows, row]).rank() > len(rows):
            rows.append(row)
    return sympy.Matrix(rows)


def _written(K: Any, symbols: Sequence[Any]) -> list[Row]:
    """Return the linear parts of all bases in K, the most frequent first."""
    found: Counter[Row] = Counter()
    here = dict.fromkeys(symbols, 0)
    walk = sympy.preorder_traversal(K)
    for node in walk:
        if not (node.is_Add or node.is_Symbol) or node.xreplace(here) != 0:
            continue
        row = tuple(sympy.diff(node, w).xreplace(here) for w in symbols)
        if any(row):
            first = next(c for c in row if c)
            found[tuple(c / first for c in row)] += 1
        if sympy.Poly(node, *symbols).total_degree() == 1:
            walk.skip()
    return [row for row, _ in found.most_common()]


def _flag(K: Any, symbols: Sequence[Any]) -> list[Row]:
    """Return the forms that the terms of lowest degree single out, on smaller and smaller subspaces."""
    rows: list[Row] = []
    size = len(symbols)
    while len(rows) < size:
        basis = sympy.Matrix(rows).nullspace() if rows else [sympy.eye(size)[:, j] for j in range(size)]
        free = sympy.symbols(f"u:{len(basis)}", real=True)
        image = sum((v * u for v, u in zip(basis, free, strict=True)), sympy.zeros(size, 1))
        on_it = sympy.Poly(K.xreplace(dict(zip(symbols, image, strict=True))), *free)
        if on_it.is_zero:
            break
        new = _singled_out(on_it)
        # A form on the subspace is continued by the left inverse of its basis.
        inverse = sympy.Matrix.hstack(*basis)
        lift = (inverse.T * inverse).inv() * inverse.T
        rows += [tuple(sympy.Matrix([form]) * lift) for form in new]
    return rows


def _singled_out(p: sympy.Poly) -> list[Row]:
    """Return independent linear forms: those of the linear derivatives of the part of lowest degree."""
    least = min(map(sum, p.monoms()))
    lowest = sympy.Poly.from_dict({m: c for m, c in p.terms() if sum(m) == least}, *p.gens)
    if least == 2:
        return _squares(lowest)
    slopes = {lowest}
    for _ in range(least - 1):
        slopes = {s.diff(w) for s in slopes for w in p.gens} - {lowest.zero}
    rows = sympy.Matrix([[s.coeff_monomial(w) for w in p.gens] for s in slopes])
    return [tuple(row) for row in rows.rref()[0].tolist() if any(row)]


def _squares(form: sympy.Poly) -> list[Row]:
    """Return linear forms whose squares add up, with coefficients, to a quadratic form (Lagrange)."""
    size = len(form.gens)
    left = sympy.Matrix(size, size, lambda i, j: form.diff(form.gens[i]).diff(form.gens[j]).as_expr())
    rows: list[Row] = []
    while any(left):
        j = next((j for j in range(size) if left[j, j]), None)
        if j is None:
            i, j = next((i, j) for i in range(size) for j in range(size) if left[i, j])
            rows += [tuple(left[i, :]), tuple(left[j, :])]
            a, b = left[i, :], left[j, :]
            left = left - (a.T * b + b.T * a) / left[i, j]
        else:
            rows.append(tuple(left[j, :]))
            left = left - left[j, :].T * left[j, :] / left[j, j]
    return rows
