"""Stationary laws of SGD and Langevin on the real kernels, each with the bias of its finite step.

Ensembles of 1e5 independent particles, started at the centre or in the law, run to stationarity; `support.checks`:
|z| < 4 for each moment (false alarm 6e-5), p > 1e-4 for each distribution; fixed seeds.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
from scipy import linalg, stats
from support.checks import check_counts, check_covariance, check_law, check_mean, langevin, moved, prior_of, sgd

from sandbox.dynamics.gradients.full import Full
from sandbox.dynamics.gradients.minibatch import Minibatch
from sandbox.dynamics.gradients.noisy import Noisy
from sandbox.model.prior import Distribution
from sandbox.model.regression import Regression, potential

COUNT = 100_000


# 3.2: additive noise on a quadratic (Liu, Ziyin, Ueda, 2012.03636).

H = np.array([[2.0, 1.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, 1.0]])
B = np.array([[0.5, 0.0, 0.0], [-0.4, 0.2, 0.0], [0.0, 0.0, 0.7]])
C = B @ B.T


def lyapunov(eta, second_order=True):
    """Return S of H S + S H - eta H S H = eta C, by brute force on the entries, or without the last term."""
    one = np.eye(3)
    system = np.kron(H, one) + np.kron(one, H) - second_order * eta * np.kron(H, H)
    return np.linalg.solve(system, eta * C.ravel()).reshape(3, 3)


def test_sgd_with_additive_noise_has_the_covariance_of_its_lyapunov_equation():
    """H and C do not commute in the first two coordinates; the third is the law in one dimension."""
    eta = 0.25
    assert np.abs(H @ C - C @ H).max() > 0.1
    loss = potential(("a", "b", "c"), "a**2 + a*b + 3*b**2/2 + c**2/2", B.tolist())
    end = moved(loss, sgd(eta), Noisy(), np.zeros((COUNT, 3)), (0, 150))
    check_covariance(end, lyapunov(eta))
    check_mean(end, 0.0)
    check_mean(end[:, 2] ** 2, eta * C[2, 2] / (2 - eta))
    commuting = eta * C @ np.linalg.inv(2 * H - eta * H @ H)
    for broken in (lyapunov(eta, second_order=False), (commuting + commuting.T) / 2, 2 * lyapunov(eta)):
        with pytest.raises(AssertionError):
            check_covariance(end, broken)


# 3.3: minibatch noise on f = w1 x, truth x / 2. The loss is divided by the noise's variance, so the step is multiplied.

SIGMA = 0.8
LINE = Regression(("w1", "w2"), ("w1 * x",), ("0.5 * x",), {"x": Distribution.parse("normal(0, 1.2)")}, noise=SIGMA)


@functools.cache
def residuals(count):
    return np.random.default_rng(5).normal(0, SIGMA, count)


def data_of(errors):
    """Return the line's loss on x = 1 with these residuals: w1' - 1/2 = (1 - eta)(w1 - 1/2) + eta * batch mean."""
    return dataclasses.replace(LINE.sampled(len(errors), seed=1), data=np.stack([np.ones(len(errors)), errors], axis=1))


def line_ends(errors, eta, batch, draw, steps):
    """Return w1 - 1/2 after `steps`, started at the mean."""
    start = np.tile([0.5 + np.mean(errors), 0.0], (COUNT, 1))
    loss = data_of(np.asarray(errors, dtype=float))
    end = moved(loss, sgd(eta * SIGMA**2), Minibatch(minibatch=batch, draw=draw), start, (0, steps))
    return end[:, 0] - 0.5


def test_fresh_gaussian_inputs_multiply_the_noise():
    """E (w - w*)^2 = eta s^2 / (2 B - eta a (B + 2)), inputs of variance a (Ziyin et al., 2102.05375)."""
    eta, batch, a = 0.1, 4, 1.2**2
    start = np.tile([0.5, 0.0], (COUNT, 1))
    end = moved(LINE.population(), sgd(eta * SIGMA**2), Minibatch(minibatch=batch, draw="fresh"), start, (0, 150))
    square = (end[:, 0] - 0.5) ** 2
    check_mean(square, eta * SIGMA**2 / (2 * batch - eta * a * (batch + 2)))
    for broken in (2 * batch, 2 * batch - eta * a * batch):
        with pytest.raises(AssertionError):
            check_mean(square, eta * SIGMA**2 / broken)


def test_two_points_and_step_one_half_give_the_uniform_law():
    """w' = w/2 +- 1/2 writes coin tosses as binary digits: the law is exactly U[-1, 1], not Gaussian."""
    end = line_ends((1, -1), 0.5, 1, "with_replacement", 60)
    check_law(end, stats.uniform(-1, 2).cdf)
    with pytest.raises(AssertionError):
        check_law(end, stats.norm(0, np.sqrt(1 / 3)).cdf)


@pytest.mark.parametrize("eta", [0.5, 0.75])
def test_two_points_have_one_variance_whatever_their_law(eta):
    """eta / (2 - eta), on an interval for eta = 1/2 and on a Cantor set for eta = 3/4."""
    end = line_ends((1, -1), eta, 1, "with_replacement", 60)
    check_mean(end**2, eta / (2 - eta))
    with pytest.raises(AssertionError):
        check_mean(end**2, eta / 2)
    gap = 2 * eta - 1
    # Beyond eta = 1/2 the two halves of the support are apart.
    assert np.abs(end).min() > gap - 1e-12


@pytest.mark.parametrize(
    ("draw", "batch"), [("with_replacement", 1), ("with_replacement", 4), ("without_replacement", 4)]
)
def test_variance_of_independent_batches(draw, batch):
    """eta / (2 - eta) s^2 / B, times (1 - B/n) n / (n - 1) for a batch without repeated samples."""
    errors, eta = residuals(10), 0.1
    n, centre = len(errors), errors.mean()
    replaced = eta / (2 - eta) * errors.var() / batch
    distinct = replaced * (1 - batch / n) * n / (n - 1)
    expected, broken = (replaced, distinct) if draw == "with_replacement" else (distinct, replaced)
    end = line_ends(errors, eta, batch, draw, 150)
    check_mean(end, centre)
    check_mean((end - centre) ** 2, expected)
    with pytest.raises(AssertionError):
        check_mean((end - centre) ** 2, broken if batch > 1 else 2 * replaced)


def test_reshuffled_data_quieten_the_ends_of_epochs():
    """eta^2 S2 [sum c^2 - (sum c)^2 / n] / (1 - (1 - eta)^(2n)), c_i = (1 - eta)^i, S2 = sum (e - mean)^2 / (n - 1).

    At n = 10 and eta = 0.1 that is 10.9 times less than with replacement, which is the specimen.
    """
    errors, eta = residuals(10), 0.1
    n = len(errors)
    c = (1 - eta) ** np.arange(n)
    expected = eta**2 * errors.var(ddof=1) * (np.sum(c**2) - np.sum(c) ** 2 / n) / (1 - (1 - eta) ** (2 * n))
    replaced = eta / (2 - eta) * errors.var()
    assert 10.8 < replaced / expected < 11.0
    end = line_ends(errors, eta, 1, "reshuffled", 20 * n)
    check_mean(end, errors.mean())
    check_mean((end - errors.mean()) ** 2, expected)
    with pytest.raises(AssertionError):
        check_mean((end - errors.mean()) ** 2, replaced)


# 3.9: unadjusted Langevin and its bias of order h.

A = np.array([[2.0, 1.0], [1.0, 3.0]])
NBETA = 2.0
CENTRE, WIDTH = np.array([0.4, -0.3]), np.array([0.5, 1.0])
POSTERIOR_H = NBETA * A + np.diag(1 / WIDTH**2)


def test_langevin_variance_in_one_dimension():
    """(T / lambda) / (1 - h lambda / 2) in its own units: h = 0.05, curvature 4."""
    flat = potential(("w1", "w2"), "w1**2 / 2")
    h, nbeta = 0.05, 4.0
    end = moved(flat, langevin(h), Full(), np.zeros((COUNT, 2)), (0, 100), nbeta=nbeta)
    check_mean(end[:, 0] ** 2, 1 / nbeta / (1 - h * nbeta / 2))
    for broken in (1 / nbeta, 1 / nbeta / (1 - h * nbeta / 4), 1 / nbeta / (1 + h * nbeta / 2)):
        with pytest.raises(AssertionError):
            check_mean(end[:, 0] ** 2, broken)


@pytest.fixture(scope="module")
def posterior_ends():
    """Return Langevin at a large step on a correlated quadratic with normal priors: (h, points, mean, covariance)."""
    h = 0.06
    prior = prior_of(a=f"normal({CENTRE[0]}, {WIDTH[0]})", b=f"normal({CENTRE[1]}, {WIDTH[1]})")
    loss = potential(("a", "b"), "a**2 + a*b + 3*b**2/2")
    mean = np.linalg.solve(POSTERIOR_H, CENTRE / WIDTH**2)
    start = np.tile(mean, (COUNT, 1))
    end = moved(loss, langevin(h), Full(), start, (0, 150), prior, nbeta=NBETA)
    return h, end, mean, linalg.solve_discrete_lyapunov(np.eye(2) - h * POSTERIOR_H, 2 * h * np.eye(2))


def test_langevin_covariance_with_a_normal_prior(posterior_ends):
    """S = (1 - h H) S (1 - h H) + 2 h with H = nbeta A + the prior's precision; the mean has no bias."""
    h, end, mean, covariance = posterior_ends
    check_mean(end, mean)
    check_covariance(end, covariance, mean)
    without_prior = linalg.solve_discrete_lyapunov(np.eye(2) - h * NBETA * A, 2 * h * np.eye(2))
    for broken in (np.linalg.inv(POSTERIOR_H), without_prior):
        with pytest.raises(AssertionError):
            check_covariance(end, broken, mean)
    with pytest.raises(AssertionError):
        check_mean(end, CENTRE)


def test_langevin_virial_identity_within_its_step_bias(posterior_ends):
    """E[(w - mean) . grad U] = tr(H S) at step h, which tends to D as h -> 0 (oracle: any potential, no walls)."""
    h, end, mean, covariance = posterior_ends
    away = end - mean
    virial = ((away @ POSTERIOR_H) * away).sum(axis=1)
    exact = float(np.trace(POSTERIOR_H @ covariance))
    curvatures = np.linalg.eigvalsh(POSTERIOR_H)
    assert np.isclose(exact, np.sum(1 / (1 - h * curvatures / 2)), rtol=1e-12)
    check_mean(virial, exact)
    with pytest.raises(AssertionError):
        check_mean(virial, 2.0)


def test_langevin_virial_identity_at_a_small_step():
    """At h = 2e-3 the bias is below the error bar, and D itself passes."""
    prior = prior_of(a=f"normal({CENTRE[0]}, {WIDTH[0]})", b=f"normal({CENTRE[1]}, {WIDTH[1]})")
    loss = potential(("a", "b"), "a**2 + a*b + 3*b**2/2")
    mean = np.linalg.solve(POSTERIOR_H, CENTRE / WIDTH**2)
    start = np.random.default_rng(3).multivariate_normal(mean, np.linalg.inv(POSTERIOR_H), COUNT // 5)
    end = moved(loss, langevin(2e-3), Full(), start, (0, 500), prior, nbeta=NBETA)
    away = end - mean
    # The gradient comes from the loss and the prior, not from the matrix above.
    gradient = NBETA * loss.gradient(end) + (end - CENTRE) / WIDTH**2
    check_mean((away * gradient).sum(axis=1), 2.0)
    with pytest.raises(AssertionError):
        check_mean((away * loss.gradient(end)).sum(axis=1), 2.0)


# Reflecting walls.

EDGES = np.linspace(-1, 1, 21)


def box_ends(h, slope, start, steps):
    """Return points of Langevin in [-1, 1] on U = slope * w."""
    loss = potential(("w",), "w")
    return moved(
        loss,
        langevin(h),
        Full(),
        start[:, None],
        (0, steps),
        prior_of(w="uniform(-1, 1)"),
        nbeta=slope,
        reflecting=True,
    )[:, 0]


def stationary_in_the_box(h, slope, cells=800):
    """Return the step's own stationary law per bin: the eigenvector of its transition density, by images."""
    x = -1 + (np.arange(cells) + 0.5) * 2 / cells
    centre = x - h * slope
    unfolded = [4 * k + x for k in range(-2, 3)] + [4 * k + 2 - x for k in range(-2, 3)]
    density = sum(stats.norm.pdf(image[None, :], centre[:, None], np.sqrt(2 * h)) for image in unfolded)
    law = np.full(cells, 1 / cells)
    for _ in range(400):
        law = law @ density
        law /= law.sum()
    return law.reshape(len(EDGES) - 1, -1).sum(axis=1)


def exponential_in_the_box(slope):
    return -np.diff(np.exp(-slope * EDGES))


@pytest.mark.parametrize("h", [0.01, 0.3])
def test_walls_keep_a_uniform_law_uniform(h):
    """Without a slope the step's density is symmetric, so the uniform law is stationary at any h."""
    start = np.random.default_rng(8).uniform(-1, 1, COUNT)
    end = box_ends(h, 1e-12, start, 100)
    check_law(end, stats.uniform(-1, 2).cdf)
    check_counts(np.histogram(end, EDGES)[0], np.full(20, 0.05))
    assert np.abs(end - start).mean() > 0.1
    clipped = np.clip(start + np.sqrt(2 * h) * np.random.default_rng(9).standard_normal(COUNT), -1, 1)
    with pytest.raises(AssertionError):
        check_counts(np.histogram(clipped, EDGES)[0], np.full(20, 0.05))


def test_tilted_box_has_the_stationary_law_of_its_own_step():
    h, slope = 0.1, 2.0
    end = box_ends(h, slope, np.random.default_rng(8).uniform(-1, 1, COUNT), 100)
    counts = np.histogram(end, EDGES)[0]
    check_counts(counts, stationary_in_the_box(h, slope))
    with pytest.raises(AssertionError):
        check_counts(counts, exponential_in_the_box(slope))


def test_tilted_box_tends_to_the_exponential_law():
    """At h = 5e-4 with 1e5 particles, the density exp(-2 w) itself."""
    slope = 2.0
    u = np.random.default_rng(8).uniform(size=COUNT)
    start = -np.log(np.exp(slope) + u * (np.exp(-slope) - np.exp(slope))) / slope
    end = box_ends(5e-4, slope, start, 1500)
    check_counts(np.histogram(end, EDGES)[0], exponential_in_the_box(slope))
    with pytest.raises(AssertionError):
        check_counts(np.histogram(end, EDGES)[0], exponential_in_the_box(0.97 * slope))


# Transience (Roberts and Tweedie 1996): diverged particles must be visible.


def check_runaways(points, start, edge):
    """No particle is missing; those that started well beyond the edge of stability are not finite."""
    assert len(points) == len(start)
    finite = np.isfinite(points).all(axis=1)
    assert not finite[np.abs(start[:, 0]) > 1.2 * edge].any(), "a runaway looks finite"
    assert finite.any()


def test_langevin_on_an_open_quartic_diverges_and_nobody_is_dropped():
    """x' = x - 4 h x^3 + noise doubles each step beyond x^2 = 3 / (4 h)."""
    h = 0.02
    quartic = potential(("w",), "w**4")
    start = np.linspace(-10, 10, 5001)[:, None]
    end = moved(quartic, langevin(h), Full(), start, (0, 100), nbeta=1.0)
    edge = np.sqrt(3 / (4 * h))
    check_runaways(end, start, edge)
    assert np.isfinite(end[np.abs(start[:, 0]) < 0.6 * edge]).all()
    for broken in (end[np.isfinite(end[:, 0])], np.nan_to_num(end)):
        with pytest.raises(AssertionError):
            check_runaways(broken, start, edge)
