"""Underdamped Langevin dynamics by BAOAB (Leimkuhler and Matthews 2013, 1203.5428), unit mass, one gradient a step.

    dx = v dt,  dv = -grad U dt - friction v dt + sqrt(2 friction) dW,  U = nbeta L_n - log φ.

A step is half a kick, half a drift, friction and noise exactly over h, half a drift, half a kick. The last half kick
and the next step's first are at the same position. They are merged, which leaves the positions unchanged; v is taken
before the last half kick. On a quadratic of curvature a, the variance of the positions is 1 / a without bias for every
h below the edge h^2 a = 4. The variance of v, half a kick before the paper's, is 1, not 1 - h^2 a / 4.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from sandbox.dynamics.rules.base import Key, Moved, Particle, Potential, start_normals
from sandbox.dynamics.rules.langevin import LangevinStep
from sandbox.tools.arrays import Array


class Underdamped(LangevinStep):
    """Langevin dynamics with inertia: particles keep a velocity for a time of about 1 / friction."""

    rule: Literal["underdamped"] = "underdamped"
    step_size: float = Field(gt=0, description="h; the stability edge is h^2 * nbeta * sharpness = 4")
    friction: float = Field(default=1.0, gt=0, description="gamma, the rate at which velocities decay")

    @property
    def state(self) -> tuple[str, ...]:
        """The name of the velocity."""
        return ("velocity",)

    @property
    def flips_at_wall(self) -> frozenset[str]:
        """The velocity changes sign at a wall."""
        return frozenset({"velocity"})

    def initial_state(self, points: Array, key: Key, potential: Potential) -> Array:
        """Return velocities from their stationary law, shape (N, D)."""
        return start_normals(points, key)

    def constants(self) -> tuple[float, ...]:
        """Return the factor by which friction shrinks v in a step, and the standard deviation of the step's noise."""
        decay = self.friction * self.step_size
        return (math.exp(-decay), math.sqrt(-math.expm1(-2 * decay)))

    def step(self, p: Particle) -> Moved:
        """Return the position after a kick, half a drift, friction and noise, and half a drift; and the velocity."""
        kept, spread = p.constants
        half = p.rate / 2
        kicked = [v - p.rate * g for v, g in zip(p.state["velocity"], p.g, strict=True)]
        velocity = [kept * v + spread * z for v, z in zip(kicked, p.xi, strict=True)]
        moved = [x + half * (v + u) for x, v, u in zip(p.w, kicked, velocity, strict=True)]
        return Moved(moved, {"velocity": velocity})
