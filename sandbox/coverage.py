"""Do the strata cover W0? Random points are sent down to K = 0, and where they land is looked up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sandbox.descent import descend
from sandbox.loss import Loss
from sandbox.prior import Prior
from sandbox.zero_set import ELSEWHERE, ZeroSet

Array = npt.NDArray[np.float64]

POINTS = 256
REACHED = 1e-12
"""K, relative to the prior's median of K, that counts as having landed on W0."""


@dataclass(frozen=True)
class Coverage:
    """How many points landed on W0, and those of them that lie in no stratum's tube, shape (M, D)."""

    landed: int
    missed: Array


def coverage(loss: Loss, prior: Prior, zero_set: ZeroSet, seed: int = 0, count: int = POINTS) -> Coverage:
    """Return where `count` points drawn from the prior land when they descend K, the population's or a potential."""
    start = prior.draw(count, seed, "coverage")
    sizes = loss.excess(start)
    start, sizes = start[np.isfinite(sizes)], sizes[np.isfinite(sizes)]
    ends = descend(loss, start, prior.bounds)
    with np.errstate(invalid="ignore"):
        landed = ends[loss.excess(ends) <= REACHED * float(np.median(sizes))] if len(sizes) else ends
    elsewhere = zero_set.names.index(ELSEWHERE)
    return Coverage(len(landed), landed[zero_set.labels(landed) == elsewhere] if len(landed) else landed)
