"""λ and m from the free energy F_n = -log Z_n = λ log n - (m - 1) log log n + O(1) (Watanabe 2009, theorem 6.7).

Its slope in log n is E[n K], the thermodynamic identity, and both it and its own slope come from the same quadrature
to eight digits and more. No noise has to be averaged out here; what is left is the question which asymptotic form
holds from where on,

    E[n K] = λ - (m - 1) / (log n + τ) + next poles,  Z_n = c n^-λ (log n + τ)^(m-1) (1 + sum_i b_i n^-δ_i).

So forms are judged by prediction: fitted without the largest n, each foretells E[n K] there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
import scipy
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from sandbox.errors import InputError, RunError
from sandbox.measured.labelled import labelled
from sandbox.measured.splitting import Energy
from sandbox.measured.thermodynamics import Thermodynamics, large_n, thermodynamics
from sandbox.posterior import Prior

Floats = NDArray[np.float64]

FEWEST = 8
"""Sizes n that an estimate needs."""

HELD_OUT = 3
"""The largest n, which the forms must foretell."""

_POLES = 2  # next poles, at most
_GAPS = ((0.1, 0.4), (0.4, 1.2))  # from where the search for δ begins
_NOISE = 1e-8  # of the slopes, from the quadrature: better predictions are luck
_FREEDOM = 20.0  # standard deviation of what is thought of the other parameters beforehand: hardly anything
_FAR = 30.0  # logarithm of a parameter at which a search has lost its way
_PATIENCE = 150  # steps of a search
_PARSIMONY = 0.1  # weight of a form for each parameter more
_UNSEEN = 10.0  # times the range of log n: an onset τ beyond it is a logarithm that has not begun, that is, m = 1
_SAFETY = 2.0  # half the 95% interval, in units of the disagreement of the forms


@dataclass(frozen=True)
class Form:
    """A form of the slope: multiplicity and number of next poles; parameters λ, log τ if m > 1, then b_i, log δ_i."""

    multiplicity: int
    poles: int

    def __call__(self, parameters: Floats, x: Floats) -> tuple[Floats, Floats]:
        """Return the slope and its slope at x, stacked (2 X,), and their derivatives (2 X, P); x counts from its first.

        The next poles give -W'/W with W = 1 + sum_i b_i exp(-δ_i x).
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

    def onset(self, parameters: Floats) -> float:
        """Return τ, 0 for m = 1."""
        return float(_exp(parameters[1])) if self.multiplicity > 1 else 0.0


@dataclass(frozen=True)
class Trial:
    """A form fitted from the size number `start` on.

    `missed`: the largest error of the slope foretold for the sizes held out; `held`: λ without these.
    """

    form: Form
    start: int
    parameters: Floats
    missed: float
    held: float

    @property
    def learning_coefficient(self) -> float:
        """Return λ from all sizes."""
        return float(self.parameters[0])

    def slope(self, log_n: Floats) -> Floats:
        """Return E[n K] at these log n, the first of which is where the form begins."""
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

    energy: points (N, D) -> K >= 0, (N,). n: sizes, rising (unless given 10 to 1e15, in three dimensions to 1e6);
    `table` holds them if they have been computed; cuts: as for `posterior`. multiplicity: m where it is known. poles:
    the most next poles tried.

    Dataset over n: `free_energy`, `free_energy_error`, `slope` = E[n K], `fitted_slope` and `residual` of the forms in
    the mean (nan where those that begin there or before weigh less than half), `bic` = (D / 2) log n + F_1: what
    regular theory says; over `trial`: `trial_estimate`, `trial_missed`, `trial_multiplicity`, `trial_poles`,
    `trial_start`. Attributes: `estimate`, `low`, `high`, twice the disagreement of the forms, which are weighted with
    the inverse squares of what they missed at the sizes held out; `multiplicity`, `multiplicity_probability` (the share
    of the weights), `stopped`.

    Raises InputError as `posterior`; RunError where fewer than FEWEST sizes could be integrated.
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


def _fitted(x: Floats, seen: Floats, form: Form, guess: Floats | None) -> Floats:
    """Return the parameters of least squares for slopes (2, X), the best of some searches unless a guess is given."""

    def both(parameters: Floats) -> tuple[Floats, Floats]:
        value, slopes = form(parameters, x)
        others = np.eye(len(parameters))[1:] / _FREEDOM
        residual = np.concatenate([(value - seen.ravel()) / _NOISE, parameters[1:] / _FREEDOM])
        return residual, np.concatenate([slopes / _NOISE, others])

    def residuals(parameters: Floats) -> Floats:
        return both(parameters)[0]

    def jacobian(parameters: Floats) -> Floats:
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
    # All would fall where m is given and wrong: then they stay, and their predictions show it.
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
        ("trial_missed", missed, "error of E[n K] foretold for the sizes held out"),
        ("trial_multiplicity", multiplicities, "m of this form"),
        ("trial_poles", np.array([t.form.poles for t in trials]), "next poles of this form"),
        ("trial_start", table.n[[t.start for t in trials]], "n from which this form is fitted"),
    ]
    data = {
        "free_energy": labelled("n", -table.log_evidence, "free energy F_n - n S_n", "nat"),
        "free_energy_error": labelled("n", table.error, "its error, by quadrature", "nat"),
        "slope": labelled("n", table.heat, "E[n K] = dF_n / dlog n"),
        "fitted_slope": labelled("n", fitted, "E[n K] of the forms in the mean"),
        "residual": labelled("n", table.heat - fitted, "E[n K] minus that of the forms"),
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


def _by_pole(
    dw: Floats, dw1: Floats, dw2: Floats, whole: Floats, first: Floats, second: Floats
) -> tuple[Floats, Floats]:
    """Return the derivatives of -W'/W and -W''/W + (W'/W)^2 from those of W, W', W'' (first = W'/W, second = W''/W)."""
    by_first = (dw1 - first * dw) / whole
    return -by_first, -(dw2 - second * dw) / whole + 2.0 * first * by_first


def _exp(logarithm: Floats) -> Floats:
    return np.asarray(np.exp(np.clip(logarithm, -_FAR, _FAR)))
