"""Expressions as vectorised NumPy functions, and the search for what several expressions have in common."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np
import sympy
from numpy.typing import ArrayLike, NDArray
from scipy import special
from sympy.printing.numpy import NumPyPrinter

from sandbox.expression.functions import value_of

Array = NDArray[np.float64]

_LONGEST = 64
"""Most terms or factors in one statement: Python's own compiler recurses over them."""

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
    """Constants as floats (an integer beyond 64 bits would not meet an array) and small powers as squares."""

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
    """Return f(*values), one value per symbol, giving one float64 array per expression.

    The values are anything that broadcasts together; every result has the common shape and is the caller's own.
    Overflow and values outside a function's domain give inf and nan without a warning.
    """
    return _compiled(tuple(symbols), tuple(expressions))


@functools.lru_cache(maxsize=512)
def _compiled(symbols: tuple[Any, ...], expressions: tuple[Any, ...]) -> Callable[..., list[Array]]:
    options = {"fully_qualified_modules": False, "inline": True, "allow_unknown_functions": True}
    printer = _Printer({**options, "user_functions": {name: name for name in _NUMPY}})
    # SymPy adds up in the order of names. Its own safe ones ("dummies") are numbered through a process, so that bits
    # would depend on what it did before. These are numbered from the last symbol back, as it would.
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
    """Return a result as an array of the common shape that nobody else holds."""
    if isinstance(result, np.ndarray) and result.shape == shape and result.dtype == np.float64:
        return result.copy()
    own = np.empty(shape)
    own[...] = result
    return own


def common(expressions: Sequence[Any]) -> tuple[list[tuple[Any, Any]], list[Any]]:
    """Return (assignments, expressions): what occurs twice, or is too long for one statement, gets a symbol.

    The assignments are in order: each uses only symbols assigned before it.
    """
    fresh = (sympy.Symbol(f"_t{i}") for i in count())
    found, reduced = sympy.cse(list(expressions), symbols=fresh, list=True)
    assignments: list[tuple[Any, Any]] = []
    for name, value in found:
        assignments.append((name, _shortened(value, fresh, assignments)))
    return assignments, [_shortened(expression, fresh, assignments) for expression in reduced]


def _shortened(expression: Any, fresh: Iterator[Any], assignments: list[tuple[Any, Any]]) -> Any:
    """Return the expression with its long sums and products cut into pieces, which are added to `assignments`."""
    if not expression.args:
        return expression
    arguments = [_shortened(argument, fresh, assignments) for argument in expression.args]
    while len(arguments) > _LONGEST:
        pieces = [expression.func(*arguments[i : i + _LONGEST]) for i in range(0, len(arguments), _LONGEST)]
        arguments = [next(fresh) for _ in pieces]
        assignments.extend(zip(arguments, pieces, strict=True))
    return expression.func(*arguments) if tuple(arguments) != expression.args else expression
