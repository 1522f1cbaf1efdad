"""What a scenario means and what it will cost, before it runs; and whether this machine is fit to run it."""

from __future__ import annotations

import platform
import time
from importlib.metadata import version

import numpy as np

from sandbox import draws, exact, jit, measured, stability
from sandbox.coverage import POINTS, coverage
from sandbox.fork import processors
from sandbox.machine_code import SUFFIX, cache_directory
from sandbox.reference import coefficients
from sandbox.scenario import Population, Scenario, frame_steps
from sandbox.simulate import population_kernel
from sandbox.singularity import Powers
from sandbox.start import origin, start
from sandbox.zero_set import DIVERGED

_PROBE_PARTICLES = 4096
_PROBE_SECONDS = 0.2


def describe(scenario: Scenario) -> str:
    """Return what was derived from a scenario: loss, strata with λ and m, stability, and time, memory and disk."""
    loss, names = scenario.loss, scenario.prior.names
    between = "moments between kinks only" if loss.pieces else "every sample"
    data = "moments only" if loss.is_affine else between
    kind = f"n = {loss.samples}, the data enter through {data}" if loss.samples else "no samples: the expected loss"
    lines = [
        f"{scenario.filename}: {scenario.question}",
        f"  parameters  {', '.join(f'{n} ~ {d}' for n, d in zip(names, scenario.prior.distributions, strict=True))}",
        f"  loss        {kind}; posterior at nbeta = {scenario.nbeta:g}; walls {scenario.walls}",
        f"  strata      within a tube of {scenario.zero_set.tube:g}",
    ]
    for k, found in enumerate(coefficients(scenario)):
        lines += _stratum(scenario, k, found)
    lines += _coverage(scenario)
    lines.append("  step size times sharpness, median (largest); 2 is the edge of stability")
    for population in scenario.populations:
        products = stability.products(scenario, population)
        row = ", ".join(
            f"{stratum.name} {median:.3g} ({largest:.3g})"
            for stratum, (median, largest) in zip(scenario.zero_set.strata, products, strict=True)
        )
        lines.append(f"    {population.name:16s} {row}")
    return "\n".join([*lines, *_cost(scenario)])


def _stratum(scenario: Scenario, k: int, used: exact.LearningCoefficient | None) -> list[str]:
    """Say a stratum's dimension, λ and m at a generic point and at its most singular one, and how they are known."""
    theory = exact.theory_of(scenario.population_loss, scenario.prior, scenario.zero_set, k)
    size = "dimension unknown" if theory.dimension is None else f"dimension {theory.dimension}"
    lines = [f"    {scenario.zero_set.strata[k].name:16s} {size}; generic: {_coefficient(used)}"]
    if theory.deepest_point is not None:
        here = exact.spelled(scenario.population_loss.symbols, theory.deepest_point)
        lines.append(f"    {'':16s} most singular, {here}: {_coefficient(theory.deepest)}")
    if theory.generic is None and used is not None and used.value is not None:
        lines += _against_volume(scenario, k, float(used.value))
    return lines


def _against_volume(scenario: Scenario, k: int, stated: float) -> list[str]:
    """Hold a λ that is stated, and that no theorem gives, against the volume around a point of the stratum."""
    points = exact.generic_points(scenario.prior, scenario.zero_set, k)
    if not len(points):
        return []
    around = Powers(points[0], np.zeros(len(points[0])), scenario.zero_set.tube)
    found = measured.volume(scenario.population_loss.excess, around, seed=scenario.seed).attrs
    value, low, high = (float(found[name]) for name in ("estimate", "low", "high"))
    at = ", ".join(f"{n} = {v:.4g}" for n, v in zip(scenario.prior.names, points[0], strict=True))
    said = f"by volume around {at}: λ = {value:.3f}, 95% interval [{low:.3f}, {high:.3f}]"
    # Twice the interval: of many strata that are right, few may be called wrong.
    off = abs(stated - value) > 2 * max(high - value, value - low)
    return [f"    {'':16s} {said}"] + [f"    warning: λ = {stated:g} is stated, which that does not hold"] * off


def _coefficient(found: exact.LearningCoefficient | None) -> str:
    if found is None:
        return "λ unknown: state `learning_coefficient`, or the answer will be undecided"
    return f"λ = {found.value}, m = {found.multiplicity} ({found.method}: {found.explanation})"


def _coverage(scenario: Scenario) -> list[str]:
    """Say whether the strata hold all of W0 that was found."""
    found = coverage(scenario.population_loss, scenario.prior, scenario.zero_set)
    missed = f"{len(found.missed)} of them outside all strata"
    lines = [f"    {found.landed} of {POINTS} random points descended onto W0, {missed}"]
    if len(found.missed):
        at = ", ".join(f"{n} = {v:.4g}" for n, v in zip(scenario.prior.names, found.missed[0], strict=True))
        lines.append(f"    warning: the strata miss a part of W0, for example near {at}")
    return lines


def _cost(scenario: Scenario) -> list[str]:
    threads = processors()
    frames = len(frame_steps(scenario.steps, scenario.record.frames, scenario.record.spacing))
    size = len(scenario.prior.names)
    labels = len(scenario.zero_set.names) + len([DIVERGED])
    kept = min(scenario.record.positions, scenario.particles) * size * 4
    per_population = frames * (kept + 8 * (labels + 5 + len(scenario.zero_set.strata) * scenario.record.bins))
    seconds = sum(_seconds(scenario, population) for population in scenario.populations) / threads
    memory = 3 * scenario.particles * size * 8 + per_population * len(scenario.populations)
    return [
        f"  cost        {len(scenario.populations)} populations x {scenario.particles:,} particles x "
        f"{scenario.steps:,} steps: about {seconds:.1f} s on {threads} threads, the posterior apart",
        f"              about {memory / 2**20:.0f} MiB for positions and record, at most "
        f"{per_population * len(scenario.populations) / 2**20:.1f} MiB on disk",
    ]


def _seconds(scenario: Scenario, population: Population) -> float:
    """Return the estimated seconds of one thread for a population, from a short probe."""
    kernel = population_kernel(scenario, population)
    positions = kernel.pack(start(scenario, origin(scenario, population))[:_PROBE_PARTICLES])
    count, took = 1, 0.0
    while took < _PROBE_SECONDS and count < scenario.steps:
        count = min(4 * count, scenario.steps)
        began = time.perf_counter()
        kernel.advance(positions, (0, len(positions)), (0, count), scenario.steps, draws.key(0, "probe"))
        took = time.perf_counter() - began
    blocks = -(-scenario.particles // jit.LANES)
    return took / count * scenario.steps * blocks / len(positions)


def diagnose() -> str:
    """Return versions, threads, the state of the kernel cache and the result of a self-test of the draws."""
    packages = ("numpy", "numba", "llvmlite", "scipy", "sympy", "xarray", "zarr", "matplotlib", "pydantic")
    directory = cache_directory()
    cache = "off" if directory is None else f"{directory}, {len(list(directory.glob(f'*{SUFFIX}')))} functions"
    # The first known-answer vector that Random123 publishes for Philox 4x32-10.
    known = np.array([0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8], np.uint32)
    right = (draws.philox(np.zeros(4, np.uint32), np.zeros(2, np.uint32)) == known).all()
    return "\n".join(
        [
            f"sandbox {version('sandbox-slt')}, Python {platform.python_version()}, {platform.platform()}",
            ", ".join(f"{name} {version(name)}" for name in packages),
            f"processors: {processors()}",
            f"kernel cache: {cache}",
            f"draws: {'as published' if right else 'WRONG: Philox does not give its known answers'}",
        ]
    )
