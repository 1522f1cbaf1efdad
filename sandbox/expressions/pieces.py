"""Piecewise expressions that are separable between their kinks, and the positions of the kinks.

relu(u) = u step(u), and |u|, max and min are similar. If each u is affine in one data symbol x, the steps cut the line
into intervals. On each interval the steps are numbers, and the expression may be separable (see `separation`). The
mean over a data set is then a sum over at most kinks + 1 intervals; each enters through a few moments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy

from sandbox.expressions.calculus import gradient
from sandbox.expressions.functions import Absolute, Maximum, Minimum, Relu, Sign, Step
from sandbox.expressions.separation import separate

MAX_KINKS = 16
"""The largest number of kinks: the cost grows with its square (each interval is tested against each kink)."""

_FORMS: Mapping[Any, Callable[..., Any]] = {
    Relu: lambda step, u: u * step(u),
    Absolute: lambda step, u: u * (step(u) - step(-u)),
    Maximum: lambda step, a, b: b + (a - b) * step(a - b),
    Minimum: lambda step, a, b: b - (b - a) * step(b - a),
    Step: lambda step, u: step(u),
    Sign: lambda step, u: step(u) - step(-u),
}
"""Each kinked function in steps. With the steps fixed, the derivatives are those of `functions`, also at a kink."""

_JUMPS = (Step, Sign)


@dataclass(frozen=True)
class Pieces:
    """An expression that is separable between its kinks.

    Kink i is the zero of the line slope_i x + offset_i, with x = `variable`. Only the first `moving` of the `kinks`
    depend on the parameters. The symbol `flags[i]` stands for step(slope_i x + offset_i), a number on every interval;
    `moments[c]` for the integral of `statistics[c]` over an interval. The statistics have data symbols only, and 1 is
    one of them. `expression` is the expression's integral over an interval, and linear in the moments.
    """

    variable: Any
    kinks: tuple[tuple[Any, Any], ...]
    moving: int
    flags: tuple[Any, ...]
    statistics: tuple[Any, ...]
    moments: tuple[Any, ...]
    expression: Any

    @property
    def columns(self) -> tuple[Any, ...]:
        """The symbols that are numbers on an interval: the moments, then the flags."""
        return (*self.moments, *self.flags)

    @property
    def degrees(self) -> tuple[int, ...] | None:
        """The exponents of the statistics, if all are whole powers of x, else None."""
        powers = [statistic.as_base_exp() if statistic != 1 else (self.variable, 0) for statistic in self.statistics]
        if any(base != self.variable or not sympy.S(power).is_Integer or power < 0 for base, power in powers):
            return None
        return tuple(int(power) for _, power in powers)


class _EntangledError(Exception):
    """A kink that is not the zero of a line in one data symbol."""


def split(expression: Any, data_symbols: Sequence[Any]) -> Pieces | None:
    """Return the expression by pieces in the first data symbol that allows it, or None.

    The result is None if there are no kinks in the data, or more than `MAX_KINKS`; if the expression is not separable
    between them: kinks that depend on the parameters are in two data symbols, nested, or not zeros of lines; and
    if a bare step or sign jumps at a point that depends on the parameters, because the derivative of a mean would miss
    the motion of the jump.
    """
    found = (_split_along(x, expression, frozenset(data_symbols)) for x in data_symbols)
    return next((pieces for pieces in found if pieces is not None), None)


def _split_along(x: Any, expression: Any, data: frozenset[Any]) -> Pieces | None:
    splitter = _Splitter(x, data)
    try:
        rewritten = splitter.rewritten(expression)
    except _EntangledError:
        return None
    if not 0 < len(splitter.flags) <= MAX_KINKS:
        return None
    separated = separate(rewritten, data)
    if separated is None:
        return None
    moving = {line: flag for line, flag in splitter.flags.items() if _free(line)}
    ordered = moving | splitter.flags
    mass = sympy.Symbol("_m", real=True)
    constant, linear = separated.expression.as_independent(*separated.symbols, as_Add=True)
    return Pieces(
        variable=x,
        kinks=tuple(ordered),
        moving=len(moving),
        flags=tuple(ordered.values()),
        statistics=(sympy.S.One, *separated.statistics),
        moments=(mass, *separated.symbols),
        expression=constant * mass + linear,
    )


def _free(line: tuple[Any, Any]) -> Any:
    slope, offset = line
    return slope.free_symbols | offset.free_symbols


class _Splitter:
    """A rewriter of an expression that puts a symbol for each step in x, and collects the lines inside the steps."""

    def __init__(self, x: Any, data: frozenset[Any]):
        self.x = x
        self.data = data
        self.flags: dict[tuple[Any, Any], Any] = {}

    def rewritten(self, expression: Any) -> Any:
        """Return the expression without kinks in x, as far as sums, products and positive whole powers reach."""
        if not expression.free_symbols & self.data:
            return expression
        if expression.func in _FORMS:
            try:
                form = _FORMS[expression.func](self._step(expression.func in _JUMPS), *expression.args)
            except _EntangledError:
                # A function of the data alone is a statistic like any other.
                if expression.free_symbols <= self.data:
                    return expression
                raise
            return self.rewritten(form)
        is_power = expression.is_Pow and expression.exp.is_Integer and expression.exp > 0
        if expression.is_Add or expression.is_Mul or is_power:
            return expression.func(*(self.rewritten(argument) for argument in expression.args))
        return expression

    def _step(self, jumps: bool) -> Callable[[Any], Any]:
        def step(u: Any) -> Any:
            if u.free_symbols & self.data != {self.x}:
                raise _EntangledError
            (slope,) = gradient(u, [self.x])
            line = (slope, u.xreplace({self.x: sympy.S.Zero}))
            if self.x in slope.free_symbols or (jumps and _free(line)):
                raise _EntangledError
            return self.flags.setdefault(line, sympy.Symbol(f"_k{len(self.flags)}", real=True))

        return step
