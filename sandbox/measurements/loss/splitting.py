"""Importance splitting: particles descend through nested sets {K < e}, each with half the prior mass of the last.

Kahn, Harris 1951; Au, Beck 2001 (subset simulation); Cérou, Del Moral, Furon, Guyader 2012 (adaptive levels). At each
level the half of the particles with the larger K is replaced by copies of the other half. Then all take Metropolis
steps that leave the prior, restricted to {K < e}, invariant. So log V falls by log 2 a level with a variance of about
1 / N, however small V is; plain sampling would need 1 / V points. Replicas share the levels but no particles, so that
their spread gives the error of their mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sandbox.measurements.loss.splitting_moves import Crowd, Others, Repertoire
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError

Energy = Callable[[Array], Array]

LOWEST = 1e-290
"""The lowest level of any descent: below it, K leaves the range of normal floats."""

_ULPS = 4.0  # units in the last place by which coordinates are changed, to measure the rounding of K
_NOISE = 0.25  # change of K, relative to the level, that counts as rounding noise
_NOISY_SHARE = 0.005  # of the particles: stuck at float points with K near 0, they would double at every level
_PROBES = 2048
_POSITIVE = 0.25  # share of particles with K = 0 above which the set {K = 0} counts as having mass
_TINY = 1e-20
_STREAM = 0x5E7


class Prior(Protocol):
    """A prior on D parameters, with the methods that splitting needs."""

    def log_density(self, points: Array, /) -> Array:
        """Return the log density (N,) at the points (N, D), -inf outside the support."""

    def quantile(self, uniforms: Array, /) -> Array:
        """Return points (N, D) of the prior from uniform random numbers (N, D) in (0, 1)."""

    @property
    def bounds(self) -> Array:
        """The support (D, 2): lower and upper bounds, infinite if there is none."""

    @property
    def scale(self) -> Array:
        """A length for each parameter (D,)."""


@dataclass(frozen=True)
class Descent:
    """The result of splitting: S levels, R replicas.

    log_level: (S,), natural logarithms of the levels e, falling. log_volume: (S, R), log V(e) of each replica.
    acceptance: (S,), share of proposals accepted below the previous level. points: (R, N, D), the last population, from
    the prior on {K < last level}; energies: (R, N). ancestors: (R,), the number of first particles from which a
    replica's last ones descend. stopped: the reason for the end; reached: whether that is the level or volume given.
    """

    log_level: Array
    log_volume: Array
    acceptance: Array
    points: Array
    energies: Array
    ancestors: NDArray[np.int64]
    stopped: str
    reached: bool


@dataclass
class Population:
    """R replicas of N particles, flattened to M = R N: points (D, M), energies and log prior density (M,)."""

    energy: Energy
    prior: Prior
    rng: np.random.Generator
    replicas: int
    points: Array
    energies: Array
    log_prior: Array

    def __post_init__(self) -> None:
        self.repertoire = Repertoire()
        self._others = Others(self.points, self.replicas)

    @classmethod
    def drawn(cls, energy: Energy, prior: Prior, seed: int, replicas: int, particles: int) -> Population:
        """Return a population of `particles` from the prior for each replica. Raises InputError if K is nan."""
        rng = np.random.default_rng([seed, _STREAM])
        points = prior.quantile(rng.random((replicas * particles, len(prior.bounds))))
        return cls(energy, prior, rng, replicas, points.T.copy(), evaluated(energy, points), prior.log_density(points))

    def step(self, level: float) -> float:
        """Propose one move inside {K < level} for every particle; return the share of proposals accepted."""
        crowd = Crowd(self.points, self.prior.scale, self._others)
        (proposal, log_jacobian), kind, decades = self.repertoire.propose(crowd, self.rng)
        low, high = self.prior.bounds.T[:, :, None]
        inside = np.flatnonzero(((proposal >= low) & (proposal <= high)).all(axis=0))
        energies = evaluated(self.energy, proposal[:, inside].T)
        below = energies < level
        inside, energies = inside[below], energies[below]
        log_prior = self.prior.log_density(proposal[:, inside].T)
        gain = log_prior - self.log_prior[inside] + log_jacobian[inside]
        accepted = np.log(self.rng.random(len(inside))) < gain
        chosen = inside[accepted]
        self.points[:, chosen], self.energies[chosen] = proposal[:, chosen], energies[accepted]
        self.log_prior[chosen] = log_prior[accepted]
        self.repertoire.count(kind, decades, chosen)
        return len(chosen) / len(self.energies)

    def noisy(self, level: float) -> bool:
        """Return whether rounding decides which particles are below the level."""
        probe = self.points[:, self.rng.integers(len(self.energies), size=_PROBES)].T
        change = rounding(self.energy, probe, self.prior.bounds, self.rng)
        return bool(np.mean(change > _NOISE * level) > _NOISY_SHARE)

    def settle(self) -> None:
        """Store the positions of all particles and adapt the weights of the moves, for the next level."""
        self._others = Others(self.points, self.replicas)
        self.repertoire.adapt()

    def resample(self, survives: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Replace the particles of each replica that do not survive by copies of survivors; return the parents (M,).

        `survives` is (R, N). The numbers of copies of two survivors differ by at most one, to avoid random noise.
        """
        replicas, size = survives.shape
        parent = np.arange(survives.size).reshape(survives.shape)
        for r in range(replicas):
            alive, dead = np.flatnonzero(survives[r]), np.flatnonzero(~survives[r])
            parent[r, dead] = r * size + np.resize(self.rng.permutation(alive), len(dead))
        chosen = parent.ravel()
        self.points, self.energies = self.points[:, chosen], self.energies[chosen]
        self.log_prior = self.log_prior[chosen]
        return chosen


def evaluated(energy: Energy, points: Array) -> Array:
    """Return the energy (N,) at the points (N, D). Raises InputError if it is not a number at some point."""
    energies = np.asarray(energy(points), dtype=np.float64)
    wrong = np.isnan(energies)
    if wrong.any():
        raise InputError(f"the energy is not a number at {points[wrong][0].tolist()}")
    return energies


def rounding(energy: Energy, points: Array, bounds: Array, rng: np.random.Generator) -> Array:
    """Return the change |ΔK| (N,) when the coordinates of points (N, D) change by a few units in the last place.

    It includes both the limited resolution of the coordinates as floats and the cancellation in the evaluation of K.
    """
    shift = _ULPS * np.finfo(float).eps * rng.choice([-1.0, 1.0], points.shape)
    shaken = np.clip(points * (1.0 + shift), *bounds.T)
    return np.abs(evaluated(energy, shaken) - evaluated(energy, points))


def descend(
    energy: Energy,
    prior: Prior,
    *,
    seed: int,
    particles: int,
    replicas: int,
    moves: int,
    lowest: float,
    least_log_volume: float = -np.inf,
) -> Descent:
    """Return the descent to {K < lowest}; it ends earlier at a log volume of `least_log_volume` or at rounding noise.

    energy: points (N, D) -> K (N,). There are `particles` in each of the `replicas`, and `moves` per particle and
    level. Raises InputError if K is not a number, or is exactly 0 on a set of positive prior mass.
    """
    population = Population.drawn(energy, prior, seed, replicas, particles)
    lowest, level = max(lowest, LOWEST), np.inf
    log_volume, ancestor = np.zeros(replicas), np.arange(particles * replicas)
    levels: list[float] = []
    volumes: list[Array] = []
    acceptance: list[float] = []
    stopped, reached = "", False
    while True:
        rate = np.mean([population.step(level) for _ in range(moves)]) if levels else 1.0
        if stopped:
            break
        following = max(float(np.median(population.energies)), lowest)
        survives = (population.energies < following).reshape(replicas, particles)
        if not survives.any(axis=1).all() or population.noisy(following):
            _refuse_positive_mass(population, level, log_volume)
            stopped = f"at {level:.1e}: below, K is rounding noise"
            break
        if following == lowest:
            _refuse_positive_mass(population, level, log_volume)
            stopped, reached = f"at the lowest level asked for, {lowest:.1e}", True
        log_volume, level = log_volume + np.log(survives.mean(axis=1)), following
        levels.append(level)
        volumes.append(log_volume)
        acceptance.append(float(rate))
        ancestor = ancestor[population.resample(survives)]
        population.settle()
        if not stopped and log_volume.mean() < least_log_volume:
            stopped, reached = f"at a volume of e^{log_volume.mean():.0f}", True
    families = [len(np.unique(part)) for part in ancestor.reshape(replicas, particles)]
    return Descent(
        log_level=np.log(levels),
        log_volume=np.array(volumes),
        acceptance=np.array(acceptance),
        points=population.points.T.reshape(replicas, particles, -1),
        energies=population.energies.reshape(replicas, particles),
        ancestors=np.array(families, dtype=np.int64),
        stopped=stopped,
        reached=reached,
    )


def _refuse_positive_mass(population: Population, level: float, log_volume: Array) -> None:
    zero = float(np.mean(population.energies <= 0.0))
    # Rounding can make K exactly 0, too, but only if the level is already tiny.
    if zero > _POSITIVE and not level < _TINY:
        mass = zero * float(np.exp(log_volume).mean())
        raise InputError(f"the energy is 0 on a set of prior mass about {mass:.2g}: λ is 0, nothing is left to measure")
