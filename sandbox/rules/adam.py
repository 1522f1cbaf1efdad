"""Adam (Kingma and Ba 2015, 1412.6980, algorithm 1), bias corrected as in PyTorch; AdamW (Loshchilov and Hutter 2019).

    m' = b1 m + (1 - b1) g,  v' = b2 v + (1 - b2) g^2,
    w' = w - eta m' / (1 - b1^t) / (sqrt(v') / sqrt(1 - b2^t) + eps),  t = 1, 2, ...

Weight decay is added to g, or, `decoupled` (1711.05101), shrinks w by 1 - eta decay first.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import sympy
from pydantic import Field

from sandbox.rules.base import Array, Moved, Particle, Steps
from sandbox.rules.sgd import GradientStep


class Adam(GradientStep):
    """Adam, per coordinate; where all gradients have one size its steps are about eta, whatever that size."""

    rule: Literal["adam"]
    beta1: float = Field(default=0.9, ge=0, lt=1, description="memory of the mean gradient")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="memory of the mean square")
    epsilon: float = Field(default=1e-8, gt=0, description="added to the root of the mean square")
    decoupled: bool = Field(default=False, description="whether weight decay acts on w itself (AdamW)")

    @property
    def state(self) -> tuple[str, ...]:
        """The running means of the gradient and of its square."""
        return ("mean", "square")

    @property
    def odd(self) -> frozenset[str]:
        """The mean gradient turns round at a wall; its square does not."""
        return frozenset({"mean"})

    def numbers(self, steps: Steps) -> Array:
        """Return both bias corrections, 1 / (1 - b1^t) and 1 / sqrt(1 - b2^t)."""
        t = steps + 1.0
        return np.stack([1 / -np.expm1(t * _log(self.beta1)), 1 / np.sqrt(-np.expm1(t * _log(self.beta2)))], axis=1)

    def constants(self) -> tuple[float, ...]:
        """Return the weight decay, the memories, their complements and epsilon."""
        return (self.weight_decay, self.beta1, 1 - self.beta1, self.beta2, 1 - self.beta2, self.epsilon)

    def step(self, p: Particle) -> Moved:
        """Return where the corrected means lead, and the means."""
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

    def edge(self) -> None:
        """None: the steps do not scale with the gradient."""


def _log(memory: float) -> float:
    return float(np.log(memory)) if memory else -np.inf
