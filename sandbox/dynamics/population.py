"""A population: particles that follow one rule from one start."""

from __future__ import annotations

from dataclasses import dataclass

from sandbox.dynamics.gradients.base import Estimator
from sandbox.dynamics.gradients.registry import ESTIMATORS
from sandbox.dynamics.rules.base import Rule
from sandbox.model.prior import Distribution
from sandbox.tools.errors import InputError


@dataclass(frozen=True)
class OnStratum:
    """A start on a stratum: draws from the prior are projected onto it and get normal noise of deviation `spread`."""

    stratum: str
    spread: float = 0.0

    def __str__(self) -> str:
        return f"stratum {self.stratum}" + f", spread {self.spread:g}" * (self.spread > 0)


@dataclass(frozen=True)
class AtEndOf:
    """A start at the last positions of another population: particle i starts at the end of its particle i."""

    population: str

    def __str__(self) -> str:
        return f"end of {self.population}"


Start = tuple[Distribution, ...] | OnStratum | AtEndOf | None
"""One distribution per parameter; a stratum; another population's end; or None, the prior."""


def default_gradient(rule: Rule) -> Estimator:
    """Return the gradient estimator that a rule takes when none is named. Raises InputError when it has none."""
    if rule.default_gradient is None:
        known = ", ".join(ESTIMATORS)
        raise InputError(f"this key is missing: this rule's noise comes from the gradient estimator; known: {known}")
    return ESTIMATORS[rule.default_gradient]()


@dataclass(frozen=True)
class Population:
    """Particles that follow one rule from one start.

    `gradient` estimates the gradient; None takes the rule's default, and raises InputError when there is none. `start`
    is one distribution per parameter, a stratum, the end of a population that ran before, or None for the prior.
    """

    name: str
    rule: Rule
    gradient: Estimator = None  # type: ignore[assignment]  # the default stands for None
    start: Start = None

    def __post_init__(self) -> None:
        if self.gradient is None:
            object.__setattr__(self, "gradient", default_gradient(self.rule))
