"""Particles against the witness: occupancy of the strata, simplicity, position along W0, each with its error.

Three references stand for "what one would expect":
- posterior: exp(-nbeta L_n) φ;
- tempered: the same with nbeta such that its mean loss is the population's;
- uniform: the prior (for a flat prior: volume) on the set {K_n <= the population's mean loss}.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import stats

from sandbox import exact, posterior
from sandbox.errors import InputError, Problem
from sandbox.posterior import Measure
from sandbox.progress import Progress, Silent
from sandbox.scenario import Scenario
from sandbox.scenario.document import read
from sandbox.simulate import TUBE_FACTORS, along_edges
from sandbox.zero_set import DIVERGED

Array = npt.NDArray[np.float64]

REFERENCES = ("posterior", "tempered", "uniform")
BOUNDS = ("estimate", "low", "high")

BOOTSTRAP = 4000
"""Resamples behind every interval."""

_SHARE_TOLERANCE = 3e-3
"""Error allowed in the masses of the references that depend on a population: far below a population's own error."""


def coefficients(scenario: Scenario) -> list[exact.LearningCoefficient | None]:
    """Return λ and m of each stratum: as stated, else as derived; None where neither.

    Raises InputError, placed in the scenario's text, where what is stated is not what is derived.
    """
    result = []
    for k, stratum in enumerate(scenario.zero_set.strata):
        derived = exact.of_stratum(scenario.population_loss, scenario.prior, scenario.zero_set, k)
        if stratum.learning_coefficient is not None:
            stated = exact.LearningCoefficient(
                stratum.learning_coefficient, stratum.multiplicity or 1, "stated", "stated by the scenario"
            )
            if derived is not None and derived.rank != stated.rank:
                message = f"λ = {stated.value}, m = {stated.multiplicity} is stated, but {derived.explanation}"
                problem = Problem(message, ("strata", stratum.name, "learning_coefficient"))
                raise read(scenario.text, scenario.filename).locate([problem])
            derived = stated
        result.append(derived)
    return result


def compare(
    scenario: Scenario,
    populations: Mapping[str, xr.Dataset],
    known: Sequence[exact.LearningCoefficient | None],
    *,
    progress: Progress | None = None,
) -> tuple[xr.Dataset, dict[str, xr.Dataset]]:
    """Return the posterior's record, and for each population its comparison with the references.

    `known` are the `coefficients` of the strata.
    """
    progress = progress or Silent()
    progress.start("posterior and references", 1.0 + 2 * len(populations))
    witness = _Witness(scenario)
    truth = posterior.posterior(
        witness.energy, scenario.prior, scenario.nbeta, labels=scenario.zero_set.labels, cuts=witness.cuts
    )
    progress.advance(1)
    comparisons = {}
    for name, data in populations.items():
        level = float(data.mean_excess[-1])
        references = {"posterior": truth, **(witness.at_level(level, progress) if math.isfinite(level) else {})}
        comparisons[name] = _comparison(scenario, witness, data, references, known)
    return witness.dataset(truth, known), comparisons


@dataclass
class _Witness:
    """The questions that the witness is asked about a scenario."""

    scenario: Scenario

    def __post_init__(self) -> None:
        zero_set = self.scenario.zero_set
        self.energy = self.scenario.loss.excess
        self.size = len(zero_set.names)
        self.arms = [k for k, stratum in enumerate(zero_set.strata) if stratum.along is not None]
        self.edges = np.array([along_edges(self.scenario, k) for k in self.arms])
        self.edges = self.edges.reshape(len(self.arms), self.scenario.record.bins + 1)
        cuts = [set(edges) for edges in zero_set.cuts()]
        for k, edges in zip(self.arms, self.edges, strict=True):
            axis = zero_set.along_axis(k)
            if axis is not None:
                cuts[axis] |= set(edges)
        self.cuts = [sorted(values) for values in cuts]

    def at_level(self, level: float, progress: Progress) -> dict[str, Measure]:
        """Return the references that share a population's mean K_n; without those that do not exist."""
        found = {}
        for name, ask in (("tempered", posterior.tempered), ("uniform", posterior.level_set)):
            # Where no point of W has so small a loss there is nothing to compare with, and the answer says so.
            with contextlib.suppress(InputError):
                found[name] = ask(
                    self.energy,
                    self.scenario.prior,
                    level,
                    labels=self.scenario.zero_set.labels,
                    cuts=self.cuts,
                    share_tolerance=_SHARE_TOLERANCE,
                )
            progress.advance(1)
        return found

    def masses(self, measure: Measure, factor: float = 1.0) -> Array:
        """Return the mass of each label, `diverged` (none) included.

        Exact to the measure's own error for the stated radius, for which it was refined; to about 1% for others.
        """
        labels = self.scenario.zero_set.labels(measure.points, factor * self.scenario.zero_set.tube)
        return np.append(measure.mass(labels, self.size), 0.0)

    def along(self, measure: Measure) -> Array:
        """Return the mass in each bin along each arm, shape (arms, bins)."""
        labels = self.scenario.zero_set.labels(measure.points)
        rows = []
        for k, edges in zip(self.arms, self.edges, strict=True):
            here = labels == k
            position = self.scenario.zero_set.along(measure.points[here], k)
            rows.append(np.histogram(position, edges, weights=measure.weights[here])[0])
        return np.array(rows).reshape(len(self.arms), self.scenario.record.bins)

    def dataset(self, measure: Measure, known: Sequence[exact.LearningCoefficient | None]) -> xr.Dataset:
        """Return the posterior's record."""
        zero_set = self.scenario.zero_set
        nothing = (math.nan, math.nan)
        values = [(float(c.rank[0]), float(-c.rank[1])) if c else nothing for c in known] + [nothing] * 2
        tubes = [self.masses(measure, factor) for factor in TUBE_FACTORS]
        return xr.Dataset(
            {
                "mass": ("stratum", self.masses(measure)),
                "along_mass": (("arm", "bin"), self.along(measure)),
                "along_edge": (("arm", "edge"), self.edges),
                "mean_excess": ((), measure.mean(self.energy(measure.points))),
                "learning_coefficient": ("stratum", [value for value, _ in values]),
                "multiplicity": ("stratum", [m for _, m in values]),
                "tube_mass": (("tube_factor", "stratum"), tubes),
            },
            coords={
                "stratum": np.array([*zero_set.names, DIVERGED], dtype=object),
                "arm": np.array([zero_set.strata[k].name for k in self.arms], dtype=object),
                "parameter": np.array(self.scenario.prior.names, dtype=object),
                "tube_factor": np.array(TUBE_FACTORS),
            },
            attrs={
                "nbeta": self.scenario.nbeta,
                "log_evidence": measure.log_evidence - self.scenario.nbeta * self.scenario.loss.entropy,
                "evidence_error": measure.error,
                "share_error": measure.share_error,
                "converged": int(measure.converged),
                "entropy": self.scenario.loss.entropy,
                "learning_coefficient_method": "; ".join(
                    f"{s.name}: {c.method}, {c.explanation}" if c else f"{s.name}: unknown"
                    for s, c in zip(zero_set.strata, known, strict=True)
                ),
            },
        )


def bootstrap(counts: npt.NDArray[np.int64], seed: int) -> Array:
    """Return BOOTSTRAP resampled shares, shape (BOOTSTRAP, labels).

    Particles are independent given the data, so resampling them is a multinomial draw of their labels.
    """
    total = counts.sum()
    shares: Array = np.random.default_rng(seed).multinomial(total, counts / total, BOOTSTRAP) / total
    return shares


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
    scenario: Scenario,
    witness: _Witness,
    data: xr.Dataset,
    references: Mapping[str, Measure],
    known: Sequence[exact.LearningCoefficient | None],
) -> xr.Dataset:
    tail = (1 - scenario.verdict.level) / 2
    counts = data["count"].values
    resampled = [bootstrap(row, scenario.seed + t) for t, row in enumerate(counts)]
    share = counts / counts.sum(axis=1, keepdims=True)
    low, high = np.quantile(np.array(resampled), [tail, 1 - tail], axis=1)
    ranks = [c.rank if c else None for c in known]
    rows = {name: _against(measure, witness, data, resampled[-1], ranks, tail) for name, measure in references.items()}
    empty = _against(references["posterior"], witness, data, resampled[-1], ranks, tail) * math.nan
    joined = xr.concat([rows.get(name, empty) for name in REFERENCES], "reference").assign_coords(
        reference=np.array(REFERENCES, dtype=object)
    )
    truth = witness.masses(references["posterior"])[: len(ranks)]
    shares = xr.Dataset(
        {
            "occupancy": (("time", "stratum", "bound"), np.stack([share, low, high], axis=-1)),
            "preference_over_time": ("time", preference(counts[:, : len(ranks)], truth, ranks)),
        },
        coords={"time": data.time.values, "bound": np.array(BOUNDS, dtype=object)},
    )
    return joined.merge(shares)


def _against(
    measure: Measure,
    witness: _Witness,
    data: xr.Dataset,
    resampled: Array,
    ranks: Sequence[tuple[Fraction, int] | None],
    tail: float,
) -> xr.Dataset:
    """Compare a population's last frame with one reference."""
    strata = len(ranks)
    mass = witness.masses(measure)
    tubes = [witness.masses(measure, factor) for factor in TUBE_FACTORS]
    along = witness.along(measure)
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
    return xr.Dataset(
        {
            "reference_mass": ("stratum", mass),
            "reference_error": share_error,
            "reference_nbeta": measure.nbeta,
            "reference_level": measure.mean(witness.energy(measure.points)),
            "reference_capped": float(measure.capped),
            "along_mass": (("arm", "bin"), along),
            "preference": ("bound", [value, low - slack, high + slack]),
            "preference_by_tube": ("tube_factor", by_tube),
            "distance_along": ("arm", _distances(data, along, witness.edges)),
        },
        coords={
            "stratum": data.stratum.values,
            "arm": data.arm.values,
            "tube_factor": np.array(TUBE_FACTORS),
            "bound": np.array(BOUNDS, dtype=object),
        },
    )


def _distances(data: xr.Dataset, along: Array, all_edges: Array) -> list[float]:
    """Return the Wasserstein-1 distance of positions along each arm, nan where one side has none there."""
    result = []
    for a in range(data.sizes["arm"]):
        edges, counts = all_edges[a], data.along_count.values[-1, a]
        middles = (edges[1:] + edges[:-1]) / 2
        both = counts.sum() > 0 and along[a].sum() > 0
        result.append(float(stats.wasserstein_distance(middles, middles, counts, along[a])) if both else math.nan)
    return result
