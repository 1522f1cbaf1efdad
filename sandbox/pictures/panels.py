"""The panels of both the figure and the animation. A panel draws fixed parts at once and moving parts on demand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle, StepPatch

from sandbox.pictures.scene import Scene, density, shortened
from sandbox.pictures.style import power_of_ten
from sandbox.tools.arrays import Array

INK, GREY, PALE = "#000000", "#8c8c8c", "#d0d0d0"
"""The colours of the posterior's lines, of W0, and of the posterior's filled histograms."""
LANDSCAPE = LinearSegmentedColormap.from_list("landscape", ["#fdfdfd", "#a3b1c6"])
"""The colours of the loss: one hue with evenly falling lightness, light enough for particles to stand out."""
DENSITY = LinearSegmentedColormap.from_list("density", ["#ffffff", "#8f9db3"])
"""The colours of the posterior's density, if it is drawn instead of the loss."""

CRISP = 3200
"""The most particles, of all populations together, in an animation; they determine the size of its file."""

_LAYERS = 4
"""The number of layers of a population; the populations' layers alternate, so that none hides another."""
_CELLS = 30
"""The number of cells of the posterior's density along each axis."""
_PILES = 80
"""The number of histogram bins over a single parameter."""
_ON_TOP = 10
"""The drawing order (zorder) of moving artists: above all fixed ones."""


class Moving(Protocol):
    """A panel with artists that change in time."""

    @property
    def artists(self) -> Sequence[Artist]:
        """The moving artists, from back to front."""

    def show(self, frame: int) -> None:
        """Set the artists to a recorded time."""


def label_spot(candidates: Array, view: Array, lines: Sequence[Array], labels: Sequence[Array]) -> Array:
    """Return the one of `candidates` (M, 2), near the view's middle, far from `lines` and `labels`; shape (2,)."""
    low, width = view[:, 0], view[:, 1] - view[:, 0]
    unit = (candidates[:: max(1, len(candidates) // 400)] - low) / width
    inside = (np.abs(unit - 0.5) < 0.42).all(axis=1)
    unit = unit[inside] if inside.any() else unit
    score = np.zeros(len(unit))
    # If lines coincide, only the distance to the labels distinguishes the candidates.
    for others, enough in ((lines, 0.3), (labels, 1.0)):
        for points in others:
            near = (points[:: max(1, len(points) // 200)] - low) / width
            # Text is wide, so a neighbour at its side must be further away than one above it.
            gaps = np.linalg.norm((unit[:, None] - near[None]) * (1.0, 2.0), axis=2)
            score += np.minimum(gaps.min(axis=1), enough) / len(others)
    spot: Array = low + unit[int(np.argmax(score))] * width
    return spot


def draw_ground(axes: Axes, scene: Scene) -> ScalarMappable | None:
    """Fill the view with the excess loss or, if the axes do not allow that, with the posterior's density.

    Returns the artist for a colour bar; None if there is nothing to draw.
    """
    return _draw_contours(axes, scene) if scene.shows_loss else _draw_density(axes, scene)


def ground_label(scene: Scene) -> str:
    """Return the name of the quantity that `draw_ground` draws, with its unit."""
    return f"excess loss {excess_label(scene)}" if scene.shows_loss else "posterior (relative density)"


def _draw_density(axes: Axes, scene: Scene) -> ScalarMappable | None:
    x, y, share = scene.posterior_shares(_CELLS)
    if not share.max() > 0:
        return None
    # The square root makes regions of low density visible.
    return axes.pcolormesh(x, y, np.sqrt(share / share.max()), cmap=DENSITY, vmin=0, vmax=1, zorder=0)


def _draw_contours(axes: Axes, scene: Scene) -> ScalarMappable | None:
    """Fill the view with the excess loss, two levels per decade."""
    x, y, excess = scene.least_excess()
    positive = excess[excess > 0]
    if not positive.size:
        return None
    # The posterior does not distinguish losses below about 1 / nbeta, and a steep corner must not use up the colours.
    top = np.log10(min(float(positive.max()), 100 * float(np.median(positive))))
    bottom = np.clip(np.log10(0.1 / float(scene.posterior.nbeta)), top - 6, top - 2)
    levels = 10.0 ** (np.arange(np.floor(2 * bottom), np.ceil(2 * top) + 1) / 2)
    norm = LogNorm(levels[0], levels[-1])
    # Contours need finite heights: nan is drawn above the top level, zero and negative values below the bottom level.
    filled = np.nan_to_num(np.maximum(excess, 0.1 * levels[0]), nan=10 * levels[-1])
    return axes.contourf(x, y, filled, levels, norm=norm, cmap=LANDSCAPE, extend="both")


def excess_label(scene: Scene) -> str:
    """Return the symbol of the excess loss, with its unit."""
    unit = "dimensionless" if not scene.scenario.problem.loss.residual_jacobian else "nats per sample"
    symbol = "Kₙ" if scene.excess_name == "K_n" else "K"
    return f"{symbol} ({unit})"


def draw_curve(axes: Axes, scene: Scene) -> None:
    """Draw the excess loss over a single parameter, with the points of the strata."""
    w = np.linspace(scene.view[0, 0], scene.view[0, 1], 801)
    axes.plot(w, scene.excess(w[:, None]), color=GREY, lw=1.8)
    for k, stratum in enumerate(scene.scenario.problem.zero_set.strata):
        points = np.unique(scene.stratum_points(k).round(9))
        axes.plot(points, scene.excess(points[:, None]), "D", ms=8, mfc="none", mec=INK, mew=1.2)
        for point in points[:1]:
            axes.annotate(stratum.name, (point, 0), (0, 9), textcoords="offset points", ha="center", parse_math=False)
    set_view(axes, scene)
    axes.set_ylabel(excess_label(scene))
    axes.set_title("excess loss, and W0")


def set_view(axes: Axes, scene: Scene) -> None:
    """Set the limits of the axes to the view, and label them with their quantities."""
    names = [shortened(quantity.name, 40) for quantity in scene.axes]
    axes.set_xlim(*map(float, scene.view[0]))
    axes.set_xlabel(f"{names[0]} (dimensionless)", parse_math=False)
    if len(names) > 1:
        axes.set_ylim(*map(float, scene.view[1]))
        axes.set_ylabel(f"{names[1]} (dimensionless)", parse_math=False)
        axes.set_box_aspect(1)


def draw_zero_set(axes: Axes, scene: Scene) -> list[Artist]:
    """Draw the strata of W0; return isolated points, thin lines and names, to be drawn above the particles."""
    view = scene.view
    strata = scene.scenario.problem.zero_set.strata
    groups = [_inside(scene.seen(scene.stratum_points(k)), view) for k in range(len(strata))]
    spots: list[Array] = []
    top: list[Artist] = []
    for k, (stratum, points) in enumerate(zip(strata, groups, strict=True)):
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
                # Many particles on W0 hide it; a thin line above them hides only a few.
                top += axes.plot(*points.T, ",", color=INK, alpha=0.6, zorder=_ON_TOP + 1)
        others = [group for j, group in enumerate(groups) if j != k and len(group)]
        spot = label_spot(points, view, others, [label[None] for label in spots])
        crowd = sum(bool((np.abs(label - spot) < 0.06 * np.diff(view, axis=1)[:, 0]).all()) for label in spots)
        # The name points towards the middle; at the upper edge it goes below its point, to avoid the title.
        right, below = bool(spot[0] > view[0].mean()), bool(spot[1] > view[1] @ (0.08, 0.92))
        top.append(_name(axes, stratum.name, spot, right=right, below=below, row=crowd))
        spots.append(spot)
    return top


def _inside(points: Array, view: Array) -> Array:
    return points[((points >= view[:, 0]) & (points <= view[:, 1])).all(axis=1)]


def _covered(points: Array, view: Array) -> float:
    """Return the share of the view's 30 x 30 cells that contain any of the points: large if they form a surface."""
    cells = np.clip(30 * (points - view[:, 0]) / (view[:, 1] - view[:, 0]), 0, 29).astype(np.int64)
    return len(np.unique(cells, axis=0)) / 900


def _name(axes: Axes, name: str, spot: Array, *, right: bool, below: bool, row: int) -> Artist:
    """Write a stratum's name next to a point: to its left if `right`, under it if `below`, moved by `row` lines."""
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
    """A scatter plot of the particles of every population, with W0.

    If `crisp`: at most CRISP particles, as opaque squares on whole pixels, for a small GIF; else translucent discs.
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
        # Names and points of W0 are readable only above the particles.
        self.artists = [*(line for layers in zip(*self.layers.values(), strict=True) for line in layers)]
        self.artists += draw_zero_set(axes, scene)
        set_view(axes, scene)

    def show(self, frame: int) -> None:
        """Set the particles to a recorded time; diverged particles are not drawn."""
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


class AlongStratum:
    """Histograms of every population along a stratum, beside the posterior's."""

    def __init__(self, axes: Axes, scene: Scene, stratum: str, frames: Sequence[int]):
        self.edges = scene.posterior.along_edge.sel(along_stratum=stratum).values
        posterior = density(scene.posterior.along_mass.sel(along_stratum=stratum).values, self.edges)
        axes.stairs(posterior, self.edges, fill=True, color=PALE)
        axes.stairs(posterior, self.edges, color=INK, lw=0.8)
        self.counts = {name: p.along_count.sel(along_stratum=stratum).values for name, p in scene.populations.items()}
        self.steps = {name: _steps(axes, self.edges, scene.colours[name]) for name in scene.populations}
        self.artists: list[Artist] = list(self.steps.values())
        axes.set_xlim(float(self.edges[0]), float(self.edges[-1]))
        axes.set_xlabel(f"position {scene.position_along(stratum)} (dimensionless)", parse_math=False)
        axes.set_ylabel("density")
        axes.set_title(f"along {stratum}", parse_math=False)
        _set_top(axes, [posterior], [[self.values(name, frame) for name in self.steps] for frame in frames])

    def values(self, name: str, frame: int) -> Array:
        """Return the density of a population in each bin, at a recorded time."""
        return density(self.counts[name][frame], self.edges)

    def show(self, frame: int) -> None:
        """Set the histograms to a recorded time."""
        for name, steps in self.steps.items():
            steps.set_data(self.values(name, frame))


class Shares:
    """A bar chart of the shares: in each stratum, a bar for the posterior and one for each population."""

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
    """Return the handle of a population in a legend."""
    return Line2D([], [], color=colour, marker="o", ms=4, lw=1.5)


def zero_set_handle() -> Line2D:
    """Return the handle of W0, its lines and points, in a legend."""
    return Line2D([], [], color=GREY, lw=4, marker="D", ms=7, mfc="none", mec=INK, mew=1.2)


def set_time_axis(axes: Axes, scene: Scene) -> None:
    """Set the x axis to the recorded steps: logarithmic from 1 on, with at most seven ticks."""
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
    """Fix the density axis so that the last frame fits; higher earlier frames may at most double it."""
    last = max(float(values.max()) for values in (*still, *frames[-1]))
    highest = max(float(values.max()) for frame in frames for values in frame)
    axes.set_ylim(0, 1.06 * max(last, min(highest, 2 * last)) or 1)
