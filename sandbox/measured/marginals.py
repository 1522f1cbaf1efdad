"""The posterior's marginal densities beside those of Laplace's Gaussian at the minimiser."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import special

from sandbox.loss import Loss
from sandbox.measured.labelled import Array, labelled
from sandbox.measured.regular import laplace
from sandbox.posterior import posterior
from sandbox.prior import Prior


def posterior_and_laplace(loss: Loss, prior: Prior, nbeta: float, *, bins: int = 80) -> xr.Dataset:
    """Return `regular.laplace` with marginal densities (parameter, bin) of the posterior and of Laplace's Gaussian.

    The Gaussian has the covariance (nbeta H)^-1 of the Hessian at the minimiser. Where H is singular or the minimiser
    on a wall there is none, and its densities are nan. `edge` (parameter, edge) spans the prior's window.
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
    """Return the Gaussian's mean density in each bin."""
    nothing = np.full((len(edges), edges.shape[1] - 1), np.nan)
    if int(found["rank"]) < len(edges) or bool(found["at_wall"]):
        return nothing
    centre = found["minimiser"].to_numpy()
    covariance = np.linalg.inv(nbeta * loss.hessian(centre[None])[0])
    scale = np.sqrt(np.diagonal(covariance))[:, None]
    below = special.ndtr((edges - centre[:, None]) / scale)
    density: Array = np.diff(below, axis=1) / np.diff(edges, axis=1)
    return density
