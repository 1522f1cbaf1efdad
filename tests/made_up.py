"""A made-up run's tree, by the contract between simulate, compare and the pictures: cheap, and every number known."""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from sandbox.compare import BOUNDS
from sandbox.reference import REFERENCES
from sandbox.scenario import Scenario, loads

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
WORDS = {
    "verdicts": {"posterior": "simpler", "tempered": "same", "uniform": "undecided"},
    "reasons": {"posterior": "it lies above 0", "tempered": "small", "uniform": r"7 % have $diverged_ \frac"},
    "warnings": [],
}
FIVE = ("sgd", "langevin", "small_batch", "label_noise", "large_step")
STEPS, BINS = 20000, 40
CASES = {
    "crossing": (CROSSING, ("sgd", "langevin"), 7),
    "wells": (WELLS, ("sgd", "langevin"), 7),
    "cube": (CUBE, FIVE[:3], 0),
    "curve": (CURVE, ("sgd",), 0),
    "five": (CROSSING, FIVE, 7),
}
"""Scenario, populations, and how many particles of each diverge."""


class Made:
    """A made-up run: particles that shrink onto W0, each population at a rate of its own, counted by the contract."""

    def __init__(self, body: str, names: tuple[str, ...], particles: int, frames: int, diverged: int):
        rules = "".join(f"  {name}: {{rule: langevin, step_size: 1e-4}}\n" for name in names)
        self.text = f"question: '{QUESTION}'\nsteps: {STEPS}\n{body}populations:\n{rules}"
        self.scenario: Scenario = loads(self.text, "made_up.yaml")
        self.zero, self.random = self.scenario.zero_set, np.random.default_rng(5)
        self.times = np.unique(np.concatenate([[0], np.geomspace(1, STEPS, frames - 1).astype(int)]))
        self.strata = [*self.zero.names, "diverged"]
        self.on = [k for k, stratum in enumerate(self.zero.strata) if stratum.along is not None]
        self.arms = [self.strata[k] for k in self.on]
        window = self.scenario.prior.window()
        axes = [self.scenario.prior.names.index(str(self.zero.strata[k].along)) for k in self.on]
        self.edges = np.array([np.linspace(window[axis, 0], window[axis, 1], BINS + 1) for axis in axes]).reshape(
            len(axes), BINS + 1
        )
        self.shares = self.counted(self.cloud(1.0, 0.05, 5000)[-1])[0] / 5000
        points = {name: self.cloud(0.3 * (p + 1), 0.02 * (p + 1), particles) for p, name in enumerate(names)}
        for each in points.values():
            each[len(self.times) // 2 :, :diverged] = [[np.nan], [np.inf], [1e30]][diverged % 3]
        populations = {f"/populations/{name}": self.population(each) for name, each in points.items()}
        compared = [self.comparison(populations[f"/populations/{name}"]) for name in names]
        self.tree = xr.DataTree.from_dict(
            {
                "/": xr.Dataset(attrs={"scenario": self.text, "scenario_file": "made_up.yaml", "question": QUESTION}),
                **populations,
                "/posterior": self.posterior(),
                "/comparison": xr.concat(compared, "population").assign_coords(population=list(names)),
            }
        )

    def cloud(self, rate: float, spread: float, count: int) -> Array:
        start = self.scenario.prior.quantile(self.random.uniform(size=(count, len(self.scenario.prior.names))))
        strata = range(len(self.zero.strata))
        nearest = np.stack([self.zero.distance(start, k) / (1 + 0.5 * (k > 0)) for k in strata]).argmin(axis=0)
        goal = np.stack([self.zero.project(start, k) for k in strata])[nearest, np.arange(count)]
        noise = spread * self.random.normal(size=start.shape)
        left = np.exp(-rate * self.times / 400)[:, None, None]
        points: Array = goal + noise + (start - goal - noise) * left
        return points.clip(*self.scenario.prior.window().T)

    def counted(self, points: Array) -> tuple[Array, Array]:
        labels = np.full(len(points), len(self.strata) - 1)
        near = (np.abs(points) < 1e6).all(axis=1)
        labels[near] = self.zero.labels(points[near])
        rows = [
            np.histogram(self.zero.along(points[labels == k], k), edges)[0]
            for k, edges in zip(self.on, self.edges, strict=True)
        ]
        return np.bincount(labels, minlength=len(self.strata)), np.array(rows, dtype=int).reshape(len(self.on), BINS)

    def population(self, points: Array) -> xr.Dataset:
        counts, along = zip(*(self.counted(frame) for frame in points), strict=True)
        return xr.Dataset(
            {
                "position": (("time", "particle", "parameter"), points.astype(np.float32)),
                "count": (("time", "stratum"), np.array(counts)),
                "along_count": (("time", "arm", "bin"), np.array(along)),
                "along_edge": (("arm", "edge"), self.edges),
            },
            coords={"time": self.times, "stratum": self.strata, "arm": self.arms},
            attrs={"rule": "langevin", "settings": json.dumps({}), "particles": points.shape[1]},
        )

    def posterior(self) -> xr.Dataset:
        strata, along = len(self.zero.strata), self.counted(self.cloud(1.0, 0.05, 5000)[-1])[1] / 5000
        return xr.Dataset(
            {
                "mass": ("stratum", self.shares),
                "along_mass": (("arm", "bin"), along),
                "along_edge": (("arm", "edge"), self.edges),
                "learning_coefficient": ("stratum", [0.25] * strata + [np.nan] * 2),
                "multiplicity": ("stratum", [1.0] * strata + [np.nan] * 2),
            },
            coords={"stratum": self.strata, "arm": self.arms},
            attrs={"nbeta": self.scenario.nbeta},
        )

    def comparison(self, population: xr.Dataset) -> xr.Dataset:
        share = population["count"].values / population.attrs["particles"]
        error = 2.6 * np.sqrt(share * (1 - share) / population.attrs["particles"])
        masses = np.array([self.shares, 0.9 * self.shares + 0.02, 0.5 * self.shares])
        return xr.Dataset(
            {
                "occupancy": (("time", "stratum", "bound"), np.stack([share, share - error, share + error], axis=-1)),
                "reference_mass": (("reference", "stratum"), masses),
                "preference": (("reference", "bound"), [[0.12, 0.10, 0.14], [0.01, -0.01, 0.03], [np.nan] * 3]),
                "words": ((), np.array(json.dumps(WORDS), dtype=object)),
            },
            coords={"reference": list(REFERENCES), "bound": list(BOUNDS), "time": self.times, "stratum": self.strata},
        )


@functools.cache
def tree_of(case: str, particles: int = 300, frames: int = 9) -> xr.DataTree:
    body, names, diverged = CASES[case]
    return Made(body, names, particles, frames, diverged).tree
