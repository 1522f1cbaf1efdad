"""Adam (Kingma and Ba 2015, 1412.6980, algorithm 1), bias corrected as in PyTorch; AdamW (Loshchilov and Hutter 2019).

    m' = b1 m + (1 - b1) g,  v' = b2 v + (1 - b2) g^2,
    w' = w - eta m' / (1 - b1^t) / (sqrt(v') / sqrt(1 - b2^t) + eps),  t = 1, 2, ...

Weight decay is added to g. With `decoupled` (1711.05101), it instead multiplies w by 1 - eta decay before the step.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import sympy
from pydantic import Field

from sandbox.dynamics.rules.base import Moved, Particle, Steps
from sandbox.dynamics.rules.sgd import GradientStep
from sandbox.tools.arrays import Array


class Adam(GradientStep):
    """Adam, coordinate by coordinate. If all gradients have one size, a step is about eta, independent of that size."""

    rule: Literal["adam"] = "adam"
    beta1: float = Field(default=0.9, ge=0, lt=1, description="decay rate of the running mean of the gradient")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="decay rate of the running mean of its square")
    epsilon: float = Field(default=1e-8, gt=0, description="added to the root of the mean square")
    decoupled: bool = Field(default=False, description="whether weight decay acts on w itself (AdamW)")

    @property
    def state(self) -> tuple[str, ...]:
        """The names of the running means of the gradient and of its square."""
        return ("mean", "square")

    @property
    def flips_at_wall(self) -> frozenset[str]:
        """The mean gradient changes sign at a wall; the mean square does not."""
        return frozenset({"mean"})

    def numbers(self, steps: Steps) -> Array:
        """Return both bias corrections, 1 / (1 - b1^t) and 1 / sqrt(1 - b2^t), shape (len(steps), 2)."""
        t = steps + 1.0
        return np.stack([1 / -np.expm1(t * _log(self.beta1)), 1 / np.sqrt(-np.expm1(t * _log(self.beta2)))], axis=1)

    def constants(self) -> tuple[float, ...]:
        """Return the weight decay, beta1, 1 - beta1, beta2, 1 - beta2 and epsilon."""
        return (self.weight_decay, self.beta1, 1 - self.beta1, self.beta2, 1 - self.beta2, self.epsilon)

    def step(self, p: Particle) -> Moved:
        """Return the new position and both running means."""
        decay, b1, c1, b2, c2, epsilon = p.constants
        used = p.g if self.decoupled else [g + decay * x for x, g in zip(p.w, p.g, strict=True)]
        mean = [b1 * m + c1 * g for m, g in zip(p.state["mean"], used, strict=True)]
        square = [b2 * v + c2 * g**2 for v, g in zip(p.state["square"], used, strict=True)]
        shrunk = [x - p.rate * decay * x for x in p.w] if self.decoupled else p.w
        first, second = p.numbers
        step = p.rate * first

        def moved(x: Any, m: Any, v: Any) -> Any:
            return x - step * m / (sympy.sqrt(v) * second + epsilon)

        return Moved(
            [moved(*each) for each in zip(shrunk, mean, square, strict=True)], {"mean": mean, "square": square}
        )


def _log(memory: float) -> float:
    return float(np.log(memory)) if memory else -np.inf
