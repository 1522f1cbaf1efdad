"""Posteriors in any number of parameters, by independent runs of tempered sequential Monte Carlo (SMC).

The runs are independent, so their spread gives the error, including that from modes that only some of them find. They
are combined with weights proportional to their estimates of the evidence, which are unbiased (Del Moral 2004, 7.4.2): a
ratio of integrals then becomes a ratio of means. A mode that no run finds is not part of the error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import special

from sandbox.posterior.measure import Measure
from sandbox.posterior.sampling.mcmc import LEAST, Landscape, Prior
from sandbox.posterior.sampling.smc_run import Run, Stage, effective_share, log_mean
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError
from sandbox.tools.parallel import in_threads

CONFIDENCE = 0.95
"""The level of the intervals whose half-widths are the errors."""

WIDEST_EVIDENCE = 0.5
"""Relative half-width of the evidence's interval above which the runs disagree."""

WIDEST_SHARE = 0.05
"""Half-width of the interval of a stratum's mass above which the runs disagree."""

FEWEST_ANCESTORS = 10
"""Least number of draws from the prior from which the particles of each run must descend."""

LEAST_SAMPLE = 200.0
"""Least effective sample size that all runs together must have."""

_TILT = 0.5  # largest relative correction of nbeta after the particles have been led to it

Strata = Callable[[Array], NDArray[np.integer]]
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Smc:
    """The posterior, tempered posteriors and level sets of one loss, in D >= 1 parameters, by SMC.

    energy: points (N, D) -> K_n (N,), may be slightly negative, may be +inf. slope: points (N, D) -> gradient of K_n
    (N, D), almost everywhere; it guides proposals that are then accepted or rejected with the energy, so that an error
    in it costs time only. particles: number in each of the independent `runs`, made even: each half guides the other.
    sweeps: most sweeps of moves at each stage; fewer if the particles are decorrelated from their start before. Results
    are a pure function of the seed and the arguments, independent of earlier calls; the ladder is kept between calls.

    A measure has `converged` false if its runs disagree (WIDEST_EVIDENCE, WIDEST_SHARE) or too few particles carry it
    (FEWEST_ANCESTORS, LEAST_SAMPLE). Raises InputError for fewer than 2 runs, 64 particles or LEAST sweeps, for a
    negative seed, and if the energy is nan or -inf.
    """

    energy: Callable[[Array], Array]
    slope: Callable[[Array], Array]
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

    def posterior(self, nbeta: float, *, strata: Strata | None = None) -> Measure:
        """Return the measure with density proportional to exp(-nbeta K_n) times the prior, restricted to finite K_n.

        nbeta: n times the inverse temperature. strata: points (N, D) -> integers (N,), for instance strata; the masses
        of 0, 1, ... have error estimates. Raises InputError for an nbeta that is negative or not finite.
        """
        if not (np.isfinite(nbeta) and nbeta >= 0):
            raise InputError(f"nbeta is {nbeta}; it must be finite and at least 0")
        return _combined(self._asked(lambda run: run.at(float(nbeta))), strata)

    def tempered(self, mean_energy: float, *, strata: Strata | None = None, nbeta_max: float = 1e10) -> Measure:
        """Return the posterior at the nbeta for which the mean of K_n is `mean_energy`.

        It is the prior (nbeta 0) if the prior's mean is not above `mean_energy`, and the posterior at `nbeta_max`,
        marked `capped`, if the mean is still above `mean_energy` there. Else the mean over the points returned is
        `mean_energy` up to rounding (unless that changes nbeta by over half), and nbeta has the resulting statistical
        error. Raises InputError for a mean energy that is not finite.
        """
        if not np.isfinite(mean_energy):
            raise InputError(f"the mean energy is {mean_energy}; it must be finite")
        nbeta = self._matching(mean_energy, nbeta_max)
        stages = self._asked(lambda run: run.at(nbeta))
        if not 0 < nbeta < nbeta_max:
            return replace(_combined(stages, strata), capped=nbeta >= nbeta_max)

        def surplus(tilt: float) -> float:
            return _mean_energy(stages, nbeta * (1.0 + tilt)) - mean_energy

        tilt = 0.0
        if surplus(-_TILT) > 0 > surplus(_TILT):
            tilt = _falling_root(surplus, -_TILT, _TILT, 1e-12)
        return _combined(stages, strata, nbeta * (1.0 + tilt))

    def level_set(self, level: float, *, strata: Strata | None = None) -> Measure:
        """Return the prior restricted to {K_n <= level}; `log_evidence` is the log of the prior mass of that set.

        Raises InputError for a level that is not finite, and if no run finds a point with K_n <= level.
        """
        if not np.isfinite(level):
            raise InputError(f"the level is {level}; it must be finite")
        stages = self._asked(lambda run: run.inside(float(level)))
        if not any(stages):
            least = min(float(stage.energies.min()) for run in self._walks for stage in run.ladder)
            raise InputError(f"no point has an energy of at most {level}; the least one found is {least}")
        return replace(_combined(stages, strata), nbeta=float("nan"))

    def _below(self, nbeta: float) -> list[Stage]:
        if all(run.reaches(nbeta) for run in self._walks):
            return [run.below(nbeta) for run in self._walks]
        return self._asked(lambda run: run.below(nbeta))

    def _asked(self, question: Callable[[Run], Answer]) -> list[Answer]:
        """Return the result for each run. The runs share nothing, so each may have a thread of its own."""
        first = self._walks[0]
        if first.climbs(0.0):
            # A loss derives its expressions at its first evaluation, by SymPy, which is not made for threads.
            first.landscape.force(first.ladder[0].points[:1], 1.0)
        return in_threads([partial(question, run) for run in self._walks])

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
    """Return the zero, to `within`, of a function that is positive at `low` and not at `high`, by bisection.

    SciPy's bisection comes with twenty optimisers, which take a fifth of a second to import.
    """
    step = high - low
    while True:
        step /= 2
        value = function(low + step)
        if value == 0 or step < within:
            return low + step
        low += step if value > 0 else 0.0


def _mean_energy(stages: list[Stage], nbeta: float) -> float:
    """Return the mean of K_n at this nbeta, from a stage of each run near this nbeta."""
    weights = _weights(stages, nbeta)[0]
    return float(weights @ np.concatenate([stage.energies for stage in stages]))


def _weights(stages: list[Stage], nbeta: float | None = None) -> tuple[Array, Array]:
    """Return the weights (runs N,), sum 1, of the particles, and the log evidences of the runs (runs,).

    They are for the stages' own target, or for the same at another nbeta.
    """
    logs = [
        stage.log_weights(stage.target if nbeta is None else replace(stage.target, nbeta=nbeta)) for stage in stages
    ]
    evidences = np.array([stage.log_evidence + log_mean(log) for stage, log in zip(stages, logs, strict=True)])
    weights = np.exp(
        np.concatenate([log + s.log_evidence for log, s in zip(logs, stages, strict=True)]) - evidences.max()
    )
    return weights / weights.sum(), evidences


def _combined(runs: list[Stage] | list[Stage | None], strata: Strata | None, nbeta: float | None = None) -> Measure:
    """Return the measure that combines the runs; a run without a stage (None) found no mass."""
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
    if strata is not None:
        errors, share_errors = _share_errors(np.asarray(strata(points), dtype=np.int64), weights, relative, len(stages))
        share_error = float(errors.max())
    present = [run for run, stage in enumerate(runs) if stage is not None]
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
        run_of=np.repeat(present, len(points) // len(present)),
    )


def _half_width(values: Array) -> float:
    """Return half the width of the interval of the mean of independent values (N,), by Student's t."""
    quantile = float(special.stdtrit(len(values) - 1, 0.5 + CONFIDENCE / 2))
    return quantile * float(values.std(ddof=1)) / float(np.sqrt(len(values)))


def _share_errors(strata: NDArray[np.int64], weights: Array, relative: Array, found: int) -> tuple[Array, Array]:
    """Return half-widths for the masses of all strata met, and for 0, 1, ... up to the largest.

    A mass is a ratio of two means over runs: that of evidence times mass, and that of evidence. To first order its
    error is that of the mean of relative evidence times (mass in the run - mass).
    """
    by_run = weights.reshape(found, -1)
    by_run = by_run / by_run.sum(axis=1, keepdims=True)
    known = np.unique(strata)
    errors = np.zeros(len(known))
    for k, stratum in enumerate(known):
        masses = (by_run * (strata.reshape(found, -1) == stratum)).sum(axis=1)
        departure = np.zeros(len(relative))
        departure[:found] = relative[:found] * (masses - weights[strata == stratum].sum())
        errors[k] = _half_width(departure)
    numbered = np.zeros(max(int(known[-1]) + 1, 0))
    numbered[known[known >= 0]] = errors[known >= 0]
    return errors, numbered


def _sample_size(points: Array, weights: Array) -> float:
    """Return the effective sample size, with copies of a point counted as one point."""
    _, place = np.unique(points, axis=0, return_inverse=True)
    merged = np.bincount(place.ravel(), weights)
    return effective_share(np.log(merged[merged > 0])) * int((merged > 0).sum())
