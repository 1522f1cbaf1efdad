"""Why SGD's shares of the strata differ from the posterior's: populations with one ingredient of SGD added at a time.

    posterior -> gradient flow -> finite step -> isotropic noise -> minibatch covariance -> minibatch SGD -> more time

Each rung is a population of its own, on the same starting points. Let D be SGD's share of each stratum less the
posterior's. The total variation distance of the two is sum_s sign(D_s) D_s / 2, and the shares' changes from rung to
rung add up to D: so each rung contributes sum_s sign(D_s) change_s / 2, and the contributions add up to the distance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import xarray as xr

from sandbox.comparison.occupancy import BOUNDS, resampled_shares, share_interval
from sandbox.compiled.random_numbers import derived_seed
from sandbox.dynamics.gradients.base import Estimator
from sandbox.dynamics.gradients.full import Full
from sandbox.dynamics.population import Population
from sandbox.dynamics.rules.base import Rule
from sandbox.dynamics.rules.registry import RULES
from sandbox.dynamics.simulate import run_populations
from sandbox.model.labelled import coordinates, labelled, scalar, texts
from sandbox.model.strata import DIVERGED
from sandbox.scenario.scenario import Scenario
from sandbox.tools.arrays import Array
from sandbox.tools.progress import Progress, Silent

SUBSTEPS = 32
"""The number of moves of eta / SUBSTEPS that approximate the gradient flow during one step."""

RUNGS = {
    "gradient_flow": "the start, and the gradient flow from it",
    "finite_step": "the length of the step",
    "isotropic_noise": "noise of SGD's strength, equal in all directions",
    "minibatch_covariance": "the directions of SGD's noise",
    "minibatch_sgd": "the values of its noise: not Gaussian, and no more than there are batches",
}
"""The rungs from the posterior to SGD, each with the ingredient that it adds to the rung before."""
LONGER = "longer"
"""The rung beyond: SGD with more time."""


def decompose(
    scenario: Scenario,
    populations: Mapping[str, xr.Dataset],
    posterior: xr.Dataset,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Return the shares at every rung and their contributions to the distance from the posterior's shares.

    `populations` and `posterior` are the records of a scenario with a decomposition. The Dataset has `share` (rung,
    stratum, bound), `diverged_from` (rung, stratum), `posterior_share` (stratum), `meaning` (rung) and `contribution`
    (rung, bound): those of RUNGS add up to `distance`; that of LONGER is the distance that more time would add. All
    intervals of contributions hold together with the verdict's level.
    """
    settings = scenario.decomposition
    if settings is None:
        raise ValueError("the scenario has no decomposition")
    (population,) = (p for p in scenario.populations if p.name == settings.population)
    records = _run(scenario, rungs(population), 1, threads, progress or Silent())
    records["minibatch_sgd"] = populations[population.name]
    records |= _run(scenario, {LONGER: population}, settings.longer, threads, progress or Silent())
    table = np.array([data["count"].values[-1] for data in records.values()])
    level = scenario.verdict.level
    share = table / table.sum(axis=1, keepdims=True)
    bounds = np.stack([share, *share_interval(table, level)], axis=-1)
    added = contributions(table, posterior, level, scenario.problem.seed)
    gone = np.array([_diverged_from(data) for data in records.values()])
    meanings = texts([*RUNGS.values(), f"{settings.longer} times as many steps"])
    found = xr.Dataset(
        {
            "share": labelled(("rung", "stratum", "bound"), bounds, "share of the particles"),
            "posterior_share": labelled("stratum", posterior.mass.values, "the posterior's share"),
            "contribution": labelled(("rung", "bound"), added, "part of the distance that the rung adds"),
            "diverged_from": labelled(
                ("rung", "stratum"), gone, "diverged particles, by the stratum they were last on", "particles"
            ),
            "meaning": labelled("rung", meanings, "ingredient that the rung adds to the one before"),
        },
        coords=coordinates(rung=texts([*RUNGS, LONGER]), stratum=posterior.stratum.values, bound=texts(BOUNDS)),
        attrs={"population": population.name, "level": level},
    )
    distance = found.contribution.sel(rung=list(RUNGS), bound="estimate").sum()
    found["distance"] = scalar(distance.item(), "total variation distance of the population from the posterior")
    return found.assign_attrs(summary=summary(found))


def contributions(counts: npt.NDArray[np.int64], posterior: xr.Dataset, level: float, seed: int) -> Array:
    """Return the part that each rung adds to the total variation distance, with its interval, shape (rungs, BOUNDS).

    `counts` (rungs, names) are the particles of RUNGS and LONGER. Rungs are taken as independent; their common starting
    points only make their differences smaller.
    """
    mass = posterior.mass.values
    share = counts / counts.sum(axis=1, keepdims=True)
    sign = np.sign(share[len(RUNGS) - 1] - mass)
    contribution: Array = np.diff(share, axis=0, prepend=mass[None]) @ sign / 2
    seeds = [derived_seed(seed, "rung", k) for k in range(len(counts))]
    samples = [mass[None], *map(resampled_shares, counts, seeds)]
    # Corrected for the number of rungs (Bonferroni).
    tail = (1 - level) / 2 / len(counts)
    spread = np.array([np.quantile((b - a) @ sign / 2, [tail, 1 - tail]) for a, b in pairwise(samples)])
    # The posterior's masses are off by share_error at most, each.
    slack = np.where(np.arange(len(counts)) == 0, len(mass) * np.nan_to_num(float(posterior.share_error)) / 2, 0.0)
    low, high = np.minimum(spread[:, 0], contribution) - slack, np.maximum(spread[:, 1], contribution) + slack
    return np.stack([contribution, low, high], axis=1)


def summary(found: xr.Dataset) -> str:
    """Return a sentence: the distance of SGD's shares from the posterior's, and the rung that adds most of it."""
    rows = found.contribution.sel(rung=list(RUNGS))
    sure = rows.rung.values[rows.sel(bound="low").values * rows.sel(bound="high").values > 0]
    far = f"{found.attrs['population']}'s shares are {float(found.distance):.3f} from the posterior's (total variation)"
    if not len(sure):
        return "; ".join([far, "no rung is seen to contribute", *_lost(found)])
    largest = max(sure, key=lambda name: abs(float(rows.sel(rung=name, bound="estimate"))))
    most = f"most arises at {largest}, {_meant(found, largest)}"
    return "; ".join([far, most, _meant(found, LONGER), *_lost(found)])


def _lost(found: xr.Dataset) -> list[str]:
    """Return for each rung with diverged particles their number, by the stratum they were last on, as text."""
    lost = []
    for row in found.diverged_from:
        places = [f"{name} {count:,}" for name, count in zip(row.stratum.values, row.values, strict=True) if count]
        if places:
            lost.append(f"{int(row.sum()):,} diverged at {row.rung.item()} (from {', '.join(places)})")
    return lost


def _meant(found: xr.Dataset, rung: str) -> str:
    value, low, high = found.contribution.sel(rung=rung).values
    return f"{found.meaning.sel(rung=rung).item()}: {value:+.3f} [{low:+.3f}, {high:+.3f}]"


def rungs(population: Population) -> Mapping[str, Population]:
    """Return the population of each of RUNGS but the last, which is the given one."""
    settings = population.rule.model_dump(include={"learning_rate", "schedule", "weight_decay"})

    def of(rule: str, **more: int) -> Rule:
        return RULES[rule].model_validate({"rule": rule, **settings, **more})

    flow, descent = of("gradient_descent", substeps=SUBSTEPS), of("gradient_descent")
    rungs: list[tuple[Rule, Estimator]] = [(flow, Full()), (descent, Full())]
    rungs += [(of(rule), population.gradient) for rule in ("isotropic_sgd", "sgd_sde")]
    return {
        name: dataclasses.replace(population, rule=rule, gradient=gradient)
        for name, (rule, gradient) in zip(RUNGS, rungs, strict=False)
    }


def _diverged_from(data: xr.Dataset) -> npt.NDArray[np.int64]:
    """Return how many particles of a record diverged, by the stratum they were last on; `elsewhere` if on none."""
    known = data.moves.isel(time=-1).sel(stratum=DIVERGED).values
    gone = int(data["count"].isel(time=-1).sel(stratum=DIVERGED))
    # Behind the strata come `elsewhere` and `diverged`.
    return np.array([*known, gone - known.sum(), 0])


def _run(
    scenario: Scenario, rungs: Mapping[str, Population], longer: int, threads: int | None, progress: Progress
) -> dict[str, xr.Dataset]:
    """Return the records of rungs that take `longer` times the scenario's steps, with the first and last step only."""
    populations = tuple(dataclasses.replace(population, name=name) for name, population in rungs.items())
    once = scenario.sizes.record.model_copy(update={"frames": 2, "positions": 1})
    sizes = dataclasses.replace(scenario.sizes, steps=longer * scenario.sizes.steps, record=once)
    return run_populations(scenario.problem, populations, sizes, threads=threads, progress=progress)
