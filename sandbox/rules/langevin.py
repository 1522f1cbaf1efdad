"""The unadjusted Langevin algorithm, w' = w - h grad U + sqrt(2 h) xi with U = nbeta L_n - log φ.

Its stationary law is the posterior up to a bias of order h (Roberts and Tweedie 1996); on a quadratic with
curvature a the variance is 1 / (a (1 - h a / 2)). It is transient where U grows faster than a quadratic, unless
the walls of a box reflect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import sympy
from pydantic import Field

from sandbox.rules.base import Array, Rule


class Langevin(Rule):
    """Unadjusted Langevin steps on the posterior at inverse temperature nbeta."""

    follows: ClassVar[Literal["loss", "posterior"]] = "posterior"
    uses_normals: ClassVar[bool] = True

    rule: Literal["langevin"]
    step_size: float = Field(gt=0, description="h; the stability edge is h * nbeta * sharpness = 2")
    nbeta: float | None = Field(
        default=None, gt=0, description="inverse temperature times n; the scenario's unless said"
    )

    def rates(self, steps: npt.NDArray[np.int64], total: int) -> Array:
        """Return h at each step."""
        return np.full(len(steps), self.step_size)

    def constants(self) -> tuple[float, ...]:
        """Return nothing: the step needs the rate only."""
        return ()

    def step(
        self, w: Sequence[Any], g: Sequence[Any], xi: Sequence[Any], rate: Any, constants: Sequence[Any]
    ) -> Sequence[Any]:
        """Return w - h grad U + sqrt(2 h) xi."""
        spread = sympy.sqrt(2 * rate)
        return [x - rate * slope + spread * z for x, slope, z in zip(w, g, xi, strict=True)]

    def nbeta_or(self, default: float) -> float:
        """Return the rule's own nbeta, else the default."""
        return default if self.nbeta is None else self.nbeta

    @property
    def default_gradient(self) -> str:
        """The full gradient."""
        return "full"
