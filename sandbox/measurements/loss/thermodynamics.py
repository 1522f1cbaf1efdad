"""Z_n = int exp(-n K) φ and the first two derivatives of log Z_n in log n, over many decades of n, by quadrature."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from sandbox.dynamics.frames import Record
from sandbox.measurements.base import OfLoss, need_quadrature, need_time, seconds
from sandbox.measurements.loss.splitting import Energy, rounding
from sandbox.model.problem import Problem
from sandbox.posterior.quadrature.posteriors import MOST_PARAMETERS, Prior, posterior
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError

FEWEST = 8
"""The number of sizes n that an estimate needs."""
SMALL_N: Array = 10.0 ** np.arange(-3.0, 1.0, 0.5)
"""Small sizes, at which Z_n depends on the whole prior. The zeta function needs them; the slope at large n does not."""

ACCEPTED = 1e-6
"""The table ends when the relative error of Z_n, or the change of n K by rounding, exceeds this number."""

_PROBES = 2000
_MOST_CELLS = {1: 200_000, 2: 200_000, 3: 5_000_000}  # by dimension: several times the need of sizes within reach
_TOLERANCE = {1: 1e-8, 2: 1e-8, 3: 1e-6}
_NEEDED, _OVERHEAD = 1_500_000, 6e-6
"""In three dimensions, the intervals of ten nodes of a size n if the loss is a sum of powers, and the seconds that each
takes beside the loss."""
_TIMED = 20_000
"""The points at which the loss is timed."""


@dataclass(frozen=True)
class Thermodynamics:
    """A table over n (N,): log_evidence = log Z_n, heat = E[n K] = -dlog Z / dlog n, variance = Var(n K), each (N,).
    Hence dheat / dlog n = heat - variance. error (N,): relative, of Z_n. stopped: why the table has no larger n."""

    n: Array
    log_evidence: Array
    heat: Array
    variance: Array
    error: Array
    stopped: str

    @property
    def log_n(self) -> Array:
        """Return log n (N,)."""
        return np.log(self.n)

    @property
    def bend(self) -> Array:
        """Return dheat / dlog n (N,)."""
        return self.heat - self.variance

    def above(self, least: float) -> Thermodynamics:
        """Return the part with n >= least."""
        keep = self.n >= least * (1 - 1e-12)
        n, logs, heat, variance, error = self.n, self.log_evidence, self.heat, self.variance, self.error
        return Thermodynamics(n[keep], logs[keep], heat[keep], variance[keep], error[keep], self.stopped)


def large_n(dimension: int, largest: float = math.inf) -> Array:
    """Return large sizes n (N,), up to those that quadrature reaches in seconds (1, 2 parameters) or minutes (3).

    With 1 or 2 its cost grows only like log n; with 3 it starts a hundred times higher. No size exceeds `largest`.
    """
    sizes = 10.0 ** (np.arange(1.0, 16.0) if dimension < 3 else np.arange(1.0, 6.1, 0.5))
    return np.asarray(sizes[sizes <= largest])


def thermodynamics(
    energy: Energy,
    prior: Prior,
    n: ArrayLike | None = None,
    *,
    cuts: Sequence[ArrayLike] = (),
    tolerance: float | None = None,
    max_cells: int | None = None,
) -> Thermodynamics:
    """Return the table at `n` (rising; by default SMALL_N and `large_n`), for one to three parameters.

    The other arguments are those of `posterior`; the default tolerance is 1e-8, with three parameters 1e-6. The table
    ends when the quadrature's error exceeds ACCEPTED, or rounding of K hides n K. Raises InputError if n is not
    positive and rising, if there are more than three parameters, and as `posterior` does.
    """
    dimension = len(prior.bounds)
    if not 1 <= dimension <= 3:
        raise InputError(
            f"quadrature takes 1 to 3 parameters, here are {dimension}; volumes can be measured in any number"
        )
    tolerance, max_cells = tolerance or _TOLERANCE[dimension], max_cells or _MOST_CELLS[dimension]
    sizes = np.concatenate([SMALL_N, large_n(dimension)]) if n is None else np.asarray(n, dtype=np.float64)
    rising = sizes.ndim == 1 and sizes.size > 0 and np.isfinite(sizes).all() and (np.diff(sizes) > 0).all()
    if not rising or sizes[0] <= 0:
        raise InputError("n must be a list of positive numbers, each larger than the one before")
    bounds = np.asarray(prior.bounds, dtype=np.float64)
    rows = []
    stopped = f"at the largest n asked for, {sizes[-1]:.0e}"
    for size in sizes:
        # After an overflow the quadrature returns an infinite error: it has no error estimate.
        with np.errstate(over="ignore"):
            measure = posterior(energy, prior, float(size), cuts=cuts, tolerance=tolerance, max_cells=max_cells)
        if not measure.error <= ACCEPTED:
            stopped = f"before n = {size:.0e}: the quadrature has an error of {measure.error:.0e}"
            break
        heats = size * energy(measure.points)
        if size * _rounding(energy, measure.points, measure.weights, bounds) > ACCEPTED:
            stopped = f"before n = {size:.0e}: n K is rounding noise there"
            break
        heat = measure.mean(heats)
        rows.append((size, measure.log_evidence, heat, measure.mean((heats - heat) ** 2), measure.error))
    n_kept, logs, heat_kept, variance, error = np.array(rows, dtype=np.float64).reshape(-1, 5).T
    return Thermodynamics(n_kept, logs, heat_kept, variance, error, stopped)


def _rounding(energy: Energy, points: Array, weights: Array, bounds: Array) -> float:
    """Return the mean change of K when coordinates change by some ulps, at points drawn according to the weights."""
    rng = np.random.default_rng(0)
    probe = points[rng.choice(len(points), _PROBES, p=weights)]
    return float(np.mean(rounding(energy, probe, bounds, rng)))


@functools.lru_cache(maxsize=1)
def evidences(energy: Energy, prior: Prior, largest: float) -> Thermodynamics:
    """Return the evidence for all sizes n up to the largest; cached, as the free energy and ζ both use it."""
    return thermodynamics(energy, prior, np.concatenate([SMALL_N, large_n(len(prior.bounds), largest)]))


class OverSizes(OfLoss):
    """A measurement from the evidence over many decades of n."""

    quick: ClassVar[dict[str, int]] = {"largest_n": 10**9}
    largest_n: float = Field(default=1e15, description="no n exceeds it; in three dimensions 1e6 is the largest anyway")

    def check(self, problem: Problem, record: Record | None) -> None:
        """Raise InputError if quadrature takes too long, or if `largest_n` leaves fewer than FEWEST sizes n."""
        need_quadrature(problem)
        dimension = len(problem.prior.names)
        if len(large_n(dimension, self.largest_n)) < FEWEST:
            least = large_n(dimension)[FEWEST - 1]
            raise InputError(f"found {self.largest_n:g}; allowed: {least:g} or more").within("largest_n")
        if dimension == MOST_PARAMETERS:
            each = _OVERHEAD + 10 * seconds(problem.population_loss.excess, problem.prior, _TIMED)
            sizes = len(large_n(dimension, self.largest_n))
            need_time(each * _NEEDED * sizes, "one or two parameters; volume and wbic take any number")

    def table(self, problem: Problem) -> Thermodynamics:
        """Return the evidence of the population loss for all sizes n."""
        return evidences(problem.population_loss.excess, problem.prior, self.largest_n)
