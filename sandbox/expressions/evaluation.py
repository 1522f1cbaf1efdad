"""Expressions as vectorised NumPy functions, and the search for the parts that several expressions share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np
import sympy
from numpy.typing import ArrayLike
from scipy import special
from sympy.printing.numpy import NumPyPrinter

from sandbox.expressions.functions import value_of
from sandbox.tools.arrays import Array

_LONGEST = 64
"""The largest number of terms or factors in one statement, because Python's own compiler recurses over them."""

_NUMPY = {
    "Absolute": np.abs,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Relu": lambda x: np.maximum(x, 0.0),
    "Sigmoid": special.expit,
    "Sign": np.sign,
    "Softplus": lambda x: np.logaddexp(0.0, x),
    "Step": lambda x: np.heaviside(x, 0.0),
    "erf": special.erf,
}


class _Printer(NumPyPrinter):  # type: ignore[misc]
    """A printer of constants as floats (arrays take no integer beyond 64 bits) and of small powers as squares."""

    def _print(self, expr: Any, **settings: Any) -> str:
        if isinstance(expr, sympy.Expr) and expr.is_number:
            value = value_of(expr)
            return f"({value!r})" if value < 0 else repr(value)
        return str(super()._print(expr, **settings))

    def _print_Pow(self, expr: Any, rational: bool = False) -> str:  # noqa: N802
        base, exponent = expr.as_base_exp()
        if exponent in (2, 4, 8):
            text = str(self._print(base))
            for _ in range(int(exponent).bit_length() - 1):
                text = f"numpy.square({text})"
            return text
        return str(super()._print_Pow(expr, rational=rational))


def numpy_function(symbols: Sequence[Any], expressions: Sequence[Any]) -> Callable[..., list[Array]]:
    """Return a function f(*values) that takes one value per symbol and returns one float64 array per expression.

    The values must broadcast together. Each result has their common shape and is a new array.
    Overflow and values outside a function's domain give inf and nan without a warning.
    """
    return _compiled(tuple(symbols), tuple(expressions))


@functools.lru_cache(maxsize=512)
def _compiled(symbols: tuple[Any, ...], expressions: tuple[Any, ...]) -> Callable[..., list[Array]]:
    options = {"fully_qualified_modules": False, "inline": True, "allow_unknown_functions": True}
    printer = _Printer({**options, "user_functions": {name: name for name in _NUMPY}})
    # SymPy adds up in the order of names. It numbers its own safe names ("dummies") over the whole process, so that
    # bits would depend on earlier work. The names here are numbered from the last symbol back, as SymPy would.
    safe = {s: sympy.Symbol(f"W{k:05d}") for k, s in enumerate(sorted(symbols, key=str, reverse=True))}
    assignments, results = common(expressions)
    shared = [(name, value.xreplace(safe)) for name, value in assignments], [e.xreplace(safe) for e in results]
    arguments = [safe[symbol] for symbol in symbols]
    plain = sympy.lambdify(arguments, results, modules=[_NUMPY, "numpy"], printer=printer, cse=lambda _: shared)

    def function(*values: ArrayLike) -> list[Array]:
        arrays = [np.asarray(value, dtype=np.float64) for value in values]
        shape = np.broadcast_shapes(*(array.shape for array in arrays))
        with np.errstate(all="ignore"):
            results = plain(*arrays)
        return [_own(result, shape) for result in results]

    return function


def _own(result: Any, shape: tuple[int, ...]) -> Array:
    """Return a result as a new float64 array of the common shape."""
    if isinstance(result, np.ndarray) and result.shape == shape and result.dtype == np.float64:
        return result.copy()
    own = np.empty(shape)
    own[...] = result
    return own


def common(expressions: Sequence[Any]) -> tuple[list[tuple[Any, Any]], list[Any]]:
    """Return (assignments, expressions); a part that occurs twice, or is too long for one statement, gets a symbol.

    The assignments are in order: each uses only symbols assigned before it.
    """
    fresh = (sympy.Symbol(f"_t{i}") for i in count())
    found, reduced = sympy.cse(list(expressions), symbols=fresh, list=True)
    assignments: list[tuple[Any, Any]] = []
    for name, value in found:
        assignments.append((name, _shortened(value, fresh, assignments)))
    return assignments, [_shortened(expression, fresh, assignments) for expression in reduced]


def _shortened(expression: Any, fresh: Iterator[Any], assignments: list[tuple[Any, Any]]) -> Any:
    """Return the expression with long sums and products cut into parts, which are appended to `assignments`."""
    if not expression.args:
        return expression
    arguments = [_shortened(argument, fresh, assignments) for argument in expression.args]
    while len(arguments) > _LONGEST:
        pieces = [expression.func(*arguments[i : i + _LONGEST]) for i in range(0, len(arguments), _LONGEST)]
        arguments = [next(fresh) for _ in pieces]
        assignments.extend(zip(arguments, pieces, strict=True))
    return expression.func(*arguments) if tuple(arguments) != expression.args else expression
