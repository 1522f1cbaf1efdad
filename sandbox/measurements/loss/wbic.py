"""WBIC: the free energy F_n from one tempered posterior, and λ from one or two of them (Watanabe 2013, 1208.6338).

    WBIC = E_beta[n L_n] at beta = 1 / log n,      F_n = -log int exp(-n L_n(w)) φ(w) dw = WBIC + O_p(sqrt(log n)).

E_beta[n L_n] falls from its prior mean to its minimum as beta grows, and its mean over beta in [0, 1] is F_n. So there
is exactly one beta* with E_beta*[n L_n] = F_n, and beta* log n -> 1 (proved in that paper). This module computes F_n
and beta* by quadrature or, with three parameters and more, from SMC samples with their errors; this shows the error of
1 / log n. All energies are excesses over the truth's n S_n.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar

import numpy as np
import xarray as xr
from pydantic import Field

from sandbox.dynamics.frames import Record
from sandbox.dynamics.gradients.base import Estimator
from sandbox.measurements.base import OfLoss, need_time, seconds, with_theory
from sandbox.measurements.loss.chains import ChainSettings, default_nbeta, drift_z, mean_and_error, sample
from sandbox.model.labelled import scalar
from sandbox.model.loss import Loss
from sandbox.model.prior import Prior
from sandbox.model.problem import Problem
from sandbox.posterior.method import BY_QUADRATURE, PosteriorMethod, Quadrature
from sandbox.posterior.sampling.smc import Smc
from sandbox.tools.errors import InputError

_TIMED, _EVALUATIONS = 64, 2_000_000
"""The points at which the loss is timed, and those at which it is evaluated for each n, at least."""

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
    """Return WBIC, F_n and the estimates of λ from them, by quadrature or, beyond two parameters, from samples.

    samples: n, needed for the population's loss or a potential; otherwise n is the loss's own number of samples.
    ratio: beta_2 / beta_1 of `learning_coefficient_two`, (E_1[n L_n] - E_2[n L_n]) / (1/beta_1 - 1/beta_2), which does
    not need the truth (also Watanabe 2013). tolerance: relative error of the evidence, for quadrature; by default 1e-6.
    matched: whether to compute `beta_exact`, which takes about six posteriors beyond the three.

    The Dataset also has `learning_coefficient_one`, beta (E_beta[n L_n] - n S_n), which is the local learning
    coefficient with the truth as reference; `free_energy_slope`, E_1[n K_n], the derivative of F_n by log n if the
    loss does not change with n; and `beta_exact`, the beta at which E_beta[n L_n] = F_n, with `beta_exact_log_n`.
    From samples, `wbic_excess`, `free_energy_excess` and both estimates of λ have a `..._standard_error`.
    Raises InputError if n is missing, contradicts the loss, or is below 3 (log n <= 1), or if the ratio is unusable.
    """
    n = _samples(loss, samples)
    if not (math.isfinite(ratio) and ratio > 0 and ratio != 1):
        raise InputError(f"the ratio of the inverse temperatures is {ratio}; it must be positive and not 1")
    beta = default_nbeta(n) / n
    sampled = len(loss.parameters) > BY_QUADRATURE
    method: PosteriorMethod = (
        Smc(loss.excess, loss.gradient, prior, seed=0)
        if sampled
        else Quadrature(loss.excess, prior, tolerance=tolerance or 1e-6)
    )

    def energy(b: float) -> tuple[float, float]:
        measure = method.posterior(n * b)
        excess = loss.excess(measure.points)
        return n * measure.mean(excess), n * measure.standard_error(excess)

    whole = method.posterior(n)
    free = -whole.log_evidence
    (first, first_error), (second, second_error) = energy(beta), energy(ratio * beta)
    between = 1 / beta - 1 / (ratio * beta)
    two = (first - second) / between
    found = {
        "wbic_excess": scalar(first, "WBIC - n S_n", "nat"),
        "free_energy_excess": scalar(free, "F_n - n S_n", "nat"),
        "wbic_error": scalar(first - free, "WBIC - F_n", "nat"),
        "entropy": scalar(n * loss.entropy, "n S_n", "nat"),
        "learning_coefficient_one": scalar(beta * first, "λ from one temperature and the truth"),
        "learning_coefficient_two": scalar(two, "λ from two temperatures"),
        "free_energy_slope": scalar(n * whole.mean(loss.excess(whole.points)), "E[n K_n] at beta = 1", "nat"),
    }
    if sampled:
        errors = {
            "wbic_excess": first_error,
            "free_energy_excess": whole.error / 1.96,
            "learning_coefficient_one": beta * first_error,
            "learning_coefficient_two": math.hypot(first_error, second_error) / between,
        }
        found |= {f"{k}_standard_error": scalar(v, f"standard error of {k}") for k, v in errors.items()}
    if matched:
        exact = method.tempered(free / n).nbeta / n
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
    """Return WBIC from Langevin chains at beta = 1 / log n, in any dimension; `chains.sample` chooses their starts.

    The Dataset has `wbic_excess` and `learning_coefficient_one` as in `wbic`, each with its `..._standard_error` over
    independent chains; `drift`; and all of `chains.sample`. A diverged chain makes these numbers infinite or nan.
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
    """Return the results of `wbic` along the dimension `n`, one entry for each number in `samples`.

    loss_of: n -> the loss on n samples (`lambda n: model.sampled(n, seed)`), or the population's loss for every n.
    Raises InputError if `samples` is empty or does not rise, and as `wbic` does.
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


Count = Annotated[int, Field(ge=3, le=10**12)]


class Wbic(OfLoss):
    """WBIC, E[n L_n] at beta = 1 / log n, with the free energy that it approximates."""

    name: ClassVar[str] = "wbic"
    samples: tuple[Count, ...] = Field(
        default=(100, 1000, 10_000, 100_000, 1_000_000), strict=False, description="n, rising"
    )

    def check(self, problem: Problem, record: Record | None) -> None:
        """Raise InputError if the loss visits each of too many samples."""
        loss = problem.loss
        if problem.model is None or loss.samples is None or loss.is_affine or loss.pieces:
            return
        each = seconds(loss.excess, problem.prior, _TIMED) / loss.samples
        need_time(each * _EVALUATIONS * sum(self.samples), "fewer `samples`")

    def measure(self, problem: Problem) -> xr.Dataset:
        """Return the record of `wbic_along`; the estimate is λ from two temperatures at the largest n."""
        found = wbic_along(_loss_of(problem), problem.prior, list(self.samples))
        value = float(found["learning_coefficient_two"][-1])
        said = (
            f"WBIC - F_n = {float(found['wbic_error'][-1]):+.3f} nat at n = {self.samples[-1]:,}; "
            f"λ from two temperatures there {_with_error(found, 'learning_coefficient_two')}, from one and the truth "
            f"{_with_error(found, 'learning_coefficient_one')}"
        )
        return with_theory(found.assign_attrs(estimate=value, summary=said), problem)


def _with_error(found: xr.Dataset, name: str) -> str:
    """Return the last value of a variable as text, with its 95% error if it is sampled."""
    error = f"{name}_standard_error"
    return f"{float(found[name][-1]):.4f}" + (f" ± {1.96 * float(found[error][-1]):.4f}" if error in found else "")


def _loss_of(problem: Problem) -> Callable[[int], Loss]:
    """Return n -> the loss on n samples if there is a model with samples, else n -> the population loss."""
    model = problem.model
    if model is None or problem.loss.samples is None:
        return lambda _: problem.population_loss
    return lambda n: model.sampled(n, problem.seed)
