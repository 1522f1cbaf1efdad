"""The moving picture of a run, as a GIF: what stays is drawn once, and only what changed is written.

Each frame restores the still layer and draws the moving artists on it. All frames share one palette, and a frame holds
only the pixels that differ from the one before; the rest is transparent.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from PIL import Image
from PIL.GifImagePlugin import getdata
from scipy.spatial import cKDTree

from sandbox.drawing import (
    INK,
    PALE,
    Arm,
    Cloud,
    Moving,
    Piles,
    Shares,
    draw_curve,
    draw_ground,
    population_handle,
    set_time_axis,
    zero_set_handle,
)
from sandbox.errors import InputError
from sandbox.picture import prepare, style, write_whole
from sandbox.scene import Scene, shortened, wrapped
from sandbox.zero_set import DIVERGED

Pixels = npt.NDArray[np.uint8]
Packed = npt.NDArray[np.uint32]

MAX_FRAMES = 100
"""Most frames shown unless said; of more recorded times they are an even choice."""
SIZE, DPI = (9.0, 4.5), 100
"""Inches, and dots per inch: 900 x 450 pixels."""
HOLD = 2.0
"""Seconds for which the last frame stays before the picture starts again."""
COLOURS = 255
"""Colours of the palette; the one index that is left means "as before"."""

_EXACT = 96
"""Colours of the palette that are taken as they are; the others stand for several."""
_ARMS, _STRATA = 3, 4
"""Most arms and strata shown: those with the largest share. A moving picture has room for few."""
_CHARACTERS = 130
"""How many characters of the legend's size fit beside each other."""
_DASHES = ("-", "--", ":", "-.")


def animate(tree: xr.DataTree, path: str | Path, *, frames: int | None = None, fps: float = 15) -> None:
    """Write a run as a GIF that loops: particles on the loss, histograms along W0, occupancies over time.

    `frames` is the most that are shown, `fps` how many a second. The file is written whole or not at all, and is the
    same, bit by bit, for the same tree. Raises InputError where a number is out of range, OSError where it cannot be
    written.
    """
    if frames is not None and frames < 1:
        raise InputError(f"found {frames} frames; allowed: 1 or more")
    if not 1 <= fps <= 50:
        raise InputError(f"found {fps:g} frames a second; allowed: 1 to 50")
    scene = Scene.of(tree)
    shown = chosen(len(scene.times), frames or MAX_FRAMES)
    seconds = [1 / fps] * (len(shown) - 1) + [HOLD]
    with style():
        film = Film(scene, shown)
        samples = {shown[k]: film.frame(shown[k]) for k in chosen(len(shown), 5)}
        palette = Palette(list(samples.values()))
        drawn = (samples[k] if k in samples else film.frame(k) for k in shown)
        data = gif(map(palette.indices, drawn), palette.colours, seconds)
    write_whole(path, data)


def chosen(count: int, most: int) -> list[int]:
    """Return at most `most` of the numbers below `count`, evenly: the last one, and the first if there are two."""
    places = np.unique(np.linspace(count - 1, 0, min(count, most)).round().astype(int))
    return [int(k) for k in places]


class Film:
    """The frames of a run. `shown` are the recorded times, by number, that will be asked for."""

    def __init__(self, scene: Scene, shown: Sequence[int]):
        self.scene, self.shown = scene, shown
        self.figure = Figure(figsize=SIZE, dpi=DPI)
        # Matplotlib has not typed its canvas.
        self.canvas: Any = FigureCanvasAgg(self.figure)
        self.figure.set_layout_engine("constrained", w_pad=0.05, h_pad=0.04)
        grid = self.figure.add_gridspec(2, 2, width_ratios=[1, 1.12], height_ratios=[1, 1])
        self.panels: list[Moving] = [self._landscape(grid[:, 0]), *self._along(grid[0, 1]), self._shares(grid[1, 1])]
        self._words()
        prepare(self.figure)
        self._draw_still()

    def _draw_still(self) -> None:
        for artist in self.artists:
            artist.set_animated(True)
        self.canvas.draw()
        self.still = self.canvas.copy_from_bbox(self.figure.bbox)

    @property
    def artists(self) -> Iterator[Artist]:
        """All that moves, from back to front."""
        return (artist for panel in self.panels for artist in panel.artists)

    def frame(self, k: int) -> Packed:
        """Return the picture at the k-th recorded time, shape (450, 900), a word for each pixel's RGBA."""
        self.canvas.restore_region(self.still)
        for panel in self.panels:
            panel.show(k)
        for artist in self.artists:
            self.figure.draw_artist(artist)
        return np.array(self.canvas.buffer_rgba()).view("<u4")[..., 0]

    def _landscape(self, place: SubplotSpec) -> Moving:
        """Draw the loss; return the particles on it, or beside it where there is a single parameter."""
        if len(self.scene.view) == 1:
            halves = place.subgridspec(2, 1)
            upper, lower = (self.figure.add_subplot(halves[k, 0]) for k in (0, 1))
            draw_curve(upper, self.scene)
            upper.set_title("")
            self.clock = _clock(upper)
            return Piles(lower, self.scene, self.shown)
        axes = self.figure.add_subplot(place)
        self.clock = _clock(axes)
        draw_ground(axes, self.scene)
        return Cloud(axes, self.scene, crisp=True)

    def _along(self, place: SubplotSpec) -> list[Moving]:
        """Return the panels of the largest arms, or of the strata's shares where there is no arm."""
        scene = self.scene
        if not scene.arms:
            return [Shares(self.figure.add_subplot(place), scene)]
        arms = largest(scene, scene.arms, _ARMS)
        grid = place.subgridspec(1, len(arms))
        panels: list[Moving] = []
        for k, name in enumerate(arms):
            axes = self.figure.add_subplot(grid[0, k])
            panels.append(Arm(axes, scene, name, self.shown))
            axes.set_xlabel(shortened(scene.along(name), 18), parse_math=False)
            axes.set_ylabel("density" if k == 0 else "")
        return panels

    def _shares(self, place: SubplotSpec) -> Moving:
        """Draw the occupancies of the largest strata over time; return the cursor on them."""
        scene, axes = self.scene, self.figure.add_subplot(place)
        set_time_axis(axes, scene)
        strata = [name for name in scene.strata if name != DIVERGED]
        for stratum, dashes in zip(largest(scene, strata, _STRATA), _DASHES, strict=False):
            axes.plot([], [], color=INK, ls=dashes, lw=1, label=shortened(stratum, 14))
            axes.axhline(float(scene.posterior.mass.sel(stratum=stratum)), color=INK, ls=dashes, lw=0.8)
            for name, colour in scene.colours.items():
                axes.plot(scene.times, scene.occupancy(name)[:, scene.strata.index(stratum)], dashes, color=colour)
        axes.set_ylim(0, 1)
        axes.set_ylabel("share of particles")
        above: Any = {"loc": "lower center", "bbox_to_anchor": (0.5, 0.98)}
        axes.legend(**above, ncols=_STRATA, frameon=False, handlelength=2.2, columnspacing=1.2, borderpad=0.2)
        return Cursor(scene, axes.axvline(0, color=INK, lw=1, zorder=10), self.clock)

    def _words(self) -> None:
        scene = self.scene
        self.figure.suptitle(wrapped(scene.scenario.question, 100, 2), fontsize=10, parse_math=False)
        handles: list[Artist] = [population_handle(colour) for colour in scene.colours.values()]
        handles += [Patch(facecolor=PALE, edgecolor=INK, lw=0.8), zero_set_handle()]
        words = [
            *(scene.caption(name, 20, view=False) for name in scene.colours),
            "posterior",
            "W0, the true parameters",
        ]
        columns = max(1, min(len(words), _CHARACTERS // (8 + max(map(len, words)))))
        self.figure.legend(handles, words, loc="outside lower center", ncols=columns, frameon=False, borderaxespad=0)


def _clock(axes: Axes) -> Text:
    """Return an empty text above the axes, in a place that the layout keeps free for it."""
    axes.set_title(" ", loc="left")
    return axes.text(0, 1.02, "", transform=axes.transAxes, weight="bold", va="bottom", zorder=10)


class Cursor:
    """Where in time the picture is: a line on the occupancies, and the step in words."""

    def __init__(self, scene: Scene, line: Line2D, clock: Text):
        self.scene, self.line, self.clock = scene, line, clock
        self.artists: list[Artist] = [line, clock]

    def show(self, frame: int) -> None:
        """Set the cursor to a recorded time."""
        step = int(self.scene.times[frame])
        self.line.set_xdata([step, step])
        self.clock.set_text(f"step {step:,}")


def largest(scene: Scene, names: Sequence[str], most: int) -> list[str]:
    """Return the labels, at most `most`, that hold the largest share of the posterior or, at last, of a population."""
    shares = np.max([scene.occupancy(name)[-1] for name in scene.populations], axis=0)
    held = {
        name: max(float(share), float(scene.posterior.mass.sel(stratum=name)))
        for name, share in zip(scene.strata, shares, strict=True)
    }
    kept = sorted(names, key=lambda name: -held[name])[:most]
    return [name for name in names if name in kept]


class Palette:
    """COLOURS colours for all frames. A frame is packed: 32-bit words as the canvas holds them, alpha included."""

    def __init__(self, frames: Sequence[Packed]):
        packed, counts = np.unique(np.concatenate([frame.ravel() for frame in frames]), return_counts=True)
        order = np.argsort(-counts, kind="stable")
        # What fills areas keeps its colour; what is rare, at edges and where particles overlap, shares the rest.
        exact, rare = order[:_EXACT], order[_EXACT:]
        self.colours = _channels(packed[exact])
        if len(rare):
            # Without the logarithm the commonest shades would win, and thin lines would lose their colour.
            weighted = np.repeat(_channels(packed[rare]), np.log2(counts[rare]).astype(int) + 1, axis=0)
            cut = Image.fromarray(weighted[None]).quantize(COLOURS - len(exact), Image.Quantize.MEDIANCUT)
            self.colours = np.concatenate([self.colours, np.array(cut.getpalette(), np.uint8).reshape(-1, 3)])
        self._tree = cKDTree(self.colours.astype(np.float64))
        self._known = np.zeros(1 << 24, np.uint8)
        self._is_known = np.zeros(1 << 24, np.bool_)

    def indices(self, frame: Packed) -> Pixels:
        """Return the number of the nearest colour for each pixel of a packed frame (H, W)."""
        words = frame & 0xFFFFFF
        new = np.unique(words[~self._is_known[words]])
        if len(new):
            self._known[new] = self._tree.query(_channels(new).astype(np.float64))[1]
            self._is_known[new] = True
        known: Pixels = self._known[words]
        return known


def _channels(packed: Packed) -> Pixels:
    """Return red, green and blue of packed pixels (N,), shape (N, 3)."""
    return np.ascontiguousarray(packed.astype("<u4")).view(np.uint8).reshape(-1, 4)[:, :3]


def gif(frames: Iterable[Pixels], colours: Pixels, seconds: Sequence[float]) -> bytes:
    """Return a GIF (version 89a) that shows each frame of colour numbers (H, W) for its seconds, and loops for ever.

    `colours` has a row of red, green and blue for each number, at most COLOURS rows.

    Format: CompuServe, "Graphics Interchange Format, Version 89a", 1990; the loop is Netscape's extension.
    """
    table = colours.tobytes().ljust(768, b"\0")
    parts: list[bytes] = []
    for (corner, delta), time in zip(deltas(frames), seconds, strict=True):
        if not parts:
            # Flags: a global table of 2^8 colours, 8 bits each.
            parts = [b"GIF89a", struct.pack("<HHBBB", *delta.shape[::-1], 0xF7, 0, 0), table]
            parts += [b"\x21\xff\x0bNETSCAPE2.0", struct.pack("<BBHB", 3, 1, 0, 0)]
        # Times are in hundredths of a second; disposal 1 leaves the picture for the next frame to draw on.
        milliseconds = 10 * round(100 * time)
        image = Image.fromarray(delta)
        parts += getdata(image, corner, duration=milliseconds, disposal=1, transparency=COLOURS, interlace=0)
    return b"".join([*parts, b";"])


def deltas(frames: Iterable[Pixels]) -> Iterator[tuple[tuple[int, int], Pixels]]:
    """Cut frames of colour numbers (H, W) down to what changed: the corner (x, y) of a box, and the box.

    Inside the box COLOURS stands for "as before". The first frame is whole; one that changes nothing is one pixel.
    """
    before: Pixels | None = None
    for frame in frames:
        if before is None:
            yield (0, 0), frame
        else:
            changed = frame != before
            rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
            top, bottom = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 1)
            left, right = (int(columns[0]), int(columns[-1]) + 1) if len(columns) else (0, 1)
            box = (slice(top, bottom), slice(left, right))
            yield (left, top), np.where(changed[box], frame[box], np.uint8(COLOURS))
        before = frame
