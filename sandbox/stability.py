"""Where a step is too long for the landscape: step size times sharpness, with 2 the edge of stability."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sandbox.scenario import Population, Scenario

EDGE = 2.0
"""Gradient steps on a quadratic diverge where step size times curvature exceeds this; with minibatch noise, in mean
square, earlier still (Ziyin, Liu, Mori and Ueda 2022, 2102.05375)."""

POINTS = 512
"""Points of each stratum at which the sharpness is taken."""


def products(scenario: Scenario, population: Population) -> npt.NDArray[np.float64]:
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
