"""The main job: a scenario in; a record, an answer, a figure and an animation out."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import xarray as xr

from sandbox import stability
from sandbox.compare import compare
from sandbox.decomposition import decompose
from sandbox.fork import is_copy, meanwhile, processes, processors
from sandbox.machine_code import cache_directory
from sandbox.measured.base import OfParticles, OfPosterior
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
    # Neither kernels nor stability wait for particles, so a copy begins at once.
    with meanwhile(lambda: _ahead(scenario)) as stabilities:
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
        decided = {
            population.name: decide(scenario, population, comparisons[population.name], posterior, near)
            for population, near in zip(scenario.populations, stabilities(), strict=True)
        }
    return assemble(scenario, populations, posterior, decided, measured)


def _ahead(scenario: Scenario) -> list[xr.Dataset]:
    """Return how stable each population is. A copy of the process first compiles, as its original waits for kernels."""
    if is_copy() and len(scenario.populations) > 1 and cache_directory() is not None:
        compile_for(scenario)
    return [stability.mapped(scenario, population) for population in scenario.populations]


def _tracks(scenario: Scenario, populations: Mapping[str, xr.Dataset], posterior: xr.Dataset) -> dict[str, Track]:
    """Return where particles have been, and the posterior's draws."""
    tracks = {p.name: Track.recorded(populations[p.name], p.rule, scenario.nbeta) for p in scenario.populations}
    return tracks | {"posterior": Track(posterior.draws.values[np.newaxis], nbeta=scenario.nbeta)}


def _measured(witness: References, tracks: Mapping[str, Track], progress: Progress) -> dict[str, xr.Dataset]:
    """Return the record of each measurement that the scenario asks for; `tracks` is where particles have been."""
    scenario = witness.scenario
    if scenario.measurements:
        progress.start("measurements", float(len(scenario.measurements)))
    found = {}
    for measurement in scenario.measurements:
        if isinstance(measurement, OfParticles):
            found[measurement.name] = measurement.measure_particles(scenario, tracks)
        elif isinstance(measurement, OfPosterior):
            found[measurement.name] = measurement.measure_posterior(scenario, witness.of_population)
        else:
            found[measurement.name] = measurement.measure(scenario)
        progress.advance(1)
    return found


def write(tree: xr.DataTree, folder: Path, progress: Progress) -> None:
    """Write everything that a result folder holds."""
    from sandbox.animation import animate
    from sandbox.figures import save_figure
    from sandbox.measurement_figures import save_measurements

    def draw_stills() -> None:
        if "populations" in tree.children:
            save_figure(tree, folder / "figure.png")
        if "measurements" in tree.children:
            save_measurements(tree, folder / "measurements.png")

    progress.start("writing", 3.0)
    with meanwhile(draw_stills) as stills:
        save(tree, folder / STORE)
        progress.advance(1)
        found = answer(tree)
        (folder / "answer.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        (folder / "answer.md").write_text(markdown(found), encoding="utf-8")
        if "populations" in tree.children:
            animate(tree, folder / "animation.gif", frames=GIF_FRAMES)
        progress.advance(1)
        stills()
    progress.advance(1)
