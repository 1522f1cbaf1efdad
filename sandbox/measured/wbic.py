"""WBIC: the free energy F_n from one tempered posterior, and λ from one or two of them (Watanabe 2013, 1208.6338).

    WBIC = E_beta[n L_n] at beta = 1 / log n,      F_n = -log int exp(-n L_n(w)) φ(w) dw = WBIC + O_p(sqrt(log n)).

E_beta[n L_n] falls from its prior mean to its minimum as beta grows, and its mean over beta in [0, 1] is F_n: so there
is exactly one beta* with E_beta*[n L_n] = F_n, and beta* log n -> 1 (proved there). Here F_n and beta* are found by
quadrature, so that the error of 1 / log n is seen and not guessed. All energies are excesses over the truth's n S_n.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from sandbox.errors import InputError
from sandbox.gradients import Estimator
from sandbox.loss import Loss
from sandbox.measured.chains import ChainSettings, default_nbeta, drift_z, mean_and_error, sample
from sandbox.measured.labelled import scalar
from sandbox.posterior import posterior, tempered
from sandbox.prior import Prior

RATIO = 1.5
"""The second inverse temperature, relative to 1 / log n, for the estimate of λ from two."""


def wbic(
    loss: Loss,
    prior: Prior,
    samples: int | None = None,
    *,
    ratio: float = RATIO,
    matched: bool = True,
    tolerance: float | None = None,
) -> xr.Dataset:
    """Return WBIC, F_n and what they say of λ, by quadrature: one to three parameters.

    samples: n, for the population's loss or a potential; the loss's own where it has samples.
    ratio: beta_2 / beta_1 of `learning_coefficient_two`, (E_1[n L_n] - E_2[n L_n]) / (1/beta_1 - 1/beta_2), which
    needs no truth (also his). tolerance: relative error of the evidence, unless given 1e-6, in three dimensions 1e-4.

    matched: whether `beta_exact` is sought, which takes some six posteriors more than the three.

    The Dataset also has `learning_coefficient_one`, beta (E_beta[n L_n] - n S_n), which is the local learning
    coefficient with the truth as reference; `free_energy_slope`, E_1[n K_n], the derivative of F_n by log n where the
    loss does not change with n; and `beta_exact` with `beta_exact_log_n`, the beta at which E_beta[n L_n] is F_n.
    Raises InputError where n is missing, contradicts the loss, or is below 3 (log n <= 1).
    """
    n = _samples(loss, samples)
    if not (math.isfinite(ratio) and ratio > 0 and ratio != 1):
        raise InputError(f"the ratio of the inverse temperatures is {ratio}; it must be positive and not 1")
    beta = default_nbeta(n) / n
    tolerance = (1e-4 if len(loss.parameters) == 3 else 1e-6) if tolerance is None else tolerance

    def energy(b: float) -> float:
        measure = posterior(loss.excess, prior, n * b, tolerance=tolerance)
        return n * measure.mean(loss.excess(measure.points))

    whole = posterior(loss.excess, prior, n, tolerance=tolerance)
    free = -whole.log_evidence
    first, second = energy(beta), energy(ratio * beta)
    two = (first - second) / (1 / beta - 1 / (ratio * beta))
    found = {
        "wbic_excess": scalar(first, "WBIC - n S_n", "nat"),
        "free_energy_excess": scalar(free, "F_n - n S_n, by quadrature", "nat"),
        "wbic_error": scalar(first - free, "WBIC - F_n", "nat"),
        "entropy": scalar(n * loss.entropy, "n S_n", "nat"),
        "learning_coefficient_one": scalar(beta * first, "λ from one temperature and the truth"),
        "learning_coefficient_two": scalar(two, "λ from two temperatures"),
        "free_energy_slope": scalar(n * whole.mean(loss.excess(whole.points)), "E[n K_n] at beta = 1", "nat"),
    }
    if matched:
        exact = tempered(loss.excess, prior, free / n, tolerance=max(tolerance, 1e-4)).nbeta / n
        found["beta_exact"] = scalar(exact, "inverse temperature at which E[n L_n] is F_n")
        found["beta_exact_log_n"] = scalar(exact * math.log(n), "beta_exact relative to 1 / log n")
    return xr.Dataset(
        found,
        coords={"n": scalar(n, "number of samples", "sample")},
        attrs={"nbeta": n * beta, "ratio": ratio},
    )


def wbic_chains(
    loss: Loss,
    prior: Prior,
    samples: int | None = None,
    *,
    settings: ChainSettings | None = None,
    gradient: Estimator | None = None,
) -> xr.Dataset:
    """Return WBIC from Langevin chains at beta = 1 / log n that start in the prior, in any dimension.

    The Dataset has `wbic_excess` and `learning_coefficient_one` as in `wbic`, each with its `..._standard_error` over
    independent chains; `drift`; and all of `chains.sample`. A diverged chain makes them infinite or nan.
    """
    n = _samples(loss, samples)
    nbeta = default_nbeta(n)
    chains = sample(loss, prior, nbeta, settings, gradient=gradient)
    mean, error = mean_and_error(chains["excess"])
    return chains.assign(
        {
            "wbic_excess": scalar(n * mean, "WBIC - n S_n, from chains", "nat"),
            "wbic_excess_standard_error": scalar(n * error, "standard error of wbic_excess", "nat"),
            "learning_coefficient_one": scalar(nbeta * mean, "λ from one temperature and the truth"),
            "learning_coefficient_one_standard_error": scalar(nbeta * error, "standard error of the estimate of λ"),
            "drift": scalar(drift_z(chains["excess"]), "second half of the draws minus the first", "standard error"),
        }
    ).assign_coords(n=scalar(n, "number of samples", "sample"))


def wbic_along(
    loss_of: Callable[[int], Loss],
    prior: Prior,
    samples: Sequence[int],
    *,
    matched: bool = True,
    tolerance: float | None = None,
) -> xr.Dataset:
    """Return `wbic` over n, one entry of the dimension `n` for each of `samples`.

    loss_of: n -> the loss on n samples (`lambda n: model.sampled(n, seed)`), or the population's for every n.
    """
    if not len(samples) or (np.diff(samples) <= 0).any():
        raise InputError(f"the numbers of samples are {list(samples)}; they must rise, and there must be one")
    return xr.concat(
        [wbic(loss_of(n), prior, n, matched=matched, tolerance=tolerance) for n in samples],
        "n",
        combine_attrs="drop_conflicts",
    )


def _samples(loss: Loss, samples: int | None) -> int:
    if loss.samples is not None and samples not in (None, loss.samples):
        raise InputError(f"the loss has {loss.samples} samples, here n is {samples}")
    n = loss.samples if samples is None else samples
    if n is None or n < 3:
        raise InputError(f"WBIC needs n of at least 3 samples (log n > 1), here n is {n}")
    return n
