"""The Metropolis-adjusted Langevin algorithm: accept or reject the unadjusted step, so that the posterior is exact.

    y = w - h grad U(w) + sqrt(2 h) xi, accepted with probability min(1, exp(r)),
    r = U(w) - U(y) + sqrt(h/2) xi . (grad U(w) + grad U(y)) - (h/4) |grad U(w) + grad U(y)|^2

(Besag 1994; Roberts and Tweedie 1996). r is the log of Hastings' ratio with w - y = h grad U(w) - sqrt(2 h) xi
inserted, which avoids a difference of two squares. In many dimensions 0.574 of the proposals should be accepted
(Roberts and Rosenthal 1998). U is infinite outside the prior's support, so proposals there are rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import sympy

from sandbox.dynamics.rules.base import Key, Moved, Particle, Potential
from sandbox.dynamics.rules.langevin import LangevinStep
from sandbox.tools.arrays import Array


class Mala(LangevinStep):
    """Langevin steps, each accepted or rejected; the scalar `accepted` counts the accepted ones."""

    is_metropolized: ClassVar[bool] = True

    rule: Literal["mala"] = "mala"

    @property
    def state(self) -> tuple[str, ...]:
        """The name of the gradient of U at the particle."""
        return ("slope",)

    @property
    def scalars(self) -> tuple[str, ...]:
        """The names of U at the particle, and of the number of accepted proposals."""
        return ("energy", "accepted")

    def initial_state(self, points: Array, key: Key, potential: Potential) -> Array:
        """Return the gradients and energies at the points, and counts of 0, shape (N, D + 2)."""
        energies, gradients = potential(points)
        return np.column_stack([gradients, energies, np.zeros(len(points))])

    def proposal(self, p: Particle) -> Sequence[Any]:
        """Return w - h grad U(w) + sqrt(2 h) xi."""
        spread = sympy.sqrt(2 * p.rate)
        return [x - p.rate * g + spread * z for x, g, z in zip(p.w, p.state["slope"], p.xi, strict=True)]

    def step(self, p: Particle) -> Moved:
        """Return the proposal, with its gradient and energy and a count that is higher by 1."""
        (accepted,) = p.state["accepted"]
        return Moved(p.proposal, {"slope": p.g, "energy": [p.energy], "accepted": [accepted + 1]})

    def log_acceptance(self, p: Particle) -> Any:
        """Return the log ratio r from the top of this file."""
        (energy,) = p.state["energy"]
        sums = [here + there for here, there in zip(p.state["slope"], p.g, strict=True)]
        along = sympy.Add(*(z * g for z, g in zip(p.xi, sums, strict=True)))
        square = sympy.Add(*(g**2 for g in sums))
        return energy - p.energy + sympy.sqrt(p.rate / 2) * along - p.rate / 4 * square
