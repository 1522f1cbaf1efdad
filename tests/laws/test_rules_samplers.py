"""Laws of samplers: exact ones, those with a step's own bias, truncated ones, and the counts of metropolized rules.

Ensembles of independent particles; checks of `support.checks`: |z| < 4 for each moment (false alarm 6e-5), p > 1e-4 for
each distribution; fixed seeds.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, linalg, stats
from support.checks import (
    check_close,
    check_counts,
    check_covariance,
    check_law,
    check_mean,
    langevin,
    moved,
    open_prior,
    prior_of,
)

from sandbox.compiled import random_numbers
from sandbox.dynamics import kernel
from sandbox.dynamics.gradients.full import Full
from sandbox.dynamics.gradients.gaussian import Gaussian
from sandbox.dynamics.gradients.noisy import Noisy
from sandbox.dynamics.rules.langevin import LeimkuhlerMatthews
from sandbox.dynamics.rules.mala import Mala
from sandbox.dynamics.rules.sgld import Psgld, Sgld
from sandbox.dynamics.rules.underdamped import Underdamped
from sandbox.model.prior import Distribution
from sandbox.model.regression import Regression, potential

COUNT = 100_000
KEY = random_numbers.key(7, "law")
A = np.array([[2.0, 1.0], [1.0, 3.0]])
NBETA = 2.0
PRECISION = NBETA * A + np.diag([4.0, 1.0])
CORRELATED = potential(("a", "b"), "a**2 + a*b + 3*b**2/2")
NORMALS = prior_of(a="normal(0, 0.5)", b="normal(0, 1)")


def averaged(h):
    return LeimkuhlerMatthews(rule="langevin_lm", step_size=h)


def underdamped(h, friction=1.0):
    return Underdamped(rule="underdamped", step_size=h, friction=friction)


def mala(h):
    return Mala(rule="mala", step_size=h)


def ends(rule, steps, loss=CORRELATED, prior=NORMALS, start=None, nbeta=NBETA, gradient=None, reflecting=False):
    """Return the kernel and its blocks after `steps`, from the origin unless `start` is given."""
    start = np.zeros((COUNT, len(loss.parameters))) if start is None else start
    built = kernel.build(loss, prior, rule, gradient or Full(), nbeta=nbeta, reflecting=reflecting)
    blocks = built.pack(start, KEY)
    built.advance(blocks, (0, len(blocks)), (0, steps), steps, KEY)
    return built, blocks


# On a quadratic, averaged noise and BAOAB have the covariance of the posterior itself, for any step.


@pytest.mark.parametrize(
    ("rule", "steps"), [(averaged(0.15), 60), (underdamped(0.5), 60), (underdamped(0.6, friction=0.5), 80)], ids=str
)
def test_quadratics_are_sampled_without_bias(rule, steps):
    """Leimkuhler and Matthews 2013; the specimen is unadjusted Langevin steps of the first size."""
    built, blocks = ends(rule, steps)
    end = built.unpack(blocks, COUNT)
    check_mean(end, 0.0)
    check_covariance(end, np.linalg.inv(PRECISION))
    h = 0.15
    biased = linalg.solve_discrete_lyapunov(np.eye(2) - h * PRECISION, 2 * h * np.eye(2))
    with pytest.raises(AssertionError):
        check_covariance(end, biased)
    plain = moved(CORRELATED, langevin(h), Full(), np.zeros((COUNT, 2)), (0, 60), NORMALS, nbeta=NBETA)
    check_covariance(plain, biased)
    with pytest.raises(AssertionError):
        check_covariance(plain, np.linalg.inv(PRECISION))


def test_velocities_stand_half_a_kick_before_the_papers():
    """Before the second half kick velocities have variance 1; after it, 1 - h^2 a / 4 (the paper's equation)."""
    h = 0.5
    built, blocks = ends(underdamped(h), 60)
    before = built.state(blocks, COUNT)["velocity"]
    after = before - h / 2 * built.unpack(blocks, COUNT) @ PRECISION
    check_covariance(after, np.eye(2) - h**2 / 4 * PRECISION)
    check_covariance(before, np.eye(2))
    for velocity, wrong in ((before, np.eye(2) - h**2 / 4 * PRECISION), (after, np.eye(2))):
        with pytest.raises(AssertionError):
            check_covariance(velocity, wrong)


@pytest.mark.parametrize("rule", [averaged(0.05), underdamped(0.4)], ids=str)
def test_walls_keep_a_uniform_law_uniform(rule):
    """Without a slope mirrored steps keep the uniform law; without `flip_at_wall` particles collect at the walls."""
    start = np.random.default_rng(8).uniform(-1, 1, (COUNT, 1))
    flat = potential(("w",), "w*1e-30")
    built, blocks = ends(rule, 30, flat, open_prior("w"), start, reflecting=True)
    check_law(built.unpack(blocks, COUNT)[:, 0], stats.uniform(-1, 2).cdf)
    w, v = start[:, 0], np.random.default_rng(9).standard_normal(COUNT)
    for _ in range(30):
        way = (w + 0.4 * v + 1) / 2
        w = -1 + 2 * np.abs(way - 2 * np.round(way / 2))
    with pytest.raises(AssertionError):
        check_law(w, stats.uniform(-1, 2).cdf)


# SGLD: the drift has half of eps; gradient noise adds to the noise; the anchor pulls.


@pytest.mark.parametrize("gamma", [0.0, 3.0])
def test_sgld_has_its_steps_variance(gamma):
    """(eps + eps^2 nbeta^2 s^2 / 4) / (1 - (1 - eps a / 2)^2) about gamma w0 / a, a = nbeta h + gamma."""
    eps, s, begin = 0.2, 0.8, 0.7
    noisy = potential(("w",), "w**2", [[str(s)]])
    rule = Sgld(rule="sgld", step_size=eps, localization=gamma)
    start = np.full((COUNT, 1), begin)
    end = moved(noisy, rule, Noisy(), start, (0, 80), nbeta=NBETA)[:, 0]
    a = 2 * NBETA + gamma
    check_mean(end, gamma * begin / a)

    def variance(spread, a):
        return spread / (1 - (1 - eps * a / 2) ** 2)

    spread = eps + (eps * NBETA * s) ** 2 / 4
    square = (end - gamma * begin / a) ** 2
    check_mean(square, variance(spread, a))
    for broken in (variance(eps, a), variance(spread, a + 1), 1 / a):
        with pytest.raises(AssertionError):
            check_mean(square, broken)


def test_sgld_adds_the_minibatchs_noise():
    """On f = a x the gradient is (x^2 a - x y) / s^2: the columns' moments give the variance of a Gaussian batch."""
    line = Regression(("a",), ("a * x",), ("x/2",), {"x": Distribution.parse("normal(0, 1)")}, noise=0.7).sampled(30, 2)
    eps, batch, nbeta = 0.01, 5, 20.0
    x, e = line.data.T
    xx, ex = x**2 / 0.49, x * (e + x / 2) / 0.49
    rule = Sgld(rule="sgld", step_size=eps)
    gradient = Gaussian(gaussian=batch, draw="with_replacement")
    end = moved(line, rule, gradient, np.full((COUNT, 1), ex.mean() / xx.mean()), (0, 150), nbeta=nbeta)[:, 0]
    centre, k = ex.mean() / xx.mean(), eps * nbeta / 2
    additive = k**2 * np.var(ex - centre * xx) / batch
    expected = (eps + additive) / (1 - (1 - k * xx.mean()) ** 2 - k**2 * np.var(xx) / batch)
    check_mean((end - centre) ** 2, expected)
    for broken in (eps / (1 - (1 - k * xx.mean()) ** 2), 1 / (nbeta * xx.mean())):
        with pytest.raises(AssertionError):
            check_mean((end - centre) ** 2, broken)


EDGES = np.array([-9, *np.linspace(-2, 2, 17), 9.0])


def preconditioned_law(eps, small, cells=960):
    """Return the stationary law per bin of psgld with alpha = 0 on w^2 / 2, nbeta = 1, from transitions of cells.

    The edges of bins are edges of cells: a cell cut in two would count as a whole.
    """
    edges = np.linspace(-6, 6, cells + 1)
    x = (edges[1:] + edges[:-1]) / 2
    scale = eps / (small + np.abs(x))
    cumulative = stats.norm.cdf((edges[None, :] - (x - scale / 2 * x)[:, None]) / np.sqrt(scale)[:, None])
    step = np.diff(cumulative, axis=1)
    law = np.full(cells, 1 / cells)
    for _ in range(600):
        law = law @ step
        law /= law.sum()
    return np.histogram(x, EDGES, weights=law)[0]


def test_psgld_without_memory_is_off_by_what_it_leaves_out():
    """The law of its own transitions, which for small eps tends to exp(-U) / G, not to the posterior exp(-U)."""
    eps, small = 0.2, 0.5
    rule = Psgld(rule="psgld", step_size=eps, alpha=0.0, stabilizer=small)
    start = np.random.default_rng(3).standard_normal((COUNT, 1))
    end = moved(potential(("w",), "w**2/2"), rule, Full(), start, (0, 150), nbeta=1.0)[:, 0]
    counts = np.histogram(end, EDGES)[0]
    check_counts(counts, preconditioned_law(eps, small))
    normal = np.diff(stats.norm.cdf(EDGES))
    with pytest.raises(AssertionError):
        check_counts(counts, normal)
    over_g = integrate.cumulative_simpson((small + np.abs(GRID)) * stats.norm.pdf(GRID), x=GRID, initial=0)
    limit = np.diff(np.interp(EDGES, GRID, over_g)) / over_g[-1]
    far = [np.abs(preconditioned_law(eps, small) - limit).sum() for eps in (0.2, 0.1)]
    assert far[1] < 0.7 * far[0] < 0.2 * np.abs(normal - limit).sum()


# MALA: exact for any step, stays inside the prior's box, and counts its moves.

GRID = np.linspace(-9, 9, 20_001)


def law_of(energy, low=-9.0, high=9.0):
    """Return the distribution function of exp(-energy) on [low, high], by quadrature."""
    x = np.linspace(low, high, 20_001)
    mass = integrate.cumulative_simpson(np.exp(-energy(x)), x=x, initial=0)
    return lambda w: np.interp(w, x, mass / mass[-1])


def test_mala_is_exact_on_a_quartic_where_langevin_steps_are_not():
    quartic, h = potential(("w",), "w**4"), 0.1
    prior = prior_of(w="laplace(0.2, 0.5)")
    start = np.random.default_rng(3).uniform(-1, 1, (COUNT, 1))
    cdf = law_of(lambda w: 2 * w**4 + np.abs(w - 0.2) / 0.5)
    end = moved(quartic, mala(h), Full(), start, (0, 120), prior, nbeta=2.0)[:, 0]
    check_law(end, cdf)
    plain = moved(quartic, langevin(h), Full(), start, (0, 120), prior, nbeta=2.0)[:, 0]
    with pytest.raises(AssertionError):
        check_law(plain, cdf)
    with pytest.raises(AssertionError):
        check_law(end, law_of(lambda w: 2 * w**4))


@pytest.mark.parametrize("reflecting", [True, False])
def test_mala_in_a_box_samples_the_truncated_posterior(reflecting):
    """The density exp(-2 w) on [-1, 1]; reflected Langevin steps of this size have another law."""
    start = np.random.default_rng(3).uniform(-1, 1, (COUNT, 1))
    flat = potential(("w",), "w")
    built, blocks = ends(mala(0.2), 80, flat, open_prior("w"), start, reflecting=reflecting)
    end = built.unpack(blocks, COUNT)[:, 0]
    cdf = law_of(lambda w: 2 * w, -1, 1)
    check_law(end, cdf)
    assert np.abs(end).max() <= 1
    mirrored = moved(flat, langevin(0.2), Full(), start, (0, 80), open_prior("w"), nbeta=NBETA, reflecting=True)
    with pytest.raises(AssertionError):
        check_law(mirrored[:, 0], cdf)


def acceptance(h, curvature):
    """Return the mean of min(1, exp(r)) over a normal target and the proposal's normal, by Hastings' ratio."""
    x, z = np.meshgrid(np.linspace(-8, 8, 1601) / np.sqrt(curvature), np.linspace(-8, 8, 1601), indexing="ij")
    y = x - h * curvature * x + np.sqrt(2 * h) * z
    back = (x - y + h * curvature * y) / np.sqrt(2 * h)
    ratio = curvature * (x**2 - y**2) / 2 + (z**2 - back**2) / 2
    weight = stats.norm.pdf(x * np.sqrt(curvature)) * stats.norm.pdf(z)
    return (np.exp(np.minimum(ratio, 0)) * weight).sum() / weight.sum()


def test_mala_counts_what_it_accepts():
    h, steps = 0.35, 25
    start = np.random.default_rng(3).standard_normal((COUNT, 1)) / 2
    built, blocks = ends(mala(h), steps, potential(("w",), "w**2"), open_prior("w"), start)
    # The prior's walls are 2 deviations away, so that the next line is a specimen.
    with pytest.raises(AssertionError):
        check_mean(built.state(blocks, COUNT)["accepted"] / steps, acceptance(h, 4.0))
    wide = prior_of(w="uniform(-50, 50)")
    built, blocks = ends(mala(h), steps, potential(("w",), "w**2"), wide, start)
    state = built.state(blocks, COUNT)
    check_mean(state["accepted"] / steps, acceptance(h, 4.0))
    assert 0.5 < acceptance(h, 4.0) < 0.95
    # A particle that has not moved has accepted nothing, and vice versa.
    assert np.array_equal(state["accepted"] == 0, built.unpack(blocks, COUNT)[:, 0] == start[:, 0])


X = {"x": Distribution.parse("normal(0, 1)")}
LOSSES = {
    "moments": Regression(("a", "b"), ("a * b * x",), ("x",), X).sampled(40, 1),
    "samples": Regression(("a", "b"), ("a * tanh(b * x)",), ("x",), X).sampled(40, 1),
    "kinks": Regression(("a", "b"), ("relu(a * x + b)",), ("x",), X).sampled(40, 1),
    "density": Regression(("a", "b"), ("relu(a * x + b)",), ("x",), X).population(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_mala_carries_the_energy_and_slope_of_where_it_is(name):
    """Compared with the loss in NumPy, at the recorded points. One step later the values would differ."""
    loss, nbeta = LOSSES[name], 30.0
    start = np.random.default_rng(3).uniform(-1, 1, (300, 2))
    prior = prior_of(a="normal(0.1, 0.6)", b="laplace(-0.2, 0.8)")
    built = kernel.build(loss, prior, mala(0.003), Full(), nbeta=nbeta)
    blocks = built.pack(start)
    seen = []
    for step in range(6):
        points, state = built.unpack(blocks, 300), built.state(blocks, 300)
        energy = nbeta * loss.excess(points) - prior.log_density(points)
        slope = nbeta * loss.gradient(points) - prior.log_density_gradient(points)
        seen.append((points, state["energy"] - energy))
        check_close(state["energy"] - energy, (state["energy"] - energy)[0], 1 + np.abs(energy), 1e-12)
        check_close(state["slope"], slope, 1 + np.abs(slope), 1e-11)
        built.advance(blocks, (0, len(blocks)), (step, step + 1), 6, KEY)
    # The constant is that of the densities, the same at every step and for every particle.
    check_close(seen[-1][1], seen[0][1], 1.0, 1e-10)
    assert 0.3 < (seen[-1][0] != start).any(axis=1).mean() <= 1
    with pytest.raises(AssertionError):
        check_close(built.state(blocks, 300)["energy"], energy + seen[0][1], 1 + np.abs(energy), 1e-12)
