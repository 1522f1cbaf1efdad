"""Effective temperature: exact samples have that of their law; walls, priors and broken balance have their effect."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from scipy import linalg
from support.checks import Z_LIMIT, prior_of

from sandbox.measurements.particles.temperature import FIELDS, Temperature, ratio, terms
from sandbox.measurements.tracks import Track
from sandbox.model.regression import potential
from sandbox.scenario.scenario import loads

NAMES = ("w1", "w2")
WIDE = prior_of(w1="normal(0, 1)", w2="normal(0.5, 0.4)")
BOX = prior_of(w1="uniform(-1, 1)", w2="uniform(-1, 0.8)")
H = np.array([[1.0, 0.5], [0.5, 2.0]])
QUADRATIC = potential(NAMES, "(w1**2 + w1 * w2 + 2 * w2**2) / 2")

CROSSING = """
question: How hot is it?
parameters: {w1: "uniform(-1, 1)", w2: "uniform(-1, 0.8)"}
loss: {potential: (w1 * w2**2)**2 / 2}
nbeta: 300
strata: {flat: {zero: [w2]}, sharp: {zero: [w1]}}
box: {walls: WALLS}
measurements: {volume: {}}
"""


def found_of(points, loss, prior, **settings) -> dict[str, tuple[float, float]]:
    """Return temperature and error by each field."""
    return {name: ratio(t.virial, t.divergence) for name, t in terms(points, loss, prior, **settings).items()}


def check(found, expected: float) -> None:
    """Assert that both are `expected` to |z| < 4, and known to a tenth of it."""
    for name, (value, error) in found.items():
        assert abs(value - expected) < Z_LIMIT * error, (name, value, error)
        assert error < 0.1 * expected, (name, value, error)


def gaussian(covariance: np.ndarray, centre=(0.0, 0.0), count: int = 20_000) -> np.ndarray:
    return np.random.default_rng(7).multivariate_normal(centre, covariance, count)


@functools.cache
def crossing_draws(count: int = 40_000) -> np.ndarray:
    """Return exact samples of exp(-300 (w1 w2^2)^2 / 2) in BOX, by rejection."""
    random = np.random.default_rng(8)
    points = random.uniform((-1, -1), (1, 0.8), (6 * count, 2))
    kept = points[random.uniform(size=len(points)) < np.exp(-150 * (points[:, 0] * points[:, 1] ** 2) ** 2)]
    assert len(kept) >= count
    return kept[:count]


def test_draws_of_a_quadratic_have_their_temperature():
    found = found_of(gaussian(0.3 * np.linalg.inv(H)), QUADRATIC, WIDE, walls=False, follows_prior=False)
    check(found, 0.3)
    with pytest.raises(AssertionError):
        check(found, 0.33)


def test_the_prior_that_pulls_is_taken_into_account():
    """The posterior at nbeta = 2 is Gaussian; without the prior's pull it would look colder."""
    precision = 2 * H + np.diag([1.0, 1 / 0.16])
    centre = np.linalg.solve(precision, [0.0, 0.5 / 0.16])
    points = gaussian(np.linalg.inv(precision), centre)
    check(found_of(points, QUADRATIC, WIDE, walls=True, follows_prior=True), 0.5)
    with pytest.raises(AssertionError):
        check(found_of(points, QUADRATIC, WIDE, walls=True, follows_prior=False), 0.5)


def test_walls_do_not_count():
    loss = potential(NAMES, "(w1 * w2**2)**2 / 2")
    check(found_of(crossing_draws(), loss, BOX, walls=True, follows_prior=True), 1 / 300)
    with pytest.raises(AssertionError):
        check(found_of(crossing_draws(), loss, BOX, walls=False, follows_prior=True), 1 / 300)


def test_noise_that_does_not_commute_has_two_temperatures():
    """H S + S H = 2 D: E[w.Hw] = tr D, E|Hw|^2 = tr(H H S); the two temperatures differ."""
    noise = np.diag([1.5, 0.1])
    spread = linalg.solve_continuous_lyapunov(H, 2 * noise)
    found = found_of(gaussian(spread), QUADRATIC, WIDE, walls=False, follows_prior=False)
    exact = {"equipartition": np.trace(noise) / 2, "gradient": np.trace(H @ H @ spread) / np.trace(H)}
    for name in FIELDS:
        value, error = found[name]
        assert abs(value - exact[name]) < Z_LIMIT * error
    apart = found["equipartition"][0] - found["gradient"][0]
    assert abs(apart) > Z_LIMIT * np.hypot(*(found[name][1] for name in FIELDS))


def test_errors_are_those_of_repeated_draws():
    """The spread of 200 estimates is the error that each states, to 4 errors of a standard deviation."""
    points = gaussian(0.3 * np.linalg.inv(H), count=40_000)
    rows = [found_of(p, QUADRATIC, WIDE, walls=False, follows_prior=False) for p in np.split(points, 200)]
    for name in FIELDS:
        values, errors = np.array([row[name] for row in rows]).T
        assert values.std(ddof=1) / np.sqrt((errors**2).mean()) == pytest.approx(1, abs=4 / np.sqrt(400))


def test_where_no_curvature_holds_particles_there_is_no_temperature():
    """On a maximum of the loss the Laplacian is below zero."""
    found = found_of(gaussian(np.eye(2)), potential(NAMES, "-(w1**2 + w2**2)"), WIDE, walls=False, follows_prior=False)
    assert np.isnan(found["gradient"]).all()


@pytest.mark.parametrize("walls", ["reflecting", "open"])
def test_the_record_says_what_is_expected_of_whom(walls):
    scenario = loads(CROSSING.replace("WALLS", walls), "crossing.yaml")
    draws = crossing_draws()[:30_000].reshape(10, 3000, 2)
    runaway = draws.copy()
    runaway[5:, 3] = 1e9
    times = np.arange(10.0)
    tracks = {
        "sgd": Track(runaway, times, rate=np.ones(10)),
        "still": Track(np.zeros((10, 50, 2)), times, np.ones(10), nbeta=40),
        "posterior": Track(draws[:1], nbeta=300),
    }
    found = Temperature(particles=3000, expected=0.01).measure_particles(scenario.problem, tracks)
    np.testing.assert_allclose(found["expected"], [0.01, 1 / 40, 1 / 300])
    for source in ("sgd", "posterior"):
        # With open walls particles have another law than the posterior, and these are posterior samples.
        if walls == "reflecting" or source == "posterior":
            row = found.sel(source=source)
            assert (np.abs(row["nbeta_temperature"] - 1) < Z_LIMIT * 300 * row["temperature_error"]).all()
    said = found.attrs["summary"].split("; ")
    assert said[-1] == "sgd: without 1 of 3000 particles, which diverged"
    assert said[1] == "expected 0.01"
    assert said[2] == "still: T = 0 ± 0 by equipartition, none by gradient and Laplacian"
