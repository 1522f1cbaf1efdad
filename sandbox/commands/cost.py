"""The cost of a scenario before it runs: time from a short probe, memory and disk from the sizes."""

from __future__ import annotations

import dataclasses
import time

from sandbox.comparison.decomposition import rungs
from sandbox.compiled import functions, random_numbers
from sandbox.dynamics.codegen.step_code import planes_of
from sandbox.dynamics.frames import Sizes
from sandbox.dynamics.population import Population
from sandbox.dynamics.rules.langevin import Langevin
from sandbox.dynamics.simulate import population_kernel
from sandbox.dynamics.start import origin, start
from sandbox.measurements.base import Measurement
from sandbox.measurements.loss.chains import ChainSettings
from sandbox.model.problem import Problem
from sandbox.model.strata import DIVERGED
from sandbox.scenario.scenario import Scenario
from sandbox.tools.memory import check_fits
from sandbox.tools.parallel import processors

_PROBE_PARTICLES = 4096
_PROBE_SECONDS = 0.2
_COPIES = 3
"""The blocks of a population, its points, and one more copy at a frame."""


def check_memory(scenario: Scenario) -> None:
    """Raise InputError if the particles and their record do not fit into the memory of this machine."""
    check_fits(_memory(scenario), "fewer particles, record.positions or record.frames need less")


def estimate(scenario: Scenario) -> list[str]:
    """Return lines with the estimated time, memory and disk space of a run."""
    sizes, threads = scenario.sizes, processors()
    count = len(scenario.populations)
    seconds = sum(_seconds(scenario, population) for population in scenario.populations) / threads
    parts = [f"populations about {seconds:.1f} s"] if count else []
    asked = scenario.decomposition
    if asked is not None:
        (population,) = (p for p in scenario.populations if p.name == asked.population)
        added = sum(_seconds(scenario, rung) for rung in rungs(population).values())
        more = (added + asked.longer * _seconds(scenario, population)) / threads
        parts.append(f"decomposition about {more:.1f} s")
    uncounted = ["the posterior and its references"] if count else []
    for measurement in scenario.measurements:
        took = _chain_seconds(scenario, measurement)
        if took is None:
            uncounted.append(measurement.name)
        else:
            parts.append(f"{measurement.name} about {took / threads:.1f} s")
    beyond = f"; not counted: {', '.join(uncounted)}" if uncounted else ""
    return [
        f"  cost        {count} populations x {sizes.particles:,} particles x {sizes.steps:,} steps, {threads} threads",
        f"              {', '.join(parts) or 'no populations'}{beyond}",
        f"              about {_memory(scenario) / 2**20:.0f} MiB for positions and record, at most "
        f"{_disk(scenario) / 2**20:.1f} MiB on disk",
    ]


def _disk(scenario: Scenario) -> float:
    """Return the bytes of the populations' records."""
    problem, sizes = scenario.problem, scenario.sizes
    names = len(problem.zero_set.names) + len([DIVERGED])
    kept = min(sizes.record.positions, sizes.particles) * len(problem.prior.names) * 4
    frame = kept + 8 * (names + 5 + len(problem.zero_set.strata) * sizes.record.bins)
    return float(min(sizes.record.frames, sizes.steps + 1)) * frame * len(scenario.populations)


def _memory(scenario: Scenario) -> float:
    """Return the bytes of one population's particles, and of all records."""
    size = len(scenario.problem.prior.names)
    planes = max((planes_of(p.rule, size) for p in scenario.populations), default=size)
    return _COPIES * float(scenario.sizes.particles * planes * 8) * bool(scenario.populations) + _disk(scenario)


def _seconds(scenario: Scenario, population: Population) -> float:
    """Return the estimated time of a population on one thread, in seconds."""
    return _probed(scenario.problem, scenario.sizes, population, origin(scenario.populations, population))


def _probed(problem: Problem, sizes: Sizes, population: Population, first: Population) -> float:
    """Return the estimated time of a population that starts like `first`, in seconds, from a short probe."""
    particles = min(sizes.particles, _PROBE_PARTICLES)
    kernel = population_kernel(problem, population, sizes.precision)
    positions = kernel.pack(start(problem, first, particles))
    count, took = 1, 0.0
    while took < _PROBE_SECONDS and count < sizes.steps:
        count = min(4 * count, sizes.steps)
        began = time.perf_counter()
        kernel.advance(positions, (0, len(positions)), (0, count), sizes.steps, random_numbers.key(0, "probe"))
        took = time.perf_counter() - began
    blocks = -(-sizes.particles // functions.LANES)
    return took / count * sizes.steps * blocks / len(positions)


def _chain_seconds(scenario: Scenario, measurement: Measurement) -> float | None:
    """Return the estimated time of a measurement's Langevin chains on one thread; None if it has none."""
    chains = getattr(measurement, "chains", None)
    if not isinstance(chains, ChainSettings):
        return None
    steps = chains.burn_in + chains.draws * chains.thinning
    sizes = dataclasses.replace(scenario.sizes, particles=chains.particles, steps=steps)
    mover = Population("chains", Langevin(step_size=1e-9))
    return _probed(scenario.problem, sizes, mover, mover)
