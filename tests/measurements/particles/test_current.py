"""Probability currents of Ornstein-Uhlenbeck processes, by exact discretisation: closed forms at any lag."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from scipy import linalg
from support.checks import Z_LIMIT

from sandbox.dynamics.frames import Record
from sandbox.measurements.particles.current import Current, circulation, flux
from sandbox.measurements.tracks import Track
from sandbox.scenario.scenario import loads
from sandbox.tools.errors import InputError

H = np.array([[1.0, 0.5], [0.5, 2.0]])
TURNING, STILL = np.diag([1.5, 0.3]), 0.7 * np.eye(2)
"""Noise that does not commute with the curvature, and noise of one temperature."""
STEP = 0.05

PLANE = """
question: Does it go round?
parameters: {x: "normal(0, 5)", y: "normal(0, 5)"}
loss: {potential: (x**2 + x * y + 2 * y**2) / 2}
nbeta: 1
strata: {point: {zero: [x, y]}}
derived: {sum: x + y}
measurements: {volume: {}}
"""


def stationary(noise: np.ndarray) -> np.ndarray:
    """Return S of H S + S H = 2 D."""
    return linalg.solve_continuous_lyapunov(H, 2 * noise)


@functools.cache
def process(turning: bool, particles: int = 2000, frames: int = 200) -> np.ndarray:
    """Return stationary positions (frames, particles, 2) at distances STEP of time, without any error of the step."""
    random = np.random.default_rng(6)
    spread = stationary(TURNING if turning else STILL)
    decay = linalg.expm(-H * STEP)
    kick = np.linalg.cholesky(spread - decay @ spread @ decay.T)
    found = np.empty((frames, particles, 2))
    found[0] = random.standard_normal((particles, 2)) @ np.linalg.cholesky(spread).T
    for t in range(1, frames):
        found[t] = found[t - 1] @ decay.T + random.standard_normal((particles, 2)) @ kick.T
    return found


def test_the_circulation_is_twice_the_antisymmetric_part():
    """Chaudhari and Soatto: 2 (H S - D)_12 for close frames; at any distance from e^{-Hs} S; to |z| < 4."""
    positions, spread = process(True), stationary(TURNING)
    times = STEP * np.arange(len(positions))
    limit = 2 * (H @ spread - TURNING)[0, 1]
    assert (H @ spread - TURNING)[0, 0] == pytest.approx(0)
    for every in (1, 5, 20):
        lagged = linalg.expm(-H * STEP * every) @ spread
        exact = (lagged[1, 0] - lagged[0, 1]) / (STEP * every)
        found = circulation(positions[::every, :, 0], positions[::every, :, 1], times[::every])
        assert abs(found.mean - exact) < Z_LIMIT * found.error
        assert abs(found.z) > 2 * Z_LIMIT
        if every == 1:
            assert exact == pytest.approx(limit, rel=0.08)
            assert abs(found.mean + exact) > Z_LIMIT * found.error, "the other way round must fail"


def test_detailed_balance_has_no_circulation():
    positions = process(False)
    found = circulation(positions[..., 0], positions[..., 1], STEP * np.arange(len(positions)))
    assert abs(found.z) < Z_LIMIT
    assert found.error < 0.05


def slopes(turning: bool) -> np.ndarray:
    """Return, for 20 groups of particles, the slope of the measured flux on that of TURNING, -A S^-1 x p(x)."""
    spread = stationary(TURNING)
    edges = np.linspace(-2, 2, 9)
    x, y = np.meshgrid((edges[1:] + edges[:-1]) / 2, (edges[1:] + edges[:-1]) / 2, indexing="ij")
    points = np.stack([x, y], axis=-1)
    inverse = np.linalg.inv(spread)
    density = np.exp(-np.einsum("...i,ij,...j", points, inverse, points) / 2)
    density /= 2 * np.pi * np.sqrt(np.linalg.det(spread))
    exact = -(points @ ((H @ spread - TURNING) @ inverse).T) * density[..., None]
    result = []
    for group in np.split(process(turning), 20, axis=1):
        here, *field = flux(group[..., 0], group[..., 1], STEP * np.arange(len(group)), (edges, edges))
        result.append((np.stack(field, axis=-1) * exact).sum() / (exact**2).sum())
        assert not turning or np.abs(here - density).max() < 0.05
    return np.array(result)


def test_the_flux_field_is_that_of_the_fokker_planck_equation():
    """The slope is 1 to |z| < 4 of t with 19 degrees, less the smearing of cells of 0.5 (3%); 0 in detailed balance."""
    found, still = slopes(True), slopes(False)
    error = found.std(ddof=1) / np.sqrt(20)
    assert abs(found.mean() - 1) < Z_LIMIT * error + 0.03
    assert error < 0.1
    assert abs(still.mean()) < Z_LIMIT * still.std(ddof=1) / np.sqrt(20)
    assert abs(still.mean() - 1) > Z_LIMIT * still.std(ddof=1) / np.sqrt(20), "the broken specimen"


def test_populations_are_told_apart():
    scenario = loads(PLANE, "plane.yaml")
    times = 100.0 * np.arange(200)
    tracks = {"sgd": Track(process(True), times), "langevin": Track(process(False), times)}
    tracks["posterior"] = Track(process(False)[-1:])
    found = Current().measure_particles(scenario.problem, tracks)
    assert list(found.source.values) == ["sgd", "langevin"]
    sgd, langevin = found.attrs["summary"].split("; ")
    assert sgd.startswith("sgd: goes round")
    assert langevin.startswith("langevin: no circulation is seen")
    # 100 steps stand for STEP here, and the second half alone is used.
    half = circulation(process(True)[100:, :, 0], process(True)[100:, :, 1], STEP * np.arange(100))
    assert float(found["circulation"].sel(source="sgd")) == pytest.approx(half.mean * STEP / 100)
    sheared = Current(plane=("x", "sum")).measure_particles(scenario.problem, tracks)
    # A shear keeps areas: x d(x + y) - (x + y) dx = x dy - y dx.
    np.testing.assert_allclose(sheared["circulation"], found["circulation"], rtol=1e-6)


def test_what_is_no_plane_is_refused():
    problem, record = loads(PLANE, "plane.yaml").problem, Record()
    Current(plane=("x", "sum")).check(problem, record)
    with pytest.raises(InputError, match=r"plane: unknown 'sun' \(did you mean 'sum'"):
        Current(plane=("x", "sun")).check(problem, record)
    with pytest.raises(InputError, match="two different axes"):
        Current(plane=("x",)).check(problem, record)
    with pytest.raises(InputError, match="frames"):
        Current().check(problem, Record(frames=3))
