"""The record is a function of scenario and seed alone, counts every particle, and agrees with the positions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from support.checks import check_law
from support.small_runs import ARMS, PARABOLA, Array, assert_same, simulated, small, starts

from sandbox.dynamics import kernel
from sandbox.dynamics import simulate as simulate_module
from sandbox.dynamics.simulate import run_populations
from sandbox.model.prior import Distribution
from sandbox.scenario.scenario import Scenario

ROOT_2 = np.sqrt(2)
QUARTIC = PARABOLA.replace("uniform(-10, 10)", "uniform(-2, 2)").replace("w**2 / 2", "w**4 / 4")
# Gradient descent with step 1 takes w to w (1 - w^2): it diverges from |w| > sqrt(2), and only from there.
RUNAWAY = (
    QUARTIC.replace("{rule: langevin, step_size: 1e-4}", "{rule: sgd, learning_rate: 1, gradient: full}")
    + "box: {walls: open}\nparticles: 5000\nrecord: {frames: 11, spacing: linear, positions: 5000}\n"
)


@pytest.fixture(scope="module")
def arms() -> dict[str, Any]:
    return simulated(small(ARMS), threads=1)


def test_threads_change_no_bit(arms: dict[str, Any]) -> None:
    assert_same(simulated(small(ARMS), threads=2), arms)
    assert_same(simulated(small(ARMS), threads=7), arms)


@pytest.mark.parametrize("seconds", [1e-9, 1e3])
def test_chunks_change_no_bit(arms: dict[str, Any], seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate_module, "_CALL_SECONDS", seconds)
    assert_same(simulated(small(ARMS), threads=2), arms)


def test_a_kernel_that_knows_its_chunks_is_caught(arms: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken specimen: each call moves the particles by one more rounding error."""
    advance = kernel.Kernel.advance

    def leaky(self: kernel.Kernel, positions: Array, blocks: tuple[int, int], *rest: Any) -> None:
        advance(self, positions, blocks, *rest)
        positions[slice(*blocks)] *= 1 + 1e-6

    monkeypatch.setattr(kernel.Kernel, "advance", leaky)
    with pytest.raises(AssertionError):
        assert_same(simulated(small(ARMS), threads=1), arms)


@pytest.mark.parametrize("spacing", ["linear", "log"])
def test_the_number_of_frames_changes_no_bit_at_common_times(spacing: str) -> None:
    few, many = (
        simulated(small(ARMS, ("frames: 6", f"frames: {frames}, spacing: {spacing}")), threads=2) for frames in (3, 51)
    )
    for name in few:
        times = np.intersect1d(few[name].time, many[name].time)
        assert len(times) >= 2
        # Moves are counted from frame to frame.
        one, other = (run[name].drop_vars("moves").sel(time=times) for run in (few, many))
        assert_same({name: one}, {name: other})


def test_the_seed_decides(arms: dict[str, Any]) -> None:
    assert_same(simulated(small(ARMS)), arms)
    with pytest.raises(AssertionError):
        assert_same(simulated(small(ARMS, ("seed: 3", "seed: 4"))), arms)


def test_a_population_does_not_notice_the_others(arms: dict[str, Any]) -> None:
    scenario = small(ARMS)
    alone = run_populations(scenario.problem, scenario.populations[1:], scenario.sizes)
    assert_same(alone, {"langevin": arms["langevin"]})


def test_populations_with_the_same_rule_draw_apart() -> None:
    twin = "  langevin: {rule: langevin, step_size: 1e-3}\n"
    found = simulated(small(ARMS, (twin, twin + twin.replace("langevin:", "again:"))))
    assert (found["langevin"].position[0] == found["again"].position[0]).all()
    assert (found["langevin"].position[-1] != found["again"].position[-1]).any()


def test_every_particle_is_counted_at_every_time(arms: dict[str, Any]) -> None:
    for data in arms.values():
        assert (data["count"].sum("stratum") == 300).all()
        assert (data.tube_count.sum("stratum") == 300).all()
        assert (data.tube_count.sel(tube_factor=1) == data["count"][-1]).all()
        assert (data.along_count.sum("bin") <= data["count"].sel(stratum=data.along_stratum)).all()


def test_what_ran_away_is_counted_and_the_mean_is_of_the_rest() -> None:
    """Gradient descent on w^4 / 4 with step 1: exactly the starts beyond sqrt(2) diverge."""
    data = simulated(small(RUNAWAY, ("steps: 10", "steps: 60")))["langevin"]
    w = starts(small(RUNAWAY), 0)[:, 0]
    gone = np.abs(w) > ROOT_2
    assert 1000 < gone.sum() < 2000
    assert data["count"].sel(stratum="diverged")[-1] == gone.sum()
    assert data["count"].sel(stratum="diverged")[0] == 0
    assert (data["count"].sum("stratum") == 5000).all()
    assert not np.isfinite(data.position[-1, gone]).any()
    stays = w[~gone]
    for _ in range(60):
        stays = stays - stays**3
    assert data.mean_excess[-1] == pytest.approx((stays**4 / 4).mean(), rel=1e-9)
    assert data.excess_error[-1] == pytest.approx((stays**4 / 4).std() / np.sqrt(len(stays)), rel=1e-9)


def test_where_all_ran_away_there_is_no_mean() -> None:
    fast = ("learning_rate: 1, gradient: full", "learning_rate: 100, gradient: full, start: {w: 'uniform(1, 2)'}")
    data = simulated(small(RUNAWAY, fast, ("steps: 10", "steps: 40")))["langevin"]
    assert data["count"][-1].values.tolist() == [0, 0, 5000]
    assert np.isnan(data.mean_excess[-1])


def test_the_record_agrees_with_the_positions() -> None:
    """In float32 the recorded positions are the particles' own: strata, mean and histograms follow from them."""
    changes = (("frames: 6, bins: 4", "frames: 6, bins: 4, positions: 1000"), ("particles: 300", "particles: 1000"))
    scenario = small(ARMS + "precision: float32\n", *changes)
    xx, ex = scenario.problem.loss.moments
    for data in simulated(scenario).values():
        for t in range(6):
            w1, w2 = data.position.values[t].astype(float).T
            crossing = np.hypot(w1, w2) < 0.1
            flat = ~crossing & (np.abs(w2) < 0.1)
            sharp = ~crossing & ~flat & (np.abs(w1) < 0.1)
            rest = ~crossing & ~flat & ~sharp
            assert data["count"][t].values.tolist() == [crossing.sum(), flat.sum(), sharp.sum(), rest.sum(), 0]
            excess = scenario.problem.loss.excess(np.column_stack([w1, w2]))
            assert data.mean_excess[t] == pytest.approx(excess.mean(), rel=1e-9)
            for arm, position in (("flat_arm", w1[flat]), ("sharp_arm", w2[sharp])):
                expected = np.histogram(position, [-1, -0.5, 0, 0.5, 1])[0]
                assert data.along_count.sel(along_stratum=arm)[t].values.tolist() == expected.tolist()
    assert xx > 0
    assert np.isfinite(ex)


def test_single_precision_stays_close_to_double() -> None:
    """Gradient descent has no noise that could hide a difference: 10 steps in float32 differ by a few roundings."""
    calm = RUNAWAY.replace("learning_rate: 1,", "learning_rate: 0.1, ")
    double, single = (simulated(small(calm + end))["langevin"] for end in ("", "precision: float32\n"))
    difference = np.abs(double.position - single.position).max()
    assert 0 < difference < 1e-6


def test_particles_start_from_the_prior_or_where_it_is_said() -> None:
    """Kolmogorov and Smirnov on 20,000 starts, p > 1e-4; the wrong law is refused."""
    said = (
        "step_size: 1e-3}",
        "step_size: 1e-3, start: {w1: 0.25, w2: 'normal(0.1, 0.2)'}}",
    )
    scenario = small(ARMS, said, ("particles: 300", "particles: 20000"))
    from_prior, from_said = (starts(scenario, k) for k in range(2))
    for axis in (0, 1):
        check_law(from_prior[:, axis], stats.uniform(-1, 2).cdf)
    assert (from_said[:, 0] == 0.25).all()
    cut = Distribution.parse("normal(0.1, 0.2)").truncated(-1, 1)
    mass = stats.norm(0.1, 0.2)
    low, high = mass.cdf([-1, 1])
    check_law(from_said[:, 1], lambda w: (mass.cdf(w) - low) / (high - low))
    assert cut.low == -1
    with pytest.raises(AssertionError):
        check_law(from_said[:, 1], stats.uniform(-1, 2).cdf)
    with pytest.raises(AssertionError):
        check_law(from_prior[:, 0], stats.uniform(-1, 2.05).cdf)


def test_starts_do_not_depend_on_how_many_there_are() -> None:
    many, few = (small(ARMS, ("particles: 300", f"particles: {count}")) for count in (300, 7))
    assert (starts(many, 0)[:7] == starts(few, 0)).all()


def test_only_the_first_particles_are_kept() -> None:
    scenario = small(ARMS, ("bins: 4", "bins: 4, positions: 10"), ("steps: 200", "steps: 5"))
    whole = simulated(small(ARMS, ("steps: 200", "steps: 5")))["sgd"]
    kept = simulated(scenario)["sgd"]
    assert kept.position.shape == (6, 10, 2)
    assert (kept.position == whole.position[:, :10]).all()
    assert (kept["count"] == whole["count"]).all()


def test_open_and_reflecting_walls() -> None:
    """Langevin at a high temperature stays inside the box with reflecting walls and leaves it with open ones."""
    hot = small(ARMS + "nbeta: 0.01\n", ("step_size: 1e-3", "step_size: 1e-2"))
    inside = simulated(hot)["langevin"].position[-1]
    assert float(np.abs(inside).max()) <= 1
    beyond = simulated(hot.changed("box.walls=open"))["langevin"].position[-1]
    assert float(np.abs(beyond).max()) > 1


MEMORY = """
import json, pathlib, resource
from sandbox.scenario.scenario import load
from support.small_runs import simulated

def run(particles, frames):
    return simulated(load("scenarios/crossing.yaml", [
        f"particles={particles}", "steps=199", f"record={{frames: {frames}, positions: 1000}}",
        "populations={langevin: {rule: langevin, step_size: 1e-4}}",
    ]))["langevin"]

kept = run(1000, 200)
data = run(1000000, 20)
# Linux hands ru_maxrss down from the process that started this one; its own peak stands in /proc.
own = pathlib.Path("/proc/self/status")
lines = own.read_text().splitlines() if own.exists() else []
known = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
peak = (known or [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss])[0] * 1024
print(json.dumps([peak, int(data["count"][-1].sum()), kept.sizes["time"], kept.nbytes]))
"""


@pytest.mark.slow
def test_a_million_particles_and_200_frames_fit_in_2_gib() -> None:
    """A frame costs the memory of its rows only: the peak of 20 frames and the record of 200 bound the peak of 200.

    A test with a million particles and 200 frames would take most of a minute and show no more.
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", MEMORY], env=environment, capture_output=True, text=True, check=True)
    peak, particles, frames, size = json.loads(done.stdout)
    assert (frames, particles) == (200, 1_000_000)
    # 200 times 1000 positions in single precision, and a few counts.
    assert 200 * 1000 * 2 * 4 < size < 200 * (1000 * 2 * 4 + 2000)
    assert peak + size < 2 * 2**30


def test_scenarios_are_left_as_they_were() -> None:
    scenario: Scenario = small(ARMS)
    simulated(scenario)
    assert scenario == small(ARMS)
