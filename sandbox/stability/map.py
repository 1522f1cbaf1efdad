"""The map: each population's first step near each stratum."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import sympy
import xarray as xr

from sandbox.expression import gradient, numpy_function
from sandbox.scenario import Population, Scenario
from sandbox.stability.growth import MEASURES, NEUTRAL, NOTIONS, Measure
from sandbox.stability.noise import Noise, noise_of
from sandbox.stability.step import NotLinearError, Step

Array = npt.NDArray[np.float64]

EDGE = 2.0
"""Gradient steps on a quadratic diverge where step size times curvature exceeds this; with minibatch noise, in mean
square, earlier still (Ziyin, Liu, Mori and Ueda 2022, 2102.05375)."""

POINTS = 512
"""Points of each stratum at which the sharpness is taken."""

_POINTS = 64
"""Most points of a stratum at which the step is linearised."""
_MULTIPLES: Array = np.asarray(2.0 ** np.arange(-12, 13), np.float64)
_FINER = 17
"""Multiples of the step size among which the threshold is sought, and into how many a gap between two is cut."""
NUMBERS = ("stable_share", "growth", "growth_error", "threshold", "threshold_error")
"""What is told of each stratum and notion; see `thresholds`."""


def mapped(scenario: Scenario, population: Population) -> xr.Dataset:
    """Return `thresholds`, and `products` as `step_times_sharpness` over ("stratum", "statistic")."""
    found = thresholds(scenario, population)
    table = (("stratum", "statistic"), products(scenario, population))
    names = np.array(["median", "largest"], dtype=object)
    return found.assign(step_times_sharpness=table).assign_coords(statistic=names)


def products(scenario: Scenario, population: Population) -> Array:
    """Return the median and the largest step size times sharpness on each stratum, shape (strata, 2).

    The sharpness is the largest eigenvalue of the Hessian of what the rule follows: L_n, or nbeta L_n - log φ (of
    which the prior's own curvature is left out). The step size is the first step's.
    """
    rate = float(population.rule.rates(np.array([0]), scenario.steps)[0])
    if population.rule.follows == "posterior":
        rate *= population.rule.nbeta_or(scenario.nbeta)
    result = np.full((len(scenario.zero_set.strata), 2), np.nan)
    for k in range(len(result)):
        points = scenario.zero_set.sample(scenario.prior, k, POINTS)
        sharpness = np.linalg.eigvalsh(scenario.loss.hessian(points))[:, -1]
        result[k] = rate * np.median(sharpness), rate * sharpness.max()
    return result


def thresholds(scenario: Scenario, population: Population) -> xr.Dataset:
    """Return how a population's first step behaves near each stratum, over ("stratum", "notion").

    - `stable_share`: the share of the stratum's points at which it does not grow;
    - `growth`, `growth_error`: the median over points of the logarithm by which a small distance grows per step (in
      mean square: its root), and its standard error, above 0 where products are simulated;
    - `threshold`, `threshold_error`: at the point of median sharpness, the multiple of the step size from which on it
      grows: inf where even 2^12 does not, 0 where 2^-12 does.

    Batches are independent from step to step: `reshuffled` is taken as `without_replacement`. Second moments are those
    of the data set or the Gauss nodes; of at most 1024 samples where Hessians are not affine in the columns.
    Directions that part more slowly than within a hundred steps are not followed to where they end.

    The attribute `reason` is "", or says why all numbers are nan: not every step has a linearisation.
    """
    strata = scenario.zero_set.strata
    values, reason = np.full((len(NUMBERS), len(strata), len(NOTIONS)), np.nan), ""
    try:
        step = Step.of(population.rule, len(scenario.loss.parameters), scenario.steps)
        noise = noise_of(scenario.loss, population.rule, population.gradient, np.random.default_rng(scenario.seed))
    except NotLinearError as error:
        reason = str(error)
    else:
        for k in range(len(strata)):
            values[:, k] = _near(scenario, step, noise, k)
    return xr.Dataset(
        {name: (("stratum", "notion"), table) for name, table in zip(NUMBERS, values, strict=True)},
        {
            "stratum": np.array([stratum.name for stratum in strata], dtype=object),
            "notion": np.array(NOTIONS, dtype=object),
        },
        {"reason": reason},
    )


def _near(scenario: Scenario, step: Step, noise: Noise, k: int) -> Array:
    """Return the five numbers of stratum k for each notion, shape (5, notions)."""
    points, normals = _points(scenario, k)
    law = noise.at(points, normals)
    if step.rule.follows == "posterior":
        law = law.of_posterior(step.rule.nbeta_or(scenario.nbeta), _prior_curvature(scenario, points, normals))
    middle = _middle(np.linalg.eigvalsh(law.mean).max(axis=1, initial=-np.inf))
    here, there = step.across(normals, np.ones(1)), law.only(middle)
    result = np.empty((len(NUMBERS), len(MEASURES)))
    for n, measure in enumerate(MEASURES.values()):

        def grown(multiples: Array, measure: Measure = measure) -> tuple[Array, Array]:
            return measure(*step.across(normals[[middle]], multiples), there)

        growth, error = measure(*here, law)
        half = _middle(growth)
        moves = step.rule.moves_per_step
        result[:, n] = np.mean(growth <= NEUTRAL), moves * growth[half], moves * error[half], *_crossing(grown)
    return result


def _middle(values: Array) -> int:
    """Return the index of the (lower) median."""
    return int(np.argsort(values, kind="stable")[(len(values) - 1) // 2])


def _crossing(grown: Callable[[Array], tuple[Array, Array]]) -> tuple[float, float]:
    """Return the multiple of the step size from which on there is growth, with its error; inf for none, 0 for all."""
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
    # The slope over 4%: what is simulated has a spike wherever one of the draws makes J vanish.
    return float(multiples[low] + share * (multiples[high] - multiples[low])), float(error[high] / abs(slopes[2]))


def _points(scenario: Scenario, k: int) -> tuple[Array, Array]:
    """Return points (N, D) of stratum k and orthonormal bases (N, D, m) of the directions across it.

    These are what the slopes of its equations span; points where they span less or more than usual are left out.
    """
    zero_set = scenario.zero_set
    points = zero_set.sample(scenario.prior, k, 4 * _POINTS)
    if not len(points):
        points = zero_set.sample(scenario.prior, k, 16384)
    # A point, or a few, may be all of a stratum.
    points = points[np.unique(points.round(9), axis=0, return_index=True)[1]]
    points = points[:: -(-len(points) // _POINTS)]
    slopes = _slopes(scenario, k, points)
    sizes = np.linalg.norm(slopes, axis=2, keepdims=True)
    _, singular, rows = np.linalg.svd(slopes / np.where(sizes > 0, sizes, 1))
    ranks = (singular > 1e-6).sum(axis=1)
    usual = int(np.median(ranks))
    return points[ranks == usual], rows[ranks == usual, :usual].swapaxes(1, 2)


def _slopes(scenario: Scenario, k: int, points: Array) -> Array:
    """Return the derivatives (N, equations, D) of stratum k's equations, on the image that each point is on."""
    symbols, zero = scenario.loss.symbols, scenario.zero_set.strata[k].zero
    evaluate = numpy_function(symbols, [*zero, *(slope for e in zero for slope in gradient(e, symbols))])
    off, found = [], []
    for image in (None, *scenario.zero_set.symmetries):
        values = np.stack(evaluate(*(image(points) if image else points).T), axis=1)
        off.append(np.abs(values[:, : len(zero)]).sum(axis=1))
        slopes = values[:, len(zero) :].reshape(-1, len(symbols))
        found.append((image.inverse(slopes) if image else slopes).reshape(len(points), len(zero), -1))
    return np.asarray(np.stack(found)[np.argmin(off, axis=0), np.arange(len(points))])


def _prior_curvature(scenario: Scenario, points: Array, normals: Array) -> Array:
    """Return the Hessian of -log φ across the stratum, shape (N, m, m)."""
    symbols = scenario.loss.symbols
    curvatures = [
        sympy.diff(d.potential_gradient(w, [sympy.Float(a) for a in d.arguments]), w)
        for w, d in zip(symbols, scenario.prior.distributions, strict=True)
    ]
    diagonal = np.stack(numpy_function(symbols, curvatures)(*points.T), axis=1)
    return np.asarray(normals.swapaxes(1, 2) @ (diagonal[:, :, None] * normals))
