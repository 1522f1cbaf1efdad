"""Losses compared with direct sums, direct Gaussian likelihoods, differences, quadrature and Monte Carlo."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from support.checks import check_close, check_covariance, check_gradient, check_law, check_mean

from sandbox.model.loss import Loss
from sandbox.model.prior import Distribution
from sandbox.model.regression import Regression, potential
from sandbox.tools.errors import InputError

LAW = settings(max_examples=40, deadline=None, derandomize=True, database=None)


def inputs(**texts):
    return {name: Distribution.parse(text) for name, text in texts.items()}


def uneven_model(x, w):
    return [w[0] * w[1] ** 2 * x + w[1]]


def tanh_model(x, w):
    return [w[0] * np.tanh(w[1] * x)]


def two_outputs(x, w):
    return [w[0] * w[1] * x + 0.3, w[0] * np.sin(x) + w[1] ** 3]


def two_inputs(x, z, w):
    return [w[0] * x + w[1] * z**2 * x]


# name: regression, the model as plain NumPy, the truth as plain NumPy
REGRESSIONS = {
    "moments": (
        Regression(("w1", "w2"), ("w1 * w2**2 * x + w2",), ("0.4 * x - 0.1",), inputs(x="normal(0.3, 1.1)"), 0.7),
        uneven_model,
        lambda x: [0.4 * x - 0.1],
    ),
    "tanh": (
        Regression(("w1", "w2"), ("w1 * tanh(w2 * x)",), ("sin(x)",), inputs(x="uniform(-2, 1)"), 1.3),
        tanh_model,
        lambda x: [np.sin(x)],
    ),
    "two outputs": (
        Regression(
            ("w1", "w2"),
            ("w1 * w2 * x + 0.3", "w1 * sin(x) + w2**3"),
            ("x**2", "0.2"),
            inputs(x="laplace(0, 0.6)"),
            0.5,
        ),
        two_outputs,
        lambda x: [x**2, 0.2 + 0 * x],
    ),
    "two inputs": (
        Regression(
            ("w1", "w2"), ("w1 * x + w2 * z**2 * x",), ("x",), inputs(x="choice(-1, 1, 2)", z="normal(0, 1)"), 2.0
        ),
        two_inputs,
        lambda x, z: [x],
    ),
    "relu": (
        Regression(("w1", "w2"), ("w1 * relu(x - w2)",), ("relu(x + 1/5)",), inputs(x="laplace(0.1, 0.6)"), 0.9),
        lambda x, w: [w[0] * np.maximum(x - w[1], 0)],
        lambda x: [np.maximum(x + 0.2, 0)],
    ),
}
every_regression = pytest.mark.parametrize("name", REGRESSIONS)


def points(count=6, seed=2):
    return np.random.default_rng(seed).uniform(-1.2, 1.2, (count, 2))


def likelihood(model, truth, data, count, noise, w):
    """Return (L_n, S_n) by scipy's normal log density, sample by sample: y = truth + e."""
    xs, errors = data[:, :count].T, data[:, count:].T
    ys = [f0 + e for f0, e in zip(truth(*xs), errors, strict=True)]
    value = sum(-stats.norm.logpdf(y, f, noise).mean() for y, f in zip(ys, model(*xs, w), strict=True))
    return value, sum(-stats.norm.logpdf(e, 0, noise).mean() for e in errors)


# The values.


def check_likelihood(loss: Loss, name: str, n_inputs: int, noise: float):
    _, model, truth = REGRESSIONS[name]
    for w in points():
        value, entropy = likelihood(model, truth, loss.data, n_inputs, noise, w)
        check_close(loss.value(w[None]), value, 1 + abs(value), 1e-12)
        check_close(loss.excess(w[None]), value - entropy, 1 + abs(value), 1e-12)


@every_regression
def test_sampled_loss_is_the_mean_negative_log_likelihood(name):
    regression = REGRESSIONS[name][0]
    loss = regression.sampled(53, seed=11)
    check_likelihood(loss, name, len(regression.inputs), regression.noise)
    with pytest.raises(AssertionError):
        check_likelihood(loss, name, len(regression.inputs), regression.noise * 1.01)


@every_regression
def test_gradient_and_hessian_are_differences(name):
    regression = REGRESSIONS[name][0]
    for loss in (regression.sampled(53, seed=11), regression.population()):
        check_gradient(loss, points(), loss.gradient(points()))
        for axis in range(2):
            shift = 1e-5 * np.eye(2)[axis]
            slope = (loss.gradient(points() + shift) - loss.gradient(points() - shift)) / 2e-5
            check_close(loss.hessian(points())[:, axis], slope, 1 + np.abs(slope), 1e-8)
        with pytest.raises(AssertionError):
            check_gradient(loss, points(), 1.001 * loss.gradient(points()))


def check_moments(loss: Loss, raw: Loss):
    """Column means give the same result as the sum over all samples."""
    w = points(20)
    check_close(loss.excess(w), raw.excess(w), 1.0 + np.abs(raw.excess(w)), 1e-12)
    check_close(loss.gradient(w), raw.gradient(w), 1.0 + np.abs(raw.gradient(w)), 1e-12)
    check_close(loss.hessian(w), raw.hessian(w), 1.0 + np.abs(raw.hessian(w)), 1e-12)


@pytest.mark.parametrize("name", ["moments", "two outputs", "two inputs"])
def test_moments_agree_with_the_sum_over_samples(name):
    loss = REGRESSIONS[name][0].sampled(211, seed=4)
    assert loss.is_affine
    raw = dataclasses.replace(loss, is_affine=False)
    check_moments(loss, raw)
    shifted = dataclasses.replace(raw, data=raw.data + 1e-3)
    with pytest.raises(AssertionError):
        check_moments(loss, shifted)


def test_only_the_entangled_model_needs_its_samples():
    assert [regression.sampled(5, 1).is_affine for regression, *_ in REGRESSIONS.values()] == [
        True,
        False,
        True,
        True,
        False,
    ]


def test_excess_is_free_of_cancellation_near_the_truth():
    """K_n has full relative precision at a distance of 1e-9, where L_n - S_n has none left."""
    loss = Regression(("w",), ("w * x",), ("0",), inputs(x="normal(0, 1)")).sampled(40, seed=1)
    x, e = loss.data.T
    exact = 1e-18 * np.mean(x**2) / 2 - 1e-9 * np.mean(x * e)
    assert math.isclose(loss.excess(np.array([[1e-9]]))[0], exact, rel_tol=1e-12)


# The population.


def check_population(name, K, w):
    """K(w) = E_x sum_o (f - f0)^2 / (2 sigma^2), by adaptive quadrature over each input's own density."""
    regression, model, truth = REGRESSIONS[name]
    (source,) = regression.inputs.values()

    def integrand(x):
        misfit = sum((f - f0) ** 2 for f, f0 in zip(model(x, w), truth(x), strict=True))
        return misfit / (2 * regression.noise**2) * np.exp(source.log_density(x))

    low, high = source.window
    value, _ = integrate.quad(integrand, low, high, points=[source.centre], epsabs=1e-12, epsrel=1e-11, limit=400)
    check_close(np.asarray(K), value, 1 + value, 1e-9)


@pytest.mark.parametrize("name", ["moments", "tanh", "relu"])
def test_population_is_the_integral_over_the_inputs(name):
    loss = REGRESSIONS[name][0].population()
    for w in points():
        K = loss.excess(w[None])[0]
        check_population(name, K, w)
        with pytest.raises(AssertionError):
            check_population(name, 1.0001 * K + 1e-6, w)


# E x^2 and E x^4 of each family, by hand
SECOND = {
    "normal(0.5, 2)": (0.25 + 4, 0.5**4 + 6 * 0.25 * 4 + 3 * 16),
    "uniform(-1, 3)": (7 / 3, (243 + 1) / 20),
    "laplace(0, 1.5)": (2 * 1.5**2, 24 * 1.5**4),
    "choice(-1, 0, 3)": (10 / 3, 82 / 3),
    2: (4, 16),
}


@pytest.mark.parametrize("text", SECOND)
def test_population_in_closed_form(text):
    """f = w1 x + w2 x^2, truth 0: E f^2 / (2 sigma^2); noise 0.5."""
    loss = Regression(("w1", "w2"), ("w1 * x + w2 * x**2",), ("0",), inputs(x=text), 0.5).population()
    second, fourth = SECOND[text]
    found = [loss.excess(np.array([w]))[0] for w in ((1.0, 0.0), (0.0, 1.0))]
    assert found == pytest.approx([second * 2, fourth * 2], rel=1e-12)


@every_regression
def test_population_is_what_samples_tend_to(name):
    """E K_n = K over 60 data sets, n = 400; z < 4 at one point per model."""
    regression, w = REGRESSIONS[name][0], np.array([[0.8, -0.6]])
    values = np.concatenate([regression.sampled(400, seed).excess(w) for seed in range(60)])
    check_mean(values, regression.population().excess(w)[0])
    with pytest.raises(AssertionError):
        check_mean(values, 1.5 * regression.population().excess(w)[0])


def test_entropy_is_that_of_the_noise():
    regression = REGRESSIONS["two outputs"][0]
    entropy = 2 * stats.norm(0, regression.noise).entropy()
    assert regression.population().entropy == pytest.approx(entropy, rel=1e-12)
    check_mean(np.array([regression.sampled(400, seed).entropy for seed in range(60)]), entropy)


# Fisher information.


def test_fisher_information_is_the_hessian_at_true_parameters_only():
    regression = Regression(("a", "b"), ("a * tanh(b * x)", "a * b"), ("tanh(x)", "1"), inputs(x="normal(0, 1)"), 0.6)
    loss = regression.population()
    true, false = np.array([[1.0, 1.0], [-1.0, -1.0]]), np.array([[0.4, 1.3]])
    check_close(loss.fisher_information(true), loss.hessian(true), 1.0, 1e-10)
    with pytest.raises(AssertionError):
        check_close(loss.fisher_information(false), loss.hessian(false), 1.0, 1e-2)


def test_fisher_information_in_closed_form():
    """f = a b x, noise s: E x^2 / s^2 [[b^2, ab], [ab, a^2]], of rank 1."""
    loss = Regression(("a", "b"), ("a * b * x",), ("0",), inputs(x="normal(0, 2)"), 0.5).population()
    a, b = 0.7, -1.1
    expected = 16 * np.array([[b * b, a * b], [a * b, a * a]])
    check_close(loss.fisher_information(np.array([[a, b]]))[0], expected, 1.0, 1e-12)
    with pytest.raises(InputError, match="no Fisher information"):
        potential(("a",), "a**2").fisher_information(np.zeros((1, 1)))


# The data.

FAMILIES = inputs(u="uniform(-1, 3)", v="normal(1, 2)", s="laplace(-1, 0.5)")


def test_sampled_data_follow_their_distributions():
    """KS at p > 1e-4 for each continuous input and each residual; correlations |z| < 4."""
    loss = Regression(("w",), ("w * u * v * s", "w"), ("0", "0"), FAMILIES, 0.3).sampled(20_000, seed=9)
    laws = [stats.uniform(-1, 4), stats.norm(1, 2), stats.laplace(-1, 0.5), stats.norm(0, 0.3), stats.norm(0, 0.3)]
    for column, law in zip(loss.data.T, laws, strict=True):
        check_law(column, law.cdf)
        with pytest.raises(AssertionError):
            check_law(1.15 * column, law.cdf)
    means, variances = [law.mean() for law in laws], [law.var() for law in laws]
    check_mean(loss.data, np.array(means))
    check_covariance(loss.data, np.diag(variances), np.array(means))


def test_sampled_data_are_a_pure_function_of_the_seed():
    regression = REGRESSIONS["two inputs"][0]
    first, again, other = (regression.sampled(4000, seed).data for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    # Data of neighbouring seeds are independent: 3 correlations of 4000 pairs, |z| < 4.
    assert not (first == other)[:, 1:].any()
    z = [np.corrcoef(a, b)[0, 1] * math.sqrt(4000) for a, b in zip(first.T, other.T, strict=True)]
    assert np.abs(z).max() < 4
    # A longer data set begins with the shorter one.
    assert np.array_equal(regression.sampled(100, 5).data, first[:100])


def test_a_million_samples():
    regression = REGRESSIONS["moments"][0]
    loss, K = regression.sampled(1_000_000, seed=3), regression.population()
    w = points(4)
    # Var K_n <= E loss^2 / n: a few 1e-3 at most here.
    check_close(loss.excess(w), K.excess(w), 1.0, 0.03)
    assert loss.samples == 1_000_000
    assert loss.moments.shape == (len(loss.columns),)


# Potentials.


def test_potential_is_its_expression():
    loss = potential(("w1", "w2"), "(w1 * w2**2)**2 / 2 + sin(w1)")
    w = points()
    a, b = w.T
    check_close(loss.excess(w), a**2 * b**4 / 2 + np.sin(a), 1.0, 1e-14)
    check_close(loss.value(w), loss.excess(w), 1.0, 0.0)
    check_gradient(loss, w, loss.gradient(w))
    check_close(loss.gradient(w), np.stack([a * b**4 + np.cos(a), 2 * a**2 * b**3], axis=1), 1.0, 1e-13)
    assert (loss.samples, loss.entropy, loss.is_affine) == (None, 0.0, True)


@LAW
@given(st.lists(st.floats(-2, 2), min_size=2, max_size=2), st.floats(0.2, 3), st.integers(1, 40), st.integers(0, 99))
def test_likelihood_law_for_any_point_noise_and_data(w, noise, samples, seed):
    regression = dataclasses.replace(REGRESSIONS["moments"][0], noise=noise)
    loss, w = regression.sampled(samples, seed), np.array(w)
    value, entropy = likelihood(uneven_model, lambda x: [0.4 * x - 0.1], loss.data, 1, noise, w)
    scale = 1 + abs(value) + abs(entropy)
    check_close(loss.value(w[None]), value, scale, 1e-11)
    check_close(loss.excess(w[None]), value - entropy, scale, 1e-11)


# Wrong input.


@pytest.mark.parametrize(
    ("build", "where", "says"),
    [
        (lambda: potential(("w1",), "w1 * w2"), ("potential",), "w2"),
        (lambda: potential(("w1",), "w1**"), ("potential",), ""),
        (lambda: potential(("w1", "w2"), "w1", [[1]]), ("gradient_noise", "matrix"), "one row per parameter"),
        (lambda: potential(("w1",), "w1", [[1, "w3"]]), ("gradient_noise", "matrix", 0, 1), "w3"),
        (lambda: potential(("w1", "w2"), "w1", [[1], [1, 2]]), ("gradient_noise", "matrix"), "one length"),
        (lambda: Regression(("w",), ("w * z",), ("0",), inputs(x=2)).population(), ("model", 0), "z"),
        (lambda: Regression(("w",), ("w", "w*z"), ("0", "0"), inputs(x=2)).sampled(3, 1), ("model", 1), "z"),
        (lambda: Regression(("w",), ("w * x",), ("w",), inputs(x=2)).population(), ("truth", 0), "w"),
        (lambda: Regression(("w",), ("w * x",), ("0", "0"), inputs(x=2)).population(), ("truth",), "2 outputs"),
        (
            lambda: Regression(("w",), ("w*a*b*c*d",), ("0",), inputs(a=2, b=2, c=2, d=2)).population(),
            (),
            "at most 3 inputs, found 4",
        ),
    ],
)
def test_errors_say_where(build, where, says):
    with pytest.raises(InputError) as caught:
        build()
    assert caught.value.problems[0].where == where
    assert says in caught.value.problems[0].message
