"""The problem that the particles and the posterior share: a loss, its prior, its zero set and the seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sandbox.expressions.quantity import Quantity
from sandbox.model.loss import Loss
from sandbox.model.prior import Prior
from sandbox.model.regression import Contrast, Regression
from sandbox.model.strata import ZeroSet
from sandbox.tools.errors import InputError


@dataclass(frozen=True, eq=False)
class Problem:
    """A loss on parameters w with a prior, and the strata of its zero set W0.

    `loss` is L_n on the samples, or a potential. `prior` is cut to the box, and `walls` says whether the box reflects
    particles. `nbeta` is the posterior's inverse temperature times n. `seed` is the seed of every random number.
    `population_loss` is the limit of `loss` for many samples; None stands for `loss` itself. `model` makes both; None
    for a potential. `derived` are named quantities of a point that a run records.

    Raises InputError when loss, prior and strata name different parameters.
    """

    loss: Loss
    prior: Prior
    zero_set: ZeroSet
    nbeta: float
    seed: int = 0
    population_loss: Loss = None  # type: ignore[assignment]  # `loss` stands for None
    model: Regression | Contrast | None = None
    derived: tuple[Quantity, ...] = ()
    walls: Literal["reflecting", "open"] = "reflecting"

    def __post_init__(self) -> None:
        if self.population_loss is None:
            object.__setattr__(self, "population_loss", self.loss)
        for part, names in (("prior", self.prior.names), ("strata", self.zero_set.parameters)):
            if tuple(names) != tuple(self.loss.parameters):
                found, allowed = ", ".join(names), ", ".join(self.loss.parameters)
                raise InputError(f"{part}: found the parameters {found}; allowed: those of the loss, {allowed}")
