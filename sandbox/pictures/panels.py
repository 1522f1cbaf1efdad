"""The panels of both the figure and the animation. A panel draws fixed parts at once and moving parts on demand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle, StepPatch

from sandbox.pictures.ground import ON_TOP, draw_zero_set, set_view
from sandbox.pictures.scene import GREY, INK, PALE, Scene, density, wrapped
from sandbox.pictures.style import power_of_ten
from sandbox.tools.arrays import Array

CRISP = 3200
"""The most particles, of all populations together, in an animation; they determine the size of its file."""

_PILES = 80
"""The number of histogram bins over a single parameter."""


class Moving(Protocol):
    """A panel with artists that change in time."""

    @property
    def artists(self) -> Sequence[Artist]:
        """The moving artists, from back to front."""

    def show(self, frame: int) -> None:
        """Set the artists to a recorded time."""


def marker_size(count: int) -> float:
    """Return the diameter in points of the markers of `count` particles: few are drawn larger."""
    return float(np.clip(3 * np.sqrt(1500 / max(count, 1)), 3, 8))


def turns(names: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield the layers of scatter plots in drawing order: the number of a layer, and the name of its population.

    Particles that start alike can coincide to the end: in half of the layers each population is in front of another.
    """
    for j in range(2 * len(names)):
        order = [*names[j // 2 :], *names[: j // 2]]
        yield from ((j, name) for name in order[:: 1 - 2 * (j % 2)])


class Cloud:
    """A scatter plot of the particles of every population, with W0.

    If `crisp`: at most CRISP particles, as opaque squares on whole pixels, for a small GIF; else translucent discs.
    """

    def __init__(self, axes: Axes, scene: Scene, *, crisp: bool):
        self.scene = scene
        self.most = CRISP // len(scene.populations) if crisp else None
        names = list(scene.populations)
        self.layers: dict[str, list[Line2D]] = {name: [] for name in names}
        size = marker_size(sum(len(scene.positions(name, -1)[: self.most]) for name in names))
        self.artists: list[Artist] = []
        for _, name in turns(names):
            (line,) = axes.plot([], [], "s" if crisp else "o", mew=0, color=scene.colours[name], zorder=ON_TOP)
            line.set(markersize=0.72 * round(size) if crisp else size, alpha=1 if crisp else 0.4 + 0.06 * size)
            self.layers[name].append(line)
            self.artists.append(line)
        # Names and points of W0 are readable only above the particles.
        self.artists += draw_zero_set(axes, scene)
        set_view(axes, scene)

    def show(self, frame: int) -> None:
        """Set the particles to a recorded time; diverged particles are not drawn."""
        for name, layers in self.layers.items():
            points = self.scene.seen(self.scene.positions(name, frame)[: self.most])
            for j, line in enumerate(layers):
                line.set_data(*points[j :: len(layers)].T)


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
    """Histograms of every population along a stratum, beside the posterior's.

    Their areas are shares of all particles, and of the posterior: they compare between populations and strata.
    """

    def __init__(self, axes: Axes, scene: Scene, stratum: str, frames: Sequence[int]):
        self.edges = scene.posterior.along_edge.sel(along_stratum=stratum).values
        posterior = scene.posterior.along_mass.sel(along_stratum=stratum).values / np.diff(self.edges)
        axes.stairs(posterior, self.edges, fill=True, color=PALE)
        axes.stairs(posterior, self.edges, color=INK, lw=0.8)
        self.heights = {
            name: p.along_count.sel(along_stratum=stratum).values / p.attrs["particles"] / np.diff(self.edges)
            for name, p in scene.populations.items()
        }
        self.steps = {name: _steps(axes, self.edges, scene.colours[name]) for name in scene.populations}
        self.artists: list[Artist] = list(self.steps.values())
        axes.set_xlim(float(self.edges[0]), float(self.edges[-1]))
        axes.set_xlabel(wrapped(f"position {scene.position_along(stratum)}", 40), parse_math=False)
        axes.set_ylabel("share per unit length")
        axes.set_title(f"along {stratum}", parse_math=False)
        _set_top(axes, [posterior], [[heights[frame] for heights in self.heights.values()] for frame in frames])

    def show(self, frame: int) -> None:
        """Set the histograms to a recorded time."""
        for name, steps in self.steps.items():
            steps.set_data(self.heights[name][frame])


def share_top(panels: Sequence[Axes]) -> None:
    """Give panels the same y axis, so that areas compare between them."""
    top = max(axes.get_ylim()[1] for axes in panels)
    for axes in panels:
        axes.set_ylim(0, top)


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
            container = axes.bar(self.centres(name), 0, self.width, color=scene.colours[name], zorder=ON_TOP)
            self.bars[name] = list(container)
        self.artists: list[Artist] = [bar for bars in self.bars.values() for bar in bars]
        names = [wrapped(name, 16) for name in scene.strata]
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
    return axes.stairs(np.zeros(len(edges) - 1), edges, baseline=None, color=colour, lw=1.5, zorder=ON_TOP)


def _set_top(axes: Axes, still: Sequence[Array], frames: Sequence[Sequence[Array]]) -> None:
    """Fix the density axis so that the last frame fits; higher earlier frames may at most double it."""
    last = max(float(values.max()) for values in (*still, *frames[-1]))
    highest = max(float(values.max()) for frame in frames for values in frame)
    axes.set_ylim(0, 1.06 * max(last, min(highest, 2 * last)) or 1)
