"""Stochastic gradient descent, w' = w - eta (g + decay w): Robbins and Monro 1951; with momentum as PyTorch has it.

Heavy ball (Polyak 1964): v' = mu v + g + decay w, w' = w - eta v'. The learning rate multiplies the whole velocity, so
that on a slope the speed tends to eta / (1 - mu). Nesterov's (Sutskever et al. 2013) takes g + decay w + mu v' for v'.
Clipping acts on the gradient before the decay is added: g min(1, clip / |g|) (Pascanu, Mikolov and Bengio 2013).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import sympy
from pydantic import Field, model_validator

from sandbox.expression.functions import Maximum
from sandbox.rules.base import Array, Moved, Particle, Rule, Steps
from sandbox.rules.schedule import Schedule, factors


class GradientStep(Rule):
    """What SGD and its relatives share: a learning rate with a schedule, and weight decay."""

    follows: ClassVar[Literal["loss", "posterior"]] = "loss"

    learning_rate: float = Field(gt=0, description="eta, at the start of the schedule")
    schedule: Schedule = Field(default="constant", description="constant, {step: ...} or {cosine: ...}")
    weight_decay: float = Field(default=0.0, ge=0, description="adds weight_decay * w to the gradient")

    def rates(self, steps: Steps, total: int) -> Array:
        """Return eta at each step, divided among its moves."""
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
        """None: what makes SGD stochastic must be said."""
        return None


class Sgd(GradientStep):
    """SGD; all its noise comes from the gradient estimator."""

    rule: Literal["sgd"]
    momentum: float = Field(default=0.0, ge=0, lt=1, description="mu, in v' = mu v + g, w' = w - eta v'")
    nesterov: bool = Field(default=False, description="whether the momentum is Nesterov's: w' = w - eta (g + mu v')")
    clip: float | None = Field(default=None, gt=0, description="longest gradient; longer ones are shortened to it")

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Sgd:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self

    @property
    def state(self) -> tuple[str, ...]:
        """The velocity, where there is momentum."""
        return ("velocity",) if self.momentum else ()

    @property
    def odd(self) -> frozenset[str]:
        """The velocity turns round at a wall."""
        return frozenset(self.state)

    def constants(self) -> tuple[float, ...]:
        """Return the weight decay, then momentum and clip as far as they are used."""
        return (self.weight_decay, *([self.momentum] if self.momentum else []), *([self.clip] if self.clip else []))

    def step(self, p: Particle) -> Moved:
        """Return w - eta v', and v'."""
        gradients = clipped(p.g, p.constants[-1]) if self.clip else p.g
        if not self.momentum:
            return super().step(replace(p, g=gradients))
        decay, mu = p.constants[:2]
        slopes = [g + decay * x for x, g in zip(p.w, gradients, strict=True)]
        velocity = [mu * v + slope for v, slope in zip(p.state["velocity"], slopes, strict=True)]
        used = [s + mu * v for s, v in zip(slopes, velocity, strict=True)] if self.nesterov else velocity
        return Moved([x - p.rate * v for x, v in zip(p.w, used, strict=True)], {"velocity": velocity})

    def edge(self) -> float:
        """Return 2 (1 + mu), or 2 (1 + mu) / (1 + 2 mu) with Nesterov's; without noise (O'Donoghue and Candes 2015)."""
        return 2 * (1 + self.momentum) / (1 + 2 * self.momentum * self.nesterov)


def clipped(gradients: Sequence[Any], longest: Any) -> list[Any]:
    """Return the gradient, no longer than `longest`."""
    # The root is of the larger one, as SymPy would write |x| where it can draw x out of a root of squares.
    square = sympy.Add(*(g**2 for g in gradients))
    return [g * longest / sympy.sqrt(Maximum(square, longest**2)) for g in gradients]
