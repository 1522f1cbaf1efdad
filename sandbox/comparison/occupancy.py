"""Particles against references: shares of the strata, position along W0, simplicity, each with its error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import special

from sandbox.comparison.local_posterior import NBETA_FACTORS
from sandbox.comparison.references import REFERENCES, Reference, References
from sandbox.comparison.simplicity import MIDDLE, SCORES, Scored, Simplicity, agreement, preferences
from sandbox.learning_coefficient.coefficient import LearningCoefficient
from sandbox.model.labelled import coordinates, labelled, scalar, texts
from sandbox.tools.arrays import Array
from sandbox.tools.progress import Progress, Silent

BOUNDS = ("estimate", "low", "high")

RESAMPLED = 4000
"""The number of samples of the shares behind the interval of a contribution."""

_PIXELS = 129
"""The points along each side of the recorded map of scores."""


def compare(
    references: References,
    posterior: Reference,
    populations: Mapping[str, xr.Dataset],
    known: Sequence[LearningCoefficient | None],
    *,
    progress: Progress | None = None,
) -> tuple[xr.Dataset, dict[str, xr.Dataset], dict[str, xr.Dataset]]:
    """Return the posterior's record, the populations' with their scores, and each population's comparison.

    `posterior` is `references.posterior()`, `known` are the `coefficients` of the strata.
    """
    progress = progress or Silent()
    progress.start("references", 3.0 * len(populations) + 1)
    scenario = references.scenario
    simplicity = Simplicity(scenario.problem, references.of_population, scenario.verdict.radii)
    draws = simplicity.draws(posterior.measure)
    progress.advance(1)
    scored, comparisons = {}, {}
    for name, data in populations.items():
        level = float(data.mean_excess[-1])
        at_level = references.at_level(level, progress) if math.isfinite(level) else {}
        found = {"posterior": posterior, **at_level}
        comparisons[name], particles = _comparison(references, simplicity, data, found, draws)
        kept = data.isel(scored=slice(len(particles.points)))
        scored[name] = kept.merge(scores_of(particles, simplicity))
        progress.advance(1)
    record = references.dataset(posterior, known).merge(_posterior_scores(draws, simplicity))
    return record, scored, comparisons


def resampled_shares(counts: npt.NDArray[np.int64], seed: int) -> Array:
    """Return RESAMPLED samples of the true shares that may lie behind `counts` (names,), shape (RESAMPLED, names).

    Particles are independent given the data, so their counts are multinomial; these samples are from the posterior of
    the shares under Jeffreys' prior. Unlike the bootstrap they give a share to a stratum without particles.
    """
    shares: Array = np.random.default_rng(seed).dirichlet(counts + 0.5, RESAMPLED)
    return shares


def share_interval(counts: npt.NDArray[np.int64], level: float) -> tuple[Array, Array]:
    """Return the interval of each share, for counts (..., names), such that all hold together with `level`.

    Each is the equal-tailed Jeffreys interval of a binomial share, whose coverage is close to its level (Brown, Cai and
    DasGupta 2001, "Interval estimation for a binomial proportion"). The level is corrected for the number of shares
    (Bonferroni).
    """
    total = counts.sum(axis=-1, keepdims=True)
    tail = (1 - level) / 2 / counts.shape[-1]
    low = special.betaincinv(counts + 0.5, total - counts + 0.5, tail)
    high = special.betaincinv(counts + 0.5, total - counts + 0.5, 1 - tail)
    return np.where(counts == 0, 0.0, low), np.where(counts == total, 1.0, high)


_AGAINST: dict[str, tuple[tuple[str, ...], str, str]] = {
    "reference_mass": (("stratum",), "the reference's mass of each stratum's tube", "1"),
    "along_mass": (("along_stratum", "bin"), "the reference's mass by position along each stratum", "1"),
    "preference": (
        ("score", "nbeta_factor", "radius", "bound"),
        "P(a particle's solution is simpler than the reference's) - P(it is less simple)",
        "1",
    ),
    "reference_score": (("score",), "the reference's median score at nbeta and the middle radius", "1"),
    "distance_along": (("along_stratum",), "Wasserstein-1 distance from the reference along each stratum", "1"),
    "nbeta": ((), "number of samples times inverse temperature; none of a level set", "1"),
    "mean_excess": ((), "the reference's mean of K_n", "nat per sample"),
    "share_error": ((), "absolute error of the reference's masses", "1"),
    "converged": ((), "whether the posterior method converged", "1"),
    "capped": ((), "whether the reference stops above the population's mean loss", "1"),
}
"""The dimensions beside `reference`, name in words and units of each result for a reference."""


def _comparison(
    references: References, simplicity: Simplicity, data: xr.Dataset, found: Mapping[str, Reference], posterior: Scored
) -> tuple[xr.Dataset, Scored]:
    """Compare a population with the references that were `found`; also return its scores."""
    scenario = references.scenario
    level = scenario.verdict.level
    counts = data["count"].values
    share = counts / counts.sum(axis=1, keepdims=True)
    low, high = share_interval(counts, level)
    particles = simplicity.particles(data.final_position.values)
    draws = {name: simplicity.draws(each.measure) if name != "posterior" else posterior for name, each in found.items()}
    rows = {
        name: _against(reference, references, data)
        | {
            "preference": preferences(particles, draws[name], level),
            "reference_score": np.array(draws[name].medians),
        }
        for name, reference in found.items()
    }
    missing = {name: np.full_like(value, 0 if value.dtype == bool else np.nan)
               for name, value in rows["posterior"].items()}  # fmt: skip
    apart = agreement(particles, posterior, simplicity.radii[MIDDLE], scenario.problem.prior.scale, level)
    comparison = xr.Dataset(
        {
            "occupancy": labelled(
                ("time", "stratum", "bound"), np.stack([share, low, high], axis=-1), "share of the population"
            ),
            "agreement": labelled(
                "bound", list(apart), "least share of particles at other places of W0 than the posterior's draws"
            ),
            "median_score": labelled("score", particles.medians, "median score at nbeta and the middle radius"),
            "not_reached": scalar(
                particles.not_reached, "share of particles whose solution the posterior does not reach"
            ),
            **{
                name: labelled(
                    ("reference", *dims), np.stack([rows.get(r, missing)[name] for r in REFERENCES]), words, units
                )
                for name, (dims, words, units) in _AGAINST.items()
            },
        },
        coords=coordinates(
            time=data.time.values,
            stratum=data.stratum.values,
            along_stratum=data.along_stratum.values,
            reference=texts(REFERENCES),
            bound=texts(BOUNDS),
            score=texts(SCORES),
            nbeta_factor=NBETA_FACTORS,
            radius=simplicity.radii,
        ),
    )
    return comparison, particles


def _against(reference: Reference, references: References, data: xr.Dataset) -> dict[str, npt.NDArray[np.generic]]:
    """Compare a population's last frame with one reference; see _AGAINST."""
    measure, along = reference.measure, references.along(reference)
    found = {
        "reference_mass": reference.mass,
        "along_mass": along,
        "distance_along": _distances(data, along, references.edges),
        "nbeta": measure.nbeta,
        "mean_excess": measure.mean(references.energy(measure.points)),
        "share_error": measure.share_error if math.isfinite(measure.share_error) else 0.0,
        "converged": measure.converged,
        "capped": measure.capped,
    }
    return {name: np.asarray(value) for name, value in found.items()}


def scores_of(points: Scored, simplicity: Simplicity) -> xr.Dataset:
    """Return solutions and scores of particles or of a reference's draws as a Dataset; nan where not reached."""
    own = points.own()
    dims, nowhere = ("scored", "nbeta_factor", "radius"), "; nan: not reached by the posterior"
    return xr.Dataset(
        {
            "solution": labelled(("scored", "parameter"), points.solutions, "end of the gradient flow of K"),
            "free_energy": labelled(
                dims, np.moveaxis(own.free_energy, -1, 0), f"local free energy F at the solution{nowhere}", "nat"
            ),
            "local_learning_coefficient": labelled(
                dims, np.moveaxis(own.coefficient, -1, 0), f"local learning coefficient at the solution{nowhere}"
            ),
        },
        coords=coordinates(
            parameter=texts(simplicity.problem.prior.names), nbeta_factor=NBETA_FACTORS, radius=simplicity.radii
        ),
    )


def _posterior_scores(points: Scored, simplicity: Simplicity) -> xr.Dataset:
    """Return the scores of the posterior's draws, with the draws, their weights, and the map of scores, if any."""
    found = scores_of(points, simplicity).assign(
        scored_draw=labelled(("scored", "parameter"), points.points, "draws from the posterior that are scored"),
        scored_weight=labelled("scored", points.weights, "weight of each of these draws"),
    )
    surface = simplicity.surface(_PIXELS)
    if surface is None:
        return found
    axes, free_energy, coefficient = surface
    names = ("map_x", "map_y")[: len(axes)]
    where = "at nbeta and the middle radius"
    return found.assign(
        map_free_energy=labelled(names[::-1], free_energy.T, f"local free energy F {where}", "nat"),
        map_local_learning_coefficient=labelled(names[::-1], coefficient.T, f"local learning coefficient {where}"),
    ).assign_coords(coordinates(**dict(zip(names, axes, strict=True))))


def _distances(data: xr.Dataset, along: Array, all_edges: Array) -> Array:
    """Return the Wasserstein-1 distance of positions along each stratum, nan if one side has none there."""
    result = np.full(len(along), math.nan)
    for a, edges in enumerate(all_edges):
        counts = data.along_count.values[-1, a]
        if counts.sum() > 0 and along[a].sum() > 0:
            # The masses of both are in the middles of the bins: the integral of the difference of their sums.
            apart = np.abs(np.cumsum(counts / counts.sum() - along[a] / along[a].sum()))
            result[a] = apart[:-1] @ np.diff((edges[1:] + edges[:-1]) / 2)
    return result
