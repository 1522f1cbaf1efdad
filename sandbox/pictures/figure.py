"""The figure of a run: the answer; below it particles on the loss, histograms along W0, shares of strata over time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sandbox.comparison.occupancy import BOUNDS
from sandbox.comparison.references import REFERENCES
from sandbox.pictures.ground import draw_curve, draw_ground, ground_label
from sandbox.pictures.panels import (
    AlongStratum,
    Cloud,
    Piles,
    Shares,
    population_handle,
    set_time_axis,
    share_top,
    zero_set_handle,
)
from sandbox.pictures.scene import GREY, INK, PALE, Scene, wrapped
from sandbox.pictures.simplicity import HEIGHT, WIDTHS, answer_handles, draw_answer
from sandbox.pictures.style import style, write_figure
from sandbox.pictures.words import canvas, write_words

DASHES = dict(zip(REFERENCES, ("-", "--", ":"), strict=True))
"""The line style of each reference."""
LABELS = dict(
    zip(REFERENCES, ("posterior", "tempered posterior, same mean loss", "level set of the same loss"), strict=True)
)
"""The references in a legend."""
_SPREAD = [0.05, 0.5, 0.95]
"""The quantiles of derived quantities that are drawn."""


def figure(tree: xr.DataTree) -> Figure:
    """Return the figure of a run: the answer, the loss with particles and W0, histograms along W0, occupancies.

    Raises InputError if the tree is not the record of a run.
    """
    scene = Scene.of(tree)
    with style():
        return _draw(scene)


def save_figure(tree: xr.DataTree, path: str | Path) -> None:
    """Write `figure(tree)` to a .png, .pdf or .svg file, whole or not at all. Raises InputError and OSError."""
    write_figure(figure(tree), path)


def _draw(scene: Scene) -> Figure:
    along, strata = max(1, len(scene.along_strata)), len(scene.strata)
    listed = bool(scene.scenario.problem.zero_set.strata)
    columns = [1 if along <= 3 else 2, 1 if strata <= 3 else 2]
    rows = max(-(-along // columns[0]), -(-strata // columns[1]))
    derived = len(scene.scenario.problem.derived)
    across = 1 if derived <= 3 else 2
    rows = max(rows, -(-derived // across))
    beside = [3.2 * columns[0] if scene.along_strata else min(1.2 + 0.75 * strata, 5.0), 2.9 * columns[1]]
    widths = [5.2, *beside * listed, *[2.9 * across] * bool(derived)]
    height = max(5.0, 1.75 * rows)
    result, place = canvas(scene, max(sum(widths), sum(WIDTHS)), HEIGHT + height)
    halves = place.subgridspec(2, 1, height_ratios=[HEIGHT, height])
    draw_answer(result, halves[0, 0], scene)
    grid = halves[1, 0].subgridspec(1, len(widths), width_ratios=widths)
    _landscape(result, grid[0, 0], scene)
    if listed:
        _along(result, grid[0, 1], scene, columns[0])
        _occupancies(result, grid[0, 2], scene, columns[1])
    if derived:
        _derived(result, grid[0, -1], scene, across)
    handles = answer_handles(scene) | _handles() if listed else answer_handles(scene)
    write_words(result, scene, handles, ncols=2, handler_map={tuple: HandlerTuple(ndivide=1, pad=0)})
    return result


def _landscape(result: Figure, place: SubplotSpec, scene: Scene) -> None:
    """Draw the particles at the last time on the loss."""
    names = scene.scenario.problem.prior.names
    last = f"at step {scene.times[-1]:,}"
    if len(names) == 1:
        halves = place.subgridspec(2, 1)
        lower = result.add_subplot(halves[1, 0])
        draw_curve(result.add_subplot(halves[0, 0]), scene)
        piles = Piles(lower, scene, [-1])
        piles.show(-1)
        lower.set_title(f"particles {last}, and the posterior")
        return
    axes = result.add_subplot(place)
    cloud = Cloud(axes, scene, crisp=False)
    cloud.show(-1)
    least = f", least over {names[2]}" if len(names) == 3 else ""
    ground = f"the excess loss{least}" if scene.shows_loss else "the posterior"
    axes.set_title(f"particles {last}, on {ground}", parse_math=False)
    contours = draw_ground(axes, scene)
    if contours is not None:
        bar = result.colorbar(contours, ax=axes, shrink=0.75, pad=0.02, format="%.2g")
        bar.set_label(ground_label(scene))
        bar.ax.minorticks_off()


def _along(result: Figure, place: SubplotSpec, scene: Scene, columns: int) -> None:
    """Draw the histograms along the strata, or the shares of the strata if none has a position along it."""
    if not scene.along_strata:
        axes = result.add_subplot(place)
        shares = Shares(axes, scene)
        shares.show(-1)
        _intervals(axes, scene, shares)
        axes.set_title("shares of the strata at the last step")
        return
    grid = place.subgridspec(-(-len(scene.along_strata) // columns), columns)
    drawn = [result.add_subplot(grid[k // columns, k % columns]) for k in range(len(scene.along_strata))]
    for axes, name in zip(drawn, scene.along_strata, strict=True):
        AlongStratum(axes, scene, name, [-1]).show(-1)
        last = {p: data.along_count.sel(along_stratum=name).values[-1] for p, data in scene.populations.items()}
        empty = [p for p, counts in last.items() if not counts.any()]
        if empty:
            note = f"along {name} (no particles: {', '.join(empty)})"
            axes.set_title(wrapped(note, 44 if columns == 1 else 38), parse_math=False)
    share_top(drawn)


def _intervals(axes: Axes, scene: Scene, shares: Shares) -> None:
    """Add the bootstrap intervals to the bars of the last time."""
    for name in scene.populations:
        middle, low, high = (scene.occupancy(name, bound)[-1] for bound in BOUNDS)
        # Rounding can put the ends of the interval of a share near 0 or 1 on the wrong side of the share.
        reach = np.maximum([middle - low, high - middle], 0)
        axes.errorbar(shares.centres(name), middle, reach, fmt="none", ecolor=INK, elinewidth=1, zorder=11)


def _occupancies(result: Figure, place: SubplotSpec, scene: Scene, columns: int) -> None:
    """Draw each stratum's share over time, one panel per stratum, with the references' masses."""
    rows = -(-len(scene.strata) // columns)
    grid = place.subgridspec(rows, columns)
    for k in range(len(scene.strata)):
        axes = result.add_subplot(grid[k // columns, k % columns])
        _occupancy(axes, scene, k)
        if k % columns == 0:
            axes.set_ylabel("share of particles")
        # Only the last panel of each column shows the time axis.
        if k + columns < len(scene.strata):
            axes.set_xlabel("")
            axes.tick_params(labelbottom=False)


def _occupancy(axes: Axes, scene: Scene, k: int) -> None:
    set_time_axis(axes, scene)
    tops = [0.02]
    for name, colour in scene.colours.items():
        middle, low, high = (scene.occupancy(name, bound)[:, k] for bound in BOUNDS)
        axes.plot(scene.times, middle, color=colour, lw=1.5, label=name)
        axes.fill_between(scene.times, low, high, color=colour, alpha=0.25, lw=0)
        row = scene.comparison.reference_mass.sel(population=name, stratum=scene.strata[k])
        masses = dict(zip(row.reference.values, map(float, row.values), strict=True))
        tops += [float(high.max()), *filter(math.isfinite, masses.values())]
        for reference, dashes in DASHES.items():
            ink = INK if reference == "posterior" else colour
            axes.axhline(masses[reference], color=ink, ls=dashes, lw=1, alpha=0.9, zorder=1.9)
    axes.set_ylim(0, 1.08 * max(tops))
    axes.set_title(_stratum_title(scene, scene.strata[k]), parse_math=False)


def _derived(result: Figure, place: SubplotSpec, scene: Scene, columns: int) -> None:
    """Draw the median and the 5% to 95% range of each derived quantity over time, beside the posterior's."""
    quantities = scene.scenario.problem.derived
    grid = place.subgridspec(-(-len(quantities) // columns), columns)
    for k, quantity in enumerate(quantities):
        axes = result.add_subplot(grid[k // columns, k % columns])
        set_time_axis(axes, scene)
        low, middle, high = scene.posterior.derived_quantile.sel(derived=quantity.name, quantile=_SPREAD).values
        axes.axhspan(low, high, color=PALE, lw=0, zorder=1)
        axes.axhline(middle, color=INK, lw=1, zorder=1.9)
        ends = [low, high]
        for name, colour in scene.colours.items():
            rows = scene.populations[name].derived_quantile.sel(derived=quantity.name, quantile=_SPREAD).values
            axes.fill_between(scene.times, rows[:, 0], rows[:, 2], color=colour, alpha=0.25, lw=0)
            axes.plot(scene.times, rows[:, 1], color=colour, lw=1.5)
            ends += [rows[-1, 0], rows[-1, 2], rows[len(rows) // 2, 0], rows[len(rows) // 2, 2]]
        known = [float(end) for end in ends if math.isfinite(end)]
        if known:
            pad = 0.08 * max(max(known) - min(known), 1e-9)
            axes.set_ylim(min(known) - pad, max(known) + pad)
        axes.set_title(f"{quantity.name}: median, 5% to 95%", parse_math=False)
        if k + columns < len(quantities):
            axes.set_xlabel("")
            axes.tick_params(labelbottom=False)


def _stratum_title(scene: Scene, stratum: str) -> str:
    row: Any = scene.posterior.sel(stratum=stratum)
    coefficient, multiplicity = float(row.learning_coefficient), float(row.multiplicity)
    if not math.isfinite(coefficient):
        return stratum
    return f"{stratum} (λ = {coefficient:.3g}, m = {multiplicity:.0f})"


def _handles() -> dict[str, Any]:
    """Return the legend of the references and of W0: labels with their handles."""
    dashes = {LABELS[name]: Line2D([], [], color=GREY, ls=ls, lw=1) for name, ls in DASHES.items()}
    return {
        **dashes,
        "posterior": (Patch(facecolor=PALE), population_handle(INK)),
        "W0, the true parameters": zero_set_handle(),
    }
