"""First and second derivatives; a bound on their size is checked before they are computed."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import sympy

from sandbox.expressions.functions import settled
from sandbox.tools.errors import InputError

MAX_NODES = 1_000_000
"""The largest estimated number of nodes that the derivatives of one call may have."""


def gradient(expression: Any, symbols: Sequence[Any]) -> tuple[Any, ...]:
    """Return the D first derivatives, valid almost everywhere. Raises InputError if they would be too large."""
    _guard([expression], symbols)
    return tuple(_derivative(expression, symbol) for symbol in symbols)


def hessian(expression: Any, symbols: Sequence[Any]) -> list[list[Any]]:
    """Return the D x D second derivatives, valid almost everywhere. Raises InputError if they would be too large."""
    slope = gradient(expression, symbols)
    _guard(slope, symbols)
    count = len(symbols)
    upper = {(i, j): _derivative(slope[i], symbols[j]) for i in range(count) for j in range(i, count)}
    return [[upper[min(i, j), max(i, j)] for j in range(count)] for i in range(count)]


def tree_size(expression: Any, known: dict[Any, int] | None = None) -> int:
    """Return the number of nodes of the expression as a tree; `known` keeps sizes, so shared parts are visited once."""
    known = {} if known is None else known
    size = known.get(expression)
    if size is None:
        size = known[expression] = 1 + sum(tree_size(argument, known) for argument in expression.args)
    return size


@functools.lru_cache(maxsize=4096)
def _derivative(expression: Any, symbol: Any) -> Any:
    return settled(_slope(expression, symbol))


@functools.lru_cache(maxsize=65536)
def _slope(expression: Any, symbol: Any) -> Any:
    """Return the derivative; `sympy.diff` visits each of m factors m times, and queries the assumptions of them all."""
    if expression == symbol:
        return sympy.S.One
    if not expression.has(symbol):
        return sympy.S.Zero
    arguments = expression.args
    slopes = [_slope(argument, symbol) for argument in arguments]
    moving = [k for k, slope in enumerate(slopes) if slope != 0]
    if expression.is_Add:
        return sympy.Add(*(slopes[k] for k in moving))
    if expression.is_Mul:
        return sympy.Add(*(sympy.Mul(*arguments[:k], slopes[k], *arguments[k + 1 :]) for k in moving))
    if expression.is_Pow and moving == [0]:
        return expression * (slopes[0] * arguments[1] / arguments[0])
    if isinstance(expression, sympy.Function):
        return sympy.Add(*(expression.fdiff(k + 1) * slopes[k] for k in moving))
    return sympy.diff(expression, symbol)


def _guard(expressions: Sequence[Any], symbols: Sequence[Any]) -> None:
    sizes: dict[Any, int] = {}
    total = 0
    for symbol in symbols:
        known: dict[Any, int] = {}
        total += sum(_derivative_size(expression, symbol, sizes, known) for expression in expressions)
        if total > MAX_NODES:
            raise InputError(
                f"the derivatives of this expression would have more than {MAX_NODES} terms and factors: "
                "write it with fewer factors, or as a shorter model"
            )


def _derivative_size(expression: Any, symbol: Any, sizes: dict[Any, int], known: dict[Any, int]) -> int:
    """Return an upper bound on the number of nodes of d expression / d symbol, by the sum, product and chain rules."""
    if not expression.args or not expression.has(symbol):
        return 1
    if expression in known:
        return known[expression]
    own = tree_size(expression, sizes)
    inner = [_derivative_size(argument, symbol, sizes, known) for argument in expression.args if argument.has(symbol)]
    # The derivative of a factor is multiplied by the other factors, that of an argument by the function's derivative.
    beside = 0 if expression.is_Add else own + 2
    bound = known[expression] = sum(inner) + len(inner) * beside
    return bound
