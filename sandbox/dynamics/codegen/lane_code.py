"""Expressions -> the source text of lane functions, and of the lines that draw normals for them.

The layout of blocks is that of `sandbox.compiled.lanes`: plane p holds one number per lane, at [p * LANES + lane].
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sandbox.expressions.emission import emit


def planes(array: str, symbols: Sequence[Any], start: str = "") -> dict[Any, str]:
    """Return the source text of each symbol; the p-th is in plane p of `array`, counted from plane `start` on."""
    return {symbol: f"{array}[{_plane(start, p)} * LANES + i]" for p, symbol in enumerate(symbols)}


def paired(array: str, symbols: Sequence[Any], start: str = "") -> dict[Any, str]:
    """Return the source text of each symbol for interleaved planes 2p and 2p + 1; a last single plane is as usual."""
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

    `names` gives each symbol's source text inside the loop over lanes. `scalars` gives that of symbols that are the
    same for all lanes. These are read once, before the loop, because the compiler cannot know that no store changes
    them. All values are computed before the first is stored, so a target may also be read.
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

    The arguments are as in `lane_code`; the texts in `items` depend on k. The totals stay in registers over all k, and
    parts that do not depend on k are computed once, because the compiler unrolls so short a loop.
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
    """Return a lane function's lines, up to the last line that reads an input, and the local name of each symbol.

    LLVM would merge repeated reads; but Numba, which takes most of the time to compile, would type each of them.
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
    """Return the symbols that occur in the expressions, in the order of `symbols`."""
    occurring = {symbol for expression in expressions for symbol in expression.free_symbols}
    return [symbol for symbol in symbols if symbol in occurring]


@dataclass(frozen=True)
class NormalsCode:
    """Source lines that put fresh normals for each lane and step into the block `value`."""

    allocate: tuple[str, ...]
    lines: tuple[str, ...]
    value: str
    imports: tuple[str, ...] = (
        "sandbox.compiled.random_numbers.fill_bits",
        "sandbox.compiled.random_numbers.fill_normals",
    )


def normals_code(name: str, count: int, stream: int) -> NormalsCode:
    """Return the lines that generate `count` normals per lane and step from `stream`.

    One Philox call gives four normals. To use all of them, a group of steps shares its calls: the group's number
    replaces the step in the counter, and each step reads its own part of the buffer.
    """
    group = 4 // math.gcd(count, 4)
    calls = group * count // 4
    return NormalsCode(
        allocate=(
            f"{name}_bits = scratch({4 * calls} * LANES, np.uint32)",
            f"{name} = scratch({4 * calls} * LANES, np.float32)",
        ),
        lines=(
            f"if tick % {group} == 0 or tick == first_step:",
            f"    fill_bits({name}_bits, 0, {calls}, particle, tick // {group}, {stream}, key)",
            f"    fill_normals({name}, {name}_bits, {2 * calls})",
            f"{name}_start = tick % {group} * {count} * LANES",
        ),
        value=f"{name}[{name}_start : {name}_start + {count} * LANES]",
    )
