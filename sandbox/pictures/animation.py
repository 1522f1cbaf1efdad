"""The animation of a run, as a GIF: fixed artists are drawn once, and only changed pixels are written.

Each frame restores the still layer and draws the moving artists on it. All frames share one palette. A frame of the
file holds only the pixels that differ from the frame before; the others are transparent.
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

from sandbox.model.strata import DIVERGED
from sandbox.pictures.ground import draw_curve, draw_ground
from sandbox.pictures.panels import (
    AlongStratum,
    Cloud,
    Moving,
    Piles,
    Shares,
    population_handle,
    set_time_axis,
    share_top,
    zero_set_handle,
)
from sandbox.pictures.scene import INK, PALE, Scene, wrapped
from sandbox.pictures.style import prepare, style
from sandbox.tools.errors import InputError
from sandbox.tools.whole import write_whole

Pixels = npt.NDArray[np.uint8]
Packed = npt.NDArray[np.uint32]

MAX_FRAMES = 100
"""The default for the most frames; if more times are recorded, evenly spaced ones are shown."""
SIZE, DPI = (9.0, 4.5), 100
"""The size in inches, and dots per inch: 900 x 450 pixels."""
HOLD = 2.0
"""The duration of the last frame, in seconds, before the animation starts again."""
COLOURS = 255
"""The number of colours of the palette; the remaining index of 256 means "unchanged"."""

_EXACT = 96
"""The number of palette colours that are exact; each of the others stands for several similar colours."""
_ALONG, _STRATA = 3, 4
"""The most strata with histograms and with shares: those with the largest share. An animation has room for few."""
_CHARACTERS = 130
"""The number of characters, at the legend's font size, that fit into one line."""
_DASHES = ("-", "--", ":", "-.")


def animate(tree: xr.DataTree, path: str | Path, *, frames: int | None = None, fps: float = 15) -> None:
    """Write a run as a GIF that loops: particles on the loss, histograms along W0, occupancies over time.

    `frames` is the most frames shown, `fps` the number per second (1 to 50). The file is written whole or not at all,
    and is the same, bit by bit, for the same tree. Raises InputError if a number is out of range or the tree is not a
    run's record, OSError if the file cannot be written.
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
    """Return at most `most` of the numbers below `count`, evenly spaced, with the last and, if two fit, the first."""
    places = np.unique(np.linspace(count - 1, 0, min(count, most)).round().astype(int))
    return [int(k) for k in places]


class Film:
    """The frames of a run. `shown` are the numbers of the recorded times that will be drawn."""

    def __init__(self, scene: Scene, shown: Sequence[int]):
        self.scene, self.shown = scene, shown
        self.figure = Figure(figsize=SIZE, dpi=DPI)
        # Matplotlib's canvas has no type annotations.
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
        """All moving artists, from back to front."""
        return (artist for panel in self.panels for artist in panel.artists)

    def frame(self, k: int) -> Packed:
        """Return the picture at the k-th recorded time, shape (450, 900): one 32-bit RGBA word per pixel."""
        self.canvas.restore_region(self.still)
        for panel in self.panels:
            panel.show(k)
        for artist in self.artists:
            self.figure.draw_artist(artist)
        return np.array(self.canvas.buffer_rgba()).view("<u4")[..., 0]

    def _landscape(self, place: SubplotSpec) -> Moving:
        """Draw the loss; return the particles on it, or, for a single parameter, their histograms beside it."""
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
        """Return the panels along the largest strata, or a panel of shares if no stratum has a position along it."""
        scene = self.scene
        if not scene.along_strata:
            return [Shares(self.figure.add_subplot(place), scene)]
        names = largest(scene, scene.along_strata, _ALONG)
        grid = place.subgridspec(1, len(names))
        panels: list[Moving] = []
        drawn = [self.figure.add_subplot(grid[0, k]) for k in range(len(names))]
        for axes, name in zip(drawn, names, strict=True):
            panels.append(AlongStratum(axes, scene, name, self.shown))
            axes.set_title(wrapped(f"along {name}", 18), parse_math=False)
            axes.set_xlabel(wrapped(scene.position_along(name), 18), parse_math=False)
            axes.set_ylabel(axes.get_ylabel() if axes is drawn[0] else "")
        share_top(drawn)
        return panels

    def _shares(self, place: SubplotSpec) -> Moving:
        """Draw the occupancies of the largest strata over time; return the moving time cursor."""
        scene, axes = self.scene, self.figure.add_subplot(place)
        set_time_axis(axes, scene)
        strata = [name for name in scene.strata if name != DIVERGED]
        for stratum, dashes in zip(largest(scene, strata, _STRATA), _DASHES, strict=False):
            axes.plot([], [], color=INK, ls=dashes, lw=1, label=wrapped(stratum, 14))
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
        self.figure.suptitle(wrapped(scene.scenario.question, 110), fontsize=10, parse_math=False)
        handles: list[Artist] = [population_handle(colour) for colour in scene.colours.values()]
        handles += [Patch(facecolor=PALE, edgecolor=INK, lw=0.8), zero_set_handle()]
        words = [
            *(wrapped(scene.caption(name, view=False), 40) for name in scene.colours),
            "posterior",
            "W0, the true parameters",
        ]
        widest = max(len(line) for word in words for line in word.split("\n"))
        columns = max(1, min(len(words), _CHARACTERS // (8 + widest)))
        self.figure.legend(handles, words, loc="outside lower center", ncols=columns, frameon=False, borderaxespad=0)


def _clock(axes: Axes) -> Text:
    """Return an empty text above the axes; the layout keeps its place free, as for a title."""
    axes.set_title(" ", loc="left")
    return axes.text(0, 1.02, "", transform=axes.transAxes, weight="bold", va="bottom", zorder=10)


class Cursor:
    """The time of the picture: a line on the occupancies, and the step as text."""

    def __init__(self, scene: Scene, line: Line2D, clock: Text):
        self.scene, self.line, self.clock = scene, line, clock
        self.artists: list[Artist] = [line, clock]

    def show(self, frame: int) -> None:
        """Set the cursor to a recorded time."""
        step = int(self.scene.times[frame])
        self.line.set_xdata([step, step])
        self.clock.set_text(f"step {step:,}")


def largest(scene: Scene, names: Sequence[str], most: int) -> list[str]:
    """Return the at most `most` strata with the largest share of the posterior or, at the end, of a population."""
    shares = np.max([scene.occupancy(name)[-1] for name in scene.populations], axis=0)
    held = {
        name: max(float(share), float(scene.posterior.mass.sel(stratum=name)))
        for name, share in zip(scene.strata, shares, strict=True)
    }
    kept = sorted(names, key=lambda name: -held[name])[:most]
    return [name for name in names if name in kept]


class Palette:
    """A palette of at most COLOURS colours, for packed frames: 32-bit words as on the canvas, alpha included."""

    def __init__(self, frames: Sequence[Packed]):
        packed, counts = np.unique(np.concatenate([frame.ravel() for frame in frames]), return_counts=True)
        order = np.argsort(-counts, kind="stable")
        # Frequent colours, which fill areas, are exact; rare ones, at edges and overlaps of particles, share the rest.
        exact, rare = order[:_EXACT], order[_EXACT:]
        self.colours = _channels(packed[exact])
        if len(rare):
            # Without the logarithm the most frequent shades would dominate, and thin lines would lose their colour.
            weighted = np.repeat(_channels(packed[rare]), np.log2(counts[rare]).astype(int) + 1, axis=0)
            cut = Image.fromarray(weighted[None]).quantize(COLOURS - len(exact), Image.Quantize.MEDIANCUT)
            self.colours = np.concatenate([self.colours, np.array(cut.getpalette(), np.uint8).reshape(-1, 3)])
        self._tree = cKDTree(self.colours.astype(np.float64))
        self._known = np.zeros(1 << 24, np.uint8)
        self._is_known = np.zeros(1 << 24, np.bool_)

    def indices(self, frame: Packed) -> Pixels:
        """Return the number of the nearest colour for each pixel of a packed frame, shape (H, W)."""
        words = frame & 0xFFFFFF
        new = np.unique(words[~self._is_known[words]])
        if len(new):
            self._known[new] = self._tree.query(_channels(new).astype(np.float64))[1]
            self._is_known[new] = True
        known: Pixels = self._known[words]
        return known


def _channels(packed: Packed) -> Pixels:
    """Return red, green and blue of packed pixels (N,) as bytes, shape (N, 3)."""
    return np.ascontiguousarray(packed.astype("<u4")).view(np.uint8).reshape(-1, 4)[:, :3]


def gif(frames: Iterable[Pixels], colours: Pixels, seconds: Sequence[float]) -> bytes:
    """Return a GIF (version 89a), an endless loop that shows each frame of colour numbers (H, W) for its `seconds`.

    `colours` has a row of red, green and blue for each number: shape (C, 3), at most COLOURS rows.

    Format: CompuServe, "Graphics Interchange Format, Version 89a", 1990; the loop is Netscape's extension.
    """
    table = colours.tobytes().ljust(768, b"\0")
    parts: list[bytes] = []
    for (corner, delta), time in zip(deltas(frames), seconds, strict=True):
        if not parts:
            # Flags: a global table of 2^8 colours, 8 bits each.
            parts = [b"GIF89a", struct.pack("<HHBBB", *delta.shape[::-1], 0xF7, 0, 0), table]
            parts += [b"\x21\xff\x0bNETSCAPE2.0", struct.pack("<BBHB", 3, 1, 0, 0)]
        # GIF times are hundredths of a second. Disposal 1 keeps the picture, and the next frame is drawn over it.
        milliseconds = 10 * round(100 * time)
        image = Image.fromarray(delta)
        parts += getdata(image, corner, duration=milliseconds, disposal=1, transparency=COLOURS, interlace=0)
    return b"".join([*parts, b";"])


def deltas(frames: Iterable[Pixels]) -> Iterator[tuple[tuple[int, int], Pixels]]:
    """Yield, for each frame of colour numbers (H, W), the corner (x, y) and pixels of the box that changed.

    Inside the box COLOURS means "unchanged". The first box is the whole frame; without any change it is one pixel.
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
