"""Lane functions for means over intervals: where lines change sign, and a walk along the intervals between.

A lane has one line slope x + offset for each kink, plane i of `slopes` and of `offsets` for line i; plane i of `bounds`
is where it changes sign: a rank among sorted inputs, or a number x.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sandbox.jit import LANES, lane_function


@lane_function
def find_ranks(bounds: Any, slopes: Any, offsets: Any, inputs: Any, probed: Any, first: int, last: int) -> None:
    """Set bounds i, first <= i < last, to the number of sorted `inputs` below the change of sign.

    The search asks the sign itself, which rounding leaves monotone: each input is on the side where evaluating the
    line puts it, and a slope of 0 needs no case of its own. `probed` is room for one number per lane: only with the
    reading of the inputs apart is the rest vectorised.
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
    """Set bounds i, first <= i < last, to where the line crosses zero, kept to [low, high].

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
    """Move on: start where the interval ended, end at the least bound beyond, that of line `which`.

    Where none is beyond, the end is `last`, and `which` the number of lines.
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
    """Set the moments of an interval to what is below its end, `levels` of line `which`, less what is below its start.

    `lower`, what is below the start, becomes what is below the end.
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
    """Set plane i of `steps` to the step of line i on the interval from `start`: 1 where it is positive, else 0.

    A rising line is positive from its bound on, a falling one up to it. In numbers, which LLVM vectorises, as it does
    not the comparison of two truths.
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
