"""A probability measure as weighted points."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sandbox.tools.arrays import Array


@dataclass(frozen=True)
class Measure:
    """Weighted points that represent a probability measure on W.

    points: (N, D); weights: (N,), positive, sum 1.
    log_evidence: log of the integral that normalises it, log ∫ exp(-nbeta K_n) φ; for a level set log φ{K_n <= level}.
    error: estimated relative error of that integral; from sampling, half the width of its 95% interval.
    share_error: estimated absolute error of the masses of the strata that it was refined for; nan without strata.
    nbeta: inverse temperature times n; nan for a level set.
    converged: whether both errors are within the tolerances; from sampling, see `Smc`.
    cells: intervals of the innermost rule that were evaluated; from sampling, evaluations of energies and gradients.
    capped: whether it stops above the mean energy asked for: at the largest nbeta allowed, or at a caller's floor.
    share_errors: from sampling with strata, half the widths of the 95% intervals of the masses of the strata 0, 1, ...
    effective_sample_size: from sampling, that of the weights, with copies of a point counted once; nan from quadrature.
    runs: number of independent runs that it combines.
    run_of: from sampling, the run (N,) of each point; None from quadrature.
    """

    points: Array
    weights: Array
    log_evidence: float
    error: float
    share_error: float
    nbeta: float
    converged: bool
    cells: int
    capped: bool = False
    share_errors: Array | None = None
    effective_sample_size: float = float("nan")
    runs: int = 1
    run_of: NDArray[np.int64] | None = None

    def mean(self, values: Array) -> float:
        """Return the expectation of a function with these values (N,) at the points."""
        return float(self.weights @ values)

    def standard_error(self, values: Array) -> float:
        """Return the standard error of `mean`, from the spread of the independent runs; 0 from quadrature.

        The mean is a ratio of two means over runs; this is its error to first order.
        """
        if self.run_of is None:
            return 0.0
        off = np.bincount(self.run_of, self.weights * (values - self.mean(values)), self.runs)
        return math.sqrt(self.runs / (self.runs - 1) * float(off @ off))

    def mass(self, strata: NDArray[np.integer], count: int) -> Array:
        """Return the probability (count,) of each stratum 0..count - 1, from strata (N,); other strata are ignored."""
        known = (strata >= 0) & (strata < count)
        return np.asarray(np.bincount(strata[known], self.weights[known], count), dtype=np.float64)


def resampled(points: Array, weights: Array, count: int) -> Array:
    """Return `count` points (count, D) of equal weight from points (N, D) with weights (N,), sum 1; systematically.

    A fixed shuffle makes any first part of them represent the whole (Kitagawa 1996).
    """
    marks = (np.arange(count) + 0.5) / count
    chosen = np.searchsorted(np.cumsum(weights), marks).clip(max=len(points) - 1)
    order = np.random.Generator(np.random.Philox(0)).permutation(count)
    return np.asarray(points[chosen][order])
