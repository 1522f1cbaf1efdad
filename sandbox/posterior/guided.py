"""Moves that know more of a posterior than points: its slope, the shape of the population, and who are no relatives.

- Trajectories of Hamiltonian dynamics (Duane et al. 1987; Neal 2011), reflected at the walls of the prior; the slope
  only proposes: leapfrog steps keep volume and can be reversed whatever the force is, so a wrong slope costs efficiency
  and nothing else.
- Draws from a mixture of normals fitted to the population, wherever the particle is (Chopin 2002; Giordani, Kohn 2010):
  they carry particles from mode to mode as often as the modes weigh, and no barrier is in their way.
- Whole differences of two others, which lead from one mode to another that is alike. The others must descend from other
  draws: a particle that shares a coordinate with one of them would cancel it, and land on a coordinate of the other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sandbox.posterior import moves
from sandbox.posterior.mixture import Mixture
from sandbox.posterior.moves import Crowd, Floats, Proposal, reflected

_LEAPS = 6  # most leapfrog steps of a trajectory
_RIDGE = 1e-9  # keeps a correlation matrix regular
_SEED = 0x313


@dataclass(frozen=True, kw_only=True)
class Guided(Crowd):
    """A crowd with the force: points (N, D) -> gradient of the log target (N, D)."""

    force: Callable[[Floats], Floats]

    @functools.cached_property
    def root(self) -> Floats:
        """A lower triangular root (D, D) of the covariance matrix of the others, made regular."""
        scale = np.where(self.scale > 0, self.scale, 1.0)
        centred = (self.others - self.others.mean(axis=0)) / scale
        correlation = centred.T @ centred / len(self.others)
        root: Floats = scale[:, None] * np.linalg.cholesky(correlation + _RIDGE * np.eye(len(scale)))
        return root

    @functools.cached_property
    def mixtures(self) -> list[Mixture]:
        """A mixture fitted to each part of the others."""
        return [Mixture.fitted(part, np.random.default_rng(_SEED)) for part in np.split(self.others, self.replicas)]


Kind = Callable[[Guided, Floats, np.random.Generator], Proposal]
"""A kind of move: the crowd, sizes (M,), a generator -> a proposal."""


def trajectory(crowd: Guided, size: Floats, rng: np.random.Generator) -> Proposal:
    """Follow Hamiltonian dynamics, each coordinate in units of its spread, reflected at the walls."""
    return _trajectory(crowd, np.diag(crowd.scale), size, rng, walls=True)


def whitened(crowd: Guided, size: Floats, rng: np.random.Generator) -> Proposal:
    """Follow Hamiltonian dynamics in coordinates in which the population is isotropic, across the walls."""
    return _trajectory(crowd, crowd.root, size, rng, walls=False)


def independent(crowd: Guided, size: Floats, rng: np.random.Generator) -> Proposal:
    """Draw from the mixture, its components `size` times as wide as the clusters that they stand for."""
    found = []
    for mixture, points, sizes in zip(
        crowd.mixtures, np.split(crowd.points, crowd.replicas), np.split(size, crowd.replicas), strict=True
    ):
        drawn = mixture.draw(sizes, rng)
        found.append((drawn, mixture.log_density(points, sizes) - mixture.log_density(drawn, sizes)))
    points, log_ratio = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return points, log_ratio


def whole_difference(crowd: Guided, size: Floats, rng: np.random.Generator) -> Proposal:
    """Move by the difference of two others, whatever the size."""
    return moves.difference(crowd, np.ones_like(size), rng)


KINDS: tuple[Kind, ...] = (trajectory, whitened, independent, whole_difference, *moves.KINDS)


def _trajectory(crowd: Guided, root: Floats, size: Floats, rng: np.random.Generator, walls: bool) -> Proposal:
    """Take leapfrog steps with the inverse mass matrix root root^T; `walls` asks for a diagonal one."""
    points, step = crowd.points, size[:, None]
    momentum = rng.standard_normal(points.shape)
    before = 0.5 * (momentum**2).sum(axis=1)
    momentum = momentum + 0.5 * step * (crowd.force(points) @ root)
    leaps = int(rng.integers(1, _LEAPS + 1))
    for left in range(leaps, 0, -1):
        points = points + step * (momentum @ root.T)
        if walls:
            points, turned = reflected(points, crowd.bounds)
            momentum = momentum * turned
        momentum = momentum + (0.5 if left == 1 else 1.0) * step * (crowd.force(points) @ root)
    return points, before - 0.5 * (momentum**2).sum(axis=1)
