"""What all pictures share: their look, and how they come onto disk."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from sandbox.errors import InputError, nearest
from sandbox.scene import FONT

FORMATS: dict[str, dict[str, None]] = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
"""What a figure can be saved as, with the metadata to leave out, so that the same run gives the same bytes."""
DPI = 130

_STYLE = {
    "font.family": FONT,
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "svg.hashsalt": "sandbox",
}


@contextmanager
def style() -> Iterator[None]:
    """Draw with the project's settings whatever the user's own are; they come back afterwards."""
    # The backend is nobody's to change here, and setting it would start one.
    settings: Any = {key: value for key, value in mpl.rcParamsDefault.items() if not key.startswith("backend")}
    with mpl.rc_context(settings | _STYLE):
        yield


def write_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure to a .png, .pdf or .svg file, whole or not at all. Raises InputError and OSError."""
    kind = Path(path).suffix[1:].lower()
    if kind not in FORMATS:
        allowed = ", ".join(f".{name}" for name in FORMATS)
        raise InputError(f"'{path}' does not end like a picture{nearest(kind, FORMATS)}; allowed: {allowed}")
    buffer = io.BytesIO()
    with style():
        figure.set_dpi(DPI)
        engine = figure.get_layout_engine()
        if engine is not None:
            # `savefig` would lay out too, and then draw all of it twice.
            engine.execute(figure)
            figure.set_layout_engine(None)
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=FORMATS[kind])
        figure.set_layout_engine(engine)
    write_whole(path, buffer.getvalue())


def write_whole(path: str | Path, data: bytes) -> None:
    """Write a file beside its place, then move it there: it is never seen half-written. Raises OSError."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
