"""The law of the Hessian that a gradient estimator draws, at points of a stratum and in the directions across it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse

from sandbox.dynamics.gradients.base import Estimator
from sandbox.dynamics.gradients.full import Full
from sandbox.dynamics.gradients.gaussian import Gaussian, model_of
from sandbox.dynamics.gradients.label_noise import labelled
from sandbox.dynamics.gradients.minibatch import Minibatch
from sandbox.dynamics.gradients.noisy import Noisy
from sandbox.dynamics.rules.base import Rule
from sandbox.dynamics.stability.step import NotLinearError
from sandbox.expressions.calculus import gradient, hessian
from sandbox.expressions.evaluation import numpy_function
from sandbox.model.loss import Loss
from sandbox.tools.arrays import Array

STEPS = 128
"""Steps of a simulated product."""

_MOST = 128
"""Most products at each point."""
_LARGE = 128
"""Mean Hessians over batches larger than this are drawn from the normal law with their covariance."""
_ROWS = 1024
"""Most samples whose Hessians are evaluated one by one."""


@dataclass(frozen=True)
class Law:
    """A random Hessian at N points: its mean (N, m, m) and its entries' covariance (N, m m, m m).

    A draw is the mean plus a row of `scores` (draws, K) times `directions` (K, N, m, m). The draws are for STEPS steps
    of `most` products, in the order of the steps.
    """

    mean: Array
    covariance: Array
    scores: Any
    directions: Array

    @property
    def most(self) -> int:
        """The number of products for which there are draws."""
        return int(self.scores.shape[0]) // STEPS

    def deviations(self, products: int) -> Array:
        """Return the draws minus the mean, shape (STEPS, m, m, products, N)."""
        rows = (np.arange(STEPS)[:, None] * self.most + np.arange(products)).ravel()
        directions = np.moveaxis(self.directions, 1, -1)
        drawn = np.asarray(self.scores[rows] @ directions.reshape(len(directions), self.mean.size))
        return np.moveaxis(drawn.reshape(STEPS, products, *directions.shape[1:]), 1, 3)

    def only(self, point: int) -> Law:
        """Return the law at one of the points, given by its index."""
        here = slice(point, point + 1)
        return Law(self.mean[here], self.covariance[here], self.scores, self.directions[:, here])

    def without_falls(self) -> Law:
        """Return the law with negative eigenvalues of the mean set to 0; this law itself if there are none."""
        values, vectors = np.linalg.eigh(self.mean)
        if not (values < 0).any():
            return self
        return replace(self, mean=(vectors * np.maximum(values, 0)[:, None, :]) @ vectors.swapaxes(1, 2))

    def of_posterior(self, nbeta: float, curvature: Array) -> Law:
        """Return the law of the Hessian of nbeta L_n - log φ, given the Hessian of -log φ, shape (N, m, m)."""
        mean = nbeta * self.mean + curvature
        return replace(self, mean=mean, covariance=nbeta**2 * self.covariance, directions=nbeta * self.directions)


@dataclass(frozen=True)
class Noise:
    """The noise of an estimator's Hessian: `directions` gives K matrices at points (N, D), shape (K, N, D, D).

    Their scores have the covariance root^T root, root of shape (any, K). `scores` are draws of them or, if `normal`,
    standard normals, of which one is used for each entry of the Hessian.
    """

    loss: Loss
    directions: Callable[[Array], Array]
    root: Any
    scores: Any
    normal: bool = False

    def at(self, points: Array, normals: Array) -> Law:
        """Return the law at points (N, D) in the directions `normals` (N, D, m)."""
        back, count, m = normals.swapaxes(1, 2), len(points), normals.shape[2]
        mean = back @ self.loss.hessian(points) @ normals
        directions = back @ self.directions(points) @ normals
        spread = np.asarray(self.root @ directions.reshape(len(directions), count * m * m)).reshape(-1, count, m * m)
        covariance = spread.transpose(1, 2, 0) @ spread.transpose(1, 0, 2)
        scores = self.scores
        if self.normal:
            directions, scores = _root(covariance).swapaxes(0, 1).reshape(-1, count, m, m), scores[:, : m * m]
        return Law((mean + mean.swapaxes(1, 2)) / 2, covariance, scores, directions)


def noise_of(loss: Loss, rule: Rule, estimator: Estimator, rng: np.random.Generator) -> Noise:
    """Return the noise of an estimator's Hessian under a rule. Raises NotLinearError if it has no linearisation."""
    if rule.models_noise is not None:
        estimator = model_of(estimator, "minibatch" if rule.models_noise == "gaussian" else "isotropic")
    if rule.label_deviation is not None:
        loss = labelled(loss, estimator, rule.label_deviation)
    if isinstance(estimator, Full):
        return Noise(loss, lambda points: _stacked([], points), np.zeros((0, 0)), np.zeros((STEPS, 0)))
    size = len(loss.parameters)
    normals = rng.standard_normal((STEPS * _MOST, size * size))
    if isinstance(estimator, Noisy):
        # The noise B(w) xi depends on w: each column of B has a matrix of slopes.
        columns = numpy_function(
            loss.symbols, [d for row in loss.gradient_noise for e in row for d in gradient(e, loss.symbols)]
        )
        count = len(loss.gradient_noise[0])
        return Noise(
            loss,
            lambda points: np.stack(columns(*points.T), axis=1).reshape(-1, size, count, size).transpose(2, 0, 1, 3),
            rule.noise_factor * np.eye(count),
            normals,
            normal=True,
        )
    if isinstance(estimator, Gaussian) and estimator.covariance == "minibatch":
        return _batches(loss, estimator.gaussian, estimator.draw, rule.noise_factor, rng, normals)
    if isinstance(estimator, Minibatch):
        return _batches(
            loss, estimator.minibatch, estimator.draw, 1.0, rng, normals if estimator.minibatch > _LARGE else None
        )
    if isinstance(estimator, Gaussian):
        raise NotLinearError(
            f"the noise of '{rule.rule}' is isotropic with a minibatch's trace, whose root need not have a derivative"
        )
    known = ", ".join(f"'{each.name}'" for each in (Full, Gaussian, Minibatch, Noisy))
    raise NotLinearError(f"the law of the Hessian is known for the estimators {known}; found '{estimator.name}'")


def _batches(
    loss: Loss, batch: int, draw: str, factor: float, rng: np.random.Generator, normals: Array | None
) -> Noise:
    """Return the noise of a minibatch, multiplied by `factor`; Gaussian, from `normals`, if these are given."""
    share, samples = factor**2 / batch, loss.samples
    if draw != "fresh" and draw != "with_replacement" and samples is not None and samples > 1:
        share *= (samples - batch) / (samples - 1)
    most = max(8, min(_MOST, 1024 // batch))
    known, weights = _moments_of(loss)
    evaluate = _sample_hessian(loss.sample_loss, loss.symbols, loss.columns)
    if loss.is_affine:
        table = _columns(loss, known)
        centre = weights @ table
        away = table - centre
        root = _root(share * (away.T @ (weights[:, None] * away)))
        scores = normals
        if scores is None:
            drawn = _drawn(loss, STEPS * most * batch, rng) if draw == "fresh" else known
            scores = _means(rng, draw, batch, len(drawn), most) @ (_columns(loss, drawn) - centre)
        return Noise(loss, lambda points: _affine(evaluate, points, len(centre)), root, scores, normals is not None)
    if draw == "fresh":
        pool = _drawn(loss, _ROWS, rng)
        groups = (
            [(known, weights), (pool, np.full(_ROWS, 1 / _ROWS))]
            if len(known) <= _ROWS
            else [(pool, np.full(_ROWS, 1 / _ROWS))]
        )
    else:
        rows = np.arange(len(known))[:: -(-len(known) // _ROWS)]
        groups = [(known[rows], weights[rows] / weights[rows].sum())]
    tables = [(_columns(loss, rows), weight) for rows, weight in groups]
    before = sum(len(rows) for rows, _ in groups[:-1])
    whole = before + len(groups[-1][0])
    roots = sparse.csr_array(sparse.diags_array(np.sqrt(share * groups[0][1]), shape=(len(groups[0][1]), whole)))
    scores = normals
    if scores is None:
        means = _means(rng, draw, batch, whole - before, most)
        scores = sparse.hstack([sparse.csr_array((means.shape[0], before)), means], format="csr")
    return Noise(loss, lambda points: _one_by_one(evaluate, points, tables), roots, scores, normals is not None)


def _moments_of(loss: Loss) -> tuple[Array, Array]:
    """Return rows of data and weights with the moments of one sample: the data, or nodes with residuals' deviations.

    The Hessian is affine in the residuals; two rows for each residual have the residuals' covariance.
    """
    if loss.samples is not None or not loss.misfits:
        return loss.data, loss.weights
    outputs = len(loss.misfits)
    deviations = np.array([source.arguments[1] for source in loss.sources[-outputs:]])
    residuals = np.sqrt(outputs) * np.concatenate([np.diag(deviations), -np.diag(deviations)])
    data = np.repeat(loss.data, 2 * outputs, axis=0)
    data[:, -outputs:] = np.tile(residuals, (len(loss.data), 1))
    return data, np.repeat(loss.weights, 2 * outputs) / (2 * outputs)


def _drawn(loss: Loss, rows: int, rng: np.random.Generator) -> Array:
    """Return fresh samples, shape (rows, data symbols)."""
    return np.stack([source.quantile(rng.random(rows)) for source in loss.sources], axis=1)


def _columns(loss: Loss, data: Array) -> Array:
    """Return the loss's columns for rows of data."""
    return np.stack(numpy_function(loss.data_symbols, loss.column_expressions)(*data.T), axis=1)


def _means(rng: np.random.Generator, draw: str, batch: int, rows: int, most: int) -> Any:
    """Return the sparse matrix that takes means over batches of `rows` samples, shape (STEPS * most, rows)."""
    count = STEPS * most
    if draw == "fresh" and rows == count * batch:
        chosen = np.arange(rows)
    elif draw in ("without_replacement", "reshuffled"):
        # A permutation is used for several products at one step, never twice for one: its batches are independent.
        each = min(rows // batch, most)
        orders = rng.permuted(np.tile(np.arange(rows), (-(-count // each), 1)), axis=1)
        chosen = orders[:, : each * batch].reshape(-1, batch)[:count].ravel()
    else:
        chosen = rng.integers(rows, size=count * batch)
    entries = (np.full(count * batch, 1 / batch), chosen, np.arange(count + 1) * batch)
    return sparse.csr_array(entries, shape=(count, rows))


@functools.lru_cache(maxsize=4)
def _sample_hessian(sample_loss: Any, symbols: tuple[Any, ...], columns: tuple[Any, ...]) -> Callable[..., list[Array]]:
    """Return a function of parameters and columns that gives the D D entries of one sample's Hessian."""
    return numpy_function((*symbols, *columns), [entry for row in hessian(sample_loss, symbols) for entry in row])


def _affine(evaluate: Callable[..., list[Array]], points: Array, columns: int) -> Array:
    """Return the Hessian's slope in each column, shape (columns, N, D, D)."""
    rows = np.concatenate([np.zeros((1, columns)), np.eye(columns)])
    values = _stacked(evaluate(*points.T[:, None, :], *rows.T[:, :, None]), points)
    return np.asarray(values[1:] - values[0])


def _one_by_one(evaluate: Callable[..., list[Array]], points: Array, tables: Sequence[tuple[Array, Array]]) -> Array:
    """Return every sample's Hessian minus the mean of its table, shape (rows of all tables, N, D, D)."""
    found = []
    for table, weights in tables:
        values = _stacked(evaluate(*points.T[:, None, :], *table.T[:, :, None]), points)
        found.append(values - np.tensordot(weights, values, axes=1))
    return np.concatenate(found)


def _stacked(entries: Sequence[Array], points: Array) -> Array:
    """Return D D arrays of shape (rows, N) as one of shape (rows, N, D, D)."""
    size = points.shape[1]
    if not len(entries):
        return np.zeros((0, len(points), size, size))
    return np.stack(entries, axis=-1).reshape(-1, len(points), size, size)


def _root(covariance: Array) -> Array:
    """Return R of the same shape (..., C, C) with R^T R = covariance."""
    variances, directions = np.linalg.eigh(covariance)
    return np.asarray(np.sqrt(np.maximum(variances, 0))[..., :, None] * directions.swapaxes(-1, -2))
