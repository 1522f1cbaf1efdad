"""The main job: a scenario in; a record, an answer, a figure and an animation out."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sandbox import stability
from sandbox.compare import compare
from sandbox.decomposition import decompose
from sandbox.fork import is_copy, meanwhile, processes, processors
from sandbox.machine_code import cache_directory
from sandbox.measured.base import Measurement, OfParticles, OfPosterior
from sandbox.measured.tracks import Track
from sandbox.precompile import compile_for
from sandbox.progress import Progress, Silent
from sandbox.reference import References, coefficients
from sandbox.report import answer, markdown
from sandbox.result import STORE, assemble, save, written_beside
from sandbox.scenario import Scenario, load
from sandbox.simulate import simulate
from sandbox.verdict import decide

GIF_FRAMES = 60
"""Frames of the GIF that a run writes: four seconds. `sandbox animate --frames` draws more."""


def run(
    scenario: Scenario | str | Path,
    *,
    overrides: Iterable[str] = (),
    out: str | Path | None = None,
    force: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
    forks: bool = False,
) -> xr.DataTree:
    """Run a scenario (or the file, or the shipped name, of one) and return its record.

    `overrides` are texts like "populations.sgd.learning_rate=0.1". With `out`, the record, the answer, the figure and
    the animation are also written to that folder: all of them, or nothing. With `forks` copies of this process, as many
    as threads, take part in the work (see `processes`); no bit is another. Raises InputError for wrong input.
    """
    if not isinstance(scenario, Scenario):
        scenario = load(scenario, overrides)
    elif list(overrides):
        raise TypeError("overrides are for a scenario's file or name, not for a loaded one")
    progress = progress or Silent()
    with processes(threads or processors()) if forks else contextlib.nullcontext():
        if out is None:
            return record(scenario, threads=threads, progress=progress)
        with written_beside(Path(out), force=force) as folder:
            tree = record(scenario, threads=threads, progress=progress)
            write(tree, folder, progress)
    return tree


def record(scenario: Scenario, *, threads: int | None = None, progress: Progress | None = None) -> xr.DataTree:
    """Return the record of a run: populations, posterior, comparison with verdicts."""
    progress = progress or Silent()
    # A copy begins at once, and what it has not begun when particles are done this process takes from it.
    with meanwhile(*_ahead(scenario)) as ahead:
        # What the scenario states wrongly is found before the long work, not after it.
        known = coefficients(scenario)
        witness = References(scenario)
        progress.start("posterior", 1.0)
        # Before the particles, as it waits for no kernel.
        truth = witness.posterior()
        progress.advance(1)
        populations = simulate(scenario, threads=threads, progress=progress)
        posterior, comparisons = compare(witness, truth, populations, known, progress=progress)
        measured = _measured(witness, _tracks(scenario, populations, posterior), progress)
        if scenario.decomposition is not None:
            measured["decomposition"] = decompose(scenario, populations, posterior, threads=threads, progress=progress)
        progress.start("stability and measurements", 1.0)
        _, *found = ahead()
        progress.advance(1)
    groups = len(found) - len(scenario.populations)
    for more in found[:groups]:
        measured |= more
    decided = {
        population.name: decide(scenario, population, comparisons[population.name], posterior, near)
        for population, near in zip(scenario.populations, found[groups:], strict=True)
    }
    as_asked = [measurement.name for measurement in scenario.measurements]
    in_order = {name: measured[name] for name in (*as_asked, *measured)}
    return assemble(scenario, populations, posterior, decided, in_order)


def _ahead(scenario: Scenario) -> list[Callable[[], Any]]:
    """Return works that wait for no particle: to compile, measurements of the loss, each population's stability."""
    maps = [functools.partial(stability.mapped, scenario, population) for population in scenario.populations]
    groups: dict[str, list[Measurement]] = {}
    for measurement in scenario.measurements:
        if not isinstance(measurement, OfParticles | OfPosterior):
            groups.setdefault(measurement.shares or measurement.name, []).append(measurement)
    # Longest first, as far as that can be told: what is left when particles are done should be short.
    of_loss = [functools.partial(_of_loss, scenario, group) for group in sorted(groups.values(), key=len, reverse=True)]
    return [functools.partial(_compile, scenario), *of_loss, *maps]


def _compile(scenario: Scenario) -> None:
    """Compile, in a copy of the process whose original will wait for kernels."""
    if is_copy() and len(scenario.populations) > 1 and cache_directory() is not None:
        compile_for(scenario)


def _of_loss(scenario: Scenario, measurements: Iterable[Measurement]) -> dict[str, xr.Dataset]:
    return {measurement.name: measurement.measure(scenario) for measurement in measurements}


def _tracks(scenario: Scenario, populations: Mapping[str, xr.Dataset], posterior: xr.Dataset) -> dict[str, Track]:
    """Return where particles have been, and the posterior's draws."""
    tracks = {p.name: Track.recorded(populations[p.name], p.rule, scenario.nbeta) for p in scenario.populations}
    return tracks | {"posterior": Track(posterior.draws.values[np.newaxis], nbeta=scenario.nbeta)}


def _measured(witness: References, tracks: Mapping[str, Track], progress: Progress) -> dict[str, xr.Dataset]:
    """Return the record of each measurement of particles or posteriors; `tracks` is where particles have been."""
    asked = [each for each in witness.scenario.measurements if isinstance(each, OfParticles | OfPosterior)]
    if asked:
        progress.start("measurements", float(len(asked)))
    found = {}
    for measurement in asked:
        if isinstance(measurement, OfParticles):
            found[measurement.name] = measurement.measure_particles(witness.scenario, tracks)
        else:
            found[measurement.name] = measurement.measure_posterior(witness.scenario, witness.of_population)
        progress.advance(1)
    return found


def write(tree: xr.DataTree, folder: Path, progress: Progress) -> None:
    """Write everything that a result folder holds."""
    from sandbox.animation import animate
    from sandbox.figures import save_figure
    from sandbox.measurement_figures import save_measurements

    drawn_of: tuple[tuple[str, Callable[[xr.DataTree, Path], None], str], ...] = (
        ("populations", save_figure, "figure.png"),
        ("measurements", save_measurements, "measurements.png"),
        ("populations", functools.partial(animate, frames=GIF_FRAMES), "animation.gif"),
    )
    pictures = [functools.partial(draw, tree, folder / file) for part, draw, file in drawn_of if part in tree.children]
    progress.start("writing", 2.0)
    # While a copy draws, the record is written; then whoever is free takes the next picture.
    with meanwhile(*pictures) as drawn:
        save(tree, folder / STORE)
        found = answer(tree)
        (folder / "answer.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        (folder / "answer.md").write_text(markdown(found), encoding="utf-8")
        progress.advance(1)
        drawn()
    progress.advance(1)
