"""Losses from a description: a bare potential, a regression model, or the contrast of any other model."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy

from sandbox.compiled import random_numbers
from sandbox.expressions.calculus import gradient
from sandbox.expressions.parsing import parse, symbol
from sandbox.expressions.pieces import split
from sandbox.expressions.separation import separate
from sandbox.model.loss import Loss
from sandbox.model.prior import Distribution
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError

POPULATION_NODES = {1: 64, 2: 32, 3: 16}
"""Gauss nodes per input that represent the population, by number of inputs: exact to degree 127, 63, 31."""


def potential(parameters: Sequence[str], expression: str, gradient_noise: Sequence[Sequence[str | float]] = ()) -> Loss:
    """Return a bare potential K(w), with the matrix B(w) of its declared gradient noise (D rows).

    Raises InputError, located at ("potential",) or ("gradient_noise", ...).
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
    """The common part of losses whose data are inputs, each input with its own distribution."""

    parameters: tuple[str, ...]
    inputs: Mapping[str, Distribution]

    def _drawn(self, samples: int, seed: int) -> Array:
        """Return random values of the inputs, shape (samples, inputs)."""
        key, rows = random_numbers.key(seed, "data"), np.arange(samples)
        uniforms = random_numbers.uniforms(key, random_numbers.STREAM_DATA_INPUT, rows, 0, len(self.inputs))
        columns = [source.quantile(uniforms[:, k]) for k, source in enumerate(self.inputs.values())]
        return np.stack(columns, axis=1) if columns else np.zeros((samples, 0))

    def _nodes(self) -> tuple[Array, Array]:
        """Return Gauss nodes that represent the inputs, shape (nodes, inputs), and their weights (nodes,)."""
        if len(self.inputs) > max(POPULATION_NODES):
            raise InputError(f"the population takes at most {max(POPULATION_NODES)} inputs, found {len(self.inputs)}")
        rules = [source.nodes(POPULATION_NODES[len(self.inputs)]) for source in self.inputs.values()]
        weights = functools.reduce(np.multiply.outer, [weight for _, weight in rules], np.ones(())).ravel()
        return np.reshape(np.meshgrid(*(x for x, _ in rules), indexing="ij"), (len(rules), len(weights))).T, weights

    def _mean_of(self, sample_loss: Any, residuals: Sequence[Any], data: Array, weights: Array, n: int | None) -> Loss:
        """Return the mean over the data, from their moments if the sample loss is polynomial in functions of them."""
        data_symbols = (*(inputs := tuple(symbol(name) for name in self.inputs)), *residuals)
        separated = separate(sample_loss, data_symbols)
        pieces = None if separated else split(sample_loss, data_symbols)
        if n is None and not all(source.family == "choice" for source in self.inputs.values()):
            # Integrate by pieces even if only the truth has kinks, because Gauss nodes miss kinks.
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

    Each output has its own expression. Its methods raise InputError, located at the field that is wrong.
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
        key, rows = random_numbers.key(seed, "data"), np.arange(samples)
        uniforms = random_numbers.uniforms(key, random_numbers.STREAM_DATA_NOISE, rows, 0, len(self.model))
        residuals = Distribution.parse(f"normal(0, {self.noise!r})").quantile(uniforms)
        data, weights = np.column_stack([self._drawn(samples, seed), residuals]), np.full(samples, 1 / samples)
        constant = len(self.model) / 2 * math.log(2 * math.pi * self.noise**2)
        entropy = float((residuals**2).sum(axis=1).mean() / (2 * self.noise**2)) + constant
        return self._loss(data, weights, samples, entropy)

    def population(self) -> Loss:
        """Return K: Gauss nodes over the inputs represent the data, and e = 0."""
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
    """A model p(x | w) of any kind, given by its contrast with the truth q: l(w, x) = log q(x) - log p(x | w).

    x consists of the inputs. K = E_q l, the Kullback-Leibler divergence, is >= 0; K_n, a mean over samples, is < 0 near
    its minimum. S_n is left out: `entropy` is 0. The methods raise InputError, located at the field that is wrong.
    """

    parameters: tuple[str, ...]
    contrast: str
    inputs: Mapping[str, Distribution]

    def sampled(self, samples: int, seed: int) -> Loss:
        """Return K_n on a data set of n = `samples`, a pure function of `seed`."""
        return self._loss(self._drawn(samples, seed), np.full(samples, 1 / samples), samples)

    def population(self) -> Loss:
        """Return K: Gauss nodes over the inputs represent the data."""
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
