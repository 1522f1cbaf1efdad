"""A check that the strata cover W0: random points descend to K = 0, and each end is assigned to a stratum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sandbox.model.descent import descend
from sandbox.model.loss import Loss
from sandbox.model.prior import Prior
from sandbox.model.strata import ELSEWHERE, ZeroSet
from sandbox.tools.arrays import Array

POINTS = 256
REACHED = 1e-12
"""The largest K, relative to the prior's median of K, at which a point counts as landed on W0."""


@dataclass(frozen=True)
class Coverage:
    """The number of points that landed on W0, and those of them that are in no stratum's tube, shape (M, D)."""

    landed: int
    missed: Array


def coverage(loss: Loss, prior: Prior, zero_set: ZeroSet, seed: int = 0, count: int = POINTS) -> Coverage:
    """Return the coverage by `count` descents of K (the population's loss or a potential) from draws of the prior."""
    start = prior.draw(count, seed, "coverage")
    sizes = loss.excess(start)
    start, sizes = start[np.isfinite(sizes)], sizes[np.isfinite(sizes)]
    ends = descend(loss, start, prior.bounds)
    with np.errstate(invalid="ignore"):
        landed = ends[loss.excess(ends) <= REACHED * float(np.median(sizes))] if len(sizes) else ends
    elsewhere = zero_set.names.index(ELSEWHERE)
    return Coverage(len(landed), landed[zero_set.strata_of(landed) == elsewhere] if len(landed) else landed)
