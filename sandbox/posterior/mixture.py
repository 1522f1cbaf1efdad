"""A mixture of normals fitted to a population: a density to draw from that knows all of its modes."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_EACH = 32  # points per component, on the mean: more bend with a curved tube, fewer know their own covariance
_MOST = 32  # components: the cost of a density is proportional to their number
_ROUNDS = 4  # of Lloyd's algorithm
_RIDGE = 1.0  # points' worth of isotropic spread in a component's covariance, so that few points do not overfit
_AT_ONCE = 1 << 20  # products in one matrix product: longer ones start threads, which costs more than it saves
_LEAST = 1e-12  # relative to the population's spread: a variance that every component has


@dataclass(frozen=True)
class Mixture:
    """sum_k weight_k N(mean_k, root_k root_k^T): weights (C,), means (C, D), lower triangular roots (C, D, D).

    All in units of `scale` (D,) about `centre` (D,).
    """

    centre: Floats
    scale: Floats
    weights: Floats
    means: Floats
    roots: Floats

    @classmethod
    def fitted(cls, points: Floats, rng: np.random.Generator) -> Mixture:
        """Fit to points (N, D): clusters by Lloyd's algorithm, and their moments."""
        centre, scale = points.mean(axis=0), points.std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        places = (points - centre) / scale
        size, dimension = points.shape
        means = places[rng.choice(size, min(max(size // _EACH, 1), _MOST), replace=False)]
        for _ in range(_ROUNDS):
            cluster = ((means**2).sum(axis=1) - 2.0 * places @ means.T).argmin(axis=1)
            parts = [places[cluster == k] for k in np.unique(cluster)]
            means = np.stack([part.mean(axis=0) for part in parts])
        counts = np.array([len(part) for part in parts])
        covariances = np.stack([np.cov(part.T, bias=True).reshape(dimension, dimension) for part in parts])
        ridge = _RIDGE * np.trace(covariances, axis1=1, axis2=2) / dimension / counts + _LEAST
        roots = np.linalg.cholesky(covariances + ridge[:, None, None] * np.eye(dimension))
        return cls(centre, scale, counts / size, means, roots)

    def draw(self, size: Floats, rng: np.random.Generator) -> Floats:
        """Return draws (M, D), each from the mixture with its roots multiplied by its own `size` (M,)."""
        component = rng.choice(len(self.weights), len(size), p=self.weights)
        normals = size[:, None] * rng.standard_normal((len(size), len(self.scale)))
        places = self.means[component] + np.einsum("mij,mj->mi", self.roots[component], normals)
        draws: Floats = self.centre + self.scale * places
        return draws

    def log_density(self, points: Floats, size: Floats) -> Floats:
        """Return the log density (M,) at points (M, D), up to a constant, of the mixture with roots times `size`."""
        rows = max(_AT_ONCE // self._quadratic.size, 1)
        parts = [self._some(points[k : k + rows], size[k : k + rows]) for k in range(0, len(points), rows)]
        return np.concatenate(parts)

    def _some(self, points: Floats, size: Floats) -> Floats:
        places = (points - self.centre) / self.scale
        pairs = places[:, self._upper[0]] * places[:, self._upper[1]]
        square = pairs @ self._quadratic + places @ self._linear + self._constant
        logs = self._log_heights - 0.5 * square / size[:, None] ** 2
        top = logs.max(axis=1)
        density: Floats = top + np.log(np.exp(logs - top[:, None]).sum(axis=1)) - len(self.scale) * np.log(size)
        return density

    @functools.cached_property
    def _upper(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        return np.triu_indices(len(self.scale))

    @functools.cached_property
    def _precisions(self) -> Floats:
        inverse = np.linalg.inv(self.roots)
        precisions: Floats = inverse.transpose(0, 2, 1) @ inverse
        return precisions

    @functools.cached_property
    def _quadratic(self) -> Floats:
        """The squared distances' coefficients of products of two coordinates: one matrix product serves all points."""
        one, two = self._upper
        return (self._precisions[:, one, two] * np.where(one == two, 1.0, 2.0)).T

    @functools.cached_property
    def _linear(self) -> Floats:
        linear: Floats = -2.0 * np.einsum("kij,kj->ik", self._precisions, self.means)
        return linear

    @functools.cached_property
    def _constant(self) -> Floats:
        constant: Floats = np.einsum("ki,kij,kj->k", self.means, self._precisions, self.means)
        return constant

    @functools.cached_property
    def _log_heights(self) -> Floats:
        heights: Floats = np.log(self.weights) - np.log(np.diagonal(self.roots, axis1=1, axis2=2)).sum(axis=1)
        return heights
