"""Blocks of lanes: the small lane functions that stages share, and the source text of generated ones.

A block is one flat array of planes; plane p holds one number per lane at [p * LANES + lane]. Two-dimensional arrays,
whose strides are known at run time only, would keep LLVM from vectorising.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from sandbox.expression import emit
from sandbox.jit import LANES, lane_function, shared_lane_function


@lane_function
def copy(target: Any, block: Any) -> None:
    """Copy a block. An assignment to `target[:]` costs seconds to compile: the text of an error that never occurs."""
    for i in range(block.size):
        target[i] = block[i]


@lane_function
def fill(block: Any, value: Any) -> None:
    """Set all of a block to a number."""
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
    """Multiply a block by a number."""
    for i in range(block.size):
        block[i] = factor * block[i]


@lane_function
def gather_row(rows: Any, table: Any, indices: Any, shift: int, columns: int) -> None:
    """Give each lane its own row of the table, in the layout of `paired`.

    `indices` has a number for each lane, whose bits from `shift` on are its row: below are those that `draw_indices`
    leaves. `shift` and `columns` are literals where it is called.

    A pair is read before it is stored, and lies together in the table and in `rows`: one load and one store of two
    numbers move it, which halves the time. Unsigned indices, as a signed one could count from the end and so part them.
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


def planes(array: str, symbols: Sequence[Any], start: str = "") -> dict[Any, str]:
    """Return the source text of each symbol, the p-th standing in plane p of `array`, counted from plane `start` on."""
    return {symbol: f"{array}[{_plane(start, p)} * LANES + i]" for p, symbol in enumerate(symbols)}


def paired(array: str, symbols: Sequence[Any], start: str = "") -> dict[Any, str]:
    """Return the source text of each symbol where planes 2p and 2p + 1 are interleaved; a last odd one is as ever."""
    even = len(symbols) - len(symbols) % 2
    texts = {s: f"{array}[{_plane(start, c - c % 2)} * LANES + 2 * i + {c % 2}]" for c, s in enumerate(symbols[:even])}
    return texts | {s: f"{array}[{_plane(start, even)} * LANES + i]" for s in symbols[even:]}


def _plane(start: str, p: int) -> str:
    return f"({start} + {p})" if start else f"{p}"


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
    head, local = _head(name, arguments, outputs.values(), names, scalars)
    values = {f"v{k}": expression for k, expression in enumerate(outputs.values())}
    return "\n".join(
        [
            *head,
            *emit(values, local, " " * 8),
            *(f"        {target} = {value}" for target, value in zip(outputs, values, strict=True)),
        ]
    )


def sum_code(
    name: str,
    arguments: Sequence[str],
    count: int,
    outputs: Mapping[str, Any],
    names: Mapping[Any, str],
    items: Mapping[Any, str],
    scalars: Mapping[Any, str] = MappingProxyType({}),
) -> str:
    """Return the source of a lane function that adds to each target its expression's sum over k = 0 ... `count` - 1.

    As `lane_code`; the texts in `items` depend on k. The totals stay in registers from one k to the next, and what does
    not depend on k is computed once: so short a loop is unrolled by the compiler.
    """
    head, local = _head(name, arguments, outputs.values(), names, scalars)
    totals = {target: f"v{j}" for j, target in enumerate(outputs)}
    terms = {f"h{j}": expression for j, expression in enumerate(outputs.values())}
    item = {symbol: f"y{j}" for j, symbol in enumerate(_used(items, outputs.values()))}
    return "\n".join(
        [
            *head,
            *(f"        {total} = {target}" for target, total in totals.items()),
            f"        for k in range({count}):",
            *(f"            {local} = {items[symbol]}" for symbol, local in item.items()),
            *emit(terms, local | item, " " * 12),
            *(f"            {total} += {term}" for total, term in zip(totals.values(), terms, strict=True)),
            *(f"        {target} = {total}" for target, total in totals.items()),
        ]
    )


def _head(
    name: str,
    arguments: Sequence[str],
    expressions: Iterable[Any],
    names: Mapping[Any, str],
    scalars: Mapping[Any, str],
) -> tuple[list[str], dict[Any, str]]:
    """Return a lane function's lines down to where its loop has read what it needs, and what each symbol is called.

    LLVM would make one reading of many; but Numba, which takes most of the time to compile, would type each of them.
    """
    expressions = list(expressions)
    scalar = {symbol: f"c{j}" for j, symbol in enumerate(_used(scalars, expressions))}
    lane = {symbol: f"x{j}" for j, symbol in enumerate(_used(names, expressions))}
    lines = [
        "@lane_function",
        f"def {name}({', '.join(arguments)}):",
        *(f"    {local} = {scalars[symbol]}" for symbol, local in scalar.items()),
        "    for i in range(LANES):",
        *(f"        {local} = {names[symbol]}" for symbol, local in lane.items()),
    ]
    return lines, lane | scalar


def _used(symbols: Iterable[Any], expressions: Iterable[Any]) -> list[Any]:
    """Return those of the symbols that occur in the expressions, in their order."""
    occurring = {symbol for expression in expressions for symbol in expression.free_symbols}
    return [symbol for symbol in symbols if symbol in occurring]


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
            f"{name}_bits = scratch({4 * calls} * LANES, np.uint32)",
            f"{name} = scratch({4 * calls} * LANES, np.float32)",
        ),
        lines=(
            f"if step % {group} == 0 or step == first_step:",
            f"    fill_bits({name}_bits, 0, {calls}, particle, step // {group}, {stream}, key)",
            f"    fill_normals({name}, {name}_bits, {2 * calls})",
            f"{name}_start = step % {group} * {count} * LANES",
        ),
        value=f"{name}[{name}_start : {name}_start + {count} * LANES]",
    )
