"""The lane functions that some rules' steps need beside their sentence: judging proposals, turning round at walls."""

from __future__ import annotations

from typing import Any

import numpy as np

from sandbox.jit import LANES, lane_function


@lane_function
def refuse_outside(ratio: Any, plane: Any, low: float, high: float) -> None:
    """Set to -inf the log ratio of the lanes whose coordinate is outside [low, high]."""
    never = ratio.dtype.type(-np.inf)
    for i in range(LANES):
        x = plane[i]
        ratio[i] = never if (x < low) | (x > high) else ratio[i]


@lane_function
def judge(w: Any, planes: int, normals: Any) -> None:
    """Copy planes 0, 1, ... of w to `planes` further on with probability min(1, exp(ratio)); NaN refuses.

    The ratio's logarithm stands behind both. Half the square sum of two normals is minus the logarithm of a uniform, so
    that no other function is wanted.
    """
    last = 2 * planes * LANES
    for i in range(LANES):
        level = normals[i] * normals[i] + normals[LANES + i] * normals[LANES + i]
        w[last + i] = np.float32(-2) * w[last + i] - level
    for p in range(planes):
        for i in range(LANES):
            # Both are read before the choice: a read that only one branch needs is not vectorised.
            new, old, excess = w[p * LANES + i], w[(planes + p) * LANES + i], w[last + i]
            w[(planes + p) * LANES + i] = new if excess < np.float32(0) else old


@lane_function
def turn(odd: Any, plane: Any, low: float, high: float) -> None:
    """Change the sign of `odd` where `reflect` will mirror the coordinate an odd number of times; call it first."""
    width = high - low
    for i in range(LANES):
        x = plane[i]
        # One wall mirrors once; between two, a coordinate is mirrored at each width that it has gone too far.
        widths = np.floor((x - low) / width) if width < np.inf else width / width
        mirrored = widths - (np.floor(widths * np.float32(0.5)) + np.floor(widths * np.float32(0.5)))
        outside = x < low or x > high
        odd[i] = -odd[i] if outside and mirrored != np.float32(0) else odd[i]
