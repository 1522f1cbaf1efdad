"""Steps above an edge of stability: the warning near each stratum, and the numbers of the stability map as text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import xarray as xr


def unstable(near: xr.Dataset) -> list[str]:
    """Return for each stratum a warning if the step is above an edge of stability there; else an empty text.

    Above an edge the step itself, not the loss, determines where particles end. `near` is a `stability_map`. Only
    `unstable_share` counts: a distance also grows at any step where the loss falls away from the stratum, as the loss
    on samples may.
    """
    return [_warning(str(name), near.sel(stratum=name)) for name in near.stratum.values]


def _warning(name: str, row: xr.Dataset) -> str:
    share, edge = (
        {str(notion): float(row[key].sel(notion=notion)) for notion in row.notion.values}
        for key in ("unstable_share", "unstable_threshold")
    )
    typical = f"{share['almost sure']:.0%}" if share["almost sure"] > 0 else "none"
    steady = f"a step without noise overshoots at none of them, and a typical particle is driven away at {typical}"
    for notion, grows, besides in (
        ("deterministic", "a step overshoots", ""),
        ("mean square", "mean squares grow", f" ({steady} of them)"),
    ):
        if share[notion] > 0:
            where = f"at {share[notion]:.0%} of the points of {name}{besides}"
            least = f"at the least stable of them the edge is {edge[notion]:.3g} times this step size"
            return f"{grows} {where}; {least}: there the step, not the loss, moves particles"
    return ""


def growth_and_edge(row: Mapping[str, Any], notion: str) -> str:
    """Return the growth near a stratum and, in brackets, the edge as a multiple of the step size; "-" if unknown.

    `row` is a stratum's part of the answer: {variable: {notion: number}}, None for an infinite edge.
    """
    if row["stable_share"][notion] is None:
        return "- (-)"
    growth, edge = (with_error(row[key][notion], row[f"{key}_error"][notion]) for key in ("growth", "threshold"))
    return f"{growth} ({edge})"


def with_error(value: float | None, error: float | None) -> str:
    """Return a number with 1.96 standard errors, to the second digit of these; "none" for no number."""
    if value is None:
        return "none"
    half = 1.96 * (error or 0.0)
    if not half > 0:
        return f"{value:.4g}"
    unit = 10.0 ** (math.floor(math.log10(half)) - 1)
    digits = 1 + math.floor(math.log10(max(abs(value), half) / unit))
    return f"{round(value / unit) * unit:.{digits}g} ± {half:.2g}"
