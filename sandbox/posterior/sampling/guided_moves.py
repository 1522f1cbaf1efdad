"""Moves that use more than points: the gradient of the posterior, the particles' distribution, and their ancestry.

- Trajectories of Hamiltonian dynamics (Duane et al. 1987; Neal 2011), reflected at the walls of the prior. The gradient
  is used for proposals only: leapfrog steps preserve volume and are reversible for any force, so a wrong gradient costs
  efficiency and nothing else.
- Draws from a mixture of normals fitted to the particles, independent of the current point (Chopin 2002; Giordani, Kohn
  2010): they carry particles between modes as often as the modes' masses require, and no barrier stops them.
- Whole differences of two others, which lead from one mode to a similar one. The others must descend from other draws:
  a particle that shares a coordinate with one of them would cancel it, and land on a coordinate of the other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sandbox.posterior.sampling import moves
from sandbox.posterior.sampling.mixture import Mixture
from sandbox.posterior.sampling.moves import Crowd, Proposal, reflected
from sandbox.tools.arrays import Array

_LEAPS = 6  # most leapfrog steps of a trajectory
_RIDGE = 1e-9  # keeps a correlation matrix regular
_SEED = 0x313


@dataclass(frozen=True, kw_only=True)
class Guided(Crowd):
    """A crowd with `force`: points (N, D) -> gradient (N, D) of the log target."""

    force: Callable[[Array], Array]

    @functools.cached_property
    def root(self) -> Array:
        """A lower triangular root (D, D) of the covariance matrix of the others, regularised."""
        scale = np.where(self.scale > 0, self.scale, 1.0)
        centred = (self.others - self.others.mean(axis=0)) / scale
        correlation = centred.T @ centred / len(self.others)
        root: Array = scale[:, None] * np.linalg.cholesky(correlation + _RIDGE * np.eye(len(scale)))
        return root

    @functools.cached_property
    def mixtures(self) -> list[Mixture]:
        """The mixtures fitted to the others, one for each of the `replicas` equal parts."""
        return [Mixture.fitted(part, np.random.default_rng(_SEED)) for part in np.split(self.others, self.replicas)]


Kind = Callable[[Guided, Array, np.random.Generator], Proposal]
"""A kind of move: the crowd, sizes (M,) and a generator -> a proposal."""


def trajectory(crowd: Guided, size: Array, rng: np.random.Generator) -> Proposal:
    """Propose by Hamiltonian dynamics with each coordinate in units of its spread, reflected at the walls."""
    return _trajectory(crowd, np.diag(crowd.scale), size, rng, walls=True)


def whitened(crowd: Guided, size: Array, rng: np.random.Generator) -> Proposal:
    """Propose by Hamiltonian dynamics in coordinates in which the others are isotropic, not reflected at the walls."""
    return _trajectory(crowd, crowd.root, size, rng, walls=False)


def independent(crowd: Guided, size: Array, rng: np.random.Generator) -> Proposal:
    """Propose draws from the mixture, with components `size` times as wide as the fitted clusters."""
    found = []
    for mixture, points, sizes in zip(
        crowd.mixtures, np.split(crowd.points, crowd.replicas), np.split(size, crowd.replicas), strict=True
    ):
        drawn = mixture.draw(sizes, rng)
        found.append((drawn, mixture.log_density(points, sizes) - mixture.log_density(drawn, sizes)))
    points, log_ratio = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return points, log_ratio


def whole_difference(crowd: Guided, size: Array, rng: np.random.Generator) -> Proposal:
    """Propose to move by the difference of two others; `size` has no effect."""
    return moves.difference(crowd, np.ones_like(size), rng)


KINDS: tuple[Kind, ...] = (trajectory, whitened, independent, whole_difference, *moves.KINDS)


def _trajectory(crowd: Guided, root: Array, size: Array, rng: np.random.Generator, walls: bool) -> Proposal:
    """Propose by leapfrog steps with inverse mass matrix root root^T; `walls` (reflection) needs a diagonal root."""
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
