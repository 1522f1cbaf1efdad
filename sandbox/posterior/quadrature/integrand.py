"""The function to integrate: a tempered posterior density, or a prior cut off at a level, each with its guide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError


@dataclass(frozen=True)
class Integrand:
    """The density exp(-nbeta energy) times the prior; with a `level`, the prior where energy <= level.

    energy: points (N, D) -> (N,), may be +inf; log_prior: points (N, D) -> (N,), may be -inf.
    """

    energy: Callable[[Array], Array]
    log_prior: Callable[[Array], Array]
    nbeta: float = 0.0
    level: float | None = None

    def __call__(self, points: Array) -> tuple[Array, Array]:
        """Return the log density and the guide at the points (N, D), each (N,).

        The guide is a function without narrow features that is large where the density is negligible: minus the log
        density, or the energy for a level set. Raises InputError if the energy or the prior is not a number.
        """
        energy = np.asarray(self.energy(points), dtype=np.float64)
        log_prior = np.asarray(self.log_prior(points), dtype=np.float64)
        wrong = np.isnan(energy) | np.isnan(log_prior)
        if wrong.any():
            raise InputError(f"the energy or the prior is not a number at {points[wrong][0].tolist()}")
        if self.level is not None:
            return np.where(energy <= self.level, log_prior, -np.inf), energy
        heat = self.nbeta * energy if self.nbeta > 0 else np.where(np.isposinf(energy), np.inf, 0.0)
        return log_prior - heat, heat - log_prior
