"""The local learning coefficient (LLC): λ at a point of W0, measured from the mean loss under a tempered posterior.

    λ̂(w*) = nbeta (E[L_n] - L_n(w*)),  under exp(-nbeta L_n(w) - γ/2 |w - w*|^2) φ(w),  nbeta = n / log n

(Lau et al. 2308.12108, from Watanabe's WBIC, 1208.6338). If m > 1 it tends to λ like 1 / log n, and its bias exceeds
its error bars at any n in use: w1 w2 has λ = 1/2 and λ̂ = 0.356 at n = 1000. So this module keeps three numbers apart:
λ̂ from chains, λ̂ by a posterior method that shares nothing with them (quadrature of the same integral, with three
parameters and more independent samples), and λ.

The reference w* changes λ̂ at order one. If w* is the true parameter, λ̂ has the mean λ - beta ν(beta) over data sets;
in a regular model (D/2)(1 - beta), exact in a linear one. If w* minimises L_n, the latter is D/2, for any beta.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from pydantic import Field

from sandbox.dynamics.frames import Record
from sandbox.dynamics.gradients.base import Estimator
from sandbox.measurements.base import OfLoss, known_value
from sandbox.measurements.loss.chains import (
    ChainSettings,
    default_nbeta,
    drift_z,
    localised,
    mean_and_error,
    sample,
    unmixed,
)
from sandbox.model.labelled import scalar
from sandbox.model.loss import Loss
from sandbox.model.prior import Prior
from sandbox.model.problem import Problem
from sandbox.posterior.measure import Measure
from sandbox.posterior.method import BY_QUADRATURE
from sandbox.posterior.quadrature.posteriors import Prior as Density
from sandbox.posterior.quadrature.posteriors import posterior
from sandbox.posterior.sampling.smc import Smc
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError, nearest

_REACH = 9.0
"""The number of standard deviations beyond which the localising normal has a mass of 1e-19."""


@dataclass(frozen=True)
class Localised:
    """A prior times exp(-localization / 2 |w - reference|^2), not normalised, for the quadrature."""

    prior: Density
    reference: Array
    localization: float

    def log_density(self, points: Array, /) -> Array:
        """Return log φ - localization / 2 |w - reference|^2 at points (N, D): shape (N,)."""
        away = points - self.reference
        log_density: Array = self.prior.log_density(points) - self.localization / 2 * (away * away).sum(axis=1)
        return log_density

    def window(self) -> Array:
        """Return the part of the prior's window, shape (D, 2), within nine deviations of the reference."""
        window = np.array(self.prior.window(), dtype=np.float64)
        if self.localization == 0:
            return window
        reach = _REACH / math.sqrt(self.localization)
        near = np.column_stack([self.reference - reach, self.reference + reach])
        return np.column_stack([np.maximum(window[:, 0], near[:, 0]), np.minimum(window[:, 1], near[:, 1])])

    @property
    def bounds(self) -> Array:
        """The walls (D, 2); infinite where the window ends without a wall, so that the window may be widened."""
        window, walls = self.window(), np.asarray(self.prior.bounds, dtype=np.float64)
        return np.where(window == walls, walls, [[-np.inf, np.inf]])

    @property
    def kinks(self) -> Sequence[ArrayLike]:
        """Per parameter, the coordinates at which the prior's density is not smooth."""
        return self.prior.kinks


def llc_quadrature(
    loss: Loss,
    prior: Density,
    reference: ArrayLike,
    *,
    nbeta: float | None = None,
    localization: float = 0.0,
    tolerance: float | None = None,
) -> xr.Dataset:
    """Return λ̂ at `reference` (D,) without sampling error, by adaptive quadrature, for one to three parameters.

    nbeta: by default n / log n of the loss's samples. localization: γ, >= 0; by default 0, the whole prior.
    tolerance: relative error of the evidence, as for `posterior`.

    The Dataset has `llc`; `llc_variance`, nbeta^2 Var(L_n), which also tends to λ if m = 1 (for a pure power the heat
    capacity equals the mean energy); `init_loss`, L_n(w*); `mean_loss`; `converged`; and nbeta and localization in its
    attributes. Raises InputError if w* has another shape or is outside the prior, or nbeta or γ is unusable.
    """
    point, nbeta = _checked(loss, prior, reference, nbeta, localization)
    measure = posterior(loss.excess, Localised(prior, point, localization), nbeta, tolerance=tolerance)
    excess = loss.excess(measure.points)
    init, mean = float(loss.excess(point[None])[0]), measure.mean(excess)
    return xr.Dataset(
        {
            "llc": scalar(nbeta * (mean - init), "local learning coefficient, by quadrature"),
            "llc_variance": scalar(nbeta**2 * measure.mean((excess - mean) ** 2), "nbeta squared times Var(L_n)"),
            "init_loss": scalar(init + loss.entropy, "L_n at the reference", "nat per sample"),
            "mean_loss": scalar(mean + loss.entropy, "posterior mean of L_n", "nat per sample"),
            "converged": scalar(measure.converged, "whether the quadrature reached its tolerance"),
        },
        attrs=_settings(nbeta, localization, point),
    )


def llc_chains(
    loss: Loss,
    prior: Prior,
    reference: ArrayLike,
    *,
    nbeta: float | None = None,
    localization: float = 0.0,
    settings: ChainSettings | None = None,
    gradient: Estimator | None = None,
) -> xr.Dataset:
    """Return λ̂ at `reference` (D,) from Langevin chains that start there, in any dimension.

    The Dataset has `llc` and `llc_standard_error` (over the independent chains); `drift`, the second half of the draws
    minus the first, in standard errors; `init_loss`; and all of `chains.sample`, including the `excess` (chain, draw)
    behind `llc`. A diverged chain makes `llc` infinite or nan. Raises InputError as `llc_quadrature` does.
    """
    point, nbeta = _checked(loss, prior, reference, nbeta, localization)
    chains = sample(loss, localised(prior, point, localization), nbeta, settings, start=point, gradient=gradient)
    init = float(loss.excess(point[None])[0])
    mean, error = mean_and_error(chains["excess"])
    found = xr.Dataset(
        {
            "llc": scalar(nbeta * (mean - init), "local learning coefficient, from chains"),
            "llc_standard_error": scalar(nbeta * error, "standard error of llc over independent chains"),
            "drift": scalar(drift_z(chains["excess"]), "second half of the draws minus the first", "standard error"),
            "init_loss": scalar(init + loss.entropy, "L_n at the reference", "nat per sample"),
        },
        attrs=_settings(nbeta, localization, point),
    )
    return xr.merge([chains, found], combine_attrs="override").assign_attrs(chains.attrs | found.attrs)


def llc_report(
    loss: Loss,
    prior: Prior,
    reference: ArrayLike,
    learning_coefficient: float,
    *,
    population: Loss | None = None,
    nbeta: float | None = None,
    localization: float = 0.0,
    settings: ChainSettings | None = None,
    gradient: Estimator | None = None,
) -> xr.Dataset:
    """Return λ̂ from chains with its targets, so that bias and error are told apart, in any dimension.

    `llc` (chains) - `learning_coefficient` (λ) = `sampler_error` + `step_bias` + `data_effect` + `finite_n_bias`.
    The first two add up to `llc` minus the same mean by quadrature or, with three parameters and more, from SMC samples
    (`llc_exact`, with `llc_exact_standard_error`, 0 by quadrature); `step_bias` is the known effect of the step size.
    `data_effect` is `llc_exact` minus its value for the population's loss at this nbeta and γ (`llc_population`).
    `finite_n_bias` is `llc_population` minus λ; without `population` it includes the data's effect.
    `sampler_z` is `sampler_error` in standard errors, caused by start, walls, higher orders of h, a minibatch's noise.
    """
    chains = llc_chains(
        loss, prior, reference, nbeta=nbeta, localization=localization, settings=settings, gradient=gradient
    )
    nbeta, point = float(chains.attrs["nbeta"]), np.asarray(reference, dtype=np.float64)
    law = _law(loss, prior, point, nbeta, localization)
    exact, sampling = _llc(loss, law, point, nbeta)
    limit = exact
    if population is not None and population is not loss:
        limit = _llc(population, _law(population, prior, point, nbeta, localization), point, nbeta)[0]
    estimate, error = float(chains["llc"]), math.hypot(float(chains["llc_standard_error"]), sampling)
    bias = step_bias(loss, prior, point, nbeta, localization, float(chains["step_size"]), law)
    targets = {
        "llc_exact": scalar(exact, "llc by quadrature or SMC on the same data"),
        "llc_exact_standard_error": scalar(sampling, "standard error of llc_exact; 0 by quadrature"),
        "llc_population": scalar(limit, "llc_exact for the population's loss"),
        "learning_coefficient": scalar(learning_coefficient, "learning coefficient λ"),
        "step_bias": scalar(bias, "bias of llc from the step size, to first order"),
        "sampler_error": scalar(estimate - exact - bias, "llc minus llc_exact and step_bias"),
        "sampler_z": scalar((estimate - exact - bias) / error, "sampler_error in standard errors", "standard error"),
        "data_effect": scalar(exact - limit, "llc_exact minus llc_population"),
        "finite_n_bias": scalar(limit - learning_coefficient, "llc_population minus λ"),
    }
    if population is None:
        del targets["llc_population"], targets["data_effect"]
    return chains.assign(targets)


def step_bias(
    loss: Loss,
    prior: Prior,
    reference: Array,
    nbeta: float,
    localization: float,
    step_size: float,
    law: Measure | None = None,
) -> float:
    """Return the bias of λ̂ from Langevin steps of size h, to first order in h. `law` is the posterior, if it is known.

    To that order the chain's stationary density is exp(-U) (1 + h f) with f = |grad U|^2 / 4 - lap U / 2 + constant
    (from the expansion of Talay and Tubaro 1990, for gradient drift), so a mean changes by h times its covariance with
    f. On a quadratic this is the first term of `quadratic_llc`. The effect of walls is left out.
    """
    near = localised(prior, reference, localization)
    measure = law or _law(loss, prior, reference, nbeta, localization)
    points = measure.points
    slope, bend = nbeta * loss.gradient(points), nbeta * np.trace(loss.hessian(points), axis1=1, axis2=2)
    for k, d in enumerate(near.distributions):
        if d.family == "normal":
            slope[:, k] += (points[:, k] - d.arguments[0]) / d.arguments[1] ** 2
            bend += d.arguments[1] ** -2
        elif d.family == "laplace":
            slope[:, k] += np.sign(points[:, k] - d.arguments[0]) / d.arguments[1]
    f = (slope * slope).sum(axis=1) / 4 - bend / 2
    excess = loss.excess(points)
    return step_size * nbeta * measure.mean((excess - measure.mean(excess)) * f)


def quadratic_llc(curvatures: ArrayLike, nbeta: float, localization: float = 0.0, step_size: float = 0.0) -> Array:
    """Return λ̂ of K = 1/2 sum_i h_i w_i^2 at its minimum on all of R^D, for curvatures h of shape (..., D): (...).

    The formula is 1/2 sum_i nbeta h_i / (a_i (1 - step_size a_i / 2)) with a_i = nbeta h_i + γ. It is exact for
    Langevin chains of that step size, and with step size 0 for the posterior.
    """
    h = np.asarray(curvatures, dtype=np.float64)
    a = nbeta * h + localization
    # A flat direction adds no loss, even if γ = 0 and the posterior spreads without limit along it.
    with np.errstate(invalid="ignore"):
        terms = np.where(h == 0, 0.0, nbeta * h / (a * (1 - step_size * a / 2)))
    result: Array = terms.sum(axis=-1) / 2
    return result


def _law(loss: Loss, prior: Prior, point: Array, nbeta: float, localization: float) -> Measure:
    """Return the localised posterior by quadrature or, beyond BY_QUADRATURE parameters, by SMC."""
    if len(point) <= BY_QUADRATURE:
        return posterior(loss.excess, Localised(prior, point, localization), nbeta)
    return Smc(loss.excess, loss.gradient, localised(prior, point, localization), seed=0).posterior(nbeta)


def _llc(loss: Loss, law: Measure, point: Array, nbeta: float) -> tuple[float, float]:
    """Return λ̂ and its standard error from the posterior `law`."""
    excess = loss.excess(law.points)
    return nbeta * (law.mean(excess) - float(loss.excess(point[None])[0])), nbeta * law.standard_error(excess)


def _checked(
    loss: Loss, prior: Density, reference: ArrayLike, nbeta: float | None, localization: float
) -> tuple[Array, float]:
    """Return the reference (D,) and nbeta. Raises InputError if one of them or the localization is unusable."""
    point = np.asarray(reference, dtype=np.float64)
    size = len(loss.parameters)
    if point.shape != (size,):
        raise InputError(f"the reference has shape {point.shape}; it must have one number per parameter, ({size},)")
    if not np.isfinite(prior.log_density(point[None])[0]):
        raise InputError(f"the reference {point.tolist()} is outside the prior's support")
    if not (math.isfinite(localization) and localization >= 0):
        raise InputError(f"the localization is {localization}; it must be finite and at least 0")
    nbeta = default_nbeta(loss.samples) if nbeta is None else float(nbeta)
    if not (math.isfinite(nbeta) and nbeta > 0):
        raise InputError(f"nbeta is {nbeta}; it must be finite and above 0")
    return point, nbeta


def _settings(nbeta: float, localization: float, point: Array) -> dict[str, object]:
    return {"nbeta": nbeta, "localization": localization, "reference": point.tolist()}


class Llc(OfLoss):
    """The local learning coefficient at a point, by Langevin chains and a posterior method, with the exact λ of W0."""

    name: ClassVar[str] = "llc"
    at: dict[str, float] = Field(default={}, description="parameter: coordinate of the point w*; 0 unless given")
    localization: float = Field(default=0.0, ge=0, description="γ of exp(-γ/2 |w - w*|^2)")
    nbeta: float | None = Field(default=None, gt=0, description="n / log n unless given")
    chains: ChainSettings = Field(default=ChainSettings(), description="number and length of the chains")

    def check(self, problem: Problem, record: Record | None) -> None:
        """Raise InputError for an unusable point, a localised Laplace prior, or an nbeta that is needed and missing."""
        for name in self.at:
            if name not in problem.prior.names:
                known = ", ".join(problem.prior.names)
                raise InputError(
                    f"unknown parameter '{name}'{nearest(name, problem.prior.names)}; known: {known}"
                ).within("at")
        point = self._point(problem)
        if not np.isfinite(problem.prior.log_density(point[None])[0]):
            raise InputError(f"the point {point.tolist()} is outside the prior's support").within("at")
        try:
            localised(problem.prior, point, self.localization)
        except InputError as error:
            raise error.within("localization") from None
        if self.nbeta is None:
            default_nbeta(problem.loss.samples)

    def _point(self, problem: Problem) -> Array:
        """Return w* (D,)."""
        return np.array([self.at.get(name, 0.0) for name in problem.prior.names], dtype=np.float64)

    def measure(self, problem: Problem) -> xr.Dataset:
        """Return the record of `llc_report` without the chains' `excess`, with the estimate and its 95% interval."""
        value = known_value(problem)
        found = llc_report(
            problem.loss,
            problem.prior,
            self._point(problem),
            value,
            population=problem.population_loss,
            nbeta=self.nbeta,
            localization=self.localization,
            settings=self.chains,
        )
        llc, error = float(found["llc"]), float(found["llc_standard_error"])
        exact, sampling = float(found["llc_exact"]), float(found["llc_exact_standard_error"])
        by = f"{exact:.4f} ± {1.96 * sampling:.4f} by independent samples" if sampling else f"exactly {exact:.4f}"
        wrong = unmixed(found["excess"], float(found["sampler_z"]))
        said = (
            f"LLC = {llc:.4f} ± {1.96 * error:.4f} by chains, {by} at this n and {float(found['llc_population']):.4f} "
            f"without noise in the data; λ = {value:.4g}{'; warning: ' * bool(wrong)}{wrong}"
        )
        return found.drop_vars(["excess"], errors="ignore").assign_attrs(
            estimate=llc, low=llc - 1.96 * error, high=llc + 1.96 * error, exact=value, summary=said
        )
