"""A number that every point of parameter space has: a gain, the place of a kink, how far weights are out of balance."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sandbox.expression import numpy_function, symbol

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Quantity:
    """An expression in the parameters, with the name it is shown by."""

    name: str
    expression: Any
    parameters: tuple[str, ...]

    def __call__(self, points: Array) -> Array:
        """Return the value at points (N, D), shape (N,); inf or nan where there is none."""
        return self._evaluate(*points.T)[0]

    @functools.cached_property
    def _evaluate(self) -> Callable[..., list[Array]]:
        return numpy_function([symbol(name) for name in self.parameters], [self.expression])
