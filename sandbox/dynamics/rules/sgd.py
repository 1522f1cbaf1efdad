"""Stochastic gradient descent, w' = w - eta (g + decay w) (Robbins and Monro 1951), with momentum as in PyTorch.

Heavy ball (Polyak 1964): v' = mu v + g + decay w, w' = w - eta v'. The learning rate multiplies the whole velocity, so
on a slope g steps tend to eta g / (1 - mu). Nesterov (Sutskever et al. 2013): w' = w - eta (g + decay w + mu v').
Clipping replaces g by g min(1, clip / |g|) before the decay is added (Pascanu, Mikolov and Bengio 2013).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import sympy
from pydantic import Field, model_validator

from sandbox.dynamics.rules.base import Moved, Particle, Rule, Steps
from sandbox.dynamics.rules.schedule import Schedule, factors
from sandbox.expressions.functions import Maximum
from sandbox.tools.arrays import Array


class GradientStep(Rule):
    """The base class of SGD and its relatives: a learning rate with a schedule, and weight decay."""

    follows: ClassVar[Literal["loss", "posterior"]] = "loss"

    learning_rate: float = Field(gt=0, description="eta, at the start of the schedule")
    schedule: Schedule = Field(default="constant", description="constant, {step: ...} or {cosine: ...}")
    weight_decay: float = Field(default=0.0, ge=0, description="adds weight_decay * w to the gradient")

    def rates(self, steps: Steps, total: int) -> Array:
        """Return eta at each move, divided by the number of moves in a step, shape (len(steps),)."""
        k = self.moves_per_step
        return self.learning_rate * factors(self.schedule, steps // k, total // k) / k

    def constants(self) -> tuple[float, ...]:
        """Return the weight decay."""
        return (self.weight_decay,)

    def step(self, p: Particle) -> Moved:
        """Return w - eta (g + decay w)."""
        decay = p.constants[0]
        return Moved([x - p.rate * (slope + decay * x) for x, slope in zip(p.w, p.g, strict=True)])

    @property
    def default_gradient(self) -> str | None:
        """None: the user must name the estimator, the source of SGD's noise."""
        return None


class Sgd(GradientStep):
    """SGD; all its noise comes from the gradient estimator."""

    rule: Literal["sgd"] = "sgd"
    momentum: float = Field(default=0.0, ge=0, lt=1, description="mu, in v' = mu v + g, w' = w - eta v'")
    nesterov: bool = Field(default=False, description="whether the momentum is Nesterov's: w' = w - eta (g + mu v')")
    clip: float | None = Field(default=None, gt=0, description="largest gradient norm; longer gradients are shortened")

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Sgd:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self

    @property
    def state(self) -> tuple[str, ...]:
        """The name of the velocity, if there is momentum."""
        return ("velocity",) if self.momentum else ()

    @property
    def flips_at_wall(self) -> frozenset[str]:
        """The velocity changes sign at a wall."""
        return frozenset(self.state)

    def constants(self) -> tuple[float, ...]:
        """Return the weight decay, then momentum and clip, each if it is used."""
        return (self.weight_decay, *([self.momentum] if self.momentum else []), *([self.clip] if self.clip else []))

    def step(self, p: Particle) -> Moved:
        """Return the new position, and v' if there is momentum."""
        gradients = clipped(p.g, p.constants[-1]) if self.clip else p.g
        if not self.momentum:
            return super().step(replace(p, g=gradients))
        decay, mu = p.constants[:2]
        slopes = [g + decay * x for x, g in zip(p.w, gradients, strict=True)]
        velocity = [mu * v + slope for v, slope in zip(p.state["velocity"], slopes, strict=True)]
        used = [s + mu * v for s, v in zip(slopes, velocity, strict=True)] if self.nesterov else velocity
        return Moved([x - p.rate * v for x, v in zip(p.w, used, strict=True)], {"velocity": velocity})


def clipped(gradients: Sequence[Any], longest: Any) -> list[Any]:
    """Return the gradient, scaled down to the norm `longest` if it is longer."""
    # The maximum is taken under the root: from a root of squares alone, SymPy may take out x and write |x|.
    square = sympy.Add(*(g**2 for g in gradients))
    return [g * longest / sympy.sqrt(Maximum(square, longest**2)) for g in gradients]
