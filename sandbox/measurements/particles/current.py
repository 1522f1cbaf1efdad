"""The probability current in a plane of two quantities: it shows whether particles circulate (never in equilibrium).

With detailed balance the mean of x dy - y dx is zero in the stationary law. SGD circulates if its noise does not
commute with the curvature (Chaudhari and Soatto 2018, 1710.11029): for dw = -H w dt + noise of covariance 2 D dt with
stationary covariance S, H S + S H = 2 D, the circulation is E[x dy - y dx]/dt = 2 (H S - D)_12. The estimate from two
frames, (x_t y_t' - y_t x_t') / (t' - t), tends to that as the frames get close; its mean is zero in detailed balance
at any gap. The flux field is the mean displacement through each cell, at the midpoints of pairs of frames (Battle et
al. 2016, Science 352, 604).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xarray as xr
from pydantic import Field
from scipy import special

from sandbox.dynamics.frames import Record
from sandbox.expressions.quantity import Quantity
from sandbox.measurements.base import OfParticles, recorded
from sandbox.measurements.tracks import Track, along, left_out, named
from sandbox.model.labelled import coordinates, labelled, scalar, texts
from sandbox.model.problem import Problem
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError

FEWEST = 4
"""The fewest frames of a run: with fewer, its second half may have no pair of frames."""

_TAIL = 0.005
"""The share of positions that the cells leave out at each end of an axis."""

_LEVEL = 0.01
"""The false-alarm rate of the statement that detailed balance is broken, over all populations together."""


@dataclass(frozen=True)
class Circulation:
    """The mean of (x dy - y dx) per step, its standard error over particles, and their ratio z."""

    mean: float
    error: float
    z: float


def circulation(x: Array, y: Array, times: Array) -> Circulation:
    """Return the circulation of particles at x, y, both (T, P), recorded at `times` (T,), T and P at least 2.

    It is taken about the mean position: in a stationary law this changes only the error.
    """
    x, y = x - x.mean(), y - y.mean()
    turned = (x[:-1] * y[1:] - y[:-1] * x[1:]).sum(axis=0) / (times[-1] - times[0])
    mean, error = float(turned.mean()), float(turned.std(ddof=1)) / math.sqrt(len(turned))
    return Circulation(mean, error, mean / error if error > 0 else math.nan)


def flux(x: Array, y: Array, times: Array, edges: tuple[Array, Array]) -> tuple[Array, Array, Array]:
    """Return the density, and the flux along x and y, in the cells between `edges`: each (cells of x, cells of y).

    Particles at `times` (T,) are at x, y (T, P). The flux is density in the plane times velocity, per step and length.
    """
    x_middle, y_middle = ((values[1:] + values[:-1]).ravel() / 2 for values in (x, y))
    waits = np.repeat(np.diff(times), x.shape[1])
    area = np.multiply.outer(*(np.diff(edge) for edge in edges))
    total = waits.sum() * area

    def summed(values: Array) -> Array:
        cells: Array = np.histogram2d(x_middle, y_middle, bins=list(edges), weights=values)[0] / total
        return cells

    return summed(waits), summed(np.diff(x, axis=0).ravel()), summed(np.diff(y, axis=0).ravel())


class Current(OfParticles):
    """Circulation and flux of particles in a plane, over the second half of the run: is detailed balance broken?"""

    name: ClassVar[str] = "current"
    plane: tuple[str, ...] = Field(
        default=(), strict=False, description="two parameters or derived quantities; unless given, the first two"
    )
    particles: int = Field(default=2000, ge=2, le=10**6, description="particles used, of those that are recorded")
    bins: int = Field(default=16, ge=2, le=200, description="cells of the flux field along each side")

    def check(self, problem: Problem, record: Record | None) -> None:
        """Raise InputError if there are no particles, too few frames, or not two different known names in `plane`."""
        kept = recorded(record)
        self._quantities(problem)
        if kept.frames < FEWEST:
            raise InputError(
                f"the second half of {kept.frames} frames holds no pair; allowed is record.frames: {FEWEST} or more"
            )

    def measure_particles(self, problem: Problem, tracks: Mapping[str, Track]) -> xr.Dataset:
        """Return the circulation and the flux field of each population, along the dimension `source`."""
        quantities = self._quantities(problem)
        moving = {k: t.first_particles(self.particles) for k, t in tracks.items() if t.times is not None}
        planes: dict[str, tuple[Array, Array, Array]] = {}
        for name, track in moving.items():
            half = track.lasting(problem.prior).second_half()
            x, y = (along(half, quantity) for quantity in quantities)
            kept = np.isfinite(x).all(axis=0) & np.isfinite(y).all(axis=0)
            if half.times is not None and len(half.times) > 1 and kept.sum() > 1:
                planes[name] = x[:, kept], y[:, kept], half.times
        gone = left_out(moving, problem.prior)
        if not planes:
            return xr.Dataset(attrs={"summary": f"fewer than two particles are left to follow{gone}"})
        # All populations use the same cells, so that their fields can be compared.
        joined = [np.concatenate([plane[k].ravel() for plane in planes.values()]) for k in (0, 1)]
        edges = (_edges(joined[0], self.bins), _edges(joined[1], self.bins))
        rows = [_row(*plane, edges).assign_coords(source=name) for name, plane in planes.items()]
        found = xr.concat(rows, "source", combine_attrs="override").assign_coords(coordinates(source=texts(planes)))
        limit = float(special.ndtri(1 - _LEVEL / 2 / len(planes)))
        x_name, y_name = (quantity.name for quantity in quantities)
        return found.assign_attrs(x=x_name, y=y_name, summary="; ".join(_said(row, limit) for row in rows) + gone)

    def _quantities(self, problem: Problem) -> list[Quantity]:
        names = self.plane or problem.prior.names[:2]
        if len(set(names)) != 2:
            raise InputError(f"a plane has two different axes; found {', '.join(names)}").within("plane")
        try:
            return named(names, problem.derived, problem.prior.names)
        except InputError as error:
            raise error.within("plane") from None


def _edges(values: Array, bins: int) -> Array:
    low, high = np.quantile(values, [_TAIL, 1 - _TAIL])
    middle, half = (low + high) / 2, max((high - low) / 2, 1e-12 * max(abs(low), abs(high), 1.0))
    return np.linspace(middle - half, middle + half, bins + 1)


def _row(x: Array, y: Array, times: Array, edges: tuple[Array, Array]) -> xr.Dataset:
    turning = circulation(x, y, times)
    fields = flux(x, y, times, edges)
    words = ("density of particles in the plane", "flux along x, per step", "flux along y, per step")
    return xr.Dataset(
        {
            "circulation": scalar(turning.mean, "mean of x dy - y dx", "1/step"),
            "circulation_error": scalar(turning.error, "standard error of circulation, over particles", "1/step"),
            "z": scalar(turning.z, "circulation over its error; beyond about 2 detailed balance is broken"),
            "frame_gap": scalar(float(np.diff(times).mean()), "mean gap between frames", "step"),
            **{
                name: labelled(("cell_x", "cell_y"), field, text)
                for name, field, text in zip(("density", "flux_x", "flux_y"), fields, words, strict=True)
            },
            "edge_x": labelled("edge", edges[0], "cells' edges along x"),
            "edge_y": labelled("edge", edges[1], "cells' edges along y"),
        }
    )


def _said(row: xr.Dataset, limit: float) -> str:
    z, mean, error = (float(row[name]) for name in ("z", "circulation", "circulation_error"))
    verdict = "goes round: no detailed balance" if abs(z) > limit else "no circulation is seen"
    if math.isnan(z):
        verdict = "does not move"
    return f"{row.source.values}: {verdict} ({mean:.3g} ± {1.96 * error:.2g} per step, z = {z:.1f})"
