"""The full gradient plus Gaussian noise with a minibatch's covariance C(w) / B, or only with the trace of it.

C(w) is the covariance of one sample's gradient. For a batch drawn without replacement from n samples it is replaced by
C (n - B) / (n - 1); for fresh samples it is that of the truth's own distribution, with observation noise.

If the gradient is affine in the columns' means, the means of a batch are drawn, m + S^(1/2) xi / sqrt(B) with S the
columns' covariance, and the gradient is evaluated there. Otherwise every sample i has its own normal xi_i. The noise
sum_i sqrt(p_i) (g_i - g) xi_i / sqrt(B), with p_i its weight, has that covariance; it takes one pass and no root.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import sympy
from pydantic import Field

from sandbox.compiled.random_numbers import STREAM_MODEL_NOISE
from sandbox.dynamics.codegen.lane_code import lane_code, normals_code, planes
from sandbox.dynamics.gradients.base import GRADIENT, Estimator, Stage
from sandbox.dynamics.gradients.full import Full
from sandbox.dynamics.gradients.minibatch import Minibatch
from sandbox.dynamics.gradients.noisy import Noisy
from sandbox.expressions.evaluation import numpy_function
from sandbox.expressions.functions import Maximum
from sandbox.model.loss import Loss
from sandbox.model.piecewise import Density
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError

Covariance = Literal["minibatch", "isotropic"]

_KEYS: dict[str | int, str] = {"minibatch": "gaussian"}

_RANK = 1e-12
"""Directions with less than this share of the largest variance, in units of the columns' deviations, are rounding."""


class Gaussian(Estimator):
    """The estimator `gradient: {gaussian: 8, draw: with_replacement}`."""

    name: ClassVar[str] = "gaussian"

    gaussian: int = Field(gt=0, description="samples in the batch that is modelled, B")
    draw: Literal["with_replacement", "without_replacement", "fresh"] = Field(
        description="how the batch is drawn: with_replacement, without_replacement, or fresh (population)"
    )
    covariance: Covariance = Field(
        default="minibatch", description="minibatch: the batch's; isotropic: the same trace, equal in all directions"
    )

    def check(self, loss: Loss) -> None:
        """Raise InputError if a minibatch could not be drawn in this way."""
        try:
            Minibatch(minibatch=self.gaussian, draw=self.draw).check(loss)
        except InputError as error:
            # The batch's size has another key here.
            raise InputError(
                [replace(p, where=tuple(_KEYS.get(k, k) for k in p.where)) for p in error.problems]
            ) from None

    def stage(self, loss: Loss, constant: Callable[[float], str]) -> Stage:
        """Return the stage of the full gradient plus noise."""
        return self.stage_with_noise(loss, constant, 1.0)

    def stage_with_noise(self, loss: Loss, constant: Callable[[float], str], factor: float) -> Stage:
        """Return the stage of the full gradient plus `factor` times the noise."""
        share = 1.0
        if self.draw == "without_replacement" and loss.samples is not None and loss.samples > 1:
            share = (loss.samples - self.gaussian) / (loss.samples - 1)
        scale = constant(factor * math.sqrt(share / self.gaussian))
        if loss.is_affine and self.covariance == "minibatch":
            return _by_means(loss, len(_roots(loss)), scale)
        return _by_samples(loss, constant, scale, self.covariance)

    def rows(self, loss: Loss) -> tuple[Array, Array]:
        """Return the rows for the stage: means and roots of their covariance, or columns that have these moments."""
        if not loss.is_affine:
            return _samples(loss)
        roots = _roots(loss)
        if self.covariance == "minibatch":
            return np.concatenate([loss.moments[None], roots]), np.ones(1)
        # Two points for each root have the same mean and covariance (Julier and Uhlmann 1997).
        reach = math.sqrt(len(roots)) * roots
        return loss.moments + np.concatenate([reach, -reach]), np.full(2 * len(roots), 0.5 / len(roots))


def model_of(gradient: Estimator, covariance: Covariance) -> Estimator:
    """Return the Gaussian model of an estimator's noise. Raises InputError if there is none."""
    if isinstance(gradient, Noisy) and covariance == "minibatch":
        return gradient
    if isinstance(gradient, Gaussian):
        return gradient.model_copy(update={"covariance": covariance})
    if not isinstance(gradient, Minibatch):
        raise InputError(f"this rule models the noise of a minibatch; found '{gradient.name}'")
    if gradient.draw == "reshuffled":
        message = "this rule's noise is independent from step to step, which that of reshuffled batches is not"
        raise InputError(f"{message}; allowed: with_replacement, without_replacement, fresh").within("draw")
    return Gaussian(gaussian=gradient.minibatch, draw=gradient.draw, covariance=covariance)


def _samples(loss: Loss) -> tuple[Array, Array]:
    """Return the columns of all samples and their weights; for K, with the moments of the observation noise too."""
    if loss.samples is not None or not loss.misfits:
        return loss.table, loss.weights
    outputs = len(loss.misfits)
    deviations = np.array([source.arguments[1] for source in loss.sources[-outputs:]])
    # The columns are affine in the residuals: points with the residuals' covariance give that of the columns.
    reach = math.sqrt(outputs) * np.diag(deviations)
    residuals = np.concatenate([reach, -reach])
    data = np.repeat(loss.data, len(residuals), axis=0)
    data[:, -outputs:] = np.tile(residuals, (len(loss.data), 1))
    table = np.stack(numpy_function(loss.data_symbols, loss.column_expressions)(*data.T), axis=1)
    return table, np.repeat(loss.weights, len(residuals)) / len(residuals)


def _roots(loss: Loss) -> Array:
    """Return at least one row; the rows' outer products add up to the columns' covariance: shape (rank, columns)."""
    table, weights = _samples(loss)
    away = table - weights @ table
    covariance = away.T @ (weights[:, None] * away)
    deviations = np.sqrt(np.diag(covariance))
    units = np.where(deviations > 0, deviations, 1.0)
    variances, directions = np.linalg.eigh(covariance / np.outer(units, units))
    kept = variances > _RANK * max(variances.max(), 0.0)
    kept[-1] = True
    roots: Array = (np.sqrt(np.maximum(variances[kept], 0)) * directions[:, kept]).T * units
    return roots


def _by_means(loss: Loss, rank: int, scale: str) -> Stage:
    """Return the stage that draws a batch's column means and evaluates the gradient there."""
    means, factor = _symbols("m", len(loss.columns)), _symbols("scale", 1)[0]
    roots = [_symbols(f"a{k}_", len(loss.columns)) for k in range(rank)]
    normals = normals_code("noise", rank, STREAM_MODEL_NOISE)
    xi = _symbols("z", rank)
    outputs = {
        f"s[{c} * LANES + i]": mean + factor * sum(z * root[c] for z, root in zip(xi, roots, strict=True))
        for c, mean in enumerate(means)
    }
    scalars = {symbol: f"table[{k}, {c}]" for k, row in enumerate([means, *roots]) for c, symbol in enumerate(row)}
    arguments = ("s", "noise", "table", "constants")
    return Stage(
        imports=normals.imports,
        functions=(lane_code("draw_means", arguments, outputs, planes("noise", xi), scalars | {factor: scale}),),
        allocate=normals.allocate,
        estimate=(*normals.lines, f"draw_means(s, {normals.value}, table, constants)", GRADIENT),
    )


def _by_samples(loss: Loss, constant: Callable[[float], str], scale: str, covariance: Covariance) -> Stage:
    """Return a pass over all samples that sums their mean and their noise, or the trace of their covariance.

    If kinks divide a density, the mean is the exact integral, and the density's nodes are used for the noise only.
    """
    exact = Full().stage(loss, constant) if isinstance(loss.measure, Density) else None
    mean = "mean" if exact else "g"
    size = len(loss.parameters)
    own = covariance == "minibatch"
    # One normal for each sample, four samples in a call; or, if isotropic, one for each coordinate.
    normals = None if own else normals_code("noise", size, STREAM_MODEL_NOISE)
    noise = "noise[row % 4 * LANES :]" if own else "w"
    drawn = (
        "    if row % 4 == 0:",
        f"        fill_bits(noise_bits, row // 4, 1, particle, tick, {STREAM_MODEL_NOISE}, key)",
        "        fill_normals(noise, noise_bits, 2)",
    )
    held = ("noise_bits = scratch(4 * LANES, np.uint32)", "noise = scratch(4 * LANES, np.float32)")
    return Stage(
        imports=(
            *(
                ("sandbox.compiled.random_numbers.fill_bits", "sandbox.compiled.random_numbers.fill_normals")
                if normals is None
                else normals.imports
            ),
            "sandbox.compiled.lanes.fill",
            *(exact.imports if exact else ()),
        ),
        functions=(*(exact.functions if exact else ()), _add_sample(loss, own), _add_noise(size, scale, own)),
        allocate=(
            *(exact.allocate if exact else ()),
            *(held if normals is None else normals.allocate),
            *(["mean = scratch(width, real)"] if exact else []),
            f"spread = scratch({size + 1 if own else 1} * LANES, real)",
        ),
        estimate=(
            *(exact.estimate if exact else ()),
            f"fill({mean}, 0)",
            "fill(spread, 0)",
            "for row in range(weights.size):",
            *(drawn if own else ()),
            f"    add_sample(w, table, row, weights, {noise}, {mean}, spread)",
            *(normals.lines if normals else ()),
            f"add_noise(g, {mean}, spread, {normals.value if normals else 'w'}, constants)",
        ),
    )


def _add_sample(loss: Loss, own: bool) -> str:
    """Return the source that adds a sample's gradient to the mean, and its noise or squared length to the spread."""
    size = len(loss.parameters)
    totals, spreads, (weight, z) = _symbols("g", size), _symbols("v", size + 1 if own else 1), _symbols("p", 2)
    slopes = loss.gradient_expressions
    added: list[Any] = [sympy.sqrt(weight) * z * slope for slope in (*slopes, sympy.S.One)]
    if not own:
        added = [weight * sympy.Add(*(slope**2 for slope in slopes))]
    outputs = {f"mean[{j} * LANES + i]": totals[j] + weight * slope for j, slope in enumerate(slopes)}
    outputs |= {f"spread[{j} * LANES + i]": old + new for j, (old, new) in enumerate(zip(spreads, added, strict=True))}
    names = planes("w", loss.symbols) | planes("mean", totals) | planes("spread", spreads) | {z: "noise[i]"}
    scalars = {column: f"table[row, {c}]" for c, column in enumerate(loss.columns)} | {weight: "weights[row]"}
    return lane_code("add_sample", ("w", "table", "row", "weights", "noise", "mean", "spread"), outputs, names, scalars)


def _add_noise(size: int, scale: str, own: bool) -> str:
    """Return the source that adds the noise, from the sums of the pass, to the gradient."""
    slopes, totals, spreads = _symbols("g", size), _symbols("m", size), _symbols("v", size + 1 if own else 1)
    (factor,), xi = _symbols("scale", 1), _symbols("z", size)
    if own:
        noise = [spread - spreads[-1] * total for spread, total in zip(spreads, totals, strict=False)]
    else:
        trace = spreads[0] - sympy.Add(*(total**2 for total in totals))
        noise = [sympy.sqrt(Maximum(trace, sympy.S.Zero) / size) * z for z in xi]
    outputs = {f"g[{j} * LANES + i]": slope + factor * noise[j] for j, slope in enumerate(slopes)}
    names = planes("g", slopes) | planes("mean", totals) | planes("spread", spreads) | planes("noise", xi)
    return lane_code("add_noise", ("g", "mean", "spread", "noise", "constants"), outputs, names, {factor: scale})


def _symbols(name: str, count: int) -> Sequence[Any]:
    """Return symbols whose names no user can choose."""
    return [sympy.Symbol(f"_{name}{j}", real=True) for j in range(count)]
