"""WBIC and the λ made from it against closed forms of Z(nbeta), and its chains against quadrature.

Chains: |z| < 4 (false alarm 6e-5 each), fixed seeds.
"""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from scipy import stats
from support.checks import Z_LIMIT, check_close, prior_of

from sandbox.measurements.loss.chains import ChainSettings
from sandbox.measurements.loss.llc import llc_quadrature
from sandbox.measurements.loss.wbic import wbic, wbic_along, wbic_chains
from sandbox.model.prior import Distribution
from sandbox.model.regression import Regression, potential
from sandbox.tools.errors import InputError

SQUARE = prior_of(w1="uniform(-1, 1)", w2="uniform(-1, 1)")
CROSSING = potential(("w1", "w2"), "w1**2 * w2**2")
STANDARD = {"x": Distribution.parse("normal(0, 1)")}
PRODUCT = Regression(("w1", "w2"), ("w1 * w2 * x",), ("0",), STANDARD)


def crossing_log_evidence(nbeta):
    """Return log Z = log 2F2(1/2, 1/2; 3/2, 3/2; -nbeta) of K = w1^2 w2^2 on the square."""
    return float(mpmath.log(mpmath.hyp2f2(0.5, 0.5, 1.5, 1.5, -nbeta)))


def crossing_mean(nbeta):
    """Return E[nbeta K], from the derivative of the same function."""
    upper, lower = (mpmath.hyp2f2(a, a, a + 1, a + 1, -nbeta) for a in (1.5, 0.5))
    return float(nbeta / 9 * upper / lower)


def gaussian_evidence(loss, deviation):
    """Return -log p(y | x) of y = a x + b, a, b ~ N(0, deviation^2): N(y; 0, 1 + deviation^2 A A^T)."""
    x, e = loss.data.T
    design = np.stack([x, np.ones_like(x)], axis=1)
    covariance = np.eye(len(x)) + deviation**2 * design @ design.T
    return -stats.multivariate_normal(np.zeros(len(x)), covariance).logpdf(e)


def gaussian_energy(loss, deviation, beta):
    """Return E_beta[n L_n] - n min L_n of the same model, whose tempered posterior is normal."""
    x, e = loss.data.T
    design = np.stack([x, np.ones_like(x)], axis=1)
    gram = design.T @ design
    covariance = np.linalg.inv(beta * gram + np.eye(2) / deviation**2)
    away = covariance @ (beta * design.T @ e) - np.linalg.solve(gram, design.T @ e)
    return float(np.trace(gram @ covariance) + away @ gram @ away) / 2


@pytest.mark.parametrize("samples", [100, 1000, 100_000])
def test_crossing_population(samples):
    """Every number from the hypergeometric evidence; one temperature for the other is noticed."""
    found = wbic(CROSSING, SQUARE, samples)
    logs = math.log(samples)
    first, second = logs * crossing_mean(samples / logs), logs / 1.5 * crossing_mean(1.5 * samples / logs)
    expected = {
        "free_energy_excess": -crossing_log_evidence(samples),
        "wbic_excess": first,
        "wbic_error": first + crossing_log_evidence(samples),
        "learning_coefficient_one": first / logs,
        "learning_coefficient_two": (first - second) / (logs - logs / 1.5),
        "free_energy_slope": crossing_mean(samples),
        "entropy": 0.0,
    }
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value, abs=1e-6), name
    assert abs(float(found["wbic_excess"]) - logs * crossing_mean(samples)) > 0.1


def test_beta_exact_solves_its_equation():
    """At beta* the hypergeometric mean energy is F_n; at 1 / log n it is not."""
    samples = 1000
    found = wbic(CROSSING, SQUARE, samples)
    beta, free = float(found["beta_exact"]), -crossing_log_evidence(samples)
    assert crossing_mean(samples * beta) / beta == pytest.approx(free, abs=1e-4)
    assert float(found["beta_exact_log_n"]) == pytest.approx(beta * math.log(samples))
    assert abs(crossing_mean(samples / math.log(samples)) * math.log(samples) - free) > 0.1


def test_regular_model_with_data():
    """Two coefficients under a wide normal prior: F_n is a Gaussian density, D/2 comes from two temperatures."""
    model = Regression(("a", "b"), ("a * x + b",), ("0",), STANDARD)
    prior = prior_of(a="normal(0, 2)", b="normal(0, 2)")
    loss = model.sampled(200, 5)
    found = wbic(loss, prior)
    assert float(found["free_energy_excess"] + found["entropy"]) == pytest.approx(
        gaussian_evidence(loss, 2.0), abs=1e-6
    )
    beta = 1 / math.log(200)
    energies = [gaussian_energy(loss, 2.0, b) for b in (beta, 1.5 * beta)]
    two = float(found["learning_coefficient_two"])
    assert two == pytest.approx((energies[0] - energies[1]) * beta * 3, abs=1e-6)
    # The prior's curvature, 1/4 beside nbeta = 38, moves it off D/2 by a few times that ratio.
    assert two == pytest.approx(1.0, abs=0.03)
    assert float(found["learning_coefficient_one"]) < 0.9, "with the truth as reference part of λ is lost"


def test_one_temperature_is_the_local_learning_coefficient_at_the_truth():
    loss = PRODUCT.sampled(1000, 1)
    found = wbic(loss, SQUARE)
    local = llc_quadrature(loss, SQUARE, [0.0, 0.0])
    assert float(found["learning_coefficient_one"]) == pytest.approx(float(local["llc"]), abs=1e-9)


def test_estimates_along_n_approach_the_theory():
    """F_n - (λ log n - (m - 1) log log n) stays bounded; with m forgotten, or D/2, it drifts."""
    found = wbic_along(lambda n: CROSSING, SQUARE, [10**k for k in (3, 5, 7, 9)])
    logs = np.log(found["n"].to_numpy())
    free = found["free_energy_excess"].to_numpy()
    # Z = sqrt(pi / n) / 4 (log n + gamma + 2 log 2) + O(e^-n): theory's up to (gamma + 2 log 2) / log n and a constant.
    exact = 0.5 * logs - np.log(np.sqrt(np.pi) / 4 * (logs + np.euler_gamma + 2 * np.log(2)))
    check_close(free, exact, 1.0, 1e-6)
    bounded = free - (0.5 * logs - np.log(logs)) + np.log(np.sqrt(np.pi) / 4)
    assert (np.abs(bounded) < 2 / logs).all()
    for broken in (0.5 * logs, logs):
        rest = free - broken
        assert abs(rest[-1] - rest[0]) > 0.8
    assert (np.diff(np.abs(found["learning_coefficient_one"] - 0.5)) < 0).all()


def test_error_of_wbic_is_of_order_sqrt_log_n():
    """Over 12 data sets |WBIC - F_n| is within a few sqrt(log n), and it is not a constant."""
    samples = 500
    found = [wbic(PRODUCT.sampled(samples, seed), SQUARE, matched=False) for seed in range(12)]
    errors = np.array([float(f["wbic_error"]) for f in found])
    assert np.abs(errors).max() < 3 * math.sqrt(math.log(samples))
    assert errors.std() > 0.1
    assert "beta_exact" not in found[0]


def test_chains_against_quadrature():
    """The same integral by Langevin chains: |z| < 4 from the exact value, and far from F_n's."""
    settings = ChainSettings(particles=2048, burn_in=8000, draws=50, thinning=100, step_size=1e-4, seed=2)
    found = wbic_chains(CROSSING, SQUARE, 1000, settings=settings)
    exact = math.log(1000) * crossing_mean(1000 / math.log(1000))
    estimate, error = float(found["wbic_excess"]), float(found["wbic_excess_standard_error"])
    assert abs(estimate - exact) < Z_LIMIT * error
    assert abs(estimate + crossing_log_evidence(1000)) > Z_LIMIT * error
    one = float(found["learning_coefficient_one"])
    assert one == pytest.approx(estimate / math.log(1000))
    assert abs(one - 0.5) > Z_LIMIT * float(found["learning_coefficient_one_standard_error"])
    assert abs(float(found["drift"])) < Z_LIMIT


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: wbic(CROSSING, SQUARE), "n is None"),
        (lambda: wbic(CROSSING, SQUARE, 2), "n is 2"),
        (lambda: wbic(CROSSING, SQUARE, 100, ratio=1.0), "positive and not 1"),
        (lambda: wbic(PRODUCT.sampled(50, 1), SQUARE, 60), "the loss has 50 samples, here n is 60"),
        (lambda: wbic_chains(CROSSING, SQUARE), "n is None"),
        (lambda: wbic_along(lambda n: CROSSING, SQUARE, []), "must rise"),
        (lambda: wbic_along(lambda n: CROSSING, SQUARE, [100, 100]), "must rise"),
    ],
)
def test_wrong_input_is_said(call, words):
    with pytest.raises(InputError) as error:
        call()
    assert words in str(error.value)
