"""The witness in any number of parameters, by independent runs of tempered sequential Monte Carlo.

Runs share nothing but the question, so their spread is the error, modes that only some of them find included. They are
put together with weights proportional to their estimates of the evidence, which are unbiased (Del Moral 2004, 7.4.2):
what is a ratio of integrals then becomes a ratio of means. What no run finds, no spread can show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import special

from sandbox.errors import InputError
from sandbox.fork import together
from sandbox.posterior.annealing import Run, Stage, effective_share, log_mean
from sandbox.posterior.measure import Floats, Measure
from sandbox.posterior.walk import LEAST, Landscape, Prior

CONFIDENCE = 0.95
"""Of the intervals whose half-widths are the errors."""

WIDEST_EVIDENCE = 0.5
"""Relative half-width of the evidence's interval above which the runs disagree."""

WIDEST_SHARE = 0.05
"""Half-width of the interval of a label's mass above which the runs disagree."""

FEWEST_ANCESTORS = 10
"""Draws from the prior from which the particles of each run must descend."""

LEAST_SAMPLE = 200.0
"""Effective sample size that all runs together must have."""

_TILT = 0.5  # largest relative correction of nbeta after the particles were led to it

Labels = Callable[[Floats], NDArray[np.integer]]
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Sampler:
    """The posterior, tempered posteriors and level sets of one loss, in D >= 1 parameters.

    energy: points (N, D) -> K_n (N,), may be slightly negative, may be +inf. slope: points (N, D) -> gradient of K_n
    (N, D), almost everywhere; it guides proposals that are then accepted or rejected with the energy, so that what is
    wrong with it costs time only. particles: of each of the independent `runs`, made even: each half guides the other.
    sweeps: of moves at each temperature, at most; it ends earlier where particles have forgotten where they were.
    Answers are a pure function of the seed and of the question, whatever was asked before; the ladder of temperatures
    is kept between questions.

    A measure comes back with `converged` false where its runs disagree (WIDEST_EVIDENCE, WIDEST_SHARE) or too few
    particles carry it (FEWEST_ANCESTORS, LEAST_SAMPLE). Raises InputError for fewer than two runs or 64 particles, and
    where the energy is nan.
    """

    energy: Callable[[Floats], Floats]
    slope: Callable[[Floats], Floats]
    prior: Prior
    seed: int
    particles: int = 1024
    runs: int = 8
    sweeps: int = 80

    def __post_init__(self) -> None:
        if self.runs < 2 or self.particles < 64 or self.seed < 0 or self.sweeps < LEAST:
            raise InputError(
                f"{self.runs} runs of {self.particles} particles in {self.sweeps} sweeps with seed {self.seed}; "
                f"at least 2 runs of 64 particles in {LEAST} sweeps are needed, and a seed that is not negative"
            )
        landscape = Landscape(self.energy, self.slope, self.prior)
        particles = self.particles + self.particles % 2
        runs = tuple(Run(landscape, self.seed, run, particles, self.sweeps) for run in range(self.runs))
        object.__setattr__(self, "_runs", runs)

    @property
    def _walks(self) -> tuple[Run, ...]:
        walks: tuple[Run, ...] = self.__dict__["_runs"]
        return walks

    def posterior(self, nbeta: float, *, labels: Labels | None = None) -> Measure:
        """Return the measure with density proportional to exp(-nbeta K_n) times the prior, where K_n is finite.

        nbeta: n times the inverse temperature. labels: points (N, D) -> integers (N,), for instance strata; the masses
        of 0, 1, ... come with errors. Raises InputError for an nbeta that is negative or not finite.
        """
        if not (np.isfinite(nbeta) and nbeta >= 0):
            raise InputError(f"nbeta is {nbeta}; it must be finite and at least 0")
        return _combined(self._asked(lambda run: run.at(float(nbeta))), labels)

    def tempered(self, mean_energy: float, *, labels: Labels | None = None, nbeta_max: float = 1e10) -> Measure:
        """Return the posterior at the nbeta for which the mean of K_n is `mean_energy`.

        It is the prior (nbeta 0) if the prior's mean is not above `mean_energy`, and the posterior at `nbeta_max`,
        marked `capped`, if the mean is still above `mean_energy` there. The mean over the points returned is
        `mean_energy` up to rounding; nbeta has the statistical error that follows. Raises InputError for a mean energy
        that is not finite.
        """
        if not np.isfinite(mean_energy):
            raise InputError(f"the mean energy is {mean_energy}; it must be finite")
        nbeta = self._matching(mean_energy, nbeta_max)
        stages = self._asked(lambda run: run.at(nbeta))
        if not 0 < nbeta < nbeta_max:
            return replace(_combined(stages, labels), capped=nbeta >= nbeta_max)

        def surplus(tilt: float) -> float:
            return _mean_energy(stages, nbeta * (1.0 + tilt)) - mean_energy

        tilt = 0.0
        if surplus(-_TILT) > 0 > surplus(_TILT):
            tilt = _falling_root(surplus, -_TILT, _TILT, 1e-12)
        return _combined(stages, labels, nbeta * (1.0 + tilt))

    def level_set(self, level: float, *, labels: Labels | None = None) -> Measure:
        """Return the prior restricted to {K_n <= level}; `log_evidence` is the log of the prior mass of that set.

        Raises InputError for a level that is not finite, and when no run finds a point with K_n <= level.
        """
        if not np.isfinite(level):
            raise InputError(f"the level is {level}; it must be finite")
        stages = self._asked(lambda run: run.inside(float(level)))
        if not any(stages):
            least = min(float(stage.energies.min()) for run in self._walks for stage in run.ladder)
            raise InputError(f"no point has an energy of at most {level}; the least one found is {least}")
        return replace(_combined(stages, labels), nbeta=float("nan"))

    def _below(self, nbeta: float) -> list[Stage]:
        if all(run.reaches(nbeta) for run in self._walks):
            return [run.below(nbeta) for run in self._walks]
        return self._asked(lambda run: run.below(nbeta))

    def _asked(self, question: Callable[[Run], Answer]) -> list[Answer]:
        """Return the answer of each run, by as many processes as are allowed; what each climbed is kept."""

        def ask(run: Run) -> tuple[Answer, list[Stage], float]:
            climber = replace(run, ladder=list(run.ladder))
            answer = question(climber)
            return answer, climber.ladder[len(run.ladder) :], climber.following

        asked = together([partial(ask, run) for run in self._walks])
        for run, (_, climbed, following) in zip(self._walks, asked, strict=True):
            run.ladder += climbed
            run.following = following
        return [answer for answer, *_ in asked]

    def _matching(self, mean_energy: float, nbeta_max: float) -> float:
        """Return the nbeta in [0, nbeta_max] whose mean energy is `mean_energy`, by reweighting the ladders."""

        def surplus(log_nbeta: float) -> float:
            nbeta = float(np.exp(log_nbeta))
            return _mean_energy(self._below(nbeta), nbeta) - mean_energy

        start = self._below(0.0)
        if _mean_energy(start, 0.0) <= mean_energy:
            return 0.0
        top = float(np.log(nbeta_max))
        excess = float(np.mean([stage.energies.mean() - stage.energies.min() for stage in start]))
        low = high = min(-float(np.log(max(excess, np.finfo(np.float64).tiny))), top)
        while high < top and surplus(high) > 0:
            low, high = high, min(high + 1.0, top)
        if high >= top and surplus(top) > 0:
            return nbeta_max
        while surplus(low) <= 0 and low > high - 30.0:
            low -= 2.0
        if surplus(low) <= 0:
            return 0.0
        return float(np.exp(_falling_root(surplus, low, high, 1e-6)))


def _falling_root(function: Callable[[float], float], low: float, high: float, within: float) -> float:
    """Return where a function that is positive at `low` and not at `high` crosses 0, by bisection.

    SciPy has it, and twenty ways to optimise, which take a fifth of a second to import.
    """
    step = high - low
    while True:
        step /= 2
        value = function(low + step)
        if value == 0 or step < within:
            return low + step
        low += step if value > 0 else 0.0


def _mean_energy(stages: list[Stage], nbeta: float) -> float:
    """Return the mean of K_n at this nbeta, from stages of all runs near it."""
    weights = _weights(stages, nbeta)[0]
    return float(weights @ np.concatenate([stage.energies for stage in stages]))


def _weights(stages: list[Stage], nbeta: float | None = None) -> tuple[Floats, Floats]:
    """Return the weights (runs N,), sum 1, of the particles, and the log evidences of the runs (runs,).

    The stages' own target is meant, or the same at another nbeta.
    """
    logs = [
        stage.log_weights(stage.target if nbeta is None else replace(stage.target, nbeta=nbeta)) for stage in stages
    ]
    evidences = np.array([stage.log_evidence + log_mean(log) for stage, log in zip(stages, logs, strict=True)])
    weights = np.exp(
        np.concatenate([log + s.log_evidence for log, s in zip(logs, stages, strict=True)]) - evidences.max()
    )
    return weights / weights.sum(), evidences


def _combined(runs: list[Stage] | list[Stage | None], labels: Labels | None, nbeta: float | None = None) -> Measure:
    """Put the runs together; a run without a stage found no mass at all."""
    stages = [stage for stage in runs if stage is not None]
    weights, log_evidences = _weights(stages, nbeta)
    points = np.concatenate([stage.points for stage in stages])
    evidences = np.zeros(len(runs))
    evidences[: len(stages)] = np.exp(log_evidences - log_evidences.max())
    relative = evidences / evidences.mean()
    sample = _sample_size(points, weights)
    error = _half_width(relative)
    share_errors = None
    share_error = float("nan")
    if labels is not None:
        errors, share_errors = _share_errors(np.asarray(labels(points), dtype=np.int64), weights, relative, len(stages))
        share_error = float(errors.max())
    ancestors = min(len(np.unique(stage.ancestors)) for stage in stages)
    agree = error <= WIDEST_EVIDENCE and not share_error > WIDEST_SHARE
    return Measure(
        points=points,
        weights=weights,
        log_evidence=float(log_evidences.max() + np.log(evidences.mean())),
        error=error,
        share_error=share_error,
        nbeta=stages[0].target.nbeta if nbeta is None else nbeta,
        converged=bool(agree and ancestors >= FEWEST_ANCESTORS and sample >= LEAST_SAMPLE),
        cells=sum(stage.evaluations for stage in stages),
        share_errors=share_errors,
        effective_sample_size=sample,
        runs=len(runs),
    )


def _half_width(values: Floats) -> float:
    """Return half the width of the interval of the mean of independent values, by Student's t."""
    quantile = float(special.stdtrit(len(values) - 1, 0.5 + CONFIDENCE / 2))
    return quantile * float(values.std(ddof=1)) / float(np.sqrt(len(values)))


def _share_errors(labels: NDArray[np.int64], weights: Floats, relative: Floats, found: int) -> tuple[Floats, Floats]:
    """Return half-widths for the masses of all labels met, and for 0, 1, ... up to the largest.

    The mass is a ratio of means over runs: of evidence times mass, and of evidence. To first order its error is that of
    the mean of relative evidence times (mass in the run - mass).
    """
    by_run = weights.reshape(found, -1)
    by_run = by_run / by_run.sum(axis=1, keepdims=True)
    known = np.unique(labels)
    errors = np.zeros(len(known))
    for k, label in enumerate(known):
        masses = (by_run * (labels.reshape(found, -1) == label)).sum(axis=1)
        departure = np.zeros(len(relative))
        departure[:found] = relative[:found] * (masses - weights[labels == label].sum())
        errors[k] = _half_width(departure)
    numbered = np.zeros(max(int(known[-1]) + 1, 0))
    numbered[known[known >= 0]] = errors[known >= 0]
    return errors, numbered


def _sample_size(points: Floats, weights: Floats) -> float:
    """Return the effective sample size, copies of a point counted once."""
    _, place = np.unique(points, axis=0, return_inverse=True)
    merged = np.bincount(place.ravel(), weights)
    return effective_share(np.log(merged[merged > 0])) * int((merged > 0).sum())
