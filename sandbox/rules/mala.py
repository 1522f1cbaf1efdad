"""The Metropolis-adjusted Langevin algorithm: ULA's step as a proposal that is judged, so that the posterior is exact.

    y = w - h grad U(w) + sqrt(2 h) xi, accepted with probability min(1, exp(r)),
    r = U(w) - U(y) + sqrt(h/2) xi . (grad U(w) + grad U(y)) - (h/4) |grad U(w) + grad U(y)|^2

(Besag 1994; Roberts and Tweedie 1996). r is Hastings' ratio with w - y = h grad U(w) - sqrt(2 h) xi put in, which
spares the difference of two squares. In many dimensions 0.574 of the proposals should be accepted (Roberts and
Rosenthal 1998). Beyond the prior's support U is infinite: proposals there are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import sympy

from sandbox.rules.base import Array, Key, Moved, Particle, Potential
from sandbox.rules.langevin import LangevinStep


class Mala(LangevinStep):
    """Langevin steps, each accepted or refused; `accepted` counts the former."""

    is_judged: ClassVar[bool] = True

    rule: Literal["mala"]

    @property
    def state(self) -> tuple[str, ...]:
        """The gradient of U where the particle is."""
        return ("slope",)

    @property
    def scalars(self) -> tuple[str, ...]:
        """U where the particle is, and how many proposals were accepted."""
        return ("energy", "accepted")

    def initial_state(self, points: Array, key: Key, potential: Potential) -> Array:
        """Return the gradients and energies at the points, and counts of 0."""
        energies, gradients = potential(points)
        return np.column_stack([gradients, energies, np.zeros(len(points))])

    def proposal(self, p: Particle) -> Sequence[Any]:
        """Return w - h grad U(w) + sqrt(2 h) xi."""
        spread = sympy.sqrt(2 * p.rate)
        return [x - p.rate * g + spread * z for x, g, z in zip(p.w, p.state["slope"], p.xi, strict=True)]

    def step(self, p: Particle) -> Moved:
        """Return the proposal, with its gradient and energy."""
        (accepted,) = p.state["accepted"]
        return Moved(p.proposal, {"slope": p.g, "energy": [p.energy], "accepted": [accepted + 1]})

    def log_acceptance(self, p: Particle) -> Any:
        """Return r."""
        (energy,) = p.state["energy"]
        sums = [here + there for here, there in zip(p.state["slope"], p.g, strict=True)]
        along = sympy.Add(*(z * g for z, g in zip(p.xi, sums, strict=True)))
        square = sympy.Add(*(g**2 for g in sums))
        return energy - p.energy + sympy.sqrt(p.rate / 2) * along - p.rate / 4 * square
