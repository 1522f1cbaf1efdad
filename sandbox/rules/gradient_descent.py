"""Gradient descent, w' = w - eta grad L_n (Cauchy 1847); cut into many substeps, the gradient flow w' = -grad L_n.

A step of k substeps of eta / k is off the flow over a time of eta by eta^2 / (2 k) H grad L_n to leading order.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sandbox.rules.sgd import GradientStep


class GradientDescent(GradientStep):
    """SGD's step, with the full gradient unless said. In the time of the flow, a step is eta."""

    rule: Literal["gradient_descent"]
    substeps: int = Field(default=1, ge=1, description="moves of eta / substeps that make up a step")

    @property
    def moves_per_step(self) -> int:
        """The substeps."""
        return self.substeps

    def edge(self) -> float:
        """Return 2 for each of the substeps."""
        return 2.0

    @property
    def default_gradient(self) -> str:
        """The full gradient."""
        return "full"
