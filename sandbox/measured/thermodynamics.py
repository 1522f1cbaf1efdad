"""Z_n = int exp(-n K) φ, its first two derivatives in log n, over many decades of n, by quadrature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sandbox.errors import InputError
from sandbox.measured.splitting import Energy, rounding
from sandbox.posterior import Prior, posterior

Floats = NDArray[np.float64]

SMALL_N: Floats = 10.0 ** np.arange(-3.0, 1.0, 0.5)
"""Where Z_n still feels all of the prior; the zeta function needs them, the slope at large n does not."""

ACCEPTED = 1e-6
"""Relative error of Z_n, and change of n K by rounding, beyond which the table ends."""

_PROBES = 2000
_MOST_CELLS = {1: 200_000, 2: 200_000, 3: 5_000_000}  # by dimension: several times what sizes within reach need
_TOLERANCE = {1: 1e-8, 2: 1e-8, 3: 1e-6}


@dataclass(frozen=True)
class Thermodynamics:
    """A table over n (N,): log_evidence = log Z_n, heat = E[n K] = -dlog Z / dlog n, variance = Var(n K), so that
    dheat / dlog n = heat - variance; error: of Z_n, relative. stopped: why no larger n is in it, in words."""

    n: Floats
    log_evidence: Floats
    heat: Floats
    variance: Floats
    error: Floats
    stopped: str

    @property
    def log_n(self) -> Floats:
        """Return log n (N,)."""
        return np.log(self.n)

    @property
    def bend(self) -> Floats:
        """Return dheat / dlog n (N,)."""
        return self.heat - self.variance

    def above(self, least: float) -> Thermodynamics:
        """Return the part with n >= least."""
        keep = self.n >= least * (1 - 1e-12)
        n, logs, heat, variance, error = self.n, self.log_evidence, self.heat, self.variance, self.error
        return Thermodynamics(n[keep], logs[keep], heat[keep], variance[keep], error[keep], self.stopped)


def large_n(dimension: int, largest: float = math.inf) -> Floats:
    """Return sizes at which the asymptotics shows, as large as the quadrature goes in seconds (1, 2) or minutes (3).

    In the plane its cost grows like log n only; in space it starts a hundred times higher. None exceeds `largest`.
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
    """Return the table at the n given (rising; unless given SMALL_N and `large_n`), for one to three parameters.

    The rest is as for `posterior`, the tolerance 1e-8 (in three dimensions 1e-6) unless given. The table ends where
    the quadrature misses ACCEPTED, or rounding of K hides n K. Raises InputError for n that are not positive and
    rising, for other dimensions, and what `posterior` raises.
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
        # The quadrature says by an infinite error, after an overflow, that it has no error estimate.
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


def _rounding(energy: Energy, points: Floats, weights: Floats, bounds: Floats) -> float:
    """Return the mean change of K when coordinates change by some ulps, at points drawn by their weights."""
    rng = np.random.default_rng(0)
    probe = points[rng.choice(len(points), _PROBES, p=weights)]
    return float(np.mean(rounding(energy, probe, bounds, rng)))
