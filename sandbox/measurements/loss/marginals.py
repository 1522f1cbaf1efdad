"""Marginal densities of the posterior, and those of Laplace's Gaussian at the minimiser, for comparison."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import xarray as xr
from pydantic import Field
from scipy import special

from sandbox.dynamics.frames import Record
from sandbox.measurements.base import OfLoss, need_quadrature
from sandbox.measurements.loss.regular import laplace
from sandbox.model.labelled import labelled
from sandbox.model.loss import Loss
from sandbox.model.prior import Prior
from sandbox.model.problem import Problem
from sandbox.posterior.quadrature.posteriors import posterior
from sandbox.tools.arrays import Array


def posterior_and_laplace(loss: Loss, prior: Prior, nbeta: float, *, bins: int = 80) -> xr.Dataset:
    """Return `regular.laplace` with marginal densities (parameter, bin) of the posterior and of Laplace's Gaussian.

    The Gaussian has the covariance (nbeta H)^-1, H the Hessian at the minimiser. If H is singular or the minimiser is
    on a wall, there is no Gaussian and its densities are nan. `edge` (parameter, edge) spans the prior's window.
    """
    found = laplace(loss, prior, nbeta)
    edges = np.array([np.linspace(low, high, bins + 1) for low, high in prior.window()])
    measure = posterior(loss.excess, prior, nbeta, cuts=[list(row[1:-1]) for row in edges])
    exact = np.array(
        [
            np.histogram(column, row, weights=measure.weights)[0] / np.diff(row)
            for column, row in zip(measure.points.T, edges, strict=True)
        ]
    )
    gaussian = _gaussian(found, loss, nbeta, edges)
    return found.assign(
        {
            "posterior_density": labelled(("parameter", "bin"), exact, "marginal density of the posterior"),
            "laplace_density": labelled(("parameter", "bin"), gaussian, "Laplace's marginal density"),
            "edge": labelled(("parameter", "edge"), edges, "bins' edges"),
        }
    )


def _gaussian(found: xr.Dataset, loss: Loss, nbeta: float, edges: Array) -> Array:
    """Return the Gaussian's mean density in each bin, (D, bins); nan if there is no Gaussian."""
    nothing = np.full((len(edges), edges.shape[1] - 1), np.nan)
    if int(found["rank"]) < len(edges) or bool(found["at_wall"]):
        return nothing
    centre = found["minimiser"].to_numpy()
    covariance = np.linalg.inv(nbeta * loss.hessian(centre[None])[0])
    scale = np.sqrt(np.diagonal(covariance))[:, None]
    below = special.ndtr((edges - centre[:, None]) / scale)
    density: Array = np.diff(below, axis=1) / np.diff(edges, axis=1)
    return density


class Laplace(OfLoss):
    """The posterior and Laplace's Gaussian at the minimiser: densities of each parameter, and the evidence."""

    name: ClassVar[str] = "laplace"
    bins: int = Field(default=80, ge=10, le=1000, description="bins of the densities")

    def check(self, problem: Problem, record: Record | None) -> None:
        """Raise InputError if quadrature does not take so many parameters."""
        need_quadrature(problem)

    def measure(self, problem: Problem) -> xr.Dataset:
        """Return the record of `posterior_and_laplace`."""
        found = posterior_and_laplace(problem.loss, problem.prior, problem.nbeta, bins=self.bins)
        said = (
            f"log evidence {float(found['log_evidence']):.3f}, by Laplace {float(found['log_evidence_laplace']):.3f}; "
            f"the Hessian at the minimiser has rank {int(found['rank'])} of {len(problem.prior.names)}"
        )
        return found.assign_attrs(summary=said)
