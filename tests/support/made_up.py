"""The tree of a made-up run, in the form that simulate and compare give to the pictures: cheap, all numbers known."""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from support.made_simplicity import add_simplicity

from sandbox.comparison.occupancy import BOUNDS
from sandbox.comparison.references import REFERENCES
from sandbox.scenario.scenario import Scenario, loads

Array = npt.NDArray[Any]

QUESTION = r"Costs it $5 \frac or 10_000$ to be _simple_?"
CROSSING = """
parameters: {w1: "uniform(-1, 1)", w2: "uniform(-1, 1)"}
loss: {model: w1 * w2**2 * x, truth: 0, inputs: {x: "normal(0, 1)"}, samples: 1000}
strata:
  crossing: {zero: [w1, w2]}
  flat_arm: {zero: [w2], along: w1}
  sharp_arm: {zero: [w1], along: w2}
"""
WELLS = """
parameters: {w: "uniform(-1.6, 1.6)"}
loss: {potential: (w**2 - 1)**2 * (1 + 9/4 * (w + 1)**2) / 16}
nbeta: 20
tube: 0.7
strata: {flat: {zero: [w + 1]}, sharp: {zero: [w - 1]}}
"""
CUBE = """
parameters: {a: "uniform(-1, 1)", b: "normal(0, 0.5)", c: "uniform(0.5, 1)"}
loss: {model: a * b * c * x, truth: 0, inputs: {x: "normal(0, 1)"}, samples: 500}
strata:
  line: {zero: [a, b], along: c}
  b_plane: {zero: [b], along: a}
  a_plane: {zero: [a], along: b}
"""
CURVE = """
parameters: {w1: "uniform(-2, 2)", w2: "uniform(-2, 2)"}
loss: {model: tanh(w1 * w2 * x) - tanh(x), truth: 0, inputs: {x: "normal(0, 1)"}, samples: 200}
strata: {hyperbola: {zero: [w1 * w2 - 1], along: w1}}
"""
FIVE = ("sgd", "langevin", "small_batch", "label_noise", "large_step")
STEPS, BINS = 20000, 40
CASES = {
    "crossing": (CROSSING, ("sgd", "langevin"), 7),
    "wells": (WELLS, ("sgd", "langevin"), 7),
    "cube": (CUBE, FIVE[:3], 0),
    "curve": (CURVE, ("sgd",), 0),
    "five": (CROSSING, FIVE, 7),
}
"""Scenario, populations, and the number of particles of each that diverge."""


class Made:
    """Return a made-up run: particles that shrink onto W0, each population at a rate of its own, with true counts."""

    def __init__(self, body: str, names: tuple[str, ...], particles: int, frames: int, diverged: int):
        rules = "".join(f"  {name}: {{rule: langevin, step_size: 1e-4}}\n" for name in names)
        self.text = f"question: '{QUESTION}'\nsteps: {STEPS}\n{body}populations:\n{rules}"
        self.scenario: Scenario = loads(self.text, "made_up.yaml")
        self.zero, self.random = self.scenario.problem.zero_set, np.random.default_rng(5)
        self.times = np.unique(np.concatenate([[0], np.geomspace(1, STEPS, frames - 1).astype(int)]))
        self.strata = [*self.zero.names, "diverged"]
        self.on = [k for k, stratum in enumerate(self.zero.strata) if stratum.along is not None]
        self.along_strata = [self.strata[k] for k in self.on]
        window = self.scenario.problem.prior.window()
        axes = [self.scenario.problem.prior.names.index(str(self.zero.strata[k].along)) for k in self.on]
        self.edges = np.array([np.linspace(window[axis, 0], window[axis, 1], BINS + 1) for axis in axes]).reshape(
            len(axes), BINS + 1
        )
        self.shares = self.counted(self.cloud(1.0, 0.05, 5000)[-1])[0] / 5000
        points = {name: self.cloud(0.3 * (p + 1), 0.02 * (p + 1), particles) for p, name in enumerate(names)}
        for each in points.values():
            each[len(self.times) // 2 :, :diverged] = [[np.nan], [np.inf], [1e30]][diverged % 3]
        populations = {f"/populations/{name}": self.population(each) for name, each in points.items()}
        compared = [self.comparison(populations[f"/populations/{name}"]) for name in names]
        groups = {
            "/": xr.Dataset(attrs={"scenario": self.text, "scenario_file": "made_up.yaml", "question": QUESTION}),
            **populations,
            "/posterior": self.posterior(),
            "/comparison": xr.concat(compared, "population").assign_coords(population=list(names)),
        }
        last = {name: each[-1] for name, each in points.items()}
        for group, added in add_simplicity(self.scenario, last, self.cloud(1.0, 0.05, 400)[-1]).items():
            groups[group] = groups[group].merge(added, combine_attrs="override")
        self.tree = xr.DataTree.from_dict(groups)

    def cloud(self, rate: float, spread: float, count: int) -> Array:
        start = self.scenario.problem.prior.quantile(
            self.random.uniform(size=(count, len(self.scenario.problem.prior.names)))
        )
        strata = range(len(self.zero.strata))
        nearest = np.stack([self.zero.distance(start, k) / (1 + 0.5 * (k > 0)) for k in strata]).argmin(axis=0)
        goal = np.stack([self.zero.project(start, k) for k in strata])[nearest, np.arange(count)]
        noise = spread * self.random.normal(size=start.shape)
        left = np.exp(-rate * self.times / 400)[:, None, None]
        points: Array = goal + noise + (start - goal - noise) * left
        return points.clip(*self.scenario.problem.prior.window().T)

    def counted(self, points: Array) -> tuple[Array, Array]:
        found = np.full(len(points), len(self.strata) - 1)
        near = (np.abs(points) < 1e6).all(axis=1)
        found[near] = self.zero.strata_of(points[near])
        rows = [
            np.histogram(self.zero.along(points[found == k], k), edges)[0]
            for k, edges in zip(self.on, self.edges, strict=True)
        ]
        return np.bincount(found, minlength=len(self.strata)), np.array(rows, dtype=int).reshape(len(self.on), BINS)

    def population(self, points: Array) -> xr.Dataset:
        counts, along = zip(*(self.counted(frame) for frame in points), strict=True)
        return xr.Dataset(
            {
                "position": (("time", "particle", "parameter"), points.astype(np.float32)),
                "count": (("time", "stratum"), np.array(counts)),
                "along_count": (("time", "along_stratum", "bin"), np.array(along)),
            },
            coords={"time": self.times, "stratum": self.strata, "along_stratum": self.along_strata},
            attrs={"rule": "langevin", "settings": json.dumps({}), "particles": points.shape[1]},
        )

    def posterior(self) -> xr.Dataset:
        strata, along = len(self.zero.strata), self.counted(self.cloud(1.0, 0.05, 5000)[-1])[1] / 5000
        return xr.Dataset(
            {
                "mass": ("stratum", self.shares),
                "along_mass": (("along_stratum", "bin"), along),
                "along_edge": (("along_stratum", "edge"), self.edges),
                "learning_coefficient": ("stratum", [0.25] * strata + [np.nan] * 2),
                "multiplicity": ("stratum", [1.0] * strata + [np.nan] * 2),
                "nbeta": ((), self.scenario.problem.nbeta),
            },
            coords={"stratum": self.strata, "along_stratum": self.along_strata},
        )

    def comparison(self, population: xr.Dataset) -> xr.Dataset:
        share = population["count"].values / population.attrs["particles"]
        error = 2.6 * np.sqrt(share * (1 - share) / population.attrs["particles"])
        masses = np.array([self.shares, 0.9 * self.shares + 0.02, 0.5 * self.shares])
        return xr.Dataset(
            {
                "occupancy": (("time", "stratum", "bound"), np.stack([share, share - error, share + error], axis=-1)),
                "reference_mass": (("reference", "stratum"), masses),
            },
            coords={"reference": list(REFERENCES), "bound": list(BOUNDS), "time": self.times, "stratum": self.strata},
        )


@functools.cache
def tree_of(case: str, particles: int = 300, frames: int = 9) -> xr.DataTree:
    body, names, diverged = CASES[case]
    return Made(body, names, particles, frames, diverged).tree
