"""The unadjusted Langevin algorithm, w' = w - h grad U + sqrt(2 h) xi with U = nbeta L_n - log φ.

Its stationary law is the posterior up to a bias of order h (Roberts and Tweedie 1996); on a quadratic with
curvature a the variance is 1 / (a (1 - h a / 2)). The chain is transient if U grows faster than a
quadratic, unless the walls of a box reflect.

Leimkuhler and Matthews (2013, 1203.5428) average the noise of two neighbouring steps,
w' = w - h grad U + sqrt(2 h) (xi_n + xi_{n+1}) / 2. A step still takes one gradient. The bias is of order h^2 in
general, and there is none on a quadratic.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import sympy
from pydantic import Field

from sandbox.dynamics.rules.base import Key, Moved, Particle, Potential, Rule, Steps, start_normals
from sandbox.tools.arrays import Array


class LangevinStep(Rule):
    """The base class of the samplers: a step size, and the posterior at inverse temperature nbeta."""

    follows: ClassVar[Literal["loss", "posterior"]] = "posterior"
    uses_normals: ClassVar[bool] = True

    step_size: float = Field(gt=0, description="h; the stability edge is h * nbeta * sharpness = 2")
    nbeta: float | None = Field(
        default=None, gt=0, description="inverse temperature times n; by default the scenario's"
    )

    def rates(self, steps: Steps, total: int) -> Array:
        """Return h at each step, shape (len(steps),)."""
        return np.full(len(steps), self.step_size)

    def nbeta_or(self, default: float) -> float:
        """Return the rule's own nbeta, or `default` if it has none."""
        return default if self.nbeta is None else self.nbeta

    @property
    def default_gradient(self) -> str | None:
        """The full gradient."""
        return "full"


class Langevin(LangevinStep):
    """Unadjusted Langevin steps on the posterior at inverse temperature nbeta."""

    rule: Literal["langevin"] = "langevin"

    def step(self, p: Particle) -> Moved:
        """Return w - h grad U + sqrt(2 h) xi."""
        spread = sympy.sqrt(2 * p.rate)
        return Moved([x - p.rate * g + spread * z for x, g, z in zip(p.w, p.g, p.xi, strict=True)])


class LeimkuhlerMatthews(LangevinStep):
    """Langevin steps with averaged noise; the state is the normals of the last step."""

    rule: Literal["langevin_lm"] = "langevin_lm"

    @property
    def state(self) -> tuple[str, ...]:
        """The name of the normals of the last step."""
        return ("noise",)

    @property
    def flips_at_wall(self) -> frozenset[str]:
        """The noise changes sign at a wall, because half of it is still to be applied."""
        return frozenset({"noise"})

    def initial_state(self, points: Array, key: Key, potential: Potential) -> Array:
        """Return the normals of the step before the first, shape (N, D)."""
        return start_normals(points, key)

    def step(self, p: Particle) -> Moved:
        """Return w - h grad U + sqrt(2 h) (last + xi) / 2, and xi as the new state."""
        spread = sympy.sqrt(2 * p.rate) / 2
        noise = [last + z for last, z in zip(p.state["noise"], p.xi, strict=True)]
        return Moved([x - p.rate * g + spread * z for x, g, z in zip(p.w, p.g, noise, strict=True)], {"noise": p.xi})
