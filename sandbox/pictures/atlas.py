"""The figure of the atlas: the preference of every population, with its interval, grouped by what theory says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sandbox.comparison.atlas import COMPARED, GROUPS, Row
from sandbox.comparison.verdict import UNDECIDED
from sandbox.pictures.scene import GREY, INK, PALE, colour, printable
from sandbox.pictures.style import style, write_figure

COLOURS = {group: colour(k) for k, group in enumerate(GROUPS)}
_LINE = 0.17
"""The height of a row, in inches."""


def atlas_figure(rows: Sequence[Row]) -> Figure:
    """Return the forest plot of the rows: one panel for each reference, the rows by group."""
    groups = [group for group in GROUPS if any(row.group == group for row in rows)]
    ordered = [row for group in groups for row in rows if row.group == group]
    with style():
        result = Figure(figsize=(9.5, _LINE * len(ordered) + 1.8))
        FigureCanvasAgg(result)
        result.set_layout_engine("constrained")
        panels = result.subplots(1, len(COMPARED), sharey=True, squeeze=False)[0]
        for axes, (reference, words) in zip(panels, COMPARED.items(), strict=True):
            _forest(axes, ordered, reference)
            axes.set_title(f"against {words}")
        names = [printable(f"{row.scenario}: {row.population}") for row in ordered]
        panels[0].set_yticks(range(len(ordered)), names, parse_math=False)
        panels[0].set_ylim(len(ordered) - 0.5, -0.5)
        result.suptitle("Does SGD reach simple solutions?", fontsize=11)
        result.legend(*_legend(groups), loc="outside lower center", ncols=3, frameon=False)
    return result


def save_atlas(rows: Sequence[Row], path: str | Path) -> None:
    """Write `atlas_figure(rows)` to .png, .pdf or .svg, whole or not at all. Raises InputError and OSError."""
    write_figure(atlas_figure(rows), path)


def _forest(axes: Axes, rows: Sequence[Row], reference: str) -> None:
    axes.axvline(0, color=INK, linewidth=0.8)
    for height, row in enumerate(rows):
        if height and row.group != rows[height - 1].group:
            axes.axhline(height - 0.5, color=GREY, linewidth=0.6)
        elif height % 2:
            axes.axhspan(height - 0.5, height + 0.5, color=PALE, alpha=0.5, linewidth=0)
        found = row.against[reference]
        shade = COLOURS[row.group]
        if found.estimate is None or found.low is None or found.high is None:
            continue
        axes.plot([found.low, found.high], [height, height], color=shade, linewidth=1.4)
        filled = shade if found.verdict != UNDECIDED else "white"
        marker = "o" if row.is_sgd else "s"
        axes.plot([found.estimate], [height], marker=marker, color=shade, markerfacecolor=filled, markersize=4.5)
    axes.set_xlim(-1.03, 1.03)
    axes.set_xlabel("less simple  ←  preference  →  simpler")
    axes.tick_params(axis="y", length=0)


def _legend(groups: Sequence[str]) -> tuple[list[Line2D], list[str]]:
    entries = [(Line2D([], [], color=COLOURS[group], linewidth=3), GROUPS[group][0]) for group in groups]
    for marker, filled, words in (("o", INK, "SGD"), ("s", INK, "another rule"), ("o", "white", "hollow: undecided")):
        handle = Line2D([], [], color=INK, marker=marker, markerfacecolor=filled, markersize=4.5, linestyle="none")
        entries.append((handle, words))
    return [handle for handle, _ in entries], [words for _, words in entries]
