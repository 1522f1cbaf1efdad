"""Passage times: exact mean first-passage times, survival under censoring, the effect of the frames."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from scipy import integrate
from support.checks import Z_LIMIT

from sandbox.measurements.particles.passage import OTHER, START, Passage, interval, passage_times, passages, survival
from sandbox.measurements.tracks import Track
from sandbox.scenario.scenario import loads

WELLS = """
question: How long from well to well?
parameters: {x: "uniform(-3, 3)"}
loss: {potential: (x**2 - 1)**2 / 4}
nbeta: 20
tube: 0.4
strata: {left: {zero: [x + 1]}, right: {zero: [x - 1]}}
measurements: {volume: {}}
"""


def double_well_time(temperature: float, start: float, end: float) -> float:
    """Return (1/T) int_start^end e^{U(y)/T} int_{-inf}^y e^{-U(z)/T} for U = (x^2 - 1)^2 / 4, by quadrature."""
    x = np.linspace(-3.0, end, 400_001)
    height = (x**2 - 1) ** 2 / 4 / temperature
    below = integrate.cumulative_simpson(np.exp(-height), x=x, initial=0)
    inside = x >= start - 1e-12
    return float(integrate.simpson((np.exp(height) * below)[inside], x=x[inside])) / temperature


@functools.cache
def double_well(particles: int = 1000, step: float = 0.04, every: int = 25, frames: int = 2000) -> np.ndarray:
    """Return positions (frames, particles) at T = 0.05 from x = -1: second order in the step (Leimkuhler, Matthews)."""
    random = np.random.default_rng(1)
    x, noise = np.full(particles, -1.0), random.standard_normal(particles)
    found = np.empty((frames, particles))
    found[0] = x
    scale = math.sqrt(2 * step * 0.05) / 2
    for k in range(1, frames):
        for fresh in random.standard_normal((every, particles)):
            x = x - step * x * (x * x - 1) + scale * (noise + fresh)
            noise = fresh
        found[k] = x
    return found


def wells_record(positions: np.ndarray, step: float = 0.04, every: int = 25):
    scenario = loads(WELLS, "wells.yaml")
    times = step * every * np.arange(len(positions), dtype=float)
    tracks = {"langevin": Track(positions[..., None], times), "posterior": Track(positions[-1:, :, None])}
    return Passage().measure_particles(scenario.problem, tracks).sel(source="langevin")


def check_mean(row, expected: float) -> None:
    """Assert that the mean is `expected`, to |z| < 4 and the gap between frames: a false alarm in 10,000."""
    slack = Z_LIMIT * float(row["mean_error"])
    assert float(row["mean_low"]) - slack < expected < float(row["mean_high"]) + slack, (row, expected)


def test_the_quadrature_is_that_of_kramers_problem():
    assert double_well_time(0.05, -1.0, 1.0) == pytest.approx(729.67, abs=0.01)
    assert double_well_time(0.03, -1.0, 1.0) == pytest.approx(19485.8, rel=1e-5)


def test_langevin_crosses_the_double_well_in_the_time_that_theory_says():
    found = wells_record(double_well())
    theory = double_well_time(0.05, -1.0, 0.6)
    assert float(found["mean_error"].sel(departure=START, destination="right")) < 0.05 * theory
    for origin, target in ((START, "right"), ("left", "right"), ("left", OTHER)):
        check_mean(found.sel(departure=origin, destination=target), theory)
    with pytest.raises(AssertionError):
        check_mean(found.sel(departure=START, destination="right"), double_well_time(0.05, -1.0, 0.0))
    assert "posterior" not in found.attrs["summary"]


def test_too_short_a_run_gives_a_bound_and_the_median_only():
    found = wells_record(double_well()[:800]).sel(departure=START, destination="right")
    theory = double_well_time(0.05, -1.0, 0.6)
    assert np.isnan(found["mean"])
    assert 0.5 * theory < float(found["at_least"]) < theory
    # The law is exponential except for the short time inside a well: the median of 1000 is known to 4.6%.
    assert float(found["median"]) == pytest.approx(math.log(2) * theory, rel=4 * 0.046)
    naive = found["elapsed"].values[np.searchsorted(-found["survival"].values, -1 + found["arrivals"].item() / 2000)]
    assert naive < 0.75 * math.log(2) * theory, "the median of the arrived alone is too short"


MOVES = np.array([[0.7, 0.1, 0.05, 0.15], [0.1, 0.8, 0.0, 0.1], [0.0, 0.2, 0.75, 0.05], [0.2, 0.3, 0.1, 0.4]])
"""From each of three strata and elsewhere to each."""


def markov_chains(particles: int = 500, steps: int = 400) -> np.ndarray:
    """Return the strata (steps, particles) of chains that begin elsewhere."""
    random = np.random.default_rng(2)
    labels = np.full((steps, particles), 3)
    for t in range(1, steps):
        cumulative = MOVES[labels[t - 1]].cumsum(axis=1)
        labels[t] = (random.uniform(size=(particles, 1)) > cumulative[:, :3]).sum(axis=1)
    return labels


def passage_z(found, moves: np.ndarray) -> np.ndarray:
    """Return the distance of the means from the solution of (1 - P) m = 1, in errors, for each origin and target."""
    result = []
    for j, target in enumerate("abc"):
        others = [k for k in range(4) if k != j]
        expected = np.zeros(4)
        expected[others] = np.linalg.solve(np.eye(3) - moves[np.ix_(others, others)], np.ones(3))
        for origin, k in zip((START, *"abc"), (3, 0, 1, 2), strict=True):
            row = found.sel(departure=origin, destination=target)
            # Time has whole steps only: a start at step 0 is known, and the middle of the gap takes off half a step.
            middle = float(row["mean"]) + (0.5 if origin == START else 0.0)
            result += [(middle - expected[k]) / float(row["mean_error"])] * (k != j)
    return np.array(result)


def test_a_markov_chain_has_the_passage_times_of_its_linear_equations():
    """9 means to |z| < 4 with errors from 20 groups: a false alarm in a hundred."""
    found = passage_times(np.arange(400.0), markov_chains(), ("a", "b", "c"))
    assert np.abs(passage_z(found, MOVES)).max() < Z_LIMIT
    stay = found.sel(departure="b", destination=OTHER)
    # From b, c is reached by way of elsewhere only, which counts as a stay.
    leaves = np.linalg.solve(np.eye(2) - MOVES[np.ix_([1, 3], [1, 3])], np.ones(2))[0]
    assert abs(float(stay["mean"]) - leaves) < Z_LIMIT * float(stay["mean_error"])
    broken = MOVES + 0.02 * np.array([[1, -1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert np.abs(passage_z(found, broken)).max() > Z_LIMIT


def brute_force(labels, origin, target, *, leaves: bool = False):
    """Return (particle, begin, end, arrived), one particle after the other; `leaves` ends a stay between the tubes."""
    found = set()
    for p, path in enumerate(labels.T.tolist()):
        begin = None
        for t, label in enumerate(path):
            if begin is not None and (label < 0 or (leaves and label == 3)):
                found.add((p, begin, t - 1, False))
                begin = None
            if begin is None and label == origin:
                begin = t
            elif begin is not None and label == target:
                found.add((p, begin, t, True))
                begin = None
        if begin is not None:
            found.add((p, begin, len(path) - 1, False))
    return found


def test_passages_are_those_that_a_slow_count_finds():
    random = np.random.default_rng(3)
    labels = random.choice([0, 1, 2, 3, 3, 3], size=(60, 40))
    for p in range(0, 40, 4):
        labels[random.integers(60) :, p] = -1
    for origin, target in ((0, 1), (2, 0)):
        spells = passages(labels == origin, labels == target, labels < 0)
        columns = (spells.particle, spells.begin, spells.end, spells.arrived)
        found = set(zip(*(column.tolist() for column in columns), strict=True))
        assert found == brute_force(labels, origin, target)
        assert found != brute_force(labels, origin, target, leaves=True)


def censored(count: int, random) -> tuple[np.ndarray, np.ndarray]:
    """Return exponential durations of mean 1, censored at uniform times up to 2, and whether each was seen to end."""
    ends, stops = random.exponential(size=count), random.uniform(0, 2, count)
    return np.minimum(ends, stops), ends <= stops


def covered(drop: bool) -> float:
    """Return how often Greenwood's 95% interval contains exp(-t), over 150 sets of 200 durations and three times."""
    at, random = np.array([0.2, 0.6, 1.2]), np.random.default_rng(4)
    inside = []
    for _ in range(150):
        durations, arrived = censored(200, random)
        kept = arrived if drop else np.full(200, True)
        curve = survival(durations[kept], arrived[kept], np.arange(kept.sum())).curve
        low, high = interval(curve, at)
        inside.append((low < np.exp(-at)) & (np.exp(-at) < high))
    return float(np.mean(inside))


def test_survival_under_censoring_is_covered_by_its_interval():
    """Of 450 intervals, some correlated, 95% cover: 0.07 is four errors of 150 independent ones."""
    assert abs(covered(drop=False) - 0.95) < 0.07
    assert covered(drop=True) < 0.7, "leaving out the censored must be wrong"


def brownian_exit(gap: float):
    """Return the record of exits of Brownian motion from (-1, 1), begun at 0, in steps of 1e-3, seen every `gap`."""
    random, step, particles, horizon = np.random.default_rng(5), 1e-3, 4000, 8.0
    x, out = np.zeros(particles), np.zeros(particles, np.bool_)
    every = round(gap / step)
    labels = [np.ones(particles, np.int64)]
    for k in range(1, round(horizon / step) + 1):
        x[~out] += math.sqrt(step) * random.standard_normal((~out).sum())
        out |= np.abs(x) >= 1
        if k % every == 0:
            labels.append(np.where(out, 0, 1))
    times = gap * np.arange(len(labels))
    return passage_times(times, np.array(labels), ("out",)).sel(departure=START, destination="out")


def test_brownian_exits_lie_between_what_the_frames_allow():
    """E = L^2, with walls 0.5826 sqrt(step) further away for steps (Siegmund 1985); a false alarm in 10,000."""
    expected = (1 + 0.5826 * math.sqrt(1e-3)) ** 2
    found = brownian_exit(0.2)
    error = float(found["mean_error"])
    assert error < 0.02
    assert float(found["mean_low"]) < expected < float(found["mean_high"])
    assert abs(float(found["mean"]) - expected) < Z_LIMIT * error
    assert float(found["mean_high"]) - expected > Z_LIMIT * error, "counting to the frame of arrival must be too long"


def test_who_never_arrives_or_runs_away_is_censored():
    labels = np.array([[1, 1, 1, 0], [1, 1, -1, 1], [1, 0, -1, 1], [0, 0, -1, 1]])
    found = passage_times(np.array([0.0, 1.0, 2.0, 4.0]), labels, ("a",))
    row = found.sel(departure=START, destination="a")
    assert int(row["passages"]) == 4
    assert int(row["arrivals"]) == 3
    # By hand: the diverged particle was last seen at 1; arrivals at 0, 2 and 4.
    np.testing.assert_allclose(row["survival"], [3 / 4, 3 / 4, 3 / 8, 0.0])
    assert found.sel(departure="a", destination="a")["passages"].item() == 0
