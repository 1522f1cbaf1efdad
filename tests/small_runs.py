"""Small scenarios that run in moments, commands on them, and records of particles placed by hand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from click.testing import CliRunner, Result

from sandbox.cli import main
from sandbox.observer import TUBE_FACTORS
from sandbox.scenario import Scenario, loads
from sandbox.zero_set import DIVERGED

Array = npt.NDArray[np.float64]

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


def small(text: str, *changes: tuple[str, str]) -> Scenario:
    """Return the scenario that a text means after replacements, each of which must find its place."""
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in the text"
        text = text.replace(old, new)
    return loads(text, "small.yaml")


def record_of(scenario: Scenario, points: Array, excess: float | None = None, gone: int = 0) -> xr.Dataset:
    """Return what a run would record of particles that stand at `points` (N, D) at two times, and of `gone` others.

    Their mean excess loss is `excess` where it is given.
    """
    zero_set = scenario.zero_set
    arms = [k for k, stratum in enumerate(zero_set.strata) if stratum.along is not None]

    def counted(factor: float) -> npt.NDArray[np.int64]:
        labels = zero_set.labels(points, factor * zero_set.tube)
        return np.append(np.bincount(labels, minlength=len(zero_set.names)), gone)

    labels = zero_set.labels(points)
    bins = scenario.record.bins
    along = [np.histogram(zero_set.along(points[labels == k], k), bins, range=_extent(scenario, k))[0] for k in arms]
    mean = float(scenario.loss.excess(points).mean()) if excess is None else excess
    names = np.array([*zero_set.names, DIVERGED], dtype=object)
    strata = len(names) - 2
    moves = np.zeros((2, strata, len(names)), np.int64)
    # One particle went from the first stratum to the last; of those that are gone, one was on the first.
    moves[1, 0, strata - 1] = 1
    moves[1, 0, -1] = min(gone, 1)
    return xr.Dataset(
        {
            "count": (("time", "stratum"), np.array([counted(1.0)] * 2)),
            "tube_count": (("tube_factor", "stratum"), np.array([counted(f) for f in TUBE_FACTORS])),
            "along_count": (("time", "arm", "bin"), np.array([along] * 2).reshape(2, len(arms), bins)),
            "mean_excess": ("time", [mean, mean]),
            "moves": (("time", "origin", "stratum"), moves),
        },
        coords={
            "time": [0, scenario.steps],
            "stratum": names,
            "origin": names[:strata],
            "arm": np.array([zero_set.strata[k].name for k in arms], dtype=object),
            "tube_factor": np.array(TUBE_FACTORS),
        },
    )


def _extent(scenario: Scenario, k: int) -> tuple[float, float]:
    axis = scenario.prior.names.index(str(scenario.zero_set.strata[k].along))
    low, high = scenario.prior.bounds[axis]
    return float(low), float(high)


def assert_same(one: Mapping[str, xr.Dataset], other: Mapping[str, xr.Dataset]) -> None:
    """Two records agree in every bit, name and attribute."""
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
