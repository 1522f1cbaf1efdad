"""Gradient descent, w' = w - eta grad L_n (Cauchy 1847); with many substeps, the gradient flow dw/dt = -grad L_n.

A step of k substeps of size eta / k differs from the flow over a time eta by eta^2 / (2 k) H grad L_n to leading order.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sandbox.dynamics.rules.sgd import GradientStep


class GradientDescent(GradientStep):
    """Gradient descent: SGD's step, by default with the full gradient. In the time of the flow, a step takes eta."""

    rule: Literal["gradient_descent"] = "gradient_descent"
    substeps: int = Field(default=1, ge=1, description="number of moves of size eta / substeps that make up a step")

    @property
    def moves_per_step(self) -> int:
        """The number of substeps."""
        return self.substeps

    @property
    def default_gradient(self) -> str:
        """The full gradient."""
        return "full"
