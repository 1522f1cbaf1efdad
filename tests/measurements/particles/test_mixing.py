"""Mixing: autocorrelation times of AR(1), R-hat of chains with a known law, the requirements on a record."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.checks import Z_LIMIT

from sandbox.measurements.particles.mixing import Mixing, autocorrelation, autocorrelation_time, mixing, r_hat
from sandbox.measurements.tracks import Track
from sandbox.scenario.scenario import loads
from sandbox.tools.errors import InputError

LINE = """
question: Has it mixed?
parameters: {w: "normal(0, 1)"}
loss: {potential: w**2 / 2}
nbeta: 1
strata: {point: {zero: [w]}}
derived: {size: w**2}
measurements: {volume: {}}
record: {spacing: linear}
"""


def ar1(rho: float, steps: int, chains: int, seed: int = 1) -> np.ndarray:
    """Return stationary chains (steps, chains) of variance 1 with autocorrelation rho^k at lag k."""
    random = np.random.default_rng(seed)
    found = random.standard_normal((steps, chains))
    for t in range(1, steps):
        found[t] = rho * found[t - 1] + math.sqrt(1 - rho**2) * found[t]
    return found


def times_of(rho: float, steps: int, estimate) -> tuple[float, float]:
    """Return the mean over 20 groups of 50 chains of an estimate of τ, and its standard error."""
    found = [estimate(group) for group in np.split(ar1(rho, steps, 1000), 20, axis=1)]
    return float(np.mean(found)), float(np.std(found, ddof=1)) / math.sqrt(len(found))


def ours(chains: np.ndarray) -> float:
    return autocorrelation_time(autocorrelation(chains))


def within_only(chains: np.ndarray) -> float:
    """The broken specimen: a single chain's own estimate, which its length limits."""
    away = chains - chains.mean(axis=0)
    size = len(chains)
    covariance = np.array([(away[: size - k] * away[k:]).sum() for k in range(size)])
    return autocorrelation_time(covariance / covariance[0])


@pytest.mark.parametrize(("rho", "steps"), [(0.0, 1000), (0.5, 1000), (0.9, 1000), (0.95, 100)])
def test_the_autocorrelation_time_of_ar1_is_known(rho, steps):
    """To |z| < 4 of t with 19 degrees (a false alarm in 1000), and a bias of Geyer's sequence of 2%."""
    exact = (1 + rho) / (1 - rho)
    mean, error = times_of(rho, steps, ours)
    assert abs(mean - exact) < Z_LIMIT * error + 0.02 * exact, (mean, error)
    assert error < 0.06 * exact


def test_chains_that_are_short_know_their_time_from_each_other():
    mean, error = times_of(0.95, 100, within_only)
    assert mean < 0.75 * 39, (mean, error)


def test_an_antithetic_chain_has_more_effective_draws_than_draws():
    found = mixing({"w": ar1(-0.5, 500, 1000)}, 1.0)
    assert found["autocorrelation_time"].item() == pytest.approx(1 / 3, rel=0.05)
    assert found["effective_sample_size"].item() == pytest.approx(3 * 500_000, rel=0.05)


def test_r_hat_of_independent_draws_is_one_even_without_moments():
    """V / W - 1 has a mean of 1 / N and a spread of sqrt(2 / M) / N: here 2e-3 and 1.4e-4."""
    random = np.random.default_rng(1)
    assert r_hat(random.standard_normal((1000, 200))) == pytest.approx(1, abs=1e-3)
    assert r_hat(random.standard_cauchy((1000, 200))) == pytest.approx(1, abs=1e-3)


def test_r_hat_of_chains_apart_is_known():
    """Means of N(0, t^2) and values of N(0, 1) about them are normal together: V / W = 1 + t^2."""
    random = np.random.default_rng(2)
    for spread in (0.3, 1.0):
        chains = spread * random.standard_normal(4000) + random.standard_normal((100, 4000))
        assert r_hat(chains) == pytest.approx(math.sqrt(1 + spread**2), rel=0.02)


def test_r_hat_sees_scales_and_trends_that_means_do_not_show():
    random = np.random.default_rng(3)
    same = random.standard_normal((400, 100))
    wide = same * np.where(np.arange(100) < 50, 1.0, 3.0)
    trend = same + np.linspace(-1, 1, 400)[:, None]
    for chains in (wide, trend):
        plain = math.sqrt(1 - 1 / 400 + chains.mean(axis=0).var(ddof=1) / chains.var(axis=0, ddof=1).mean())
        assert plain < 1.01, "the broken specimen: it is neither split nor folded"
        assert r_hat(chains) > 1.05


def test_values_that_never_change_have_no_time_and_stuck_chains_an_infinite_r_hat():
    still = mixing({"w": np.ones((20, 5))}, 1.0)
    assert np.isnan(still["autocorrelation_time"]).all()
    assert np.isnan(still["r_hat"]).all()
    stuck = mixing({"w": np.ones((20, 5)) * np.arange(5), "v": np.ones((20, 7)) * np.arange(7) ** 0.3}, 1.0)
    assert np.isinf(stuck["r_hat"]).all()
    assert (stuck["effective_sample_size"] < 10).all()


def test_a_track_is_measured_in_steps_without_those_that_ran_away():
    scenario = loads(LINE, "line.yaml")
    values = ar1(0.8, 1000, 201)
    values[500:, 7] = np.inf
    track = Track(values[..., None], 10.0 * np.arange(1000))
    found = Mixing(particles=300).measure_particles(
        scenario.problem, {"sgd": track, "posterior": Track(values[:1, :, None])}
    )
    assert list(found.source.values) == ["sgd"]
    assert found.attrs["summary"].endswith("; sgd: without 1 of 201 particles, which diverged")
    row = found.sel(source="sgd", quantity="w")
    assert row["autocorrelation_time"].item() == pytest.approx(10 * 9, rel=0.1)
    # Squares of a normal AR(1) have correlation rho^2, and K_n is one.
    for name in ("size", "excess K_n"):
        assert found.sel(source="sgd", quantity=name)["autocorrelation_time"].item() == pytest.approx(45.6, rel=0.1)
    assert found.attrs["summary"].startswith("sgd: mixed")


def test_uneven_or_few_frames_are_refused_before_the_run():
    scenario = loads(LINE, "line.yaml")
    Mixing().check(scenario.problem, scenario.sizes.record)
    with pytest.raises(InputError, match="no populations"):
        Mixing().check(scenario.problem, None)
    for change, words in ((("spacing: linear", "spacing: log"), "linear"), (("linear", "linear, frames: 4"), "8")):
        other = loads(LINE.replace(*change), "line.yaml")
        with pytest.raises(InputError, match=words):
            Mixing().check(other.problem, other.sizes.record)
    track = Track(ar1(0.5, 20, 10)[..., None], 2.0 ** np.arange(20))
    with pytest.raises(InputError, match="even distances"):
        Mixing().measure_particles(scenario.problem, {"sgd": track})
