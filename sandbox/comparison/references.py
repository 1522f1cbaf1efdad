"""The laws that particles are compared with: the posterior, the tempered posterior, and the prior on a level set.

- posterior: exp(-nbeta L_n) φ;
- tempered: the same with nbeta such that its mean loss is the population's;
- level_set: the prior (for a flat prior: volume) on the set {K_n <= the population's mean loss}. It has no spread in
  loss beyond that level, as the posterior has: half of its own points may lie above its mean. So the posterior differs
  from it too; exact posterior draws may be simpler or less simple than their level set.
By default they are integrated by quadrature for up to two parameters, and sampled for more.

The mean loss of particles without noise goes to 0. The last two references stop at FLOOR times the typical loss: beyond
it they are ever thinner tubes around W0, whose points rounding moves, and their shares no longer change.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import xarray as xr

from sandbox.dynamics.statistics import TUBE_FACTORS, along_edges, quantiles, spread, tube_radii
from sandbox.learning_coefficient.coefficient import LearningCoefficient
from sandbox.learning_coefficient.of_strata import of_stratum
from sandbox.model.labelled import coordinates, labelled, scalar, texts
from sandbox.model.strata import DIVERGED, ZeroSet
from sandbox.posterior.measure import Measure, resampled
from sandbox.posterior.method import PosteriorMethod, choose_method
from sandbox.posterior.sampling.smc import Smc
from sandbox.scenario.document import read
from sandbox.scenario.scenario import Scenario
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError, InputProblem
from sandbox.tools.progress import Progress

REFERENCES = ("posterior", "tempered", "level_set")

FLOOR = 1e-12
"""The least mean loss of the references that follow a population, relative to the prior's median of K_n."""

STATED = TUBE_FACTORS.index(1.0)
"""The index of the stated radius among the tubes' radii."""
TYPICAL = 512
"""The draws from the prior whose median loss is called typical."""

CHAINS, DRAWS = 4, 500
"""The recorded posterior samples: DRAWS points of equal weight in each of CHAINS parts, all independent."""


def coefficients(scenario: Scenario) -> list[LearningCoefficient | None]:
    """Return λ and m of each stratum: the stated ones, else the derived ones, else None.

    Raises InputError, located in the scenario's text, if stated values differ from derived ones.
    """
    result = []
    for k, stratum in enumerate(scenario.problem.zero_set.strata):
        derived = of_stratum(scenario.problem.population_loss, scenario.problem.prior, scenario.problem.zero_set, k)
        if stratum.learning_coefficient is not None:
            stated = LearningCoefficient(
                stratum.learning_coefficient, stratum.multiplicity or 1, "stated", "stated by the scenario"
            )
            if derived is not None and derived.rank != stated.rank:
                message = f"λ = {stated.value}, m = {stated.multiplicity} is stated, but {derived.explanation}"
                problem = InputProblem(message, ("strata", stratum.name, "learning_coefficient"))
                raise read(scenario.text, scenario.filename).locate([problem])
            derived = stated
        result.append(derived)
    return result


def equally_singular(known: Sequence[LearningCoefficient | None]) -> bool:
    """Return whether all strata are known to have the same λ and m; false without strata."""
    return None not in known and len({each.rank for each in known if each}) == 1


@dataclass(frozen=True)
class Reference:
    """A measure with the strata of its points, (TUBE_FACTORS, N), and the strata's masses, (TUBE_FACTORS, names).

    The masses belong to all strata, `elsewhere` and `diverged`, whose mass is 0. For the stated radius their error is
    that of the measure, which was refined for it; for the other radii it is about 1%.
    """

    measure: Measure
    strata: npt.NDArray[np.int64]
    masses: Array

    @classmethod
    def of(cls, measure: Measure, zero_set: ZeroSet) -> Reference:
        """Return the reference of a measure."""
        strata = zero_set.strata_within(measure.points, tube_radii(zero_set))
        size = len(zero_set.names)
        return cls(measure, strata, np.array([np.append(measure.mass(row, size), 0.0) for row in strata]))

    @property
    def mass(self) -> Array:
        """The masses (names,) for the stated radius."""
        mass: Array = self.masses[STATED]
        return mass


@dataclass(frozen=True)
class References:
    """The references of a scenario, by its posterior method."""

    scenario: Scenario

    def posterior(self) -> Reference:
        """Return the posterior at the scenario's nbeta."""
        problem = self.scenario.problem
        return self._reference(self._method.posterior(problem.nbeta, strata=problem.zero_set.strata_of))

    def at_level(self, level: float, progress: Progress) -> dict[str, Reference]:
        """Return the references that share a population's mean K_n, or FLOOR, without those that do not exist.

        Both are marked `capped` if the mean K_n is below the floor.
        """
        found, below = {}, level < self.floor
        level = max(level, self.floor)
        for name, compute in (("tempered", self._method.tempered), ("level_set", self._method.level_set)):
            # There is no reference if no point of W has so small a loss; the answer says so.
            with contextlib.suppress(InputError):
                measure = compute(level, strata=self.scenario.problem.zero_set.strata_of)
                found[name] = self._reference(replace(measure, capped=measure.capped or below))
            progress.advance(1)
        return found

    @functools.cached_property
    def of_population(self) -> PosteriorMethod:
        """The posterior method for the population's loss: that of the loss on samples if both losses are the same."""
        problem = self.scenario.problem
        if problem.population_loss is problem.loss:
            return self._method
        loss = problem.population_loss
        cuts = problem.zero_set.cuts
        return choose_method(
            loss.excess, loss.gradient, problem.prior, self.scenario.witness, seed=problem.seed, cuts=cuts
        )

    @functools.cached_property
    def floor(self) -> float:
        """The least mean K_n of the references that follow a population; see FLOOR."""
        sizes = np.abs(self.energy(self.scenario.problem.prior.draw(TYPICAL, 0, "typical loss")))
        return FLOOR * float(np.median(sizes[np.isfinite(sizes)]))

    def energy(self, points: Array) -> Array:
        """Return K_n at points (N, D), shape (N,)."""
        return self.scenario.problem.loss.excess(points)

    @functools.cached_property
    def edges(self) -> Array:
        """The edges of the histograms along strata, shape (along_strata, bins + 1)."""
        return along_edges(self.scenario.problem, self.scenario.sizes.record.bins)

    def _reference(self, measure: Measure) -> Reference:
        return Reference.of(measure, self.scenario.problem.zero_set)

    @functools.cached_property
    def _method(self) -> PosteriorMethod:
        loss, prior, size = self.scenario.problem.loss, self.scenario.problem.prior, self.scenario.witness
        return choose_method(loss.excess, loss.gradient, prior, size, seed=self.scenario.problem.seed, cuts=self._cuts)

    def _cuts(self) -> list[list[float]]:
        zero_set = self.scenario.problem.zero_set
        cuts = [set(edges) for edges in zero_set.cuts()]
        for k, edges in zip(zero_set.along_strata, self.edges, strict=True):
            axis = zero_set.along_axis(k)
            if axis is not None:
                cuts[axis] |= set(edges)
        return [sorted(values) for values in cuts]

    def along(self, reference: Reference) -> Array:
        """Return the mass in each bin along the strata that have a position along them, (along_strata, bins)."""
        zero_set = self.scenario.problem.zero_set
        masses = np.empty((len(self.edges), self.scenario.sizes.record.bins))
        for row, k, edges in zip(masses, zero_set.along_strata, self.edges, strict=True):
            here = reference.strata[STATED] == k
            position = zero_set.along(reference.measure.points[here], k)
            row[:] = np.histogram(position, edges, weights=reference.measure.weights[here])[0]
        return masses

    def dataset(self, reference: Reference, known: Sequence[LearningCoefficient | None]) -> xr.Dataset:
        """Return the posterior's record; `known` are the `coefficients` of the strata."""
        problem, measure = self.scenario.problem, reference.measure
        names = (*problem.zero_set.names, DIVERGED)
        samples = "independent points of equal weight from the posterior"
        method = f"tempered SMC, {measure.runs} runs" if isinstance(self._method, Smc) else "quadrature"
        found = xr.Dataset(
            {
                **self._by_stratum(reference, known),
                **self._numbers(measure),
                "position": labelled(
                    ("chain", "draw", "parameter"),
                    resampled(measure.points, measure.weights, CHAINS * DRAWS).reshape(CHAINS, DRAWS, -1),
                    samples,
                ),
            },
            coords=coordinates(
                stratum=texts(names),
                along_stratum=texts(names[k] for k in problem.zero_set.along_strata),
                parameter=texts(problem.prior.names),
                tube_factor=TUBE_FACTORS,
                chain=range(CHAINS),
                draw=range(DRAWS),
            ),
            attrs={"posterior_method": method},
        )
        return found.merge(spread(problem.derived, (), quantiles(problem.derived, measure.points, measure.weights)))

    def _by_stratum(self, reference: Reference, known: Sequence[LearningCoefficient | None]) -> dict[str, xr.Variable]:
        coefficient, multiplicity = np.full((2, len(reference.mass)), math.nan)
        method = texts([""] * len(reference.mass))
        for k, each in enumerate(known):
            method[k] = "unknown"
            if each is not None:
                coefficient[k], multiplicity[k] = each.rank[0], -each.rank[1]
                method[k] = f"{each.method}, {each.explanation}"
        along = self.along(reference)
        return {
            "mass": labelled("stratum", reference.mass, "mass of each stratum's tube"),
            "tube_mass": labelled(("tube_factor", "stratum"), reference.masses, "mass, by the tubes' radius"),
            "along_mass": labelled(("along_stratum", "bin"), along, "mass by position along each stratum"),
            "along_edge": labelled(("along_stratum", "edge"), self.edges, "edges of the bins along each stratum"),
            "learning_coefficient": labelled("stratum", coefficient, "learning coefficient λ"),
            "multiplicity": labelled("stratum", multiplicity, "multiplicity m of λ"),
            "learning_coefficient_method": labelled("stratum", method, "theorem or statement that gives λ and m"),
        }

    def _numbers(self, measure: Measure) -> dict[str, xr.Variable]:
        problem = self.scenario.problem
        evidence = measure.log_evidence - problem.nbeta * problem.loss.entropy
        size = "effective number of the weighted points, if they are sampled"
        return {
            "nbeta": scalar(problem.nbeta, "number of samples times inverse temperature"),
            "mean_excess": scalar(measure.mean(self.energy(measure.points)), "mean of K_n", "nat per sample"),
            "log_evidence": scalar(evidence, "log of the integral of exp(-nbeta L_n) φ", "nat"),
            "evidence_error": scalar(measure.error, "relative error of the evidence"),
            "share_error": scalar(measure.share_error, "absolute error of the masses"),
            "converged": scalar(measure.converged, "whether the posterior method converged"),
            "effective_sample_size": scalar(measure.effective_sample_size, size, "points"),
            "entropy": scalar(problem.loss.entropy, "S_n, the loss of the truth", "nat per sample"),
        }
