"""Which stratum the posterior is on as n grows: the phases of a singular model, and where one gives way to another.

Around a stratum of coefficient λ on which K = k, the free energy is n k + λ log n + O(log log n): where n is small the
simplest stratum wins even if it is wrong, where n is large the truest (Watanabe 2009; Chen et al. 2310.06301).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Protocol, cast

import numpy as np
import numpy.typing as npt
import xarray as xr
from pydantic import Field

from sandbox.loss import Loss
from sandbox.measured.base import OfPosterior, Subject
from sandbox.measured.labelled import Array, labelled
from sandbox.posterior import Size, Witness, chosen
from sandbox.zero_set import ZeroSet


class _Witnessed(Protocol):
    """A subject that says how its posterior is had; a scenario is one."""

    @property
    def witness(self) -> Size:
        """How the posterior is had."""


class Phases(OfPosterior):
    """The posterior's share of each stratum over n, for the expected loss."""

    name: ClassVar[str] = "phases"
    samples: Annotated[tuple[float, ...], Field(strict=False, min_length=2)] = Field(
        default=(1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000), description="n, rising"
    )

    def measure(self, subject: Subject) -> xr.Dataset:
        """Return the record of `phases`."""
        return self.measure_posterior(subject, population_witness(subject))

    def measure_posterior(self, subject: Subject, witness: Witness) -> xr.Dataset:
        """Return the record of `phases`, asking this witness."""
        return phases(witness, subject.population_loss, subject.zero_set, self.samples)


def population_witness(subject: Subject) -> Witness:
    """Return a witness of the population's loss, of the size that the subject says."""
    loss, size = subject.population_loss, cast(_Witnessed, subject).witness
    return chosen(loss.excess, loss.gradient, subject.prior, size, seed=subject.seed, cuts=subject.zero_set.cuts)


def phases(witness: Witness, loss: Loss, zero_set: ZeroSet, samples: Sequence[float]) -> xr.Dataset:
    """Return the posterior's `share` (n, sheet) of each stratum's tube at nbeta = n, as the witness of the loss says.

    `share_error` (n) is the largest error of a share, `converged` (n) whether the witness vouches for it; `loss` is
    the population's or a potential. A sheet is a stratum, or what is in no tube.
    """
    measures = [witness.posterior(float(n), labels=zero_set.labels) for n in samples]
    size = len(zero_set.names)
    shares = np.array([m.mass(zero_set.labels(m.points), size) for m in measures])
    errors, vouched = np.array([m.share_error for m in measures]), np.array([m.converged for m in measures])
    means = np.array([m.mean(loss.excess(m.points)) for m in measures])
    data = xr.Dataset(
        {
            "share": labelled(("n", "sheet"), shares, "posterior's share of each stratum"),
            "share_error": labelled("n", errors, "largest error of a share"),
            "converged": labelled("n", vouched, "whether the witness vouches for it"),
            "mean_excess": labelled("n", means, "posterior mean of K"),
        },
        coords={"n": np.array(samples, dtype=np.float64), "sheet": np.array(zero_set.names, dtype=object)},
    )
    return data.assign_attrs(summary=_said(shares, samples, zero_set.names))


def _said(shares: npt.NDArray[np.float64], samples: Sequence[float], names: Sequence[str]) -> str:
    """Say which stratum holds most, between which n that changes, and what each holds at each n."""
    leaders = shares[:, :-1].argmax(axis=1)
    parts = [f"{names[leaders[0]]} leads at n = {samples[0]:g}"]
    for k in range(1, len(samples)):
        if leaders[k] != leaders[k - 1]:
            parts.append(f"{names[leaders[k]]} takes over near n = {_crossing(shares, samples, leaders, k):.3g}")
    within = shares[:, :-1] / np.maximum(shares[:, :-1].sum(axis=1, keepdims=True), 1e-300)
    held = [f"{name} {', '.join(f'{v:.3f}' for v in within[:, k])}" for k, name in enumerate(names[:-1])]
    at = ", ".join(f"{n:g}" for n in samples)
    return "; ".join([*parts, f"of the mass in the tubes at n = {at}: {'; '.join(held)}"])


def _crossing(shares: npt.NDArray[np.float64], samples: Sequence[float], leaders: Array, k: int) -> float:
    """Return the n at which the log ratio of old and new leader passes 0, linear in log n between the two."""
    old, new = int(leaders[k - 1]), int(leaders[k])
    ratio = np.log(np.maximum(shares[k - 1 : k + 1, new], 1e-300) / np.maximum(shares[k - 1 : k + 1, old], 1e-300))
    where = -ratio[0] / (ratio[1] - ratio[0])
    low, high = np.log(samples[k - 1]), np.log(samples[k])
    return float(np.exp(low + where * (high - low)))
