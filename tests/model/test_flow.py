"""The gradient flow's ends against closed forms, conserved quantities and SciPy's integrator."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from support.checks import prior_of

from sandbox.model.descent import descend
from sandbox.model.flow import TOLERANCE, solutions
from sandbox.model.loss import Loss
from sandbox.model.prior import Prior
from sandbox.model.regression import potential
from sandbox.tools.arrays import Array


def square(expression: str, side: float = 1.0) -> tuple[Loss, Prior]:
    """Return a potential in w1 and w2 with a uniform prior on a square."""
    prior = prior_of(w1=f"uniform({-side}, {side})", w2=f"uniform({-side}, {side})")
    return potential(prior.names, expression), prior


def inside(prior: Prior, count: int = 500) -> Array:
    return prior.draw(count, 3, "test of the flow")


def test_a_quadratic_valley_is_reached_at_the_projection() -> None:
    """K = (a w)^2 / 2 moves w along a alone; the step is exact, so the end is too."""
    loss, prior = square("(w1 - 3 * w2)**2 / 2", side=8)
    points = inside(prior) / 4
    a = np.array([1, -3]) / np.sqrt(10)
    assert np.abs(solutions(loss, prior, points) - (points - np.outer(points @ a, a))).max() < 1e-4 * 8


CONSERVED = {
    # d(w1^2)/dt and d(w2^2)/dt are in a fixed ratio along the flow.
    "(w1 * w2)**2 / 2": lambda w: w[:, 0] ** 2 - w[:, 1] ** 2,
    "(w1 * w2**2)**2 / 2": lambda w: w[:, 0] ** 2 - w[:, 1] ** 2 / 2,
    "(w1 * w2 - 1/10)**2 / 2": lambda w: w[:, 0] ** 2 - w[:, 1] ** 2,
}


@pytest.mark.parametrize("expression", CONSERVED)
def test_the_flow_keeps_its_conserved_quantity(expression: str) -> None:
    """A descent that is no flow (damped Newton steps) ends elsewhere and fails."""
    loss, prior = square(expression)
    points = inside(prior)

    def change(ends: Array) -> Array:
        within = (np.abs(ends) < 1).all(axis=1)
        kept: Array = np.abs(CONSERVED[expression](ends) - CONSERVED[expression](points))[within]
        return kept

    ends = solutions(loss, prior, points)
    assert change(ends).max() < 10 * TOLERANCE
    assert loss.excess(ends).max() < 1e-4
    assert np.median(change(descend(loss, points, prior.bounds))) > 10 * TOLERANCE


@pytest.mark.parametrize("expression", ["(w1**2 - w2**3)**2", "(w1 * w2 - 1/4)**2", "w1**2 * (w1 - w2)**4 + w2**2"])
def test_ends_are_those_of_scipys_integrator(expression: str) -> None:
    """LSODA to t = 10^6 with a relative error of 1e-9, on the losses without walls in the way."""
    loss, prior = square(expression, side=3)
    points = inside(prior, 20) / 3

    def flow(_: float, w: Array) -> Array:
        down: Array = -loss.gradient(w[None])[0]
        return down

    ends = solutions(loss, prior, points)
    for point, end in zip(points, ends, strict=True):
        far = solve_ivp(flow, (0, 1e6), point, method="LSODA", rtol=1e-9, atol=1e-12).y[:, -1]
        assert np.abs(end - far).max() < 0.02


def test_a_flow_slides_along_a_wall() -> None:
    """K pulls beyond the wall w1 = 1 and along it towards w2 = 0."""
    loss, prior = square("(w1 - 2)**2 / 2 + w2**2 / 2")
    assert np.abs(solutions(loss, prior, inside(prior)) - [1, 0]).max() < 1e-3


def test_points_without_a_loss_stay_and_points_do_not_depend_on_their_company() -> None:
    loss, prior = square("(w1 * w2)**2 / 2")
    points = inside(prior, 5000)
    points[0] = np.nan
    ends = solutions(loss, prior, points)
    assert np.isnan(ends[0]).all()
    assert np.array_equal(ends[1:10], solutions(loss, prior, points[1:10]))
    assert solutions(loss, prior, points[:0]).shape == (0, 2)
