"""Lane functions for means over intervals: the sign changes of lines, and a walk along the intervals between them.

A lane has one line slope x + offset for each kink. Plane i of `slopes` and of `offsets` belongs to line i. Plane i of
`bounds` is the position of its sign change: a rank among sorted inputs, or a number x.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sandbox.compiled.functions import LANES, lane_function


@lane_function
def find_ranks(bounds: Any, slopes: Any, offsets: Any, inputs: Any, probed: Any, first: int, last: int) -> None:
    """Set bounds i, first <= i < last, to the number of sorted `inputs` below the sign change of line i.

    The search evaluates the sign itself, which is monotone despite rounding. So each input is on the side that the
    evaluated line gives, and a slope of 0 needs no special case. `probed` is room for one number per lane: the rest
    is vectorised only if a separate loop reads the inputs.
    """
    zero = slopes.dtype.type(0)
    for plane in range(first * LANES, last * LANES, LANES):
        bound, slope, offset = (
            bounds[plane : plane + LANES],
            slopes[plane : plane + LANES],
            offsets[plane : plane + LANES],
        )
        for i in range(LANES):
            bound[i] = 0
        length = inputs.size
        # In every lane the answer is one of bound, ..., bound + length.
        while length > 0:
            half = (length + 1) // 2
            middle = inputs[half - 1 :]
            for i in range(LANES):
                probed[i] = middle[bound[i]]
            for i in range(LANES):
                is_below = (slope[i] * probed[i] + offset[i] > zero) ^ (slope[i] >= zero)
                bound[i] += half if is_below else 0
            length -= half


@lane_function
def find_crossings(bounds: Any, slopes: Any, offsets: Any, low: float, high: float, first: int, last: int) -> None:
    """Set bounds i, first <= i < last, to the zero of line i, clipped to [low, high].

    A line of slope 0 is positive everywhere (from `low` on) or nowhere (from `high` on).
    """
    for j in range(first * LANES, last * LANES):
        crossing = -offsets[j] / slopes[j]
        level = low if offsets[j] > 0 else high
        crossing = level if slopes[j] == 0 else crossing
        crossing = low if crossing < low else crossing
        bounds[j] = high if crossing > high else crossing


@lane_function
def gather_sums(sums: Any, table: Any, ranks: Any) -> None:
    """Give each lane its own row of the prefix sums: plane c gets table[rank, c]."""
    for c in range(table.shape[1]):
        for i in range(LANES):
            sums[c * LANES + i] = table[ranks[i], c]


@lane_function
def next_interval(start: Any, end: Any, which: Any, bounds: Any, last: float) -> None:
    """Move to the next interval: from the old end to the least bound beyond it, which is that of line `which`.

    If no bound is beyond, the end is `last`, and `which` is the number of lines.
    """
    for i in range(LANES):
        start[i] = end[i]
        end[i] = last
        which[i] = bounds.size // LANES
    for line in range(bounds.size // LANES):
        for i in range(LANES):
            bound = bounds[line * LANES + i]
            is_nearer = (bound > start[i]) & (bound < end[i])
            end[i] = bound if is_nearer else end[i]
            which[i] = line if is_nearer else which[i]


@lane_function
def take_moments(moments: Any, lower: Any, levels: Any, which: Any) -> None:
    """Set the moments of an interval: those below its end, `levels` of line `which`, minus those below its start.

    `lower` has the moments below the start; it is replaced by those below the end.
    """
    planes = lower.size // LANES
    for plane in range(planes):
        for i in range(LANES):
            j = plane * LANES + i
            upper = levels[(which[i] * planes + plane) * LANES + i]
            moments[j] = upper - lower[j]
            lower[j] = upper


@lane_function
def take_steps(steps: Any, start: Any, bounds: Any, slopes: Any) -> None:
    """Set plane i of `steps` to the step of line i on the interval from `start`: 1 if the line is positive, else 0.

    A rising line is positive from its bound on, a falling one up to it. The code computes with numbers, because LLVM
    does not vectorise the comparison of two truth values.
    """
    zero, one = slopes.dtype.type(0), slopes.dtype.type(1)
    for plane in range(0, bounds.size, LANES):
        step, bound, slope = (
            steps[plane : plane + LANES],
            bounds[plane : plane + LANES],
            slopes[plane : plane + LANES],
        )
        for i in range(LANES):
            beyond = one if start[i] >= bound[i] else zero
            rising = one if slope[i] >= zero else zero
            step[i] = one - np.abs(beyond - rising)
