"""Particles against the references: occupancy of the strata, simplicity, position along W0, each with its error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import special

from sandbox import exact
from sandbox.observer import TUBE_FACTORS
from sandbox.progress import Progress, Silent
from sandbox.reference import REFERENCES, Reference, References

Array = npt.NDArray[np.float64]

BOUNDS = ("estimate", "low", "high")

FACTS = ("nbeta", "mean_excess", "share_error", "converged", "capped")
"""What is recorded of each reference beside its masses; see `Measure`."""

RESAMPLED = 4000
"""Draws behind the interval of a preference."""


def compare(
    witness: References,
    truth: Reference,
    populations: Mapping[str, xr.Dataset],
    known: Sequence[exact.LearningCoefficient | None],
    *,
    progress: Progress | None = None,
) -> tuple[xr.Dataset, dict[str, xr.Dataset]]:
    """Return the posterior's record, and for each population its comparison with the references.

    `truth` is the witness's posterior, `known` are the `coefficients` of the strata.
    """
    progress = progress or Silent()
    progress.start("references", 2.0 * len(populations))
    comparisons = {}
    for name, data in populations.items():
        level = float(data.mean_excess[-1])
        references = {"posterior": truth, **(witness.at_level(level, progress) if math.isfinite(level) else {})}
        comparisons[name] = _comparison(witness, data, references, known)
    return witness.dataset(truth, known), comparisons


def resampled_shares(counts: npt.NDArray[np.int64], seed: int) -> Array:
    """Return RESAMPLED draws of what the labels' shares may be, shape (RESAMPLED, labels).

    Particles are independent given the data, so their labels are a multinomial sample; these are draws from the
    posterior of its shares under Jeffreys' prior. Unlike resampled labels, they know that what no particle did may
    still have a share.
    """
    shares: Array = np.random.default_rng(seed).dirichlet(counts + 0.5, RESAMPLED)
    return shares


def share_interval(counts: npt.NDArray[np.int64], level: float) -> tuple[Array, Array]:
    """Return the interval of each share, for counts (..., labels), such that all hold together with `level`.

    Each is the equal-tailed Jeffreys interval of a binomial share, whose coverage is close to what it says (Brown, Cai
    and DasGupta 2001, "Interval estimation for a binomial proportion"), at a level corrected for the number of labels
    (Bonferroni).
    """
    total = counts.sum(axis=-1, keepdims=True)
    tail = (1 - level) / 2 / counts.shape[-1]
    low = special.betaincinv(counts + 0.5, total - counts + 0.5, tail)
    high = special.betaincinv(counts + 0.5, total - counts + 0.5, 1 - tail)
    return np.where(counts == 0, 0.0, low), np.where(counts == total, 1.0, high)


def preference(shares: Array, reference: Array, ranks: Sequence[tuple[Fraction, int] | None]) -> Array:
    """Return P(particle on the simpler stratum) - P(reference on the simpler one), for one draw of each on W0.

    `shares` (..., strata) and `reference` (strata,) are masses of the strata; both are taken relative to their sum,
    so that only what lies on W0 is compared. `ranks` sorts the strata, simpler first; equal or unknown ranks are
    ties. The result, in [-1, 1], is the effect size of Mann and Whitney 1947 (twice the probability of superiority,
    less 1); nan where one side has nothing on W0.
    """
    order = {rank: k for k, rank in enumerate(sorted({rank for rank in ranks if rank is not None}))}
    place = np.array([order[rank] if rank is not None else math.nan for rank in ranks])
    sign = np.nan_to_num(np.sign(place[None, :] - place[:, None]))
    with np.errstate(invalid="ignore", divide="ignore"):
        particles = shares / shares.sum(axis=-1, keepdims=True)
        target = reference / reference.sum()
        result: Array = particles @ sign @ target
    return result


def _comparison(
    witness: References,
    data: xr.Dataset,
    references: Mapping[str, Reference],
    known: Sequence[exact.LearningCoefficient | None],
) -> xr.Dataset:
    scenario = witness.scenario
    tail = (1 - scenario.verdict.level) / 2
    counts = data["count"].values
    resampled = resampled_shares(counts[-1], scenario.seed)
    share = counts / counts.sum(axis=1, keepdims=True)
    low, high = share_interval(counts, scenario.verdict.level)
    ranks = [c.rank if c else None for c in known]
    rows = {name: _against(measure, witness, data, resampled, ranks, tail) for name, measure in references.items()}
    empty = _against(references["posterior"], witness, data, resampled, ranks, tail) * math.nan
    joined = xr.concat([rows.get(name, empty) for name in REFERENCES], "reference").assign_coords(
        reference=np.array(REFERENCES, dtype=object)
    )
    truth = references["posterior"].mass[: len(ranks)]
    shares = xr.Dataset(
        {
            "occupancy": (("time", "stratum", "bound"), np.stack([share, low, high], axis=-1)),
            "preference_over_time": ("time", preference(counts[:, : len(ranks)], truth, ranks)),
        },
        coords={"time": data.time.values, "bound": np.array(BOUNDS, dtype=object)},
    )
    return joined.merge(shares)


def _against(
    reference: Reference,
    witness: References,
    data: xr.Dataset,
    resampled: Array,
    ranks: Sequence[tuple[Fraction, int] | None],
    tail: float,
) -> xr.Dataset:
    """Compare a population's last frame with one reference."""
    strata = len(ranks)
    measure, mass, tubes = reference.measure, reference.mass, reference.masses
    along = witness.along(reference)
    share_error = measure.share_error if math.isfinite(measure.share_error) else 0.0
    # An error in a reference's masses moves the preference by at most twice that, relative to the mass on W0.
    slack = 2 * share_error / max(mass[:strata].sum(), share_error, 1e-300)
    draws = preference(resampled[:, :strata], mass[:strata], ranks)
    low, high = np.nanquantile(draws, [tail, 1 - tail]) if np.isfinite(draws).any() else (math.nan, math.nan)
    counts = data["count"].values[-1, :strata]
    value = float(preference(counts.astype(float), mass[:strata], ranks))
    by_tube = [
        preference(row[:strata], tube[:strata], ranks)
        for row, tube in zip(data.tube_count.values.astype(float), tubes, strict=True)
    ]
    facts = {
        "nbeta": measure.nbeta,
        "mean_excess": measure.mean(witness.energy(measure.points)),
        "share_error": share_error,
        "converged": float(measure.converged),
        "capped": float(measure.capped),
    }
    return xr.Dataset(
        {
            "reference_mass": ("stratum", mass),
            "reference_fact": ("fact", [facts[name] for name in FACTS]),
            "along_mass": (("arm", "bin"), along),
            "preference": ("bound", [value, np.minimum(low, value) - slack, np.maximum(high, value) + slack]),
            "reference_slack": ((), slack),
            "preference_by_tube": ("tube_factor", by_tube),
            "distance_along": ("arm", _distances(data, along, witness.edges)),
        },
        coords={
            "stratum": data.stratum.values,
            "arm": data.arm.values,
            "tube_factor": np.array(TUBE_FACTORS),
            "fact": np.array(FACTS, dtype=object),
            "bound": np.array(BOUNDS, dtype=object),
        },
    )


def _distances(data: xr.Dataset, along: Array, all_edges: Array) -> list[float]:
    """Return the Wasserstein-1 distance of positions along each arm, nan where one side has none there."""
    result = []
    for a in range(data.sizes["arm"]):
        edges, counts = all_edges[a], data.along_count.values[-1, a]
        if not (counts.sum() > 0 and along[a].sum() > 0):
            result.append(math.nan)
            continue
        # Both have their masses in the middles of the bins: the integral of how far apart their sums are.
        apart = np.abs(np.cumsum(counts / counts.sum() - along[a] / along[a].sum()))
        result.append(float(apart[:-1] @ np.diff((edges[1:] + edges[:-1]) / 2)))
    return result
