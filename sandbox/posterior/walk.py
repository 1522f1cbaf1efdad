"""Particles that walk under one target until they have forgotten where they were, by Metropolis moves of all kinds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sandbox.errors import InputError
from sandbox.posterior.guided import KINDS, Guided
from sandbox.posterior.moves import Floats, Ints, Repertoire, drawn_sizes

DECORRELATED = 0.2
"""Correlation of energies and coordinates with those just after resampling at which moving ends."""

LEAST = 3
"""Sweeps of moves at a stage, at least, and between looks at what is left to forget."""

BINS = 16
"""Of sizes: over ten decades."""

_IMPOSSIBLE = -1e5  # log density of the prior below which a proposal is rejected unseen: it is out of all range
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
        total = values.sum()
    # One sum tells that all is well: unless a value is not finite, or the values are huge, it is.
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
    """Return what a first walk chooses its moves by."""
    return Repertoire.fresh(len(KINDS), BINS)


@dataclass
class Walk:
    """Particles that move under one target: points (N, D), energies and log densities of the prior (N,).

    The places where each half starts give the other half directions: a proposal that knew where its own particle
    comes from would not be invariant.
    """

    landscape: Landscape
    target: Target
    points: Floats
    energies: Floats
    log_prior: Floats
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
        """Move all particles until they have forgotten where they were; return the number of sweeps.

        It ends after `most` sweeps, or as many evaluations per particle, in any case.
        """
        points, energies, sweep, memory = self.points.copy(), self.energies.copy(), 0, 1.0
        evaluations = most * len(self.points)
        # Proposals out of all range are evaluated nowhere, so that evaluations alone would bound nothing.
        while sweep < LEAST or (memory > DECORRELATED and sweep < most and self.evaluations < evaluations):
            self._sweep()
            sweep += 1
            if sweep % LEAST == 0:
                memory = max(_correlation(energies[:, None], self.energies[:, None]), _correlation(points, self.points))
        return sweep

    def _sweep(self) -> None:
        """Let every particle try one move of a kind."""
        kind = int(self.rng.choice(len(KINDS), p=self._kinds))
        size, bins = drawn_sizes(self._sizes[kind], len(self.points), self.rng)
        before = self.evaluations
        with np.errstate(over="ignore", invalid="ignore"):
            points, log_ratio = KINDS[kind](self._crowd, size, self.rng)
        taken, jumps = self._accepted(points, log_ratio)
        gain = np.minimum((jumps / self._unit) ** 2, 1.0).mean(axis=1)
        self.tally.count(kind, bins, taken, gain, self.evaluations - before)

    def _force(self, points: Floats) -> Floats:
        self.evaluations += int(_GRADIENT * len(points))
        return self.landscape.force(points, self.target.nbeta)

    def _accepted(self, points: Floats, log_ratio: Floats) -> tuple[Ints, Floats]:
        """Take the proposals that Metropolis and Hastings accept; return their places, and their jumps."""
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


def _correlation(before: Floats, after: Floats) -> float:
    """Return the mean over columns of the correlation of two tables (N, C)."""
    one, two = before - before.mean(axis=0), after - after.mean(axis=0)
    size = np.sqrt((one**2).sum(axis=0) * (two**2).sum(axis=0))
    return float(np.mean((one * two).sum(axis=0) / np.where(size > 0, size, 1.0)))
