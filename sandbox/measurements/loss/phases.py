"""The phases of a singular model: the stratum that holds most of the posterior as n grows, and the n of each change.

Around a stratum of coefficient λ on which K = k, the free energy is n k + λ log n + O(log log n). At small n it is
least on the simplest stratum, even a wrong one; at large n on the truest (Watanabe 2009; Chen et al. 2310.06301).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
import xarray as xr
from pydantic import Field

from sandbox.measurements.base import OfPosterior
from sandbox.model.labelled import coordinates, labelled, texts
from sandbox.model.loss import Loss
from sandbox.model.problem import Problem
from sandbox.model.strata import ZeroSet
from sandbox.posterior.method import PosteriorMethod
from sandbox.tools.arrays import Array


class Phases(OfPosterior):
    """The posterior's share of each stratum as a function of n, for the population's loss."""

    name: ClassVar[str] = "phases"
    needs_strata: ClassVar[bool] = True
    samples: Annotated[tuple[float, ...], Field(strict=False, min_length=2)] = Field(
        default=(1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000), description="n, rising"
    )

    def measure_posterior(self, problem: Problem, method: PosteriorMethod) -> xr.Dataset:
        """Return the record of `phases`."""
        return phases(method, problem.population_loss, problem.zero_set, self.samples)


def phases(method: PosteriorMethod, loss: Loss, zero_set: ZeroSet, samples: Sequence[float]) -> xr.Dataset:
    """Return the posterior's `share` (n, stratum) of each stratum's tube at nbeta = n, by the given posterior method.

    `share_error` (n) is the largest error of a share, `converged` (n) whether the posterior method converged. `loss` is
    the population's or a potential. The dimension `stratum` has the strata, then "elsewhere".
    """
    measures = [method.posterior(float(n), strata=zero_set.strata_of) for n in samples]
    size = len(zero_set.names)
    shares = np.array([m.mass(zero_set.strata_of(m.points), size) for m in measures])
    errors, vouched = np.array([m.share_error for m in measures]), np.array([m.converged for m in measures])
    means = np.array([m.mean(loss.excess(m.points)) for m in measures])
    data = xr.Dataset(
        {
            "share": labelled(("n", "stratum"), shares, "posterior's share of each stratum"),
            "share_error": labelled("n", errors, "largest error of a share"),
            "converged": labelled("n", vouched, "whether the posterior method converged"),
            "mean_excess": labelled("n", means, "posterior mean of K", "nat per sample"),
        },
        coords=coordinates(n=np.array(samples, dtype=np.float64), stratum=texts(zero_set.names)),
    )
    return data.assign_attrs(summary=_said(shares, samples, zero_set.names))


def _said(shares: Array, samples: Sequence[float], names: Sequence[str]) -> str:
    """Return the summary: the stratum with the largest share, the n at which it changes, and the shares at each n."""
    leaders = shares[:, :-1].argmax(axis=1)
    parts = [f"{names[leaders[0]]} leads at n = {samples[0]:g}"]
    for k in range(1, len(samples)):
        if leaders[k] != leaders[k - 1]:
            parts.append(f"{names[leaders[k]]} takes over near n = {_crossing(shares, samples, leaders, k):.3g}")
    within = shares[:, :-1] / np.maximum(shares[:, :-1].sum(axis=1, keepdims=True), 1e-300)
    held = [f"{name} {', '.join(f'{v:.3f}' for v in within[:, k])}" for k, name in enumerate(names[:-1])]
    at = ", ".join(f"{n:g}" for n in samples)
    return "; ".join([*parts, f"of the mass in the tubes at n = {at}: {'; '.join(held)}"])


def _crossing(shares: Array, samples: Sequence[float], leaders: Array, k: int) -> float:
    """Return the n at which the log ratio of the new and the old leader's shares is 0, interpolated in log n."""
    old, new = int(leaders[k - 1]), int(leaders[k])
    ratio = np.log(np.maximum(shares[k - 1 : k + 1, new], 1e-300) / np.maximum(shares[k - 1 : k + 1, old], 1e-300))
    where = -ratio[0] / (ratio[1] - ratio[0])
    low, high = np.log(samples[k - 1]), np.log(samples[k])
    return float(np.exp(low + where * (high - low)))
