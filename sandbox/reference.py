"""What one would expect of particles: the posterior and its relatives, asked of the witness about a scenario.

Three references stand for "what one would expect":
- posterior: exp(-nbeta L_n) φ;
- tempered: the same with nbeta such that its mean loss is the population's;
- uniform: the prior (for a flat prior: volume) on the set {K_n <= the population's mean loss}.
Up to two parameters they are integrated by quadrature, beyond that sampled.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from sandbox import exact
from sandbox.errors import InputError, Problem
from sandbox.measured.phases import population_witness
from sandbox.observer import TUBE_FACTORS, along_edges, quantiles, spread, tube_radii
from sandbox.posterior import Measure, Sampler, Witness, chosen
from sandbox.progress import Progress
from sandbox.scenario import Scenario
from sandbox.scenario.document import read
from sandbox.zero_set import DIVERGED, ZeroSet

Array = npt.NDArray[np.float64]

REFERENCES = ("posterior", "tempered", "uniform")

STATED = TUBE_FACTORS.index(1.0)
"""The place of the stated radius among the tubes'."""
DRAWS = 2000
"""Points that stand for the posterior in the record."""


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


@dataclass(frozen=True)
class Reference:
    """A measure with the labels of its points, shape (TUBE_FACTORS, N), and the labels' masses, (TUBE_FACTORS, labels).

    The masses are right to the measure's own error for the stated radius, for which it was refined; to about 1% for
    others. The last label, `diverged`, has none.
    """

    measure: Measure
    labels: npt.NDArray[np.int64]
    masses: Array

    @classmethod
    def of(cls, measure: Measure, zero_set: ZeroSet) -> Reference:
        """Look up where a measure's points are."""
        labels = zero_set.labels_within(measure.points, tube_radii(zero_set))
        size = len(zero_set.names)
        return cls(measure, labels, np.array([np.append(measure.mass(row, size), 0.0) for row in labels]))

    @property
    def mass(self) -> Array:
        """The labels' masses for the stated radius."""
        mass: Array = self.masses[STATED]
        return mass


@dataclass(frozen=True)
class References:
    """The questions that the witness is asked about a scenario."""

    scenario: Scenario

    def posterior(self) -> Reference:
        """Return the posterior at the scenario's nbeta."""
        return self._reference(self._witness.posterior(self.scenario.nbeta, labels=self.scenario.zero_set.labels))

    def at_level(self, level: float, progress: Progress) -> dict[str, Reference]:
        """Return the references that share a population's mean K_n; without those that do not exist."""
        found = {}
        for name, ask in (("tempered", self._witness.tempered), ("uniform", self._witness.level_set)):
            # Where no point of W has so small a loss there is nothing to compare with, and the answer says so.
            with contextlib.suppress(InputError):
                found[name] = self._reference(ask(level, labels=self.scenario.zero_set.labels))
            progress.advance(1)
        return found

    @functools.cached_property
    def of_population(self) -> Witness:
        """Who is asked about the population's loss: the same witness where that is the loss on the samples, too."""
        is_same = self.scenario.population_loss is self.scenario.loss
        return self._witness if is_same else population_witness(self.scenario)

    def energy(self, points: Array) -> Array:
        """Return K_n at points (N, D), shape (N,)."""
        return self.scenario.loss.excess(points)

    @functools.cached_property
    def arms(self) -> list[int]:
        """The strata with a position along them."""
        return [k for k, stratum in enumerate(self.scenario.zero_set.strata) if stratum.along is not None]

    @functools.cached_property
    def edges(self) -> Array:
        """The histogram edges along each arm, shape (arms, bins + 1)."""
        edges = np.array([along_edges(self.scenario, k) for k in self.arms])
        return edges.reshape(len(self.arms), self.scenario.record.bins + 1)

    def _reference(self, measure: Measure) -> Reference:
        return Reference.of(measure, self.scenario.zero_set)

    @functools.cached_property
    def _witness(self) -> Witness:
        loss, prior, size = self.scenario.loss, self.scenario.prior, self.scenario.witness
        return chosen(loss.excess, loss.gradient, prior, size, seed=self.scenario.seed, cuts=self._cuts)

    def _cuts(self) -> list[list[float]]:
        cuts = [set(edges) for edges in self.scenario.zero_set.cuts()]
        for k, edges in zip(self.arms, self.edges, strict=True):
            axis = self.scenario.zero_set.along_axis(k)
            if axis is not None:
                cuts[axis] |= set(edges)
        return [sorted(values) for values in cuts]

    def along(self, reference: Reference) -> Array:
        """Return the mass in each bin along each arm, shape (arms, bins)."""
        rows = []
        for k, edges in zip(self.arms, self.edges, strict=True):
            here = reference.labels[STATED] == k
            position = self.scenario.zero_set.along(reference.measure.points[here], k)
            rows.append(np.histogram(position, edges, weights=reference.measure.weights[here])[0])
        return np.array(rows).reshape(len(self.arms), self.scenario.record.bins)

    def dataset(self, reference: Reference, known: Sequence[exact.LearningCoefficient | None]) -> xr.Dataset:
        """Return the posterior's record."""
        zero_set, derived = self.scenario.zero_set, self.scenario.derived
        nothing = (math.nan, math.nan)
        values = [(float(c.rank[0]), float(-c.rank[1])) if c else nothing for c in known] + [nothing] * 2
        measure = reference.measure
        spreads = spread(derived, (), quantiles(derived, measure.points, measure.weights))
        found = xr.Dataset(
            {
                "mass": ("stratum", reference.mass),
                "along_mass": (("arm", "bin"), self.along(reference)),
                "along_edge": (("arm", "edge"), self.edges),
                "mean_excess": ((), measure.mean(self.energy(measure.points))),
                "learning_coefficient": ("stratum", [value for value, _ in values]),
                "multiplicity": ("stratum", [m for _, m in values]),
                "tube_mass": (("tube_factor", "stratum"), reference.masses),
                "draws": (("draw", "parameter"), self._draws(measure)),
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
                "witness": f"tempered SMC, {measure.runs} runs" if isinstance(self._witness, Sampler) else "quadrature",
                "effective_sample_size": measure.effective_sample_size,
                "entropy": self.scenario.loss.entropy,
                "learning_coefficient_method": "; ".join(
                    f"{s.name}: {c.method}, {c.explanation}" if c else f"{s.name}: unknown"
                    for s, c in zip(zero_set.strata, known, strict=True)
                ),
            },
        )
        return found.merge(spreads)

    def _draws(self, measure: Measure) -> Array:
        """Return DRAWS points of equal weight, resampled systematically, shape (DRAWS, D)."""
        marks = (np.arange(DRAWS) + 0.5) / DRAWS
        chosen = np.searchsorted(np.cumsum(measure.weights), marks).clip(max=len(measure.points) - 1)
        # A fixed shuffle: any first part of the draws stands for the whole.
        order = np.random.Generator(np.random.Philox(0)).permutation(DRAWS)
        points: Array = measure.points[chosen][order]
        return points
