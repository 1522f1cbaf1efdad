"""A fit of λ and m to the decay of V(e) or Z(n) over many decades, with its uncertainty.

With t = log 1/e (or log n) the integral decays as (Watanabe 2009, theorem 7.1 and section 6.3)

    S(t) = c exp(-λ t) (t + τ)^(m-1) (1 + b exp(-δ t)),

from the leading pole of the zeta function, with its logarithms, and the next pole -(λ + δ). It is not known beforehand
at which t the asymptotics begins, which m holds, and whether the next pole is visible. So all forms are fitted, from
every start, and averaged with the weights of Jay and Neil (2008.01069): a point left out costs as much as a parameter.
The disagreement of the models is part of the error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from sandbox.tools.arrays import Array

FEWEST = 6
"""The number of bins that a fit needs."""

_PRIORS = {"log τ": 2.0, "log(1 + b)": 2.0, "log δ": 1.0}
"""Standard deviations of the priors of the fit's parameters: wide, but a next pole that is not visible does no harm."""

_GAP = 0.3  # prior median of δ; in models of two parameters δ is between 1/12 (the cusp) and 1
_RIVAL = 0.2  # scale of the next pole relative to the leading one at the end: if larger, the fit measures the next one
_FAR = 30.0  # bound on the logarithm of a parameter: beyond it the search has failed
_ONSET = 3.0  # prior median of τ at the first edge, in nats


@dataclass(frozen=True)
class Shape:
    """A form of the decay, given by the multiplicity and by whether there is a next pole."""

    multiplicity: int
    next_pole: bool

    def names(self) -> list[str]:
        """Return the names of the parameters that have a prior, in the order of the parameters after λ."""
        return ["log τ"] * (self.multiplicity > 1) + ["log(1 + b)", "log δ"] * self.next_pole

    def log_decay(self, parameters: Array, t: Array) -> tuple[Array, Array]:
        """Return log S up to a constant at t (B,), counted from the start of the fit, and its derivatives (B, P)."""
        value, slopes = -parameters[0] * t, [-t]
        rest = list(parameters[1:])
        if self.multiplicity > 1:
            tau, power = _exp(rest.pop(0)), self.multiplicity - 1
            value = value + power * np.log(t + tau)
            slopes.append(power * tau / (t + tau))
        if self.next_pole:
            gap, one_and_b = _exp(rest[1]), _exp(rest[0])
            fall = np.exp(-gap * t)
            whole = 1.0 + (one_and_b - 1.0) * fall
            value = value + np.log(whole)
            slopes += [one_and_b * fall / whole, -(one_and_b - 1.0) * fall * gap * t / whole]
        return value, np.stack(slopes, axis=1)

    def rival(self, parameters: Array, t: float) -> tuple[Array, Array]:
        """Return b exp(-δ t), the next pole relative to the leading one, (1,) or (0,), and its derivatives (., P)."""
        slopes = np.zeros((int(self.next_pole), len(parameters)))
        if not self.next_pole:
            return np.empty(0), slopes
        one_and_b, gap = _exp(parameters[-2]), _exp(parameters[-1])
        fall = np.exp(-gap * t)
        share = (one_and_b - 1.0) * fall
        slopes[0, -2:] = one_and_b * fall, -gap * t * share
        return np.array([share]), slopes


@dataclass(frozen=True)
class Fitted:
    """One shape fitted from one start.

    parameters: (P,), λ first. influence: (B,), dλ / d(decline) of every bin, 0 before the start. residuals: of the bins
    from the start on. deviance: of bins and priors. information: minus twice the log of the weight in the average.
    """

    shape: Shape
    start: int
    parameters: Array
    influence: Array
    residuals: Array
    deviance: float
    information: float

    @property
    def learning_coefficient(self) -> float:
        """Return λ."""
        return float(self.parameters[0])


@dataclass(frozen=True)
class Average:
    """Fits with their weights (F,), whose sum is 1."""

    fits: tuple[Fitted, ...]
    weights: Array

    @property
    def learning_coefficient(self) -> float:
        """Return the mean λ."""
        return float(self.weights @ self._values)

    @property
    def disagreement(self) -> float:
        """Return the standard deviation of λ between the models."""
        return float(np.sqrt(self.weights @ (self._values - self.learning_coefficient) ** 2))

    @property
    def influence(self) -> Array:
        """Return dλ / d(decline) (B,) of the mean λ."""
        return np.asarray(self.weights @ np.stack([f.influence for f in self.fits]))

    @property
    def best(self) -> Fitted:
        """Return the fit with the largest weight."""
        return self.fits[int(np.argmax(self.weights))]

    @property
    def shares(self) -> dict[int, float]:
        """Return the weight of each multiplicity."""
        found = np.array([f.shape.multiplicity for f in self.fits])
        return {int(m): float(self.weights[found == m].sum()) for m in np.unique(found)}

    @property
    def next_pole(self) -> float:
        """Return the weight of the models with a next pole."""
        return float(self.weights @ np.array([f.shape.next_pole for f in self.fits]))

    def of(self, multiplicity: int) -> Average:
        """Return the average of the fits with this multiplicity."""
        keep = np.array([f.shape.multiplicity == multiplicity for f in self.fits])
        fits = tuple(f for f, kept in zip(self.fits, keep, strict=True) if kept)
        return Average(fits, self.weights[keep] / self.weights[keep].sum())

    @property
    def _values(self) -> Array:
        return np.array([f.learning_coefficient for f in self.fits])


def fit(t: Array, decline: Array, variance: float, multiplicities: Sequence[int], *, next_pole: bool = True) -> Average:
    """Return the average of the fits of every shape from every start in the first half.

    t: edges (B + 1,), rising; decline: (B,), -log S(t_{k+1}) / S(t_k), positive, with variance `variance` times itself.
    multiplicities: the m to choose from; next_pole: whether to try one (False is the broken version for the tests).
    """
    shapes = [Shape(m, q) for m in multiplicities for q in ((False, True) if next_pole else (False,))]
    starts = range(min(len(decline) - FEWEST, len(decline) // 2) + 1)
    fits = [_fit(t, decline, variance, shape, start) for shape in shapes for start in starts]
    information = np.array([f.information for f in fits])
    weights = np.exp(-0.5 * (information - information.min()))
    return Average(tuple(fits), weights / weights.sum())


def _exp(logarithm: float) -> float:
    return float(np.exp(np.clip(logarithm, -_FAR, _FAR)))


def _fit(t: Array, decline: Array, variance: float, shape: Shape, start: int) -> Fitted:
    """Return the fit by least squares of the square roots: their variance is equal for all declines (Anscombe 1948)."""
    u, seen = t[start:] - t[start], np.sqrt(decline[start:])
    spread = 0.5 * np.sqrt(variance)
    names = shape.names()
    centre = np.array([{"log τ": np.log(_ONSET + t[start] - t[0]), "log δ": np.log(_GAP)}.get(k, 0.0) for k in names])
    width = np.array([_PRIORS[k] for k in names])

    def both(parameters: Array) -> tuple[Array, Array]:
        value, slopes = shape.log_decay(parameters, u)
        expected = np.maximum(-np.diff(value), 1e-12)
        root = np.sqrt(expected)
        jacobian = np.diff(slopes, axis=0) * (0.5 / root / spread)[:, None]
        lower = np.eye(len(parameters))[1:] / np.append(1.0, width)[1:, None]
        rival, by_rival = shape.rival(parameters, float(u[-1]))
        residual = [(seen - root) / spread, (parameters[1:] - centre) / width, rival / _RIVAL]
        return np.concatenate(residual), np.concatenate([jacobian, lower, by_rival / _RIVAL])

    def residuals(parameters: Array) -> Array:
        return both(parameters)[0]

    def derivatives(parameters: Array) -> Array:
        return both(parameters)[1]

    # A search that starts at a negative decline fails. This start gives about the right total decline.
    onset = 0.5 * float(u[-1])
    grown = (shape.multiplicity - 1) * np.log(1.0 + u[-1] / onset)
    fresh = np.concatenate([[(decline[start:].sum() + grown) / u[-1]], centre])
    if shape.multiplicity > 1:
        fresh[1] = np.log(onset)
    parameters = scipy.optimize.least_squares(residuals, fresh, jac=derivatives, method="lm", x_scale="jac").x
    residual, jacobian = both(parameters)
    bins = len(seen)
    curvature = jacobian.T @ jacobian
    # residual_k = (sqrt(decline_k) - ...) / spread, so this is dλ / d(decline_k).
    answer = np.linalg.solve(curvature, jacobian[:bins].T)[0] * (-0.5 / seen / spread)
    influence = np.concatenate([np.zeros(start), answer])
    deviance = float(residual @ residual)
    # Laplace's approximation over the parameters that have a prior. λ has none: it stays at its best value.
    occam = float(np.linalg.slogdet(curvature[1:, 1:])[1] + 2.0 * np.log(width).sum()) if names else 0.0
    return Fitted(shape, start, parameters, influence, residual[:bins], deviance, deviance + occam + 2.0 * start)
