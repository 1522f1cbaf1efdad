"""Lane functions that many kernels share: on blocks, flat arrays of planes with one number per lane.

Plane p holds the numbers at [p * LANES + lane]. Two-dimensional arrays have strides that are known only at run time,
which would keep LLVM from vectorising.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sandbox.compiled.functions import LANES, lane_function, shared_lane_function


@lane_function
def copy(target: Any, block: Any) -> None:
    """Copy a block. `target[:] = block` takes seconds to compile, for the message of an error that never occurs."""
    for i in range(block.size):
        target[i] = block[i]


@lane_function
def fill(block: Any, value: Any) -> None:
    """Set all numbers of a block to `value`."""
    for i in range(block.size):
        block[i] = value


@lane_function
def accumulate(total: Any, block: Any, weight: float) -> None:
    """Add weight * block to `total`."""
    for i in range(total.size):
        total[i] = total[i] + weight * block[i]


@lane_function
def spread_row(s: Any, table: Any, row: int) -> None:
    """Give every lane the same row of the table: plane c gets table[row, c]."""
    for c in range(table.shape[1]):
        value = table[row, c]
        for i in range(LANES):
            s[c * LANES + i] = value


@lane_function
def scale(block: Any, factor: float) -> None:
    """Multiply all numbers of a block by `factor`."""
    for i in range(block.size):
        block[i] = factor * block[i]


@lane_function
def gather_row(rows: Any, table: Any, indices: Any, shift: int, columns: int) -> None:
    """Give each lane its own row of the table, in the layout of `paired`.

    `indices` has a number for each lane. Its bits from `shift` on are the row; the lower bits are the remainder that
    `draw_indices` leaves. Calls must give `shift` and `columns` as literals.

    A pair is adjacent in the table and in `rows`, and is read before it is stored. So one load and one store move both
    numbers, which halves the time. The indices are unsigned: a signed one could count from the end, and split a pair.
    """
    one, below = np.uint64(1), np.uint64(shift)
    for p in range(columns // 2):
        c = np.uint64(2 * p)
        for i in range(LANES):
            row, place = np.uint64(indices[i]) >> below, c * np.uint64(LANES) + np.uint64(2 * i)
            first, second = table[row, c], table[row, c + one]
            rows[place] = first
            rows[place + one] = second
    if columns % 2 == 1:
        for i in range(LANES):
            rows[(columns - 1) * LANES + i] = table[np.uint64(indices[i]) >> below, np.uint64(columns - 1)]


@shared_lane_function
def reflect(plane: Any, low: float, high: float) -> None:
    """Mirror a plane's numbers at the walls `low` and `high` (either may be infinite) until they are between.

    A number inside keeps its bits. One step rarely overshoots by more than the box's width, so all lanes are
    mirrored once at each wall, and the general fold runs only if that was not enough.
    """
    far = 0
    for i in range(LANES):
        x = plane[i]
        x = low + (low - x) if x < low else x
        x = high - (x - high) if x > high else x
        plane[i] = x
        far += x < low
    period = (high - low) + (high - low)
    # Rounding can leave the farthest numbers outside once more, though much nearer.
    while far > 0:
        far = 0
        for i in range(LANES):
            x = plane[i]
            if x < low:
                t = (x - low) - period * np.floor((x - low) / period)
                x = low + min(t, period - t)
                x = high if x > high else x
            plane[i] = x
            far += x < low
