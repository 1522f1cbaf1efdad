"""Stochastic gradient descent, w' = w - eta (g + decay w): Robbins and Monro 1951."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from sandbox.rules.base import Array, Rule
from sandbox.rules.schedule import Schedule, factors


class Sgd(Rule):
    """Plain SGD; all its noise comes from the gradient estimator. With the full gradient: gradient descent."""

    follows: ClassVar[Literal["loss", "posterior"]] = "loss"
    uses_normals: ClassVar[bool] = False

    rule: Literal["sgd"]
    learning_rate: float = Field(gt=0, description="eta, at the start of the schedule")
    schedule: Schedule = Field(default="constant", description="constant, {step: ...} or {cosine: ...}")
    weight_decay: float = Field(default=0.0, ge=0, description="adds weight_decay * w to the gradient")

    def rates(self, steps: npt.NDArray[np.int64], total: int) -> Array:
        """Return eta at each step."""
        return self.learning_rate * factors(self.schedule, steps, total)

    def constants(self) -> tuple[float, ...]:
        """Return the weight decay."""
        return (self.weight_decay,)

    def step(
        self, w: Sequence[Any], g: Sequence[Any], xi: Sequence[Any], rate: Any, constants: Sequence[Any]
    ) -> Sequence[Any]:
        """Return w - eta (g + decay w)."""
        (decay,) = constants
        return [x - rate * (slope + decay * x) for x, slope in zip(w, g, strict=True)]

    @property
    def default_gradient(self) -> None:
        """None: what makes SGD stochastic must be said."""
        return None
