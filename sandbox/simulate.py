"""Scenario -> the particles' record: every population run through its kernel, watched at the frames.

Each recorded number is a function of the positions at its time alone, and positions are a function of scenario and
seed alone: threads, chunks and the number of frames change nothing.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from sandbox import draws, kernel
from sandbox.progress import Progress, Silent
from sandbox.scenario import Population, Scenario, frame_steps
from sandbox.zero_set import DIVERGED

Array = npt.NDArray[np.float64]

TUBE_FACTORS = (0.5, 1.0, 2.0)
"""The last frame is also counted with the tubes' radius times these: an answer should not hang on the radius."""

FAR = 1e6
"""A particle has diverged when it is further than this many prior scales from the prior's centre, or not a number."""

SHARES = 8
"""Ranges of blocks per thread: a processor that others slow down takes fewer of them."""

_CALL_SECONDS = 0.2
"""About how long one call of a kernel may take: between two calls progress is shown and Ctrl-C is heard."""
_OBSERVED = 1 << 17
"""Particles looked at together: bounds the memory of distances and losses."""


def simulate(
    scenario: Scenario, *, threads: int | None = None, progress: Progress | None = None
) -> dict[str, xr.Dataset]:
    """Run every population of a scenario; return a Dataset for each, by name.

    `threads` defaults to the processors this process may use; it changes no bit of the result.
    """
    threads = threads or processors()
    with ThreadPoolExecutor(threads) as pool:
        runs = [_Run(scenario, population, pool, threads) for population in scenario.populations]
        return {run.population.name: run.record(progress or Silent()) for run in runs}


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shares_of(blocks: int, threads: int) -> list[tuple[int, int]]:
    """Return ranges of blocks for a pool to work through: several per thread, as some processors are slower."""
    edges = np.linspace(0, blocks, SHARES * threads + 1).astype(int).tolist()
    return [(a, b) for a, b in pairwise(edges) if a < b]


def population_kernel(scenario: Scenario, population: Population) -> kernel.Kernel:
    """Return the kernel that moves a population of a scenario."""
    return kernel.build(
        scenario.loss,
        scenario.prior,
        population.rule,
        population.gradient,
        nbeta=population.rule.nbeta_or(scenario.nbeta),
        reflecting=scenario.walls == "reflecting",
        dtype=scenario.precision,
    )


def start(scenario: Scenario, population: Population) -> Array:
    """Return where a population's particles start, shape (N, D).

    The same uniforms serve every population: those that start from the prior start from the same points.
    """
    prior = scenario.prior
    uniforms = draws.uniforms(
        draws.key(scenario.seed, "start"), draws.STREAM_START, np.arange(scenario.particles), 0, len(prior.names)
    )
    distributions = population.start or prior.distributions
    return np.stack([d.quantile(uniforms[:, k]) for k, d in enumerate(distributions)], axis=1)


def diverged(scenario: Scenario, points: Array) -> npt.NDArray[np.bool_]:
    """Return which of the points (N, D) have run away: shape (N,)."""
    near = np.ones(len(points), np.bool_)
    # Parameter by parameter: a reduction over so short an axis costs several times as much.
    for values, centre, scale in zip(points.T, scenario.prior.centre, scenario.prior.scale, strict=True):
        near &= np.abs(values - centre) <= FAR * scale
    return ~near


@dataclass
class _Run:
    """One population on its way."""

    scenario: Scenario
    population: Population
    pool: ThreadPoolExecutor
    threads: int

    def record(self, progress: Progress) -> xr.Dataset:
        scenario = self.scenario
        times = frame_steps(scenario.steps, scenario.record.frames, scenario.record.spacing)
        progress.start(f"{self.population.name}: kernel", 1.0)
        self.kernel = population_kernel(scenario, self.population)
        progress.start(f"{self.population.name}: {scenario.particles:,} particles", float(scenario.steps))
        self.key = draws.key(scenario.seed, f"population {self.population.name}")
        positions = self.kernel.pack(start(scenario, self.population))
        observer = _Observer(scenario, times)
        observer.look(0, self.kernel.unpack(positions, scenario.particles))
        for frame in range(1, len(times)):
            for done in self._advance(positions, int(times[frame - 1]), int(times[frame])):
                progress.advance(done)
            observer.look(frame, self.kernel.unpack(positions, scenario.particles))
        return observer.dataset(self.population)

    def _advance(self, positions: npt.NDArray[Any], first: int, last: int) -> Iterator[int]:
        """Move all blocks from step `first` to `last` in calls of about _CALL_SECONDS; yield the steps done by each."""
        ranges = shares_of(len(positions), self.threads)
        step, count = first, 1
        while step < last:
            steps = (step, min(step + count, last))
            began = time.perf_counter()
            calls = [
                self.pool.submit(self.kernel.advance, positions, blocks, steps, self.scenario.steps, self.key)
                for blocks in ranges
            ]
            for call in calls:
                call.result()
            took = max(time.perf_counter() - began, 1e-6)
            yield steps[1] - step
            step = steps[1]
            count = max(1, min(4 * count, math.ceil(count * _CALL_SECONDS / took)))


class _Observer:
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

    def look(self, frame: int, points: Array) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            self.position[frame] = points[: self.kept]
        excess = []
        for first in range(0, len(points), _OBSERVED):
            part = points[first : first + _OBSERVED]
            gone = diverged(self.scenario, part)
            self.count[frame, -1] += gone.sum()
            excess.append(self._look_at(frame, part[~gone]))
        values = np.concatenate(excess)
        if len(values):
            self.mean[frame] = values.mean()
            self.error[frame] = values.std() / math.sqrt(len(values))

    def _look_at(self, frame: int, points: Array) -> Array:
        zero_set = self.scenario.zero_set
        labels = zero_set.labels(points)
        self.count[frame, :-1] += np.bincount(labels, minlength=len(zero_set.names))
        for a, k in enumerate(self.arms):
            self.along[frame, a] += np.histogram(zero_set.along(points[labels == k], k), self.edges[a])[0]
        if frame == len(self.times) - 1:
            for f, factor in enumerate(TUBE_FACTORS):
                found = zero_set.labels(points, factor * zero_set.tube)
                self.tube_count[f, :-1] += np.bincount(found, minlength=len(zero_set.names))
            self.tube_count[:, -1] = self.count[frame, -1]
        return self.scenario.loss.excess(points)

    def dataset(self, population: Population) -> xr.Dataset:
        """Return the record, with names and units."""
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
            },
            coords={
                "time": self.times,
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
                "start": "prior" if population.start is None else ", ".join(map(str, population.start)),
            },
        )
        return _described(data)


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
    "tube_factor": ("radius of the tubes, relative to the stated one", "1"),
}


def _described(data: xr.Dataset) -> xr.Dataset:
    for name, (long_name, units) in _WORDS.items():
        data[name].attrs = {"long_name": long_name, "units": units}
    return data
