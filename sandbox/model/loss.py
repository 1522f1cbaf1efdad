"""Losses: L_n(w), K_n(w), K(w) and their derivatives. This module does not depend on time or particles.

A loss is the mean, over weighted samples, of one *sample loss*: an expression in the parameters and in the columns
of a table. Everything else follows from that expression. The sample loss is the excess over the truth,

    -log p(y|x,w) + log q(y|x) = sum_o [(f_o - f0_o)^2 - 2 (f_o - f0_o) e_o] / (2 sigma^2),   e = y - f0(x),

so its mean is K_n = L_n - S_n itself, without the cancellation of L_n - S_n near W0. If the sample loss is polynomial
in functions of the data, the columns are those functions, and only their means are needed: a gradient costs the same
for any n. If it is so only between kinks (one input, as in a net of relus), the means over the intervals between kinks
are needed: the cost grows with log n. The population is a data set too: Gauss nodes with weights, and e = 0. With
kinks in one input it is the exact integral, because Gauss nodes miss a kink that passes between two of them.
A model of another kind is given by its contrast, its sample loss; a bare potential K(w) is a loss without columns.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sandbox.expressions.calculus import gradient, hessian
from sandbox.expressions.evaluation import numpy_function
from sandbox.expressions.parsing import symbol
from sandbox.expressions.pieces import Pieces
from sandbox.model.piecewise import Density, Measure, PiecewiseMean, PrefixSums
from sandbox.model.prior import Distribution
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError

_CHUNK = 2_000_000
"""The most (point, sample) pairs evaluated at once if the data do not reduce to moments."""


@dataclass(frozen=True, eq=False)
class Loss:
    """The mean of `sample_loss` over the rows of a table.

    `parameters` has the D names of w. `sample_loss` is an expression in their symbols and in `columns`. It is affine
    in the columns exactly if `is_affine`; then it depends on the table only through the columns' means. `data` has
    the raw columns `data_symbols` (inputs, then residuals e), shape (n, C); `weights` sum to 1, shape (n,).
    `samples` is n, or None if there are no samples. `entropy` is S_n.
    """

    parameters: tuple[str, ...]
    sample_loss: Any
    columns: tuple[Any, ...] = ()
    column_expressions: tuple[Any, ...] = ()
    is_affine: bool = True
    data_symbols: tuple[Any, ...] = ()
    data: Array = field(default_factory=lambda: np.zeros((1, 0)))
    weights: Array = field(default_factory=lambda: np.ones(1))
    samples: int | None = None
    entropy: float = 0.0
    sources: tuple[Distribution, ...] = ()
    """The distributions of fresh data, one per data symbol."""
    residual_jacobian: tuple[tuple[Any, ...], ...] = ()
    """d f_o / d w_j / sigma (for a contrast, its slopes); its mean square is the Fisher information. Else empty."""
    misfits: tuple[Any, ...] = ()
    """f_o - f0_o of each output, in the parameters and inputs; empty for a contrast or a potential."""
    gradient_noise: tuple[tuple[Any, ...], ...] = ()
    """B(w), D rows: a noisy gradient is grad K + B(w) xi with xi standard normal. Empty if none is declared."""
    pieces: Pieces | None = None
    """The sample loss by pieces in one input; None if it has no kinks, or its mean is computed in another way."""

    @property
    def symbols(self) -> tuple[Any, ...]:
        """The parameters' symbols."""
        return tuple(symbol(name) for name in self.parameters)

    @functools.cached_property
    def table(self) -> Array:
        """The columns' values for each sample, shape (n, number of columns)."""
        if not self.columns:
            return np.zeros((len(self.weights), 0))
        evaluate = numpy_function(self.data_symbols, self.column_expressions)
        return np.stack(evaluate(*self.data.T), axis=1)

    @functools.cached_property
    def moments(self) -> Array:
        """The columns' means, shape (number of columns,)."""
        return self.weights @ self.table

    @functools.cached_property
    def gradient_expressions(self) -> tuple[Any, ...]:
        """The sample loss's derivative by each parameter, D expressions."""
        return gradient(self.sample_loss, self.symbols)

    @functools.cached_property
    def measure(self) -> Measure | None:
        """The measure that integrates the pieces: the data, or the input's density. None without pieces."""
        if self.pieces is None:
            return None
        k = self.data_symbols.index(self.pieces.variable)
        if self.samples is None and self.sources[k].family != "choice" and self.pieces.degrees is not None:
            return Density(self.sources[k], self.pieces.degrees)
        columns = numpy_function(self.data_symbols, self.pieces.statistics)(*self.data.T)
        return PrefixSums.of(self.data[:, k], columns, self.weights)

    def excess(self, points: Array) -> Array:
        """Return K_n = L_n - S_n (K for the population or a potential) at points (N, D): shape (N,)."""
        return self._mean(self._excess, points)[0]

    def value(self, points: Array) -> Array:
        """Return L_n, the mean negative log likelihood, at points (N, D): shape (N,)."""
        return self.excess(points) + self.entropy

    def gradient(self, points: Array) -> Array:
        """Return the gradient of L_n at points (N, D): shape (N, D)."""
        return np.stack(self._mean(self._gradient, points), axis=1)

    def excess_and_gradient(self, points: Array) -> tuple[Array, Array]:
        """Return `excess` and `gradient` at points (N, D), shapes (N,) and (N, D), from mostly shared computations."""
        excess, *slopes = self._mean(self._excess_and_gradient, points)
        return excess, np.stack(slopes, axis=1)

    def hessian(self, points: Array) -> Array:
        """Return the Hessian of L_n at points (N, D): shape (N, D, D).

        For a data set with kinks it is the second derivative almost everywhere: K_n is not smooth where a kink passes
        a sample. For a density with kinks it is the Hessian of K itself, including the effect of the kinks' motion.
        """
        size = len(self.parameters)
        result = np.stack(self._mean(self._hessian, points), axis=1).reshape(len(points), size, size)
        if self._by_pieces is not None and isinstance(self.measure, Density):
            result += self._by_pieces.motion(self._gradient, points)
        return result

    def fisher_information(self, points: Array) -> Array:
        """Return E_x[sum_o grad f_o grad f_o^T] / sigma^2 over this loss's inputs, shape (N, D, D).

        For a contrast l it is E_x[grad l grad l^T]: the Fisher information on W0, where the model equals the truth.
        Raises InputError for a potential, which has no model. `points` has shape (N, D).
        """
        if not self.residual_jacobian:
            raise InputError("a bare potential has no model, so no Fisher information")
        size = len(self.parameters)
        result = np.zeros((len(points), size, size))
        flat = [entry for row in self.residual_jacobian for entry in row]
        evaluate = numpy_function((*self.symbols, *self.data_symbols), flat)
        for k, point in enumerate(points):
            rows = np.stack(evaluate(*point, *self.data.T)).reshape(-1, size, len(self.data))
            result[k] = np.einsum("oin,ojn,n->ij", rows, rows, self.weights)
        return result

    @functools.cached_property
    def _by_pieces(self) -> PiecewiseMean | None:
        if self.pieces is None or self.measure is None:
            return None
        return PiecewiseMean(self.symbols, self.pieces, self.measure)

    @property
    def _summed(self) -> tuple[Any, tuple[Any, ...]]:
        """The expression that `_mean` averages, and its symbols other than the parameters."""
        return (self.pieces.expression, self.pieces.columns) if self.pieces else (self.sample_loss, self.columns)

    @functools.cached_property
    def _excess(self) -> Callable[..., list[Array]]:
        expression, columns = self._summed
        return numpy_function((*self.symbols, *columns), [expression])

    @functools.cached_property
    def _gradient(self) -> Callable[..., list[Array]]:
        expression, columns = self._summed
        return numpy_function((*self.symbols, *columns), gradient(expression, self.symbols))

    @functools.cached_property
    def _excess_and_gradient(self) -> Callable[..., list[Array]]:
        expression, columns = self._summed
        return numpy_function((*self.symbols, *columns), [expression, *gradient(expression, self.symbols)])

    @functools.cached_property
    def _hessian(self) -> Callable[..., list[Array]]:
        expression, columns = self._summed
        rows = hessian(expression, self.symbols)
        return numpy_function((*self.symbols, *columns), [entry for row in rows for entry in row])

    def _mean(self, evaluate: Callable[..., list[Array]], points: Array) -> list[Array]:
        if self._by_pieces is not None:
            return self._by_pieces(evaluate, points)
        if self.is_affine:
            return evaluate(*points.T, *self.moments)
        rows = max(1, _CHUNK // len(self.weights))
        parts = [
            [
                values @ self.weights
                for values in evaluate(*points[k : k + rows, :, None].transpose(1, 0, 2), *self.table.T)
            ]
            for k in range(0, len(points), rows)
        ]
        return [np.concatenate(column) for column in zip(*parts, strict=True)]
