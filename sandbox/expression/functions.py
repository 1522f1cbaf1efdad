"""The functions a user may write, and the few that SymPy lacks in the form we need.

Everything here is real valued and understood almost everywhere: the derivative of `relu` is `step`, that of `abs`
is `sign`, and at a kink the value stated below is taken (`step(0) = 0`, `sign(0) = 0`), so that neither Dirac
deltas nor case distinctions ever reach a compiled kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import sympy
from sympy.core.function import ArgumentIndexError


class _Elementary(sympy.Function):  # type: ignore[misc]
    """A real function with a spelling of its own and a rule for numbers."""

    spelling: ClassVar[str]
    is_real = True

    @classmethod
    def at(cls, *arguments: Any) -> Any:
        """Return the value at explicit numbers, or None where it has no closed form."""
        raise NotImplementedError

    @classmethod
    def eval(cls, *arguments: Any) -> Any:
        """Simplify at once where every argument is an explicit number (SymPy's hook)."""
        return cls.at(*arguments) if all(argument.is_Rational for argument in arguments) else None

    def _eval_evalf(self, prec: int) -> Any:
        numbers = [argument._evalf(prec) for argument in self.args]
        if not all(number.is_Number for number in numbers):
            return None
        return self.at(*(sympy.Float(number, precision=prec) for number in numbers))

    def _sympystr(self, printer: Any) -> str:
        return f"{self.spelling}({', '.join(printer._print(argument) for argument in self.args)})"


class Step(_Elementary):
    """1 where x > 0, else 0; its derivative is 0 almost everywhere."""

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
    """max(x, 0), with derivative `step` (0 at the kink)."""

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
    """-1, 0 or 1; its derivative is 0 almost everywhere."""

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
    """|x|, with derivative `sign` (0 at the kink)."""

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
    """1 / (1 + exp(-x)), with derivative s (1 - s)."""

    spelling = "sigmoid"
    nargs = 1
    is_positive = True

    @classmethod
    def at(cls, x: Any) -> Any:
        """Return 1/2 at 0, a float at floats, and nothing at other exact numbers."""
        if x == 0:
            return sympy.Rational(1, 2)
        return 1 / (1 + sympy.exp(-x)) if x.is_Float else None

    def fdiff(self, argindex: int = 1) -> Any:
        """Return sigmoid(x) (1 - sigmoid(x))."""
        return self * (1 - self)


class Softplus(_Elementary):
    """log(1 + exp(x)), with derivative `sigmoid`."""

    spelling = "softplus"
    nargs = 1
    is_positive = True

    @classmethod
    def at(cls, x: Any) -> Any:
        """Return a float at floats, and nothing at exact numbers."""
        if not x.is_Float:
            return None
        # Below -prec the tail alone is right to all digits; above, 1 + tail costs at most 1.5 prec of the 3 prec bits.
        tail = sympy.exp(sympy.Float(x, precision=3 * x._prec))
        value = tail if x < -x._prec else sympy.log(1 + tail)
        return sympy.Float(value._evalf(3 * x._prec), precision=x._prec)

    def fdiff(self, argindex: int = 1) -> Any:
        """Return sigmoid(x)."""
        return Sigmoid(self.args[0])


class Maximum(_Elementary):
    """max(a, b); where a = b the derivative follows b, so that the two shares always add up to 1."""

    spelling = "max"
    nargs = 2

    @classmethod
    def eval(cls, a: Any, b: Any) -> Any:
        """Return a where both are the same expression, the larger where both are numbers."""
        return a if a == b else super().eval(a, b)

    @classmethod
    def at(cls, a: Any, b: Any) -> Any:
        """Return the larger number."""
        return a if a > b else b

    def fdiff(self, argindex: int = 1) -> Any:
        """Return the share of argument `argindex`: step(a - b) or 1 - step(a - b)."""
        return _share(self, argindex, self.args[0] - self.args[1])


class Minimum(_Elementary):
    """min(a, b); where a = b the derivative follows b, so that the two shares always add up to 1."""

    spelling = "min"
    nargs = 2

    @classmethod
    def eval(cls, a: Any, b: Any) -> Any:
        """Return a where both are the same expression, the smaller where both are numbers."""
        return a if a == b else super().eval(a, b)

    @classmethod
    def at(cls, a: Any, b: Any) -> Any:
        """Return the smaller number."""
        return a if a < b else b

    def fdiff(self, argindex: int = 1) -> Any:
        """Return the share of argument `argindex`: step(b - a) or 1 - step(b - a)."""
        return _share(self, argindex, self.args[1] - self.args[0])


def _share(function: Any, argindex: int, lead: Any) -> Any:
    if argindex not in (1, 2):
        raise ArgumentIndexError(function, argindex)
    return Step(lead) if argindex == 1 else 1 - Step(lead)


@dataclass(frozen=True)
class Builder:
    """How a call is made into an expression. `most` is None where any number of arguments from `least` on will do."""

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
"""The functions a user may call, by name."""

CONSTANTS: Mapping[str, Any] = MappingProxyType({"pi": sympy.pi, "e": sympy.E})
"""The constants a user may write, by name."""

RESERVED = frozenset(FUNCTIONS) | frozenset(CONSTANTS)
"""Names that no parameter or input may have."""

KNOWN_CLASSES: tuple[type, ...] = (
    *(Absolute, Maximum, Minimum, Relu, Sigmoid, Sign, Softplus, Step),
    *(sympy.cos, sympy.erf, sympy.exp, sympy.log, sympy.sin, sympy.tanh),
    *(sympy.Add, sympy.Mul, sympy.Pow, sympy.Rational, sympy.Symbol, type(sympy.pi), type(sympy.E)),
)
"""Every kind of node an expression of ours may hold."""


def value_of(constant: Any) -> float:
    """Return the float nearest to an expression without symbols; inf where it is too large for one."""
    # Digits to spare, so that rounding happens once.
    return float(constant) if constant.is_Rational else float(constant.evalf(25))


def settled(expression: Any) -> Any:
    """Return the expression with SymPy's own |.| (which it makes of sqrt(x**2)) and sign replaced by ours."""
    if expression.has(sympy.Abs, sympy.sign):
        expression = expression.replace(sympy.Abs, Absolute).replace(sympy.sign, Sign)
    return expression
