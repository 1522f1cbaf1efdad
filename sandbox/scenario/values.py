"""Single values of a scenario: distributions, fractions, expressions."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from sandbox.model.prior import Distribution
from sandbox.scenario.schema import Expression
from sandbox.tools.errors import InputError

MAX_NUMBER = 1e30
"""The numbers in distributions are 0 or have a magnitude from 1 / MAX_NUMBER to MAX_NUMBER."""


def distribution(text: str | float) -> Distribution:
    """Parse a distribution; raise InputError if a number is so large or small that powers of it could overflow."""
    read = Distribution.parse(text)
    if not all(number == 0 or 1 / MAX_NUMBER <= abs(number) <= MAX_NUMBER for number in read.arguments):
        limits = f"0 or of a magnitude between {1 / MAX_NUMBER:g} and {MAX_NUMBER:g}"
        raise InputError(f"found '{str(text)[:60]}'; allowed: numbers that are {limits}")
    return read


def fraction(value: str | float) -> Fraction:
    """Return "1/4", "0.25" or a number as an exact fraction. Raises InputError unless it is positive."""
    try:
        read = Fraction(str(value)) if len(str(value)) <= 50 else Fraction(0)
    except (ValueError, ZeroDivisionError):
        read = Fraction(0)
    if not read > 0:
        raise InputError(f"found '{str(value)[:60]}'; allowed: a positive number or a fraction such as 1/4")
    return read


def inside(start: Distribution, low: float, high: float) -> Distribution:
    """Return a start truncated to the box if its density is unbounded. Raises InputError if another reaches outside."""
    if start.family == "choice":
        lowest, highest = min(start.arguments), max(start.arguments)
    else:
        lowest, highest = start.low, start.high
    bounded = start.family in ("choice", "uniform")
    if bounded and not (low <= lowest and highest <= high):
        raise InputError(f"the start {start} lies outside the box [{low:g}, {high:g}]")
    return start if bounded else start.truncated(low, high)


def texts(expressions: Expression | Sequence[Expression]) -> tuple[str, ...]:
    """Return one or several expressions as a tuple of texts."""
    many = (expressions,) if isinstance(expressions, str | int | float) else expressions
    return tuple(map(str, many))
