"""Particles that walk under one target until they have forgotten where they were, by Metropolis moves of all kinds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sandbox.errors import InputError
from sandbox.posterior.moves import BINS, KINDS, Crowd, Floats, Ints, Repertoire, drawn_sizes, empty_tally

DECORRELATED = 0.2
"""Correlation of energies and coordinates with those just after resampling at which moving ends."""

SWEEPS = (3, 24)
"""Least and most sweeps of moves at a stage."""

_IMPOSSIBLE = -1e5  # log density of the prior below which a proposal is rejected unseen: it is out of all range
_RIDGE = 1e-9  # keeps a correlation matrix regular
_GRADIENT = 2.0  # cost of a gradient, in energies


class Prior(Protocol):
    """What sampling asks of a prior on D parameters."""

    def log_density(self, points: Floats, /) -> Floats:
        """Return the normalised log density at the points (N, D), -inf outside the support."""

    def log_density_gradient(self, points: Floats, /) -> Floats:
        """Return the gradient (N, D) of the log density at the points (N, D) of the support, almost everywhere."""

    def draw(self, count: int, seed: int, purpose: str, /) -> Floats:
        """Return draws (count, D), a pure function of the arguments."""

    @property
    def bounds(self) -> Floats:
        """The support (D, 2), infinite where it is open."""


@dataclass(frozen=True)
class Landscape:
    """Energy, slope and prior, looked after: nan is an error, and what is out of range is no warning."""

    energy: Callable[[Floats], Floats]
    slope: Callable[[Floats], Floats]
    prior: Prior

    def energies(self, points: Floats) -> Floats:
        """Return K_n (N,) at the points (N, D). Raises InputError where it is nan or -inf."""
        return _checked("energy", self.energy, points, -1.0)

    def log_prior(self, points: Floats) -> Floats:
        """Return the log density of the prior (N,) at the points (N, D). Raises InputError where it is nan or +inf."""
        return _checked("log density of the prior", self.prior.log_density, points, 1.0)

    def force(self, points: Floats, nbeta: float) -> Floats:
        """Return the gradient (N, D) of the log target; 0 where it is not a number."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            force = np.asarray(self.prior.log_density_gradient(points), dtype=np.float64)
            if nbeta > 0:
                force = force - nbeta * np.asarray(self.slope(points), dtype=np.float64)
        return np.where(np.isfinite(force), force, 0.0)


def _checked(name: str, function: Callable[[Floats], Floats], points: Floats, infinite: float) -> Floats:
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.asarray(function(points), dtype=np.float64)
    wrong = np.isnan(values) | (values == infinite * np.inf)
    if wrong.any():
        raise InputError(f"the {name} is {values[wrong][0]} at {points[wrong][0].tolist()}; that is not allowed")
    return values


@dataclass(frozen=True)
class Target:
    """The density exp(-nbeta K_n) times the prior where K_n <= level and K_n is finite."""

    nbeta: float
    level: float = np.inf


@dataclass
class Walk:
    """Particles that move under one target: points (N, D), energies and log densities of the prior (N,)."""

    landscape: Landscape
    target: Target
    points: Floats
    energies: Floats
    log_prior: Floats
    root: Floats
    repertoire: Repertoire
    rng: np.random.Generator
    evaluations: int = 0

    def __post_init__(self) -> None:
        self.tally = empty_tally()
        self.scale = np.sqrt((self.root**2).sum(axis=1))
        self._kinds, self._sizes = self.repertoire.kinds(), self.repertoire.sizes()

    def until_decorrelated(self) -> int:
        """Move all particles until they have forgotten where they were; return the number of sweeps."""
        points, energies = self.points.copy(), self.energies.copy()
        half = len(points) // 2
        least, most = SWEEPS
        for sweep in range(1, most + 1):
            self._half(slice(0, half), slice(half, None))
            self._half(slice(half, None), slice(0, half))
            memory = max(_correlation(energies[:, None], self.energies[:, None]), _correlation(points, self.points))
            if sweep >= least and memory < DECORRELATED:
                break
        return sweep

    def _half(self, moving: slice, others: slice) -> None:
        """Let one half try one move, the other half giving directions."""
        start = self.points[moving].copy()
        crowd = Crowd(start, self.points[others], self.root, self.scale, self.landscape.prior.bounds, self._force)
        kind = int(self.rng.choice(len(KINDS), p=self._kinds))
        size, bins = drawn_sizes(self._sizes[kind], len(start), self.rng)
        before = self.evaluations
        with np.errstate(over="ignore", invalid="ignore"):
            points, log_ratio = KINDS[kind](crowd, size, self.rng)
        taken = self._accepted(points, log_ratio, moving)
        jumps = np.minimum(((points[taken] - start[taken]) / self.scale) ** 2, 1.0).mean(axis=1)
        self.tally.tried[kind] += np.bincount(bins, minlength=BINS)
        self.tally.taken[kind] += np.bincount(bins[taken], minlength=BINS)
        self.tally.gain[kind] += np.bincount(bins[taken], jumps, minlength=BINS)
        self.tally.cost[kind] += self.evaluations - before

    def _force(self, points: Floats) -> Floats:
        self.evaluations += int(_GRADIENT * len(points))
        return self.landscape.force(points, self.target.nbeta)

    def _accepted(self, points: Floats, log_ratio: Floats, moving: slice) -> Ints:
        """Take the proposals that Metropolis and Hastings accept; return their places within the half."""
        low, high = self.landscape.prior.bounds.T
        inside = np.flatnonzero(
            ((points >= low) & (points <= high) & np.isfinite(points)).all(axis=1) & np.isfinite(log_ratio)
        )
        log_prior = self.landscape.log_prior(points[inside])
        possible = log_prior > _IMPOSSIBLE
        inside, log_prior = inside[possible], log_prior[possible]
        energies = self.landscape.energies(points[inside])
        self.evaluations += len(inside)
        here = moving.start + inside
        allowed = (energies <= self.target.level) & np.isfinite(energies)
        energies = np.where(allowed, energies, 0.0)
        gain = log_prior - self.log_prior[here] + log_ratio[inside]
        gain -= self.target.nbeta * (energies - self.energies[here])
        accepted = allowed & (np.log(1.0 - self.rng.random(len(inside))) < gain)
        here = here[accepted]
        self.points[here] = points[inside[accepted]]
        self.energies[here], self.log_prior[here] = energies[accepted], log_prior[accepted]
        taken: Ints = inside[accepted]
        return taken


def _correlation(before: Floats, after: Floats) -> float:
    """Return the mean over columns of the correlation of two tables (N, C)."""
    one, two = before - before.mean(axis=0), after - after.mean(axis=0)
    size = np.sqrt((one**2).sum(axis=0) * (two**2).sum(axis=0))
    return float(np.mean((one * two).sum(axis=0) / np.where(size > 0, size, 1.0)))


def root_of(points: Floats) -> Floats:
    """Return a lower triangular root (D, D) of the covariance matrix of points (N, D), made regular."""
    scale = points.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    centred = (points - points.mean(axis=0)) / scale
    correlation = centred.T @ centred / len(points)
    root: Floats = scale[:, None] * np.linalg.cholesky(correlation + _RIDGE * np.eye(len(scale)))
    return root
