"""A mixture of normals fitted to particles: a density for proposals that covers all of their modes."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sandbox.tools.arrays import Array

_EACH = 32  # mean number of points per component: more components follow a curved tube, fewer have better covariances
_MOST = 32  # most components: the cost of a density is proportional to their number
_ROUNDS = 4  # rounds of Lloyd's algorithm
_RIDGE = 1.0  # points' worth of isotropic spread added to a component's covariance, so that few points do not overfit
_AT_ONCE = 1 << 20  # multiplications in one matrix product: larger ones start threads, which costs more than it saves
_LEAST = 1e-12  # variance added to every component, relative to the variance of all points


@dataclass(frozen=True)
class Mixture:
    """The sum over k of weight_k N(mean_k, root_k root_k^T): weights (C,), means (C, D), triangular roots (C, D, D).

    All are in units of `scale` (D,) about `centre` (D,); the roots are lower triangular.
    """

    centre: Array
    scale: Array
    weights: Array
    means: Array
    roots: Array

    @classmethod
    def fitted(cls, points: Array, rng: np.random.Generator) -> Mixture:
        """Return the mixture fitted to points (N, D): clusters by Lloyd's algorithm, and their moments."""
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

    def draw(self, size: Array, rng: np.random.Generator) -> Array:
        """Return M draws (M, D), each from the mixture with all roots multiplied by the draw's own `size` (M,)."""
        component = rng.choice(len(self.weights), len(size), p=self.weights)
        normals = size[:, None] * rng.standard_normal((len(size), len(self.scale)))
        places = self.means[component] + np.einsum("mij,mj->mi", self.roots[component], normals)
        draws: Array = self.centre + self.scale * places
        return draws

    def log_density(self, points: Array, size: Array) -> Array:
        """Return the log density (M,), up to a constant, at points (M, D); the roots are multiplied by `size` (M,)."""
        rows = max(_AT_ONCE // self._quadratic.size, 1)
        parts = [self._some(points[k : k + rows], size[k : k + rows]) for k in range(0, len(points), rows)]
        return np.concatenate(parts)

    def _some(self, points: Array, size: Array) -> Array:
        places = (points - self.centre) / self.scale
        pairs = places[:, self._upper[0]] * places[:, self._upper[1]]
        square = pairs @ self._quadratic + places @ self._linear + self._constant
        logs = self._log_heights - 0.5 * square / size[:, None] ** 2
        top = logs.max(axis=1)
        density: Array = top + np.log(np.exp(logs - top[:, None]).sum(axis=1)) - len(self.scale) * np.log(size)
        return density

    @functools.cached_property
    def _upper(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        return np.triu_indices(len(self.scale))

    @functools.cached_property
    def _precisions(self) -> Array:
        inverse = np.linalg.inv(self.roots)
        precisions: Array = inverse.transpose(0, 2, 1) @ inverse
        return precisions

    @functools.cached_property
    def _quadratic(self) -> Array:
        """The coefficients of products of two coordinates in squared distances: one matrix product for all points."""
        one, two = self._upper
        return (self._precisions[:, one, two] * np.where(one == two, 1.0, 2.0)).T

    @functools.cached_property
    def _linear(self) -> Array:
        linear: Array = -2.0 * np.einsum("kij,kj->ik", self._precisions, self.means)
        return linear

    @functools.cached_property
    def _constant(self) -> Array:
        constant: Array = np.einsum("ki,kij,kj->k", self.means, self._precisions, self.means)
        return constant

    @functools.cached_property
    def _log_heights(self) -> Array:
        heights: Array = np.log(self.weights) - np.log(np.diagonal(self.roots, axis1=1, axis2=2)).sum(axis=1)
        return heights
