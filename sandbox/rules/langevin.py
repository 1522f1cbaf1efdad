"""The unadjusted Langevin algorithm, w' = w - h grad U + sqrt(2 h) xi with U = nbeta L_n - log φ.

Its stationary law is the posterior up to a bias of order h (Roberts and Tweedie 1996); on a quadratic with
curvature a the variance is 1 / (a (1 - h a / 2)). It is transient where U grows faster than a quadratic, unless
the walls of a box reflect.

Leimkuhler and Matthews (2013, 1203.5428) average the noise of two neighbouring steps,
w' = w - h grad U + sqrt(2 h) (xi_n + xi_{n+1}) / 2: one gradient a step as before, a bias of order h^2 in general and
none at all on a quadratic.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import sympy
from pydantic import Field

from sandbox.rules.base import Array, Key, Moved, Particle, Potential, Rule, Steps, start_normals


class LangevinStep(Rule):
    """What the samplers share: a step size, and the posterior at inverse temperature nbeta."""

    follows: ClassVar[Literal["loss", "posterior"]] = "posterior"
    uses_normals: ClassVar[bool] = True

    step_size: float = Field(gt=0, description="h; the stability edge is h * nbeta * sharpness = 2")
    nbeta: float | None = Field(
        default=None, gt=0, description="inverse temperature times n; the scenario's unless said"
    )

    def rates(self, steps: Steps, total: int) -> Array:
        """Return h at each step."""
        return np.full(len(steps), self.step_size)

    def nbeta_or(self, default: float) -> float:
        """Return the rule's own nbeta, else the default."""
        return default if self.nbeta is None else self.nbeta

    @property
    def default_gradient(self) -> str | None:
        """The full gradient."""
        return "full"


class Langevin(LangevinStep):
    """Unadjusted Langevin steps on the posterior at inverse temperature nbeta."""

    rule: Literal["langevin"]

    def step(self, p: Particle) -> Moved:
        """Return w - h grad U + sqrt(2 h) xi."""
        spread = sympy.sqrt(2 * p.rate)
        return Moved([x - p.rate * g + spread * z for x, g, z in zip(p.w, p.g, p.xi, strict=True)])


class LeimkuhlerMatthews(LangevinStep):
    """Langevin steps with averaged noise: the state is the last step's normals."""

    rule: Literal["langevin_lm"]

    @property
    def state(self) -> tuple[str, ...]:
        """The last step's normals."""
        return ("noise",)

    @property
    def odd(self) -> frozenset[str]:
        """The noise, half of which is still to come, turns round at a wall."""
        return frozenset({"noise"})

    def initial_state(self, points: Array, key: Key, potential: Potential) -> Array:
        """Return the normals of the step before the first."""
        return start_normals(points, key)

    def step(self, p: Particle) -> Moved:
        """Return w - h grad U + sqrt(2 h) (last + xi) / 2, and xi."""
        spread = sympy.sqrt(2 * p.rate) / 2
        noise = [last + z for last, z in zip(p.state["noise"], p.xi, strict=True)]
        return Moved([x - p.rate * g + spread * z for x, g, z in zip(p.w, p.g, noise, strict=True)], {"noise": p.xi})
