"""WAIC, leave-one-out and ν compared with closed forms, brute force, and theory's expectations over data sets.

Means over data sets: |z| < 4 for each quantity (false alarm 6e-5), fixed seeds.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy import integrate
from support.checks import Z_LIMIT, prior_of

from sandbox.measurements.loss.waic import expectations, waic, waic_over_data_sets
from sandbox.model.prior import Distribution
from sandbox.model.regression import Regression, potential
from sandbox.posterior.quadrature.posteriors import posterior
from sandbox.tools.errors import InputError

LINE = prior_of(w="uniform(-1, 1)")
STANDARD = {"x": Distribution.parse("normal(0, 1)")}

NU = {1: 0.5, 2: 0.1729732674, 3: 0.2783664744}
"""ν of f = w^k x at beta = 1 (tabulated; recomputed below)."""


def power(k):
    return Regression(("w",), (f"w**{k} * x",), ("0",), STANDARD)


def moments_of_t(k, xi):
    """Return <t>, ..., <t^4> under |t|^(1/k - 1) exp(-t^2/2 + xi t), t = sqrt(n) w^k, t >= 0 for even k."""
    # In s with t = s^k there is no singularity.
    nodes, weights = np.polynomial.legendre.leggauss(400)
    reach = (abs(xi) + 10) ** (1 / k)
    s = reach * nodes if k % 2 else reach * (nodes + 1) / 2
    density = weights * np.exp(-((s**k - xi) ** 2) / 2 + min(xi, 0) ** 2 / 2)
    return [float(density @ s ** (k * p) / density.sum()) for p in range(1, 5)]


def over_noise(values):
    """Return the mean over xi ~ N(0, 1) of values at the Gauss-Hermite nodes."""
    return float(np.array(values) @ NODES[1])


NODES = tuple(a / b for a, b in zip(np.polynomial.hermite_e.hermegauss(24), (1.0, math.sqrt(2 * math.pi)), strict=True))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_fluctuation_of_powers(k):
    """λ = 1/2 E <t>^2 = 1/(2k) and ν = 1/2 E Var t: theory's integral, the table, and V_n on designed data agree.

    The data have x = 1 and residuals of mean xi / sqrt(n) and mean square 1; then the posterior of t is theory's, and
    V_n = Var t - (xi Cov(t, t^2) - Var(t^2) / 4) / n.
    """
    n, model = 500, power(k)
    pattern = np.where(np.arange(n) % 2, 1.0, -1.0)
    theory, measured = [], []
    for xi in NODES[0]:
        mean = xi / math.sqrt(n)
        errors = mean + math.sqrt(1 - mean**2) * pattern
        loss = dataclasses.replace(model.sampled(n, 1), data=np.stack([np.ones(n), errors], axis=1))
        found = waic(loss, LINE, input_nodes=1)
        t1, t2, t3, t4 = moments_of_t(k, xi)
        correction = (xi * (t3 - t1 * t2) - (t4 - t2**2) / 4) / n
        assert float(found["functional_variance"]) == pytest.approx(t2 - t1**2 - correction, abs=1e-6)
        theory.append((t1**2 / 2, (t2 - t1**2) / 2))
        measured.append(float(found["singular_fluctuation"]))
    lam, nu = (over_noise(values) for values in zip(*theory, strict=True))
    assert lam == pytest.approx(1 / (2 * k), abs=2e-4)
    assert nu == pytest.approx(NU[k], abs=2e-4)
    assert over_noise(measured) == pytest.approx(NU[k], abs=5e-3)
    assert k == 1 or abs(over_noise(measured) - 1 / (2 * k)) > 0.05, "ν is not λ"


def test_expectations_over_data_sets():
    """E[T], E[G], E[V], E[WAIC], E[LOO], Gibbs losses of f = w^2 x; those of a regular model are rejected."""
    found = waic_over_data_sets(power(2), LINE, 500, range(140))
    right = expectations(found, 0.25, NU[2])
    assert np.abs(right["z"]).max() < Z_LIMIT
    for wrong in (expectations(found, 0.5, 0.5), expectations(found, 0.25, 0.25)):
        assert np.abs(wrong["z"]).max() > Z_LIMIT
    by_name = right["theory"].to_series()
    assert by_name["training"] == pytest.approx(0.25 - 2 * NU[2])
    assert by_name["gibbs_generalisation"] == pytest.approx(0.25 + NU[2])
    assert by_name["waic"] == by_name["generalisation"] == 0.25


def test_training_loss_is_no_estimate_of_the_generalisation_loss():
    """Paired by data set, WAIC and leave-one-out agree with G_n on average; T_n lies 2 ν / n below."""
    found = waic_over_data_sets(power(1), LINE, 300, range(60))
    n = 300
    for name, offset in (("waic", 0.0), ("cross_validation", 0.0), ("training", -1.0)):
        gap = n * (found[name] - found["generalisation"]).to_numpy()
        error = gap.std(ddof=1) / math.sqrt(len(gap))
        assert abs(gap.mean() - offset) < Z_LIMIT * error, name
        assert abs(gap.mean() - (offset + 1.0)) > Z_LIMIT * error, name


def test_conjugate_regression():
    """y = w x + 0.5 e, w ~ N(0, 0.7^2): T_n, V_n, G_n and Gibbs losses from the normal posterior and predictive law."""
    sigma = 0.5
    loss = Regression(("w",), ("w * x",), ("0.4 * x",), STANDARD, noise=sigma).sampled(40, 3)
    found = waic(loss, prior_of(w="normal(0, 0.7)"), tolerance=1e-10)
    x, e = loss.data.T
    precision = (x * x).sum() / sigma**2 + 1 / 0.7**2
    # u = w - 0.4, so that l = (u^2 x^2 / 2 - u x e) / sigma^2.
    mean, variance = (x * (0.4 * x + e)).sum() / sigma**2 / precision - 0.4, 1 / precision

    def predictive(x, e):
        spread = sigma**2 + x * x * variance
        return ((e - x * mean) ** 2 / spread - (e / sigma) ** 2 + np.log(spread / sigma**2)) / 2

    square, crossed = 2 * variance**2 + 4 * mean**2 * variance, 2 * mean * variance
    functional = (x**4 * square / 4 + x**2 * e**2 * variance - x**3 * e * crossed) / sigma**4

    def divergence(x):
        spread = (sigma**2 + x * x * variance) / sigma**2
        density = math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        return density * (1 / spread + (x * mean / sigma) ** 2 / spread - 1 + math.log(spread)) / 2

    generalisation = integrate.quad(divergence, -12, 12, epsabs=1e-13)[0]
    expected = {
        "training": predictive(x, e).mean(),
        "functional_variance": functional.sum(),
        "waic": predictive(x, e).mean() + functional.mean(),
        "generalisation": generalisation,
        "gibbs_generalisation": (mean**2 + variance) / (2 * sigma**2),
        "gibbs_training": ((mean**2 + variance) * (x * x).mean() / 2 - mean * (x * e).mean()) / sigma**2,
        "singular_fluctuation": functional.sum() / 2,
        "population_entropy": 0.5 + 0.5 * math.log(2 * math.pi * sigma**2),
    }
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value, abs=1e-8), name
    assert abs(predictive(x, e).mean() - expected["waic"]) > 1e-3, "without its second term WAIC is another number"


def without(loss, i):
    """Return the loss on all samples but one."""
    keep = np.arange(loss.samples) != i
    return dataclasses.replace(
        loss, data=loss.data[keep], weights=np.full(keep.sum(), 1 / keep.sum()), samples=int(keep.sum())
    )


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_leave_one_out_by_leaving_one_out(beta):
    """One posterior replaces n of them, to rounding; predictions without leaving out give another number."""
    loss = Regression(("w1", "w2"), ("w1 * w2 * x",), ("0",), STANDARD).sampled(12, 2)
    square = prior_of(w1="uniform(-1, 1)", w2="uniform(-1, 1)")
    total = 0.0
    for i in range(12):
        rest = posterior(without(loss, i).excess, square, 11 * beta)
        x, e = loss.data[i]
        misfit = rest.points[:, 0] * rest.points[:, 1] * x
        total -= math.log(rest.mean(np.exp(-(misfit**2) / 2 + misfit * e))) / 12
    found = waic(loss, square, beta=beta, tolerance=1e-9)
    assert float(found["cross_validation"]) == pytest.approx(total, abs=1e-8)
    assert abs(float(found["training"]) - total) > 1e-3


def test_data_that_do_not_reduce_to_moments():
    """tanh(w x): every number by brute force on a grid of w, and of fresh x and e."""
    loss = Regression(("w",), ("tanh(2 * w * x)",), ("tanh(x)",), STANDARD).sampled(30, 6)
    assert not loss.is_affine
    found = waic(loss, LINE, beta=0.8, input_nodes=128)
    w = np.linspace(-1, 1, 1001)
    trapezoid = np.where((w == -1) | (w == 1), 0.5, 1.0)

    def excess(x, e):
        misfit = np.tanh(2 * np.multiply.outer(w, x)) - np.tanh(x)
        return misfit**2 / 2 - misfit * e

    losses = excess(*loss.data.T)
    weights = trapezoid * np.exp(-0.8 * losses.sum(axis=1))
    weights /= weights.sum()
    grid = np.linspace(-8, 8, 81)
    x, e = (a.ravel() for a in np.meshgrid(grid, grid))
    chance = np.exp(-(x**2 + e**2) / 2)
    fresh = excess(x, e)
    functional = (weights @ losses**2 - (weights @ losses) ** 2).sum()
    expected = {
        "training": -np.log(weights @ np.exp(-losses)).mean(),
        "functional_variance": functional,
        "waic": -np.log(weights @ np.exp(-losses)).mean() + 0.8 * functional / 30,
        "singular_fluctuation": 0.4 * functional,
        "generalisation": -(np.log(weights @ np.exp(-fresh)) @ chance) / chance.sum(),
        "gibbs_generalisation": weights @ fresh @ chance / chance.sum(),
        "gibbs_training": weights @ losses.mean(axis=1),
    }
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(float(value), abs=2e-6), name


def test_several_outputs_and_inputs():
    """Two copies of one output and an unused input: twice the loss of one, G_n to the accuracy of the nodes."""
    inputs = {"x": Distribution.parse("uniform(-1, 1)"), "z": Distribution.parse("choice(0, 1)")}
    double = Regression(("w",), ("w * x", "w * x"), ("0", "0"), inputs).sampled(50, 1)
    found = waic(double, LINE)
    pooled = dataclasses.replace(
        Regression(("w",), ("w * x",), ("0",), {"x": inputs["x"]}, noise=1.0).sampled(50, 1),
        data=np.column_stack([double.data[:, 0], double.data[:, 2:].mean(axis=1)]),
    )
    # 2 K_n of the pooled residuals is K_n of the pair: the same posterior at twice the inverse temperature.
    single = waic(pooled, LINE, beta=2.0)
    assert float(found["gibbs_training"]) == pytest.approx(2 * float(single["gibbs_training"]), abs=1e-9)
    assert float(found["gibbs_generalisation"]) == pytest.approx(2 * float(single["gibbs_generalisation"]), abs=1e-9)
    assert float(found["population_entropy"]) == pytest.approx(1 + math.log(2 * math.pi))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: waic(power(1).population(), LINE), "needs a model on its samples"),
        (lambda: waic(potential(("w",), "w**2"), LINE), "needs a model on its samples"),
        (lambda: waic(power(1).sampled(5, 1), LINE, beta=0.0), "beta is 0.0"),
        (lambda: expectations(waic(power(1).sampled(5, 1), LINE), 0.5, 0.5), "at least two"),
        (lambda: expectations(waic_over_data_sets(power(1), LINE, 5, (1, 2), beta=0.5), 0.5, 0.5), "beta = 1"),
    ],
)
def test_wrong_input_is_said(call, words):
    with pytest.raises(InputError) as error:
        call()
    assert words in str(error.value)
