"""What is recorded of a population: counts and averages of all particles at each frame, positions of the first few."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr

from sandbox.measured.tracks import QUANTILES, diverged
from sandbox.quantity import Quantity
from sandbox.scenario import Population, Scenario
from sandbox.zero_set import DIVERGED, ZeroSet

Array = npt.NDArray[np.float64]

TUBE_FACTORS = (0.5, 1.0, 2.0)
"""The last frame is also counted with the tubes' radius times these: an answer should not hang on the radius."""

_OBSERVED = 1 << 17
"""Particles looked at together: bounds the memory of distances and losses."""


class Observer:
    """Counts and averages of all particles at each frame, and the positions of the first few."""

    def __init__(self, scenario: Scenario, times: npt.NDArray[np.int64]):
        self.scenario, self.times = scenario, times
        zero_set, record = scenario.zero_set, scenario.record
        self.labels = (*zero_set.names, DIVERGED)
        self.kept = min(record.positions, scenario.particles)
        self.arms = [k for k, stratum in enumerate(zero_set.strata) if stratum.along is not None]
        self.edges = np.array([along_edges(scenario, k) for k in self.arms]).reshape(len(self.arms), record.bins + 1)
        frames = len(times)
        self.position = np.empty((frames, self.kept, len(scenario.prior.names)), np.float32)
        self.count = np.zeros((frames, len(self.labels)), np.int64)
        self.mean = np.full(frames, np.nan)
        self.error = np.full(frames, np.nan)
        self.along = np.zeros((frames, len(self.arms), record.bins), np.int64)
        self.tube_count = np.zeros((len(TUBE_FACTORS), len(self.labels)), np.int64)
        self.quantile = np.full((frames, len(scenario.derived), len(QUANTILES)), np.nan)
        self.last = np.full(scenario.particles, -1, np.int16)
        self.moves = np.zeros((frames, len(zero_set.strata), len(self.labels)), np.int64)
        self._waiting: list[tuple[int, Array]] = []

    def look(self, frame: int, points: Array) -> None:
        """Record the points (N, D) as they are at a frame; frames come in their order.

        Small frames wait for each other: to look at a few hundred points takes as long as at thousands.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            self.position[frame] = points[: self.kept]
        self._waiting.append((frame, points))
        if sum(len(points) for _, points in self._waiting) >= _OBSERVED:
            self.finish()

    def finish(self) -> None:
        """Look at the points that wait."""
        if not self._waiting:
            return
        frames, clouds = zip(*self._waiting, strict=True)
        self._waiting = []
        points = np.concatenate(clouds)
        excess, labels = np.full(len(points), np.nan), np.full(len(points), len(self.labels) - 1)
        alongs = np.full((len(self.arms), len(points)), np.nan)
        for first in range(0, len(points), _OBSERVED):
            rows = first + np.flatnonzero(~diverged(self.scenario.prior, points[first : first + _OBSERVED]))
            labels[rows] = self.scenario.zero_set.labels(points[rows])
            excess[rows] = self.scenario.loss.excess(points[rows])
            for along, k in zip(alongs, self.arms, strict=True):
                there = rows[labels[rows] == k]
                along[there] = self.scenario.zero_set.along(points[there], k)
        ends = np.cumsum([len(cloud) for cloud in clouds])
        for frame, end, cloud in zip(frames, ends, clouds, strict=True):
            own = slice(end - len(cloud), end)
            self._count(frame, cloud, labels[own], excess[own], alongs[:, own])

    def _count(self, frame: int, points: Array, labels: npt.NDArray[np.int64], excess: Array, alongs: Array) -> None:
        """Record a frame's counts and averages; `alongs` (arms, N) are positions along each arm, nan off it."""
        self.count[frame] = np.bincount(labels, minlength=len(self.labels))
        self._follow(frame, labels)
        for a, along in enumerate(alongs):
            self.along[frame, a] = np.histogram(along[~np.isnan(along)], self.edges[a])[0]
        present = labels < len(self.labels) - 1
        if present.any():
            self.mean[frame] = excess[present].mean()
            self.error[frame] = excess[present].std() / math.sqrt(present.sum())
            self.quantile[frame] = quantiles(self.scenario.derived, points[present])
        if frame == len(self.times) - 1:
            self._count_by_tube(points[present])
            self.tube_count[:, -1] = self.count[frame, -1]

    def _count_by_tube(self, points: Array) -> None:
        zero_set = self.scenario.zero_set
        for first in range(0, len(points), _OBSERVED):
            for f, found in enumerate(zero_set.labels_within(points[first : first + _OBSERVED], tube_radii(zero_set))):
                self.tube_count[f, :-1] += np.bincount(found, minlength=len(zero_set.names))

    def _follow(self, frame: int, labels: npt.NDArray[np.int64]) -> None:
        """Count the moves since the last frame: from the stratum a particle was on last to another one, or away."""
        self.moves[frame] = self.moves[max(frame - 1, 0)]
        strata = len(self.scenario.zero_set.strata)
        moved = (self.last >= 0) & (labels != strata) & (labels != self.last)
        np.add.at(self.moves[frame], (self.last[moved], labels[moved]), 1)
        self.last = np.where(labels < strata, labels, np.where(labels == strata, self.last, -1)).astype(np.int16)

    def dataset(self, population: Population) -> xr.Dataset:
        """Return the record, with names and units."""
        self.finish()
        zero_set = self.scenario.zero_set
        gradient = {"estimator": population.gradient.name, **population.gradient.model_dump()}
        data = xr.Dataset(
            {
                "position": (("time", "particle", "parameter"), self.position),
                "count": (("time", "stratum"), self.count),
                "mean_excess": ("time", self.mean),
                "excess_error": ("time", self.error),
                "along_count": (("time", "arm", "bin"), self.along),
                "tube_count": (("tube_factor", "stratum"), self.tube_count),
                "moves": (("time", "origin", "stratum"), self.moves),
            },
            coords={
                "time": self.times,
                "origin": np.array(self.labels[:-2], dtype=object),
                "parameter": np.array(self.scenario.prior.names, dtype=object),
                "stratum": np.array(self.labels, dtype=object),
                "arm": np.array([zero_set.strata[k].name for k in self.arms], dtype=object),
                "tube_factor": np.array(TUBE_FACTORS),
            },
            attrs={
                "rule": population.rule.rule,
                "settings": json.dumps(population.rule.model_dump()),
                "gradient": json.dumps(gradient),
                "particles": self.scenario.particles,
                "start": _start(population),
            },
        )
        return _described(data.merge(spread(self.scenario.derived, ("time",), self.quantile)))


def _start(population: Population) -> str:
    if population.start is None:
        return "prior"
    return ", ".join(map(str, population.start)) if isinstance(population.start, tuple) else str(population.start)


def tube_radii(zero_set: ZeroSet) -> list[float]:
    """Return the tubes' radius times each of TUBE_FACTORS."""
    return [factor * zero_set.tube for factor in TUBE_FACTORS]


def quantiles(derived: Sequence[Quantity], points: Array, weights: Array | None = None) -> Array:
    """Return QUANTILES of each derived quantity over points (N, D), shape (quantities, QUANTILES).

    Where a quantity has no value (0 / 0) the point is left out; with `weights` (N,) the points are a measure.
    """
    weights = np.ones(len(points)) if weights is None else weights
    found = np.full((len(derived), len(QUANTILES)), np.nan)
    for row, quantity in zip(found, derived, strict=True):
        values = quantity(points)
        known = ~np.isnan(values)
        if known.any():
            row[:] = np.quantile(values[known], QUANTILES, method="inverted_cdf", weights=weights[known])
    return found


def spread(derived: Sequence[Quantity], dims: tuple[str, ...], values: Array) -> xr.Dataset:
    """Return quantiles of derived quantities, shape (*dims, quantities, QUANTILES), as a Dataset; empty for none."""
    if not derived:
        return xr.Dataset()
    return xr.Dataset(
        {"derived_quantile": ((*dims, "derived", "quantile"), values)},
        coords={"derived": np.array([q.name for q in derived], dtype=object), "quantile": np.array(QUANTILES)},
    )


def along_edges(scenario: Scenario, k: int) -> Array:
    """Return the histogram edges along stratum k: its extent inside the prior's window, in equal bins."""
    points = scenario.zero_set.sample(scenario.prior, k, 4096)
    axis = scenario.zero_set.along_axis(k)
    bounds = scenario.prior.bounds
    if axis is not None and np.isfinite(bounds[axis]).all():
        low, high = bounds[axis]
    else:
        low, high = np.quantile(scenario.zero_set.along(points, k), [0.0, 1.0])
    return np.linspace(low, high, scenario.record.bins + 1)


_WORDS = {
    "time": ("steps taken", "step"),
    "position": ("positions of the first particles", "1"),
    "count": ("particles in each stratum's tube, elsewhere, or diverged", "particles"),
    "mean_excess": ("mean of K_n = L_n - S_n over particles not diverged", "nat per sample"),
    "excess_error": ("standard error of mean_excess", "nat per sample"),
    "along_count": ("particles by position along each stratum", "particles"),
    "tube_count": ("particles at the last time, by the tubes' radius", "particles"),
    "moves": ("moves so far from one stratum to another or away, as seen at the recorded times", "moves"),
    "derived_quantile": ("quantiles of the derived quantities over particles not diverged", "1"),
    "tube_factor": ("radius of the tubes, relative to the stated one", "1"),
}


def _described(data: xr.Dataset) -> xr.Dataset:
    for name in set(_WORDS) & set(data.variables):
        data[name].attrs = dict(zip(("long_name", "units"), _WORDS[str(name)], strict=True))
    return data
