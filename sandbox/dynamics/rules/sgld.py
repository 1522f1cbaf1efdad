"""Stochastic gradient Langevin dynamics, w' = w - (eps/2) grad U~ + sqrt(eps) xi (Welling and Teh 2011); eps is 2 h.

U~ is nbeta L_n - log φ, estimated from a minibatch, plus gamma |w - w*|^2 / 2, which keeps a particle near its start w*
(the localisation of Lau, Furman, Wang, Murfet and Wei 2023, 2308.12108). The minibatch adds eps^2/4 nbeta^2 C/B to the
variance eps of the noise. Without it, the variance on a quadratic of curvature a is 1 / (a (1 - eps a / 4)).

Preconditioned by RMSprop (Li, Chen, Carlson and Carin 2016, 1512.07666, algorithm 1): g is the gradient of L_n,
v' = alpha v + (1 - alpha) g^2 the running mean of its square, G = 1 / (lambda + sqrt(v')), and
w' = w - (eps/2) G grad U~ + sqrt(eps G) xi. As usual, the term Gamma, the divergence of G, is left out, so the
stationary law is biased: towards exp(-U) / G in one dimension if v follows the position at once (alpha = 0). If v is
slow, as with alpha near 1, G hardly depends on the position, and the bias is small.
"""

from __future__ import annotations

from typing import Any, Literal

import sympy
from pydantic import Field

from sandbox.dynamics.rules.base import Key, Moved, Particle, Potential, Steps
from sandbox.dynamics.rules.langevin import LangevinStep
from sandbox.dynamics.rules.schedule import Schedule, factors
from sandbox.tools.arrays import Array


class Sgld(LangevinStep):
    """Langevin steps with a noisy gradient, in the convention of Welling and Teh: drift eps/2, noise eps."""

    rule: Literal["sgld"] = "sgld"
    step_size: float = Field(gt=0, description="eps; the stability edge is eps * nbeta * sharpness = 4")
    schedule: Schedule = Field(default="constant", description="constant, {step: ...} or {cosine: ...}")
    localization: float = Field(default=0.0, ge=0, description="gamma, the strength of the pull gamma (w - start)")

    @property
    def state(self) -> tuple[str, ...]:
        """The name of the anchor of a particle, if there is localization."""
        return ("anchor",) if self.localization else ()

    def initial_state(self, points: Array, key: Key, potential: Potential) -> Array:
        """Return the points (N, D) as the anchors, if there is localization, then zeros for the other states."""
        states = super().initial_state(points, key, potential)
        if self.localization:
            states[:, : points.shape[1]] = points
        return states

    def rates(self, steps: Steps, total: int) -> Array:
        """Return eps at each step, shape (len(steps),)."""
        return self.step_size * factors(self.schedule, steps, total)

    def constants(self) -> tuple[float, ...]:
        """Return the localization, if it is used."""
        return (self.localization,) if self.localization else ()

    def pulled(self, p: Particle) -> list[Any]:
        """Return grad U~, including the pull towards the anchor."""
        if not self.localization:
            return list(p.g)
        gamma = p.constants[0]
        return [g + gamma * (x - a) for x, g, a in zip(p.w, p.g, p.state["anchor"], strict=True)]

    def step(self, p: Particle) -> Moved:
        """Return w - (eps/2) grad U~ + sqrt(eps) xi."""
        half, spread = p.rate / 2, sympy.sqrt(p.rate)
        return Moved([x - half * g + spread * z for x, g, z in zip(p.w, self.pulled(p), p.xi, strict=True)])

    @property
    def default_gradient(self) -> str | None:
        """None: the user must name the minibatch."""
        return None


class Psgld(Sgld):
    """SGLD preconditioned by RMSprop."""

    rule: Literal["psgld"] = "psgld"  # type: ignore[assignment]
    alpha: float = Field(default=0.99, ge=0, lt=1, description="decay rate of the mean square of L_n's gradient")
    stabilizer: float = Field(default=1e-5, gt=0, description="lambda, in G = 1 / (lambda + sqrt(v))")

    @property
    def state(self) -> tuple[str, ...]:
        """The names of the anchor, if there is one, and of the mean square of the gradient."""
        return (*super().state, "square")

    def constants(self) -> tuple[float, ...]:
        """Return the localization, if it is used, then alpha, 1 - alpha and lambda."""
        return (*super().constants(), self.alpha, 1 - self.alpha, self.stabilizer)

    def step(self, p: Particle) -> Moved:
        """Return w - (eps/2) G grad U~ + sqrt(eps G) xi, and v'."""
        memory, rest, stabilizer = p.constants[-3:]
        square = [memory * v + rest * g**2 for v, g in zip(p.state["square"], p.loss_gradient, strict=True)]
        scaled = [p.rate / (stabilizer + sympy.sqrt(v)) for v in square]
        slopes = self.pulled(p)
        moved = [x - s * g / 2 + sympy.sqrt(s) * z for x, s, g, z in zip(p.w, scaled, slopes, p.xi, strict=True)]
        return Moved(moved, {"square": square})
