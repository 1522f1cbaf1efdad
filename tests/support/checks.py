"""The checks of the laws: each compares numbers with theory, and raises AssertionError if they differ.

A statistical check allows |z| < 4 for every single number (false alarm 6e-5) and p > 1e-4 for every distribution. Seeds
are fixed, so a test that passes once passes always. Each check can fail: the tests apply it to a broken specimen and
expect the error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats

from sandbox.compiled import random_numbers
from sandbox.dynamics import kernel
from sandbox.dynamics.gradients.base import Estimator
from sandbox.dynamics.rules.base import Rule
from sandbox.dynamics.rules.langevin import Langevin
from sandbox.dynamics.rules.registry import RULES
from sandbox.dynamics.rules.sgd import Sgd
from sandbox.model.loss import Loss
from sandbox.model.prior import Distribution, Prior
from sandbox.tools.arrays import Array

Z_LIMIT = 4.0
LEAST_P = 1e-4


def prior_of(**distributions: str) -> Prior:
    """Return the prior with these distributions, by parameter name."""
    return Prior(tuple(distributions), tuple(Distribution.parse(text) for text in distributions.values()))


def open_prior(*names: str) -> Prior:
    """Return a prior without density gradient; no test reaches its walls (and kernels here have none)."""
    return prior_of(**dict.fromkeys(names, "uniform(-1, 1)"))


def sgd(rate: float) -> Sgd:
    """Return plain SGD with learning rate `rate`."""
    return Sgd(rule="sgd", learning_rate=rate)


def langevin(step_size: float) -> Langevin:
    """Return unadjusted Langevin steps of size h."""
    return Langevin(rule="langevin", step_size=step_size)


def moved(
    loss: Loss,
    rule: Rule,
    gradient: Estimator,
    points: Array,
    steps: tuple[int, int],
    prior: Prior | None = None,
    *,
    seed: int = 7,
    nbeta: float | None = None,
    reflecting: bool = False,
) -> Array:
    """Return the positions of `points` (N, D) after the real kernel's steps[0] <= step < steps[1]."""
    k = kernel.build(loss, prior or open_prior(*loss.parameters), rule, gradient, nbeta=nbeta, reflecting=reflecting)
    blocks = k.pack(points)
    k.advance(blocks, (0, len(blocks)), steps, steps[1], random_numbers.key(seed, "law"))
    return k.unpack(blocks, len(points))


def check_close(found: Array, expected: Array | float, scale: Array | float, tolerance: float) -> None:
    """Assert that every number agrees to `tolerance` times its `scale`."""
    worst = float(np.max(np.abs(found - expected) / scale))
    assert worst <= tolerance, f"off by {worst:.3g} of the scale; allowed {tolerance:g}"


def check_mean(values: Array, expected: Array | float) -> None:
    """Assert that the mean over axis 0 of independent values (finite variance) is `expected`, each to |z| < 4."""
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    z = (values.mean(axis=0) - expected) / error
    assert np.max(np.abs(z)) < Z_LIMIT, f"mean {values.mean(axis=0)}, theory {expected}: z = {z}"


def check_covariance(points: Array, expected: Array, centre: Array | float = 0.0) -> None:
    """Assert that the second moments about `centre` of points (N, D) are `expected` (D, D), each to |z| < 4."""
    away = points - centre
    check_mean((away[:, :, None] * away[:, None, :]).reshape(len(points), -1), np.asarray(expected).ravel())


def check_law(values: Array, cdf: Callable[..., Any]) -> None:
    """Assert that independent values follow the continuous distribution function `cdf` (Kolmogorov and Smirnov)."""
    p = stats.kstest(values, cdf).pvalue
    assert p > LEAST_P, f"p = {p:.2g}"


def check_share(count: int, total: int, probability: float) -> None:
    """Assert that `count` of `total` independent trials succeeded with this probability, to |z| < 4."""
    z = (count - total * probability) / np.sqrt(total * probability * (1 - probability))
    assert abs(z) < Z_LIMIT, f"share {count / total:.5f}, theory {probability:.5f}: z = {z:.2f}"


def check_counts(counts: Array, probabilities: Array) -> None:
    """Assert that counts follow the multinomial law (chi-squared)."""
    p = stats.chisquare(counts, counts.sum() * probabilities / probabilities.sum()).pvalue
    assert p > LEAST_P, f"p = {p:.2g}"


def check_gradient(loss: Loss, points: Array, claimed: Array, step: float = 1e-5) -> None:
    """Assert that the claimed gradient (N, D) is that of loss.value: central differences, to O(step^2)."""
    for axis in range(points.shape[1]):
        shift = step * np.eye(points.shape[1])[axis]
        slope = (loss.excess(points + shift) - loss.excess(points - shift)) / (2 * step)
        check_close(claimed[:, axis], slope, 1 + np.abs(slope), 1e-8)


def rule_of(kind: type[Rule], **settings: Any) -> Rule:
    """Return a rule by its class, under its name in scenarios."""
    name = next(name for name, rule in RULES.items() if rule is kind)
    return kind(rule=name, **settings)
