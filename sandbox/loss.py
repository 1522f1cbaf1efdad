"""Losses: L_n(w), K_n(w), K(w) and their derivatives. Nothing here knows about time or particles.

A loss is the mean, over weighted samples, of one *sample loss*: an expression in the parameters and in the columns
of a table. Everything else follows from that expression. The sample loss is the excess over the truth,

    -log p(y|x,w) + log q(y|x) = sum_o [(f_o - f0_o)^2 - 2 (f_o - f0_o) e_o] / (2 sigma^2),   e = y - f0(x),

so that its mean is K_n = L_n - S_n itself, free of the cancellation that L_n - S_n would suffer near W0. Where it
is polynomial in functions of the data, the columns are those functions and their means say all about the data: a
gradient then costs the same for any n. Where it is so only between kinks (one input, as in a net of relus), the means
over the intervals between them say all, and its cost grows with log n. The population is a data set too: Gauss nodes
with weights, and e = 0; with kinks in one input, which pass between two nodes unseen, it is the exact integral.
A model of another kind is given by its contrast, its sample loss; a bare potential K(w) is a loss without columns.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy

from sandbox import draws
from sandbox.cumulative import Density, Measure, PiecewiseMean, PrefixSums
from sandbox.errors import InputError
from sandbox.expression import Pieces, gradient, hessian, numpy_function, parse, separate, split, symbol
from sandbox.prior import Distribution

Array = npt.NDArray[np.float64]

POPULATION_NODES = {1: 64, 2: 32, 3: 16}
"""Gauss nodes per input that stand for the population, by number of inputs: exact to degree 127, 63, 31."""

_CHUNK = 2_000_000
"""Most (point, sample) pairs evaluated at once where the data do not reduce to moments."""


@dataclass(frozen=True, eq=False)
class Loss:
    """The mean of `sample_loss` over the rows of a table.

    `parameters` names w (D of them). `sample_loss` is an expression in their symbols and in `columns`; it is affine
    in the columns exactly when `is_affine`, and then depends on the table through column means only. `data` holds
    the raw columns `data_symbols` (inputs, then residuals e), shape (n, C); `weights` sum to 1, shape (n,).
    `samples` is n, or None where there are no samples. `entropy` is S_n.
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
    """What fresh data come from: one distribution per data symbol."""
    residual_jacobian: tuple[tuple[Any, ...], ...] = ()
    """d f_o / d w_j / sigma (of a contrast, its slopes), whose mean square is the Fisher information; else empty."""
    misfits: tuple[Any, ...] = ()
    """f_o - f0_o of each output, in the parameters and inputs; empty for a contrast or a potential."""
    gradient_noise: tuple[tuple[Any, ...], ...] = ()
    """B(w), D rows: a noisy gradient is grad K + B(w) xi with xi standard normal. Empty where none is declared."""
    pieces: Pieces | None = None
    """The sample loss by pieces in one input; None where it has no kinks, or its mean is had in another way."""

    @property
    def symbols(self) -> tuple[Any, ...]:
        """The parameters' symbols."""
        return tuple(symbol(name) for name in self.parameters)

    @functools.cached_property
    def table(self) -> Array:
        """The columns' value for each sample, shape (n, number of columns)."""
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
        """What the pieces are integrated over: the data, or the density of the input. None without pieces."""
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
        """Return `excess` and `gradient` at points (N, D), which share most of their work: shapes (N,) and (N, D)."""
        excess, *slopes = self._mean(self._excess_and_gradient, points)
        return excess, np.stack(slopes, axis=1)

    def hessian(self, points: Array) -> Array:
        """Return the Hessian of L_n at points (N, D): shape (N, D, D).

        Of a data set with kinks, the second derivative almost everywhere: K_n is not smooth where a kink passes a
        sample. Of a density with kinks, that of K itself, with what the kinks' motion adds.
        """
        size = len(self.parameters)
        result = np.stack(self._mean(self._hessian, points), axis=1).reshape(len(points), size, size)
        if self._by_pieces is not None and isinstance(self.measure, Density):
            result += self._by_pieces.motion(self._gradient, points)
        return result

    def fisher_information(self, points: Array) -> Array:
        """Return E_x[sum_o grad f_o grad f_o^T] / sigma^2 over this loss's inputs, shape (N, D, D).

        Of a contrast l it is E_x[grad l grad l^T], which is the Fisher information where the model is the truth, on W0.
        Raises InputError for a potential, which has no model.
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
        """The expression that `_mean` sums up, and its symbols beside the parameters."""
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


def potential(parameters: Sequence[str], expression: str, gradient_noise: Sequence[Sequence[str | float]] = ()) -> Loss:
    """Return a bare potential K(w), with the matrix B(w) of its declared gradient noise (D rows).

    Raises InputError, placed at ("potential",) or ("gradient_noise", ...).
    """
    value = _parse(expression, parameters, "potential")
    matrix = tuple(
        tuple(_parse(entry, parameters, "gradient_noise", "matrix", j, k) for k, entry in enumerate(row))
        for j, row in enumerate(gradient_noise)
    )
    if matrix and (len(matrix) != len(parameters) or len({len(row) for row in matrix}) != 1 or not matrix[0]):
        raise InputError(
            f"the gradient noise needs one row per parameter ({len(parameters)}), all of one length"
        ).within("gradient_noise", "matrix")
    return Loss(tuple(parameters), value, gradient_noise=matrix)


class _OfInputs:
    """What losses share whose samples are inputs, each from its own distribution."""

    parameters: tuple[str, ...]
    inputs: Mapping[str, Distribution]

    def _drawn(self, samples: int, seed: int) -> Array:
        """Return samples of the inputs, shape (samples, inputs)."""
        key, rows = draws.key(seed, "data"), np.arange(samples)
        uniforms = draws.uniforms(key, draws.STREAM_DATA_INPUT, rows, 0, len(self.inputs))
        columns = [source.quantile(uniforms[:, k]) for k, source in enumerate(self.inputs.values())]
        return np.stack(columns, axis=1) if columns else np.zeros((samples, 0))

    def _nodes(self) -> tuple[Array, Array]:
        """Return Gauss nodes that stand for the inputs, shape (nodes, inputs), and their weights."""
        if len(self.inputs) > max(POPULATION_NODES):
            raise InputError(f"the population takes at most {max(POPULATION_NODES)} inputs, found {len(self.inputs)}")
        rules = [source.nodes(POPULATION_NODES[len(self.inputs)]) for source in self.inputs.values()]
        weights = functools.reduce(np.multiply.outer, [weight for _, weight in rules], np.ones(())).ravel()
        return np.reshape(np.meshgrid(*(x for x, _ in rules), indexing="ij"), (len(rules), len(weights))).T, weights

    def _mean_of(self, sample_loss: Any, residuals: Sequence[Any], data: Array, weights: Array, n: int | None) -> Loss:
        """Return the mean over the data, by their moments where the sample loss is polynomial in functions of them."""
        data_symbols = (*(inputs := tuple(symbol(name) for name in self.inputs)), *residuals)
        separated = separate(sample_loss, data_symbols)
        pieces = None if separated else split(sample_loss, data_symbols)
        if n is None and not all(source.family == "choice" for source in self.inputs.values()):
            # An integral, which Gauss nodes miss even where only the truth has kinks.
            pieces = split(sample_loss.xreplace(dict.fromkeys(residuals, sympy.S.Zero)), inputs)
            pieces = pieces if pieces and len(inputs) == 1 and pieces.degrees is not None else None
        return Loss(
            parameters=self.parameters,
            sample_loss=separated.expression if separated else sample_loss,
            columns=separated.symbols if separated else data_symbols,
            column_expressions=separated.statistics if separated else data_symbols,
            is_affine=separated is not None,
            data_symbols=data_symbols,
            data=data,
            weights=weights,
            samples=n,
            sources=tuple(self.inputs.values()),
            pieces=pieces,
        )


@dataclass(frozen=True)
class Regression(_OfInputs):
    """y = f(x, w) + sigma e with e standard normal; the data come from the truth f0(x) with the same noise.

    Several outputs are several expressions. Raises InputError, placed at the field that is wrong.
    """

    parameters: tuple[str, ...]
    model: tuple[str, ...]
    truth: tuple[str, ...]
    inputs: Mapping[str, Distribution]
    noise: float = 1.0

    @functools.cached_property
    def _model(self) -> list[Any]:
        names = (*self.parameters, *self.inputs)
        return [_parse(text, names, "model", k) for k, text in enumerate(self.model)]

    @functools.cached_property
    def _truth(self) -> list[Any]:
        if len(self.truth) != len(self.model):
            raise InputError(f"{len(self.truth)} outputs, but the model has {len(self.model)}").within("truth")
        return [_parse(text, tuple(self.inputs), "truth", k) for k, text in enumerate(self.truth)]

    def sampled(self, samples: int, seed: int) -> Loss:
        """Return K_n on a data set of n = `samples`, a pure function of `seed`."""
        key, rows = draws.key(seed, "data"), np.arange(samples)
        uniforms = draws.uniforms(key, draws.STREAM_DATA_NOISE, rows, 0, len(self.model))
        residuals = Distribution.parse(f"normal(0, {self.noise!r})").quantile(uniforms)
        data, weights = np.column_stack([self._drawn(samples, seed), residuals]), np.full(samples, 1 / samples)
        constant = len(self.model) / 2 * math.log(2 * math.pi * self.noise**2)
        entropy = float((residuals**2).sum(axis=1).mean() / (2 * self.noise**2)) + constant
        return self._loss(data, weights, samples, entropy)

    def population(self) -> Loss:
        """Return K: Gauss nodes over the inputs stand for the data, and e = 0."""
        nodes, weights = self._nodes()
        data = np.column_stack([nodes, np.zeros((len(weights), len(self.model)))])
        entropy = len(self.model) / 2 * (1 + math.log(2 * math.pi * self.noise**2))
        return self._loss(data, weights, None, entropy)

    def _loss(self, data: Array, weights: Array, samples: int | None, entropy: float) -> Loss:
        residuals = tuple(sympy.Symbol(f"_e{o}", real=True) for o in range(len(self.model)))
        misfits = [f - f0 for f, f0 in zip(self._model, self._truth, strict=True)]
        sigma = sympy.Rational(repr(self.noise))
        sample_loss = sum(m**2 - 2 * m * e for m, e in zip(misfits, residuals, strict=True)) / (2 * sigma**2)
        loss = self._mean_of(sample_loss, residuals, data, weights, samples)
        return replace(
            loss,
            entropy=entropy,
            sources=(*loss.sources, *(Distribution("normal", (0.0, self.noise)) for _ in residuals)),
            misfits=tuple(misfits),
            residual_jacobian=tuple(tuple(d / sigma for d in gradient(f, loss.symbols)) for f in self._model),
        )


@dataclass(frozen=True)
class Contrast(_OfInputs):
    """A model p(x | w) of any kind, by its contrast with the truth q: l(w, x) = log q(x) - log p(x | w).

    x is made of the inputs. K = E_q l, the Kullback-Leibler divergence, is nowhere negative; K_n, a mean over samples,
    is so near its minimum. S_n is left out: `entropy` is 0. Raises InputError, placed at the field that is wrong.
    """

    parameters: tuple[str, ...]
    contrast: str
    inputs: Mapping[str, Distribution]

    def sampled(self, samples: int, seed: int) -> Loss:
        """Return K_n on a data set of n = `samples`, a pure function of `seed`."""
        return self._loss(self._drawn(samples, seed), np.full(samples, 1 / samples), samples)

    def population(self) -> Loss:
        """Return K: Gauss nodes over the inputs stand for the data."""
        return self._loss(*self._nodes(), None)

    def _loss(self, *data: Any) -> Loss:
        contrast = _parse(self.contrast, (*self.parameters, *self.inputs), "contrast")
        loss = self._mean_of(contrast, (), *data)
        return replace(loss, residual_jacobian=(gradient(contrast, loss.symbols),))


def _parse(text: str | float, names: Sequence[str], *where: str | int) -> Any:
    try:
        return parse(text, names)
    except InputError as error:
        raise error.within(*where) from None
