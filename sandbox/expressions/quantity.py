"""Derived quantities: functions of the parameters, such as a gain, a kink's position, or an imbalance of weights."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sandbox.expressions.evaluation import numpy_function
from sandbox.expressions.parsing import symbol
from sandbox.tools.arrays import Array

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""The quantiles of a quantity that are recorded."""


@dataclass(frozen=True)
class Quantity:
    """A derived quantity: an expression in the parameters, with its displayed name."""

    name: str
    expression: Any
    parameters: tuple[str, ...]

    def __call__(self, points: Array) -> Array:
        """Return the value at points (N, D), shape (N,); inf or nan if there is none."""
        return self._evaluate(*points.T)[0]

    @functools.cached_property
    def _evaluate(self) -> Callable[..., list[Array]]:
        return numpy_function([symbol(name) for name in self.parameters], [self.expression])
