"""Small scenarios that run quickly, commands on them, and records of particles placed by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from click.testing import CliRunner, Result

from sandbox.commands.cli import main
from sandbox.comparison.law import law
from sandbox.comparison.occupancy import compare
from sandbox.comparison.record import assemble
from sandbox.comparison.references import References, coefficients
from sandbox.comparison.verdict import decide
from sandbox.dynamics.simulate import run_populations
from sandbox.dynamics.stability.map import stability_map
from sandbox.dynamics.start import start
from sandbox.dynamics.statistics import TUBE_FACTORS
from sandbox.model.strata import DIVERGED
from sandbox.scenario.scenario import Scenario, loads
from sandbox.tools.arrays import Array

# The shipped uneven crossing with few samples and bins: its kernels, a light posterior.
ARMS = """\
question: Which arm?
parameters:
  w1: uniform(-1, 1)
  w2: uniform(-1, 1)
loss:
  model: w1 * w2**2 * x
  truth: 0
  inputs:
    x: normal(0, 1)
  noise: 1.0
  samples: 100
strata:
  crossing: {zero: [w1, w2]}
  flat_arm: {zero: [w2], along: w1}
  sharp_arm: {zero: [w1], along: w2}
populations:
  sgd: {rule: sgd, learning_rate: 0.05, gradient: {minibatch: 8, draw: with_replacement}}
  langevin: {rule: langevin, step_size: 1e-3}
particles: 300
steps: 200
record: {frames: 6, bins: 4}
seed: 3
"""

# At -1 the loss is of fourth order (λ = 1/4), at 1 of second (λ = 1/2).
WELLS = """\
question: Which well?
parameters:
  w: uniform(-2, 2)
loss:
  potential: (w - 1)**2 * (w + 1)**4 / 8
  gradient_noise: {isotropic: 0.5}
nbeta: 50
strata:
  flat: {zero: [w + 1]}
  sharp: {zero: [w - 1]}
tube: 0.2
populations:
  sgd: {rule: sgd, learning_rate: 0.05, gradient: noisy}
  langevin: {rule: langevin, step_size: 1e-4}
particles: 300
steps: 50
record: {frames: 5}
seed: 1
"""

PARABOLA = """\
question: Is it a parabola?
parameters:
  w: uniform(-10, 10)
loss: {potential: w**2 / 2}
nbeta: 100
strata:
  minimum: {zero: [w]}
populations:
  langevin: {rule: langevin, step_size: 1e-4}
steps: 10
"""


# Every measurement in its lightest form. The names of populations, strata and the derived quantity are those of
# dimensions, variables and groups of the record.
EVERYTHING = """\
question: Is everything recorded?
parameters:
  draw: uniform(-1, 1)
  chain: uniform(-1, 1)
loss:
  model: draw * chain**2 * x
  truth: 0
  inputs:
    x: normal(0, 1)
  noise: 1.0
  samples: 30
strata:
  source: {zero: [draw, chain]}
  stratum: {zero: [chain], along: draw}
  start: {zero: [draw], along: chain}
derived: {quantity: draw**2 - chain**2}
populations:
  time: {rule: sgd, learning_rate: 0.05, gradient: {minibatch: 8, draw: with_replacement}}
  population: {rule: langevin, step_size: 1e-3}
particles: 100
steps: 60
record: {frames: 12, spacing: linear, bins: 4}
seed: 3
witness: {method: sampling, particles: 64, runs: 2, sweeps: 12}
decomposition: {population: time, longer: 2}
measurements:
  volume: {particles: 512, decades: 20}
  free_energy: {largest_n: 1e9}
  zeta: {largest_n: 1e9}
  llc: {chains: {particles: 32, burn_in: 50, draws: 10, thinning: 2}}
  wbic: {samples: [100, 300, 1000]}
  waic: {samples: 30, data_sets: 2}
  laplace: {bins: 20}
  flatness: {points: 2}
  phases: {samples: [10, 100]}
  local_llc: {points: 4, steps: 20}
  sharpness: {frames: 4, particles: 20}
  conserved:
  passage:
  mixing:
  current:
  temperature:
"""


def simulated(scenario: Scenario, threads: int | None = None) -> dict[str, xr.Dataset]:
    """Run all populations of a scenario."""
    return run_populations(scenario.problem, scenario.populations, scenario.sizes, threads=threads)


def starts(scenario: Scenario, k: int) -> Array:
    """The starting points of a scenario's population k, shape (N, D)."""
    return start(scenario.problem, scenario.populations[k], scenario.sizes.particles)


def small(text: str, *changes: tuple[str, str]) -> Scenario:
    """Return the scenario of a text after replacements; each replaced text must occur in it."""
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in the text"
        text = text.replace(old, new)
    return loads(text, "small.yaml")


def record_of(scenario: Scenario, points: Array, excess: float | None = None, gone: int = 0) -> xr.Dataset:
    """Return the record of particles that stand at `points` (N, D) at two times, and of `gone` diverged ones.

    Their mean excess loss is `excess`, if that is given.
    """
    zero_set = scenario.problem.zero_set
    along_strata = zero_set.along_strata

    def counted(factor: float) -> npt.NDArray[np.int64]:
        found = zero_set.strata_of(points, factor * zero_set.tube)
        return np.append(np.bincount(found, minlength=len(zero_set.names)), gone)

    found = zero_set.strata_of(points)
    bins = scenario.sizes.record.bins
    along = [
        np.histogram(zero_set.along(points[found == k], k), bins, range=_extent(scenario, k))[0] for k in along_strata
    ]
    mean = float(scenario.problem.loss.excess(points).mean()) if excess is None else excess
    names = np.array([*zero_set.names, DIVERGED], dtype=object)
    strata = len(names) - 2
    moves = np.zeros((2, strata, len(names)), np.int64)
    # One particle went from the first stratum to the last; of the diverged ones, one was on the first.
    moves[1, 0, strata - 1] = 1
    moves[1, 0, -1] = min(gone, 1)
    lost = np.full((gone, points.shape[1]), np.inf)
    ends = np.concatenate([points, lost])
    return xr.Dataset(
        {
            "count": (("time", "stratum"), np.array([counted(1.0)] * 2)),
            "tube_count": (("tube_factor", "stratum"), np.array([counted(f) for f in TUBE_FACTORS])),
            "along_count": (
                ("time", "along_stratum", "bin"),
                np.array([along] * 2).reshape(2, len(along_strata), bins),
            ),
            "mean_excess": ("time", [mean, mean]),
            "position": (("time", "particle", "parameter"), np.array([ends] * 2)),
            "final_position": (("scored", "parameter"), ends),
            "moves": (("time", "origin", "stratum"), moves),
        },
        coords={
            "time": [0, scenario.sizes.steps],
            "stratum": names,
            "origin": names[:strata],
            "along_stratum": names[along_strata],
            "tube_factor": np.array(TUBE_FACTORS),
        },
    )


def tree_of(scenario: Scenario, records: dict[str, xr.Dataset]) -> xr.DataTree:
    """Return a run's tree from records made by hand, with what only a simulation adds."""
    for name, record in records.items():
        population = next(p for p in scenario.populations if p.name == name)
        records[name] = record.assign(excess_error=("time", [np.nan, np.nan])).assign_attrs(
            rule=population.rule.rule,
            settings=json.dumps(population.rule.model_dump()),
            gradient=json.dumps({"estimator": population.gradient.name}),
            particles=int(record["count"][0].sum()),
        )
    references = References(scenario)
    truth, records, found = compare(references, references.posterior(), records, coefficients(scenario))
    judged = {}
    for p in scenario.populations:
        near = stability_map(scenario.problem, p, scenario.sizes.steps)
        apart = float(found[p.name].agreement.sel(bound="low"))
        judged[p.name] = decide(
            scenario, p, found[p.name], near, law(scenario.problem, p, records[p.name], truth, apart)
        )
    return assemble(scenario, records, truth, judged, {})


def _extent(scenario: Scenario, k: int) -> tuple[float, float]:
    axis = scenario.problem.prior.names.index(str(scenario.problem.zero_set.strata[k].along))
    low, high = scenario.problem.prior.bounds[axis]
    return float(low), float(high)


def assert_same(one: Mapping[str, xr.Dataset], other: Mapping[str, xr.Dataset]) -> None:
    """Assert that two records agree in every bit, name and attribute."""
    assert list(one) == list(other)
    for name in one:
        xr.testing.assert_identical(one[name], other[name])
        for variable in one[name].variables:
            values = one[name][variable].values
            if values.dtype != object:
                assert values.tobytes() == other[name][variable].values.tobytes(), variable


def sandbox(*arguments: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(main, arguments)


def process(*arguments: str, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    command = [sys.executable, "-m", "sandbox", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False, **options)
