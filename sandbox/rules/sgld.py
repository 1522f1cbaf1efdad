"""Stochastic gradient Langevin dynamics, w' = w - (eps/2) grad U~ + sqrt(eps) xi (Welling and Teh 2011); eps is 2 h.

U~ is nbeta L_n - log φ by a minibatch, plus gamma |w - w*|^2 / 2 that keeps a particle near its start w* (the
localisation of Lau, Furman, Wang, Murfet and Wei 2023, 2308.12108). The minibatch adds eps^2/4 nbeta^2 C/B to the
noise's variance eps; on a quadratic of curvature a the variance is 1 / (a (1 - eps a / 4)) without it.

Preconditioned by RMSprop (Li, Chen, Carlson and Carin 2016, 1512.07666, algorithm 1): with the running mean
v' = alpha v + (1 - alpha) g^2 of the gradient g of L_n and G = 1 / (lambda + sqrt(v')),
w' = w - (eps/2) G grad U~ + sqrt(eps G) xi. As is the custom, the term Gamma, the divergence of G, is left out. So the
law is off: towards exp(-U) / G in one dimension where v follows the place at once (alpha = 0); where v is slow, as with
alpha near 1, G hardly depends on the place and little is missing.
"""

from __future__ import annotations

from typing import Any, Literal

import sympy
from pydantic import Field

from sandbox.rules.base import Array, Key, Moved, Particle, Potential, Steps
from sandbox.rules.langevin import LangevinStep
from sandbox.rules.schedule import Schedule, factors


class Sgld(LangevinStep):
    """Langevin steps with a noisy gradient, in the convention of Welling and Teh: drift eps/2, noise eps."""

    rule: Literal["sgld"]
    step_size: float = Field(gt=0, description="eps; the stability edge is eps * nbeta * sharpness = 4")
    schedule: Schedule = Field(default="constant", description="constant, {step: ...} or {cosine: ...}")
    localization: float = Field(default=0.0, ge=0, description="gamma, of the pull gamma (w - start)")

    @property
    def state(self) -> tuple[str, ...]:
        """Where the particle is held, where it is."""
        return ("anchor",) if self.localization else ()

    def initial_state(self, points: Array, key: Key, potential: Potential) -> Array:
        """Return the points themselves as anchors, with zeros for what else is carried."""
        states = super().initial_state(points, key, potential)
        if self.localization:
            states[:, : points.shape[1]] = points
        return states

    def rates(self, steps: Steps, total: int) -> Array:
        """Return eps at each step."""
        return self.step_size * factors(self.schedule, steps, total)

    def constants(self) -> tuple[float, ...]:
        """Return the localization, where it is used."""
        return (self.localization,) if self.localization else ()

    def pulled(self, p: Particle) -> list[Any]:
        """Return grad U~, the pull towards the anchor included."""
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
        """None: the minibatch must be said."""
        return None

    def edge(self) -> float | None:
        """Return 4: the drift is half of eps."""
        return 4.0


class Psgld(Sgld):
    """SGLD preconditioned by RMSprop."""

    rule: Literal["psgld"]  # type: ignore[assignment]
    alpha: float = Field(default=0.99, ge=0, lt=1, description="memory of the mean square of the gradient of L_n")
    stabilizer: float = Field(default=1e-5, gt=0, description="lambda, in G = 1 / (lambda + sqrt(v))")

    @property
    def state(self) -> tuple[str, ...]:
        """The anchor, where there is one, and the mean square of the gradient."""
        return (*super().state, "square")

    def constants(self) -> tuple[float, ...]:
        """Return the localization, where it is used, then alpha, its complement and lambda."""
        return (*super().constants(), self.alpha, 1 - self.alpha, self.stabilizer)

    def step(self, p: Particle) -> Moved:
        """Return w - (eps/2) G grad U~ + sqrt(eps G) xi, and v'."""
        memory, rest, stabilizer = p.constants[-3:]
        square = [memory * v + rest * g**2 for v, g in zip(p.state["square"], p.loss_gradient, strict=True)]
        scaled = [p.rate / (stabilizer + sympy.sqrt(v)) for v in square]
        slopes = self.pulled(p)
        moved = [x - s * g / 2 + sympy.sqrt(s) * z for x, s, g, z in zip(p.w, scaled, slopes, p.xi, strict=True)]
        return Moved(moved, {"square": square})

    def edge(self) -> None:
        """None: the steps depend on the gradients met so far."""
