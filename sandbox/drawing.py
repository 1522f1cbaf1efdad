"""The panels that the still and the moving picture share. Each draws what stays at once and what moves on demand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle, StepPatch

from sandbox.picture import power_of_ten
from sandbox.scene import Scene, density, shortened

Array = npt.NDArray[np.float64]

INK, GREY, PALE = "#000000", "#8c8c8c", "#d0d0d0"
"""Of the posterior's lines, of W0, and of the posterior's filled histograms."""
LANDSCAPE = LinearSegmentedColormap.from_list("landscape", ["#fdfdfd", "#a3b1c6"])
"""Colours of the loss: one hue whose lightness falls evenly, light enough for particles to stand out on it."""
HAZE = LinearSegmentedColormap.from_list("haze", ["#ffffff", "#8f9db3"])
"""Colours of the posterior's density, where it takes the place of the loss."""

CRISP = 3200
"""Most particles, of all populations together, in a moving picture: its size is theirs."""

_LAYERS = 4
"""Into how many layers a population is cut; the populations' layers alternate, so that none hides another."""
_HAZE = 30
"""Cells of the posterior's density across and up."""
_PILES = 80
"""Bins over a single parameter."""
_ON_TOP = 10
"""The drawing order of what moves: above all that stays."""


class Moving(Protocol):
    """A panel with artists that change in time."""

    @property
    def artists(self) -> Sequence[Artist]:
        """What moves, from back to front."""

    def show(self, frame: int) -> None:
        """Set the artists to a recorded time."""


def label_spot(candidates: Array, view: Array, lines: Sequence[Array], labels: Sequence[Array]) -> Array:
    """Return the candidate (M, 2) in the view's middle that is far from other `lines` and from other `labels`, (2,)."""
    low, width = view[:, 0], view[:, 1] - view[:, 0]
    unit = (candidates[:: max(1, len(candidates) // 400)] - low) / width
    inside = (np.abs(unit - 0.5) < 0.42).all(axis=1)
    unit = unit[inside] if inside.any() else unit
    score = np.zeros(len(unit))
    # Lines may coincide, and then only the labels tell the candidates apart.
    for others, enough in ((lines, 0.3), (labels, 1.0)):
        for points in others:
            near = (points[:: max(1, len(points) // 200)] - low) / width
            # Text is wide: what lies beside it needs more room than what lies above it.
            gaps = np.linalg.norm((unit[:, None] - near[None]) * (1.0, 2.0), axis=2)
            score += np.minimum(gaps.min(axis=1), enough) / len(others)
    spot: Array = low + unit[int(np.argmax(score))] * width
    return spot


def draw_ground(axes: Axes, scene: Scene) -> ScalarMappable | None:
    """Fill the view with the excess loss or, where that cannot be drawn over the axes, with the posterior's density.

    Returns what a colour bar needs; None where there is nothing to draw.
    """
    return _draw_contours(axes, scene) if scene.shows_loss else _draw_haze(axes, scene)


def ground_label(scene: Scene) -> str:
    """Return what `draw_ground` draws, with its unit."""
    return f"excess loss {excess_label(scene)}" if scene.shows_loss else "posterior (relative density)"


def _draw_haze(axes: Axes, scene: Scene) -> ScalarMappable | None:
    x, y, share = scene.haze(_HAZE)
    if not share.max() > 0:
        return None
    # The root shows the thin parts too.
    return axes.pcolormesh(x, y, np.sqrt(share / share.max()), cmap=HAZE, vmin=0, vmax=1, zorder=0)


def _draw_contours(axes: Axes, scene: Scene) -> ScalarMappable | None:
    """Fill the view with the excess loss, two levels per decade."""
    x, y, excess = scene.field()
    positive = excess[excess > 0]
    if not positive.size:
        return None
    # The posterior cannot tell losses apart below about 1 / nbeta, and a runaway corner must not use up the colours.
    top = np.log10(min(float(positive.max()), 100 * float(np.median(positive))))
    bottom = np.clip(np.log10(0.1 / float(scene.posterior.attrs["nbeta"])), top - 6, top - 2)
    levels = 10.0 ** (np.arange(np.floor(2 * bottom), np.ceil(2 * top) + 1) / 2)
    norm = LogNorm(levels[0], levels[-1])
    # Contours need finite heights: no value counts as beyond the top, nothing below zero as below the bottom.
    filled = np.nan_to_num(np.maximum(excess, 0.1 * levels[0]), nan=10 * levels[-1])
    return axes.contourf(x, y, filled, levels, norm=norm, cmap=LANDSCAPE, extend="both")


def excess_label(scene: Scene) -> str:
    """Return the excess loss's symbol with its unit."""
    unit = "dimensionless" if not scene.scenario.loss.residual_jacobian else "nats per sample"
    symbol = "Kₙ" if scene.excess_name == "K_n" else "K"
    return f"{symbol} ({unit})"


def draw_curve(axes: Axes, scene: Scene) -> None:
    """Draw the loss over a single parameter, with W0's points."""
    w = np.linspace(scene.view[0, 0], scene.view[0, 1], 801)
    axes.plot(w, scene.excess(w[:, None]), color=GREY, lw=1.8)
    for k, stratum in enumerate(scene.scenario.zero_set.strata):
        points = np.unique(scene.outline(k).round(9))
        axes.plot(points, scene.excess(points[:, None]), "D", ms=8, mfc="none", mec=INK, mew=1.2)
        for point in points[:1]:
            axes.annotate(stratum.name, (point, 0), (0, 9), textcoords="offset points", ha="center", parse_math=False)
    set_view(axes, scene)
    axes.set_ylabel(excess_label(scene))
    axes.set_title("excess loss, and W0")


def set_view(axes: Axes, scene: Scene) -> None:
    """Give the axes the view, with the names of what they show."""
    names = [shortened(quantity.name, 40) for quantity in scene.axes]
    axes.set_xlim(*map(float, scene.view[0]))
    axes.set_xlabel(f"{names[0]} (dimensionless)", parse_math=False)
    if len(names) > 1:
        axes.set_ylim(*map(float, scene.view[1]))
        axes.set_ylabel(f"{names[1]} (dimensionless)", parse_math=False)
        axes.set_box_aspect(1)


def draw_zero_set(axes: Axes, scene: Scene) -> list[Artist]:
    """Draw W0's strata over the axes; return their points, middle lines and names, for the top."""
    view = scene.view
    outlines = [_inside(scene.seen(scene.outline(k)), view) for k in range(len(scene.scenario.zero_set.strata))]
    spots: list[Array] = []
    top: list[Artist] = []
    for k, (stratum, points) in enumerate(zip(scene.scenario.zero_set.strata, outlines, strict=True)):
        if not len(points):
            continue
        if (np.ptp(points, axis=0) < 1e-6 * np.diff(view, axis=1)[:, 0]).all():
            points = points[:1]
            top += axes.plot(*points.T, "D", ms=8, mfc="none", mec=INK, mew=1.2, zorder=_ON_TOP + 1)
        else:
            surface = _covered(points, view) > 0.3
            points = points[::10] if surface else points
            axes.plot(*points.T, ".", ms=3 if surface else 9, mew=0, color=GREY, zorder=2, label=stratum.name)
            if not surface:
                # Where particles crowd on W0 they hide it; a thin line in the middle hides few of them.
                top += axes.plot(*points.T, ",", color=INK, alpha=0.6, zorder=_ON_TOP + 1)
        others = [outline for j, outline in enumerate(outlines) if j != k and len(outline)]
        spot = label_spot(points, view, others, [label[None] for label in spots])
        crowd = sum(bool((np.abs(label - spot) < 0.06 * np.diff(view, axis=1)[:, 0]).all()) for label in spots)
        # Towards the middle; at the upper edge the name would run into the title.
        right, below = bool(spot[0] > view[0].mean()), bool(spot[1] > view[1] @ (0.08, 0.92))
        top.append(_name(axes, stratum.name, spot, right=right, below=below, row=crowd))
        spots.append(spot)
    return top


def _inside(points: Array, view: Array) -> Array:
    return points[((points >= view[:, 0]) & (points <= view[:, 1])).all(axis=1)]


def _covered(points: Array, view: Array) -> float:
    """Return the share of the view's cells, 30 by 30, that hold any of the points: large where they are a surface."""
    cells = np.clip(30 * (points - view[:, 0]) / (view[:, 1] - view[:, 0]), 0, 29).astype(np.int64)
    return len(np.unique(cells, axis=0)) / 900


def _name(axes: Axes, name: str, spot: Array, *, right: bool, below: bool, row: int) -> Artist:
    """Write a stratum's name beside a point, which lies `right` of it, or above; `row` counts names already there."""
    return axes.annotate(
        name,
        (float(spot[0]), float(spot[1])),
        xytext=(-8 if right else 8, -14 - 11 * row if below else 7 + 11 * row),
        textcoords="offset points",
        ha="right" if right else "left",
        fontsize=8.5,
        zorder=_ON_TOP + 2,
        parse_math=False,
        bbox={"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 0.8},
    )


class Cloud:
    """The particles of every population over the axes, with W0.

    With `crisp` they are at most CRISP opaque squares on whole pixels, for a small GIF; else discs one can see through.
    """

    def __init__(self, axes: Axes, scene: Scene, *, crisp: bool):
        self.scene = scene
        self.most = CRISP // len(scene.populations) if crisp else None
        self.layers: dict[str, list[Line2D]] = {name: [] for name in scene.populations}
        for _ in range(_LAYERS):
            for name, layers in self.layers.items():
                (line,) = axes.plot([], [], "s" if crisp else "o", mew=0, color=scene.colours[name], zorder=_ON_TOP)
                line.set(markersize=2.16 if crisp else 3, alpha=1 if crisp else 0.55)
                layers.append(line)
        # Names and points of W0 stay readable only above the particles.
        self.artists = [*(line for layers in zip(*self.layers.values(), strict=True) for line in layers)]
        self.artists += draw_zero_set(axes, scene)
        set_view(axes, scene)

    def show(self, frame: int) -> None:
        """Set the particles to a recorded time; those that have diverged are not drawn."""
        for name, layers in self.layers.items():
            points = self.scene.seen(self.scene.positions(name, frame)[: self.most])
            for j, line in enumerate(layers):
                line.set_data(*points[j::_LAYERS].T)


class Piles:
    """Histograms of every population over a single parameter, beside the posterior density."""

    def __init__(self, axes: Axes, scene: Scene, frames: Sequence[int]):
        self.scene = scene
        self.edges = np.linspace(scene.view[0, 0], scene.view[0, 1], _PILES + 1)
        posterior = scene.posterior_bins(self.edges)
        axes.stairs(posterior, self.edges, fill=True, color=PALE)
        axes.stairs(posterior, self.edges, color=INK, lw=0.8)
        self.steps = {name: _steps(axes, self.edges, scene.colours[name]) for name in scene.populations}
        self.artists: list[Artist] = list(self.steps.values())
        set_view(axes, scene)
        axes.set_ylabel("density")
        _set_top(axes, [posterior], [[self.values(name, frame) for name in self.steps] for frame in frames])

    def values(self, name: str, frame: int) -> Array:
        """Return the density of a population in each bin, at a recorded time."""
        points = self.scene.positions(name, frame)[:, 0]
        return density(np.histogram(points[np.isfinite(points)], self.edges)[0], self.edges)

    def show(self, frame: int) -> None:
        """Set the histograms to a recorded time."""
        for name, steps in self.steps.items():
            steps.set_data(self.values(name, frame))


class Arm:
    """Histograms of every population along a stratum, beside the posterior's."""

    def __init__(self, axes: Axes, scene: Scene, arm: str, frames: Sequence[int]):
        self.edges = scene.posterior.along_edge.sel(arm=arm).values
        posterior = density(scene.posterior.along_mass.sel(arm=arm).values, self.edges)
        axes.stairs(posterior, self.edges, fill=True, color=PALE)
        axes.stairs(posterior, self.edges, color=INK, lw=0.8)
        self.counts = {name: p.along_count.sel(arm=arm).values for name, p in scene.populations.items()}
        self.steps = {name: _steps(axes, self.edges, scene.colours[name]) for name in scene.populations}
        self.artists: list[Artist] = list(self.steps.values())
        axes.set_xlim(float(self.edges[0]), float(self.edges[-1]))
        axes.set_xlabel(f"position {scene.along(arm)} (dimensionless)", parse_math=False)
        axes.set_ylabel("density")
        axes.set_title(f"along {arm}", parse_math=False)
        _set_top(axes, [posterior], [[self.values(name, frame) for name in self.steps] for frame in frames])

    def values(self, name: str, frame: int) -> Array:
        """Return the density of a population in each bin, at a recorded time."""
        return density(self.counts[name][frame], self.edges)

    def show(self, frame: int) -> None:
        """Set the histograms to a recorded time."""
        for name, steps in self.steps.items():
            steps.set_data(self.values(name, frame))


class Shares:
    """The share of each stratum: a bar for the posterior, and one for each population."""

    def __init__(self, axes: Axes, scene: Scene):
        self.scene = scene
        self.places = np.arange(len(scene.strata), dtype=np.float64)
        self.width = 0.8 / (len(scene.populations) + 1)
        masses = scene.posterior.mass.sel(stratum=list(scene.strata)).values
        axes.bar(self.places - 0.4 + self.width / 2, masses, self.width, color=PALE, edgecolor=INK, lw=0.8)
        self.bars: dict[str, list[Rectangle]] = {}
        for name in scene.populations:
            container = axes.bar(self.centres(name), 0, self.width, color=scene.colours[name], zorder=_ON_TOP)
            self.bars[name] = list(container)
        self.artists: list[Artist] = [bar for bars in self.bars.values() for bar in bars]
        names = [shortened(name, 16) for name in scene.strata]
        axes.set_xticks(self.places, names, rotation=25 if len(names) > 3 else 0, parse_math=False)
        axes.set_ylim(0, 1)
        axes.set_xlabel("stratum")
        axes.set_ylabel("share of particles")

    def centres(self, name: str) -> Array:
        """Return the middle of each of a population's bars, shape (strata,)."""
        offset: float = self.width * (list(self.scene.populations).index(name) + 1.5) - 0.4
        return self.places + offset

    def show(self, frame: int) -> None:
        """Set the bars to a recorded time."""
        for name, bars in self.bars.items():
            for bar, height in zip(bars, self.scene.occupancy(name)[frame], strict=True):
                bar.set_height(float(height))


def population_handle(colour: str) -> Line2D:
    """Return what stands for a population in a legend."""
    return Line2D([], [], color=colour, marker="o", ms=4, lw=1.5)


def zero_set_handle() -> Line2D:
    """Return what stands for W0 in a legend: its lines and its points."""
    return Line2D([], [], color=GREY, lw=4, marker="D", ms=7, mfc="none", mec=INK, mew=1.2)


def set_time_axis(axes: Axes, scene: Scene) -> None:
    """Give the axes the recorded steps, logarithmic from 1 on, with at most seven ticks."""
    last = int(scene.times[-1])
    axes.set_xscale("symlog", linthresh=1, linscale=0.4)
    axes.set_xlim(0, max(last, 1))
    decades = int(np.log10(max(last, 1)))
    ticks = np.arange(0, decades + 1, max(1, -(-decades // 5)))
    axes.set_xticks(
        [0, *(10.0**k for k in ticks)], ["0", *(str(10**k) if k < 2 else power_of_ten(int(k)) for k in ticks)]
    )
    axes.minorticks_off()
    axes.set_xlabel("step")


def _steps(axes: Axes, edges: Array, colour: str) -> StepPatch:
    return axes.stairs(np.zeros(len(edges) - 1), edges, baseline=None, color=colour, lw=1.5, zorder=_ON_TOP)


def _set_top(axes: Axes, still: Sequence[Array], frames: Sequence[Sequence[Array]]) -> None:
    """Fix the density axis: all of the last frame fits; an earlier one may at most double it."""
    last = max(float(values.max()) for values in (*still, *frames[-1]))
    highest = max(float(values.max()) for frame in frames for values in frame)
    axes.set_ylim(0, 1.06 * max(last, min(highest, 2 * last)) or 1)
