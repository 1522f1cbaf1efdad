"""Scenario -> the particles' record: every population run through its kernel, watched at the frames.

Each recorded number is a function of the positions at its time alone (moves between strata excepted, which are counted
from frame to frame), and positions are a function of scenario and seed alone: threads and chunks change nothing.
"""

from __future__ import annotations

import math
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
from sandbox.fork import processors
from sandbox.observer import Observer
from sandbox.progress import Progress, Silent
from sandbox.scenario import Population, Scenario, frame_steps
from sandbox.start import start

Array = npt.NDArray[np.float64]

SHARES = 8
"""Ranges of blocks per thread: a processor that others slow down takes fewer of them."""

_CALL_SECONDS = 0.2
"""About how long one call of a kernel may take: between two calls progress is shown and Ctrl-C is heard."""


def simulate(
    scenario: Scenario, *, threads: int | None = None, progress: Progress | None = None
) -> dict[str, xr.Dataset]:
    """Run every population of a scenario; return a Dataset for each, by name.

    `threads` defaults to the processors this process may use; it changes no bit of the result.
    """
    threads = threads or processors()
    with ThreadPoolExecutor(threads) as pool:
        ends: dict[str, Array] = {}
        runs = [_Run(scenario, population, pool, threads, ends) for population in scenario.populations]
        return {run.population.name: run.record(progress or Silent()) for run in runs}


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


@dataclass
class _Run:
    """One population on its way."""

    scenario: Scenario
    population: Population
    pool: ThreadPoolExecutor
    threads: int
    ends: dict[str, Array]
    """Where the populations that have run ended, points (N, D)."""

    def record(self, progress: Progress) -> xr.Dataset:
        scenario = self.scenario
        times = frame_steps(scenario.steps, scenario.record.frames, scenario.record.spacing)
        progress.start(f"{self.population.name}: kernel", 1.0)
        self.kernel = population_kernel(scenario, self.population)
        progress.start(f"{self.population.name}: {scenario.particles:,} particles", float(scenario.steps))
        self.key = draws.key(scenario.seed, f"population {self.population.name}")
        positions = self.kernel.pack(start(scenario, self.population, self.ends), self.key)
        observer = Observer(scenario, times)
        observer.look(0, self.kernel.unpack(positions, scenario.particles))
        for frame in range(1, len(times)):
            for done in self._advance(positions, int(times[frame - 1]), int(times[frame])):
                progress.advance(done)
            observer.look(frame, self.kernel.unpack(positions, scenario.particles))
        self.ends[self.population.name] = self.kernel.unpack(positions, scenario.particles)
        return observer.dataset(self.population).assign_attrs(self._judged(positions))

    def _judged(self, positions: npt.NDArray[Any]) -> dict[str, float]:
        """Return the share of proposals that were accepted, of a rule that judges them."""
        accepted = self.kernel.state(positions, self.scenario.particles).get("accepted")
        return {} if accepted is None else {"acceptance": float(accepted.mean() / self.scenario.steps)}

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
