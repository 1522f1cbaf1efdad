"""Quantities that gradient flow conserves, and the rate at which noise reduces them: the law of balance.

If a loss depends on u w only, a step of SGD multiplies u^2 - w^2 by 1 - eta^2 A^2, with A the batch's mean of
dl/d(uw): u^2 - w^2 decays at a rate of about eta^2 E[A^2] per step (Ziyin, Li and Ueda 2023, 2308.06671). Noise
without the symmetry of the loss breaks this law. Gradient flow conserves the quantity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xarray as xr
from pydantic import Field

from sandbox.dynamics.frames import Record
from sandbox.expressions.quantity import QUANTILES, Quantity
from sandbox.measurements.base import OfParticles
from sandbox.measurements.tracks import Track, along, left_out, named, quantiles
from sandbox.model.labelled import coordinates, labelled, texts
from sandbox.model.problem import Problem
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError

RESOLVED = 1e-5
"""Values below this share of the start are not fitted: positions are recorded to seven digits."""

BENT = 4.0
"""If |bend| is beyond this, the decay is not called exponential: a false alarm in 10,000."""

_FITTED, _RESAMPLES = 40, 100
"""The largest number of frames in the fit of the rate, and the number of resamples of the particles for its error."""


@dataclass(frozen=True)
class Decay:
    """The rate of an exponential decay per step, negative for growth, and its bootstrap error; nan if not measurable.

    `bend` is the rate in the first half of the time minus `rate`, in bootstrap errors: it is 0 for an exponential.
    """

    rate: float
    error: float
    bend: float


def decay(ratios: Array, times: Array, seed: int) -> Decay:
    """Return the decay exp(-rate t) of the medians of `ratios` (T, P) to the start, recorded at `times` (T,).

    The line of -log(median) against time goes through 0 at the start. It is fitted by least squares, up to the time
    when the median falls below RESOLVED. The errors are from resampled particles, each with all its frames.
    """
    chosen = np.unique(np.linspace(0, len(times) - 1, _FITTED).round().astype(np.intp))
    ratios, elapsed = ratios[chosen], times[chosen] - times[0]
    rate, change = _rate_and_change(np.median(ratios, axis=1), elapsed)
    random = np.random.Generator(np.random.Philox([seed, 0xBA1A]))
    count = ratios.shape[1]
    again = [
        _rate_and_change(np.median(ratios[:, random.integers(count, size=count)], axis=1), elapsed)
        for _ in range(_RESAMPLES)
    ]
    error, change_error = np.std(again, axis=0, ddof=1)
    return Decay(rate, float(error), change / float(change_error) if change_error > 0 else 0.0)


def _rate_and_change(medians: Array, elapsed: Array) -> tuple[float, float]:
    """Return the slope of -log(medians), and the slope in the first half of the time minus that slope."""
    lost = np.flatnonzero(~(medians > RESOLVED))
    seen = slice(1, lost[0] if len(lost) else None)
    times, logs = elapsed[seen], np.log(medians[seen])
    if not len(times):
        return math.nan, math.nan
    early = times <= max(times[-1] / 2, times[0])
    rate = _slope(times, logs)
    return rate, _slope(times[early], logs[early]) - rate


def _slope(times: Array, logs: Array) -> float:
    return float(-(times @ logs) / (times @ times))


class Conserved(OfParticles):
    """Derived quantities relative to their start, over the run, and the rate at which they decay."""

    name: ClassVar[str] = "conserved"
    quantities: tuple[str, ...] = Field(
        default=(), strict=False, description="names under derived: or parameters; unless given, all under derived:"
    )
    particles: int = Field(default=2000, ge=2, le=10**6, description="particles used, of those that are recorded")

    def check(self, problem: Problem, record: Record | None) -> None:
        """Raise InputError if there are no particles, a name is unknown, or there is no quantity to follow."""
        super().check(problem, record)
        self._chosen(problem)

    def _chosen(self, problem: Problem) -> list[Quantity]:
        names = self.quantities or tuple(quantity.name for quantity in problem.derived)
        if not names:
            raise InputError(
                "no quantity to follow; found nothing under derived:; allowed: at least one, as a**2 - b**2"
            )
        try:
            return named(names, problem.derived, problem.prior.names)
        except InputError as error:
            raise error.within("quantities") from None

    def measure_particles(self, problem: Problem, tracks: Mapping[str, Track]) -> xr.Dataset:
        """Return `rate`, `rate_error`, `bend` over (source, quantity), and quantiles of `ratio` over step too."""
        chosen = self._chosen(problem)
        moving = {k: t.first_particles(self.particles) for k, t in tracks.items() if t.times is not None}
        rows = [_of(track.lasting(problem.prior), chosen, problem.seed) for track in moving.values()]
        if not rows:
            return xr.Dataset(attrs={"summary": "no particles to follow"})
        found = xr.concat(rows, "source").assign_coords(coordinates(source=texts(moving)))
        return found.assign_attrs(summary="; ".join(map(_said, moving, rows)) + left_out(moving, problem.prior))


def _of(track: Track, chosen: list[Quantity], seed: int) -> xr.Dataset:
    times = np.zeros(0) if track.times is None else track.times
    ratio = np.full((len(chosen), len(times), len(QUANTILES)), np.nan)
    rates = np.full((3, len(chosen)), np.nan)
    for k, quantity in enumerate(chosen):
        values = along(track, quantity)
        with np.errstate(all="ignore"):
            ratios = values / values[0]
        # A particle at which the quantity is zero at the start has no ratio.
        ratios = ratios[:, np.isfinite(ratios).all(axis=0)]
        if ratios.shape[1] > 1:
            ratio[k] = quantiles(ratios)
            found = decay(ratios, times, seed)
            rates[:, k] = found.rate, found.error, found.bend
    return xr.Dataset(
        {
            "ratio": labelled(("quantity", "step", "level"), ratio, "value over its value at the start"),
            "rate": labelled("quantity", rates[0], "rate of decay of the median", "1/step"),
            "rate_error": labelled("quantity", rates[1], "bootstrap error of rate, over particles", "1/step"),
            "bend": labelled("quantity", rates[2], "first-half rate minus the rate, in errors of the difference"),
        },
        coordinates(quantity=texts(quantity.name for quantity in chosen), step=times, level=QUANTILES),
    )


def _said(source: str, row: xr.Dataset) -> str:
    last = row["ratio"].sel(level=0.5).isel(step=-1)
    parts = []
    for name in row["quantity"].values:
        rate, error, bend = (float(row[key].sel(quantity=name)) for key in ("rate", "rate_error", "bend"))
        shape = "" if abs(bend) < BENT else f", not constant: it {'falls' if bend > 0 else 'rises'}"
        left = f"{name} to {float(last.sel(quantity=name)):.3g} of its start"
        left += f", rate {rate:.3g} ± {1.96 * error:.2g} per step{shape}"
        parts.append(f"{name} unknown at the start, or 0" if math.isnan(rate) else left)
    return f"{source}: {', '.join(parts)}"
