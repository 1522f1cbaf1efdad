"""The style of all pictures, and how they are written to disk."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter, LogFormatterMathtext

from sandbox.pictures.scene import FONT
from sandbox.tools.errors import InputError, nearest
from sandbox.tools.whole import write_whole

FORMATS: dict[str, dict[str, None]] = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
"""The file formats of a figure, with metadata to leave out so that the same run gives the same bytes."""
DPI = 130

_STYLE = {
    "font.family": FONT,
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    # The usual height of titles. If it is not set, Matplotlib places each title anew at every measurement of the axes.
    "axes.titley": 1.0,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "svg.hashsalt": "sandbox",
}

_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


@contextmanager
def style() -> Iterator[None]:
    """Use the project's Matplotlib settings inside the `with` block, then restore the user's settings."""
    # The backend stays the user's; setting it would also start one.
    settings: Any = {key: value for key, value in mpl.rcParamsDefault.items() if not key.startswith("backend")}
    with mpl.rc_context(settings | _STYLE):
        yield


def power_of_ten(exponent: int) -> str:
    """Return 10 to a power as Unicode text, without mathematical markup."""
    return "10" + str(exponent).translate(_RAISED)


class _Plain(Formatter):
    """A formatter that returns another formatter's text as Unicode, without mathematical markup."""

    def __init__(self, other: LogFormatterMathtext):
        self.other = other

    def set_locs(self, locs: Any) -> None:
        """Pass the positions of the ticks to the other formatter, which omits labels that would crowd the axis."""
        super().set_locs(locs)
        self.other.set_locs(locs)

    def __call__(self, x: float, pos: int | None = None) -> str:
        text = self.other(x, pos).removeprefix(r"$\mathdefault{").removesuffix("}$")
        text = re.sub(r"\^{(.*?)}", lambda power: power[1].translate(_RAISED), text)
        return text.replace(r"\times", "×").replace("-", "−")


def prepare(figure: Figure) -> None:
    """Remove slow, invisible work from the coming layout of a figure: mathematical text, and empty axis labels."""
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        _spell_plainly(axis)
        if not axis.get_label_text():
            # Without fixed coordinates Matplotlib measures all tick labels to place a label that is empty.
            axis.set_label_coords(0, 0)


def _spell_plainly(axis: Axis) -> None:
    """Replace the formatters of a logarithmic axis by plain ones.

    Matplotlib's mathematical text takes a tenth of a second or more to start, in each process that draws.
    """
    for formatter, put in (
        (axis.get_major_formatter(), axis.set_major_formatter),
        (axis.get_minor_formatter(), axis.set_minor_formatter),
    ):
        if isinstance(formatter, LogFormatterMathtext):
            put(_Plain(formatter))


def _round_places(figure: Figure) -> None:
    """Round the places of all panels: the solver of the layout repeats itself only up to about 1e-12."""
    for axes in figure.axes:
        left, low, width, height = (round(float(end), 7) for end in axes.get_position(original=True).bounds)
        axes.set_position((left, low, width, height))
        # `set_position` takes a panel out of the layout.
        axes.set_in_layout(True)


def write_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure to a .png, .pdf or .svg file, whole or not at all. Raises InputError and OSError."""
    kind = Path(path).suffix[1:].lower()
    if kind not in FORMATS:
        allowed = ", ".join(f".{name}" for name in FORMATS)
        raise InputError(f"'{path}' does not end like a picture{nearest(kind, FORMATS)}; allowed: {allowed}")
    buffer = io.BytesIO()
    with style():
        figure.set_dpi(DPI)
        prepare(figure)
        engine = figure.get_layout_engine()
        if engine is not None:
            # With a layout engine `savefig` would draw the figure twice, the first time for the layout.
            engine.execute(figure)
            figure.set_layout_engine(None)
            _round_places(figure)
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=FORMATS[kind])
        figure.set_layout_engine(engine)
    write_whole(path, buffer.getvalue())
