"""The functions that generated code calls on single numbers, float32 or float64.

They keep their argument's type. NaN stays NaN if it would decide a result, so that a diverged particle stays visible.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sandbox.compiled.functions import scalar_function

# These are float32, so that they widen nothing: Numba makes float64 of a float32 and an integer.
_ZERO = np.float32(0)
_ONE = np.float32(1)


@scalar_function
def relu(x: Any) -> Any:
    """Return max(x, 0)."""
    # In this form it is one instruction, and NaN stays NaN.
    return _ZERO if x < _ZERO else x


@scalar_function
def step(x: Any) -> Any:
    """Return 1 where x > 0, else 0: the derivative of relu, 0 at 0."""
    return _ONE if x > _ZERO else relu(x)


@scalar_function
def sign(x: Any) -> Any:
    """Return -1, 0 or 1."""
    return step(x) - step(-x)


@scalar_function
def abs_(x: Any) -> Any:
    """Return |x|."""
    return math.fabs(x)


@scalar_function
def max_(a: Any, b: Any) -> Any:
    """Return the larger of two numbers."""
    return b if b > a else a


@scalar_function
def min_(a: Any, b: Any) -> Any:
    """Return the smaller of two numbers."""
    return b if b < a else a


@scalar_function
def sigmoid(x: Any) -> Any:
    """Return 1 / (1 + exp(-x)), without overflow to NaN."""
    return _ONE / (_ONE + math.exp(-x))


@scalar_function
def softplus(x: Any) -> Any:
    """Return log(1 + exp(x)), exact for large |x|."""
    return max_(x, x * _ZERO) + math.log1p(math.exp(-math.fabs(x)))


@scalar_function
def exp(x: Any) -> Any:
    """Return e^x."""
    return math.exp(x)


@scalar_function
def log(x: Any) -> Any:
    """Return the natural logarithm."""
    return math.log(x)


@scalar_function
def sin(x: Any) -> Any:
    """Return sin x."""
    return math.sin(x)


@scalar_function
def cos(x: Any) -> Any:
    """Return cos x."""
    return math.cos(x)


@scalar_function
def tanh(x: Any) -> Any:
    """Return tanh x."""
    return math.tanh(x)


@scalar_function
def sqrt(x: Any) -> Any:
    """Return the square root."""
    return np.sqrt(x)


@scalar_function
def erf(x: Any) -> Any:
    """Return the error function."""
    return math.erf(x)


@scalar_function
def pow(x: Any, y: Any) -> Any:
    """Return x^y."""
    return x**y
