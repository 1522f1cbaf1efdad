"""The stability map: growth of each population's linearised first step near each stratum."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import sympy
import xarray as xr

from sandbox.compiled.random_numbers import derived_seed
from sandbox.dynamics.population import Population
from sandbox.dynamics.stability.growth import MEASURES, NEUTRAL, NOTIONS, Measure, deterministic, mean_square
from sandbox.dynamics.stability.noise import Law, Noise, noise_of
from sandbox.dynamics.stability.step import NotLinearError, Step
from sandbox.expressions.calculus import gradient
from sandbox.expressions.evaluation import numpy_function
from sandbox.model.labelled import coordinates, labelled, texts
from sandbox.model.problem import Problem
from sandbox.tools.arrays import Array

POINTS = 512
"""Number of points of each stratum at which the sharpness is computed."""

_POINTS = 64
"""Most points of a stratum at which the step is linearised."""
_MULTIPLES: Array = np.asarray(2.0 ** np.arange(-12, 13), np.float64)
_FINER = 17
"""Multiples of the step size tried first for the threshold; and number of multiples tried between two of them."""
_SLIGHT = 1e-9
"""Growth per step up to this drives no particle off within a run."""
_LEAST = 0.01
"""If mean squares grow at this multiple of the step size too, the step's length does not make them grow, but noise that
does not vanish where the slope does. Such growth is proportional to the square of the step size."""
NUMBERS = {
    "stable_share": "share of a stratum's points at which a small distance does not grow",
    "growth": "median over points of the log growth of a small distance per step",
    "growth_error": "standard error of growth",
    "threshold": "multiple of the step size at which growth begins, at the point of median sharpness; inf if at none",
    "threshold_error": "standard error of threshold",
    "unstable_share": "share of a stratum's points at which the step's length makes a small distance grow",
    "unstable_threshold": "multiple of the step size at which it does, at the point where it does most; nan if at none",
}
"""The numbers computed for each stratum and notion, in words; see `thresholds`."""


def stability_map(problem: Problem, population: Population, steps: int) -> xr.Dataset:
    """Return `thresholds`, and `step_times_sharpness` over ("stratum", "statistic")."""
    found = thresholds(problem, population, steps)
    table = step_times_sharpness(problem, population, steps)
    words = "step size, times nbeta if the rule follows the posterior, times sharpness"
    return found.assign(step_times_sharpness=labelled(("stratum", "statistic"), table, words)).assign_coords(
        coordinates(statistic=texts(["median", "largest"]))
    )


def step_times_sharpness(problem: Problem, population: Population, steps: int) -> Array:
    """Return the median and the largest step size times sharpness on each stratum, shape (strata, 2).

    The sharpness is the largest eigenvalue of the Hessian of the function that the rule follows: L_n, or nbeta L_n -
    log φ (without the prior's own curvature). The step size is that of the first step.
    """
    rate = float(population.rule.rates(np.array([0]), steps)[0])
    if population.rule.follows == "posterior":
        rate *= population.rule.nbeta_or(problem.nbeta)
    result = np.full((len(problem.zero_set.strata), 2), np.nan)
    for k in range(len(result)):
        points = problem.zero_set.sample(problem.prior, k, POINTS)
        sharpness = np.linalg.eigvalsh(problem.loss.hessian(points))[:, -1]
        result[k] = rate * np.median(sharpness), rate * sharpness.max()
    return result


def thresholds(problem: Problem, population: Population, steps: int) -> xr.Dataset:
    """Return how a population's first step behaves near each stratum, over ("stratum", "notion").

    - `stable_share`: the share of the stratum's points at which a small distance does not grow;
    - `growth`, `growth_error`: the median over points of the log growth of a small distance per step (in mean square:
      of the root of its mean square), and its standard error, above 0 if products are simulated;
    - `threshold`, `threshold_error`: at the point of median sharpness, the multiple of the step size at which growth
      begins: inf if there is none even at 2^12, 0 if there is already at 2^-12; and its standard error;
    - `unstable_share`: the share of the same points at which the step's length makes a small distance grow. Negative
      curvature counts as 0 here, because beside it distances grow at any step size: the loss itself falls away, as that
      on samples may. Points at which mean squares grow even at a hundredth of the step size count only if a step
      without noise makes distances grow;
    - `unstable_threshold`: the multiple at which that begins, at the one of these points with the largest growth.

    Batches are taken as independent from step to step: `reshuffled` counts as `without_replacement`. Second moments are
    those of the data set or the Gauss nodes; of at most 1024 samples if Hessians are not affine in the columns.
    Directions that take more than about a hundred steps to separate are not followed to their limit.

    The attribute `reason` is "", or the reason why all numbers are nan: not every step has a linearisation.
    """
    strata = problem.zero_set.strata
    values, reason = np.full((len(NUMBERS), len(strata), len(NOTIONS)), np.nan), ""
    try:
        step = Step.of(population.rule, len(problem.loss.parameters), steps)
        rng = np.random.default_rng(derived_seed(problem.seed, f"stability of {population.name}"))
        noise = noise_of(problem.loss, population.rule, population.gradient, rng)
    except NotLinearError as error:
        reason = str(error)
    else:
        for k in range(len(strata)):
            values[:, k] = _near(problem, step, noise, k)
    return xr.Dataset(
        {
            name: labelled(("stratum", "notion"), table, words)
            for (name, words), table in zip(NUMBERS.items(), values, strict=True)
        },
        coordinates(stratum=texts(stratum.name for stratum in strata), notion=texts(NOTIONS)),
        {"reason": reason},
    )


def _near(problem: Problem, step: Step, noise: Noise, k: int) -> Array:
    """Return the numbers of stratum k for each notion, shape (len(NUMBERS), notions)."""
    points, normals = _points(problem, k)
    law = noise.at(points, normals)
    if step.rule.follows == "posterior":
        law = law.of_posterior(step.rule.nbeta_or(problem.nbeta), _prior_curvature(problem, points, normals))
    middle = _middle(np.linalg.eigvalsh(law.mean).max(axis=1, initial=-np.inf))
    here, rising = step.across(normals, np.ones(1)), law.without_falls()
    by_noise = mean_square(*step.across(normals, np.full(1, _LEAST)), rising)[0] > _LEAST**2 * _SLIGHT

    def edge(measure: Measure, law: Law, point: int) -> tuple[float, float]:
        there = law.only(point)
        return _crossing(lambda multiples: measure(*step.across(normals[[point]], multiples), there))

    result, moves = np.empty((len(NUMBERS), len(MEASURES))), step.rule.moves_per_step
    for n, measure in enumerate(MEASURES.values()):
        growth, _ = measure(*here, law)
        half = _middle(growth)
        # At one point alone, the same cost allows more products.
        middling, error = measure(*step.across(normals[[half]], np.ones(1)), law.only(half))
        risen = growth if rising is law else measure(*here, rising)[0]
        risen = np.where((risen > _SLIGHT) & ~(by_noise & (measure is not deterministic)), risen, 0)
        result[:, n] = (
            np.mean(growth <= NEUTRAL),
            moves * middling[0],
            moves * error[0],
            *edge(measure, law, middle),
            np.mean(risen > 0),
            edge(measure, rising, int(np.argmax(risen)))[0] if risen.any() else np.nan,
        )
    return result


def _middle(values: Array) -> int:
    """Return the index of the (lower) median."""
    return int(np.argsort(values, kind="stable")[(len(values) - 1) // 2])


def _crossing(grown: Callable[[Array], tuple[Array, Array]]) -> tuple[float, float]:
    """Return the multiple of the step size at which growth begins, and its error; inf for none, 0 for all."""
    multiples, slopes = _MULTIPLES, []
    for finer in (True, True, True, False):
        growth, error = grown(multiples)
        slopes.append((growth[-1] - growth[0]) / (multiples[-1] - multiples[0]))
        high = int(np.argmax(growth > NEUTRAL))
        if not growth[high] > NEUTRAL:
            return np.inf, 0.0
        if high == 0:
            return 0.0, 0.0
        low = high - 1
        if finer:
            multiples = np.asarray(np.geomspace(multiples[low], multiples[high], _FINER), np.float64)
    share = (NEUTRAL - growth[low]) / (growth[high] - growth[low])
    # The slope over 4%: simulated growth has a spike at every multiple at which one of the draws makes J vanish.
    return float(multiples[low] + share * (multiples[high] - multiples[low])), float(error[high] / abs(slopes[2]))


def _points(problem: Problem, k: int) -> tuple[Array, Array]:
    """Return points (N, D) of stratum k and orthonormal bases (N, D, m) of the directions across it.

    These are a basis of the span of its equations' slopes; points without the usual (median) dimension are left out.
    """
    zero_set = problem.zero_set
    points = zero_set.sample(problem.prior, k, 4 * _POINTS)
    if not len(points):
        points = zero_set.sample(problem.prior, k, 16384)
    # A stratum may consist of a point or a few, of which copies are left out.
    points = points[np.unique(points.round(9), axis=0, return_index=True)[1]]
    points = points[:: -(-len(points) // _POINTS)]
    slopes = _slopes(problem, k, points)
    sizes = np.linalg.norm(slopes, axis=2, keepdims=True)
    _, singular, rows = np.linalg.svd(slopes / np.where(sizes > 0, sizes, 1))
    ranks = (singular > 1e-6).sum(axis=1)
    usual = int(np.median(ranks))
    return points[ranks == usual], rows[ranks == usual, :usual].swapaxes(1, 2)


def _slopes(problem: Problem, k: int, points: Array) -> Array:
    """Return the derivatives (N, equations, D) of stratum k's equations, for the image that contains each point."""
    symbols, zero = problem.loss.symbols, problem.zero_set.strata[k].zero
    evaluate = numpy_function(symbols, [*zero, *(slope for e in zero for slope in gradient(e, symbols))])
    off, found = [], []
    for image in (None, *problem.zero_set.symmetries):
        values = np.stack(evaluate(*(image(points) if image else points).T), axis=1)
        off.append(np.abs(values[:, : len(zero)]).sum(axis=1))
        slopes = values[:, len(zero) :].reshape(-1, len(symbols))
        found.append((image.inverse(slopes) if image else slopes).reshape(len(points), len(zero), -1))
    return np.asarray(np.stack(found)[np.argmin(off, axis=0), np.arange(len(points))])


def _prior_curvature(problem: Problem, points: Array, normals: Array) -> Array:
    """Return the Hessian of -log φ across the stratum, shape (N, m, m)."""
    symbols = problem.loss.symbols
    curvatures = [
        sympy.diff(d.potential_gradient(w, [sympy.Float(a) for a in d.arguments]), w)
        for w, d in zip(symbols, problem.prior.distributions, strict=True)
    ]
    diagonal = np.stack(numpy_function(symbols, curvatures)(*points.T), axis=1)
    return np.asarray(normals.swapaxes(1, 2) @ (diagonal[:, :, None] * normals))
