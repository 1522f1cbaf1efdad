"""The local learning coefficient (LLC): λ at a point of W0, measured by how much loss a tempered posterior carries.

    λ̂(w*) = nbeta (E[L_n] - L_n(w*)),  under exp(-nbeta L_n(w) - γ/2 |w - w*|^2) φ(w),  nbeta = n / log n

(Lau et al. 2308.12108, from Watanabe's WBIC, 1208.6338). It tends to λ like 1 / log n where m > 1, and is off by more
than its error bars at any n in use: w1 w2 has λ = 1/2 and λ̂ = 0.356 at n = 1000. So three numbers are kept apart: what
the chains say, what they would say without error (quadrature of the same integral), and λ.

The reference w* matters at order one. With the true parameter the mean of λ̂ over data sets is λ - beta ν(beta); in a
regular model (D/2)(1 - beta), exactly so for a linear one. With the minimiser of L_n it is D/2 there, for any beta.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy
import xarray as xr
from numpy.typing import ArrayLike

from sandbox.errors import InputError
from sandbox.gradients import Estimator
from sandbox.loss import Loss
from sandbox.measured.chains import ChainSettings, default_nbeta, drift_z, localised, mean_and_error, sample
from sandbox.measured.labelled import Array, scalar
from sandbox.posterior import Prior as Density
from sandbox.posterior import posterior
from sandbox.prior import Prior

_REACH = 9.0
"""Standard deviations of the localiser beyond which it holds a mass of 1e-19."""


@dataclass(frozen=True)
class Localised:
    """Any prior times exp(-localization / 2 |w - reference|^2), not normalised: the prior that the quadrature takes."""

    prior: Density
    reference: Array
    localization: float

    def log_density(self, points: Array, /) -> Array:
        """Return log φ minus the localiser's exponent at points (N, D): shape (N,)."""
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
        """The sides (D, 2) that are walls; infinite where the window ends without one, so that it may be widened."""
        window, walls = self.window(), np.asarray(self.prior.bounds, dtype=np.float64)
        return np.where(window == walls, walls, [[-np.inf, np.inf]])

    @property
    def kinks(self) -> Sequence[ArrayLike]:
        """Per parameter, where the prior's density is not smooth."""
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
    """Return λ̂ at `reference`, shape (D,), without sampling error: by adaptive quadrature, one to three parameters.

    nbeta: unless given n / log n of the loss's samples. localization: γ, >= 0; unless given 0, the whole prior.
    tolerance: relative error of the evidence, as for `posterior`.

    The Dataset has `llc`; `llc_variance`, nbeta^2 Var(L_n), which tends to λ too where m = 1 (for a pure power the
    heat capacity equals the mean energy); `init_loss`, L_n(w*); `mean_loss`; `converged`; and nbeta, localization in
    its attributes. Raises InputError where w* is outside the prior, or nbeta or γ cannot be used.
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
    """Return λ̂ at `reference` from Langevin chains that start there, in any dimension.

    The Dataset has `llc` and `llc_standard_error` (over the chains, which are independent); `drift`, second half of
    the draws against the first, in standard errors; `init_loss`; and all of `chains.sample`, whose `excess` (chain,
    draw) it comes from. A diverged chain makes `llc` infinite or nan. Raises InputError as `llc_quadrature` does.
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
    """Return the estimate beside its targets, so that bias and error are told apart: one to three parameters.

    `llc` (chains) - `learning_coefficient` (λ) = `sampler_error` + `step_bias` + `data_effect` + `finite_n_bias`:
    the chains against the quadrature on the same data (`llc_exact`), less what their step size is known to cause
    (`step_bias`); the data against the population (`llc_population`); the population at this nbeta and γ against λ.
    Without `population` the last two come as one, `finite_n_bias`. `sampler_z` is the sampler's error in its own
    standard errors; it holds what the step bias does not: start, walls, higher orders of h, a minibatch's noise.
    """
    chains = llc_chains(
        loss, prior, reference, nbeta=nbeta, localization=localization, settings=settings, gradient=gradient
    )
    nbeta, point = float(chains.attrs["nbeta"]), np.asarray(reference, dtype=np.float64)
    exact = _llc(loss, prior, reference, nbeta, localization)
    limit = exact if population is None else _llc(population, prior, reference, nbeta, localization)
    estimate, error = float(chains["llc"]), float(chains["llc_standard_error"])
    bias = step_bias(loss, prior, point, nbeta, localization, float(chains["step_size"]))
    targets = {
        "llc_exact": scalar(exact, "what the chains would give without error, by quadrature on the same data"),
        "llc_population": scalar(limit, "the same for the population's loss"),
        "learning_coefficient": scalar(learning_coefficient, "learning coefficient λ"),
        "step_bias": scalar(bias, "what the step size adds to llc, to first order"),
        "sampler_error": scalar(estimate - exact - bias, "llc minus llc_exact and step_bias"),
        "sampler_z": scalar((estimate - exact - bias) / error, "sampler_error in standard errors", "standard error"),
        "data_effect": scalar(exact - limit, "llc_exact minus llc_population"),
        "finite_n_bias": scalar(limit - learning_coefficient, "llc_population minus λ"),
    }
    if population is None:
        del targets["llc_population"], targets["data_effect"]
    return chains.assign(targets)


def step_bias(loss: Loss, prior: Prior, reference: Array, nbeta: float, localization: float, step_size: float) -> float:
    """Return what Langevin steps of size h add to λ̂, to first order in h: by quadrature, up to three parameters.

    The chain's stationary density is exp(-U) (1 + h f) to that order with f = |grad U|^2 / 4 - lap U / 2 + constant
    (from the expansion of Talay and Tubaro 1990, for gradient drift), so a mean moves by h times its covariance with
    f. On a quadratic this is the first term of `quadratic_llc`. Walls are left out.
    """
    near = localised(prior, reference, localization)
    measure = posterior(loss.excess, near, nbeta)
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


def quadratic_llc(
    curvatures: ArrayLike, nbeta: float, localization: float = 0.0, step_size: float = 0.0
) -> npt.NDArray[np.float64]:
    """Return λ̂ of K = 1/2 sum_i h_i w_i^2 at its minimum on all of R^D, for curvatures h of shape (..., D): (...).

    1/2 sum_i nbeta h_i / (a_i (1 - step_size a_i / 2)) with a_i = nbeta h_i + γ: exact for Langevin chains of that
    step size, and for the posterior with step size 0.
    """
    h = np.asarray(curvatures, dtype=np.float64)
    a = nbeta * h + localization
    # A flat direction without localiser carries no loss, however far the posterior spreads along it.
    with np.errstate(invalid="ignore"):
        terms = np.where(h == 0, 0.0, nbeta * h / (a * (1 - step_size * a / 2)))
    result: Array = terms.sum(axis=-1) / 2
    return result


def crossing_llc(poles: Sequence[float], nbeta: float) -> float:
    """Return λ̂ at 0 of K = prod_j |w_j|^(2 k_j) on [-1, 1]^D under a prior like prod_j |w_j|^(h_j), for any D.

    `poles` are the (h_j + 1) / (2 k_j); λ is the least of them and m how many attain it. Under the prior -log K is a
    sum of independent exponentials with these rates, so E[nbeta K] is a ratio of two integrals over its density, here
    of phase type (Neuts 1981). For m equal poles l it approaches l like (m - 1) / log nbeta.
    """
    rates = np.array(poles, dtype=np.float64)
    if rates.ndim != 1 or not len(rates) or not (rates > 0).all():
        raise InputError(f"the poles are {list(poles)}; they must be positive numbers, one per parameter")
    generator = np.diag(-rates) + np.diag(rates[:-1], 1)
    nodes, weights = np.polynomial.legendre.leggauss(16)
    width = 0.5
    inside = scipy.linalg.expm(generator * (width * (nodes + 1) / 2)[:, None, None])
    step = scipy.linalg.expm(generator * width)
    phase = np.eye(len(rates))[0]
    top = bottom = 0.0
    # What is cut off is below exp(-40) of the integrals, which fall like nbeta^(-min pole).
    for left in np.arange(0.0, math.log1p(nbeta) + 40 / rates.min() + 40, width):
        density = (phase @ inside)[:, -1] * rates[-1]
        heat = nbeta * np.exp(-(left + width * (nodes + 1) / 2))
        mass = weights * density * np.exp(-heat)
        bottom, top = bottom + mass.sum(), top + (mass * heat).sum()
        phase = phase @ step
    return float(top / bottom)


def _llc(loss: Loss, prior: Prior, reference: ArrayLike, nbeta: float, localization: float) -> float:
    return float(llc_quadrature(loss, prior, reference, nbeta=nbeta, localization=localization)["llc"])


def _checked(
    loss: Loss, prior: Density, reference: ArrayLike, nbeta: float | None, localization: float
) -> tuple[Array, float]:
    """Return reference and nbeta, or say what is wrong with them."""
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
