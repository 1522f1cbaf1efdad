"""The stability map compared with closed forms, enumerated batches, quadrature, and particles of the real kernel.

Simulated numbers agree to 4 of their own standard errors (false alarm 6e-5 each, seeds fixed), others to rounding.
"""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest
from scipy import integrate, optimize, sparse, special, stats
from support.checks import check_mean, moved, sgd
from support.small_runs import small

from sandbox.dynamics.gradients.base import Estimator
from sandbox.dynamics.gradients.full import Full
from sandbox.dynamics.gradients.gaussian import Gaussian
from sandbox.dynamics.gradients.minibatch import Minibatch
from sandbox.dynamics.gradients.noisy import Noisy
from sandbox.dynamics.rules.registry import RULES
from sandbox.dynamics.stability.growth import NOTIONS
from sandbox.dynamics.stability.map import thresholds
from sandbox.scenario.scenario import Population

NOTIONS = list(NOTIONS)

LINE = """\
question: Where does a step break?
parameters: {w: "uniform(-1, 1)", v: "uniform(-1, 1)"}
loss: {model: w * x, truth: 0, inputs: {x: "normal(0, 1)"}, noise: 1.0, samples: population}
nbeta: 100
strata:
  line: {zero: [w]}
populations:
  sgd: {rule: sgd, learning_rate: 1, gradient: full, start: prior}
steps: 10
"""
CROSSING = LINE.replace("model: w * x", "model: w * v * x").replace(
    "  line: {zero: [w]}", "  crossing: {zero: [w, v]}\n  arm: {zero: [v]}"
)
SIGNS = ('"normal(0, 1)"', '"choice(-1, 1)"')


@functools.cache
def scenario_of(text, *changes):
    return small(text, *changes)


def found(scenario, rule, gradient):
    """Return the map of a population made by hand."""
    return thresholds(scenario.problem, Population("p", rule, gradient, None), scenario.sizes.steps)


def fresh(batch):
    return Minibatch(minibatch=batch, draw="fresh")


def check(value, expected, relative=1e-7):
    """Assert that a number is that of theory, up to rounding."""
    assert float(value) == pytest.approx(expected, rel=relative, abs=1e-12)


def check_within(row, name, expected):
    """Assert that a simulated number is that of theory, to 4 of its errors, which are at most 5% of it."""
    value, error = float(row[name]), float(row[f"{name}_error"])
    assert 0 < error < 0.05 * abs(value)
    assert abs(value - expected) < 4 * error, f"{value} +- {error}, theory {expected}"


def mean_of_log(function, low=-9.0, high=9.0, singular=()):
    """Return E log |function(xi)| for a standard normal xi, by quadrature split at the zeros of the function."""
    ends = [low, *sorted(s for s in singular if low < s < high), high]
    parts = [
        float(integrate.tanhsinh(lambda z: np.log(np.abs(function(z)) + 1e-300) * stats.norm.pdf(z), a, b).integral)
        for a, b in itertools.pairwise(ends)
    ]
    return sum(parts)


# 3.3: l = (w x - y)^2 / 2 with x ~ N(0, 1). The rate is 1, so that multiples of it are steps.


@pytest.mark.parametrize("batch", [1, 2, 5, 20])
def test_minibatches_move_the_threshold_in_mean_square_only(batch):
    """2 without noise, 2 / (1 + 2/B) in mean square (Ziyin et al., 2102.05375); additive noise does not matter."""
    row = found(scenario_of(LINE), sgd(1.0), fresh(batch)).sel(stratum="line")
    check(row.threshold.sel(notion="deterministic"), 2.0)
    check(row.threshold.sel(notion="mean square"), 2 / (1 + 2 / batch))
    check(row.growth.sel(notion="mean square"), math.log(2 / batch) / 2)
    with pytest.raises(AssertionError):
        check(row.threshold.sel(notion="mean square"), 2 / (1 + 1 / batch))


def test_single_samples_have_a_lyapunov_exponent_of_their_own():
    """E log |1 - eta x^2| = 0 at 2.42125, beyond both other thresholds; at eta = 1 it is a quadrature."""

    def exponent(eta):
        return mean_of_log(lambda x: 1 - eta * x * x, singular=(-(eta**-0.5), eta**-0.5))

    threshold = optimize.brentq(exponent, 2, 3)
    assert threshold == pytest.approx(2.42125, abs=1e-5)
    row = found(scenario_of(LINE), sgd(1.0), fresh(1)).sel(stratum="line", notion="almost sure")
    check_within(row, "threshold", threshold)
    check_within(row, "growth", exponent(1.0))
    for broken in (2.0, 2 / 3):
        with pytest.raises(AssertionError):
            check_within(row, "threshold", broken)


def test_inputs_of_one_size_have_no_noise_to_multiply():
    """x = +-1: every sample has the same Hessian, so all steps below 2 are stable for any batch size."""
    table = found(scenario_of(LINE, SIGNS), sgd(1.0), fresh(1))
    for notion in NOTIONS:
        check(table.threshold.sel(stratum="line", notion=notion), 2.0)
    assert (table.threshold_error == 0).all()


@pytest.mark.parametrize("draw", ["with_replacement", "without_replacement"])
def test_batches_of_a_data_set_are_those_that_are_drawn(draw):
    """Second moments and exponents agree with the list of all batches of 2 among 5."""
    scenario = scenario_of(LINE, ("samples: population", "samples: 5"))
    squares = scenario.problem.loss.data[:, 0] ** 2
    lists = {
        "with_replacement": list(itertools.product(squares, repeat=2)),
        "without_replacement": list(itertools.combinations(squares, 2)),
    }
    factors = {name: np.abs(1 - 0.7 * np.mean(batches, axis=1)) for name, batches in lists.items()}
    rows = found(scenario, sgd(0.7), Minibatch(minibatch=2, draw=draw)).sel(stratum="line")
    surely = rows.sel(notion="almost sure")
    check(rows.growth.sel(notion="mean square"), math.log(np.mean(factors[draw] ** 2)) / 2)
    check_within(surely, "growth", np.mean(np.log(factors[draw])))
    (other,) = set(factors) - {draw}
    with pytest.raises(AssertionError):
        check(rows.growth.sel(notion="mean square"), math.log(np.mean(factors[other] ** 2)) / 2)
    with pytest.raises(AssertionError):
        check_within(surely, "growth", np.mean(np.log(factors[other])))


def test_momentum_without_noise():
    """eta h < 2 (1 + mu), or 2 (1 + mu) / (1 + 2 mu) with Nesterov's; weight decay adds to the curvature h = 1."""
    for settings, edge in (
        ({"momentum": 0.9}, 2 * 1.9),
        ({"momentum": 0.9, "nesterov": True}, 2 * 1.9 / 2.8),
        ({"weight_decay": 0.25}, 2 / 1.25),
    ):
        rule = RULES["sgd"](rule="sgd", learning_rate=0.1, **settings)
        rows = found(scenario_of(LINE), rule, Full()).sel(stratum="line")
        for notion in NOTIONS:
            # Between multiples of the step size the growth is interpolated linearly.
            check(0.1 * rows.threshold.sel(notion=notion), edge, relative=1e-5)


def test_heavy_ball_in_mean_square_is_its_moment_recursion():
    """w' = w - eta v', v' = mu v + x^2 w: a matrix written out by hand moves E w^2, E w v, E v^2; E x^4 = 3."""
    mu = 0.6

    def growth(eta, fourth=3.0):
        # w' = (1 - eta q) w - eta mu v, v' = q w + mu v with E q = 1, E q^2 = fourth.
        a2, ab, b2 = 1 - 2 * eta + eta**2 * fourth, (1 - eta) * -eta * mu, (eta * mu) ** 2
        aq, bq = 1 - eta * fourth, -eta * mu
        moments = [[a2, 2 * ab, b2], [aq, (1 - eta) * mu + bq, bq * mu], [fourth, 2 * mu, mu**2]]
        return math.log(np.abs(np.linalg.eigvals(moments)).max()) / 2

    rule = RULES["sgd"](rule="sgd", learning_rate=0.3, momentum=mu)
    row = found(scenario_of(LINE), rule, fresh(1)).sel(stratum="line", notion="mean square")
    check(row.growth, growth(0.3))
    check(0.3 * row.threshold, optimize.brentq(growth, 0.05, 2), relative=1e-6)
    with pytest.raises(AssertionError):
        check(row.growth, growth(0.3, fourth=1.0))


# 3.4: the crossing of w1 w2: the mean Hessian vanishes there, those of samples do not.


def test_the_crossing_attracts_almost_surely_though_second_moments_grow():
    """w1 +- w2 are multiplied by 1 +- eta xi: exponent E log |1 + eta xi| < 0, second moments by 1 + eta^2."""
    eta = 0.15

    def exponent(s):
        return mean_of_log(lambda z: 1 + s * z, singular=(-1 / s,))

    rows = found(scenario_of(CROSSING, SIGNS), sgd(eta), fresh(1)).sel(stratum="crossing")
    still, square, surely = (rows.sel(notion=notion) for notion in NOTIONS)
    check(still.growth, 0.0)
    check(square.growth, math.log(1 + eta**2) / 2)
    check_within(surely, "growth", exponent(eta))
    assert [float(row.stable_share) for row in (still, square, surely)] == [1, 0, 1]
    assert float(still.threshold) == math.inf
    assert float(square.threshold) < 1e-3
    check_within(surely, "threshold", optimize.brentq(exponent, 0.5, 3) / eta)
    with pytest.raises(AssertionError):
        check_within(surely, "growth", eta**2 / 2)


@pytest.mark.parametrize(("batch", "share"), [(1, (2 / 3) ** 0.5), (2, 1.0)])
def test_along_an_arm_the_flat_part_is_stable(batch, share):
    """On w2 = 0 the curvature is w1^2, uniform w1: with eta = 1 the share is that of w1^2 < 2 / (1 + 2/B)."""
    table = found(scenario_of(CROSSING), sgd(1.0), fresh(batch)).sel(stratum="arm")
    assert float(table.stable_share.sel(notion="mean square")) == pytest.approx(share, abs=1 / 64)
    assert float(table.stable_share.sel(notion="deterministic")) == 1


def test_only_directions_across_the_stratum_count():
    """v has no effect: the map is that without v. If v counts as across, its constancy hides the other directions."""
    alone = LINE.replace(', v: "uniform(-1, 1)"', "")
    tables = [found(scenario_of(text), sgd(0.5), fresh(2)).sel(stratum="line") for text in (LINE, alone)]
    for name in ("growth", "threshold", "stable_share"):
        assert tables[0][name].values == pytest.approx(tables[1][name].values, rel=0.02)
    check(tables[0].growth.sel(notion="deterministic"), math.log(0.5))
    point = found(scenario_of(LINE, ("{zero: [w]}", "{zero: [w, v]}")), sgd(0.5), fresh(2))
    check(point.growth.sel(stratum="line", notion="deterministic"), 0.0)


def test_a_curved_stratum_is_seen_across_on_each_of_its_images():
    """w1 w2 = 1 has the curvature w1^2 + w2^2 across; the share with eta (w1^2 + w2^2) <= 2 is counted along it."""
    text = CROSSING.replace("truth: 0", "truth: x").replace("-1, 1", "-4, 4").replace("noise: 1.0", "noise: 1.0")
    text = text.replace("  crossing: {zero: [w, v]}\n  arm: {zero: [v]}", "  curve: {zero: [w * v - 1], where: w > 0}")
    image = "symmetries:\n  both: {w: -w, v: -v}\nstrata:"
    for chosen in (text, text.replace("strata:", image)):
        scenario = scenario_of(chosen)
        points = scenario.problem.zero_set.sample(scenario.problem.prior, 0, 256)
        sharpness = (points**2).sum(axis=1)
        eta = 2 / np.quantile(sharpness, 0.6)
        table = found(scenario, sgd(eta), Full()).sel(stratum="curve", notion="deterministic")
        assert float(table.stable_share) == pytest.approx(0.6, abs=0.04)


# 3.9: samplers follow nbeta L - log φ.


def test_samplers_break_where_their_step_meets_the_posteriors_curvature():
    """h a = 2 for ULA, averaged or not, eps a = 4 for SGLD, h^2 a = 4 for BAOAB; a = nbeta + 1/s^2 under N(0, s^2)."""
    scenario = scenario_of(LINE, ('{w: "uniform(-1, 1)"', '{w: "normal(0, 0.2)"'))
    a = 100 + 1 / 0.2**2
    for name, edge in (("langevin", 2 / a), ("langevin_lm", 2 / a), ("sgld", 4 / a), ("underdamped", (4 / a) ** 0.5)):
        rule = RULES[name](rule=name, step_size=1e-3)
        rows = found(scenario, rule, Full()).sel(stratum="line")
        for notion in NOTIONS:
            check(1e-3 * rows.threshold.sel(notion=notion), edge, relative=1e-6)
        with pytest.raises(AssertionError):
            check(1e-3 * rows.threshold[0], edge * (a / 100) ** 0.5)
    held = RULES["sgld"](rule="sgld", step_size=1e-3, localization=40.0)
    check(1e-3 * found(scenario, held, Full()).threshold[0, 0], 4 / (a + 40))


def test_gaussian_models_have_the_second_moments_of_batches():
    """SGD's equation in k substeps: a step is k moves of eta / k, with noise sqrt(k) larger; mean square by hand."""
    rule = RULES["sgd_sde"](rule="sgd_sde", learning_rate=0.5, substeps=4)
    rows = found(scenario_of(LINE), rule, fresh(2)).sel(stratum="line")
    move = (1 - 0.125) ** 2 + 4 * 0.125**2 * 2 / 2
    check(rows.growth.sel(notion="mean square"), 4 * math.log(move) / 2)
    exponent = mean_of_log(lambda z: 1 - 0.125 * (1 + 2 * z), singular=(3.5,))
    check_within(rows.sel(notion="almost sure"), "growth", 4 * exponent)
    label = RULES["label_noise_sgd"](rule="label_noise_sgd", learning_rate=0.3, label_noise=0.5)
    crossing = found(scenario_of(CROSSING), label, fresh(2)).sel(stratum="crossing", notion="mean square")
    check(crossing.growth, math.log(1 + (0.3 * 0.5) ** 2 / 2) / 2)
    gaussian = found(scenario_of(LINE), sgd(1.0), Gaussian(gaussian=5, draw="fresh")).sel(stratum="line")
    check(gaussian.threshold.sel(notion="mean square"), 2 / (1 + 2 / 5))


def test_samples_that_do_not_reduce_to_moments():
    """a tanh(b x) with x in +-{1, 2}: at the origin 1 +- eta x e, E x^2 = 5/2."""
    changes = (("w * v * x", "w * tanh(v * x)"), ('"normal(0, 1)"', '"choice(-2, -1, 1, 2)"'))
    rows = found(scenario_of(CROSSING, *changes), sgd(0.1), fresh(1)).sel(stratum="crossing")
    check(rows.growth.sel(notion="mean square"), math.log(1 + 0.1**2 * 2.5) / 2)
    exponent = np.mean([mean_of_log(lambda z, x=x: 1 + 0.1 * x * z, singular=(-10 / x,)) for x in (1, 2)])
    # Estimated from 1024 samples, whose own second moment is off by 6%.
    assert float(rows.growth.sel(notion="almost sure")) == pytest.approx(exponent, rel=0.15)


def test_directions_settle_where_noise_is_small():
    """J = 1 + s xi diag(1, -1) + t zeta [[0, 1], [1, 0]] mixes directions; a fine grid of angles gives their law."""
    s, t = 0.15, 0.05
    text = f"""\
question: Which way?
parameters: {{w: "uniform(-1, 1)", v: "uniform(-1, 1)"}}
loss:
  potential: w**2 * v**2
  gradient_noise: {{matrix: [[{s} * w, {t} * v], [-{s} * v, {t} * w]]}}
nbeta: 100
strata: {{origin: {{zero: [w, v]}}}}
populations:
  sgd: {{rule: sgd, learning_rate: 1, gradient: noisy, start: prior}}
steps: 10
"""
    cells, (nodes, weights) = 1024, special.roots_hermitenorm(25)
    angle = np.arange(cells) * np.pi / cells
    xi, zeta = np.meshgrid(s * nodes, t * nodes)
    shares = np.outer(weights, weights).ravel() / weights.sum() ** 2
    u, v = np.cos(angle)[:, None], np.sin(angle)[:, None]
    x = (1 + xi.ravel()) * u + zeta.ravel() * v
    y = zeta.ravel() * u + (1 - xi.ravel()) * v
    growth = np.log(np.hypot(x, y)) @ shares
    place = np.arctan2(y, x) % np.pi * cells / np.pi
    below, part = np.floor(place).astype(int), place % 1
    rows = np.repeat(np.arange(cells), len(shares))
    moves = sparse.csr_array((((1 - part) * shares).ravel(), (rows, below.ravel() % cells)), shape=(cells, cells))
    moves = moves + sparse.csr_array(
        ((part * shares).ravel(), (rows, (below.ravel() + 1) % cells)), shape=(cells, cells)
    )
    # The grid's own spread of a quarter cell is far below the noise; the law is the left eigenvector at 1.
    law = np.full(cells, 1 / cells)
    for _ in range(4000):
        law = moves.T @ law
    table = found(small(text), sgd(1.0), Noisy()).sel(stratum="origin")
    surely = table.sel(notion="almost sure")
    value, error = float(surely.growth), float(surely.growth_error)
    assert abs(value - law @ growth) < 4 * error + 0.05 * abs(law @ growth)
    # Directions that have not settled would give the mean over all angles.
    assert abs(value - growth.mean()) > 5 * error
    check(table.growth.sel(notion="mean square"), math.log(1 + s**2 + t**2) / 2)


def test_particles_of_the_real_kernel_spread_as_the_map_says():
    """3 steps from far away, so that additive noise is negligible: squares shrink below eta h = 1 and grow above."""
    text = LINE.replace("w:", "w1:").replace(" v:", " w2:").replace("w * x", "w1 * x").replace("[w]", "[w1 - 1/2]")
    text = (
        text.replace("truth: 0", "truth: 0.5 * x")
        .replace("normal(0, 1)", "normal(0, 1.2)")
        .replace("noise: 1.0", "noise: 0.8")
    )
    scenario = scenario_of(text)
    start = np.tile([1e6, 0.0], (100_000, 1))
    for product, stable in ((0.9, True), (1.1, False)):
        eta = product * (0.8 / 1.2) ** 2
        still, square, surely = (found(scenario, sgd(eta), fresh(2)).growth[0, n] for n in range(3))
        ways = np.abs(moved(scenario.problem.loss, sgd(eta), fresh(2), start, (0, 3))[:, 0] - 0.5) / (1e6 - 0.5)
        assert (float(square) < 0) == stable == (np.mean(ways**2) < 1)
        check_mean(ways**2, math.exp(6 * float(square)))
        assert abs(np.log(ways).mean() / 3 - float(surely)) < 4 * math.hypot(0.003, 0.03)
        with pytest.raises(AssertionError):
            check_mean(ways**2, math.exp(6 * float(still)))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("adam", {"learning_rate": 0.1}),
        ("sgd", {"learning_rate": 0.1, "clip": 1.0}),
        ("mala", {"step_size": 0.1}),
        ("psgld", {"step_size": 0.1}),
        ("isotropic_sgd", {"learning_rate": 0.1}),
    ],
)
def test_what_has_no_linearisation_says_so(name, settings):
    table = found(scenario_of(LINE), RULES[name](rule=name, **settings), fresh(2))
    assert all(np.isnan(table[variable]).all() for variable in table.data_vars)
    assert f"'{name}'" in table.attrs["reason"]
    assert found(scenario_of(LINE), sgd(0.1), Full()).attrs["reason"] == ""


class AnotherEstimator(Estimator):
    """An estimator that the stability map does not know."""

    name = "another"

    def stage(self, loss, constant):
        """Raise: no kernel is built here."""
        raise NotImplementedError


def test_the_reason_names_what_has_no_linearisation():
    """The trace of isotropic noise, an estimator that the map does not know, and nothing else, are the reasons."""
    isotropic = Gaussian(gaussian=2, draw="fresh", covariance="isotropic")
    assert "isotropic" in found(scenario_of(LINE), sgd(0.1), isotropic).attrs["reason"]
    unknown = found(scenario_of(LINE), sgd(0.1), AnotherEstimator()).attrs["reason"]
    assert "found 'another'" in unknown
    assert "'minibatch'" in unknown
    assert "isotropic" not in unknown
    assert "root" not in unknown
