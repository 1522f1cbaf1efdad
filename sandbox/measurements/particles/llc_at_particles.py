"""λ at the last positions of particles: the local learning coefficient around many points, all chains at once.

A descent first takes each point to a minimum w* of K. Around w*, chains sample

    exp(-nbeta (K(w) - K(w*)) - γ/2 |w - w*|^2) φ(w)

and λ̂(w*) = nbeta (E[K] - K(w*)) (Lau et al. 2308.12108, with K for L_n: no noise of a data set enters). It needs no
list of strata. It depends on the neighbourhood of radius γ^-1/2. On a quadratic of curvatures h it is
1/2 sum nbeta h / (nbeta h + γ). If the multiplicity is above 1 it approaches λ from below like 1 / log nbeta. So it is
λ only where it no longer changes with nbeta: for K ~ r^2k, where nbeta γ^-k is large. Its slope in log nbeta is λ̂
minus the variance of nbeta K, which the same chains give; the exact λ̂ at this nbeta and γ is a quadrature.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import xarray as xr
from pydantic import Field

from sandbox.measurements.base import AtPoints
from sandbox.measurements.loss.llc import llc_quadrature
from sandbox.model.descent import descend
from sandbox.model.labelled import coordinates, labelled, scalar, texts
from sandbox.model.loss import Loss
from sandbox.model.prior import Prior
from sandbox.model.problem import Problem
from sandbox.tools.arrays import Array

ON_ZERO_SET = 1e-8
"""A minimum counts as a true parameter if its K, relative to the prior's median of K, is at most this."""

_ACCEPTANCE = 0.574
"""The optimal acceptance of MALA in high dimension (Roberts and Rosenthal 1998)."""
_WIDEST, _NARROWEST = 0.5, -1.5
"""The range of log10(step size / adapted step size): singular neighbourhoods have no single scale."""

_EXACT, _PLANE = 4, 2
"""The points of each source at which λ̂ is also integrated, and the most parameters for which it is."""

_HALVINGS, _HIGH = 30, 3.0
"""The most halvings of a start's z; they end when its potential is less than _HIGH per parameter above that of w*."""


class LocalLlc(AtPoints):
    """λ at the last positions of particles and at posterior samples: it shows simplicity without a list of strata."""

    name: ClassVar[str] = "local_llc"
    quick: ClassVar[dict[str, int]] = {"points": 8, "steps": 60}
    points: int = Field(default=64, ge=2, le=2000, description="particles of each population, and posterior samples")
    nbeta: float = Field(default=1e8, gt=0, description="inverse temperature times n of the chains")
    localization: float = Field(default=1000.0, gt=0, description="γ; the chains stay within about γ^-1/2")
    chains: int = Field(default=16, ge=4, le=1000, description="chains around each point")
    steps: int = Field(default=600, ge=20, le=100_000, description="steps that are kept; half as many come before")

    def measure_at(self, problem: Problem, landed: Mapping[str, Array]) -> xr.Dataset:
        """Return `local_llc` of each source along the dimension `source`, with `mean_llc` over its true parameters."""
        rows, said = [], []
        for source, points in landed.items():
            chosen = points[np.isfinite(points).all(axis=1)][: self.points]
            if not len(chosen):
                continue
            found = local_llc(problem.population_loss, problem.prior, chosen, self, problem.seed)
            means = _over_true(found)
            said.append(f"{source} {_said(found, means)}")
            counted = found.assign_coords(coordinates(point=range(len(chosen)))).astype(np.float64)
            rows.append(counted.assign(means))
        if not rows:
            return xr.Dataset(attrs={"summary": "no finite point to measure at"})
        sources = coordinates(source=texts(s for s in landed if np.isfinite(landed[s]).all(axis=1).any()))
        joined = xr.concat(rows, "source", join="outer", combine_attrs="drop_conflicts").assign_coords(sources)
        return joined.assign_attrs(summary=f"{self._what()}: {'; '.join(said)}")

    def _what(self) -> str:
        reach = f"γ^-1/2 = {self.localization**-0.5:.2g}"
        return f"mean λ̂ at nbeta = {self.nbeta:.2g}, within about {reach} of where the last positions descend to"


def _over_true(found: xr.Dataset) -> dict[str, xr.Variable]:
    """Return the means over the true parameters, and their standard errors."""
    result = {}
    for name in ("llc", "nbeta_slope"):
        true = found[name].where(found["on_zero_set"], drop=True).to_numpy()
        mean = float(true.mean()) if len(true) else math.nan
        error = float(true.std(ddof=1) / math.sqrt(len(true))) if len(true) > 1 else math.nan
        result[f"mean_{name}"] = scalar(mean, f"mean {name} over the true parameters")
        result[f"mean_{name}_error"] = scalar(error, f"standard error of mean_{name}")
    return result


def _said(found: xr.Dataset, means: Mapping[str, xr.Variable]) -> str:
    """Return as text λ̂ beside its exact value, and whether it still changes with nbeta."""
    mean, error, slope, slope_error = (float(value) for value in means.values())
    true, exact = found["on_zero_set"].to_numpy(), found["exact_llc"].to_numpy()
    known = np.isfinite(exact)
    beside = ""
    if known.any():
        chains = found["llc"].to_numpy()[known].mean()
        beside = f"; exactly {exact[known].mean():.3f} at {known.sum()} of them, chains {chains:.3f}"
    still = f"λ̂ changes by {slope:+.3f} ± {1.96 * slope_error:.3f} if nbeta grows by a factor e"
    verdict = "the number is not λ yet" if abs(slope) > 3 * slope_error else "no change is seen"
    return f"{mean:.3f} ± {1.96 * error:.3f} ({true.sum()} of {len(true)} on W0{beside}); {still}: {verdict}"


def local_llc(loss: Loss, prior: Prior, points: Array, settings: LocalLlc | None = None, seed: int = 0) -> xr.Dataset:
    """Return λ̂ around the minimum below each of the points (N, D); `loss` is the population loss or a potential.

    The Dataset has, over `point`: `llc` and `llc_standard_error` (over the chains, which are independent);
    `nbeta_slope`, the slope of llc in log nbeta; `exact_llc`, by quadrature at the first _EXACT true parameters in up
    to _PLANE dimensions, else nan; `excess`, K at the minimum; `on_zero_set`, whether that is a true parameter;
    `distance` from the point to it; `acceptance`.
    Chains are Metropolis-adjusted Langevin chains (MALA: Besag 1994; Roberts and Tweedie 1996), so their step size
    causes no bias. They are preconditioned by the curvature at the minimum.
    """
    settings = settings or LocalLlc()
    minima = descend(loss, points, prior.bounds)
    typical = float(np.median(loss.excess(prior.draw(512, seed, "typical loss"))))
    excess = loss.excess(minima)
    chains = _Chains(loss, prior, minima, settings, np.random.Generator(np.random.Philox([seed, 0x10CA1])))
    means, squares, acceptance = chains.run()
    llc, true = settings.nbeta * (means - excess[:, None]), excess <= ON_ZERO_SET * typical
    # The variance about the mean of all chains.
    variance = settings.nbeta**2 * (squares.mean(axis=1) - means.mean(axis=1) ** 2)
    exact = np.full(len(points), math.nan)
    for k in np.flatnonzero(true)[: _EXACT if points.shape[1] <= _PLANE else 0]:
        exact[k] = _exact(loss, prior, minima[k], settings)
    return xr.Dataset(
        {
            "llc": labelled("point", llc.mean(axis=1), "local learning coefficient"),
            "llc_standard_error": labelled(
                "point", llc.std(axis=1, ddof=1) / math.sqrt(settings.chains), "standard error of llc over chains"
            ),
            "nbeta_slope": labelled("point", llc.mean(axis=1) - variance, "change of llc if nbeta grows by a factor e"),
            "exact_llc": labelled("point", exact, "llc by quadrature, at some true parameters"),
            "excess": labelled("point", excess, "K at the minimum that the point descends to", "nat per sample"),
            "on_zero_set": labelled("point", true, "whether the minimum is a true parameter"),
            "distance": labelled("point", np.linalg.norm(minima - points, axis=1), "distance to the minimum"),
            "acceptance": labelled("point", acceptance, "accepted share of proposals"),
        },
        attrs={"nbeta": settings.nbeta, "localization": settings.localization, "chains": settings.chains},
    )


def _exact(loss: Loss, prior: Prior, point: Array, settings: LocalLlc) -> float:
    found = llc_quadrature(loss, prior, point, nbeta=settings.nbeta, localization=settings.localization)
    return float(found["llc"]) if found["converged"] else math.nan


class _Chains:
    """Chains around all minima, in coordinates z in which the curvature (with γ) at the minimum is the identity."""

    def __init__(self, loss: Loss, prior: Prior, minima: Array, settings: LocalLlc, random: np.random.Generator):
        self.loss, self.prior, self.settings, self.random = loss, prior, settings, random
        self.minima = np.repeat(minima, settings.chains, axis=0)
        hessian = settings.nbeta * loss.hessian(minima)
        values, vectors = np.linalg.eigh(np.where(np.isfinite(hessian), hessian, 0.0))
        scales = vectors / np.sqrt(np.abs(values) + settings.localization)[:, None, :]
        self.scales = np.repeat(scales, settings.chains, axis=0)

    def run(self) -> tuple[Array, Array, Array]:
        """Return the means of K and K^2 along each chain, (points, chains), and each point's acceptance (points,)."""
        shape = (-1, self.settings.chains)
        warm, kept = self.settings.steps // 2, self.settings.steps
        z = self._start()
        potential, slope, excess = self._at(z)
        step = np.full(len(z) // self.settings.chains, 0.5)
        total, squares, accepted = np.zeros(len(z)), np.zeros(len(z)), np.zeros(len(step))
        for k in range(warm + kept):
            h = np.repeat(step, self.settings.chains) * 10 ** self.random.uniform(_NARROWEST, _WIDEST, len(z))
            noise = self.random.standard_normal(z.shape)
            there = z - h[:, None] ** 2 / 2 * slope + h[:, None] * noise
            new_potential, new_slope, new_excess = self._at(there)
            back = (z - there + h[:, None] ** 2 / 2 * new_slope) / h[:, None]
            with np.errstate(all="ignore"):
                gain = potential - new_potential + ((noise**2).sum(axis=1) - (back**2).sum(axis=1)) / 2
            better = np.log(self.random.uniform(size=len(z))) < gain
            z[better], slope[better] = there[better], new_slope[better]
            potential, excess = np.where(better, new_potential, potential), np.where(better, new_excess, excess)
            rate = better.reshape(shape).mean(axis=1)
            if k < warm:
                step = np.clip(step * np.exp((rate - _ACCEPTANCE) / math.sqrt(1 + k)), 1e-4, 2.0)
            else:
                total, squares, accepted = total + excess, squares + excess**2, accepted + rate
        return (total / kept).reshape(shape), (squares / kept).reshape(shape), accepted / kept

    def _start(self) -> Array:
        """Return normal z (M, D), the law on a quadratic: from w* the chains would take long to spread along W0.

        If W0 is curved, some of these points have a high potential: such points are moved towards w*.
        """
        z = self.random.standard_normal(self.minima.shape)
        floor = self._at(np.zeros_like(z))[0]
        for _ in range(_HALVINGS):
            high = ~(self._at(z)[0] - floor < _HIGH * z.shape[1])
            if not high.any():
                break
            z[high] /= 2
        return z

    def _at(self, z: Array) -> tuple[Array, Array, Array]:
        """Return the potential (M,), its gradient in z (M, D), and K (M,); the potential is inf outside the support."""
        moves = np.einsum("nij,nj->ni", self.scales, z)
        points = self.minima + moves
        settings = self.settings
        with np.errstate(all="ignore"):
            (excess, gradient), log_prior = self.loss.excess_and_gradient(points), self.prior.log_density(points)
            potential = settings.nbeta * excess + settings.localization / 2 * (moves**2).sum(axis=1) - log_prior
            slope = settings.nbeta * gradient + settings.localization * moves
            slope -= self.prior.log_density_gradient(points)
        usable: npt.NDArray[np.bool_] = np.isfinite(potential) & np.isfinite(slope).all(axis=1)
        slope[~usable] = 0.0
        return np.where(usable, potential, np.inf), np.einsum("nij,ni->nj", self.scales, slope), excess
