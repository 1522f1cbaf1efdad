"""The main job: from a scenario to a record, an answer, a figure and an animation."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from sandbox.commands.cost import check_memory, estimate
from sandbox.comparison.decomposition import decompose
from sandbox.comparison.law import law
from sandbox.comparison.occupancy import compare
from sandbox.comparison.page import markdown
from sandbox.comparison.record import assemble, save, written_beside
from sandbox.comparison.references import References, coefficients, equally_singular
from sandbox.comparison.report import answer
from sandbox.comparison.verdict import decide
from sandbox.dynamics.simulate import run_populations
from sandbox.dynamics.stability.map import stability_map
from sandbox.measurements.base import OfLoss, OfParticles, OfPosterior
from sandbox.measurements.tracks import POSTERIOR, Track
from sandbox.scenario.files import STORE
from sandbox.scenario.scenario import Scenario, load
from sandbox.tools.errors import UnwrittenError
from sandbox.tools.parallel import limited
from sandbox.tools.progress import Progress, Silent, on_stderr
from sandbox.tools.whole import write_whole

GIF_FRAMES = 60
"""The most frames of the GIF that a run writes: four seconds. `sandbox animate --frames` can draw more."""


def run(
    scenario: Scenario | str | Path | Mapping[str, Any],
    *,
    overrides: str | Iterable[str] = (),
    seed: int | None = None,
    particles: int | None = None,
    quick: bool = False,
    out: str | Path | None = None,
    force: bool = False,
    threads: int | None = None,
    progress: Progress | bool = False,
    report: Callable[[str], None] | None = None,
) -> xr.DataTree:
    """Run a scenario and return its record, an xarray.DataTree.

    `scenario` is a Scenario, a file, the name of a shipped one, the folder of a result, or a mapping with the keys of a
    scenario file. `overrides` is a text like "populations.sgd.learning_rate=0.1", or several. `quick` asks for a look:
    at most 512 particles and 2,000 steps, lighter measurements. With `out`, record, answer and pictures are written to
    that folder, all or nothing; `force` replaces a finished result. `progress` shows progress on stderr, and `report`
    gets the text of the estimated cost before the work. `threads` defaults to the processors of this process; it
    changes no bit of the result. Raises InputError for wrong input, and UnwrittenError, a RunError with the record, if
    the result cannot take its place; the message names the files that are kept.

    >>> import sandbox
    >>> tree = sandbox.run("crossing", quick=True, seed=2, overrides="populations.sgd.learning_rate=0.1")
    >>> sorted(tree["populations"].children)
    ['langevin', 'sgd']
    """
    shown = (on_stderr() if progress else Silent()) if isinstance(progress, bool) else progress
    try:
        with limited(threads):
            asked = _asked(scenario, overrides, seed, particles, quick)
            check_memory(asked)
            if out is None:
                return record(asked, look=quick, progress=shown, report=report)
            return _recorded(asked, Path(out), force=force, look=quick, progress=shown, report=report)
    finally:
        if isinstance(progress, bool):
            shown.close()


def _recorded(scenario: Scenario, out: Path, *, force: bool, progress: Progress, **options: Any) -> xr.DataTree:
    """Run a scenario as `record` does with its `options`, write the result to a folder, and return the record.

    Raises UnwrittenError with the record if the result cannot take its place.
    """
    tree = None
    try:
        with written_beside(out, force=force) as folder:
            tree = record(scenario, progress=progress, **options)
            write(tree, folder, progress)
    except UnwrittenError as error:
        error.record = tree
        raise
    return tree


def _asked(
    scenario: Scenario | str | Path | Mapping[str, Any],
    overrides: str | Iterable[str],
    seed: int | None,
    particles: int | None,
    quick: bool,
) -> Scenario:
    """Return the scenario with all changes applied to its text. Raises InputError."""
    if isinstance(scenario, Mapping):
        scenario = Scenario.from_dict(scenario)
    changes = [overrides] if isinstance(overrides, str) else list(overrides)
    changes += [f"{key}={value}" for key, value in (("seed", seed), ("particles", particles)) if value is not None]
    asked = scenario.changed(*changes) if isinstance(scenario, Scenario) else load(scenario, changes)
    return asked.changed(*lighter(asked)) if quick else asked


def lighter(scenario: Scenario) -> list[str]:
    """Return the overrides that make a scenario a look: fewer particles and steps, lighter measurements."""
    sizes = scenario.sizes
    # Four blocks of the kernels' lanes: a share is still known to 2%.
    few = [f"particles={min(sizes.particles, 512)}", f"steps={min(sizes.steps, 2000)}"]
    few.append(f"record.frames={min(sizes.record.frames, 12)}")
    # A look has the posterior method of the full run, with less precision.
    sampled = ["witness.particles=128", "witness.runs=4", "witness.sweeps=12", "witness.share_tolerance=0.01"]
    measured = [f"measurements.{m.name}.{key}={value}" for m in scenario.measurements for key, value in m.quick.items()]
    return [*(few if scenario.populations else []), *sampled, *measured]


def record(
    scenario: Scenario,
    *,
    look: bool = False,
    progress: Progress | None = None,
    report: Callable[[str], None] | None = None,
) -> xr.DataTree:
    """Return the record of a run: populations, posterior, comparison with verdicts, measurements.

    `look` marks it as the record of a smaller run than the scenario asks for.
    """
    progress = progress or Silent()
    # This raises if a stated λ is wrong, before the long work.
    known = coefficients(scenario)
    if report is not None:
        report("\n".join(estimate(scenario)))
    references = References(scenario)
    progress.start("posterior", 1.0)
    # The posterior comes before the particles: if it cannot be computed, the error comes early.
    reference = references.posterior()
    progress.advance(1)
    populations = run_populations(scenario.problem, scenario.populations, scenario.sizes, progress=progress)
    posterior, populations, comparisons = compare(references, reference, populations, known, progress=progress)
    measured = _measured(references, _tracks(scenario, populations, posterior), progress)
    if scenario.decomposition is not None:
        measured["decomposition"] = decompose(scenario, populations, posterior, progress=progress)
    decided = {}
    for population in scenario.populations:
        progress.start(f"{population.name}: stability", 1.0)
        near = stability_map(scenario.problem, population, scenario.sizes.steps)
        data, comparison = populations[population.name], comparisons[population.name]
        at_work = law(scenario.problem, population, data, posterior, float(comparison.agreement.sel(bound="low")))
        decided[population.name] = decide(
            scenario, population, comparison, near, at_work, equally_singular=equally_singular(known)
        )
        progress.advance(1)
    return assemble(scenario, populations, posterior, decided, measured, look=look)


def _tracks(scenario: Scenario, populations: Mapping[str, xr.Dataset], posterior: xr.Dataset) -> dict[str, Track]:
    """Return each population's positions over the frames, and the posterior samples, as tracks."""
    tracks = {p.name: Track.recorded(populations[p.name], p.rule, scenario.problem.nbeta) for p in scenario.populations}
    samples = posterior.position.values.reshape(1, -1, posterior.sizes["parameter"])
    return tracks | {POSTERIOR: Track(samples, nbeta=scenario.problem.nbeta)}


def _measured(references: References, tracks: Mapping[str, Track], progress: Progress) -> dict[str, xr.Dataset]:
    """Return the record of each measurement; `tracks` are those of the populations and of the posterior's draws."""
    problem, asked = references.scenario.problem, references.scenario.measurements
    if asked:
        progress.start("measurements", float(len(asked)))
    found = {}
    for measurement in asked:
        if isinstance(measurement, OfLoss):
            found[measurement.name] = measurement.measure(problem)
        elif isinstance(measurement, OfParticles):
            found[measurement.name] = measurement.measure_particles(problem, tracks)
        elif isinstance(measurement, OfPosterior):
            found[measurement.name] = measurement.measure_posterior(problem, references.of_population)
        progress.advance(1)
    return found


def write(tree: xr.DataTree, folder: Path, progress: Progress) -> None:
    """Write all files of a result folder, each whole or not at all, the small ones first. Raises OSError."""
    from sandbox.pictures.animation import animate
    from sandbox.pictures.figure import save_figure
    from sandbox.pictures.loss_panels import save_measurements
    from sandbox.pictures.simplicity import save_simplicity

    drawn_of: tuple[tuple[str, Callable[[xr.DataTree, Path], None], str], ...] = (
        ("populations", save_simplicity, "simplicity.png"),
        ("populations", save_figure, "figure.png"),
        ("measurements", save_measurements, "measurements.png"),
        ("populations", functools.partial(animate, frames=GIF_FRAMES), "animation.gif"),
    )
    progress.start("writing", 2.0)
    found = answer(tree)
    write_whole(folder / "answer.json", (json.dumps(found, indent=1) + "\n").encode())
    write_whole(folder / "answer.md", markdown(found).encode())
    save(tree, folder / STORE)
    progress.advance(1)
    for part, draw, file in drawn_of:
        if part in tree.children:
            draw(tree, folder / file)
    progress.advance(1)
