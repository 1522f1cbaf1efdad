"""What lies below the particles: the loss or the posterior's density, the axes of the view, and W0."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, LinearSegmentedColormap
from scipy.spatial import cKDTree

from sandbox.pictures.scene import GREY, INK, Scene, wrapped
from sandbox.tools.arrays import Array

LANDSCAPE = LinearSegmentedColormap.from_list("landscape", ["#fdfdfd", "#a3b1c6"])
"""The colours of the loss: one hue with evenly falling lightness, light enough for particles to stand out."""
DENSITY = LinearSegmentedColormap.from_list("density", ["#ffffff", "#8f9db3"])
"""The colours of the posterior's density, if it is drawn instead of the loss."""
ON_TOP = 10
"""The drawing order (zorder) of moving artists: above all fixed ones."""

_BANDS = 10
"""The number of bands of the loss between its contours."""
_CELLS = 30
"""The number of cells of the posterior's density along each axis."""


def label_spot(candidates: Array, view: Array, lines: Sequence[Array], labels: Sequence[Array]) -> Array:
    """Return the one of `candidates` (M, 2), near the view's middle, far from `lines` and `labels`; shape (2,).

    `lines` are points of anything that a text would hide.
    """
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
    """Fill the view with the excess loss."""
    x, y, excess = scene.least_excess()
    positive = excess[excess > 0]
    if not positive.size or not np.ptp(positive):
        return None
    levels = contour_levels(positive, float(scene.posterior.nbeta))
    norm = BoundaryNorm(levels, LANDSCAPE.N, extend="both")
    # Contours need finite heights: nan is drawn above the top level, zero and negative values below the bottom level.
    filled = np.nan_to_num(np.maximum(excess, 0.1 * levels[0]), nan=10 * levels[-1])
    return axes.contourf(x, y, filled, levels, norm=norm, cmap=LANDSCAPE, extend="both")


def contour_levels(excess: Array, nbeta: float) -> Array:
    """Return levels of positive losses on a grid: half even in the logarithm, half even in the area between contours.

    Even logarithms alone leave a plain in one colour, even areas alone a valley: between them no band covers more than
    a fifth of the view, nor of the decades.
    """
    logs = np.sort(np.log10(excess), axis=None)
    # A steep corner must not use up the colours, and the posterior does not distinguish losses below about 1 / nbeta.
    high = np.quantile(logs, 0.995)
    low = min(max(logs[0], np.log10(0.1 / nbeta)), high - 0.5)
    fine = np.linspace(low, high, 2000)
    below = np.searchsorted(logs, fine) / len(logs)
    place = (below - below[0]) / max(below[-1] - below[0], 1e-9) + (fine - low) / (high - low)
    return 10 ** np.interp(np.linspace(0, place[-1], _BANDS + 1), place, fine)


def excess_label(scene: Scene) -> str:
    """Return the symbol of the excess loss, with its unit."""
    unit = " (nats per sample)" if scene.scenario.problem.loss.residual_jacobian else ""
    return ("Kₙ" if scene.excess_name == "K_n" else "K") + unit


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
    names = [wrapped(quantity.name, 40) for quantity in scene.axes]
    axes.set_xlim(*map(float, scene.view[0]))
    axes.set_xlabel(names[0], parse_math=False)
    if len(names) > 1:
        axes.set_ylim(*map(float, scene.view[1]))
        axes.set_ylabel(names[1], parse_math=False)
        axes.set_box_aspect(1)


def draw_zero_set(axes: Axes, scene: Scene, width: float = 9) -> list[Artist]:
    """Draw the strata of W0, curves as bands of this width; return isolated points and names, to be drawn on top."""
    view = scene.view
    strata = scene.scenario.problem.zero_set.strata
    groups = [_inside(scene.seen(scene.stratum_points(k)), view) for k in range(len(strata))]
    crowd = [_inside(scene.seen(scene.positions(name, -1)), view) for name in scene.populations]
    spots: list[Array] = []
    top: list[Artist] = []
    for k, (stratum, points) in enumerate(zip(strata, groups, strict=True)):
        if not len(points):
            continue
        if (np.ptp(points, axis=0) < 1e-6 * np.diff(view, axis=1)[:, 0]).all():
            points = points[:1]
            top += axes.plot(*points.T, "D", ms=8, mfc="none", mec=INK, mew=1.2, zorder=ON_TOP + 1)
        else:
            wide = _scattered(points, view)
            # The sides of a band stay visible below the particles on it.
            for part, size in ((points[~wide], width), (points[wide][::3], 2)):
                axes.plot(*part.T, ".", ms=size, mew=0, color=GREY, zorder=2, label=stratum.name)
        others = [group for group in (*groups[:k], *groups[k + 1 :], *crowd) if len(group)]
        spot = label_spot(points, view, others, [label[None] for label in spots])
        row = sum(bool((np.abs(label - spot) < 0.06 * np.diff(view, axis=1)[:, 0]).all()) for label in spots)
        # The name points towards the middle; at the upper edge it goes below its point, to avoid the title.
        right, below = bool(spot[0] > view[0].mean()), bool(spot[1] > view[1] @ (0.08, 0.92))
        top.append(_name(axes, stratum.name, spot, right=right, below=below, row=row))
        spots.append(spot)
    return top


def _inside(points: Array, view: Array) -> Array:
    return points[((points >= view[:, 0]) & (points <= view[:, 1])).all(axis=1)]


def _scattered(points: Array, view: Array) -> npt.NDArray[np.bool_]:
    """Return which of the points (N, 2) lie on a surface, not on a curve, by the distance to the third neighbour.

    It is about 1 / sqrt(N) on a surface, 1 / N on a curve.
    """
    unit = (points - view[:, 0]) / (view[:, 1] - view[:, 0])
    third = np.ravel(cKDTree(unit).query(unit, [min(4, len(unit))])[0])
    wide: npt.NDArray[np.bool_] = third > 0.12 / np.sqrt(len(unit))
    return wide


def _name(axes: Axes, name: str, spot: Array, *, right: bool, below: bool, row: int) -> Artist:
    """Write a stratum's name next to a point: to its left if `right`, under it if `below`, moved by `row` lines."""
    return axes.annotate(
        name,
        (float(spot[0]), float(spot[1])),
        xytext=(-8 if right else 8, -14 - 11 * row if below else 7 + 11 * row),
        textcoords="offset points",
        ha="right" if right else "left",
        fontsize=8.5,
        zorder=ON_TOP + 2,
        parse_math=False,
        bbox={"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 0.8},
    )
