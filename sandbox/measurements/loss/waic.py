"""WAIC, cross-validation and the singular fluctuation ν, from the posterior by quadrature (Watanabe 2010, 1004.2316).

Let l_i(w) be the log loss of sample i minus the truth's log loss, and E the mean over the posterior at beta. Then

    T_n = -1/n sum_i log E[exp(-l_i)]    training loss of the predictive law        E[T_n - S_n] ~ (λ - 2 ν) / n
    G_n = -E_X log E[exp(-l_X)]          its loss on fresh data, minus S            E[G_n - S]   ~ λ / n
    V_n = sum_i Var(l_i)                 functional variance                        E[V_n]       ~ 2 ν
    WAIC = T_n + beta V_n / n            (right column at beta = 1)                 E[WAIC - S_n] ~ λ / n
    Gibbs loss E[K] and E[K_n]                                                      (λ + ν) / n and (λ - ν) / n

In a regular model that contains the truth, λ = ν = D/2. Every loss is an excess over S_n (in sample) or S (fresh
data). So no number of size λ / n is a difference of numbers of size 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import xarray as xr
from pydantic import Field

from sandbox.compiled.random_numbers import derived_seed
from sandbox.dynamics.frames import Record
from sandbox.expressions.evaluation import numpy_function
from sandbox.measurements.base import OfLoss, known_value, need_quadrature
from sandbox.measurements.loss.wbic import Count
from sandbox.model.labelled import coordinates, labelled, scalar, texts
from sandbox.model.loss import Loss
from sandbox.model.prior import Prior
from sandbox.model.problem import Problem
from sandbox.model.regression import Contrast, Regression
from sandbox.posterior.measure import Measure
from sandbox.posterior.quadrature.posteriors import posterior
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError

INPUT_NODES = {1: 64, 2: 20, 3: 10}
"""Gauss nodes per input that replace fresh inputs, by number of inputs."""

RESIDUAL_NODES = 12
"""Gauss nodes per output for its fresh residual; the log of the predictive law is nearly a parabola in the residual."""

_CHUNK = 1 << 18
"""The most (point, sample) pairs evaluated at once: two megabytes, which stay in the cache."""

_THEORY: dict[str, tuple[float, float]] = {
    "training": (1, -2),
    "generalisation": (1, 0),
    "functional_variance": (0, 2),
    "waic": (1, 0),
    "cross_validation": (1, 0),
    "gibbs_training": (1, -1),
    "gibbs_generalisation": (1, 1),
}
"""Pairs (a, b): n times the expected excess is a λ + b ν at beta = 1. E[V_n] itself is a λ + b ν, without n."""


def waic(
    loss: Loss, prior: Prior, *, beta: float = 1.0, tolerance: float | None = None, input_nodes: int | None = None
) -> xr.Dataset:
    """Return the in-sample and out-of-sample losses of one data set, and its estimate of ν, for 1 to 3 parameters.

    loss: a model's loss on its samples. beta: inverse temperature. tolerance: relative error of the evidence, by
    default 1e-6, with three parameters 1e-4.
    input_nodes: Gauss nodes per input for fresh data, by default INPUT_NODES. For tanh(2 w x), w <= 1, x standard
    normal, 55 nodes gave a relative error of 5e-4 in E[K], and 128 nodes an absolute error of 2e-6.

    The Dataset has, per sample, as excesses over S_n: `training` (T_n), `waic`, `cross_validation` (exact leave-one-out
    -1/n sum log p(y_i | x_i, the others), from this one posterior), `gibbs_training`; over S: `generalisation` (G_n),
    `gibbs_generalisation`. It has `functional_variance` (V_n), `singular_fluctuation` (beta V_n / 2, whose mean tends
    to ν), and S_n and S as `entropy` and `population_entropy`; for a contrast both are left out (0). Raises InputError
    for a loss without samples, or a beta that is not finite and positive.
    """
    if loss.samples is None:
        raise InputError("WAIC needs a model on its samples; here is the population or a bare potential")
    if not (math.isfinite(beta) and beta > 0):
        raise InputError(f"beta is {beta}; it must be finite and above 0")
    n = loss.samples
    tolerance = (1e-4 if len(loss.parameters) == 3 else 1e-6) if tolerance is None else tolerance
    measure = posterior(loss.excess, prior, n * beta, tolerance=tolerance)
    training, variance, validation = _in_sample(loss, measure, beta)
    generalisation, gibbs = _out_of_sample(loss, measure, input_nodes)
    return xr.Dataset(
        {
            "training": scalar(training, "T_n - S_n, training loss of the predictive law", "nat per sample"),
            "generalisation": scalar(generalisation, "G_n - S, loss of the predictive law", "nat per sample"),
            "functional_variance": scalar(variance, "V_n, functional variance", "nat squared"),
            "waic": scalar(training + beta * variance / n, "WAIC - S_n", "nat per sample"),
            "cross_validation": scalar(validation, "leave-one-out loss - S_n", "nat per sample"),
            "gibbs_training": scalar(measure.mean(loss.excess(measure.points)), "E[K_n]", "nat per sample"),
            "gibbs_generalisation": scalar(gibbs, "E[K]", "nat per sample"),
            "singular_fluctuation": scalar(beta * variance / 2, "singular fluctuation ν of this data set"),
            "entropy": scalar(loss.entropy, "S_n", "nat per sample"),
            "population_entropy": scalar(_population_entropy(loss), "S", "nat per sample"),
        },
        coords={"n": scalar(n, "number of samples", "sample")},
        attrs={"beta": beta, "converged": int(measure.converged)},
    )


def waic_over_data_sets(
    model: Regression | Contrast,
    prior: Prior,
    samples: int,
    seeds: Sequence[int],
    *,
    beta: float = 1.0,
    tolerance: float | None = None,
    input_nodes: int | None = None,
) -> xr.Dataset:
    """Return the results of `waic` for each seed's data set, along the dimension `data_set` (coordinate: the seed)."""
    found = [
        waic(model.sampled(samples, seed), prior, beta=beta, tolerance=tolerance, input_nodes=input_nodes)
        for seed in seeds
    ]
    whole = xr.concat(found, "data_set", coords="minimal", combine_attrs="drop_conflicts")
    return whole.assign_coords(data_set=labelled("data_set", np.asarray(seeds), "seed of the data set"))


def expectations(data_sets: xr.Dataset, learning_coefficient: float, singular_fluctuation: float) -> xr.Dataset:
    """Return means over data sets and their values in theory at beta = 1, along the dimension `quantity`.

    `mean` and `standard_error` are those of n times each excess (of V_n itself); `theory` is a λ + b ν with the two
    given numbers; `z` is mean minus theory in standard errors. The corrections to theory are o(1), not zero: at finite
    n, |z| must grow for many thousand data sets. Raises InputError for fewer than two data sets, or beta other than 1.
    """
    if data_sets.sizes.get("data_set", 1) < 2:
        raise InputError("a mean over data sets with its error needs at least two of them")
    if data_sets.attrs.get("beta") != 1.0:
        raise InputError(f"theory is stated for beta = 1, the data sets have {data_sets.attrs.get('beta')}")
    n = float(data_sets["n"])
    names = list(_THEORY)
    values = np.stack([data_sets[q].to_numpy() * (1 if q == "functional_variance" else n) for q in names])
    theory = np.array([a * learning_coefficient + b * singular_fluctuation for a, b in _THEORY.values()])
    mean, error = values.mean(axis=1), values.std(axis=1, ddof=1) / math.sqrt(values.shape[1])
    return xr.Dataset(
        {
            "mean": labelled("quantity", mean, "mean over data sets", "nat"),
            "standard_error": labelled("quantity", error, "standard error of the mean", "nat"),
            "theory": labelled("quantity", theory, "leading order of theory", "nat"),
            "z": labelled("quantity", (mean - theory) / error, "mean minus theory", "standard error"),
        },
        coords=coordinates(quantity=texts(names)),
        attrs={"n": n, "learning_coefficient": learning_coefficient, "singular_fluctuation": singular_fluctuation},
    )


def _in_sample(loss: Loss, measure: Measure, beta: float) -> tuple[float, float, float]:
    """Return T_n - S_n, V_n and the leave-one-out loss - S_n."""
    weights, n = measure.weights, len(loss.data)
    training = variance = validation = 0.0
    for _, losses in _sample_losses(loss, measure):
        training -= _log_mean(-losses, weights).sum() / n
        away = losses - (losses @ weights)[:, None]
        variance += float(((away * away) @ weights).sum())
        # The posterior without sample i is this posterior times exp(beta l_i): Gelfand, Dey and Chang 1992.
        validation += _log_mean(beta * losses, weights).sum() / n
        if beta != 1:
            validation -= _log_mean((beta - 1) * losses, weights).sum() / n
    return training, variance, validation


def _out_of_sample(loss: Loss, measure: Measure, input_nodes: int | None) -> tuple[float, float]:
    """Return G_n - S and E[K], as sums over Gauss nodes of inputs and residuals."""
    count = len(loss.sources) - len(loss.misfits)
    inputs, residuals = loss.sources[:count], loss.sources[count:]
    count = input_nodes or INPUT_NODES.get(len(inputs), 6)
    rules = [*(source.nodes(count) for source in inputs), *(source.nodes(RESIDUAL_NODES) for source in residuals)]
    nodes = np.stack([x.ravel() for x in np.meshgrid(*(x for x, _ in rules), indexing="ij")], axis=1)
    chances = np.ones(1)
    for _, weight in rules:
        chances = np.multiply.outer(chances, weight).ravel()
    drawn = replace(loss, data=nodes, weights=chances)
    generalisation = gibbs = 0.0
    for rows, losses in _sample_losses(drawn, measure):
        generalisation -= float(_log_mean(-losses, measure.weights) @ chances[rows])
        gibbs += float(chances[rows] @ (losses @ measure.weights))
    return generalisation, gibbs


def _sample_losses(loss: Loss, measure: Measure) -> Iterator[tuple[slice, Array]]:
    """Yield rows of the data and their excess log losses l_i at the measure's points, shape (rows, points)."""
    evaluate: Callable[..., list[Array]] = numpy_function((*loss.symbols, *loss.columns), [loss.sample_loss])
    # Points are the last axis, so that sums over them run along memory.
    count = max(1, _CHUNK // len(measure.points))
    for first in range(0, len(loss.table), count):
        rows = slice(first, first + count)
        yield rows, evaluate(*measure.points.T, *loss.table[rows].T[:, :, None])[0]


def _log_mean(logs: Array, weights: Array) -> Array:
    """Return log sum_w weight exp(log) for each row of (rows, points): shape (rows,)."""
    peak = logs.max(axis=1)
    result: Array = peak + np.log(np.exp(logs - peak[:, None]) @ weights)
    return result


def _population_entropy(loss: Loss) -> float:
    """Return S, the entropy of the residuals; they are normal and come last among the sources."""
    residuals = loss.sources[len(loss.sources) - len(loss.misfits) :]
    return sum((1 + math.log(2 * math.pi * source.scale**2)) / 2 for source in residuals)


class Waic(OfLoss):
    """WAIC, training (in sample) and generalisation (out of sample) loss over data sets; the singular fluctuation ν."""

    name: ClassVar[str] = "waic"
    quick: ClassVar[dict[str, int]] = {"data_sets": 10}
    samples: Count = Field(default=200, description="n of each data set")
    data_sets: int = Field(default=200, ge=2, le=10_000, description="number of data sets")

    def check(self, problem: Problem, record: Record | None) -> None:
        """Raise InputError for a potential, which has no data, and for more parameters than quadrature takes."""
        need_quadrature(problem)
        if problem.model is None:
            raise InputError("WAIC needs a model with data; here is a bare potential")

    def measure(self, problem: Problem) -> xr.Dataset:
        """Return each data set's losses, their means, and theory's from λ, ν. Raises InputError for a potential."""
        if problem.model is None:
            raise InputError("WAIC needs a model with data; here is a bare potential")
        seeds = [derived_seed(problem.seed, "waic", k) for k in range(self.data_sets)]
        sets = waic_over_data_sets(problem.model, problem.prior, self.samples, seeds)
        value = known_value(problem)
        fluctuation = float(sets["singular_fluctuation"].mean())
        means = expectations(sets, value, fluctuation)
        waic_mean, error_mean = (float(means["mean"].sel(quantity=q)) for q in ("waic", "generalisation"))
        said = (
            f"over {self.data_sets} data sets of n = {self.samples}: n E[G] = {error_mean:.3f}, n E[WAIC] = "
            f"{waic_mean:.3f}, ν = {fluctuation:.3f}; λ = {value:.4g}"
        )
        return xr.merge([sets, means], combine_attrs="override").assign_attrs(
            estimate=error_mean, singular_fluctuation=fluctuation, exact=value, summary=said
        )
