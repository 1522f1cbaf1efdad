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
    error: estimated relative error of that integral; from sampling, half the width of its 95% interval.
    share_error: estimated absolute error of the masses of the labels it was refined for; nan without labels.
    nbeta: inverse temperature times n; nan for a level set.
    converged: whether both errors are within what was asked for.
    cells: intervals of the innermost rule that were evaluated; from sampling, energies and gradients.
    capped: whether `tempered` met the largest nbeta allowed before the mean energy asked for.
    share_errors: from sampling with labels, half the widths of the 95% intervals of the masses of the labels 0, 1, ...;
    effective_sample_size: from sampling, that of the weights, copies of a point counted once; nan from quadrature.
    runs: independent runs that it was put together from.
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
    share_errors: Floats | None = None
    effective_sample_size: float = float("nan")
    runs: int = 1

    def mean(self, values: Floats) -> float:
        """Return the expectation of a function with these values (N,) at the points."""
        return float(self.weights @ values)

    def mass(self, labels: NDArray[np.integer], count: int) -> Floats:
        """Return the probability of each label 0..count - 1 (count,); points with other labels count for none."""
        known = (labels >= 0) & (labels < count)
        return np.asarray(np.bincount(labels[known], self.weights[known], count), dtype=np.float64)
