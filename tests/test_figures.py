"""The pictures show what the tree holds: positions, colours, histograms, W0, and frames that decode to what was drawn."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

from sandbox.compare import BOUNDS, REFERENCES
from sandbox.scenario import loads

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
parameters: {a: "uniform(-1, 1)", b: "normal(0, 0.5)", c: "uniform(-1, 1)"}
loss: {model: a * b * c * x, truth: 0, inputs: {x: "normal(0, 1)"}, samples: 500}
strata:
  origin: {zero: [a, b, c]}
  ab: {zero: [a, b], along: c}
  ac: {zero: [a, c], along: b}
  bc: {zero: [b, c], along: a}
  b_plane: {zero: [b], along: a}
  c_plane: {zero: [c], along: a}
"""
CURVE = """
parameters: {w1: "uniform(-2, 2)", w2: "uniform(-2, 2)"}
loss: {model: tanh(w1 * w2 * x) - tanh(x), truth: 0, inputs: {x: "normal(0, 1)"}, samples: 200}
strata: {hyperbola: {zero: [w1 * w2 - 1], along: w1}}
"""
REST = 'question: "{question}"\nsteps: 20000\npopulations:\n'


def tree_of(
    body: str, names: tuple[str, ...] = ("sgd", "langevin"), frames: int = 9, particles: int = 400, diverged: int = 0
) -> xr.DataTree:
    """Return a run's tree by the contract: particles that shrink onto W0 at rates of their own."""
    text = (
        f"question: '{QUESTION}'\nsteps: 20000\n"
        + body
        + "populations:\n"
        + "".join(f"  {name}: {{rule: langevin, step_size: 1e-4}}\n" for name in names)
    )
    scenario = loads(text, "made_up.yaml")
    zero, prior = scenario.zero_set, scenario.prior
    random = np.random.default_rng(5)
    times = np.unique(np.concatenate([[0], np.geomspace(1, 20000, frames - 1).astype(int)]))
    strata = [*zero.names, "diverged"]
    arms = [s.name for s in zero.strata if s.along is not None]
    edges = np.array(
        [
            np.linspace(*prior.window()[scenario.prior.names.index(str(s.along))], 41)
            for s in zero.strata
            if s.along is not None
        ]
    ).reshape(len(arms), 41)
    root = xr.Dataset(
        attrs={"title": "made up", "question": QUESTION, "scenario": text, "scenario_file": "made_up.yaml", "seed": "0"}
    )
    groups: dict[str, xr.Dataset] = {"/": root}

    def counted(points):
        finite = np.isfinite(points).all(axis=1)
        labels = np.full(len(points), len(strata) - 1)
        labels[finite] = zero.labels(points[finite])
        along = np.array(
            [
                np.histogram(zero.along(points[labels == strata.index(a)], strata.index(a)), edges[k])[0]
                for k, a in enumerate(arms)
            ]
        )
        return np.bincount(labels, minlength=len(strata)), along.reshape(len(arms), 40)

    def cloud(rate, spread, count):
        start = prior.quantile(random.uniform(size=(count, len(prior.names))))
        gaps = np.stack([zero.distance(start, k) / (1 + 0.5 * (k > 0)) for k in range(len(zero.strata))])
        goal = np.stack([zero.project(start, k) for k in range(len(zero.strata))])[
            gaps.argmin(axis=0), np.arange(count)
        ]
        noise = random.normal(size=start.shape)
        return [
            goal + (start - goal) * np.exp(-rate * t / 400) + spread * (1 - np.exp(-rate * t / 400)) * noise
            for t in times
        ]

    masses, along_mass = counted(cloud(1.0, 0.05, 20000)[-1])
    share = masses / masses.sum()
    posterior = xr.Dataset(
        {
            "mass": ("stratum", share),
            "along_mass": (("arm", "bin"), along_mass / masses.sum()),
            "along_edge": (("arm", "edge"), edges),
            "learning_coefficient": ("stratum", [0.25 * (k + 1) for k in range(len(zero.strata))] + [np.nan] * 2),
            "multiplicity": ("stratum", [1.0] * len(zero.strata) + [np.nan] * 2),
            "mean_excess": ((), 0.001),
        },
        coords={"stratum": strata, "arm": arms, "parameter": list(prior.names)},
        attrs={"nbeta": float(scenario.nbeta), "share_error": 0.001},
    )
    groups["/posterior"] = posterior
    comparisons = []
    for p, name in enumerate(names):
        points = np.array(cloud(0.3 * (p + 1), 0.02 * (p + 1), particles))
        points[len(times) // 2 :, :diverged] = np.nan
        counts, alongs = zip(*(counted(frame) for frame in points), strict=True)
        counts = np.array(counts)
        groups[f"/populations/{name}"] = xr.Dataset(
            {
                "position": (("time", "particle", "parameter"), points.astype(np.float32)),
                "count": (("time", "stratum"), counts),
                "along_count": (("time", "arm", "bin"), np.array(alongs)),
                "along_edge": (("arm", "edge"), edges),
            },
            coords={"time": times, "stratum": strata, "arm": arms, "parameter": list(prior.names)},
            attrs={"rule": "langevin", "settings": json.dumps({}), "particles": particles},
        )
        occupancy = counts / particles
        error = 2.6 * np.sqrt(occupancy * (1 - occupancy) / particles)
        comparisons.append(
            xr.Dataset(
                {
                    "occupancy": (
                        ("time", "stratum", "bound"),
                        np.stack([occupancy, occupancy - error, occupancy + error], -1),
                    ),
                    "reference_mass": (
                        ("reference", "stratum"),
                        np.array([share, share * 0.9 + 0.02 * (p + 1), share * 0.5 + 0.1]),
                    ),
                    "preference": (("reference", "bound"), [[0.12, 0.10, 0.14], [0.01, -0.01, 0.03], [np.nan] * 3]),
                    "verdict": ("reference", ["simpler", "same", "undecided"]),
                    "reason": (
                        "reference",
                        ["preference +0.120, 99% interval [+0.100, +0.140] lies above 0", "", "7 % have $diverged_$"],
                    ),
                },
                coords={
                    "reference": list(REFERENCES),
                    "bound": list(BOUNDS),
                    "time": times,
                    "stratum": strata,
                    "arm": arms,
                },
            )
        )
    groups["/comparison"] = xr.concat(comparisons, "population").assign_coords(population=list(names))
    return xr.DataTree.from_dict(groups)
