"""Priors that share no code with the package's: uniform on a box, and independent normals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from sandbox.tools.arrays import Array


@dataclass(frozen=True)
class Box:
    """The uniform prior on a box (D, 2)."""

    bounds: Array

    @property
    def kinks(self) -> list[tuple[float, ...]]:
        return [()] * len(self.bounds)

    def window(self) -> Array:
        return self.bounds

    def log_density(self, points: Array) -> Array:
        inside = ((points >= self.bounds[:, 0]) & (points <= self.bounds[:, 1])).all(axis=1)
        return np.where(inside, -np.log(np.diff(self.bounds, axis=1)).sum(), -np.inf)

    def log_density_gradient(self, points: Array) -> Array:
        return np.zeros_like(points)

    def draw(self, count: int, seed: int, purpose: str) -> Array:
        rng = np.random.default_rng([seed, *purpose.encode()])
        return rng.uniform(*self.bounds.T, (count, len(self.bounds)))


@dataclass(frozen=True)
class Normal:
    """Independent normals about 0 with these standard deviations (D,)."""

    scale: Array

    @property
    def bounds(self) -> Array:
        return np.tile([-np.inf, np.inf], (len(self.scale), 1))

    @property
    def kinks(self) -> list[tuple[float, ...]]:
        return [()] * len(self.scale)

    def window(self) -> Array:
        return np.outer(self.scale, [-9.0, 9.0])

    def log_density(self, points: Array) -> Array:
        return stats.norm.logpdf(points, scale=self.scale).sum(axis=1)

    def log_density_gradient(self, points: Array) -> Array:
        return -points / self.scale**2

    def draw(self, count: int, seed: int, purpose: str) -> Array:
        rng = np.random.default_rng([seed, *purpose.encode()])
        return self.scale * rng.standard_normal((count, len(self.scale)))


def cube(dimension: int, low: float = -1.0, high: float = 1.0) -> Box:
    return Box(np.tile([low, high], (dimension, 1)))


def normals(dimension: int) -> Normal:
    return Normal(np.ones(dimension))
