"""The functions that generated code calls on single numbers, float32 or float64.

They keep their argument's type, and NaN stays NaN where it would decide a result: a diverged particle stays visible.
"""

from __future__ import annotations

import math

import numpy as np

from sandbox.jit import lane_function


@lane_function
def relu(x: float) -> float:
    """Return max(x, 0)."""
    return x * 0 if x <= 0 else x


@lane_function
def step(x: float) -> float:
    """Return 1 where x > 0, else 0: the derivative of relu, 0 at 0."""
    return x * 0 + 1 if x > 0 else x * 0


@lane_function
def sign(x: float) -> float:
    """Return -1, 0 or 1."""
    return step(x) - step(-x)


@lane_function
def abs_(x: float) -> float:
    """Return |x|."""
    return math.fabs(x)


@lane_function
def max_(a: float, b: float) -> float:
    """Return the larger of two numbers."""
    return b if b > a else a


@lane_function
def min_(a: float, b: float) -> float:
    """Return the smaller of two numbers."""
    return b if b < a else a


@lane_function
def sigmoid(x: float) -> float:
    """Return 1 / (1 + exp(-x)), without overflow to NaN."""
    return 1 / (1 + math.exp(-x))


@lane_function
def softplus(x: float) -> float:
    """Return log(1 + exp(x)), exact for large |x|."""
    return max_(x, x * 0) + math.log1p(math.exp(-math.fabs(x)))


@lane_function
def exp(x: float) -> float:
    """Return e^x."""
    return math.exp(x)


@lane_function
def log(x: float) -> float:
    """Return the natural logarithm."""
    return math.log(x)


@lane_function
def sin(x: float) -> float:
    """Return sin x."""
    return math.sin(x)


@lane_function
def cos(x: float) -> float:
    """Return cos x."""
    return math.cos(x)


@lane_function
def tanh(x: float) -> float:
    """Return tanh x."""
    return math.tanh(x)


@lane_function
def sqrt(x: float) -> float:
    """Return the square root."""
    return np.sqrt(x)


@lane_function
def erf(x: float) -> float:
    """Return the error function."""
    return math.erf(x)


@lane_function
def pow(x: float, y: float) -> float:
    """Return x^y."""
    return x**y
