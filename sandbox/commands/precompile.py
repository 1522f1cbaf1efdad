"""Compilation of the kernels of scenarios before their first run."""

from __future__ import annotations

from collections.abc import Sequence

from sandbox.comparison.decomposition import rungs
from sandbox.compiled.cache import cache_directory
from sandbox.dynamics.population import Population
from sandbox.dynamics.simulate import population_kernel
from sandbox.scenario.scenario import Scenario, load
from sandbox.tools.errors import InputError
from sandbox.tools.progress import Progress, Silent


def precompile(names: Sequence[str], *, progress: Progress | None = None) -> tuple[int, int]:
    """Compile the kernels of scenarios (files or shipped names) into the cache; return how many were new, and known.

    Raises InputError before any compilation if a scenario is wrong or if the cache is off.
    """
    if cache_directory() is None:
        raise InputError("SANDBOX_CACHE is 'off', so that no kernel would be kept; allowed: a folder")
    scenarios = [load(name) for name in names]
    progress = progress or Silent()
    progress.start("kernels", float(len(scenarios)))
    found = []
    for scenario in scenarios:
        for population in _populations(scenario):
            kernel = population_kernel(scenario.problem, population, scenario.sizes.precision)
            found.append(kernel.from_cache)
        progress.advance(1)
    return found.count(False), found.count(True)


def _populations(scenario: Scenario) -> list[Population]:
    """Return the populations of a scenario and the rungs of its decomposition."""
    asked = scenario.decomposition
    parts = [p for p in scenario.populations if asked is not None and p.name == asked.population]
    return [*scenario.populations, *(rung for part in parts for rung in rungs(part).values())]
