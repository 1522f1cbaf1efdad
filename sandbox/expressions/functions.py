"""The functions that a user may write, among them some that SymPy lacks in the required form.

All functions are real valued, and derivatives are valid almost everywhere: the derivative of `relu` is `step`, that of
`abs` is `sign`. At a kink they take the value stated below (`step(0) = 0`, `sign(0) = 0`), so that neither Dirac
deltas nor case distinctions reach a compiled kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import sympy
from sympy.core.function import ArgumentIndexError


class _Elementary(sympy.Function):  # type: ignore[misc]
    """A real function with its own spelling, and a rule for its value at numbers."""

    spelling: ClassVar[str]
    is_real = True

    @classmethod
    def at(cls, *arguments: Any) -> Any:
        """Return the value at explicit numbers, or None if it has no closed form."""
        raise NotImplementedError

    @classmethod
    def eval(cls, *arguments: Any) -> Any:
        """Return the value if every argument is a rational number, else None (SymPy's hook)."""
        return cls.at(*arguments) if all(argument.is_Rational for argument in arguments) else None

    def _eval_evalf(self, prec: int) -> Any:
        numbers = [argument._evalf(prec) for argument in self.args]
        if not all(number.is_Number for number in numbers):
            return None
        return self.at(*(sympy.Float(number, precision=prec) for number in numbers))

    def _sympystr(self, printer: Any) -> str:
        return f"{self.spelling}({', '.join(printer._print(argument) for argument in self.args)})"


class Step(_Elementary):
    """The function that is 1 if x > 0, else 0; its derivative is 0 almost everywhere."""

    spelling = "step"
    nargs = 1
    is_nonnegative = True

    @classmethod
    def at(cls, x: Any) -> Any:
        """Return 1 or 0."""
        return sympy.Integer(1 if x > 0 else 0)

    def fdiff(self, argindex: int = 1) -> Any:
        """Return 0: the jump has measure zero."""
        return sympy.Integer(0)


class Relu(_Elementary):
    """The function max(x, 0), with derivative `step` (0 at the kink)."""

    spelling = "relu"
    nargs = 1
    is_nonnegative = True

    @classmethod
    def at(cls, x: Any) -> Any:
        """Return x or 0."""
        return x if x > 0 else sympy.Integer(0)

    def fdiff(self, argindex: int = 1) -> Any:
        """Return step(x)."""
        return Step(self.args[0])


class Sign(_Elementary):
    """The sign of x, -1, 0 or 1; its derivative is 0 almost everywhere."""

    spelling = "sign"
    nargs = 1

    @classmethod
    def at(cls, x: Any) -> Any:
        """Return -1, 0 or 1."""
        return sympy.Integer(1 if x > 0 else -1 if x < 0 else 0)

    def fdiff(self, argindex: int = 1) -> Any:
        """Return 0: the jump has measure zero."""
        return sympy.Integer(0)


class Absolute(_Elementary):
    """The function |x|, with derivative `sign` (0 at the kink)."""

    spelling = "abs"
    nargs = 1
    is_nonnegative = True

    @classmethod
    def at(cls, x: Any) -> Any:
        """Return |x|."""
        return -x if x < 0 else x

    def fdiff(self, argindex: int = 1) -> Any:
        """Return sign(x)."""
        return Sign(self.args[0])


class Sigmoid(_Elementary):
    """The function s = 1 / (1 + exp(-x)), with derivative s (1 - s)."""

    spelling = "sigmoid"
    nargs = 1
    is_positive = True

    @classmethod
    def at(cls, x: Any) -> Any:
        """Return 1/2 at 0, a float at floats, and None at other exact numbers."""
        if x == 0:
            return sympy.Rational(1, 2)
        return 1 / (1 + sympy.exp(-x)) if x.is_Float else None

    def fdiff(self, argindex: int = 1) -> Any:
        """Return sigmoid(x) (1 - sigmoid(x))."""
        return self * (1 - self)


class Softplus(_Elementary):
    """The function log(1 + exp(x)), with derivative `sigmoid`."""

    spelling = "softplus"
    nargs = 1
    is_positive = True

    @classmethod
    def at(cls, x: Any) -> Any:
        """Return a float at floats, and None at exact numbers."""
        if not x.is_Float:
            return None
        # Below -prec the tail alone is right to all digits; above, 1 + tail loses at most 1.5 prec of the 3 prec bits.
        tail = sympy.exp(sympy.Float(x, precision=3 * x._prec))
        value = tail if x < -x._prec else sympy.log(1 + tail)
        return sympy.Float(value._evalf(3 * x._prec), precision=x._prec)

    def fdiff(self, argindex: int = 1) -> Any:
        """Return sigmoid(x)."""
        return Sigmoid(self.args[0])


class Maximum(_Elementary):
    """The function max(a, b); if a = b its derivative is that of b, so that the two partial derivatives add up to 1."""

    spelling = "max"
    nargs = 2

    @classmethod
    def eval(cls, a: Any, b: Any) -> Any:
        """Return a if both are the same expression, the larger if both are numbers, else None."""
        return a if a == b else super().eval(a, b)

    @classmethod
    def at(cls, a: Any, b: Any) -> Any:
        """Return the larger number."""
        return a if a > b else b

    def fdiff(self, argindex: int = 1) -> Any:
        """Return the derivative by argument `argindex`: step(a - b) for 1, and 1 - step(a - b) for 2."""
        return _share(self, argindex, self.args[0] - self.args[1])


class Minimum(_Elementary):
    """The function min(a, b); if a = b its derivative is that of b, so that the two partial derivatives add up to 1."""

    spelling = "min"
    nargs = 2

    @classmethod
    def eval(cls, a: Any, b: Any) -> Any:
        """Return a if both are the same expression, the smaller if both are numbers, else None."""
        return a if a == b else super().eval(a, b)

    @classmethod
    def at(cls, a: Any, b: Any) -> Any:
        """Return the smaller number."""
        return a if a < b else b

    def fdiff(self, argindex: int = 1) -> Any:
        """Return the derivative by argument `argindex`: step(b - a) for 1, and 1 - step(b - a) for 2."""
        return _share(self, argindex, self.args[1] - self.args[0])


def _share(function: Any, argindex: int, lead: Any) -> Any:
    if argindex not in (1, 2):
        raise ArgumentIndexError(function, argindex)
    return Step(lead) if argindex == 1 else 1 - Step(lead)


@dataclass(frozen=True)
class Builder:
    """The way from a call to an expression. `most` is None if any number of arguments from `least` on is allowed."""

    build: Callable[..., Any]
    least: int = 1
    most: int | None = 1


def _folded(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def build(first: Any, *rest: Any) -> Any:
        for other in rest:
            first = function(first, other)
        return first

    return build


FUNCTIONS: Mapping[str, Builder] = MappingProxyType(
    {
        "abs": Builder(Absolute),
        "cos": Builder(sympy.cos),
        "erf": Builder(sympy.erf),
        "exp": Builder(sympy.exp),
        "log": Builder(sympy.log),
        "max": Builder(_folded(Maximum), 2, 8),
        "min": Builder(_folded(Minimum), 2, 8),
        "relu": Builder(Relu),
        "sigmoid": Builder(Sigmoid),
        "sign": Builder(Sign),
        "sin": Builder(sympy.sin),
        "softplus": Builder(Softplus),
        "sqrt": Builder(sympy.sqrt),
        "step": Builder(Step),
        "tanh": Builder(sympy.tanh),
    }
)
"""The functions that a user may call, by name."""

CONSTANTS: Mapping[str, Any] = MappingProxyType({"pi": sympy.pi, "e": sympy.E})
"""The constants that a user may write, by name."""

RESERVED = frozenset(FUNCTIONS) | frozenset(CONSTANTS)
"""Names that no parameter or input may have."""

KINKED: tuple[type, ...] = (Absolute, Maximum, Minimum, Relu, Sign, Step)
"""The functions that are not analytic everywhere."""

KNOWN_CLASSES: tuple[type, ...] = (
    *(*KINKED, Sigmoid, Softplus),
    *(sympy.cos, sympy.erf, sympy.exp, sympy.log, sympy.sin, sympy.tanh),
    *(sympy.Add, sympy.Mul, sympy.Pow, sympy.Rational, sympy.Symbol, type(sympy.pi), type(sympy.E)),
)
"""Every class of node that a parsed expression may contain."""


def value_of(constant: Any) -> float:
    """Return the float nearest to an expression without symbols; inf if it is too large for a float."""
    # The spare digits make the conversion to a float the only rounding that counts.
    return float(constant) if constant.is_Rational else float(constant.evalf(25))


def settled(expression: Any) -> Any:
    """Return the expression with SymPy's Abs (which it makes of sqrt(x**2)) and sign as `Absolute` and `Sign`."""
    if expression.has(sympy.Abs, sympy.sign):
        expression = expression.replace(sympy.Abs, Absolute).replace(sympy.sign, Sign)
    return expression
