"""Laws of SGD whose noise depends on the position: drift along W0, collapse, degenerate minima, heavy tails.

Real kernels, 1e5 independent particles unless stated; checks of `support.checks`: |z| < 4 for each moment (false alarm
6e-5), p > 1e-4 for each distribution, 2% for drifts too; fixed seeds.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import mpmath
import numpy as np
import pytest
from scipy import integrate, optimize, stats
from support.checks import check_covariance, check_law, check_mean, check_share, moved, sgd

from sandbox.dynamics.gradients.full import Full
from sandbox.dynamics.gradients.minibatch import Minibatch
from sandbox.dynamics.gradients.noisy import Noisy
from sandbox.dynamics.rules.sgd_models import LabelNoiseSgd, SgdSde
from sandbox.model.prior import Distribution
from sandbox.model.regression import Regression, potential

COUNT = 100_000
SIGNS = {"x": Distribution.parse("choice(-1, 1)")}
NORMAL = {"x": Distribution.parse("normal(0, 1)")}
ONE = Minibatch(minibatch=1, draw="fresh")


def label_noise(eta, deviation):
    return LabelNoiseSgd(rule="label_noise_sgd", learning_rate=eta, label_noise=deviation)


def power_of(k, truth="0"):
    """Return L = (w^k x - y)^2 / 2 with x = +-1; the rule adds noise to its labels."""
    return Regression(("w",), (f"w**{k} * x",), (truth,), SIGNS, noise=1.0).population()


def mean_log(slope):
    """Return E log |1 + slope xi| for a standard normal xi."""
    sides = [-mpmath.inf, -1 / slope, 0, mpmath.inf]
    return float(mpmath.quad(lambda z: mpmath.log(abs(1 + slope * z)) * mpmath.npdf(z), sides))


# 3.2: noise with the covariance of the Hessian makes SGD's law isotropic; the posterior's is 1 / H.


def test_noise_shaped_as_the_curvature_is_no_temperature():
    """C = c H gives S = eta c / (2 - eta H): round to first order in eta, while the posterior's is 1 / (n H)."""
    eta, c, curvature = 0.1, 0.3, np.array([4.0, 0.25])
    loss = potential(("a", "b"), "2*a**2 + b**2/8", np.diag(np.sqrt(c * curvature)).tolist())
    end = moved(loss, sgd(eta), Noisy(), np.zeros((COUNT, 2)), (0, 300))
    check_covariance(end, np.diag(eta * c / (2 - eta * curvature)))
    posterior = np.diag(1 / curvature) * np.trace(np.cov(end.T)) / np.sum(1 / curvature)
    for broken in (posterior, np.eye(2) * eta * c / 2):
        with pytest.raises(AssertionError):
            check_covariance(end, broken)


# 3.3: Kesten's tails: w' = (1 - eta x^2) w + noise has P(|w| > t) ~ t^-alpha with E |1 - eta x^2|^alpha = 1.


def tail_exponent(eta):
    def moment(alpha):
        density = lambda z: abs(1 - eta * z * z) ** alpha * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)  # noqa: E731
        edge = 1 / math.sqrt(eta)
        return 2 * (integrate.quad(density, 0, edge)[0] + integrate.quad(density, edge, 60, limit=400)[0]) - 1

    return optimize.brentq(moment, 0.1, 20)


@pytest.mark.parametrize(("eta", "alpha"), [(0.5, 2.904), (2 / 3, 2.0), (1.0, 1.0908), (1.5, 0.4775)])
def test_tail_exponents_are_the_published_ones(eta, alpha):
    assert tail_exponent(eta) == pytest.approx(alpha, abs=6e-4)


def test_single_samples_have_heavy_tails():
    """At eta = 1 the chance to be beyond 20 t is 20^-alpha of that to be beyond t = 10, alpha = 1.0908: means exist,
    variances do not. With gradient noise of fixed size no particle would be there."""
    eta, alpha = 1.0, tail_exponent(1.0)
    line = Regression(("w",), ("w * x",), ("0",), NORMAL, noise=1.0).population()
    end = np.abs(moved(line, sgd(eta), ONE, np.zeros((8 * COUNT, 1)), (0, 60))[:, 0])
    near, far = int((end > 10).sum()), int((end > 200).sum())
    check_share(far, near, 20.0**-alpha)
    for broken in (alpha + 0.3, alpha - 0.2):
        with pytest.raises(AssertionError):
            check_share(far, near, 20.0**-broken)


# 3.4: label noise along W0 (Blanc et al. 1904.09080; Damian, Ma, Lee 2106.06530) and at a crossing.

HYPERBOLA = Regression(("u", "w"), ("u * w * x",), ("x",), SIGNS, noise=1.0).population()


def imbalance_law(log_imbalance, eta, deviation, steps, finite=True):
    """d ln |u^2 - w^2| / dk = -eta^2 s^2 / (1 - eta S / 2) on u w = 1, S = u^2 + w^2 its sharpness."""

    def rate(_, y):
        sharpness = np.sqrt(np.exp(2 * y) + 4)
        return -(eta**2) * deviation**2 / (1 - finite * eta * sharpness / 2)

    return integrate.solve_ivp(rate, (0, steps), [log_imbalance], rtol=1e-9).y[0, -1]


@pytest.mark.parametrize("eta", [0.1, 0.2])
def test_label_noise_drifts_along_a_hyperbola_to_its_flattest_point(eta):
    """From (2, 1/2): the law with finite steps to 2% of the way; that of vanishing steps misses."""
    deviation, steps = 0.1, round(40 / eta**2)
    start = np.tile([2.0, 0.5], (2_000, 1))
    end = moved(HYPERBOLA, label_noise(eta, deviation), ONE, start, (0, steps))
    begun = math.log(3.75)
    fell = begun - np.log(np.abs(end[:, 0] ** 2 - end[:, 1] ** 2)).mean()
    expected, vanishing = (begun - imbalance_law(begun, eta, deviation, steps, finite) for finite in (True, False))
    assert fell == pytest.approx(expected, rel=0.02)
    assert fell != pytest.approx(vanishing, rel=0.02)
    still = moved(HYPERBOLA, label_noise(eta, 0.0), ONE, start[:5], (0, steps))
    assert np.array_equal(still, start[:5])


def test_label_noise_collapses_onto_a_crossing_while_the_mean_stays():
    """Near the origin of w1 w2 the sum and difference are multiplied by 1 +- eta e: E log |1 + eta e| < 0 a step."""
    eta, steps = 0.3, 60
    crossing = Regression(("a", "b"), ("a * b * x",), ("0",), SIGNS, noise=1.0).population()
    end = moved(crossing, label_noise(eta, 1.0), ONE, np.tile([1e-6, 0.0], (COUNT, 1)), (0, steps))
    both = np.log(np.abs(np.stack([end.sum(axis=1), end[:, 0] - end[:, 1]], axis=1)) / 1e-6)
    rate = mean_log(eta)
    check_mean(both, steps * rate)
    assert both.mean() == pytest.approx(steps * rate, rel=0.02)
    check_mean(end[:, 0] / 1e-6, 1.0)
    with pytest.raises(AssertionError):
        check_mean(both, -steps * eta**2 / 2)


# 3.5: why degenerate minima are sticky: f = w^k x.


def test_a_double_zero_collapses_at_its_lyapunov_exponent():
    """k = 2: w' = w (1 + 2 eta s xi), near 0; to first order the rate is -2 eta^2 s^2."""
    eta, deviation, steps = 0.1, 1.0, 50
    end = moved(power_of(2), label_noise(eta, deviation), ONE, np.full((COUNT, 1), 1e-5), (0, steps))
    fell = np.log(np.abs(end[:, 0]) / 1e-5)
    rate = mean_log(2 * eta * deviation)
    check_mean(fell, steps * rate)
    assert fell.mean() == pytest.approx(steps * rate, rel=0.02)
    with pytest.raises(AssertionError):
        check_mean(fell, steps * -2 * eta**2 * deviation**2)


def test_a_triple_zero_is_left_by_a_bessel_process():
    """k = 3: z = 1/w has z' = z / (1 + a xi / z), a = 3 eta s: a Bessel process of dimension 3, E z^2 grows by 27
    (eta s)^2 a step, and by 15 a^4 / z^2 more because the step is finite."""
    eta, deviation, steps, begun = 0.1, 1.0, 1500, 50.0
    end = moved(power_of(3), label_noise(eta, deviation), ONE, np.full((COUNT, 1), 1 / begun), (0, steps))
    square = end[:, 0] ** -2.0
    check_mean(square, begun**2 + 27 * (eta * deviation) ** 2 * steps)
    grown = square.mean() - begun**2
    assert grown == pytest.approx(27 * (eta * deviation) ** 2 * steps, rel=0.03)
    with pytest.raises(AssertionError):
        check_mean(square, begun**2 + 9 * (eta * deviation) ** 2 * steps)


@pytest.mark.parametrize("k", [2, 3])
def test_gradient_flow_nears_a_degenerate_minimum_by_a_power_of_time(k):
    """On w^2k / 2: w^-(2k-2) = w0^-(2k-2) + k (2k-2) t, errors of first order in the step."""
    start, time = np.linspace(0.3, 1.2, 40)[:, None], 8.0
    exact = (start[:, 0] ** (2.0 - 2 * k) + k * (2 * k - 2) * time) ** (1 / (2.0 - 2 * k))
    coarse, fine = (
        np.abs(moved(power_of(k), sgd(eta), Full(), start, (0, round(time / eta)))[:, 0] - exact).max()
        for eta in (0.008, 0.004)
    )
    assert 1.8 < coarse / fine < 2.2
    assert fine < 2e-3


# 3.6: the stationary law of two layers in balance (Ziyin, Li, Ueda, 2308.06671).


def layers_law(temperature, error):
    """The distribution function of v = u w: p ~ v^-1.5 / C exp(-1/(2T) int (b1 v - b2) / (v C)), normal x, y = x + e.

    C = Var((v x - y) x) = 2 (v - 1)^2 + error^2, E x^2 = E x y = 1.
    """
    v = np.geomspace(1e-4, 12, 40_001)
    spread = 2 * (v - 1) ** 2 + error**2
    force = integrate.cumulative_trapezoid((v - 1) / (v * spread), v, initial=0)
    weight = np.exp(-1.5 * np.log(v) - np.log(spread) - (force - force.min()) / (2 * temperature))
    below = integrate.cumulative_trapezoid(weight, v, initial=0)
    return lambda points: np.interp(points, v, below / below[-1])


def test_the_law_has_the_published_quantiles():
    law = layers_law(0.1, 0.5)
    assert law(np.array([0.65926, 0.95264, 1.24530])) == pytest.approx([0.1, 0.5, 0.9], abs=2e-4)


def test_two_layers_in_balance_have_their_stationary_law():
    """(u w x - y)^2 with T = eta / B = 0.1, by SGD's Ito equation in 240 substeps; at 1.2 T it is refused."""
    eta, error = 0.1, 0.5
    layers = Regression(("u", "w"), ("u * w * x",), ("x",), NORMAL, noise=error).population()
    # Our loss is (f - y)^2 / (2 s^2).
    rule = SgdSde(rule="sgd_sde", learning_rate=2 * error**2 * eta, substeps=240)
    end = moved(layers, rule, ONE, np.ones((8_000, 2)), (0, 50))
    np.testing.assert_allclose(end[:, 0], end[:, 1], rtol=1e-9)
    # The law's tail is v^-3.5, and noise grows like v: Euler steps diverge from there (Hutzenthaler et al. 2011), few
    # less with finer ones. A diverged particle counts as beyond all others.
    v = np.where(np.isfinite(end).all(axis=1), end.prod(axis=1), np.inf)
    assert np.isinf(v).mean() < 0.005
    check_law(v, layers_law(eta, error))
    with pytest.raises(AssertionError):
        check_law(v, layers_law(1.2 * eta, error))


def test_two_layers_with_label_noise_alone_have_a_gamma_law():
    """x = +-1, y = x + s e: v ~ Gamma(1/eta - 1/2, scale eta), and ln |u^2 - w^2| falls by eta^2 / s^2 a step."""
    eta, s, steps = 0.4, 5.0, 600
    layers = Regression(("u", "w"), ("u * w * x",), ("x",), SIGNS, noise=s).population()
    rule = SgdSde(rule="sgd_sde", learning_rate=eta, substeps=40)
    end = moved(layers, rule, ONE, np.tile([1.5, 0.6], (8_000, 1)), (0, steps))
    fell = np.log(np.abs(end[:, 0] ** 2 - end[:, 1] ** 2) / (1.5**2 - 0.6**2)).mean()
    assert fell == pytest.approx(-(eta**2) / s**2 * steps, rel=0.02)
    check_law(end.prod(axis=1), stats.gamma(1 / eta - 0.5, scale=eta).cdf)
    with pytest.raises(AssertionError):
        check_law(end.prod(axis=1), stats.gamma(1 / eta, scale=eta).cdf)


# 3.10: shuffled epochs follow a loss of their own (Smith, Dherin, Barrett, De, 2101.12176).

CURVATURE, CENTRE = np.array([0.5, 1.0, 2.0, 0.3]), np.array([1.0, -0.5, 0.2, 2.0])


def epoch_mean(eta, w, orders):
    """Return the mean of w after an epoch of steps on h (w - c)^2 / 2, over the given orders."""
    ends = []
    for order in orders:
        v = w
        for k in order:
            v -= eta * CURVATURE[k] * (v - CENTRE[k])
        ends.append(v)
    return float(np.mean(ends))


def modified_flow(eta, w, shuffled=True):
    """Return the end of the flow of L + eta/4 |L'|^2 + eta/(4 m) sum |L_k' - L'|^2 after the epoch's time m eta."""
    m, mean = len(CURVATURE), CURVATURE.mean()

    def slope(_, v):
        each = CURVATURE * (v[0] - CENTRE)
        force = each.mean()
        extra = np.mean((each - force) * (CURVATURE - mean)) if shuffled else 0.0
        return [-(force + eta / 2 * (force * mean + extra))]

    return integrate.solve_ivp(slope, (0, m * eta), [w], rtol=1e-12, atol=1e-14).y[0, -1]


def test_shuffled_epochs_follow_the_modified_loss():
    """All 24 orders by hand: the modified flow leaves an error of third order; the kernel has the orders' mean."""
    orders = list(itertools.permutations(range(4)))
    errors = [abs(epoch_mean(eta, 1.5, orders) - modified_flow(eta, 1.5)) for eta in (0.04, 0.02)]
    assert 6 < errors[0] / errors[1] < 10
    plain = [abs(epoch_mean(eta, 1.5, orders) - modified_flow(eta, 1.5, shuffled=False)) for eta in (0.04, 0.02)]
    assert 3 < plain[0] / plain[1] < 5
    data = np.stack([np.sqrt(CURVATURE), np.sqrt(CURVATURE) * CENTRE], axis=1)
    line = Regression(("w",), ("w * x",), ("0",), NORMAL, noise=1.0).sampled(4, seed=1)
    loss = dataclasses.replace(line, data=data)
    eta = 0.3
    end = moved(loss, sgd(eta), Minibatch(minibatch=1, draw="reshuffled"), np.full((COUNT, 1), 1.5), (0, 4))
    check_mean(end, epoch_mean(eta, 1.5, orders))
    replaced = list(itertools.product(range(4), repeat=4))
    with pytest.raises(AssertionError):
        check_mean(end, epoch_mean(eta, 1.5, replaced))
