"""Conserved quantities and sharpness along tracks: the law of balance, the edge of stability, closed forms."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
import xarray as xr
from support.checks import Z_LIMIT

from sandbox.dynamics.frames import Record
from sandbox.dynamics.rules.registry import RULES
from sandbox.measurements.base import AtPoints
from sandbox.measurements.particles.conserved import BENT, Conserved, decay
from sandbox.measurements.particles.sharpness import Sharpness, local_shape
from sandbox.measurements.tracks import Track, named
from sandbox.model.regression import potential
from sandbox.scenario.scenario import loads
from sandbox.tools.errors import InputError

CROSSING = """
question: What is kept?
parameters: {u: "uniform(-4, 4)", w: "uniform(-4, 4)"}
loss: {potential: (u * w)**2 / 2}
nbeta: 10
strata: {arm: {zero: [w]}, other: {zero: [u]}}
derived: {balance: u**2 - w**2, product: u * w}
measurements: {volume: {}}
"""
RATE, SIGMA, STEPS, EVERY = 0.01, 1.0, 1000, 20


@functools.cache
def label_noise(balanced: bool = True) -> np.ndarray:
    """Return (frames, particles, 2) of SGD on l = (u w x - y)^2 / 2, x = +-1, y = x + e, begun at u w = 1.

    If not `balanced`, the noise has the same size but comes on each parameter by itself.
    """
    random = np.random.default_rng(9)
    points = np.tile([3.0, 1 / 3], (2000, 1))
    frames = [points]
    for step in range(1, STEPS + 1):
        u, w = points.T
        noise = SIGMA * random.standard_normal((2, len(u)))
        slopes = u * w - 1 + (noise[[0, 0]] if balanced else noise)
        points = points - RATE * np.column_stack([slopes[0] * w, slopes[1] * u])
        if step % EVERY == 0:
            frames.append(points)
    return np.array(frames)


def track(positions: np.ndarray) -> Track:
    return Track(positions, float(EVERY) * np.arange(len(positions)), np.full(len(positions), RATE))


def test_sgd_wears_the_balance_down_at_the_rate_of_its_law():
    """-E log(1 - eta^2 A^2) with E[A^2] = 2 sigma^2 / (2 - eta (u^2 + w^2)) on W0: to |z| < 4 and 1%."""
    law = RATE**2 * SIGMA**2 * 2 / (2 - RATE * (9 + 1 / 9))
    found = (
        Conserved()
        .measure_particles(loads(CROSSING, "c.yaml").problem, {"sgd": track(label_noise())})
        .sel(source="sgd")
    )
    rate, error = (float(found[name].sel(quantity="balance")) for name in ("rate", "rate_error"))
    assert abs(rate - law) < Z_LIMIT * error + 0.01 * law
    assert error < 0.01 * law
    # The continuum's law leaves out the batch's mean and the width around W0, and is off by 5%.
    assert abs(rate - RATE**2 * SIGMA**2) > Z_LIMIT * error + 0.01 * law
    broken = label_noise(balanced=False)
    ratios = (broken[..., 0] ** 2 - broken[..., 1] ** 2) / (9 - 1 / 9)
    assert abs(decay(ratios, float(EVERY) * np.arange(len(broken)), 1).rate - law) > Z_LIMIT * error + 0.01 * law


def test_the_rate_of_an_exponential_and_its_error_are_right():
    """The spread of 60 rates is the bootstrap's error to 4 errors of a standard deviation; their mean is the rate."""
    random = np.random.default_rng(10)
    times = np.arange(0.0, 50.0, 2.0)
    found = [
        decay(np.exp(-0.02 * times[:, None] + 0.1 * np.sqrt(times)[:, None] * random.standard_normal(100)), times, k)
        for k in range(60)
    ]
    rates, errors, bends = np.array([(d.rate, d.error, d.bend) for d in found]).T
    assert abs(rates.mean() - 0.02) < Z_LIMIT * rates.std(ddof=1) / np.sqrt(60)
    assert abs(rates.mean() - 0.022) > Z_LIMIT * rates.std(ddof=1) / np.sqrt(60)
    # Medians of 100 resampled particles vary a tenth more than medians of particles.
    assert rates.std(ddof=1) / errors.mean() == pytest.approx(1, abs=4 / np.sqrt(120) + 0.1)
    assert np.abs(bends).max() < BENT


def test_a_decay_that_ends_above_zero_is_not_called_exponential():
    random = np.random.default_rng(13)
    times = np.arange(0.0, 200.0, 2.0)
    ratios = 0.3 + 0.7 * np.exp(-0.02 * times[:, None]) + 0.05 * random.standard_normal((100, 200))
    assert decay(ratios, times, 1).bend > BENT
    track_of_it = Track(np.stack([ratios, np.zeros_like(ratios)], axis=-1), times)
    found = Conserved(quantities=("u", "w")).measure_particles(loads(CROSSING, "c.yaml").problem, {"sgd": track_of_it})
    assert "u to 0.3" in found.attrs["summary"]
    assert "not constant: it falls" in found.attrs["summary"]
    assert "w unknown at the start" in found.attrs["summary"]


def test_what_is_kept_has_no_rate_and_what_was_zero_is_left_out():
    kept = np.ones((10, 50))
    assert decay(kept, np.arange(10.0), 1).rate == 0
    assert decay(kept, np.arange(10.0), 1).bend == 0
    positions = np.zeros((10, 50, 2))
    found = Conserved().measure_particles(loads(CROSSING, "c.yaml").problem, {"sgd": track(positions)})
    assert np.isnan(found["rate"]).all()
    gone = np.where(np.arange(10)[:, None] < 3, np.exp(-1.0 * np.arange(10))[:, None], -1.0) * kept
    assert decay(gone, np.arange(10.0), 1).rate == pytest.approx(1)


def test_quantities_are_named_and_there_is_at_least_one():
    problem = loads(CROSSING, "c.yaml").problem
    Conserved(quantities=("balance", "u")).check(problem, Record())
    with pytest.raises(InputError, match=r"quantities: unknown 'balanse' \(did you mean 'balance'"):
        Conserved(quantities=("balanse",)).check(problem, Record())
    with pytest.raises(InputError, match="derived"):
        Conserved().check(dataclasses.replace(problem, derived=()), Record())


def test_the_shape_of_a_crossing_is_its_closed_form():
    """On W0 of (u w)^2 / 2 the Hessian has the eigenvalues 0 and u^2 + w^2; elsewhere by hand."""
    loss = potential(("u", "w"), "(u * w)**2 / 2")
    points = np.array([[2.0, 0.0], [0.0, -1.5], [1.0, 1.0], [np.inf, 0.0]])
    found = local_shape(loss, points)
    np.testing.assert_allclose(found["sharpness"], [4, 2.25, 3, np.nan])
    np.testing.assert_allclose(found["trace"], [4, 2.25, 2, np.nan])
    np.testing.assert_allclose(found["excess"], [0, 0, 0.5, np.nan])
    np.testing.assert_allclose(found["gradient_norm"], [0, 0, np.sqrt(2), np.nan])


def descent(start: np.ndarray, rate: float, steps: int) -> np.ndarray:
    points, frames = start, [start]
    for _ in range(steps):
        f = points[:, 0] * points[:, 1]
        points = points - rate * f[:, None] * points[:, ::-1]
        frames.append(points)
    return np.array(frames)


def test_gradient_descent_ends_below_the_edge_of_stability():
    """S' = S + eta f^2 (eta S - 4): from 2 < eta S < 4 a catapult to eta S < 2 (Lewkowycz et al. 2020, 2003.02218)."""
    random = np.random.default_rng(11)
    angles, length = random.uniform(0.02, 0.1, 300), np.sqrt(random.uniform(2.2, 3.6, 300))
    start = length[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])
    positions = descent(start, 1.0, 400)
    run = Track(positions, np.arange(401.0), np.ones(401), 2.0)
    problem = loads(CROSSING, "c.yaml").problem
    found = Sharpness(frames=5, particles=300).measure_particles(problem, {"gd": run, "posterior": Track(start[None])})
    product = found["step_times_sharpness"].sel(source="gd")
    np.testing.assert_allclose(found["step"], [0, 100, 200, 300, 400])
    edge = found["edge"].sel(source="gd")
    assert (product.isel(step=0) > edge).all()
    assert (product.isel(step=-1) < edge).all()
    assert np.isnan(found["step_times_sharpness"].sel(source="posterior")).all()
    exact = np.quantile(local_shape(problem.loss, start)["sharpness"], [0.05, 0.5])
    for t in range(5):
        np.testing.assert_allclose(
            found["sharpness"].sel(source="posterior").isel(step=t).sel(level=[0.05, 0.5]), exact
        )


def test_a_recorded_track_knows_its_step_size_in_the_units_of_the_loss():
    times = np.array([0, 5, 10])
    data = xr.Dataset(
        {"position": (("time", "particle", "parameter"), np.zeros((3, 4, 2), np.float32))}, {"time": times}
    )
    sgd = RULES["sgd"](rule="sgd", learning_rate=0.5, schedule={"step": {"every": 5, "factor": 0.5}})
    found = Track.recorded(data, sgd, 100.0)
    np.testing.assert_allclose(found.rate, [0.5, 0.25, 0.25])
    assert found.nbeta is None
    langevin = Track.recorded(data, RULES["langevin"](rule="langevin", step_size=1e-3), 100.0)
    np.testing.assert_allclose(langevin.rate, 0.1)
    assert langevin.nbeta == 100
    own = Track.recorded(data, RULES["langevin"](rule="langevin", step_size=1e-3, nbeta=7), 100.0)
    np.testing.assert_allclose(own.rate, 0.007)
    assert own.nbeta == 7
    heavy = Track.recorded(data, RULES["sgd"](rule="sgd", learning_rate=0.5, momentum=0.5), 100.0)
    assert heavy.edge == pytest.approx(3)
    adam = Track.recorded(data, RULES["adam"](rule="adam", learning_rate=0.5), 100.0)
    assert adam.edge is None
    several = RULES["gradient_descent"](rule="gradient_descent", learning_rate=0.5, substeps=5)
    np.testing.assert_allclose(Track.recorded(data, several, 100.0).rate, 0.1)
    assert langevin.positions.dtype == np.float64


def test_measurements_at_points_are_measurements_of_the_last_positions():
    class Mean(AtPoints):
        name = "mean"

        def measure_at(self, problem, landed):
            return xr.Dataset({name: points.mean() for name, points in landed.items()})

    positions = np.arange(12.0).reshape(3, 2, 2)
    found = Mean().measure_particles(None, {"sgd": Track(positions, np.arange(3.0))})
    assert float(found["sgd"]) == positions[-1].mean()


def test_names_are_those_of_parameters_and_derived_quantities():
    scenario = loads(CROSSING, "c.yaml")
    u, balance = named(("u", "balance"), scenario.problem.derived, scenario.problem.prior.names)
    points = np.array([[2.0, 1.0], [3.0, 0.0]])
    np.testing.assert_allclose(u(points), [2, 3])
    np.testing.assert_allclose(balance(points), [3, 9])
