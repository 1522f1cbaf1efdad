"""The kernels of scenarios, compiled before their first run and in as many processes as there are processors."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from sandbox.decomposition import rungs
from sandbox.draws import compile_draws
from sandbox.errors import InputError
from sandbox.fork import processors
from sandbox.machine_code import cache_directory
from sandbox.progress import Progress, Silent
from sandbox.scenario import Population, Scenario, load
from sandbox.simulate import population_kernel


def precompile(scenarios: Sequence[str], *, progress: Progress | None = None) -> tuple[int, int]:
    """Put the kernels of scenarios (files or shipped names) into the cache; return how many were new, and known.

    Raises InputError where a scenario is wrong, before any is compiled, or where nothing would be kept.
    """
    if cache_directory() is None:
        raise InputError("SANDBOX_CACHE is 'off', so that no kernel would be kept; allowed: a folder")
    for name in scenarios:
        load(name)
    progress = progress or Silent()
    progress.start("kernels", float(len(scenarios)))
    # Else each of the processes below would wait for the first to compile them.
    compile_draws()
    new, known = 0, 0
    # Numba compiles one function at a time in a process; fresh ones, as forks of a process with threads may hang.
    with ProcessPoolExecutor(processors(), multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(_compiled, name) for name in scenarios]):
            found = done.result()
            new, known = new + found.count(False), known + found.count(True)
            progress.advance(1)
    return new, known


def compile_for(scenario: Scenario) -> list[bool]:
    """Put the kernels of a scenario into the cache; return whether each was there.

    The last one comes first: a run that goes on meanwhile begins with the first.
    """
    return [population_kernel(scenario, population).from_cache for population in reversed(_populations(scenario))]


def _compiled(name: str) -> list[bool]:
    return compile_for(load(name))


def _populations(scenario: Scenario) -> list[Population]:
    """Return the populations of a scenario, and those of its decomposition."""
    asked = scenario.decomposition
    parts = [p for p in scenario.populations if asked is not None and p.name == asked.population]
    return [*scenario.populations, *(rung for part in parts for rung in rungs(part).values())]
