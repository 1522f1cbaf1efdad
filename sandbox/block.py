"""Blocks of lanes: the small lane functions that stages share, and the source text of generated ones.

A block is one flat array of planes; plane p holds one number per lane at [p * LANES + lane]. Two-dimensional arrays,
whose strides are known at run time only, would keep LLVM from vectorising.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from sandbox.expression import emit
from sandbox.jit import LANES, lane_function


@lane_function
def clear(block: Any) -> None:
    """Set a block to zero."""
    for i in range(block.size):
        block[i] = 0


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
def gather_row(s: Any, table: Any, indices: Any) -> None:
    """Give each lane its own row of the table."""
    for c in range(table.shape[1]):
        for i in range(LANES):
            s[c * LANES + i] = table[indices[i], c]


@lane_function
def add_rows(s: Any, table: Any, indices: Any, weight: float) -> None:
    """Add weight times each lane's own row of the table."""
    for c in range(table.shape[1]):
        for i in range(LANES):
            s[c * LANES + i] = s[c * LANES + i] + weight * table[indices[i], c]


@lane_function
def reflect(plane: Any, low: float, high: float) -> None:
    """Mirror a plane's numbers at the walls `low` and `high` (either may be infinite) until they lie between.

    A number inside keeps its bits. One step rarely overshoots by more than the box's width, so the mirror images are
    taken once for all lanes, and the general fold only where that was not enough.
    """
    far = 0
    for i in range(LANES):
        x = plane[i]
        x = low + (low - x) if x < low else x
        x = high - (x - high) if x > high else x
        plane[i] = x
        far += x < low
    period = (high - low) + (high - low)
    # Rounding leaves the deepest falls outside once more, though far less deep.
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


def planes(array: str, symbols: Sequence[Any]) -> dict[Any, str]:
    """Return the source text of each symbol, the p-th standing in plane p of `array`."""
    return {symbol: f"{array}[{p} * LANES + i]" for p, symbol in enumerate(symbols)}


def lane_code(
    name: str,
    arguments: Sequence[str],
    outputs: Mapping[str, Any],
    names: Mapping[Any, str],
    scalars: Mapping[Any, str] = MappingProxyType({}),
) -> str:
    """Return the source of a lane function that computes `outputs` (source text of a target: expression) per lane.

    `names` gives each symbol's source text inside the loop over lanes, `scalars` that of symbols which are the same
    for all lanes: they are read once, before the loop, as the compiler cannot know that no store changes them. All
    values are there before the first is stored, so a target may also be read.
    """
    used = {symbol for expression in outputs.values() for symbol in expression.free_symbols}
    read = {symbol: text for symbol, text in scalars.items() if symbol in used}
    local = {symbol: f"c{k}" for k, symbol in enumerate(read)}
    values = {f"v{k}": expression for k, expression in enumerate(outputs.values())}
    return "\n".join(
        [
            "@lane_function",
            f"def {name}({', '.join(arguments)}):",
            *(f"    {local[symbol]} = {text}" for symbol, text in read.items()),
            "    for i in range(LANES):",
            *emit(values, {**names, **local}, " " * 8),
            *(f"        {target} = {value}" for target, value in zip(outputs, values, strict=True)),
        ]
    )


@dataclass(frozen=True)
class NormalsCode:
    """Source lines that leave `count` fresh normals per lane and step in the block `value`."""

    allocate: tuple[str, ...]
    lines: tuple[str, ...]
    value: str
    imports: tuple[str, ...] = ("sandbox.draws.fill_bits", "sandbox.draws.fill_normals")


def normals_code(name: str, count: int, stream: int) -> NormalsCode:
    """Return the lines that draw `count` normals a step from `stream`.

    One Philox call gives four normals. So that none is thrown away, a group of steps shares its calls: the group's
    number takes the step's place in the counter, and each step reads its own part of the buffer.
    """
    group = 4 // math.gcd(count, 4)
    calls = group * count // 4
    return NormalsCode(
        allocate=(
            f"{name}_bits = np.empty({4 * calls} * LANES, np.uint32)",
            f"{name} = np.empty({4 * calls} * LANES, np.float32)",
        ),
        lines=(
            f"if step % {group} == 0 or step == first_step:",
            f"    fill_bits({name}_bits, 0, {calls}, particle, step // {group}, {stream}, key)",
            f"    fill_normals({name}, {name}_bits, {2 * calls})",
            f"{name}_start = step % {group} * {count} * LANES",
        ),
        value=f"{name}[{name}_start : {name}_start + {count} * LANES]",
    )
