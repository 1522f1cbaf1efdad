"""Particles against references: shares of the strata, simplicity, position along W0, each with its error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import special

from sandbox.comparison.references import REFERENCES, Reference, References
from sandbox.dynamics.statistics import TUBE_FACTORS
from sandbox.learning_coefficient.coefficient import LearningCoefficient
from sandbox.model.labelled import coordinates, labelled, texts
from sandbox.tools.arrays import Array
from sandbox.tools.progress import Progress, Silent

BOUNDS = ("estimate", "low", "high")

RESAMPLED = 4000
"""The number of samples of the shares behind the interval of a preference."""

Ranks = Sequence[tuple[Fraction, int] | None]


def compare(
    references: References,
    posterior: Reference,
    populations: Mapping[str, xr.Dataset],
    known: Sequence[LearningCoefficient | None],
    *,
    progress: Progress | None = None,
) -> tuple[xr.Dataset, dict[str, xr.Dataset]]:
    """Return the posterior's record, and for each population its comparison with the references.

    `posterior` is `references.posterior()`, `known` are the `coefficients` of the strata.
    """
    progress = progress or Silent()
    progress.start("references", 2.0 * len(populations))
    comparisons = {}
    for name, data in populations.items():
        level = float(data.mean_excess[-1])
        at_level = references.at_level(level, progress) if math.isfinite(level) else {}
        comparisons[name] = _comparison(references, data, {"posterior": posterior, **at_level}, known)
    return references.dataset(posterior, known), comparisons


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


def preference(shares: Array, reference: Array, ranks: Ranks) -> Array:
    """Return P(particle on the simpler stratum) - P(reference on the simpler one), for one point of each on W0.

    `shares` (..., strata) and `reference` (strata,) are masses of the strata; both are taken relative to their sum,
    so that only points on W0 are compared. `ranks` sorts the strata, simpler first; equal or unknown ranks are
    ties. The result, in [-1, 1], is the effect size of Mann and Whitney 1947 (twice the probability of superiority,
    less 1); nan if one side has nothing on W0.
    """
    order = {rank: k for k, rank in enumerate(sorted({rank for rank in ranks if rank is not None}))}
    place = np.array([order[rank] if rank is not None else math.nan for rank in ranks])
    sign = np.nan_to_num(np.sign(place[None, :] - place[:, None]))
    with np.errstate(invalid="ignore", divide="ignore"):
        particles = shares / shares.sum(axis=-1, keepdims=True)
        target = reference / reference.sum()
        result: Array = particles @ sign @ target
    return result


_AGAINST: dict[str, tuple[tuple[str, ...], str, str]] = {
    "reference_mass": (("stratum",), "the reference's mass of each stratum's tube", "1"),
    "along_mass": (("along_stratum", "bin"), "the reference's mass by position along each stratum", "1"),
    "preference": (("bound",), "preference for simpler strata than the reference's", "1"),
    "preference_by_tube": (("tube_factor",), "preference, by the tubes' radius", "1"),
    "distance_along": (("along_stratum",), "Wasserstein-1 distance from the reference along each stratum", "1"),
    "reference_slack": ((), "part of the preference's interval that is the reference's own error", "1"),
    "nbeta": ((), "number of samples times inverse temperature; none of a level set", "1"),
    "mean_excess": ((), "the reference's mean of K_n", "nat per sample"),
    "share_error": ((), "absolute error of the reference's masses", "1"),
    "converged": ((), "whether the posterior method converged", "1"),
    "capped": ((), "whether nbeta reached its largest value before the population's mean loss", "1"),
}
"""The dimensions beside `reference`, name in words and units of each result for a reference."""


def _comparison(
    references: References,
    data: xr.Dataset,
    found: Mapping[str, Reference],
    known: Sequence[LearningCoefficient | None],
) -> xr.Dataset:
    """Compare a population with the references that were `found`."""
    scenario = references.scenario
    counts = data["count"].values
    resampled = resampled_shares(counts[-1], scenario.problem.seed)
    share = counts / counts.sum(axis=1, keepdims=True)
    low, high = share_interval(counts, scenario.verdict.level)
    ranks = [c.rank if c else None for c in known]
    rows = {name: _against(reference, references, data, resampled, ranks) for name, reference in found.items()}
    missing = {name: np.full_like(value, 0 if value.dtype == bool else np.nan)
               for name, value in rows["posterior"].items()}  # fmt: skip
    over_time = preference(counts[:, : len(ranks)], found["posterior"].mass[: len(ranks)], ranks)
    return xr.Dataset(
        {
            "occupancy": labelled(
                ("time", "stratum", "bound"), np.stack([share, low, high], axis=-1), "share of the population"
            ),
            "preference_over_time": labelled("time", over_time, "preference for simpler strata than the posterior's"),
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
            tube_factor=TUBE_FACTORS,
        ),
    )


def _against(
    reference: Reference, references: References, data: xr.Dataset, resampled: Array, ranks: Ranks
) -> dict[str, npt.NDArray[np.generic]]:
    """Compare a population's last frame with one reference; see _AGAINST."""
    strata, tail = len(ranks), (1 - references.scenario.verdict.level) / 2
    measure, mass, tubes = reference.measure, reference.mass, reference.masses
    along = references.along(reference)
    share_error = measure.share_error if math.isfinite(measure.share_error) else 0.0
    # An error in a reference's masses moves the preference by at most twice that, relative to the mass on W0.
    slack = 2 * share_error / max(mass[:strata].sum(), share_error, 1e-300)
    samples = preference(resampled[:, :strata], mass[:strata], ranks)
    low, high = np.nanquantile(samples, [tail, 1 - tail]) if np.isfinite(samples).any() else (math.nan, math.nan)
    counts = data["count"].values[-1, :strata]
    value = float(preference(counts.astype(float), mass[:strata], ranks))
    by_tube = [
        preference(row[:strata], tube[:strata], ranks)
        for row, tube in zip(data.tube_count.values.astype(float), tubes, strict=True)
    ]
    found = {
        "reference_mass": mass,
        "along_mass": along,
        "preference": [value, np.minimum(low, value) - slack, np.maximum(high, value) + slack],
        "preference_by_tube": by_tube,
        "distance_along": _distances(data, along, references.edges),
        "reference_slack": slack,
        "nbeta": measure.nbeta,
        "mean_excess": measure.mean(references.energy(measure.points)),
        "share_error": share_error,
        "converged": measure.converged,
        "capped": measure.capped,
    }
    return {name: np.asarray(value) for name, value in found.items()}


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
