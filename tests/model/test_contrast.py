"""Losses given by a contrast, compared with SciPy's densities, quadrature, and the same loss as a regression."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
from scipy import integrate, stats
from support.checks import check_close, check_gradient

from sandbox.dynamics.gradients.gaussian import Gaussian
from sandbox.dynamics.gradients.label_noise import labelled
from sandbox.dynamics.gradients.minibatch import Minibatch
from sandbox.measurements.loss.waic import waic
from sandbox.model.prior import Distribution, Prior
from sandbox.model.regression import Contrast, Regression
from sandbox.scenario.scenario import loads
from sandbox.tools.errors import InputError

ONE = Distribution.parse("normal(0, 1)")
MIXTURE = Contrast(("a", "b"), "-log(1 - a + a * exp(b * x - b**2 / 2))", {"x": ONE})
NORMAL = Contrast(("a", "s"), "s + ((x - a)**2 * exp(-2 * s) - x**2) / 2", {"x": ONE})
KINKED = Contrast(("a", "b"), "abs(x - a) - abs(x) + 0 * b", {"x": Distribution.parse("laplace(0, 1)")})


def mixture(x, a, b):
    return stats.norm.logpdf(x) - np.log((1 - a) * stats.norm.pdf(x) + a * stats.norm.pdf(x, b))


def normal(x, a, s):
    return stats.norm.logpdf(x) - stats.norm.logpdf(x, a, np.exp(s))


def kinked(x, a, b):
    return stats.laplace.logpdf(x) - stats.laplace.logpdf(x, a)


CASES = pytest.mark.parametrize(
    ("model", "twin", "law"),
    [(MIXTURE, mixture, stats.norm), (NORMAL, normal, stats.norm), (KINKED, kinked, stats.laplace)],
    ids=["mixture", "normal", "kinked"],
)
POINTS = np.random.default_rng(3).uniform(0.05, 0.95, (6, 2))


def check_twin(loss, twin, shift=0.0):
    for w in POINTS:
        value = twin(loss.data[:, 0] + shift, *w).mean()
        check_close(loss.excess(w[None]), value, 1 + abs(value), 1e-12)


@CASES
def test_the_loss_is_the_mean_of_the_log_densities_ratio(model, twin, law):
    loss = model.sampled(200, seed=5)
    check_twin(loss, twin)
    with pytest.raises(AssertionError):
        check_twin(loss, twin, 1e-3)
    if model is not KINKED:
        check_gradient(loss, POINTS, loss.gradient(POINTS))


def weighted(twin, law, w, x):
    return twin(x, *w) * law.pdf(x)


@CASES
def test_the_population_is_the_divergence(model, twin, law):
    """Compare K with adaptive quadrature; it is nowhere negative, but K_n of some data set is."""
    loss = model.population()
    for w in POINTS:
        edges = [*(law.isf(0.5) + np.array([-35.0, 35.0])), 0.0, w[0]]
        integrand = functools.partial(weighted, twin, law, w)
        value, _ = integrate.quad(integrand, edges[0], edges[1], points=edges[2:], epsabs=1e-13, limit=400)
        check_close(loss.excess(w[None]), value, 1.0, 1e-9)
    assert (loss.excess(POINTS) > 0).all()
    few = np.array([model.sampled(20, seed).excess(0.1 * POINTS).min() for seed in range(20)])
    assert few.min() < 0


REGRESSION = Regression(("w1", "w2"), ("w1 * w2**2 * x",), ("0.4 * x",), {"x": ONE}, 0.5)
WRITTEN = Contrast(
    ("w1", "w2"),
    "((w1 * w2**2 * x - 0.4 * x)**2 - 2 * (w1 * w2**2 * x - 0.4 * x) * u) * 2",
    {"x": ONE, "u": Distribution.parse("normal(0, 0.5)")},
)


def both(samples=100):
    """One loss as a regression and as a contrast, on the same data."""
    first = REGRESSION.sampled(samples, seed=2)
    return first, dataclasses.replace(WRITTEN.sampled(samples, seed=2), data=first.data)


def test_a_regression_may_be_written_as_a_contrast():
    for first, second in (both(), (REGRESSION.population(), WRITTEN.population())):
        assert first.is_affine
        assert second.is_affine
        for name in ("excess", "gradient", "hessian"):
            wanted = getattr(first, name)(POINTS)
            check_close(getattr(second, name)(POINTS), wanted, 1 + np.abs(wanted), 1e-12)


def test_its_waic_is_that_of_the_regression():
    prior = Prior(("w1", "w2"), (Distribution.parse("uniform(-1, 1)"),) * 2)
    first, second = (waic(loss, prior) for loss in both(30))
    for name in ("training", "waic", "cross_validation", "functional_variance"):
        check_close(second[name].to_numpy(), first[name].to_numpy(), 1.0, 1e-9)
    check_close(second["generalisation"].to_numpy(), first["generalisation"].to_numpy(), 1.0, 1e-9)


def test_its_fisher_information_is_the_curvature_on_w0():
    true, false = np.array([[0.4, 1.0]]), np.array([[0.9, 1.0]])
    loss = WRITTEN.population()
    check_close(loss.fisher_information(true), loss.hessian(true), 1.0, 1e-10)
    check_close(loss.fisher_information(true), REGRESSION.population().fisher_information(true), 1.0, 1e-10)
    with pytest.raises(AssertionError):
        check_close(loss.fisher_information(false), loss.hessian(false), 1.0, 1e-2)


def test_the_noise_of_fresh_batches_is_that_of_the_regression():
    """The covariance of the columns (x^2 and x u) has the same eigenvalues."""
    model = Gaussian(gaussian=8, draw="fresh")
    spectra = []
    for loss in (REGRESSION.population(), WRITTEN.population()):
        rows = model.rows(loss)[0][1:]
        spectra.append(np.linalg.eigvalsh(rows.T @ rows)[-2:])
    check_close(spectra[1], spectra[0], 1.0, 1e-10)


TEXT = """\
question: A mixture?
parameters: {a: "uniform(0, 1)", b: "uniform(-1, 1)"}
loss:
  contrast: -log(1 - a + a * exp(b * x - b**2 / 2))
  inputs: {x: "normal(0, 1)"}
  samples: 50
strata:
  same: {zero: [b], along: a}
populations:
  sgd: {rule: sgd, learning_rate: 0.1, gradient: {minibatch: 10, draw: without_replacement}}
steps: 10
"""


def test_a_scenario_may_give_a_contrast():
    scenario = loads(TEXT, "f.yaml")
    check_close(scenario.problem.loss.excess(POINTS), MIXTURE.sampled(50, 0).excess(POINTS), 1.0, 0.0)
    assert scenario.problem.nbeta == 50


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("a * exp", "a * y * exp", "f.yaml:4:30: loss.contrast: unknown name 'y'"),
        ("-log(1", "log(1", "f.yaml:4:13: loss.contrast: its mean over the inputs is -"),
        ('{x: "normal(0, 1)"}', "{}", "f.yaml:5:11: loss.inputs: found an empty mapping; allowed: at least 1 entry"),
        ("samples: 50", "noise: 1", "f.yaml:6:3: loss.noise: unknown key 'noise'; allowed: contrast, inputs, samples"),
        ("{x:", "{a:", "f.yaml:5:12: loss.inputs.a: 'a' is a parameter already"),
    ],
)
def test_what_is_wrong_is_said_where_it_stands(old, new, says):
    assert old in TEXT
    with pytest.raises(InputError) as caught:
        loads(TEXT.replace(old, new, 1), "f.yaml")
    assert says in str(caught.value)


def test_a_contrast_has_no_labels():
    with pytest.raises(InputError, match="label noise needs labels"):
        labelled(MIXTURE.population(), Minibatch(minibatch=4, draw="fresh"), 0.1)
