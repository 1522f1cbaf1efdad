"""Starts on a stratum and at another population's end: closed laws, equal bits, errors with their place.

Seeds are fixed; a law passes with p > 1e-4 by Kolmogorov and Smirnov on 20,000 starts, and a wrong one is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from support.checks import check_law
from support.small_runs import ARMS, assert_same, simulated, small, starts

from sandbox.dynamics.population import AtEndOf
from sandbox.dynamics.stability.map import step_times_sharpness
from sandbox.dynamics.start import start
from sandbox.model.strata import DIVERGED
from sandbox.scenario.scenario import Scenario
from sandbox.tools.errors import InputError

CIRCLE = """
question: Where on the circle?
source: none
answer: none
parameters: {w1: "normal(0, 1)", w2: "normal(0, 1)"}
loss: {potential: (w1**2 + w2**2 - 1)**2}
nbeta: 100
strata:
  upper: {zero: [w1**2 + w2**2 - 1], where: w2 > 0, along: w1}
  circle: {zero: [w1**2 + w2**2 - 1], along: w1}
populations:
  first: {rule: langevin, step_size: 1e-4, start: {stratum: circle}}
  second: {rule: langevin, step_size: 1e-4, start: {stratum: upper}}
  third: {rule: langevin, step_size: 1e-4, start: {stratum: circle, spread: 0.1}}
particles: 20000
steps: 1
seed: 1
"""
DESCENT = """
question: Where do they end?
source: none
answer: none
parameters: {w: "uniform(-2, 2)"}
box: {walls: open}
loss: {potential: w**4 / 4}
nbeta: 100
strata:
  zero: {zero: [w]}
populations:
  first: {rule: gradient_descent, learning_rate: RATE}
  second: {rule: gradient_descent, learning_rate: RATE, start: {population: first}}
  third: {rule: gradient_descent, learning_rate: RATE, start: {population: second}}
particles: 700
steps: STEPS
record: {frames: 2, spacing: linear, positions: 700}
seed: 1
"""


def own_starts(scenario: Scenario) -> list[Any]:
    own = [population for population in scenario.populations if not isinstance(population.start, AtEndOf)]
    return [start(scenario.problem, population, scenario.sizes.particles) for population in own]


def descent(rate: float, steps: int) -> dict[str, Any]:
    return simulated(small(DESCENT.replace("RATE", str(rate)).replace("STEPS", str(steps))))


def test_on_a_straight_stratum_the_start_is_the_prior_along_it() -> None:
    text = ARMS.replace("particles: 300", "particles: 20000")
    on_it, near = (
        starts(scenario, 1)
        for scenario in (
            small(text, ("step_size: 1e-3", f"step_size: 1e-3, start: {{stratum: sharp_arm, spread: {spread}}}"))
            for spread in (0, 0.05)
        )
    )
    assert (on_it[:, 0] == 0).all()
    check_law(on_it[:, 1], stats.uniform(-1, 2).cdf)
    check_law(near[:, 0], stats.norm(0, 0.05).cdf)
    assert np.abs(near).max() <= 1
    with pytest.raises(AssertionError):
        check_law(on_it[:, 1], stats.uniform(-1, 2.05).cdf)


def test_on_a_circle_directions_are_those_of_a_round_prior() -> None:
    """By symmetry the angle is uniform; under a prior without that symmetry it is not."""
    whole, half, wide = own_starts(small(CIRCLE))
    for points in (whole, half):
        assert np.abs(np.hypot(*points.T) - 1).max() < 1e-9
    check_law(np.arctan2(*whole.T), stats.uniform(-np.pi, 2 * np.pi).cdf)
    check_law(np.arctan2(half[:, 1], half[:, 0]), stats.uniform(0, np.pi).cdf)
    assert (half[:, 1] > 0).all()
    check_law((wide - whole)[:, 0], stats.norm(0, 0.1).cdf)
    flat = small(CIRCLE, ('w2: "normal(0, 1)"', 'w2: "normal(0, 0.5)"'))
    with pytest.raises(AssertionError):
        check_law(np.arctan2(*own_starts(flat)[0].T), stats.uniform(-np.pi, 2 * np.pi).cdf)


def test_a_start_is_dealt_out_over_the_images_of_a_stratum() -> None:
    """w1 = 1 and its mirror image w1 = -1 get every second particle."""
    text = CIRCLE.replace("(w1**2 + w2**2 - 1)**2", "(w1**2 - 1)**2").replace("w1**2 + w2**2 - 1", "w1 - 1")
    scenario = small(text.replace("along: w1", "along: w2") + "symmetries: {mirror: {w1: -w1}}\n")
    assert (own_starts(scenario)[0][:, 0] == np.tile([1, -1], 10000)).all()


def test_starts_on_a_stratum_do_not_depend_on_how_many_there_are() -> None:
    many, few = own_starts(small(CIRCLE)), own_starts(small(CIRCLE, ("particles: 20000", "particles: 7")))
    for all_of_them, some in zip(many, few, strict=True):
        assert (all_of_them[:7] == some).all()


def test_a_descent_in_three_stages_is_one_long_descent() -> None:
    """Without state, schedule and random numbers, three runs one after the other give the bits of one run."""
    stages, long = descent(0.1, 10), descent(0.1, 30)
    end, start_of_second = stages["first"].position.isel(time=-1), stages["second"].position.isel(time=0)
    assert (end.values == start_of_second.values).all()
    assert (stages["third"].position.isel(time=-1).values == long["first"].position.isel(time=-1).values).all()
    assert not (stages["second"].position.isel(time=-1).values == long["first"].position.isel(time=-1).values).all()


def test_who_had_diverged_starts_as_diverged() -> None:
    """Step 1 diverges from |w| > sqrt(2), 29% of the prior: none of these particles returns or is left out."""
    runs = descent(1.0, 12)
    lost = [int(run["count"].sel(stratum=DIVERGED).isel(time=t)) for run in runs.values() for t in (0, -1)]
    assert lost[0] == 0
    assert lost[1] == lost[2] == lost[3] == lost[4]
    assert abs(lost[1] / 700 - (1 - np.sqrt(0.5))) < 5 * np.sqrt(0.21 / 700)
    assert all(int(run["count"].isel(time=-1).sum()) == 700 for run in runs.values())


def test_threads_change_no_bit() -> None:
    scenario = small(DESCENT.replace("RATE", "0.1").replace("STEPS", "10"))
    assert_same(simulated(scenario, threads=1), simulated(scenario, threads=2))


@pytest.mark.parametrize(
    ("said", "place", "message"),
    [
        ("{stratum: cirle}", "start.stratum", "no stratum is 'cirle' (did you mean 'circle'?); known: upper, circle"),
        ("{stratum: circle, spread: -1}", "start.spread", "allowed: a standard deviation, 0 or more"),
        ("{stratum: circle, spread: wide}", "start.spread", "found 'wide'"),
        ("{stratum: circle, width: 1}", "start.width", "unknown key 'width'; known: stratum, spread"),
        ("{population: second}", "start.population", "no population above this one is 'second'; known: none"),
        ("{population: first}", "start.population", "no population above this one is 'first'"),
        ("{population: third, w1: 0}", "start.w1", "unknown key 'w1'; known: population"),
    ],
)
def test_a_start_that_cannot_be_is_an_error_with_its_place(said: str, place: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        small(CIRCLE, ("start: {stratum: circle}", f"start: {said}"))
    assert f"populations.first.{place}: " in str(caught.value)
    assert message in str(caught.value)


def test_a_parameter_may_have_the_name_of_a_place() -> None:
    text = CIRCLE.replace("w1", "stratum").replace("start: {stratum: upper}", "start: prior")
    text = text.replace("start: {stratum: circle, spread: 0.1}", "start: {population: first}")
    points = own_starts(small(text, ("start: {stratum: circle}", "start: {stratum: 0.5, w2: 1}")))[0]
    assert (points == [0.5, 1]).all()


def test_a_stratum_of_little_prior_mass_has_points_and_its_stability_is_told() -> None:
    """An arc of 1 in 31 of the circle is not an empty stratum, though 16 prior points may all miss it."""
    text = CIRCLE.replace("where: w2 > 0", "where: w2 > 0.995")
    scenario = small(text, ("particles: 20000", "particles: 50"))
    for count in (1, 4, 16, 64):
        points = scenario.problem.zero_set.sample(scenario.problem.prior, 0, count)
        assert 0 < len(points) <= count
        assert (points[:, 1] > 0.9949).all()
    assert np.isfinite(step_times_sharpness(scenario.problem, scenario.populations[1], scenario.sizes.steps)).all()
    arc = own_starts(scenario)[1]
    assert (np.abs(arc[:, 0]) < 0.1001).all()
