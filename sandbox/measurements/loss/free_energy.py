"""λ and m from the free energy F_n = -log Z_n = λ log n - (m - 1) log log n + O(1) (Watanabe 2009, theorem 6.7).

Its slope in log n is E[n K] (the thermodynamic identity). The same quadrature gives this slope and its derivative to
eight digits and more. So there is no noise to average out. It remains to find the asymptotic form, and the n from
which it holds:

    E[n K] = λ - (m - 1) / (log n + τ) + next poles,  Z_n = c n^-λ (log n + τ)^(m-1) (1 + sum_i b_i n^-δ_i).

Forms are weighted by prediction: each is fitted without the largest n, and predicts E[n K] there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import ClassVar

import numpy as np
import scipy
import xarray as xr
from numpy.typing import ArrayLike

from sandbox.measurements.base import theory, with_theory
from sandbox.measurements.loss.regular import laplace
from sandbox.measurements.loss.splitting import Energy
from sandbox.measurements.loss.thermodynamics import FEWEST, OverSizes, Thermodynamics, large_n, thermodynamics
from sandbox.model.labelled import labelled
from sandbox.model.problem import Problem
from sandbox.posterior.quadrature.posteriors import Prior
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError, RunError

HELD_OUT = 3
"""The number of the largest n that are held out: the forms must predict the slope there."""

_POLES = 2  # the largest number of next poles
_GAPS = ((0.1, 0.4), (0.4, 1.2))  # starts of the search for δ
_NOISE = 1e-8  # error of the slopes from the quadrature: a prediction with a smaller error is luck
_FREEDOM = 20.0  # prior standard deviation of the parameters other than λ: so wide that it hardly matters
_FAR = 30.0  # bound on the logarithm of a parameter: beyond it the search has failed
_PATIENCE = 150  # evaluations in a search, at most
_PARSIMONY = 0.1  # factor on the weight of a form for each additional parameter
_UNSEEN = 10.0  # times the range of log n: with an onset τ beyond it the logarithm is not visible, that is, m = 1
_SAFETY = 2.0  # half the 95% interval, in units of the disagreement of the forms


@dataclass(frozen=True)
class Form:
    """A form of the slope: multiplicity m and number of next poles; parameters λ, log τ if m > 1, then b_i, log δ_i."""

    multiplicity: int
    poles: int

    def __call__(self, parameters: Array, x: Array) -> tuple[Array, Array]:
        """Return the slope and its derivative in x, stacked (2 X,), and the derivatives of both by parameters (2 X, P).

        x (X,) is log n minus the first log n. The next poles give -W'/W with W = 1 + sum_i b_i exp(-δ_i x).
        """
        one, none = np.ones_like(x), np.zeros_like(x)
        slope, bend, columns = parameters[0] * one, none, [(one, none)]
        rest = parameters[1:]
        if self.multiplicity > 1:
            tau, power = _exp(rest[0]), self.multiplicity - 1
            far, rest = x + tau, rest[1:]
            slope, bend = slope - power / far, power / far**2
            columns.append((power * tau / far**2, -2.0 * power * tau / far**3))
        b, gap = rest[::2, None], _exp(rest[1::2, None])
        fall = np.exp(-gap * x)
        whole = 1.0 + (b * fall).sum(axis=0)
        whole = np.where(np.abs(whole) < 1e-6, 1e-6, whole)
        first, second = -(gap * b * fall).sum(axis=0) / whole, (gap**2 * b * fall).sum(axis=0) / whole
        for k in range(self.poles):
            by_b = _by_pole(fall[k], -gap[k] * fall[k], gap[k] ** 2 * fall[k], whole, first, second)
            w = b[k] * gap[k] * fall[k]
            turned = (-x * w, (gap[k] * x - 1.0) * w, gap[k] * (2.0 - gap[k] * x) * w)
            columns += [by_b, _by_pole(*turned, whole, first, second)]
        value = np.concatenate([slope - first, bend - second + first**2])
        return value, np.column_stack([np.concatenate(column) for column in columns])

    def onset(self, parameters: Array) -> float:
        """Return the onset τ; 0 for m = 1."""
        return float(_exp(parameters[1])) if self.multiplicity > 1 else 0.0


@dataclass(frozen=True)
class Trial:
    """A form fitted to the sizes n from the index `start` on.

    `missed`: the largest error of the predicted slope at the sizes held out; `held`: λ from the fit without these.
    """

    form: Form
    start: int
    parameters: Array
    missed: float
    held: float

    @property
    def learning_coefficient(self) -> float:
        """Return λ from all sizes."""
        return float(self.parameters[0])

    def slope(self, log_n: Array) -> Array:
        """Return E[n K] at `log_n` (X,), whose first value must be that at which the form begins."""
        return self.form(self.parameters, log_n - log_n[0])[0][: len(log_n)]


def free_energy(
    energy: Energy,
    prior: Prior,
    *,
    n: ArrayLike | None = None,
    cuts: Sequence[ArrayLike] = (),
    multiplicity: int | None = None,
    table: Thermodynamics | None = None,
    poles: int = _POLES,
) -> xr.Dataset:
    """Return λ, m and F_n with its slope over many decades of n, for one to three parameters.

    energy: points (N, D) -> K >= 0, (N,). n: sizes, rising (default: 10 to 1e15, in three dimensions to 1e6); table:
    the results at all n if they have been computed; cuts: as for `posterior`. multiplicity: m, if it is known. poles:
    the largest number of next poles.

    Dataset over n: `free_energy`, `free_energy_error`, `slope` = E[n K], `fitted_slope` and `residual` of the mean of
    the forms (nan if the forms that begin at or before n have less than half the weight), `bic`: (D / 2) log n from
    the first F_n on, which is the result of regular theory; over `trial`: `trial_estimate`, `trial_missed`,
    `trial_multiplicity`, `trial_poles`, `trial_start`. Attributes: `estimate`; `low`, `high`: twice the disagreement of
    the forms away. Forms are weighted with the inverse squares of their errors at the sizes held out. `multiplicity`;
    `multiplicity_probability`, its share of the weights; `standard_error`; `stopped`.

    Raises InputError as `posterior` does, or for a multiplicity not in 1..D; RunError if there are fewer than FEWEST n.
    """
    dimension = len(prior.bounds)
    if multiplicity is not None and not 1 <= multiplicity <= dimension:
        raise InputError(f"the multiplicity is {multiplicity}; it must be between 1 and {dimension}")
    if table is None:
        table = thermodynamics(energy, prior, large_n(dimension) if n is None else n, cuts=cuts)
    elif n is None:
        table = table.above(float(large_n(dimension)[0]))
    if len(table.n) < FEWEST:
        raise RunError(
            f"{len(table.n)} sizes n are not enough for a slope, {FEWEST} are needed; stopped {table.stopped}"
        )
    choices = range(1, dimension + 1) if multiplicity is None else [multiplicity]
    trials = [
        _tried(table, Form(m, q), start)
        for m in choices
        for q in range(poles + 1)
        for start in range(0, len(table.n) - FEWEST + 1, 2)
    ]
    return _record(table, trials, dimension)


def _tried(table: Thermodynamics, form: Form, start: int) -> Trial:
    x = table.log_n[start:] - table.log_n[start]
    seen = np.stack([table.heat[start:], table.bend[start:]])
    held = _fitted(x[:-HELD_OUT], seen[:, :-HELD_OUT], form, None)
    foretold = form(held, x)[0][: len(x)]
    missed = float(np.abs(foretold - seen[0])[-HELD_OUT:].max())
    return Trial(form, start, _fitted(x, seen, form, held), missed, float(held[0]))


def _fitted(x: Array, seen: Array, form: Form, guess: Array | None) -> Array:
    """Return the least-squares parameters (P,) for slopes (2, X), from `guess` or the best of several searches."""

    def both(parameters: Array) -> tuple[Array, Array]:
        value, slopes = form(parameters, x)
        others = np.eye(len(parameters))[1:] / _FREEDOM
        residual = np.concatenate([(value - seen.ravel()) / _NOISE, parameters[1:] / _FREEDOM])
        return residual, np.concatenate([slopes / _NOISE, others])

    def residuals(parameters: Array) -> Array:
        return both(parameters)[0]

    def jacobian(parameters: Array) -> Array:
        return both(parameters)[1]

    onset = [np.log(3.0 + x[-1] / 10.0)] * (form.multiplicity > 1)
    guesses = [
        np.array([seen[0, -1], *onset, *(v for k in range(form.poles) for v in (0.1 * (-1) ** k, np.log(gaps[k])))])
        for gaps in (_GAPS if form.poles else _GAPS[:1])
    ]
    found = []
    for start in [guess] if guess is not None else guesses:
        search = scipy.optimize.least_squares(residuals, start, jac=jacobian, method="lm", max_nfev=_PATIENCE)
        found.append((float(search.cost), search.x))
    return np.asarray(min(found, key=itemgetter(0))[1])


def _record(table: Thermodynamics, trials: list[Trial], dimension: int) -> xr.Dataset:
    missed = np.array([t.missed for t in trials])
    weights = _PARSIMONY ** np.array([len(t.parameters) for t in trials]) / np.maximum(missed, _NOISE) ** 2
    # If m is given and wrong this could remove all forms. Then all stay, and their predictions show the error.
    unseen = np.array([t.form.onset(t.parameters) > _UNSEEN * np.ptp(table.log_n) for t in trials])
    weights[unseen & ~unseen.all()] = 0.0
    weights = weights / weights.sum()
    values, held = np.array([t.learning_coefficient for t in trials]), np.array([t.held for t in trials])
    estimate = float(weights @ values)
    error = float(np.sqrt(weights @ (values - estimate) ** 2) + weights @ np.abs(values - held)) + _NOISE
    multiplicities = np.array([t.form.multiplicity for t in trials])
    shares = {int(m): float(weights[multiplicities == m].sum()) for m in np.unique(multiplicities)}
    x = table.log_n
    begun = weights[:, None] * np.array([np.arange(len(x)) >= t.start for t in trials])
    slopes = np.array([np.append(np.zeros(t.start), t.slope(x[t.start :])) for t in trials])
    with np.errstate(invalid="ignore"):
        fitted = np.where(begun.sum(axis=0) >= 0.5, (begun * slopes).sum(axis=0) / begun.sum(axis=0), np.nan)
    words = [
        ("trial_estimate", values, "λ by this form"),
        ("trial_missed", missed, "error of E[n K] predicted for the sizes held out"),
        ("trial_multiplicity", multiplicities, "m of this form"),
        ("trial_poles", np.array([t.form.poles for t in trials]), "next poles of this form"),
        ("trial_start", table.n[[t.start for t in trials]], "n from which this form is fitted"),
    ]
    data = {
        "free_energy": labelled("n", -table.log_evidence, "free energy F_n - n S_n", "nat"),
        "free_energy_error": labelled("n", table.error, "error of free_energy, by quadrature", "nat"),
        "slope": labelled("n", table.heat, "E[n K] = dF_n / dlog n"),
        "fitted_slope": labelled("n", fitted, "E[n K], mean of the forms"),
        "residual": labelled("n", table.heat - fitted, "E[n K] minus the mean of the forms"),
        "bic": labelled(
            "n", dimension / 2 * (x - x[0]) - table.log_evidence[0], "D/2 log n, from the first F_n", "nat"
        ),
        **{name: labelled("trial", value, word) for name, value, word in words},
    }
    attrs = {
        "method": "free_energy",
        "estimate": estimate,
        "low": max(estimate - _SAFETY * error, 0.0),
        "high": estimate + _SAFETY * error,
        "standard_error": error,
        "multiplicity": max(shares, key=shares.__getitem__),
        "multiplicity_probability": max(shares.values()),
        "stopped": table.stopped,
    }
    return xr.Dataset(data, {"n": labelled("n", table.n, "number of samples", "sample")}, attrs)


def _by_pole(dw: Array, dw1: Array, dw2: Array, whole: Array, first: Array, second: Array) -> tuple[Array, Array]:
    """Return the derivatives of -W'/W and -W''/W + (W'/W)^2 from those of W, W', W''; first = W'/W, second = W''/W."""
    by_first = (dw1 - first * dw) / whole
    return -by_first, -(dw2 - second * dw) / whole + 2.0 * first * by_first


def _exp(logarithm: Array) -> Array:
    return np.asarray(np.exp(np.clip(logarithm, -_FAR, _FAR)))


class FreeEnergy(OverSizes):
    """F_n over n, by quadrature, with BIC and Laplace's approximation for comparison: its slope in log n is λ."""

    name: ClassVar[str] = "free_energy"

    def measure(self, problem: Problem) -> xr.Dataset:
        """Return F_n of the population loss with the fit of λ, and F_n by regular (`laplace`) and `singular` theory."""
        loss, prior = problem.population_loss, problem.prior
        found = free_energy(loss.excess, prior, table=self.table(problem))
        n, first = found["n"].to_numpy(), float(found["n"][0])
        regular = -float(laplace(loss, prior, first)["log_evidence_laplace"])
        beside = {
            "laplace": labelled(
                "n", regular + len(prior.names) / 2 * np.log(n / first), "-log of Laplace's evidence", "nat"
            ),
            "singular": labelled("n", _singular(problem, n), "λ log n - (m - 1) log log n", "nat"),
        }
        return with_theory(found.assign(beside), problem, "the slope of F_n in log n")


def _singular(problem: Problem, n: Array) -> Array:
    """Return λ log n - (m - 1) log log n at n, same shape; nan if λ is not known."""
    known = theory(problem)
    if known is None:
        return np.full(len(n), math.nan)
    result: Array = float(known.rank[0]) * np.log(n) + (known.rank[1] + 1) * np.log(np.log(n))
    return result
