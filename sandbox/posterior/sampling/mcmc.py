"""Particles that move under one target, by Metropolis moves of all kinds, until decorrelated from their start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sandbox.posterior.sampling.guided_moves import KINDS, Guided
from sandbox.posterior.sampling.moves import Ints, Repertoire, drawn_sizes
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError
from sandbox.tools.parallel import end_if_stopped

DECORRELATED = 0.2
"""Moves end once energies and coordinates have at most this correlation with those just after resampling."""

LEAST = 3
"""Least number of sweeps of moves at a stage, and number of sweeps between checks of the correlation."""

BINS = 16
"""Number of bins of sizes; they span ten decades."""

_IMPOSSIBLE = -1e5  # a proposal of smaller log prior density is rejected without its energy: it is out of range
_GRADIENT = 2.0  # cost of a gradient, in energies


class Prior(Protocol):
    """The methods of a prior on D parameters that sampling needs."""

    def log_density(self, points: Array, /) -> Array:
        """Return the normalised log density at the points (N, D), -inf outside the support."""

    def log_density_gradient(self, points: Array, /) -> Array:
        """Return the gradient (N, D) of the log density at the points (N, D) of the support, almost everywhere."""

    def draw(self, count: int, seed: int, purpose: str, /) -> Array:
        """Return draws (count, D) from the prior, a pure function of the arguments."""

    @property
    def bounds(self) -> Array:
        """The support (D, 2), infinite on open sides."""


@dataclass(frozen=True)
class Landscape:
    """Energy, slope and prior with checks: nan is an error, and an overflow is no warning."""

    energy: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    prior: Prior

    def energies(self, points: Array) -> Array:
        """Return K_n (N,) at the points (N, D). Raises InputError if any is nan or -inf."""
        return _checked("energy", self.energy, points, -1.0)

    def log_prior(self, points: Array) -> Array:
        """Return the log density of the prior (N,) at the points (N, D). Raises InputError if any is nan or +inf."""
        return _checked("log density of the prior", self.prior.log_density, points, 1.0)

    def force(self, points: Array, nbeta: float) -> Array:
        """Return the gradient (N, D) of the log target at the points (N, D); 0 where it is not finite."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            force = np.asarray(self.prior.log_density_gradient(points), dtype=np.float64)
            if nbeta > 0:
                force = force - nbeta * np.asarray(self.slope(points), dtype=np.float64)
        return np.where(np.isfinite(force), force, 0.0)


def _checked(name: str, function: Callable[[Array], Array], points: Array, infinite: float) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.asarray(function(points), dtype=np.float64)
        total = values.sum()
    # One sum checks all values: it is finite unless a value is not finite or the values are huge.
    if not np.isfinite(total):
        wrong = np.isnan(values) | (values == infinite * np.inf)
        if wrong.any():
            raise InputError(f"the {name} is {values[wrong][0]} at {points[wrong][0].tolist()}; that is not allowed")
    return values


@dataclass(frozen=True)
class Target:
    """The density exp(-nbeta K_n) times the prior where K_n <= level and K_n is finite."""

    nbeta: float
    level: float = np.inf


def new_repertoire() -> Repertoire:
    """Return the repertoire from which a first walk chooses its moves."""
    return Repertoire.fresh(len(KINDS), BINS)


@dataclass
class Walk:
    """Particles that move under one target: points (N, D), energies and log densities of the prior (N,).

    The starting points of each half give directions to the other half: proposals that depended on the starting point
    of their own particle would not leave the target invariant.
    """

    landscape: Landscape
    target: Target
    points: Array
    energies: Array
    log_prior: Array
    repertoire: Repertoire
    rng: np.random.Generator
    evaluations: int = 0

    def __post_init__(self) -> None:
        self.tally = Repertoire.tally(len(KINDS), BINS)
        scale, others = self.points.std(axis=0), np.roll(self.points, len(self.points) // 2, axis=0)
        self._crowd = Guided(self.points, others, scale, self.landscape.prior.bounds, 2, force=self._force)
        self._unit = np.where(scale > 0, scale, 1.0)
        self._kinds, self._sizes = self.repertoire.kinds(), self.repertoire.sizes()

    def until_decorrelated(self, most: int) -> int:
        """Move all particles until they are decorrelated from their start; return the number of sweeps.

        In any case the moves end after `most` sweeps, or after as many evaluations per particle.
        """
        points, energies, sweep, memory = self.points.copy(), self.energies.copy(), 0, 1.0
        evaluations = most * len(self.points)
        # Proposals out of range are not evaluated, so a limit on evaluations alone might never be reached.
        while sweep < LEAST or (memory > DECORRELATED and sweep < most and self.evaluations < evaluations):
            end_if_stopped()
            self._sweep()
            sweep += 1
            if sweep % LEAST == 0:
                memory = max(_correlation(energies[:, None], self.energies[:, None]), _correlation(points, self.points))
        return sweep

    def _sweep(self) -> None:
        """Propose one move for every particle, all of the same kind, and accept or reject each."""
        kind = int(self.rng.choice(len(KINDS), p=self._kinds))
        size, bins = drawn_sizes(self._sizes[kind], len(self.points), self.rng)
        before = self.evaluations
        with np.errstate(over="ignore", invalid="ignore"):
            points, log_ratio = KINDS[kind](self._crowd, size, self.rng)
        taken, jumps = self._accepted(points, log_ratio)
        gain = np.minimum((jumps / self._unit) ** 2, 1.0).mean(axis=1)
        self.tally.count(kind, bins, taken, gain, self.evaluations - before)

    def _force(self, points: Array) -> Array:
        self.evaluations += int(_GRADIENT * len(points))
        return self.landscape.force(points, self.target.nbeta)

    def _accepted(self, points: Array, log_ratio: Array) -> tuple[Ints, Array]:
        """Move particles whose proposals Metropolis and Hastings accept; return their indices and their jumps."""
        near = np.flatnonzero(np.isfinite(points).all(axis=1) & np.isfinite(log_ratio))
        log_prior = self.landscape.log_prior(points[near])
        possible = log_prior > _IMPOSSIBLE
        near, log_prior = near[possible], log_prior[possible]
        energies = self.landscape.energies(points[near])
        self.evaluations += len(near)
        allowed = (energies <= self.target.level) & np.isfinite(energies)
        energies = np.where(allowed, energies, 0.0)
        gain = log_prior - self.log_prior[near] + log_ratio[near]
        gain -= self.target.nbeta * (energies - self.energies[near])
        accepted = allowed & (np.log(1.0 - self.rng.random(len(near))) < gain)
        taken = near[accepted]
        jumps = points[taken] - self.points[taken]
        self.points[taken] = points[taken]
        self.energies[taken], self.log_prior[taken] = energies[accepted], log_prior[accepted]
        return taken, jumps


def _correlation(before: Array, after: Array) -> float:
    """Return the mean over columns of the correlation between two tables (N, C)."""
    one, two = before - before.mean(axis=0), after - after.mean(axis=0)
    size = np.sqrt((one**2).sum(axis=0) * (two**2).sum(axis=0))
    return float(np.mean((one * two).sum(axis=0) / np.where(size > 0, size, 1.0)))
