"""How simple the solutions of particles are, beside those of a reference: local free energy and local λ_n.

Every particle and every draw of a reference follows the gradient flow of the population's loss K to its solution. The
scores F and λ_n (`local_posterior`) belong to the solution. The preference of a population over a reference is

    P(a particle is simpler than a draw) - P(it is less simple),

with ties within TIES (Mann and Whitney 1947). If the particles were draws of the reference it would be 0, for any
radius and nbeta. A solution without a score is not reached by the posterior; it counts as less simple than all others.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special
from scipy.spatial.distance import cdist

from sandbox.comparison.local_posterior import NBETA_FACTORS, RADII, ByConvolution, ByDraws, LocalPosterior, Scores
from sandbox.model.flow import solutions
from sandbox.model.problem import Problem
from sandbox.posterior.measure import Measure, resampled
from sandbox.posterior.method import BY_QUADRATURE, PosteriorMethod, Quadrature
from sandbox.tools.arrays import Array

SCORES = ("free_energy", "local_learning_coefficient")
TIES = {"free_energy": 0.1, "local_learning_coefficient": 0.02}
"""The difference of scores up to which two solutions are equally simple: in nats, and in λ."""
MOST_BEYOND = 4096
"""The most particles that are scored in more than two parameters; in one and two it is all that are kept."""
DRAWS = 4096
"""The most draws of a reference."""
MIDDLE = len(RADII) // 2
"""The index of the radius that pictures and sentences show."""
_EVIDENCE = 1e-5
"""The relative error of the evidence for scores: it is the same for all points."""
_PANELS = 5.0
"""The largest interval of the quadrature, in radii: its ten nodes then integrate the kernel to about 1e-8."""


class Interval(NamedTuple):
    """An estimate with the ends of its interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Scored:
    """Points with their solutions (N, D) and scores; draws also have weights (N,), sum 1, and their runs (N,).

    `run_of` is None if the draws come from quadrature; then `runs` is 1.
    """

    points: Array
    solutions: Array
    scores: Scores
    weights: Array
    run_of: npt.NDArray[np.int64] | None = None
    runs: int = 1

    def score(self, name: str, f: int, r: int) -> Array:
        """Return one score at one nbeta and radius, (N, parts), inf where the posterior does not reach."""
        values = self.scores[SCORES.index(name)][f, r]
        return np.where(np.isnan(values), np.inf, values)

    def own(self) -> Scores:
        """Return the scores (NBETA_FACTORS, radii, N) that leave out each draw's own run, else those of all draws."""
        if self.run_of is None or self.scores.free_energy.shape[-1] == 1:
            return Scores(*(values[..., -1] for values in self.scores))
        rows = np.arange(len(self.points))
        return Scores(*(values[:, :, rows, self.run_of] for values in self.scores))

    @property
    def not_reached(self) -> float:
        """The share of points whose solution has no score at nbeta and the middle radius."""
        return float(self.weights @ np.isnan(self.own().free_energy[0, MIDDLE]))

    @property
    def medians(self) -> list[float]:
        """The median of each of SCORES at nbeta and the middle radius; inf if half of the points have none."""
        values = [np.where(np.isnan(each[0, MIDDLE]), np.inf, each[0, MIDDLE]) for each in self.own()]
        return [float(np.quantile(v, 0.5, method="inverted_cdf", weights=self.weights)) for v in values]


class Simplicity:
    """The scores of a problem.

    `posterior` is the posterior method of the population's loss. `radii` are in prior scales, by default RADII; if the
    posterior is sampled these are enlarged until its draws resolve them.
    """

    def __init__(self, problem: Problem, posterior: PosteriorMethod, radii: tuple[float, ...] | None = None):
        self.problem, self._method, self._radii = problem, posterior, radii

    @property
    def radii(self) -> tuple[float, ...]:
        """The kernel's radii, in units of each parameter's prior scale."""
        return self.local.radii

    @functools.cached_property
    def local(self) -> LocalPosterior:
        """The posterior of the population's loss near a point."""
        problem, scale = self.problem, self.problem.prior.scale
        loss, nbeta = problem.population_loss, problem.nbeta
        if len(scale) <= BY_QUADRATURE:
            method = Quadrature(loss.excess, problem.prior, self._panels(), tolerance=_EVIDENCE)
            measures = [method.posterior(factor * nbeta) for factor in NBETA_FACTORS]
            energies = [
                factor * nbeta * loss.excess(measure.points)
                for factor, measure in zip(NBETA_FACTORS, measures, strict=True)
            ]
            return ByConvolution(measures, energies, scale, problem.prior.bounds, self._radii or RADII)
        draws, weights, run_of = drawn(self._method.posterior(nbeta), 2 * DRAWS)
        above = loss.excess(draws)
        # A colder posterior has the same draws with other weights: the density changes by a known factor.
        colder = [weights * np.exp(-(factor - 1) * nbeta * (above - above.min())) for factor in NBETA_FACTORS]
        parts = np.arange(len(draws)) % 2 if run_of is None else run_of
        known = ByDraws(draws / scale, np.array([each / each.sum() for each in colder]), above, nbeta, parts)
        return dataclasses.replace(known, radii=self._radii) if self._radii else known.resolving()

    def particles(self, points: Array) -> Scored:
        """Return the scores of particles (N, D); those that have diverged have none."""
        points = points[: None if len(points.T) <= BY_QUADRATURE else MOST_BEYOND]
        kept = np.where(self.problem.prior.diverged(points)[:, None], np.nan, points)
        return self._scored(kept, np.full(len(points), 1 / len(points)), None, 1)

    def draws(self, measure: Measure) -> Scored:
        """Return the scores of draws from a reference."""
        points, weights, run_of = drawn(measure, DRAWS)
        return self._scored(points, weights, run_of, measure.runs)

    def _scored(self, points: Array, weights: Array, run_of: npt.NDArray[np.int64] | None, runs: int) -> Scored:
        ends = solutions(self.problem.population_loss, self.problem.prior, points)
        return Scored(points, ends, self.local.scores(ends / self.problem.prior.scale), weights, run_of, runs)

    def surface(self, pixels: int) -> tuple[list[Array], Array, Array] | None:
        """Return a grid's axes, F and λ_n on it at the middle radius; None in more than two parameters."""
        prior = self.problem.prior
        if not isinstance(self.local, ByConvolution):
            return None
        axes = [np.linspace(low, high, pixels) for low, high in self.local.extent(MIDDLE)]
        scaled = [axis / scale for axis, scale in zip(axes, prior.scale, strict=True)]
        return axes, *self.local.surface(scaled, self.radii[MIDDLE])

    def _panels(self) -> list[Array]:
        """Return per parameter the ends of intervals that are short beside the smallest radius."""
        widths = _PANELS * min(self._radii or RADII) * self.problem.prior.scale
        return [
            np.arange(low, high, width) for (low, high), width in zip(self.problem.prior.window(), widths, strict=True)
        ]


def drawn(measure: Measure, most: int) -> tuple[Array, Array, npt.NDArray[np.int64] | None]:
    """Return at most `most` draws (N, D) of a measure, their weights (N,), sum 1, and their runs (N,), None if one.

    Draws of one run have equal weights; they are resampled systematically, so few differ from the weighted points.
    """
    if measure.run_of is None:
        return resampled(measure.points, measure.weights, most), np.full(most, 1 / most), None
    found, weights, run_of = [], [], []
    present = np.unique(measure.run_of)
    count = min(most // measure.runs, len(measure.points) // len(present))
    for run in present:
        here = measure.run_of == run
        mass = measure.weights[here].sum()
        found.append(resampled(measure.points[here], measure.weights[here] / mass, count))
        weights.append(np.full(count, mass / count))
        run_of.append(np.full(count, run))
    return np.concatenate(found), np.concatenate(weights), np.concatenate(run_of)


def preference(particles: Scored, draws: Scored, score: str, f: int, r: int, level: float) -> Interval:
    """Return the preference of particles over a reference by one score, at one nbeta and radius, in [-1, 1]."""
    ours, theirs = particles.score(score, f, r), draws.score(score, f, r)
    tie = TIES[score]
    placed = np.zeros(len(ours))
    by_draw = np.zeros(len(theirs))
    for part, members, weight in _parts(draws):
        # A score without a part of the posterior's draws is compared with the draws of that part.
        k = min(part, ours.shape[1] - 1)
        values, own = ours[:, k], theirs[members, k]
        simpler = _placed(values, own, tie)
        placed += weight * simpler
        by_draw[members] = -_placed(own, values, tie)
    estimate = float(placed.mean())
    return with_errors(estimate, placed, draws, by_draw, level)


def preferences(particles: Scored, draws: Scored, level: float) -> Array:
    """Return the preference by each score, at each nbeta and radius, with its interval.

    The shape is (SCORES, NBETA_FACTORS, radii, 3).
    """
    places = list(np.ndindex(particles.scores.free_energy.shape[:2]))
    found = [[preference(particles, draws, score, f, r, level) for f, r in places] for score in SCORES]
    return np.array(found).reshape(len(SCORES), *particles.scores.free_energy.shape[:2], 3)


def agreement(particles: Scored, draws: Scored, radius: float, scale: Array, level: float) -> Interval:
    """Return the least share of particles that are elsewhere along W0 than a reference's draws.

    It is a lower bound of the total variation distance of the two laws of solutions. Half of the particles and of the
    draws tell at which places particles are the denser ones, by kernels of this radius in prior scales; the other half
    counts how many more particles than draws are there, and then the halves are exchanged. So the estimate is 0 on the
    mean if both laws are equal (Gretton et al. 2012 compare such tests).
    """
    ours, theirs = particles.solutions / scale, draws.solutions / scale
    finite = np.isfinite(ours).all(axis=1)
    half_ours = np.arange(len(ours)) % 2
    half_theirs = np.arange(len(theirs)) % 2 if draws.run_of is None else draws.run_of % 2
    denser, there = np.ones(len(ours)), np.zeros(len(theirs))
    for half in (0, 1):
        teach, learn = (half_ours == half) & finite, half_theirs == half
        asked = (half_ours != half) & finite
        # Diverged particles have their share of the mass, at no place.
        each = np.full(teach.sum(), 1 / max((half_ours == half).sum(), 1))
        for points, target in ((asked, denser), (half_theirs != half, there)):
            where = ours[points] if target is denser else theirs[points]
            particles_there = _density(where, ours[teach], each, radius)
            target[points] = particles_there > _density(
                where, theirs[learn], draws.weights[learn] / draws.weights[learn].sum(), radius
            )
    estimate = float(denser.mean() - draws.weights @ there)
    return with_errors(estimate, denser, draws, -there, level)


def _density(points: Array, centres: Array, weights: Array, radius: float) -> Array:
    found = np.zeros(len(points))
    for i in range(0, len(points), 1024):
        rows = slice(i, i + 1024)
        exponent = (cdist(points[rows], centres, "sqeuclidean") / (-2 * radius**2)).astype(np.float32)
        found[rows] = np.exp(exponent) @ weights.astype(np.float32)
    return found


def with_errors(estimate: float, ours: Array, draws: Scored, theirs: Array, level: float) -> Interval:
    """Return the interval of a difference in [-1, 1] between particles and draws, with the errors of both.

    `ours` (N,) and `theirs` (M,) are the contributions of each particle and draw (the placements of DeLong et al.
    1988). Draws of runs have the error that the spread between runs shows, by Student's t. The normal interval is
    widened as Wilson's is for a share of 0 or 1, so that it has a width where all contributions are equal.
    """
    tail = (1 - level) / 2
    z = float(special.ndtri(1 - tail))
    one_draw = float(draws.weights @ draws.weights)
    variance = float(ours.var()) / len(ours)
    if draws.run_of is None:
        variance += float(theirs.var()) * one_draw
    else:
        centre = float(draws.weights @ theirs)
        by_run = np.bincount(draws.run_of, draws.weights * (theirs - centre), draws.runs) * draws.runs
        wider = float(special.stdtrit(draws.runs - 1, 1 - tail)) / z
        variance += wider**2 * float(by_run.var(ddof=1)) / draws.runs
    half = math.hypot(z * math.sqrt(variance), 2 * z**2 * (1 / len(ours) + one_draw))
    return Interval(estimate, max(estimate - half, -1.0), min(estimate + half, 1.0))


def _parts(draws: Scored) -> Iterator[tuple[int, npt.NDArray[np.intp], float]]:
    """Yield each run's number, its draws and its weight; one part, -1, if draws come from quadrature."""
    if draws.run_of is None:
        yield -1, np.arange(len(draws.points)), 1.0
        return
    for run in np.unique(draws.run_of):
        members = np.flatnonzero(draws.run_of == run)
        yield int(run), members, float(draws.weights[members].sum())


def _placed(values: Array, others: Array, tie: float) -> Array:
    """Return for each value the share of others that are larger less that of smaller ones, beyond ties; (N,)."""
    ordered = np.sort(others)
    larger = len(ordered) - np.searchsorted(ordered, values + tie, side="right")
    placed: Array = (larger - np.searchsorted(ordered, values - tie, side="left")) / len(ordered)
    return placed
