"""Laws of SGD's relatives: momentum, Gaussian models of the minibatch's noise, SGD's Ito equation, label noise.

Ensembles of 1e5 independent particles; checks of `support.checks`: |z| < 4 for each moment (false alarm 6e-5).
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import linalg
from support.checks import check_close, check_covariance, check_mean, moved

from sandbox.dynamics.gradients.full import Full
from sandbox.dynamics.gradients.gaussian import Gaussian
from sandbox.dynamics.gradients.minibatch import Minibatch
from sandbox.dynamics.gradients.noisy import Noisy
from sandbox.dynamics.rules.sgd import Sgd
from sandbox.dynamics.rules.sgd_models import IsotropicSgd, LabelNoiseSgd, SgdSde
from sandbox.model.prior import Distribution
from sandbox.model.regression import Regression, potential

COUNT = 100_000
NORMAL = Distribution.parse("normal(0, 1)")

H = np.array([[2.0, 1.0], [1.0, 3.0]])
B = np.array([[0.5, 0.0], [-0.4, 0.2]])
C = B @ B.T
QUADRATIC = potential(("a", "b"), "a**2 + a*b + 3*b**2/2", B.tolist())


def sgd(rate, **settings):
    return Sgd(rule="sgd", learning_rate=rate, **settings)


# Momentum on a quadratic with additive noise; H and C do not commute.


def joint_covariance(eta, mu, ahead=0.0):
    """Return the covariance of the position, by the discrete Lyapunov equation of it and v' = mu v + H w + B xi.

    The step takes v' (ahead = 0), or H w + B xi + mu v' (Nesterov, ahead = 1).
    """
    one = np.eye(2)
    kick = np.block([[H, mu * one]])
    used = (1 - ahead) * kick + ahead * (np.block([[H, 0 * one]]) + mu * kick)
    step = np.vstack([np.block([[one, 0 * one]]) - eta * used, kick])
    noise = np.vstack([-eta * ((1 - ahead) + ahead * (1 + mu)) * B, B])
    return linalg.solve_discrete_lyapunov(step, noise @ noise.T)[:2, :2]


def heavy_ball_residual(s, eta, mu):
    """Return the matrix of the stationary equation of the position alone (Liu, Ziyin and Ueda 2021, 2012.03636)."""
    return (
        (1 - mu) * (H @ s + s @ H)
        - (1 + mu**2) / (1 - mu**2) * eta * H @ s @ H
        + mu / (1 - mu**2) * eta * (H @ H @ s + s @ H @ H)
        - eta * C
    )


def test_the_published_equation_of_momentum_is_that_of_the_pair():
    assert np.abs(H @ C - C @ H).max() > 0.1
    for mu in (0.0, 0.5, 0.9):
        assert np.abs(heavy_ball_residual(joint_covariance(0.2, mu), 0.2, mu)).max() < 1e-12
    for wrong in ((0.25, 0.6), (0.2, 0.65)):
        assert np.abs(heavy_ball_residual(joint_covariance(0.2, 0.6), *wrong)).max() > 1e-3


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_has_the_covariance_of_its_lyapunov_equation(nesterov):
    eta, mu = 0.2, 0.6
    rule = sgd(eta, momentum=mu, nesterov=nesterov)
    end = moved(QUADRATIC, rule, Noisy(), np.zeros((COUNT, 2)), (0, 150))
    check_mean(end, 0.0)
    check_covariance(end, joint_covariance(eta, mu, float(nesterov)))
    # The other convention, v' = mu v + (1 - mu) g; the small-step law; the other kind of momentum.
    slow, small = joint_covariance(eta * (1 - mu), mu), linalg.solve_continuous_lyapunov(H, eta / (1 - mu) * C)
    for broken in (slow, small, joint_covariance(eta, mu, float(not nesterov))):
        with pytest.raises(AssertionError):
            check_covariance(end, broken)


# One step of the Gaussian models, from one point: the moments are those of a minibatch.

POINT = np.array([0.8, -0.6])
BATCH, COUNTED = 4, 9
RATE = 0.5


def one_step(loss, gradient, rule=None):
    """Return the noise of one step over the learning rate, and check its mean."""
    end = moved(loss, rule or sgd(RATE), gradient, np.tile(POINT, (COUNT, 1)), (0, 1))
    noise = (POINT - end) / RATE
    check_mean(noise, loss.gradient(POINT[None])[0])
    return noise - loss.gradient(POINT[None])[0]


def per_sample(loss, outputs):
    """Return the gradient of each sample, by hand: residual times slope; `outputs` gives f - f0 and its slopes."""
    x, e = loss.data.T
    misfit, slopes = outputs(x)
    return ((misfit - e) * slopes / SIGMA**2).T


SIGMA = 0.7
CROSSING = Regression(("a", "b"), ("a * b * x",), ("0",), {"x": NORMAL}, noise=SIGMA)
TANH = Regression(("a", "b"), ("a * tanh(b * x)",), ("0",), {"x": NORMAL}, noise=SIGMA)
RELU = Regression(("a", "b"), ("a * relu(-b * x)",), ("relu(x)",), {"x": NORMAL}, noise=SIGMA)


def crossing_parts(x):
    a, b = POINT
    return a * b * x, np.array([b * x, a * x])


def tanh_parts(x):
    a, b = POINT
    return a * np.tanh(b * x), np.array([np.tanh(b * x), a * x / np.cosh(b * x) ** 2])


def relu_parts(x):
    a, b = POINT
    return a * np.maximum(-b * x, 0) - np.maximum(x, 0), np.array([np.maximum(-b * x, 0), -a * x * (-b * x > 0)])


CLOSED = {"crossing": (CROSSING, crossing_parts), "tanh": (TANH, tanh_parts), "relu": (RELU, relu_parts)}


@pytest.mark.parametrize("name", CLOSED)
def test_gaussian_noise_of_data_has_the_minibatchs_covariance(name):
    """C/B over the samples with replacement; (n - B)/(n - 1) of that without; all of it in the trace if isotropic."""
    model, parts = CLOSED[name]
    loss = model.sampled(COUNTED, 3)
    c = np.cov(per_sample(loss, parts).T, bias=True) / BATCH
    share = (COUNTED - BATCH) / (COUNTED - 1)
    flat = np.trace(c) / 2 * np.eye(2)
    kept, distinct = (Minibatch(minibatch=BATCH, draw=f"with{out}_replacement") for out in ("", "out"))
    gaussian = one_step(loss, kept, SgdSde(rule="sgd_sde", learning_rate=RATE))
    isotropic = one_step(loss, distinct, IsotropicSgd(rule="isotropic_sgd", learning_rate=RATE))
    check_covariance(gaussian, c)
    check_covariance(isotropic, share * flat)
    check_covariance(one_step(loss, Gaussian(gaussian=BATCH, draw="without_replacement")), share * c)
    # Normal: the fourth moment of a coordinate is 3 variances squared, unlike that of nine samples.
    check_mean(gaussian[:, 0] ** 4, 3 * c[0, 0] ** 2)
    for noise, broken in ((gaussian, share * c), (gaussian, flat), (isotropic, flat), (isotropic, share * c)):
        with pytest.raises(AssertionError):
            check_covariance(noise, broken)


def fresh_covariance(name):
    """Of one fresh sample's gradient, with inputs and observation noise: E x^4 = 3 E x^2 = 3, halved if x > 0 only."""
    a, b = POINT
    if name == "crossing":
        return (2 * (a * b) ** 2 + SIGMA**2) * np.outer([b, a], [b, a]) / SIGMA**4
    # For x > 0, f - f0 = c x with c = -a b - 1, and the slopes are (-b, -a) x.
    c = -a * b - 1
    return (c**2 * (3 / 2 - 1 / 4) + SIGMA**2 / 2) * np.outer([b, a], [b, a]) / SIGMA**4


@pytest.mark.parametrize("name", ["crossing", "relu"])
def test_gaussian_noise_of_fresh_samples_has_inputs_and_observation_noise_in_it(name):
    loss = CLOSED[name][0].population()
    noise = one_step(loss, Gaussian(gaussian=BATCH, draw="fresh"))
    check_covariance(noise, fresh_covariance(name) / BATCH)
    with pytest.raises(AssertionError):
        check_covariance(noise, (fresh_covariance(name) - np.outer(*[POINT[::-1]] * 2) / SIGMA**2) / BATCH)
    isotropic = one_step(loss, Gaussian(gaussian=BATCH, draw="fresh", covariance="isotropic"))
    check_covariance(isotropic, np.trace(fresh_covariance(name)) / BATCH / 2 * np.eye(2))


# SGD's Ito equation: additive and multiplicative noise.

LINE = Regression(("a",), ("a * x",), ("0",), {"x": NORMAL}, noise=SIGMA)
ETA, START = 0.4, 1.2


def second_moments(steps, substeps, batch=2):
    """Return E w^2 of the Euler scheme: drift w / s^2, and noise of covariance (2 w^2 + s^2) / s^4 per sample."""
    small = ETA / substeps
    moment = START**2
    for _ in range(steps * substeps):
        grown = (1 - small / SIGMA**2) ** 2 * moment
        moment = grown + small * ETA / batch * (2 * moment + SIGMA**2) / SIGMA**4
    return moment


def ito_moment(time, batch=2):
    """Return E w^2 of the equation: it decays at the rate 2 / s^2 - 2 eta / (B s^4) to its stationary value."""
    rate = 2 / SIGMA**2 - 2 * ETA / batch / SIGMA**4
    end = ETA / batch / SIGMA**2 / rate
    return end + (START**2 - end) * math.exp(-rate * time)


@pytest.mark.parametrize("substeps", [1, 8])
def test_the_ito_equation_has_its_schemes_second_moment(substeps):
    """Noise that grows with w, at finite time; the specimens lack the root of `substeps`, or take a single step."""
    rule = SgdSde(rule="sgd_sde", learning_rate=ETA, substeps=substeps)
    batch = Minibatch(minibatch=2, draw="fresh")
    end = moved(LINE.population(), rule, batch, np.full((COUNT, 1), START), (0, 3))
    check_mean(end[:, 0] ** 2, second_moments(3, substeps))
    with pytest.raises(AssertionError):
        check_mean(end[:, 0] ** 2, second_moments(3, 9 - substeps))


def test_the_scheme_is_of_weak_order_one():
    """Halving the substep halves the error in E w^2; the test above checks the kernels against its limit."""
    errors = [second_moments(3, k) - ito_moment(3 * ETA) for k in (16, 32, 64, 128)]
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    assert orders == pytest.approx([1, 1, 1], abs=0.2)
    assert orders[-1] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("substeps", [1, 5])
def test_declared_noise_of_a_potential_has_an_ito_equation_too(substeps):
    """H S + S H - (eta/k) H S H = eta C: the term of order eta is that of the substep."""
    eta = 0.3
    rule = SgdSde(rule="sgd_sde", learning_rate=eta, substeps=substeps)
    end = moved(QUADRATIC, rule, Noisy(), np.zeros((COUNT, 2)), (0, 60))
    step = np.eye(2) - eta / substeps * H
    expected = linalg.solve_discrete_lyapunov(step, eta**2 / substeps * C)
    check_covariance(end, expected)
    with pytest.raises(AssertionError):
        check_covariance(end, linalg.solve_continuous_lyapunov(H, eta * C))


# Label noise on interpolated data: x = +-1 is a finite data set.

POINTS = Regression(("a",), ("a * x",), ("x/2",), {"x": Distribution.parse("choice(-1, 1)")}, noise=1.0)


def label_noise(eta, deviation):
    return LabelNoiseSgd(rule="label_noise_sgd", learning_rate=eta, label_noise=deviation)


def test_label_noise_replaces_the_models_own():
    """k = 1 of f = w^k x: an autoregression of variance eta s^2 / (B (2 - eta)), s that of the labels."""
    eta, s, batch = 0.3, 0.4, 2
    draw = Minibatch(minibatch=batch, draw="fresh")
    end = moved(POINTS.population(), label_noise(eta, s), draw, np.full((COUNT, 1), 0.5), (0, 60))
    check_mean(end[:, 0], 0.5)
    square = (end[:, 0] - 0.5) ** 2
    check_mean(square, eta * s**2 / (batch * (2 - eta)))
    for broken in (1.0, math.hypot(1, s)):
        with pytest.raises(AssertionError):
            check_mean(square, eta * broken**2 / (batch * (2 - eta)))


PRODUCT = Regression(("a", "b"), ("a * b * x",), ("0",), {"x": Distribution.parse("choice(-1, 1)")}, noise=1.0)


def test_label_noise_keeps_the_balance_but_for_the_square_of_the_step():
    """u'^2 - w'^2 = (u^2 - w^2)(1 - (u' - u)(w' - w)/(u w)): (u' - u)/w = (w' - w)/u = -eta A (2308.06671)."""
    start = np.random.default_rng(1).uniform(0.5, 1.5, (2000, 2))
    end = moved(PRODUCT.population(), label_noise(0.2, 0.8), Minibatch(minibatch=3, draw="fresh"), start, (0, 1))
    moves = (end - start) / start[:, ::-1]
    check_close(moves[:, 0], moves[:, 1], 1.0, 1e-12)
    balance = start[:, 0] ** 2 - start[:, 1] ** 2
    kept = end[:, 0] ** 2 - end[:, 1] ** 2
    check_close(kept, balance * (1 - moves[:, 0] ** 2), 1.0, 1e-12)
    with pytest.raises(AssertionError):
        check_close(kept, balance, 1.0, 1e-12)


def drift(rate_of, a, steps):
    """Return log a after `steps` in which it falls by rate_of(a) each."""
    level = math.log(a)
    for _ in range(steps):
        level -= rate_of(math.exp(level))
    return level


def test_label_noise_drifts_along_w0_to_the_crossing():
    """On b = 0 the variance of b is eta s^2 / (B (2 - eta a^2)), and each step shrinks a by eta times that.

    To first order that is the drift -(eta^2 s^2 / 4 B) grad tr H of Blanc et al. 2020, tr H = a^2; the correction
    1 / (1 - eta a^2 / 2) is that of Damian, Ma and Lee 2021. Without label noise nothing moves along W0.
    """
    eta, s, batch, steps = 0.1, 1.0, 2, 150
    start = np.tile([2.5, 0.0], (20_000, 1))
    draw = Minibatch(minibatch=batch, draw="fresh")
    end = moved(PRODUCT.population(), label_noise(eta, s), draw, start, (0, steps))
    fell = math.log(2.5) - float(np.log(end[:, 0]).mean())
    first = drift(lambda a: eta**2 * s**2 / (2 * batch), 2.5, steps)
    exact = drift(lambda a: eta**2 * s**2 / (batch * (2 - eta * a**2)), 2.5, steps)
    assert fell == pytest.approx(math.log(2.5) - exact, rel=0.02)
    assert fell != pytest.approx(math.log(2.5) - first, rel=0.02)
    still = moved(PRODUCT.population(), sgd(eta), Full(), start[:5], (0, steps))
    assert np.array_equal(still, start[:5])
