"""The law at work: why a population ends at its solutions, tested by numbers of the run.

Each law is recognised by a fact that it implies, and none is claimed without it:

- flow from the start: each particle's solution is the one below its start;
- catapult: steps that are too long at the start, and not at the end (Lewkowycz et al. 2020, 2003.02218);
- law of balance: noise equalises the weights of a rescaling symmetry (Ziyin, Li and Ueda 2023, 2308.06671);
- noise drift: the gradient noise is weaker at its solutions than at the posterior's (Blanc et al. 2020, 1904.09080;
  Damian, Ma and Lee 2021, 2106.06530), and stochastic collapse if it all but vanishes there (Chen, Kunin, Yamamura and
  Ganguli 2023, 2306.04251);
- freezing: the gradient noise vanishes at all solutions, so a particle stops at the first one that it meets;
- sampling: a sampler is where the posterior is, or not yet.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
import xarray as xr

from sandbox.comparison.local_posterior import RADII
from sandbox.comparison.simplicity import MIDDLE
from sandbox.dynamics.gradients.full import Full
from sandbox.dynamics.gradients.noisy import Noisy
from sandbox.dynamics.population import Population
from sandbox.expressions.evaluation import numpy_function
from sandbox.measurements.tracks import Track
from sandbox.model.flow import solutions
from sandbox.model.loss import Loss
from sandbox.model.problem import Problem
from sandbox.tools.arrays import Array

SGD, DESCENT, SAMPLER = "sgd", "descent", "sampler"
"""The kinds of populations: with gradient noise, without, and those that follow the posterior."""

_MOST = 512
"""The most particles, and draws of the posterior, whose numbers are compared."""
_MOSTLY, _SOME = 0.9, 0.1
"""Shares of the particles: of a flow from the start, and of a catapult."""
_WEAKER, _VANISHED = 0.8, 0.05
"""Ratios of the noise at the solutions to that at the posterior's: below the first it drifts, the second, collapses."""
_BALANCED = 0.8
"""The ratio of the imbalance at the end to that at the start below which noise has balanced the weights."""
_NOTHING = 1e-5
"""The noise, relative to that at a draw from the prior, below which it counts as none: solutions have errors."""
_SYMMETRIC = 1e-9


class Law(NamedTuple):
    """A law's name in a few words, and a sentence with the numbers that show it; both empty if none is recognised."""

    name: str
    sentence: str


def kind(population: Population) -> str:
    """Return whether a population is SGD, descent without noise, or a sampler."""
    if population.rule.follows == "posterior":
        return SAMPLER
    return DESCENT if isinstance(population.gradient, Full) else SGD


def law(problem: Problem, population: Population, data: xr.Dataset, posterior: xr.Dataset, agreement: float) -> Law:
    """Return the law that explains a population's solutions.

    `data` and `posterior` are records with `solution`; `agreement` is the lower end of the share of the particles that
    are at other places than the posterior's draws.
    """
    if not np.isfinite(data.free_energy.values[:, 0, MIDDLE]).any():
        return Law("", "")
    if population.rule.follows == "posterior":
        if agreement <= 0:
            return Law("sampling", "it is a sampler, and its particles are where the posterior is")
        return Law("not mixed", "it is a sampler that has not reached its stationary law in this time")
    tests = (_catapult, _from_start, _balance, _noise)
    known = (test(problem, population, data, posterior) for test in tests)
    return next((found for found in known if found.name), Law("", ""))


def _from_start(problem: Problem, population: Population, data: xr.Dataset, posterior: xr.Dataset) -> Law:
    starts = data.position.values[0, :_MOST].astype(np.float64)
    ends = data.solution.values[: len(starts)]
    below = solutions(problem.population_loss, problem.prior, starts[: len(ends)])
    with np.errstate(invalid="ignore"):
        near = np.linalg.norm((below - ends) / problem.prior.scale, axis=1) < RADII[MIDDLE]
    if near.mean() < _MOSTLY:
        return Law("", "")
    sentence = (
        f"{near.mean():.0%} of it ends within {RADII[MIDDLE]:g} prior scales of the solution below its start: "
        "the start decides, not the noise"
    )
    return Law("flow from the start", sentence)


def _catapult(problem: Problem, population: Population, data: xr.Dataset, posterior: xr.Dataset) -> Law:
    track = Track.recorded(data, population.rule, problem.nbeta).first_particles(_MOST)
    if track.edge is None or track.rate is None:
        return Law("", "")
    first, last = (track.rate[t] * _sharpness(problem.loss, track.positions[t]) for t in (0, -1))
    with np.errstate(invalid="ignore"):
        caught = (first > track.edge) & (last < track.edge)
    if not caught.mean() > _SOME:
        return Law("", "")
    sentence = (
        f"for {caught.mean():.0%} of it the first step is above the edge of stability (step size times sharpness "
        f"{np.median(first[caught]):.2g} in the median) and the last below ({np.median(last[caught]):.2g}): long steps "
        "throw particles to flatter places"
    )
    return Law("catapult", sentence)


def _balance(problem: Problem, population: Population, data: xr.Dataset, posterior: xr.Dataset) -> Law:
    if kind(population) != SGD:
        return Law("", "")
    first, last = (data.position.values[t, :_MOST].astype(np.float64) for t in (0, -1))
    for i, j in _rescalings(problem):
        before, after = (float(np.nanmedian(np.abs(w[:, i] ** 2 - w[:, j] ** 2))) for w in (first, last))
        if after < _BALANCED * before:
            one, two = problem.prior.names[i], problem.prior.names[j]
            sentence = (
                f"the loss does not change when {one} grows as {two} shrinks, and noise equalises the two: "
                f"|{one}^2 - {two}^2| falls from {before:.2g} to {after:.2g} (medians)"
            )
            return Law("law of balance", sentence)
    return Law("", "")


def _noise(problem: Problem, population: Population, data: xr.Dataset, posterior: xr.Dataset) -> Law:
    if kind(population) != SGD:
        return Law("", "")
    least = _NOTHING * np.mean(noise_trace(problem, population, problem.prior.draw(_MOST, problem.seed, "law")))
    traces = [noise_trace(problem, population, _solutions(each)) for each in (data, posterior)]
    if all((trace <= least).all() for trace in traces):
        return Law("freezing", "the gradient noise vanishes at all solutions: it stops at the first that it meets")
    ours, theirs = (float(np.mean(trace)) for trace in traces)
    if not theirs > least:
        return Law("", "")
    numbers = f"the trace of the gradient noise is {ours:.2g} at its solutions and {theirs:.2g} at the posterior's"
    if ours < _VANISHED * theirs:
        return Law("stochastic collapse", f"{numbers} (means): it collapses to places where its noise vanishes")
    if ours < _WEAKER * theirs:
        return Law("noise drift", f"{numbers} (means): noise drives it along W0 to places where noise is weaker")
    return Law("", "")


def noise_trace(problem: Problem, population: Population, points: Array) -> Array:
    """Return the trace of the covariance of one sample's gradient at points (N, D) of W0, shape (N,).

    On W0 it is that of the Fisher information, scaled by the variance of the labels; of declared noise B xi, |B|^2.
    """
    loss = problem.population_loss
    if isinstance(population.gradient, Noisy):
        entries = numpy_function(loss.symbols, [entry for row in loss.gradient_noise for entry in row])
        return np.asarray(sum((value**2 for value in entries(*points.T)), np.zeros(len(points))))
    if not loss.residual_jacobian:
        return np.full(len(points), np.nan)
    deviation = population.rule.label_deviation
    factor = 1.0 if deviation is None else (deviation / problem.model.noise) ** 2  # type: ignore[union-attr]
    return np.asarray(factor * np.trace(loss.fisher_information(points), axis1=1, axis2=2))


def _solutions(data: xr.Dataset) -> Array:
    """Return the first solutions (N, D) that the posterior reaches."""
    reached = np.isfinite(data.free_energy.values[:, 0, MIDDLE])
    return np.asarray(data.solution.values[reached][:_MOST])


def _sharpness(loss: Loss, points: Array) -> Array:
    """Return the largest eigenvalue of the Hessian at points (N, D), nan where it is not finite, shape (N,)."""
    hessians = loss.hessian(points)
    finite = np.isfinite(hessians).all(axis=(1, 2))
    found = np.full(len(points), np.nan)
    found[finite] = np.linalg.eigvalsh(hessians[finite])[:, -1]
    return found


def _rescalings(problem: Problem) -> list[tuple[int, int]]:
    """Return the pairs of parameters with a loss that is constant when one grows by e^t and the other by e^-t."""
    points = problem.prior.draw(64, problem.seed, "law")
    pull = points * problem.population_loss.gradient(points)
    return [
        (i, j)
        for i, j in combinations(range(pull.shape[1]), 2)
        if np.abs(pull[:, i]).max() > 0
        and np.abs(pull[:, i] - pull[:, j]).max() <= _SYMMETRIC * np.abs(pull[:, [i, j]]).max()
    ]
