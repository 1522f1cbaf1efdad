"""Quantities that the real kernels conserve or change by an exact rule: symmetries, gradient flow, large steps.

Identities hold per step to rounding; laws of ensembles by `support.checks` (|z| < 4, p > 1e-4, fixed seeds).
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from support.checks import check_close, check_law, check_mean, check_share, langevin, moved, sgd

from sandbox.dynamics.gradients.full import Full
from sandbox.dynamics.gradients.minibatch import Minibatch
from sandbox.model.prior import Distribution
from sandbox.model.regression import Regression, potential

NORMAL_INPUT = {"x": Distribution.parse("normal(0, 1)")}
DRAWS = ("with_replacement", "without_replacement", "reshuffled", "fresh")
EXACT = 1e-12
CROSSING = potential(("w1", "w2"), "w1**2 * w2**2 / 2")
UNEVEN = potential(("w1", "w2"), "w1**2 * w2**4 / 2")
LINEAR_NET = potential(("w1", "w2"), "(1 - w1 * w2)**2 / 2")


def square(count, seed=1, low=-1.0, high=1.0, size=2):
    return np.random.default_rng(seed).uniform(low, high, (count, size))


def regression(parameters, model, truth, draw, samples=37):
    model = Regression(parameters, (model,), (truth,), NORMAL_INPUT, noise=0.7)
    return model.population() if draw == "fresh" else model.sampled(samples, seed=3)


def steps_of(loss, draw, eta, points, count=4):
    """Return the pairs (before, after) of the first steps, one call of the kernel each."""
    pairs = []
    for step in range(count):
        after = moved(loss, sgd(eta), Minibatch(minibatch=5, draw=draw), points, (step, step + 1))
        pairs.append((points, after))
        points = after
    return pairs


# 3.1a: the law of balance at a finite step (Ziyin, Li, Ueda, 2308.06671, give its continuum).


def check_balance(before, after, eta, order=2):
    """u'^2 - w'^2 = (u^2 - w^2)(1 - eta^2 A^2), with A, the batch mean of dl/d(uw), read off the step of u."""
    (u, w), (u1, w1) = before.T, after.T
    A = (u - u1) / (eta * w)
    expected = (u**2 - w**2) * (1 - (eta**2 * A**2 if order == 2 else 0))
    check_close(u1**2 - w1**2, expected, u**2 + w**2, EXACT)


@pytest.mark.parametrize("draw", DRAWS)
def test_products_of_two_keep_their_balance_but_for_the_square_of_the_step(draw):
    model = "tanh(u * w * x)" if draw == "reshuffled" else "u * w * x"
    loss = regression(("u", "w"), model, "0.8 * x", draw)
    start = square(2000, low=0.5, high=1.5) * np.where(square(2000, seed=2) < 0, -1, 1)
    for before, after in steps_of(loss, draw, 0.03, start):
        check_balance(before, after, 0.03)
    with pytest.raises(AssertionError):
        check_balance(before, after, 0.03, order=1)


# 3.1b: a loss that is constant under w -> exp(sQ) w (Ziyin, Wang, Li, Wu, 2402.07193).


def check_symmetry(before, after, eta, charges):
    """w'^T Q w' - w^T Q w = eta^2 g^T Q g with g = (w - w') / eta and Q = diag(charges)."""
    g = (before - after) / eta
    change = (after**2 - before**2) @ charges
    assert np.abs(change).max() > 1e-7, "the step is too small to tell"
    check_close(change, eta**2 * g**2 @ charges, (before**2).sum(axis=1), EXACT)


SYMMETRIC = {
    "product of three": (("w1", "w2", "w3"), "w1 * w2 * w3 * x", [(1, -1, 0), (0, 1, -1)], (1, 1, -1)),
    "relu": (("a", "b"), "a * relu(b * x)", [(1, -1)], (1, -2)),
    "pendulum": (
        ("v0", "g", "t"),
        "x * cos(sqrt(g) * t) + v0 / sqrt(g) * sin(sqrt(g) * t)",
        [(1, 2, -1)],
        (1, 1, -1),
    ),
}


@pytest.mark.parametrize("name", SYMMETRIC)
def test_rescaling_symmetries_hold_at_every_minibatch_step(name):
    parameters, model, symmetries, broken = SYMMETRIC[name]
    loss = regression(parameters, model, "0.6 * x", "with_replacement")
    start = square(2000, low=0.7, high=1.4, size=len(parameters))
    for before, after in steps_of(loss, "with_replacement", 0.02, start, count=3):
        for charges in symmetries:
            check_symmetry(before, after, 0.02, np.array(charges))
        with pytest.raises(AssertionError):
            check_symmetry(before, after, 0.02, np.array(broken))


# 3.1c: gradient flow, as the limit of small steps.


def check_still(points, start):
    """No bit has changed."""
    assert np.array_equal(points, start)


@pytest.mark.parametrize("draw", DRAWS)
def test_sgd_never_moves_along_the_line(draw):
    """f = w1 x does not depend on w2, so SGD keeps every bit of it, for any minibatch; Langevin does not."""
    loss = regression(("w1", "w2"), "w1 * x", "0.5 * x", draw)
    start = square(300)
    end = moved(loss, sgd(0.1), Minibatch(minibatch=4, draw=draw), start, (0, 200))
    check_still(end[:, 1], start[:, 1])
    assert np.abs(end[:, 0] - start[:, 0]).min() > 0


def test_langevin_diffuses_along_an_open_flat_direction():
    """Var w2 grows by 2 h a step: 2 T t at temperature T = 1 / nbeta with time t = h nbeta per step. z < 4."""
    flat = potential(("w1", "w2"), "w1**2 / 2")
    h, steps, start = 0.05, 400, np.zeros((100_000, 2))
    end = moved(flat, langevin(h), Full(), start, (0, steps), nbeta=4.0)
    check_mean(end[:, 1] ** 2, 2 * h * steps)
    check_mean(end[:, 1], 0.0)
    with pytest.raises(AssertionError):
        check_mean(end[:, 1] ** 2, h * steps)
    with pytest.raises(AssertionError):
        check_still(end[:, 1], start[:, 1])


def check_first_order(at_step, at_half_step, exact):
    """Errors halve with the step (to 10%), and extrapolation to step 0 leaves under a tenth of the finer error."""
    coarse, fine = (np.abs(found - exact).max() for found in (at_step, at_half_step))
    assert 1.8 < coarse / fine < 2.2, f"errors {coarse:.3g} and {fine:.3g}"
    assert np.abs(2 * at_half_step - at_step - exact).max() < 0.1 * fine


def flow_ends(loss, start, eta, time):
    return moved(loss, sgd(eta), Full(), start, (0, round(time / eta)))


def uneven_charge(points, a=1, b=2):
    """Return w1^2 / a - w2^2 / b, which gradient flow keeps on K = w1^(2a) w2^(2b)."""
    return points[:, 0] ** 2 / a - points[:, 1] ** 2 / b


@pytest.mark.parametrize(("loss", "a", "b"), [(CROSSING, 1, 1), (UNEVEN, 1, 2)])
def test_gradient_flow_keeps_its_charge(loss, a, b):
    start = square(2000)
    ends = [flow_ends(loss, start, eta, 20.0) for eta in (0.02, 0.01)]
    check_first_order(*(uneven_charge(end, a, b) for end in ends), uneven_charge(start, a, b))
    with pytest.raises(AssertionError):
        check_first_order(*(uneven_charge(end, a, b + 1) for end in ends), uneven_charge(start, a, b + 1))


@pytest.fixture(scope="module")
def uneven_ends():
    start = square(100_000)
    return start, flow_ends(UNEVEN, start, 0.02, 400.0)


@pytest.mark.slow
def test_gradient_flow_picks_the_flat_arm_of_the_uneven_crossing_by_its_charge(uneven_ends):
    """P(end on w2 = 0) = 1 - 1/(2 sqrt 2) from U[-1, 1]^2, by the charge's sign at the end. z < 4."""
    _, end = uneven_ends
    share = 1 - 1 / (2 * np.sqrt(2))
    check_share(int((uneven_charge(end) > 0).sum()), len(end), share)
    # If the charge were w1^2 - w2^2, as for the even crossing, half would end there.
    with pytest.raises(AssertionError):
        check_share(int((uneven_charge(end, 1, 1) > 0).sum()), len(end), 0.5)


@pytest.mark.slow
def test_gradient_flow_reaches_the_arm_that_its_charge_names(uneven_ends):
    """The positions themselves: near (sqrt c, 0) for c > 0, near (0, sqrt(-2 c)) for c < 0.

    Starts with |c| < 0.1 are left out: they stay near the origin for a time that grows like 1 / c^2.
    """
    start, end = uneven_ends
    c = uneven_charge(start)
    flat, sharp = c > 0.1, c < -0.1
    assert (np.abs(end[flat, 1]) < np.abs(end[flat, 0])).all()
    assert (np.abs(end[sharp, 0]) < np.abs(end[sharp, 1])).all()
    # On the sharp arm the decay is exponential: the end point is reached up to the first-order drift of the step.
    check_close(np.abs(end[sharp, 1]), np.sqrt(-2 * c[sharp]), 1.0, 0.02)
    check_close(end[sharp, 0], 0.0, 1.0, 1e-3)
    # On the flat arm w2 decays like 1 / sqrt(4 w1^2 t) at time t: (dw2/dt) = -2 w1^2 w2^3.
    check_close(end[flat, 1] * 2 * np.abs(end[flat, 0]) * np.sqrt(400.0), 0.0, 1.0, 1.05)
    with pytest.raises(AssertionError):
        check_close(end[sharp, 1], -np.sqrt(-c[sharp]), 1.0, 0.02)


@pytest.mark.slow
def test_gradient_flow_ends_on_the_crossing_by_the_law_of_its_charge():
    """r = |w1^2 - w2^2|^(1/2) from U[-1, 1]^2: F(s) = 1 - sqrt(1-q) + q log((1 + sqrt(1-q)) / sqrt q), q = s^2."""

    def cdf(s):
        q = np.clip(np.asarray(s) ** 2, 1e-300, 1)
        return 1 - np.sqrt(1 - q) + q * np.log((1 + np.sqrt(1 - q)) / np.sqrt(q))

    end = flow_ends(CROSSING, square(20_000), 0.02, 1000.0)
    check_law(np.linalg.norm(end, axis=1), cdf)
    with pytest.raises(AssertionError):
        check_law(np.linalg.norm(end, axis=1), lambda s: np.clip(s, 0, 1))


# 3.10: gradient descent with large steps on the crossing (Lewkowycz et al., 2003.02218).


def check_large_step(before, after, eta, quartic=4.0):
    """f' = f (1 - eta S + eta^2 f^2) and S' = S + eta f^2 (eta S - 4), for f = w1 w2 and S = w1^2 + w2^2."""
    f, S = before.prod(axis=1), (before**2).sum(axis=1)
    check_close(after.prod(axis=1), f * (1 - eta * S + eta**2 * f**2), 1 + S**2, EXACT)
    check_close((after**2).sum(axis=1), S + eta * f**2 * (eta * S - quartic), 1 + S**3, EXACT)


def test_gradient_descent_on_the_crossing_follows_its_two_exact_maps():
    points, eta = square(2000, low=-2, high=2), 0.7
    for step in range(3):
        after = moved(CROSSING, sgd(eta), Full(), points, (step, step + 1))
        check_large_step(points, after, eta)
        with pytest.raises(AssertionError):
            check_large_step(points, after, eta, quartic=2.0)
        points = after[np.abs(after).max(axis=1) < 2]


def test_catapult_ends_flatter_and_beyond_four_it_diverges():
    """Near the arm w2 = 0 with sharpness S: 2 < eta S < 4 ends at eta S < 2, eta S > 4 diverges and stays visible."""
    eta = 0.5
    S = np.linspace(1.0, 10.0, 181)
    start = np.stack([np.sqrt(S), np.full_like(S, 1e-3)], axis=1)
    end = moved(CROSSING, sgd(eta), Full(), start, (0, 3000))
    finite = np.isfinite(end).all(axis=1)
    caught = (eta * S > 2.01) & (eta * S < 3.9)
    assert finite[eta * S < 3.9].all()
    assert not finite[eta * S > 4.1].any()
    flat = (end[caught] ** 2).sum(axis=1)
    assert (eta * flat < 2).all()
    # A particle that ends just under the edge settles slowly.
    check_close(end[caught].prod(axis=1), 0.0, 1.0, 1e-5)
    # Below the edge there is no catapult: the arm keeps its sharpness.
    check_close((end[eta * S < 1.9] ** 2).sum(axis=1), S[eta * S < 1.9], 1.0, 1e-4)


# 3.11: the deep linear network's time course (Saxe, McClelland, Ganguli, 1312.6120).


def logistic(v0, time, speed=2.0):
    """v(t) for dv/dt = 2 v (1 - v), the balanced network's product."""
    return 1 / (1 + (1 / v0 - 1) * np.exp(-speed * time))


def test_balanced_linear_network_learns_along_a_logistic():
    start = np.repeat(np.linspace(0.1, 0.6, 50)[:, None], 2, axis=1)
    v0 = start.prod(axis=1)
    for time in (0.5, 1.5, 3.0):
        products = [flow_ends(LINEAR_NET, start, eta, time).prod(axis=1) for eta in (0.002, 0.001)]
        check_first_order(*products, logistic(v0, time))
        with pytest.raises(AssertionError):
            check_first_order(*products, logistic(v0, time, speed=1.9))


def test_unbalanced_linear_network_solves_its_own_equation():
    """dv/dt = sqrt(delta^2 + 4 v^2)(1 - v) with delta = w1^2 - w2^2 kept, solved by Runge-Kutta."""
    start = square(40, low=0.1, high=1.2)
    delta = start[:, 0] ** 2 - start[:, 1] ** 2
    solution = solve_ivp(
        lambda _, v: np.sqrt(delta**2 + 4 * v**2) * (1 - v), (0, 1.0), start.prod(axis=1), rtol=1e-10, atol=1e-12
    )
    check_first_order(
        *(flow_ends(LINEAR_NET, start, eta, 1.0).prod(axis=1) for eta in (0.002, 0.001)), solution.y[:, -1]
    )
