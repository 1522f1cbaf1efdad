"""A polynomial that is comparable to an analytic K near the origin, K = unit times polynomial, found term by term."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy

from sandbox.learning_coefficient.ideals.polynomials import is_polynomial
from sandbox.learning_coefficient.written import is_square

TAYLOR_DEGREE = 12
"""The degree to which an expression that is no polynomial is expanded."""

Equivalent = tuple[int, Any]
"""The sign of an analytic unit, and the polynomial that it multiplies."""


def comparable(K: Any, symbols: Sequence[Any]) -> Any | None:
    """Return a polynomial that bounds K >= 0 from both sides near its zero at 0, up to constants, else None.

    K is a product of polynomials and units; or a sum of such products without negative ones, which may be replaced one
    by one. Terms that share variables with each other, but not with the rest, are one part of the sum.
    """
    whole = _product(sympy.factor(K), symbols)
    if whole is not None:
        return whole[1]
    for parts in (sympy.Add.make_args(K), _separate(K)):
        found = [_product(sympy.factor(part), symbols) for part in parts]
        if len(found) > 1 and all(f is not None and f[0] > 0 and is_square(f[1]) for f in found):
            return sympy.Add(*(f[1] for f in found if f is not None))
    return None


def _separate(K: Any) -> list[Any]:
    """Return the parts of a sum in disjoint variables, each without its value at 0; those values add up to 0."""
    groups: list[tuple[set[Any], Any]] = []
    for term in sympy.Add.make_args(K):
        variables, total = set(term.free_symbols), term
        for group in [g for g in groups if g[0] & variables]:
            groups.remove(group)
            variables, total = variables | group[0], total + group[1]
        groups.append((variables, total))
    return [total - total.xreplace(dict.fromkeys(found, sympy.Integer(0))) for found, total in groups if found]


def _product(expression: Any, symbols: Sequence[Any]) -> Equivalent | None:
    """Return the sign and the polynomial of a product of equivalents, else None."""
    sign, product = 1, sympy.Integer(1)
    for factor in sympy.Mul.make_args(expression):
        base, exponent = factor.as_base_exp()
        equivalent = _equivalent(base, symbols)
        if equivalent == (1, 1):
            continue
        if equivalent is None or not (exponent.is_Integer and (exponent.is_positive or equivalent[1] == 1)):
            return None
        sign *= equivalent[0] ** int(exponent % 2)
        product *= equivalent[1] ** exponent
    return sign, product


def _equivalent(base: Any, symbols: Sequence[Any]) -> Equivalent | None:
    """Return the sign and the polynomial with `base` = unit times polynomial near 0, else None."""
    here = dict.fromkeys(symbols, sympy.Integer(0))
    value = base.xreplace(here)
    if value.is_zero is False and value.is_finite:
        return (1 if value > 0 else -1), sympy.Integer(1)
    if is_polynomial(base, symbols):
        return 1, base
    # g(u) with g analytic, such as exp(x y) - 1, is u^k times a unit.
    u = sympy.Dummy("u", real=True)
    for inner in [*base.free_symbols, *(f.args[0] for f in base.atoms(sympy.Function, sympy.Pow))]:
        level = inner.xreplace(here)
        outer = base.xreplace({inner: level + u})
        if outer.free_symbols == {u}:
            order, equivalent = _order(outer, u), _product(sympy.factor(inner - level), symbols)
            if order is None or equivalent is None:
                return None
            sign, polynomial = equivalent
            return order[1] * sign ** order[0], polynomial ** order[0]
    return None


def _order(function: Any, w: Any) -> tuple[int, int] | None:
    """Return the order to which an analytic function of one parameter vanishes at 0 and the sign of that derivative."""
    slope = function
    for order in range(TAYLOR_DEGREE + 1):
        value = sympy.simplify(slope.xreplace({w: sympy.Integer(0)}))
        if value.is_zero is False:
            return (order, 1 if value > 0 else -1) if value.is_finite else None
        if value.is_zero is None:
            return None
        slope = sympy.diff(slope, w)
    return None
