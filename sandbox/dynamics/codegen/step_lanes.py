"""Lane functions that some rules need beside their update: accepting proposals, and changing signs at walls."""

from __future__ import annotations

from typing import Any

import numpy as np

from sandbox.compiled.functions import LANES, lane_function


@lane_function
def reject_outside(ratio: Any, plane: Any, low: float, high: float) -> None:
    """Set the log ratio to -inf in the lanes whose coordinate is outside [low, high]."""
    never = ratio.dtype.type(-np.inf)
    for i in range(LANES):
        x = plane[i]
        ratio[i] = never if (x < low) | (x > high) else ratio[i]


@lane_function
def accept(w: Any, planes: int, normals: Any) -> None:
    """Copy the proposed particle over the particle in w with probability min(1, exp(r)); an r of NaN rejects.

    w holds `planes` planes of the proposed particle, then as many of the particle, then the log ratio r. Half the sum
    of the squares of two normals is minus the logarithm of a uniform number, so no other function is needed.
    """
    last = 2 * planes * LANES
    for i in range(LANES):
        level = normals[i] * normals[i] + normals[LANES + i] * normals[LANES + i]
        w[last + i] = np.float32(-2) * w[last + i] - level
    for p in range(planes):
        for i in range(LANES):
            # Both are read before the choice, because a read that only one branch needs is not vectorised.
            new, old, excess = w[p * LANES + i], w[(planes + p) * LANES + i], w[last + i]
            w[(planes + p) * LANES + i] = new if excess < np.float32(0) else old


@lane_function
def flip_at_wall(state: Any, plane: Any, low: float, high: float) -> None:
    """Change the sign of `state` if `reflect` will mirror the coordinate an odd number of times; call this first."""
    width = high - low
    for i in range(LANES):
        x = plane[i]
        # One wall mirrors once. Two walls mirror once for each width of the box that the coordinate went too far.
        widths = np.floor((x - low) / width) if width < np.inf else width / width
        mirrored = widths - (np.floor(widths * np.float32(0.5)) + np.floor(widths * np.float32(0.5)))
        outside = x < low or x > high
        state[i] = -state[i] if outside and mirrored != np.float32(0) else state[i]
