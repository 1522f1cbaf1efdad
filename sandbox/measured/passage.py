"""How long particles take from one stratum to another, and how long they stay: survival curves with censoring.

A particle belongs to the stratum in whose tube it was seen last; between the tubes it still does (core sets: Schütte,
Noé, Lu, Sarich and Vanden-Eijnden 2011, J. Chem. Phys. 134, 204105), so that it must arrive for a passage to count.
Whoever has not arrived at the last frame, or ran away before, is censored: survival is the product-limit estimate of
Kaplan and Meier (1958) with Greenwood's variance.

Times are known to the frames only: an arrival first seen at a frame lies after the frame before (unless the particle
had come and gone in between, which no frame can show). Durations are counted to the middle; the means with the
shortest and the longest durations that the frames allow bound what the spacing hides.
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

from sandbox.measured.base import OfParticles, Subject
from sandbox.measured.labelled import labelled
from sandbox.measured.tracks import Array, Track, names_of

START, OTHER = "start", "another stratum"
"""The origin of a first passage that begins with the run; the target of a stay, which ends wherever it leads."""

MOST = 0.9
"""The share of passages that must have been seen, by the survival curve, before a mean is given."""

_GROUPS = 20
"""Groups of particles that the jackknife leaves out one by one."""

Truth = npt.NDArray[np.bool_]
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Passages:
    """Passages under way: whose, the frames at which each began and ended, and whether it ended in an arrival."""

    particle: Whole
    begin: Whole
    end: Whole
    arrived: Truth

    def durations(self, times: Array) -> tuple[Array, Array, Array]:
        """Return the shortest, the middle and the longest duration of each that the frames at `times` (T,) allow."""
        before_begin, before_end = times[np.maximum(self.begin - 1, 0)], times[np.maximum(self.end - 1, self.begin)]
        shortest = np.where(self.arrived, before_end, times[self.end]) - times[self.begin]
        longest = times[self.end] - before_begin
        return shortest, (shortest + longest) / 2, longest


@dataclass(frozen=True)
class Survival:
    """The curve of those still under way, and the mean duration with its jackknife error.

    `mean` is nan unless MOST have arrived; the mean is at least `at_least`, the curve's integral, in any case.
    `median` is nan where fewer than half have arrived.
    """

    curve: Any
    at_least: float
    mean: float
    error: float
    median: float


def passages(source: Truth, target: Truth, gone: Truth) -> Passages:
    """Return the passages from `source` to `target`, both (T, P): where particles are at each frame.

    One begins at the first frame in the source since the last arrival, and ends at the next frame in the target.
    A particle that is `gone` (T, P) was last seen at the frame before.
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
    """Return the survival of durations (S,), censored where they have not `arrived`; a particle's go together."""
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
    """Return the curve's integral, and the mean, to which an exponential tail is added (nan above 1 - MOST).

    The tail is that of Brown, Hollander and Korwar (1974): of the exponential law through the curve's last point.
    """
    edges, left = np.append(0.0, curve.quantiles), np.append(1.0, curve.probabilities)
    integral, last = float((np.diff(edges) * left[:-1]).sum()), float(left[-1])
    if last > 1 - MOST:
        return integral, math.nan
    return integral, integral + (last * edges[-1] / -math.log(last) if last > 0 else 0.0)


def interval(curve: Any, at: Array) -> tuple[Array, Array]:
    """Return the 95% interval of a survival curve at some durations: Greenwood's variance of log(-log S).

    It is nan where nothing has arrived yet, or all has.
    """
    with warnings.catch_warnings():
        # SciPy warns that the interval is undefined at the curve's ends: there it is nan.
        warnings.simplefilter("ignore", RuntimeWarning)
        both = curve.confidence_interval(method="log-log")
    low, high = both.low.evaluate(at), both.high.evaluate(at)
    inside = (curve.evaluate(at) > 0) & (curve.evaluate(at) < 1)
    return np.where(inside, low, np.nan), np.where(inside, high, np.nan)


class Passage(OfParticles):
    """First-passage times to each stratum and from one to another, and times of residence: how sticky strata are."""

    name: ClassVar[str] = "passage"
    quick: ClassVar[dict[str, int]] = {"particles": 200}
    particles: int = Field(default=1000, ge=20, le=10**6, description="particles followed, of those that are recorded")

    def measure_particles(self, subject: Subject, tracks: Mapping[str, Track]) -> xr.Dataset:
        """Return the record of `passage_times` of each population along `source`."""
        strata = tuple(s.name for s in subject.zero_set.strata)
        rows, said = [], []
        for source, track in tracks.items():
            if track.times is None:
                continue
            found = passage_times(track.times, _labels(subject, track.first_particles(self.particles)), strata)
            rows.append(found.assign_coords(source=source))
            said.append(f"{source}: {_said(found)}")
        if not rows:
            return xr.Dataset(attrs={"summary": "no particles to follow"})
        joined = xr.concat(rows, "source", join="outer", combine_attrs="drop_conflicts")
        return joined.assign_coords(source=names_of([str(r.source.values) for r in rows])).assign_attrs(
            summary=f"mean steps (> where too few arrived) from the start to a stratum, and on it: {'; '.join(said)}"
        )


def passage_times(times: Array, labels: npt.NDArray[np.int64], strata: tuple[str, ...]) -> xr.Dataset:
    """Return the passages of particles whose stratum is `labels` (T, P): a stratum's number, len(strata) or -1 (gone).

    Over (departure, destination), the origins being START and the strata, the targets the strata and OTHER: `passages`,
    `arrivals`, `mean` with `mean_error` (jackknife over particles) and the bounds `mean_low`, `mean_high` that the
    frames' spacing leaves, `at_least`, `median`, all in steps; over `elapsed` too `survival` with its 95% interval.
    """
    origins, targets = (START, *strata), (*strata, OTHER)
    shape = (len(origins), len(targets))
    found = {name: np.full(shape, np.nan) for name in _WORDS}
    curves = np.full((3, *shape, len(times)), np.nan)
    gone, elapsed = labels < 0, times - times[0]
    for i, j in np.ndindex(shape):
        spells = _between(labels, gone, i - 1, j, len(strata))
        found["passages"][i, j], found["arrivals"][i, j] = len(spells.begin), spells.arrived.sum()
        if not len(spells.begin):
            continue
        low, middle, high = spells.durations(times)
        whole = survival(middle, spells.arrived, spells.particle)
        found["mean"][i, j], found["mean_error"][i, j] = whole.mean, whole.error
        found["at_least"][i, j], found["median"][i, j] = whole.at_least, whole.median
        found["mean_low"][i, j] = _means(_curve(low, spells.arrived))[1]
        found["mean_high"][i, j] = _means(_curve(high, spells.arrived))[1]
        # The longest durations of passages from the start say at each frame who was seen to arrive by then. Beyond the
        # last of them nothing is known.
        longest = _curve(high, spells.arrived)
        known = elapsed <= longest.quantiles[-1]
        curves[0, i, j, known] = longest.evaluate(elapsed[known])
        curves[1:, i, j, known] = interval(longest, elapsed[known])
    variables = {k: labelled(("departure", "destination"), v, *_WORDS[k]) for k, v in found.items()}
    for name, values in zip(("survival", "survival_low", "survival_high"), curves, strict=True):
        variables[name] = labelled(("departure", "destination", "elapsed"), values, _CURVES[name])
    coords = {
        "departure": names_of(origins),
        "destination": names_of(targets),
        "elapsed": labelled("elapsed", elapsed, "steps since the passage began", "step"),
    }
    return xr.Dataset(variables, coords)


def _between(labels: Whole, gone: Truth, origin: int, target: int, strata: int) -> Passages:
    """Return the passages from stratum `origin` (-1: the start) to stratum `target` (`strata`: any other one)."""
    here = np.zeros(labels.shape, np.bool_)
    if origin < 0:
        here[0] = target < strata
        there = labels == target
    else:
        here = labels == origin
        there = (labels == target) if target < strata else (labels >= 0) & (labels < strata) & ~here
        here &= origin != target
    return passages(here, there, gone)


def _labels(subject: Subject, track: Track) -> npt.NDArray[np.int64]:
    """Return each particle's stratum at each frame, -1 where it has run away."""
    frames, particles, size = track.positions.shape
    points = track.positions.reshape(-1, size)
    here = ~track.gone(subject.prior).ravel()
    labels = np.full(len(points), -1)
    labels[here] = subject.zero_set.labels(points[here])
    return labels.reshape(frames, particles)


def _said(found: xr.Dataset) -> str:
    """Return in words the first passages to the strata, and the stays on those that were seen."""
    strata = [str(name) for name in found.destination.values if name != OTHER]
    pairs = [(START, name, f"to {name}") for name in strata] + [(name, OTHER, f"on {name}") for name in strata]
    said = []
    for departure, destination, words in pairs:
        row = found.sel(departure=departure, destination=destination)
        if row["passages"]:
            mean, error = float(row["mean"]), 1.96 * float(row["mean_error"])
            # A stay that few have ended says only how long it is at least.
            time = f"> {float(row['at_least']):.3g}" if math.isnan(mean) else f"{mean:.3g} ± {error:.2g}"
            said.append(f"{words} {time} ({int(row['arrivals'])} of {int(row['passages'])})")
    return ", ".join(said)


_WORDS = {
    "passages": ("passages begun", "passages"),
    "arrivals": ("passages that ended in an arrival; the others are censored", "passages"),
    "mean": ("mean duration; nan where too few have arrived", "step"),
    "mean_error": ("standard error of the mean, by the jackknife over particles", "step"),
    "mean_low": ("the mean with the shortest durations that the frames allow", "step"),
    "mean_high": ("the mean with the longest durations that the frames allow", "step"),
    "at_least": ("integral of the survival curve: the mean is at least this", "step"),
    "median": ("median duration; nan where fewer than half have arrived", "step"),
}
_CURVES = {
    "survival": "share of passages still under way (Kaplan-Meier)",
    "survival_low": "lower end of its 95% interval (Greenwood)",
    "survival_high": "upper end of its 95% interval (Greenwood)",
}
