"""The record of a population: counts and averages of all particles at each frame, positions of the first few."""

from __future__ import annotations

import json
import math

import numpy as np
import numpy.typing as npt
import xarray as xr

from sandbox.dynamics.frames import Sizes
from sandbox.dynamics.population import Population
from sandbox.dynamics.statistics import TUBE_FACTORS, along_edges, quantiles, spread, tube_radii
from sandbox.expressions.quantity import QUANTILES
from sandbox.model.labelled import coordinates, labelled, texts
from sandbox.model.problem import Problem
from sandbox.model.strata import DIVERGED
from sandbox.tools.arrays import Array

_TOGETHER = 1 << 17
"""The number of particles processed together; this limits the memory for distances and losses."""


SCORED = 10_000
"""The most particles whose last positions are kept, for scores of their simplicity."""


class Observer:
    """The recorder of one population: its frames, counts and averages of all particles, positions of the first few.

    `names` are the strata, then `elsewhere` and `diverged`; `along_strata` the numbers of the strata with a position
    along them, `edges` (along_strata, bins + 1) the edges of their histograms.
    """

    def __init__(self, problem: Problem, sizes: Sizes):
        self.problem, self.sizes, self.times = problem, sizes, sizes.times
        zero_set, bins = problem.zero_set, sizes.record.bins
        self.names = (*zero_set.names, DIVERGED)
        self.kept = min(sizes.record.positions, sizes.particles)
        self.along_strata, self.edges = zero_set.along_strata, along_edges(problem, bins)
        frames = len(self.times)
        self.position = np.empty((frames, self.kept, len(problem.prior.names)), np.float32)
        self.final_position = np.empty((min(SCORED, sizes.particles), len(problem.prior.names)))
        self.count = np.zeros((frames, len(self.names)), np.int64)
        self.mean_excess = np.full(frames, np.nan)
        self.excess_error = np.full(frames, np.nan)
        self.along_count = np.zeros((frames, len(self.along_strata), bins), np.int64)
        self.tube_count = np.zeros((len(TUBE_FACTORS), len(self.names)), np.int64)
        self.quantile = np.full((frames, len(problem.derived), len(QUANTILES)), np.nan)
        self.last = np.full(sizes.particles, -1, np.int16)
        self.moves = np.zeros((frames, len(zero_set.strata), len(self.names)), np.int64)
        self._waiting: list[tuple[int, Array]] = []

    def record(self, frame: int, points: Array) -> None:
        """Record the points (N, D) of a frame; frames must come in their order.

        Small frames are collected first, because a few hundred points take as long to process as thousands.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            self.position[frame] = points[: self.kept]
        if frame == len(self.times) - 1:
            self.final_position[:] = points[: len(self.final_position)]
        self._waiting.append((frame, points))
        if sum(len(points) for _, points in self._waiting) >= _TOGETHER:
            self.finish()

    def finish(self) -> None:
        """Process the collected points."""
        if not self._waiting:
            return
        frames, clouds = zip(*self._waiting, strict=True)
        self._waiting = []
        points = np.concatenate(clouds)
        excess, strata = np.full(len(points), np.nan), np.full(len(points), len(self.names) - 1)
        alongs = np.full((len(self.along_strata), len(points)), np.nan)
        for first in range(0, len(points), _TOGETHER):
            rows = first + np.flatnonzero(~self.problem.prior.diverged(points[first : first + _TOGETHER]))
            strata[rows] = self.problem.zero_set.strata_of(points[rows])
            excess[rows] = self.problem.loss.excess(points[rows])
            for along, k in zip(alongs, self.along_strata, strict=True):
                there = rows[strata[rows] == k]
                along[there] = self.problem.zero_set.along(points[there], k)
        ends = np.cumsum([len(cloud) for cloud in clouds])
        for frame, end, cloud in zip(frames, ends, clouds, strict=True):
            own = slice(end - len(cloud), end)
            self._count(frame, cloud, strata[own], excess[own], alongs[:, own])

    def _count(self, frame: int, points: Array, strata: npt.NDArray[np.int64], excess: Array, alongs: Array) -> None:
        """Record a frame's counts and averages; `alongs` (S, N) are positions along S strata, nan off them."""
        self.count[frame] = np.bincount(strata, minlength=len(self.names))
        self._count_moves(frame, strata)
        for a, along in enumerate(alongs):
            self.along_count[frame, a] = np.histogram(along[~np.isnan(along)], self.edges[a])[0]
        present = strata < len(self.names) - 1
        if present.any():
            self.mean_excess[frame] = excess[present].mean()
            self.excess_error[frame] = excess[present].std() / math.sqrt(present.sum())
            self.quantile[frame] = quantiles(self.problem.derived, points[present])
        if frame == len(self.times) - 1:
            self._count_by_tube(points[present])
            self.tube_count[:, -1] = self.count[frame, -1]

    def _count_by_tube(self, points: Array) -> None:
        zero_set = self.problem.zero_set
        for first in range(0, len(points), _TOGETHER):
            found = zero_set.strata_within(points[first : first + _TOGETHER], tube_radii(zero_set))
            for counts, strata in zip(self.tube_count, found, strict=True):
                counts[:-1] += np.bincount(strata, minlength=len(zero_set.names))

    def _count_moves(self, frame: int, strata: npt.NDArray[np.int64]) -> None:
        """Count the moves since the last frame: from a particle's last stratum to another one, or to diverged."""
        self.moves[frame] = self.moves[max(frame - 1, 0)]
        elsewhere = len(self.problem.zero_set.strata)
        moved = (self.last >= 0) & (strata != elsewhere) & (strata != self.last)
        np.add.at(self.moves[frame], (self.last[moved], strata[moved]), 1)
        self.last = np.where(strata < elsewhere, strata, np.where(strata == elsewhere, self.last, -1)).astype(np.int16)

    def dataset(self, population: Population) -> xr.Dataset:
        """Return the record as a Dataset with names and units."""
        self.finish()
        gradient = {"estimator": population.gradient.name, **population.gradient.model_dump()}
        data = xr.Dataset(
            {name: labelled(dims, getattr(self, name), *words) for name, (dims, *words) in _VARIABLES.items()},
            coords=coordinates(
                time=self.times,
                origin=texts(self.names[:-2]),
                parameter=texts(self.problem.prior.names),
                stratum=texts(self.names),
                along_stratum=texts(self.names[k] for k in self.along_strata),
                tube_factor=TUBE_FACTORS,
            ),
            attrs={
                "rule": population.rule.rule,
                "settings": json.dumps(population.rule.model_dump()),
                "gradient": json.dumps(gradient),
                "particles": self.sizes.particles,
                "start": _start(population),
            },
        )
        return data.merge(spread(self.problem.derived, ("time",), self.quantile))


def _start(population: Population) -> str:
    if population.start is None:
        return "prior"
    return ", ".join(map(str, population.start)) if isinstance(population.start, tuple) else str(population.start)


_VARIABLES: dict[str, tuple[tuple[str, ...], str, str]] = {
    "position": (("time", "particle", "parameter"), "positions of the first particles", "1"),
    "final_position": (("scored", "parameter"), "positions of the particles that are scored, at the last time", "1"),
    "count": (("time", "stratum"), "particles in each stratum's tube, elsewhere, or diverged", "particles"),
    "mean_excess": (("time",), "mean of K_n = L_n - S_n over particles not diverged", "nat per sample"),
    "excess_error": (("time",), "standard error of mean_excess", "nat per sample"),
    "along_count": (("time", "along_stratum", "bin"), "particles by position along each stratum", "particles"),
    "tube_count": (("tube_factor", "stratum"), "particles at the last time, by the tubes' radius", "particles"),
    "moves": (
        ("time", "origin", "stratum"),
        "moves so far from one stratum to another or to diverged, as seen at the recorded times",
        "moves",
    ),
}
"""The dimensions, name in words and units of each attribute of an observer that becomes a variable."""
