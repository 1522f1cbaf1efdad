"""The times that particles take from one stratum to another, and that they stay: survival curves with censoring.

A particle belongs to the stratum in whose tube it was seen last, also while it is between the tubes (core sets:
Schütte, Noé, Lu, Sarich and Vanden-Eijnden 2011, J. Chem. Phys. 134, 204105). So a passage counts only when the
particle arrives. A particle that has not arrived at the last frame, or that diverged before, is censored: survival is
the product-limit estimate of Kaplan and Meier (1958) with Greenwood's variance.

Times are known only up to the gap between frames: an arrival first seen at a frame is later than the frame before
(unless the particle came and left in between, which the frames cannot show). Durations are measured to the middle of
the gap. The means with the shortest and the longest possible durations bound the error due to the gaps.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import scipy
import xarray as xr
from pydantic import Field

from sandbox.measurements.base import OfParticles
from sandbox.measurements.tracks import Track
from sandbox.model.labelled import coordinates, labelled, texts
from sandbox.model.problem import Problem
from sandbox.tools.arrays import Array

START, OTHER = "the start", "another stratum"
"""The origin of a first passage, which begins with the run; the target of a stay, which ends at any other stratum."""

MOST = 0.9
"""A mean is given only if, by the survival curve, at least this share of the passages has ended."""

_GROUPS = 20
"""The number of groups of particles that the jackknife leaves out, one at a time."""

Truth = npt.NDArray[np.bool_]
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Passages:
    """Passages (S,): the particle, the frames at which each begins and ends, and whether it ends in an arrival."""

    particle: Whole
    begin: Whole
    end: Whole
    arrived: Truth

    def durations(self, times: Array) -> tuple[Array, Array, Array]:
        """Return the shortest, middle and longest duration of each, (S,), that the frames at `times` (T,) allow."""
        before_begin, before_end = times[np.maximum(self.begin - 1, 0)], times[np.maximum(self.end - 1, self.begin)]
        shortest = np.where(self.arrived, before_end, times[self.end]) - times[self.begin]
        longest = times[self.end] - before_begin
        return shortest, (shortest + longest) / 2, longest


@dataclass(frozen=True)
class Survival:
    """The share of passages still under way, as a curve over time, and the mean duration with its jackknife error.

    `mean` is nan unless a share of MOST has arrived. The true mean is at least `at_least`, the integral of the curve.
    `median` is nan if fewer than half have arrived.
    """

    curve: Any
    at_least: float
    mean: float
    error: float
    median: float


def passages(source: Truth, target: Truth, gone: Truth) -> Passages:
    """Return the passages from `source` to `target`, both (T, P): whether each particle is there at each frame.

    A passage begins at the first frame in the source after the last arrival, and ends at the next frame in the target.
    A passage of a particle that is `gone` (T, P) at a frame ends, without arrival, at the frame before.
    """
    frames, particles = source.shape
    since = np.full(particles, -1)
    found: list[tuple[Whole, Whole, Whole, Truth]] = []

    def close(whose: Truth, end: int, arrived: bool) -> None:
        numbers = np.flatnonzero(whose)
        found.append((numbers, since[numbers], np.full(len(numbers), end), np.full(len(numbers), arrived)))
        since[numbers] = -1

    for t in range(frames):
        close((since >= 0) & gone[t], t - 1, False)
        since[(since < 0) & source[t] & ~gone[t]] = t
        close((since >= 0) & target[t] & ~gone[t], t, True)
    close(since >= 0, frames - 1, False)
    return Passages(*(np.concatenate(column) for column in zip(*found, strict=True)))


def survival(durations: Array, arrived: Truth, particle: Whole) -> Survival:
    """Return the survival of durations (S,), censored if not `arrived` (S,); `particle` (S,) is for the jackknife."""
    curve = _curve(durations, arrived)
    at_least, mean = _means(curve)
    error = math.nan
    if math.isfinite(mean):
        groups = particle % min(_GROUPS, int(particle.max()) + 1)
        left = [_means(_curve(durations[groups != g], arrived[groups != g]))[1] for g in np.unique(groups)
                if (groups != g).any()]  # fmt: skip
        error = math.sqrt((len(left) - 1) * float(np.var(left))) if len(left) > 1 else math.nan
    below = np.flatnonzero(curve.probabilities <= 0.5)
    median = float(curve.quantiles[below[0]]) if len(below) else math.nan
    return Survival(curve, at_least, mean, error, median)


def _curve(durations: Array, arrived: Truth) -> Any:
    return scipy.stats.ecdf(scipy.stats.CensoredData(uncensored=durations[arrived], right=durations[~arrived])).sf


def _means(curve: Any) -> tuple[float, float]:
    """Return the integral of the curve, and the mean: the integral plus a tail (nan if the curve ends above 1 - MOST).

    The tail is that of the exponential law through the curve's last point (Brown, Hollander and Korwar 1974).
    """
    edges, left = np.append(0.0, curve.quantiles), np.append(1.0, curve.probabilities)
    integral, last = float((np.diff(edges) * left[:-1]).sum()), float(left[-1])
    if last > 1 - MOST:
        return integral, math.nan
    return integral, integral + (last * edges[-1] / -math.log(last) if last > 0 else 0.0)


def interval(curve: Any, at: Array) -> tuple[Array, Array]:
    """Return the ends of the 95% interval of a survival curve, each of the shape of the durations `at`.

    It uses Greenwood's variance of log(-log S), and is nan where S is 1 (no arrival yet) or 0 (all have arrived).
    """
    with warnings.catch_warnings():
        # SciPy warns that the interval is undefined at the ends of the curve: it is nan there.
        warnings.simplefilter("ignore", RuntimeWarning)
        both = curve.confidence_interval(method="log-log")
    low, high = both.low.evaluate(at), both.high.evaluate(at)
    inside = (curve.evaluate(at) > 0) & (curve.evaluate(at) < 1)
    return np.where(inside, low, np.nan), np.where(inside, high, np.nan)


class Passage(OfParticles):
    """First-passage times to each stratum and between strata, and residence times: they show how sticky strata are."""

    name: ClassVar[str] = "passage"
    needs_strata: ClassVar[bool] = True
    quick: ClassVar[dict[str, int]] = {"particles": 200}
    particles: int = Field(default=1000, ge=20, le=10**6, description="particles followed, of those that are recorded")

    def measure_particles(self, problem: Problem, tracks: Mapping[str, Track]) -> xr.Dataset:
        """Return the record of `passage_times` of each population, along the dimension `source`."""
        strata = tuple(s.name for s in problem.zero_set.strata)
        rows, said = [], []
        for source, track in tracks.items():
            if track.times is None:
                continue
            found = passage_times(track.times, _visited(problem, track.first_particles(self.particles)), strata)
            rows.append(found.assign_coords(source=source))
            said.append(f"{source}: {_said(found)}")
        if not rows:
            return xr.Dataset(attrs={"summary": "no particles to follow"})
        joined = xr.concat(rows, "source", join="outer", combine_attrs="drop_conflicts")
        return joined.assign_coords(coordinates(source=texts(str(r.source.values) for r in rows))).assign_attrs(
            summary=f"mean steps (> if too few arrived) from the start to a stratum, and on it: {'; '.join(said)}"
        )


def passage_times(times: Array, visited: npt.NDArray[np.int64], strata: tuple[str, ...]) -> xr.Dataset:
    """Return passage times for `visited` (T, P): a stratum's number, len(strata) for elsewhere, -1 for diverged.

    Over (departure, destination), that is (START and the strata, the strata and OTHER): the counts `passages` and
    `arrivals`; in steps, `mean` with `mean_error` (jackknife over particles), its bounds `mean_low` and `mean_high`
    due to the gaps between frames, `at_least`, `median`. Over `elapsed` too: `survival` with its 95% interval.
    """
    origins, targets = (START, *strata), (*strata, OTHER)
    shape = (len(origins), len(targets))
    found = {name: np.full(shape, np.nan) for name in _WORDS}
    curves = np.full((3, *shape, len(times)), np.nan)
    gone, elapsed = visited < 0, times - times[0]
    for i, j in np.ndindex(shape):
        spells = _between(visited, gone, i - 1, j, len(strata))
        found["passages"][i, j], found["arrivals"][i, j] = len(spells.begin), spells.arrived.sum()
        if not len(spells.begin):
            continue
        low, middle, high = spells.durations(times)
        whole = survival(middle, spells.arrived, spells.particle)
        found["mean"][i, j], found["mean_error"][i, j] = whole.mean, whole.error
        found["at_least"][i, j], found["median"][i, j] = whole.at_least, whole.median
        found["mean_low"][i, j] = _means(_curve(low, spells.arrived))[1]
        found["mean_high"][i, j] = _means(_curve(high, spells.arrived))[1]
        # For passages from the start, the longest duration ends at the frame at which the arrival is first seen. So at
        # each frame this curve counts exactly the arrivals seen by then. Beyond its last point nothing is known.
        longest = _curve(high, spells.arrived)
        known = elapsed <= longest.quantiles[-1]
        curves[0, i, j, known] = longest.evaluate(elapsed[known])
        curves[1:, i, j, known] = interval(longest, elapsed[known])
    variables = {k: labelled(("departure", "destination"), v, *_WORDS[k]) for k, v in found.items()}
    for name, values in zip(("survival", "survival_low", "survival_high"), curves, strict=True):
        variables[name] = labelled(("departure", "destination", "elapsed"), values, _CURVES[name])
    coords = coordinates(departure=texts(origins), destination=texts(targets))
    coords["elapsed"] = labelled("elapsed", elapsed, "steps since the passage began", "step")
    return xr.Dataset(variables, coords)


def _between(visited: Whole, gone: Truth, origin: int, target: int, strata: int) -> Passages:
    """Return the passages from stratum `origin` (-1: the start) to stratum `target` (`strata`: any other stratum)."""
    here = np.zeros(visited.shape, np.bool_)
    if origin < 0:
        here[0] = target < strata
        there = visited == target
    else:
        here = visited == origin
        there = (visited == target) if target < strata else (visited >= 0) & (visited < strata) & ~here
        here &= origin != target
    return passages(here, there, gone)


def _visited(problem: Problem, track: Track) -> npt.NDArray[np.int64]:
    """Return the stratum's number of each particle at each frame, (T, P): -1 if the particle has diverged."""
    frames, particles, size = track.positions.shape
    points = track.positions.reshape(-1, size)
    here = ~track.gone(problem.prior).ravel()
    visited = np.full(len(points), -1)
    visited[here] = problem.zero_set.strata_of(points[here])
    return visited.reshape(frames, particles)


def _said(found: xr.Dataset) -> str:
    """Return as text the first passages to the strata and the stays on strata, if there are any."""
    strata = [str(name) for name in found.destination.values if name != OTHER]
    pairs = [(START, name, f"to {name}") for name in strata] + [(name, OTHER, f"on {name}") for name in strata]
    said = []
    for departure, destination, words in pairs:
        row = found.sel(departure=departure, destination=destination)
        if row["passages"]:
            mean, error = float(row["mean"]), 1.96 * float(row["mean_error"])
            # If few passages have ended, only a lower bound of the mean is known.
            time = f"> {float(row['at_least']):.3g}" if math.isnan(mean) else f"{mean:.3g} ± {error:.2g}"
            said.append(f"{words} {time} ({int(row['arrivals'])} of {int(row['passages'])})")
    return ", ".join(said)


_WORDS = {
    "passages": ("passages begun", "passages"),
    "arrivals": ("passages that ended in an arrival; the others are censored", "passages"),
    "mean": ("mean duration; nan if too few have arrived", "step"),
    "mean_error": ("standard error of the mean, by the jackknife over particles", "step"),
    "mean_low": ("mean of the shortest durations that the frames allow", "step"),
    "mean_high": ("mean of the longest durations that the frames allow", "step"),
    "at_least": ("integral of the survival curve: the mean is at least this", "step"),
    "median": ("median duration; nan if fewer than half have arrived", "step"),
}
_CURVES = {
    "survival": "share of passages still under way (Kaplan-Meier)",
    "survival_low": "lower end of the 95% interval of survival (Greenwood)",
    "survival_high": "upper end of the 95% interval of survival (Greenwood)",
}
