"""The particles' record of a scenario: every population runs through its kernel, and is observed at the frames.

Each recorded number depends on the positions at its time alone (except the moves between strata, which are counted
from frame to frame). Positions depend on scenario and seed alone: threads and chunks change nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from sandbox.compiled import random_numbers
from sandbox.dynamics import kernel
from sandbox.dynamics.frames import RECORD, Record, Sizes
from sandbox.dynamics.observer import Observer
from sandbox.dynamics.population import Population
from sandbox.dynamics.start import start
from sandbox.model.problem import Problem
from sandbox.tools.arrays import Array
from sandbox.tools.parallel import processors
from sandbox.tools.progress import Progress, Silent

SHARES = 8
"""Ranges of blocks per thread; a processor that other processes slow down takes fewer of them."""

_CALL_SECONDS = 0.2
"""The approximate seconds of one kernel call; between two calls progress is shown and Ctrl-C is handled."""


def simulate(
    problem: Problem,
    populations: Sequence[Population],
    *,
    steps: int,
    particles: int = 10_000,
    record: Record = RECORD,
    precision: Literal["float64", "float32"] = "float64",
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, xr.Dataset]:
    """Run every population on a problem; return a Dataset for each, by name.

    Each Dataset has the positions of the first particles (time, particle, parameter), and counts and averages of all
    particles at each frame, with names and units. `threads` defaults to the processors that this process may use; it
    changes no bit of the result. Raises InputError when a rule cannot take a gradient of the loss.

    >>> import sandbox
    >>> prior = sandbox.Prior.parse({"w1": "uniform(-1, 1)", "w2": "uniform(-1, 1)"})
    >>> loss = sandbox.potential(prior.names, "(w1 * w2)**2 / 2")
    >>> strata = sandbox.ZeroSet.parse(prior.names, {"crossing": ["w1", "w2"], "arm_1": "w2", "arm_2": "w1"})
    >>> problem = sandbox.Problem(loss, prior, strata, nbeta=1000)
    >>> flow = sandbox.Population("flow", sandbox.GradientDescent(learning_rate=0.1))
    >>> sandbox.simulate(problem, [flow], steps=1000, particles=512)["flow"]["count"].sizes
    Frozen({'time': 100, 'stratum': 5})
    """
    sizes = Sizes(particles, steps, record, precision)
    return run_populations(problem, populations, sizes, threads=threads, progress=progress)


def run_populations(
    problem: Problem,
    populations: Sequence[Population],
    sizes: Sizes,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, xr.Dataset]:
    """Run populations of the given sizes; see `simulate`."""
    threads = threads or processors()
    with ThreadPoolExecutor(threads) as pool:
        ends: dict[str, Array] = {}
        runs = [_Run(problem, sizes, population, pool, threads, ends) for population in populations]
        return {run.population.name: run.record(progress or Silent()) for run in runs}


def shares_of(blocks: int, threads: int) -> list[tuple[int, int]]:
    """Return ranges of blocks for a pool of threads: several per thread, because some processors are slower."""
    edges = np.linspace(0, blocks, SHARES * threads + 1).astype(int).tolist()
    return [(a, b) for a, b in pairwise(edges) if a < b]


def population_kernel(problem: Problem, population: Population, precision: str = "float64") -> kernel.Kernel:
    """Return the kernel that moves a population."""
    return kernel.build(
        problem.loss,
        problem.prior,
        population.rule,
        population.gradient,
        nbeta=population.rule.nbeta_or(problem.nbeta),
        reflecting=problem.walls == "reflecting",
        dtype=precision,
    )


@dataclass
class _Run:
    """The run of one population."""

    problem: Problem
    sizes: Sizes
    population: Population
    pool: ThreadPoolExecutor
    threads: int
    ends: dict[str, Array]
    """The final points (N, D) of the populations that have run, by name."""

    def record(self, progress: Progress) -> xr.Dataset:
        times, particles = self.sizes.times, self.sizes.particles
        progress.start(f"{self.population.name}: kernel", 1.0)
        self.kernel = population_kernel(self.problem, self.population, self.sizes.precision)
        progress.start(f"{self.population.name}: {particles:,} particles", float(self.sizes.steps))
        self.key = random_numbers.key(self.problem.seed, f"population {self.population.name}")
        positions = self.kernel.pack(start(self.problem, self.population, particles, self.ends), self.key)
        observer = Observer(self.problem, self.sizes)
        observer.record(0, self.kernel.unpack(positions, particles))
        for frame in range(1, len(times)):
            for done in self._advance(positions, int(times[frame - 1]), int(times[frame])):
                progress.advance(done)
            observer.record(frame, self.kernel.unpack(positions, particles))
        self.ends[self.population.name] = self.kernel.unpack(positions, particles)
        return observer.dataset(self.population).assign_attrs(self._acceptance(positions))

    def _acceptance(self, positions: npt.NDArray[Any]) -> dict[str, float]:
        """Return the share of accepted proposals as `acceptance`; empty for a rule without proposals."""
        accepted = self.kernel.state(positions, self.sizes.particles).get("accepted")
        return {} if accepted is None else {"acceptance": float(accepted.mean() / self.sizes.steps)}

    def _advance(self, positions: npt.NDArray[Any], first: int, last: int) -> Iterator[int]:
        """Move all blocks from step `first` to `last` in calls of about _CALL_SECONDS; yield the steps done by each."""
        ranges = shares_of(len(positions), self.threads)
        step, count = first, 1
        while step < last:
            steps = (step, min(step + count, last))
            began = time.perf_counter()
            calls = [
                self.pool.submit(self.kernel.advance, positions, blocks, steps, self.sizes.steps, self.key)
                for blocks in ranges
            ]
            for call in calls:
                call.result()
            took = max(time.perf_counter() - began, 1e-6)
            yield steps[1] - step
            step = steps[1]
            count = max(1, min(4 * count, math.ceil(count * _CALL_SECONDS / took)))
