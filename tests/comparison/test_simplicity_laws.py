"""Laws of the verdict: exact posterior draws are no simpler than the posterior; names, turns and units do not matter.

The stated level of a verdict is 1%. The tests allow as many wrong ones as a binomial law exceeds with probability
10^-3; particles of a colder posterior must exceed it.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from support.null import (
    LOSSES,
    exact_draws,
    exact_draws_of_four,
    four_parameters,
    problem_of,
    resampled,
    square,
    verdict,
    with_quadrature,
)

from sandbox.comparison.simplicity import Scored, agreement, preferences
from sandbox.comparison.verdict import EQUAL, UNDECIDED
from sandbox.model.prior import Prior
from sandbox.tools.arrays import Array

RUNS, PARTICLES = 100, 1000
MOST_WRONG = int(stats.binom.isf(1e-3, RUNS, 0.01))


def wrong(pool: Scored, draws: Scored) -> int:
    """Return the number of verdicts, of RUNS, that call particles of the pool simpler or less simple than the draws."""
    random = np.random.default_rng(7)
    words = [verdict(resampled(pool, PARTICLES, random), draws) for _ in range(RUNS)]
    return sum(word not in (EQUAL, UNDECIDED) for word in words)


@pytest.mark.parametrize("name", LOSSES)
def test_exact_draws_are_as_simple_as_the_posterior(name: str) -> None:
    problem = square(*LOSSES[name])
    simplicity, draws = with_quadrature(problem)
    assert wrong(simplicity.particles(exact_draws(problem, 20_000, 1)), draws) <= MOST_WRONG


@pytest.mark.parametrize("name", ["crossing", "uneven_crossing"])
def test_draws_of_a_colder_posterior_are_simpler(name: str) -> None:
    """The broken specimen: on crossing and uneven_crossing a colder posterior is nearer to the most singular points."""
    problem = square(*LOSSES[name])
    simplicity, draws = with_quadrature(problem)
    assert wrong(simplicity.particles(exact_draws(square(*LOSSES[name], 1e5), 20_000, 1)), draws) > MOST_WRONG


def test_exact_draws_are_as_simple_as_a_sampled_posterior() -> None:
    """In four parameters: 20 runs of SMC, each with particles of its own."""
    pool = exact_draws_of_four(4000, 2)
    words = []
    for seed in range(20):
        simplicity, draws = four_parameters(seed)
        words.append(verdict(simplicity.particles(pool[200 * seed : 200 * (seed + 1)]), draws))
    assert sum(word not in (EQUAL, UNDECIDED) for word in words) <= stats.binom.isf(1e-3, 20, 0.01)


def test_a_sampler_in_one_of_many_modes_is_seen() -> None:
    """Equal modes are equally simple; all particles in one of nine are at least 8/9 elsewhere, exact draws are not."""
    expression = "((w1**2 - 1)**2 * w1**2 + (w2**2 - 1)**2 * w2**2)"
    problem = square(expression, 2.0, 1000)
    simplicity, draws = with_quadrature(problem)
    scale = problem.prior.scale
    posterior = simplicity.particles(exact_draws(problem, 4000, 3))
    apart = agreement(posterior, draws, simplicity.radii[1], scale, 0.99)
    assert apart.low < 0 < apart.high < 0.1
    stuck = simplicity.particles(exact_draws(problem, 40_000, 4))
    middle = np.abs(stuck.solutions).max(axis=1) < 0.5
    alone = simplicity.particles(stuck.points[middle])
    apart = agreement(alone, draws, simplicity.radii[1], scale, 0.99)
    share = 1 - float(draws.weights[np.abs(draws.solutions).max(axis=1) < 0.5].sum())
    assert apart.low < share < apart.high + 0.02


def turned(points: Array, angle: float) -> Array:
    """Return points (N, 2) turned by an angle."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    found: Array = points @ turn.T
    return found


@pytest.mark.parametrize("cold", [100.0, 1e4])
def test_names_turns_and_units_change_no_verdict(cold: float) -> None:
    """Under a normal prior: the same particles with parameters exchanged, turned by 30 degrees, and scaled by 10."""
    prior = Prior.parse({"w1": "normal(0, 1)", "w2": "normal(0, 1)"})
    one, two = "(9/10 * w1 + 3/10 * w2)", "w2"
    first = problem_of(f"({one} * {two}**2)**2 / 2", prior, 100)
    points = exact_draws(problem_of(f"({one} * {two}**2)**2 / 2", prior, cold), 4000, 5)
    swapped = problem_of("((9/10 * w2 + 3/10 * w1) * w1**2)**2 / 2", prior, 100)
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    # A point w of the first problem is at R w, so K is that of R^-1 u.
    back = {"w1": f"({c} * w1 + {s} * w2)", "w2": f"({c} * w2 - {s} * w1)"}
    rotated = problem_of(f"((9/10 * {back['w1']} + 3/10 * {back['w2']}) * {back['w2']}**2)**2 / 2", prior, 100)
    wide = Prior.parse({"v1": "normal(0, 10)", "v2": "normal(0, 10)"})
    scaled = problem_of("((9/10 * v1 + 3/10 * v2) / 10 * (v2 / 10)**2)**2 / 2", wide, 100)
    expected = None
    for problem, moved in (
        (first, points),
        (swapped, points[:, ::-1]),
        (rotated, turned(points, np.pi / 6)),
        (scaled, 10 * points),
    ):
        simplicity, draws = with_quadrature(problem)
        particles = simplicity.particles(np.ascontiguousarray(moved))
        found = preferences(particles, draws, 0.99)
        if expected is None:
            expected = found, verdict(particles, draws)
        # The draws of each problem are others: their error is 0.01.
        assert np.abs(found[..., 0] - expected[0][..., 0]).max() < 0.05
        assert verdict(particles, draws) == expected[1]
    assert expected is not None
    assert expected[1] not in (EQUAL, UNDECIDED) or cold == 100
