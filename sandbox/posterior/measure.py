"""A probability measure as weighted points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """Weighted points that stand for a probability measure on W.

    points: (N, D); weights: (N,), positive, sum 1.
    log_evidence: log of the integral that normalises it, log ∫ exp(-nbeta K_n) φ; for a level set log φ{K_n <= level}.
    error: estimated relative error of that integral.
    share_error: estimated absolute error of the masses of the labels it was refined for; nan without labels.
    nbeta: inverse temperature times n; nan for a level set.
    converged: whether both errors are within what was asked for.
    cells: intervals of the innermost rule that were evaluated.
    capped: whether `tempered` met the largest nbeta allowed before the mean energy asked for.
    """

    points: Floats
    weights: Floats
    log_evidence: float
    error: float
    share_error: float
    nbeta: float
    converged: bool
    cells: int
    capped: bool = False

    def mean(self, values: Floats) -> float:
        """Return the expectation of a function with these values (N,) at the points."""
        return float(self.weights @ values)

    def mass(self, labels: NDArray[np.integer], count: int) -> Floats:
        """Return the probability of each label 0..count - 1 (count,); points with other labels count for none."""
        known = (labels >= 0) & (labels < count)
        return np.asarray(np.bincount(labels[known], self.weights[known], count), dtype=np.float64)
