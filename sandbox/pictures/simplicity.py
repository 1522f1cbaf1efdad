"""The picture of the answer: λ_n where particles and posterior draws end, how simple both are, and which is simpler."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.lines import Line2D

from sandbox.comparison.occupancy import BOUNDS
from sandbox.comparison.simplicity import TIES
from sandbox.pictures.ground import draw_zero_set, set_view
from sandbox.pictures.panels import marker_size, population_handle, turns
from sandbox.pictures.scene import GREY, INK, Scene, wrapped
from sandbox.pictures.style import style, write_figure
from sandbox.pictures.words import NAMES, canvas, write_words
from sandbox.tools.arrays import Array

POSTERIOR = "posterior"
SCORES = {"local_learning_coefficient": "local learning coefficient λₙ", "free_energy": "local free energy F (nats)"}
"""The scores of a solution: the smaller, the simpler."""
SYMBOLS = {"local_learning_coefficient": "λₙ", "free_energy": "F"}
AGAINST = ("posterior", "level_set")
"""The references whose preferences are drawn."""
WIDTHS = (5.2, 3.3, 5.0)
"""The widths of the three parts, in inches: the map, the distributions, the preferences."""
HEIGHT = 4.9
"""The height of the three parts, in inches."""
MAP = LinearSegmentedColormap.from_list("map", ["#fdfdfd", "#7c8ca8"])
"""The colours of λ_n below coloured particles: the lighter, the simpler."""

_QUIET = 30.0
"""The largest F, above its least, at which a map is drawn: beyond, rounding shows."""
_JITTER = 0.008
"""The standard deviation, in widths of the view, by which drawn solutions are moved, so that equal ones show."""
_TITLE = f"ends of gradient flow (dots moved at random by {_JITTER:.1%})"
_TIES = 10
"""The least range of a score that is drawn, in ties."""
_MOST = 800
"""The most solutions drawn of each population."""


def simplicity(tree: xr.DataTree) -> Figure:
    """Return the picture of the answer: solutions on λ_n, distributions of the scores, preferences over the radii.

    Raises InputError if the tree is not the record of a run.
    """
    scene = Scene.of(tree)
    with style():
        result, place = canvas(scene, sum(WIDTHS), HEIGHT)
        draw_answer(result, place, scene)
        write_words(result, scene, answer_handles(scene))
    return result


def save_simplicity(tree: xr.DataTree, path: str | Path) -> None:
    """Write `simplicity(tree)` to a .png, .pdf or .svg file, whole or not at all. Raises InputError and OSError."""
    write_figure(simplicity(tree), path)


def draw_answer(result: Figure, place: SubplotSpec, scene: Scene) -> None:
    """Draw the three parts side by side."""
    grid = place.subgridspec(1, 3, width_ratios=WIDTHS)
    if not scene.shows_loss or len(scene.box) > 2:
        _draw_views(result, grid[0, 0], scene)
    elif len(scene.box) == 1:
        _draw_line(result, grid[0, 0], scene)
    else:
        _draw_map(result, grid[0, 0], scene)
    _draw_distributions(result, grid[0, 1], scene)
    _draw_preferences(result, grid[0, 2], scene)


def answer_handles(scene: Scene) -> dict[str, Any]:
    """Return the legend of the three parts: labels with their handles."""
    factors = scene.comparison.nbeta_factor.values
    marks = {f"preference at {factor:g} n".replace(" 1 n", " n"): _mark(k) for k, factor in enumerate(factors)}
    return {POSTERIOR: population_handle(INK)} | {label: Line2D([], [], color=GREY, **m) for label, m in marks.items()}


def _sources(scene: Scene) -> dict[str, tuple[str, xr.Dataset]]:
    """Return colour and record of the posterior and of each population, by name."""
    populations = {name: (scene.colours[name], data) for name, data in scene.populations.items()}
    return {POSTERIOR: (INK, scene.posterior), **populations}


def _score(data: xr.Dataset, score: str) -> Array:
    """Return a score of each solution, (scored,), at nbeta and the middle radius; nan if it was not reached."""
    return np.asarray(data[score].isel(nbeta_factor=0, radius=data.sizes["radius"] // 2).values, dtype=np.float64)


def _weights(data: xr.Dataset) -> Array:
    """Return the weight of each solution, (scored,); their sum is 1."""
    count = data.sizes["scored"]
    return np.asarray(data["scored_weight"]) if "scored_weight" in data else np.full(count, 1 / max(count, 1))


def _chosen(data: xr.Dataset) -> npt.NDArray[np.intp]:
    """Return the numbers of at most _MOST solutions of equal weight."""
    count = min(_MOST, data.sizes["scored"])
    marks = (np.arange(count) + 0.5) / max(count, 1)
    return np.searchsorted(np.cumsum(_weights(data)), marks).clip(max=data.sizes["scored"] - 1)


def _scores(scene: Scene, score: str) -> dict[str, Array]:
    """Return a score of each solution of each source; see `_score`."""
    return {name: _score(data, score) for name, (_, data) in _sources(scene).items()}


def _range(scores: list[Array], score: str) -> tuple[float, float]:
    """Return a range that almost all values are in. It is wide beside a tie, so that no trifle looks large."""
    known = [values[np.isfinite(values)] for values in scores]
    known = [values for values in known if len(values)] or [np.zeros(1)]
    low, high = (pick([np.quantile(values, q) for values in known]) for pick, q in ((min, 0.0), (max, 0.98)))
    pad = max(0.05 * (high - low), (_TIES * TIES[score] - (high - low)) / 2)
    # Numbers that cannot be negative get no negative range.
    return float(max(low - pad, min(low, 0.0))), float(high + pad)


def _norm(scene: Scene) -> Normalize:
    """Return the range of the colours of λ_n: almost all solutions have one within it."""
    return Normalize(*_range(list(_scores(scene, "local_learning_coefficient").values()), "local_learning_coefficient"))


def _moved(points: Array, view: Array) -> Array:
    """Return points (N, axes) moved at random by about _JITTER, the same at each call."""
    steps = np.random.default_rng(0).normal(0, _JITTER, points.shape)
    return np.clip(points + steps * (view[:, 1] - view[:, 0]), *view.T)


def _radius(scene: Scene) -> str:
    radii = scene.comparison.radius.values
    return f"radius {radii[len(radii) // 2]:.3g}"


def _draw_map(result: Figure, place: SubplotSpec, scene: Scene) -> None:
    """Draw the solutions on the map of λ_n over two parameters."""
    axes = result.add_subplot(place)
    data, norm = scene.posterior, _norm(scene)
    energy = data.map_free_energy.values
    values = np.where(energy - np.nanmin(energy) > _QUIET, np.nan, data.map_local_learning_coefficient.values)
    axes.set_facecolor("#e4ddd3")
    levels = np.linspace(norm.vmin or 0, norm.vmax or 1, 11)
    filled = axes.contourf(data.map_x, data.map_y, values, levels, norm=norm, cmap=MAP, extend="both", zorder=0)
    points = {name: _solutions(scene, source) for name, (_, source) in _sources(scene).items()}
    for j, name in turns(list(points)):
        colour, size = _sources(scene)[name][0], marker_size(len(points) * len(points[name]))
        seen = points[name][j :: 2 * len(points)]
        axes.plot(*seen.T, "o", ms=size, mew=0.3, mec="white", color=colour, alpha=0.75, zorder=9)
    draw_zero_set(axes, scene, 2)
    set_view(axes, scene)
    bar = result.colorbar(filled, ax=axes, shrink=0.75, pad=0.02, format="%.2g")
    bar.set_label(f"λₙ at {_radius(scene)}; lighter is simpler")
    axes.set_title(_TITLE)


def _solutions(scene: Scene, data: xr.Dataset) -> Array:
    """Return solutions inside the view, moved a little, (N, axes)."""
    points = scene.seen(data.solution.values[_chosen(data)].astype(np.float64))
    inside = ((points >= scene.view[:, 0]) & (points <= scene.view[:, 1])).all(axis=1)
    return _moved(points[inside], scene.view)


def _draw_line(result: Figure, place: SubplotSpec, scene: Scene) -> None:
    """Draw λ_n over a single parameter and, below, a row of solutions for each source."""
    halves = place.subgridspec(2, 1, height_ratios=[1.2, 1])
    upper, lower = (result.add_subplot(halves[k, 0]) for k in (0, 1))
    data = scene.posterior
    energy = data.map_free_energy.values
    shown = np.where(energy - np.nanmin(energy) > _QUIET, np.nan, data.map_local_learning_coefficient.values)
    upper.plot(data.map_x, shown, color=GREY, lw=1.8)
    low, high = _range(list(_scores(scene, "local_learning_coefficient").values()), "local_learning_coefficient")
    upper.set_ylim(low, high + (high - low))
    upper.set_ylabel("local learning coefficient λₙ")
    upper.set_title(f"λₙ at {_radius(scene)}")
    random = np.random.default_rng(1)
    for row, (colour, source) in enumerate(_sources(scene).values()):
        points = _solutions(scene, source)[:, 0]
        size = marker_size(3 * len(points))
        lower.plot(points, row + random.uniform(-0.3, 0.3, len(points)), "o", ms=size, mew=0, color=colour, alpha=0.5)
    _name_rows(lower, list(_sources(scene)))
    lower.set_title(_TITLE)
    for axes in (upper, lower):
        set_view(axes, scene)


def _name_rows(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), [wrapped(name, 14) for name in names], parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)


def _draw_views(result: Figure, place: SubplotSpec, scene: Scene) -> None:
    """Draw the solutions over the view, coloured by λ_n, one panel per source."""
    sources, norm = _sources(scene), _norm(scene)
    columns = math.ceil(math.sqrt(len(sources)))
    grid = place.subgridspec(-(-len(sources) // columns), columns)
    panels = []
    for k, (name, (_, data)) in enumerate(sources.items()):
        axes = result.add_subplot(grid[k // columns, k % columns])
        chosen = _chosen(data)
        points = _moved(scene.seen(data.solution.values[chosen].astype(np.float64)), scene.view)
        values = _score(data, "local_learning_coefficient")[chosen]
        size = (0.8 * marker_size(len(points))) ** 2
        lost = np.isnan(values)
        axes.scatter(points[lost, 0], points[lost, 1], s=size, marker="x", color=GREY, lw=0.6)
        x, y = points[~lost].T
        axes.scatter(x, y, c=values[~lost], s=size, norm=norm, cmap="viridis", lw=0)
        axes.set_title(wrapped(f"solutions of {name}", 24), parse_math=False)
        set_view(axes, scene)
        if k + columns < len(sources):
            axes.set_xlabel("")
            axes.tick_params(labelbottom=False)
        if k % columns:
            axes.set_ylabel("")
            axes.tick_params(labelleft=False)
        panels.append(axes)
    bar = result.colorbar(ScalarMappable(norm, "viridis"), ax=panels, shrink=0.75, pad=0.02, extend="both")
    bar.set_label(f"λₙ of the solutions at {_radius(scene)}; darker is simpler; × not reached")


def _draw_distributions(result: Figure, place: SubplotSpec, scene: Scene) -> None:
    """Draw the share of solutions at most this complex, for both scores; solutions not reached count above all."""
    grid = place.subgridspec(2, 1)
    for k, (score, label) in enumerate(SCORES.items()):
        axes = result.add_subplot(grid[k, 0])
        scores = _scores(scene, score)
        low, high = _range(list(scores.values()), score)
        axes.set_xlim(low, high)
        axes.locator_params(axis="x", nbins=6)
        for name, values in scores.items():
            ink, data = _sources(scene)[name]
            x, y = ladder(values, _weights(data))
            width = 2.6 if name == POSTERIOR else 1.5
            axes.step([low, *x, max(high, *x)], [0, *y, *y[-1:], 0][: len(x) + 2], where="post", color=ink, lw=width)
        axes.set_ylim(0, 1.03)
        axes.set_xlabel(f"{label}, {_radius(scene)}")
        axes.set_ylabel("share at or below")
        if k == 0:
            axes.set_title("solutions: left is simpler")


def ladder(values: Array, weights: Array) -> tuple[Array, Array]:
    """Return the different finite values and the weight of all values up to each: nan counts as larger than all."""
    finite = np.isfinite(values)
    known, place = np.unique(values[finite], return_inverse=True)
    return known, np.cumsum(np.bincount(place, weights[finite], len(known)))


def _draw_preferences(result: Figure, place: SubplotSpec, scene: Scene) -> None:
    """Draw the preference over the radii: a row per score, a column per reference."""
    grid = place.subgridspec(2, len(AGAINST))
    for i, score in enumerate(SCORES):
        for j, reference in enumerate(AGAINST):
            axes = result.add_subplot(grid[i, j])
            _draw_preference(axes, scene, score, reference)
            if i == 0:
                axes.set_title(wrapped(f"against {NAMES[reference]}", 26))
                axes.tick_params(labelbottom=False)
            else:
                axes.set_xlabel("radius (prior scales)")
            if j == 0:
                axes.set_ylabel(f"preference by {SYMBOLS[score]}\n(above 0: simpler)")
            else:
                axes.tick_params(labelleft=False)


def _draw_preference(axes: Axes, scene: Scene, score: str, reference: str) -> None:
    radii = scene.comparison.radius.values
    axes.axhline(0, color=INK, lw=0.8)
    for x, colour, factor, row in _curves(scene, score, reference):
        middle, low, high = row
        # Rounding can put an end of an interval on the wrong side of the estimate.
        reach = np.maximum([middle - low, high - middle], 0)
        axes.errorbar(x, middle, reach, color=colour, elinewidth=1, lw=1.2, **_mark(factor))
    axes.set_xscale("log")
    axes.set_xlim(radii[0] / 1.3, radii[-1] * 1.3)
    axes.set_xticks(radii, [f"{radius:.3g}" for radius in radii])
    axes.minorticks_off()
    axes.set_ylim(-1.08, 1.08)


def _curves(scene: Scene, score: str, reference: str) -> Iterator[tuple[Array, str, int, Array]]:
    """Yield abscissae, colour, number of the factor, and preference (bound, radius) of each curve, side by side."""
    table = scene.comparison.preference.sel(reference=reference, score=score, bound=list(BOUNDS))
    table = table.transpose("population", "nbeta_factor", "bound", "radius")
    for k, (name, colour) in enumerate(scene.colours.items()):
        shift = 1.05 ** (k - (len(scene.colours) - 1) / 2)
        for factor, row in enumerate(table.sel(population=name).values):
            yield table.radius.values * shift, colour, factor, row


def _mark(factor: int) -> dict[str, Any]:
    """Return the style of a curve at the given entry of `nbeta_factor`."""
    return (
        {"marker": "o", "ms": 4.5, "ls": "-"} if factor == 0 else {"marker": "o", "ms": 4.5, "ls": ":", "mfc": "white"}
    )
