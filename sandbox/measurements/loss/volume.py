"""λ and m from the volume of {K < e}: log V(e) = λ log e + (m - 1) log log 1/e + ... over tens of decades.

V(e) is the prior mass of {K < e}. Importance splitting (`splitting`) measures it down to volumes at which plain
sampling finds no point, and `fit` estimates λ and m from it. The method takes any number of parameters. It measures
the λ of all of W0 inside the prior's support, which is that of the most degenerate point.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xarray as xr
from pydantic import Field
from scipy import special

from sandbox.measurements.base import OfLoss, with_theory
from sandbox.measurements.loss.fit import FEWEST, Average, fit
from sandbox.measurements.loss.splitting import Descent, Energy, Prior, descend
from sandbox.model.labelled import labelled
from sandbox.model.problem import Problem
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError, RunError

PARTICLES = 12288
REPLICAS = 16
MOVES = 16
DECADES = 60.0
LEAST_LOG_VOLUME = -70.0
"""The descent also ends at this log V: the relative error of λ falls only with the square root of -log V."""
BINS = 30
"""The largest number of bins of levels for the fit."""

RULED_OUT = 0.02
"""A multiplicity enters the interval only if its weight is above this."""

_FEWEST_REPLICAS = 4
_FEWEST_PARTICLES = 32  # in a replica
_BLOCKS = 5  # of bins, to measure the correlation of errors in neighbouring bins
_SLIVER = 0.2  # nats of log V: if the last level is less than this below the one before, it is left out of the fit
_HEAD = 2  # first levels left out of the fit: there {K < e} is a large part of the prior's support


def volume(
    energy: Energy,
    prior: Prior,
    *,
    seed: int,
    particles: int = PARTICLES,
    replicas: int = REPLICAS,
    moves: int = MOVES,
    decades: float = DECADES,
    multiplicity: int | None = None,
) -> xr.Dataset:
    """Return λ, m and log V(e) with their errors, from `particles` in `replicas` that share no particle.

    energy: points (N, D) -> K >= 0, (N,). prior: a `splitting.Prior`. moves: per particle and level. decades: the
    descent ends at e = 10^-decades, at V = e^-70, or when K becomes rounding noise, whichever is first.
    multiplicity: m, if it is known; unless given, it is chosen among 1..D by the weights of the fits.

    Dataset: `log_volume` (level) with `log_volume_error`; `replica_log_volume` (level, replica); the best fit
    `fitted_log_volume` (level), nan before its start; `acceptance` (level); over `bin`: `slope`, the local
    -dlog V / dlog 1/e, with `slope_error`, `fitted_slope`, and `residual` in units of its error; over `choice`, each m
    not ruled out: `choice_estimate`, `choice_error`, `choice_probability`; `ancestors` (replica), the number of first
    particles that the last ones descend from: few if moves do not mix along W0. Attributes: `estimate`, the mean of
    all fits; `low` and `high`, the hull of the 95% intervals for each m not ruled out; `standard_error`, made of
    `statistical_error` (jackknife over replicas) and `model_error` (disagreement of the fits); `multiplicity`,
    `multiplicity_probability`; `stopped`, and `level_reached`, 0 if rounding ended the descent.

    Raises InputError for unusable settings, or if K is not a number or is 0 on a set of positive mass; RunError if the
    descent ends before there are enough levels to fit.
    """
    _check(seed, particles, replicas, moves, decades, multiplicity)
    descent = descend(
        energy,
        prior,
        seed=seed,
        particles=particles // replicas,
        replicas=replicas,
        moves=moves,
        lowest=10.0**-decades,
        least_log_volume=LEAST_LOG_VOLUME,
    )
    choices = range(1, descent.points.shape[-1] + 1) if multiplicity is None else [multiplicity]
    return record(descent, measure(descent, choices)).assign_attrs(
        seed=seed, particles=particles, moves=moves, multiplicity_given=int(multiplicity is not None)
    )


@dataclass(frozen=True)
class Measured:
    """A fit to a descent: the average of all fits, its answer, and the answer for each multiplicity not ruled out.

    t: edges log 1/e of the bins (B + 1,). decline: the declines of log V in them (B,). variance: that of a decline,
    divided by the decline. quantile: 97.5% of Student's t with R - 1 degrees of freedom for R replicas.
    """

    t: Array
    decline: Array
    variance: float
    average: Average
    whole: Answer
    answers: tuple[Answer, ...]
    quantile: float

    @property
    def interval(self) -> tuple[float, float]:
        """Return the hull (low, high) of the 95% intervals for each multiplicity that is not ruled out.

        A Bayesian interval could use a mixture of the laws. But if the data cannot determine m, each law is covered.
        """
        half = [self.quantile * answer.error for answer in self.answers]
        low = min(a.learning_coefficient - h for a, h in zip(self.answers, half, strict=True))
        high = max(a.learning_coefficient + h for a, h in zip(self.answers, half, strict=True))
        return max(low, 0.0), high


@dataclass(frozen=True)
class Answer:
    """The result of some fits: λ with its errors, and the likeliest m with its weight among all fits.

    statistical_error: due to the particles. model_error: due to the disagreement of the fits."""

    multiplicity: int
    probability: float
    learning_coefficient: float
    statistical_error: float
    model_error: float

    @property
    def error(self) -> float:
        """Return the standard error of λ."""
        return math.hypot(self.statistical_error, self.model_error)


def measure(descent: Descent, multiplicities: Sequence[int], *, next_pole: bool = True) -> Measured:
    """Return λ and its errors from a descent, for these m. Raises RunError if the descent has too few levels."""
    t, declines = _binned(descent)
    log_volume = np.concatenate([np.zeros((1, declines.shape[1])), -np.cumsum(declines, axis=0)])
    decline = -np.diff(pooled(log_volume))
    variance = max(_variance(declines), _variance(_blocks(declines)))
    average = fit(t, decline, variance, multiplicities, next_pole=next_pole)

    def answer(part: Average, multiplicity: int) -> Answer:
        error = float(jackknife(log_volume, functools.partial(_response, part.influence)))
        return Answer(multiplicity, average.shares[multiplicity], part.learning_coefficient, error, part.disagreement)

    shares = average.shares
    answers = tuple(answer(average.of(m), m) for m, share in shares.items() if share > RULED_OUT)
    whole = answer(average, max(shares, key=shares.__getitem__))
    quantile = float(special.stdtrit(declines.shape[1] - 1, 0.975))
    return Measured(t, decline, variance, average, whole, answers, quantile)


def _response(influence: Array, log_volume: Array) -> Array:
    return np.asarray(-np.diff(log_volume) @ influence)


def pooled(log_volume: Array) -> Array:
    """Return the log of the mean volume (S,) of replicas (S, R): it is the volume that each estimates without bias."""
    top = log_volume.max(axis=1)
    return np.asarray(top + np.log(np.exp(log_volume - top[:, None]).mean(axis=1)))


def jackknife(log_volume: Array, statistic: Callable[[Array], Array]) -> Array:
    """Return the standard error of a statistic of the pooled log volume (S,), by leaving out each replica in turn."""
    replicas = log_volume.shape[1]
    values = np.stack([statistic(pooled(np.delete(log_volume, r, axis=1))) for r in range(replicas)])
    return np.asarray(np.sqrt((replicas - 1) * values.var(axis=0)))


def record(descent: Descent, measured: Measured) -> xr.Dataset:
    """Return the Dataset that `volume` documents."""
    average, best, t = measured.average, measured.average.best, measured.t
    width, log_e = np.diff(t), descent.log_level
    log_volume = pooled(descent.log_volume)
    start = int(np.argmin(np.abs(-log_e - t[best.start])))
    fitted = np.full(len(log_e), np.nan)
    u = -log_e[start:] - t[best.start]
    fitted[start:] = best.shape.log_decay(best.parameters, u)[0]
    fitted[start:] += np.mean(log_volume[start:] - fitted[start:])
    nothing = np.full(best.start, np.nan)
    middle = 0.5 * (t[1:] + t[:-1])
    model = best.shape.log_decay(best.parameters, t[best.start :] - t[best.start])[0]
    data = {
        "log_volume": labelled("level", log_volume, "log V(e)", "nat"),
        "log_volume_error": labelled(
            "level", jackknife(descent.log_volume, lambda v: v), "standard error of log_volume", "nat"
        ),
        "replica_log_volume": labelled(("level", "replica"), descent.log_volume, "log V(e) of a replica", "nat"),
        "fitted_log_volume": labelled("level", fitted, "log V(e) of the best fit", "nat"),
        "acceptance": labelled("level", descent.acceptance, "share of moves accepted above the level"),
        "slope": labelled("bin", measured.decline / width, "local slope of log V in log e"),
        "slope_error": labelled(
            "bin", np.sqrt(measured.variance * measured.decline) / width, "standard error of slope"
        ),
        "fitted_slope": labelled(
            "bin", np.concatenate([nothing, -np.diff(model) / width[best.start :]]), "local slope of the best fit"
        ),
        "residual": labelled("bin", np.concatenate([nothing, best.residuals]), "residual in units of its error"),
        "choice_estimate": labelled("choice", [a.learning_coefficient for a in measured.answers], "λ for this m"),
        "choice_error": labelled("choice", [a.error for a in measured.answers], "standard error for this m"),
        "choice_probability": labelled("choice", [a.probability for a in measured.answers], "weight of this m"),
        "ancestors": labelled("replica", descent.ancestors, "first particles that the last ones descend from"),
    }
    coords = {
        "choice": labelled("choice", [a.multiplicity for a in measured.answers], "multiplicity m"),
        "log_level": labelled("level", log_e, "log e", "nat"),
        "bin_log_level": labelled("bin", -middle, "log e in the middle of the bin", "nat"),
    }
    whole = measured.whole
    low, high = measured.interval
    attrs = {
        "method": "volume",
        "estimate": whole.learning_coefficient,
        "low": low,
        "high": high,
        "standard_error": whole.error,
        "statistical_error": whole.statistical_error,
        "model_error": whole.model_error,
        "multiplicity": whole.multiplicity,
        "multiplicity_probability": whole.probability,
        "next_pole_probability": average.next_pole,
        "stopped": descent.stopped,
        "level_reached": int(descent.reached),
    }
    return xr.Dataset(data, coords, attrs)


def _binned(descent: Descent) -> tuple[Array, Array]:
    """Return the edges t (B + 1,) of bins of about equally many levels, and the declines (B, R) of log V in them."""
    levels = len(descent.log_level)
    if levels < _HEAD + FEWEST + 2:
        raise RunError(f"the descent has {levels} levels only; it stopped {descent.stopped}")
    # The last level may be so close to the one before that almost no particle is between them.
    last = levels - 1 - int(pooled(descent.log_volume[-2:]) @ [1.0, -1.0] < _SLIVER)
    edges = np.linspace(_HEAD, last, min(BINS, last - _HEAD) + 1).round().astype(int)
    return -descent.log_level[edges], -np.diff(descent.log_volume[edges], axis=0)


def _variance(declines: Array) -> float:
    """Return the variance of the pooled decline divided by the decline, from the spread of the replicas (B, R)."""
    return float(np.mean(declines.var(axis=1, ddof=1) / declines.mean(axis=1)) / declines.shape[1])


def _blocks(declines: Array) -> Array:
    """Return the declines over blocks of bins: if moves mix slowly, the errors in neighbouring bins add up."""
    return np.stack([part.sum(axis=0) for part in np.array_split(declines, _BLOCKS)])


def _check(seed: int, particles: int, replicas: int, moves: int, decades: float, multiplicity: int | None) -> None:
    if seed < 0:
        raise InputError(f"the seed is {seed}; it must be at least 0")
    if replicas < _FEWEST_REPLICAS:
        raise InputError(f"{replicas} replicas give no error bar; at least {_FEWEST_REPLICAS} are needed")
    if particles < _FEWEST_PARTICLES * replicas:
        raise InputError(
            f"{particles} particles are too few for {replicas} replicas; at least {_FEWEST_PARTICLES} each are needed"
        )
    if moves < 1:
        raise InputError(f"moves is {moves}; it must be at least 1")
    if not 1 <= decades <= 290:
        raise InputError(f"decades is {decades}; it must be between 1 and 290")
    if multiplicity is not None and multiplicity < 1:
        raise InputError(f"the multiplicity is {multiplicity}; it must be at least 1")


class Volume(OfLoss):
    """V(e), the prior mass of {K < e}, over many decades of e, by importance splitting: its exponent is λ."""

    name: ClassVar[str] = "volume"
    quick: ClassVar[dict[str, int]] = {"particles": 1024}
    particles: int = Field(default=PARTICLES, ge=512, le=10**6, description="particles, in 16 independent replicas")
    decades: float = Field(default=60.0, gt=1, le=250, description="the descent ends at e = 10^-decades at the latest")

    def measure(self, problem: Problem) -> xr.Dataset:
        """Return the record of `volume`, with λ and m of W0 as attributes if they are known."""
        found = volume(
            problem.population_loss.excess,
            problem.prior,
            seed=problem.seed,
            particles=self.particles,
            decades=self.decades,
        )
        return with_theory(found, problem, "the exponent of V(e)")
