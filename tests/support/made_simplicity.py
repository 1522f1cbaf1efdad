"""The part of a made-up record that tells how simple solutions are: kernel averages of the loss over some draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from sandbox.comparison.occupancy import BOUNDS
from sandbox.comparison.references import REFERENCES
from sandbox.scenario.scenario import Scenario

Array = npt.NDArray[Any]

SCORES = ("free_energy", "local_learning_coefficient")
FACTORS, RADII = (1.0, 4.0), (0.1, 0.2, 0.4)
DIMS = ("scored", "nbeta_factor", "radius")
VERDICTS = {"posterior": "more singular", "tempered": "equally simple", "level_set": "undecided"}
REASONS = {"posterior": r"7 % have $diverged_ \frac", "tempered": "small", "level_set": "wide"}


def solutions(scenario: Scenario, points: Array) -> Array:
    """Return the nearest points of W0."""
    strata = range(len(scenario.problem.zero_set.strata))
    with np.errstate(all="ignore"):
        found = np.stack([scenario.problem.zero_set.project(points, k) for k in strata])
        apart = np.nan_to_num(((found - points) ** 2).sum(axis=2), nan=np.inf)
    return found[apart.argmin(axis=0), np.arange(len(points))]


def scores(scenario: Scenario, points: Array, draws: Array) -> tuple[Array, Array]:
    """Return F and λ_n (scored, nbeta_factor, radius) of points, nan far from all draws."""
    energy = scenario.problem.nbeta * scenario.problem.population_loss.excess(draws)
    apart = ((points[:, None] - draws[None]) ** 2).sum(axis=2)
    result = np.full((2, len(points), len(FACTORS), len(RADII)), np.nan)
    for f, factor in enumerate(FACTORS):
        for r, radius in enumerate(RADII):
            kernel = np.exp(-apart / (2 * radius**2) - (factor - 1) * energy)
            mass = kernel.mean(axis=1)
            near = mass > 1e-9
            result[0, near, f, r] = -np.log(mass[near])
            result[1, near, f, r] = factor * (kernel[near] @ energy) / kernel[near].sum(axis=1)
    return result[0], result[1]


def scored(scenario: Scenario, points: Array, draws: Array) -> dict[str, tuple[tuple[str, ...], Array]]:
    ends = solutions(scenario, points)
    free_energy, coefficient = scores(scenario, ends, draws)
    both = {"free_energy": (DIMS, free_energy), "local_learning_coefficient": (DIMS, coefficient)}
    return {"solution": (("scored", "parameter"), ends), **both}


def mapped(scenario: Scenario, draws: Array) -> xr.Dataset:
    """Return the scores on a grid over one or two parameters."""
    window = scenario.problem.prior.window()
    axes = [np.linspace(low, high, 41) for low, high in window]
    places = np.stack([axis.ravel() for axis in np.meshgrid(*axes)], axis=1)
    dims = ("map_y", "map_x")[2 - len(axes) :]
    maps = [values[:, 0, 1].reshape([41] * len(axes)) for values in scores(scenario, places, draws)]
    names = ("map_free_energy", "map_local_learning_coefficient")
    return xr.Dataset(
        dict(zip(names, ((dims, values) for values in maps), strict=True)),
        coords=dict(zip(("map_x", "map_y"), axes, strict=False)),
    )


def compared(ours: Array, theirs: Array) -> Array:
    """Return the preference (nbeta_factor, radius, bound) of particles' scores over draws' scores."""
    one, other = (np.nan_to_num(values, nan=1e9)[..., None] for values in (ours, theirs))
    apart = other.transpose(3, 0, 1, 2) - one.transpose(0, 3, 1, 2)
    signs = np.sign(apart) * (np.abs(apart) > 0.02)
    estimate = signs.mean(axis=(0, 1))
    error = 2.6 * signs.mean(axis=1).std(axis=0) / np.sqrt(len(ours))
    return np.stack([estimate, estimate - error, estimate + error], axis=-1).clip(-1, 1)


def add_simplicity(scenario: Scenario, populations: dict[str, Array], draws: Array) -> dict[str, xr.Dataset]:
    """Return what to add to each group of a record; `populations` are the last positions of each."""
    with np.errstate(all="ignore"):
        tables = {name: scored(scenario, points, draws) for name, points in populations.items()}
        reference = scored(scenario, draws, draws)
        preference = [
            [[compared(table[score][1], reference[score][1]) * shrink for score in SCORES] for shrink in (1, 0.5, 0.2)]
            for table in tables.values()
        ]
    coords = {"radius": list(RADII), "nbeta_factor": list(FACTORS)}
    result = {f"/populations/{name}": xr.Dataset(table, coords=coords) for name, table in tables.items()}
    result["/posterior"] = xr.Dataset(reference, coords=coords)
    weights = np.where(np.arange(len(draws)) % 2, 1.0, 3.0)
    result["/posterior"]["scored_draw"] = (("scored", "parameter"), draws)
    result["/posterior"]["scored_weight"] = ("scored", weights / weights.sum())
    if len(scenario.problem.prior.names) <= 2:
        result["/posterior"] = result["/posterior"].merge(mapped(scenario, draws))
    lost = [np.isnan(table["free_energy"][1][:, 0, 1]).mean() for table in tables.values()]
    words = {word: [list(said.values())] * len(tables) for word, said in (("verdict", VERDICTS), ("reason", REASONS))}
    result["/comparison"] = xr.Dataset(
        {
            "preference": (("population", "reference", "score", "nbeta_factor", "radius", "bound"), preference),
            "not_reached": ("population", lost),
            **{word: (("population", "reference"), rows) for word, rows in words.items()},
        },
        coords={
            **coords, "population": list(tables), "reference": list(REFERENCES), "score": list(SCORES),
            "bound": list(BOUNDS),
        },
    )  # fmt: skip
    return result
