"""The functions that generated code calls on single numbers, float32 or float64.

They keep their argument's type, and NaN stays NaN where it would decide a result: a diverged particle stays visible.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sandbox.jit import lane_function

# The narrow type, so that they widen nothing: Numba makes float32 and an integer float64.
_ZERO = np.float32(0)
_ONE = np.float32(1)


@lane_function
def relu(x: Any) -> Any:
    """Return max(x, 0)."""
    # Put so, it is one instruction, which passes NaN on.
    return _ZERO if x < _ZERO else x


@lane_function
def step(x: Any) -> Any:
    """Return 1 where x > 0, else 0: the derivative of relu, 0 at 0."""
    return _ONE if x > _ZERO else relu(x)


@lane_function
def sign(x: Any) -> Any:
    """Return -1, 0 or 1."""
    return step(x) - step(-x)


@lane_function
def abs_(x: Any) -> Any:
    """Return |x|."""
    return math.fabs(x)


@lane_function
def max_(a: Any, b: Any) -> Any:
    """Return the larger of two numbers."""
    return b if b > a else a


@lane_function
def min_(a: Any, b: Any) -> Any:
    """Return the smaller of two numbers."""
    return b if b < a else a


@lane_function
def sigmoid(x: Any) -> Any:
    """Return 1 / (1 + exp(-x)), without overflow to NaN."""
    return _ONE / (_ONE + math.exp(-x))


@lane_function
def softplus(x: Any) -> Any:
    """Return log(1 + exp(x)), exact for large |x|."""
    return max_(x, x * _ZERO) + math.log1p(math.exp(-math.fabs(x)))


@lane_function
def exp(x: Any) -> Any:
    """Return e^x."""
    return math.exp(x)


@lane_function
def log(x: Any) -> Any:
    """Return the natural logarithm."""
    return math.log(x)


@lane_function
def sin(x: Any) -> Any:
    """Return sin x."""
    return math.sin(x)


@lane_function
def cos(x: Any) -> Any:
    """Return cos x."""
    return math.cos(x)


@lane_function
def tanh(x: Any) -> Any:
    """Return tanh x."""
    return math.tanh(x)


@lane_function
def sqrt(x: Any) -> Any:
    """Return the square root."""
    return np.sqrt(x)


@lane_function
def erf(x: Any) -> Any:
    """Return the error function."""
    return math.erf(x)


@lane_function
def pow(x: Any, y: Any) -> Any:
    """Return x^y."""
    return x**y
