"""The meaning and the cost of a scenario before it runs; and a check of the machine."""

from __future__ import annotations

import platform
from importlib.metadata import version

import numpy as np

from sandbox.commands.cost import check_memory, estimate
from sandbox.commands.rlct import Powers
from sandbox.comparison.references import coefficients
from sandbox.compiled import random_numbers
from sandbox.compiled.cache import SEAL, cache_directory
from sandbox.dynamics.population import Population
from sandbox.dynamics.stability.edge import edge
from sandbox.dynamics.stability.map import step_times_sharpness
from sandbox.dynamics.stability.step import NotLinearError
from sandbox.learning_coefficient.at_point import spelled
from sandbox.learning_coefficient.coefficient import LearningCoefficient
from sandbox.learning_coefficient.of_strata import generic_points, theory_of
from sandbox.measurements.loss.volume import volume
from sandbox.model.coverage import POINTS, coverage
from sandbox.model.problem import Problem
from sandbox.scenario.scenario import Scenario
from sandbox.tools.parallel import processors

_FAR = 10.0
"""A step this many times beyond its edge, on every stratum, causes a warning."""


def describe(scenario: Scenario) -> str:
    """Return the text of `sandbox check`: loss, strata with λ and m, coverage, stability, time, memory and disk."""
    check_memory(scenario)
    problem, sizes = scenario.problem, scenario.sizes
    loss, names = problem.loss, problem.prior.names
    between = "moments between kinks only" if loss.pieces else "every sample"
    data = "moments only" if loss.is_affine else between
    kind = f"n = {loss.samples}, the data enter through {data}" if loss.samples else "no samples: the expected loss"
    lines = [
        f"{scenario.filename}: {scenario.question}",
        f"  parameters  {', '.join(f'{n} ~ {d}' for n, d in zip(names, problem.prior.distributions, strict=True))}",
        f"  loss        {kind}; posterior at nbeta = {problem.nbeta:g}; walls {problem.walls}",
    ]
    if problem.zero_set.strata:
        lines.append(f"  strata      within a tube of {problem.zero_set.tube:g}")
        for k, found in enumerate(coefficients(scenario)):
            lines += _stratum(problem, k, found)
        lines += _coverage(problem)
    else:
        lines.append("  strata      none: shares, λ and stability are not shown")
    lines.append("  step size times sharpness, median (largest), and the edge of stability of the step without noise")
    for population in scenario.populations:
        lines += _stability(problem, population, sizes.steps)
    return "\n".join([*lines, *estimate(scenario)])


def _stability(problem: Problem, population: Population, steps: int) -> list[str]:
    """Return lines on a population: step size times sharpness on each stratum, and the rule's own edge."""
    products = step_times_sharpness(problem, population, steps)
    row = ", ".join(
        f"{stratum.name} {median:.3g} ({largest:.3g})"
        for stratum, (median, largest) in zip(problem.zero_set.strata, products, strict=True)
    )
    warning: list[str] = []
    try:
        own = edge(population.rule, steps)
        limit = f"edge {own:.4g}"
        if len(products) and (np.asarray(products)[:, 0] > _FAR * own).all():
            warning = [
                f"    warning: on every stratum the step of {population.name} is far beyond its edge: it diverges"
            ]
    except NotLinearError as error:
        limit = f"no edge: {error}"
    substeps = " (of a substep)" if population.rule.moves_per_step > 1 else ""
    return [f"    {population.name:16s} {row}{'; ' * bool(row)}{limit}{substeps}", *warning]


def _stratum(problem: Problem, k: int, used: LearningCoefficient | None) -> list[str]:
    """Return lines on a stratum: dimension, λ and m at a generic and at the most singular point, and their source."""
    theory = theory_of(problem.population_loss, problem.prior, problem.zero_set, k)
    size = "dimension unknown" if theory.dimension is None else f"dimension {theory.dimension}"
    lines = [f"    {problem.zero_set.strata[k].name:16s} {size}; generic: {_coefficient(used)}"]
    if theory.deepest_point is not None:
        here = spelled(problem.population_loss.symbols, theory.deepest_point)
        lines.append(f"    {'':16s} most singular, {here}: {_coefficient(theory.deepest)}")
    if theory.generic is None and used is not None and used.value is not None:
        lines += _against_volume(problem, k, float(used.value))
    return lines


def _against_volume(problem: Problem, k: int, stated: float) -> list[str]:
    """Return lines that compare a stated λ, which no theorem gives, with the volume near a point of the stratum."""
    points = generic_points(problem.prior, problem.zero_set, k)
    if not len(points):
        return []
    around = Powers(points[0], np.zeros(len(points[0])), problem.zero_set.tube)
    found = volume(problem.population_loss.excess, around, seed=problem.seed).attrs
    value, low, high = (float(found[name]) for name in ("estimate", "low", "high"))
    at = ", ".join(f"{n} = {v:.4g}" for n, v in zip(problem.prior.names, points[0], strict=True))
    said = f"by volume around {at}: λ = {value:.3f}, 95% interval [{low:.3f}, {high:.3f}]"
    # The interval is doubled, so that among many correct values few cause a warning.
    off = abs(stated - value) > 2 * max(high - value, value - low)
    return [f"    {'':16s} {said}"] + [f"    warning: λ = {stated:g} is stated, outside this interval"] * off


def _coefficient(found: LearningCoefficient | None) -> str:
    if found is None:
        return "λ unknown; `learning_coefficient` may state it"
    return f"λ = {found.value}, m = {found.multiplicity} ({found.method}: {found.explanation})"


def _coverage(problem: Problem) -> list[str]:
    """Return lines on the coverage of W0: the points that descended onto W0, and those outside all strata."""
    found = coverage(problem.population_loss, problem.prior, problem.zero_set)
    missed = f"{len(found.missed)} of them outside all strata"
    lines = [f"    {found.landed} of {POINTS} random points descended onto W0, {missed}"]
    if len(found.missed):
        at = ", ".join(f"{n} = {v:.4g}" for n, v in zip(problem.prior.names, found.missed[0], strict=True))
        lines.append(f"    warning: the strata miss a part of W0, for example near {at}")
    return lines


def diagnose() -> str:
    """Return versions, processors, the state of the kernel cache and a self-test of the random numbers, as text."""
    packages = ("numpy", "numba", "llvmlite", "scipy", "sympy", "xarray", "zarr", "matplotlib", "pydantic")
    directory = cache_directory()
    cache = "off" if directory is None else f"{directory}, {len(list(directory.glob(f'*/{SEAL}')))} functions"
    # The first known-answer vector published by Random123 for Philox 4x32-10.
    known = np.array([0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8], np.uint32)
    right = (random_numbers.philox(np.zeros(4, np.uint32), np.zeros(2, np.uint32)) == known).all()
    return "\n".join(
        [
            f"sandbox {version('sandbox-slt')}, Python {platform.python_version()}, {platform.platform()}",
            ", ".join(f"{name} {version(name)}" for name in packages),
            f"processors: {processors()}",
            f"kernel cache: {cache}",
            f"random numbers: {'as published' if right else 'WRONG: Philox does not give its known answers'}",
        ]
    )
