"""The local learning coefficient around many points at once: closed forms, quadrature, exactness of the chains."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from support.checks import Z_LIMIT, prior_of

from sandbox.measurements.loss.llc import llc_quadrature
from sandbox.measurements.particles.llc_at_particles import LocalLlc, local_llc
from sandbox.model.prior import Distribution
from sandbox.model.regression import Regression, potential

SQUARE = prior_of(w1="uniform(-1, 1)", w2="uniform(-1, 1)")
NAMES = ("w1", "w2")
SETTINGS = LocalLlc(chains=64, steps=400)


def check_within_error(found, targets):
    """Assert that each λ̂ is within Z_LIMIT of its standard errors: over 20 points a false alarm in a thousand."""
    z = (found["llc"].to_numpy() - targets) / found["llc_standard_error"].to_numpy()
    assert np.abs(z).max() < Z_LIMIT, z


def test_on_a_quadratic_it_is_the_closed_form():
    curvatures = np.array([0.01, 3.0])
    loss = potential(NAMES, "(0.01 * (w1 - 0.1)**2 + 3 * (w2 + 0.2)**2) / 2")
    found = local_llc(loss, SQUARE, SQUARE.draw(4, 1, "test"), SETTINGS)
    target = (SETTINGS.nbeta * curvatures / (SETTINGS.nbeta * curvatures + SETTINGS.localization)).sum() / 2
    check_within_error(found, np.full(4, target))
    assert found["on_zero_set"].all()
    with pytest.raises(AssertionError):
        check_within_error(found, np.full(4, 1.1))


@pytest.mark.parametrize(
    ("expression", "points"),
    [
        ("(w1 * w2)**2 / 2", [(0.5, 0.0), (0.0, -0.7), (0.0, 0.0)]),
        ("(w1 * w2**2)**2 / 2", [(0.5, 0.0), (0.0, -0.7), (0.0, 0.0)]),
        ("(w1**2 - w2**3)**2", [(0.125, 0.25), (0.0, 0.0)]),
        ("(w1**2 + w2**2 - 1/2)**2 / 2", [(0.5, 0.5)]),
    ],
)
def test_on_singular_losses_it_is_what_quadrature_says(expression, points):
    loss = potential(NAMES, expression)
    found = local_llc(loss, SQUARE, np.array(points), SETTINGS, seed=2)
    assert (found["distance"] < 1e-6).all()
    targets = [
        float(
            llc_quadrature(
                loss, SQUARE, point, nbeta=SETTINGS.nbeta, localization=SETTINGS.localization, tolerance=1e-6
            )["llc"]
        )
        for point in points
    ]
    check_within_error(found, np.array(targets))


def test_a_wall_and_a_curved_prior_are_seen():
    """At a wall half a neighbourhood is left; a narrow normal prior acts besides the localization."""
    prior = prior_of(w1="uniform(0, 1)", w2="normal(0, 0.05)")
    loss = potential(NAMES, "(w1**2 + w2**4) / 2")
    found = local_llc(loss, prior, np.array([[1e-9, 0.0]]), SETTINGS)
    target = llc_quadrature(loss, prior, (0.0, 0.0), nbeta=1e8, localization=1000.0, tolerance=1e-6)
    check_within_error(found, np.array([float(target["llc"])]))


def test_a_wrong_slope_costs_time_not_truth(monkeypatch):
    loss = potential(NAMES, "(w1 * w2)**2 / 2")
    points = np.array([(0.5, 0.0), (0.0, -0.7)])
    target = [float(llc_quadrature(loss, SQUARE, p, nbeta=1e4, localization=10.0)["llc"]) for p in points]
    right = type(loss).gradient
    monkeypatch.setattr(type(loss), "gradient", lambda self, w: 0.3 * right(self, w))
    settings = LocalLlc(nbeta=1e4, localization=10.0, chains=64, steps=1500)
    # The descent of the points uses the slope too, but they are on W0 already.
    check_within_error(local_llc(loss, SQUARE, points, settings), np.array(target))


def test_a_net_is_simpler_where_a_neuron_is_dead():
    """Two ReLU neurons for relu(x): λ = 3/2 if the spare one is dead, 2 if it is silent (its weight is zero)."""
    model = "a1 * relu(b1 * x + c1) + a2 * relu(b2 * x + c2) + d"
    names = ("a1", "b1", "c1", "a2", "b2", "c2", "d")
    inputs = {"x": Distribution.parse("uniform(-1, 1)")}
    loss = Regression(names, (model,), ("relu(x)",), inputs, 0.3).population()
    prior = prior_of(**dict.fromkeys(names, "normal(0, 1)"))
    dead, silent = (1.0, 0.5, -1.5, 1.0, 1.0, 0.0, 0.0), (0.0, 1.0, 0.3, 1.0, 1.0, 0.0, 0.0)
    found = local_llc(loss, prior, np.array([dead, silent]), LocalLlc(chains=32, steps=600))
    # The localization takes a per cent away, and the chains are right to a few.
    assert found["llc"].to_numpy() == pytest.approx([1.5, 2.0], rel=0.08)


def measured(expression, points, **settings):
    """Return the measurement at the points, which stand for one population."""
    problem = SimpleNamespace(population_loss=potential(NAMES, expression), prior=SQUARE, seed=3)
    return LocalLlc(points=len(points), steps=400, chains=64, **settings).measure_at(problem, {"sgd": np.array(points)})


def test_a_number_that_is_not_lambda_yet_is_said_to_be_none():
    """Near the origin of w1^2 w2^4 (λ = 1/4 along w2 = 0) nbeta r^6 = 0.1: λ̂ = 0.047, and it grows with nbeta."""
    points = [(0.01, 0.0), (0.0, 0.0), (0.005, 0.0), (0.012, 0.0)]
    found = measured("(w1 * w2**2)**2 / 2", points)
    row = found.isel(source=0)
    assert float(row["mean_llc"]) == pytest.approx(0.047, abs=0.008)
    assert row["exact_llc"].to_numpy() == pytest.approx(0.048, abs=0.003)
    # The slope in log nbeta, by two quadratures beside nbeta.
    near = {"localization": 1000.0, "tolerance": 1e-6}
    loss = potential(NAMES, "(w1 * w2**2)**2 / 2")
    low, high = (float(llc_quadrature(loss, SQUARE, (0, 0), nbeta=b, **near)["llc"]) for b in (0.9e8, 1.1e8))
    assert float(row["nbeta_slope"].mean()) == pytest.approx((high - low) / np.log(1.1 / 0.9), rel=0.3)
    assert "the number is not λ yet" in found.attrs["summary"]
    assert "exactly 0.04" in found.attrs["summary"]


def test_a_regular_minimum_has_its_lambda():
    found = measured("(w1**2 + w2**2) / 2", [(0.1, 0.0), (0.0, 0.2), (-0.3, 0.1), (0.0, 0.0)])
    assert float(found["mean_llc"][0]) == pytest.approx(1, abs=0.03)
    assert "not λ yet" not in found.attrs["summary"]
    assert "no change is seen" in found.attrs["summary"]
