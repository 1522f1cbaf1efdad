"""Separation of data from parameters, for expressions that depend on a data set through a few of its moments only."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import sympy
from sympy.ntheory.multinomial import multinomial_coefficients

from sandbox.expressions.calculus import tree_size

MAX_STATISTICS = 200
"""The largest useful number of statistics: with more, one pass over the data costs no more."""
MAX_TERMS = 1_000
"""The largest number of terms in any expansion on the way."""
MAX_NODES = 50_000
"""The largest number of nodes in the coefficients."""

Terms = dict[Any, list[Any]]
"""A sum, as a map from a data monomial to the list of parameter expressions that multiply it, to be added up."""


@dataclass(frozen=True)
class Separated:
    """An expression c_0 + sum_j c_j symbols[j], affine in the symbols; each symbol stands for one data statistic.

    Its mean over a data set is therefore the same expression with the statistics' means in place of the symbols.
    The statistics contain data symbols only and are distinct monomials; the constant 1 is never among them.
    """

    statistics: tuple[Any, ...]
    symbols: tuple[Any, ...]
    expression: Any


class _InseparableError(Exception):
    """An entanglement of parameters and data, or an expansion that is not worth its size."""


def separate(expression: Any, data_symbols: Collection[Any]) -> Separated | None:
    """Return the expression with data and parameters apart, or None if that is impossible within the limits.

    This covers all polynomials in functions of the data alone, with any expressions in the parameters as coefficients.
    It is not attempted for e.g. exp(w + x) or tanh(w * x). The order of the statistics depends on the expression
    alone.
    """
    try:
        terms = _terms(expression, frozenset(data_symbols))
    except _InseparableError:
        return None
    totals = {monomial: sympy.Add(*coefficients) for monomial, coefficients in terms.items()}
    constant = totals.pop(sympy.S.One, sympy.S.Zero)
    statistics = sorted((m for m, total in totals.items() if total != 0), key=sympy.default_sort_key)
    known: dict[Any, int] = {}
    if len(statistics) > MAX_STATISTICS or sum(tree_size(total, known) for total in totals.values()) > MAX_NODES:
        return None
    # The underscore keeps these names apart from any name that a user may give.
    symbols = tuple(sympy.Symbol(f"_s{j}", real=True) for j in range(len(statistics)))
    affine = sympy.Add(constant, *(totals[m] * s for m, s in zip(statistics, symbols, strict=True)))
    return Separated(tuple(statistics), symbols, affine)


def _terms(expression: Any, data: frozenset[Any]) -> Terms:
    free = expression.free_symbols
    if not free & data:
        return {sympy.S.One: [expression]}
    if expression.is_Add:
        return _collected(pair for argument in expression.args for pair in _pairs(_terms(argument, data)))
    if expression.is_Mul:
        product: Terms = {sympy.S.One: [sympy.S.One]}
        for argument in expression.args:
            product = _product(product, _terms(argument, data))
        return product
    if expression.is_Pow and expression.exp.is_Integer and expression.exp > 0:
        return _power(_terms(expression.base, data), expression, data)
    if free <= data:
        return {expression: [sympy.S.One]}
    raise _InseparableError


def _pairs(terms: Terms) -> list[tuple[Any, Any]]:
    return [(monomial, sympy.Add(*coefficients)) for monomial, coefficients in terms.items()]


def _collected(pairs: Iterable[tuple[Any, Any]]) -> Terms:
    terms: Terms = {}
    for product, coefficient in pairs:
        for monomial, number in _opened(product):
            terms.setdefault(monomial, []).append(number * coefficient)
        if len(terms) > MAX_TERMS:
            raise _InseparableError
    return terms


def _opened(product: Any) -> list[tuple[Any, Any]]:
    """Return a product of monomials as a sum of monomials with numerical factors.

    The product is a single monomial, unless roots were multiplied: sqrt(-x)**2 is -x and sqrt(1 - x)**2 is 1 - x.
    """
    if not product.free_symbols:
        return [(sympy.S.One, product)]
    number, bare = product.as_independent(*product.free_symbols, as_Add=False)
    factors = (factor.as_base_exp() for factor in sympy.Mul.make_args(bare))
    if any(base.is_Add and exponent.is_Integer and exponent > 0 for base, exponent in factors):
        return [(monomial, number * c) for monomial, c in _pairs(_terms(bare, frozenset(bare.free_symbols)))]
    return [(bare, number)]


def _product(left: Terms, right: Terms) -> Terms:
    if len(left) * len(right) > MAX_TERMS:
        raise _InseparableError
    lefts, rights = _pairs(left), _pairs(right)
    result = _collected((a * b, c * d) for a, c in lefts for b, d in rights)
    known: dict[Any, int] = {}
    if sum(tree_size(c, known) for coefficients in result.values() for c in coefficients) > MAX_NODES:
        raise _InseparableError
    return result


def _power(base: Terms, whole: Any, data: frozenset[Any]) -> Terms:
    """Return a power, expanded by the multinomial theorem; a power of a single atom stays as it is."""
    exponent = int(whole.exp)
    pairs = _pairs(base)
    if len(pairs) == 1 and whole.free_symbols <= data and pairs[0] == (whole.base, sympy.S.One):
        return {whole: [sympy.S.One]}
    if math.comb(exponent + len(pairs) - 1, exponent) > MAX_TERMS:
        raise _InseparableError
    return _collected(
        (
            sympy.Mul(*(m**k for (m, _), k in zip(pairs, powers, strict=True))),
            factor * sympy.Mul(*(c**k for (_, c), k in zip(pairs, powers, strict=True))),
        )
        for powers, factor in multinomial_coefficients(len(pairs), exponent).items()
    )
