"""Preference and agreement in closed cases, and their intervals: in [-1, 1], with the errors of both sides."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from support.checks import check_share
from support.small_runs import Array

from sandbox.comparison.local_posterior import NBETA_FACTORS, Scores
from sandbox.comparison.simplicity import SCORES, TIES, Interval, Scored, agreement, drawn, preference
from sandbox.posterior.measure import Measure

NAN = float("nan")
LEVEL, TRIALS = 0.9, 300
Runs = npt.NDArray[np.int64] | None


def scored(values: Sequence[float] | Array, run_of: Runs = None, weights: Array | None = None) -> Scored:
    """Return points with these values of both scores at each nbeta and one radius; without `weights` all are equal."""
    column = np.asarray(values, dtype=np.float64)[:, None]
    both = np.broadcast_to(column, (len(NBETA_FACTORS), 1, *column.shape))
    shares = np.full(len(column), 1 / len(column)) if weights is None else weights
    runs = 1 if run_of is None else int(run_of.max()) + 1
    return Scored(column, column, Scores(both, both), shares, run_of, runs)


def preferred(ours: Scored, theirs: Scored, score: str = SCORES[0], level: float = LEVEL) -> Interval:
    return preference(ours, theirs, score, 0, 0, level)


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([1.0], [2.0], 1),
        ([2.0], [1.0], -1),
        ([1.0], [1.0], 0),
        # Two of four pairs are simpler, one is less simple, one is equal.
        ([1, 3], [2, 3], 1 / 4),
        ([1, 1, 5], [2, 0], (1 - 1 + 1 - 1 - 2) / 6),
        # What the posterior does not reach is less simple than all, and as simple as its like.
        ([NAN], [1e9], -1),
        ([1e9], [NAN], 1),
        ([NAN], [NAN], 0),
        ([NAN, 1], [1, NAN], 0),
    ],
)
@pytest.mark.parametrize("score", SCORES)
def test_preference_in_closed_cases(ours: list[float], theirs: list[float], expected: float, score: str) -> None:
    assert preferred(scored(ours), scored(theirs), score).estimate == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("score", SCORES)
def test_differences_within_the_tie_count_as_none(score: str) -> None:
    """A hair less than the tie is equal, a hair more is not; and a tie of 0 would call the first one simpler."""
    for apart, expected in ((0.99, 0), (1.01, 1)):
        found = preferred(scored([1.0]), scored([1.0 + apart * TIES[score]]), score)
        assert found.estimate == expected


def test_preference_is_antisymmetric_and_zero_against_itself() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        one, other = (random.normal(0, 0.3, size) for size in (40, 25))
        one[random.random(40) < 0.1] = NAN
        other[random.random(25) < 0.1] = NAN
        assert preferred(scored(one), scored(one)).estimate == pytest.approx(0, abs=1e-15)
        there, back = preferred(scored(one), scored(other)), preferred(scored(other), scored(one))
        assert there == pytest.approx((-back.estimate, -back.high, -back.low), abs=1e-12)


def test_preference_is_the_effect_size_of_mann_and_whitney() -> None:
    """Against scipy's U, ties counted half; scores are whole numbers, so that ties are those of scipy."""
    random = np.random.default_rng(1)
    ours, theirs = random.integers(0, 6, 50).astype(float), random.integers(1, 7, 30).astype(float)
    ours[:5], theirs[:2] = NAN, NAN
    u = stats.mannwhitneyu(np.nan_to_num(ours, nan=99), np.nan_to_num(theirs, nan=99)).statistic
    assert preferred(scored(ours), scored(theirs)).estimate == pytest.approx(1 - 2 * u / (50 * 30), abs=1e-12)


def test_only_the_order_of_scores_counts() -> None:
    """A difference of means would grow with the scores; broken specimen."""
    near, far = (preferred(scored([1.0, 2.0]), scored([value, 1.5])).estimate for value in (3.0, 300.0))
    assert near == far
    assert np.mean([300.0, 1.5]) - np.mean([1.0, 2.0]) > 100 * far


def test_runs_count_by_their_weights() -> None:
    """Three quarters of the reference's mass is in the run that is less simple than the particles."""
    run_of, weights = np.array([0, 0, 1, 1]), np.array([0.125, 0.125, 0.375, 0.375])
    found = preferred(scored([2.0] * 5), scored([1.0, 1.0, 3.0, 3.0], run_of, weights))
    assert found.estimate == pytest.approx(0.75 - 0.25, abs=1e-15)


def test_each_run_is_compared_by_the_scores_that_leave_it_out() -> None:
    """Entry k of a particle's scores leaves out run k: only the pairs of the same part count."""
    ours = np.array([[1.0, 9.0, NAN]])
    theirs = np.array([[2.0, 0.0, 0.0], [NAN, 5.0, 0.0]])
    run_of = np.array([0, 1])

    def parted(values: Array, run_of: Runs) -> Scored:
        both = np.broadcast_to(values, (len(NBETA_FACTORS), 1, *values.shape))
        points = np.zeros((len(values), 1))
        return Scored(points, points, Scores(both, both), np.full(len(values), 1 / len(values)), run_of, 2)

    # Simpler than the draw of run 0 (1 against 2), less simple than that of run 1 (9 against 5).
    assert preferred(parted(ours, None), parted(theirs, run_of)).estimate == 0
    own = parted(theirs, run_of).own()
    assert own.free_energy[0, 0] == pytest.approx([2, 5])


@pytest.mark.parametrize("count", [1, 3, 50, 5000])
def test_intervals_stay_inside_and_have_a_width_where_all_agree(count: int) -> None:
    for ours, theirs in (([0.0], [1.0]), ([1.0], [0.0]), ([1.0], [1.0])):
        value, low, high = preferred(scored(ours * count), scored(theirs * count))
        assert -1 <= low <= value <= high <= 1
        assert high - low > 1 / count


def truth(apart: float, tie: float, spread: float = 1.0) -> float:
    """Return P(x < y - tie) - P(x > y + tie) of normal x and y whose means are this far apart."""
    root = np.sqrt(1 + spread**2)
    return float(stats.norm.cdf((apart - tie) / root) - stats.norm.cdf((-apart - tie) / root))


Trial = Callable[[np.random.Generator], tuple[Scored, Scored]]


def held(trial: Trial, true: float, trials: int = TRIALS) -> int:
    """Return how often the 90% interval of a preference holds the true one."""
    random = np.random.default_rng(8)
    found = [preferred(*trial(random)) for _ in range(trials)]
    return sum(low <= true <= high for _, low, high in found)


def independent(repeats: int = 1) -> Trial:
    """Return trials with independent draws; with `repeats` each stands for so many, which is the broken specimen."""

    def trial(random: np.random.Generator) -> tuple[Scored, Scored]:
        return scored(random.normal(0, 1, 2000)), scored(np.repeat(random.normal(0.5, 1, 500), repeats))

    return trial


def in_runs(known: bool) -> Trial:
    """Return trials with draws in 8 runs whose means differ; not `known` as runs they are the broken specimen."""

    def trial(random: np.random.Generator) -> tuple[Scored, Scored]:
        values = 0.5 + random.normal(0, 0.5, (8, 1)) + random.normal(0, 1, (8, 250))
        return scored(random.normal(0, 1, 2000)), scored(
            values.ravel(), np.repeat(np.arange(8), 250) if known else None
        )

    return trial


@pytest.mark.parametrize(
    ("honest", "broken", "spread"),
    [(independent(), independent(10), 1.0), (in_runs(True), in_runs(False), np.hypot(1, 0.5))],
    ids=["independent draws", "draws in runs"],
)
def test_intervals_cover_at_the_stated_rate(honest: Trial, broken: Trial, spread: float) -> None:
    true = truth(0.5, TIES[SCORES[0]], spread)
    check_share(held(honest, true), TRIALS, LEVEL)
    with pytest.raises(AssertionError):
        check_share(held(broken, true), TRIALS, LEVEL)


def test_the_interval_of_a_law_known_by_quadrature_covers_at_least_at_the_stated_rate() -> None:
    """Systematic draws have less error than independent ones, whose error the interval assumes."""
    draws = scored(stats.norm.ppf((np.arange(1000) + 0.5) / 1000, 0.5))
    hits = held(lambda random: (scored(random.normal(0, 1, 1000)), draws), truth(0.5, TIES[SCORES[0]]))
    assert hits > TRIALS * LEVEL - 4 * np.sqrt(TRIALS * LEVEL * (1 - LEVEL))


def test_more_particles_do_not_hide_the_error_of_the_draws() -> None:
    random = np.random.default_rng(4)
    draws = scored(random.normal(0.5, 1, 100))
    few, many = (preferred(scored(random.normal(0, 1, count)), draws) for count in (100, 100_000))
    floor = 2 * 1.645 * draws.weights[0] ** 0.5 * 0.5
    assert few.high - few.low > many.high - many.low > floor


def placed(points: Array, run_of: Runs = None, weights: Array | None = None) -> Scored:
    """Return points (N, D) that are solutions."""
    blank = np.zeros((1, 1, len(points), 1))
    shares = np.full(len(points), 1 / len(points)) if weights is None else weights
    return Scored(points, points, Scores(blank, blank), shares, run_of, 1 if run_of is None else int(run_of.max()) + 1)


def apart(ours: Array, theirs: Array, run_of: Runs = None, level: float = 0.99) -> Interval:
    return agreement(placed(ours), placed(theirs, run_of), 0.1, np.ones(ours.shape[1]), level)


def test_agreement_is_the_total_variation_distance_of_laws_that_a_radius_tells_apart() -> None:
    """Of 25 points with equal mass the particles have one; or half of theirs as the reference, half at another one."""
    random = np.random.default_rng(2)
    modes = random.permutation(np.repeat(np.arange(25.0), 80))[:, None]
    assert apart(np.full((2000, 1), 7.0), modes).estimate == pytest.approx(24 / 25, abs=1e-9)
    both = random.permutation(np.concatenate([modes[:1000], np.full((1000, 1), 30.0)]))
    value, low, high = apart(both, modes)
    assert low < 0.5 < high
    assert value == pytest.approx(0.5, abs=0.1)
    # In runs, one half of which teaches and the other counts.
    assert apart(np.full((2000, 1), 7.0), modes, np.arange(2000) % 4).estimate == pytest.approx(24 / 25, abs=0.02)


def test_a_diverged_particle_is_where_no_draw_is() -> None:
    draws = np.zeros((1000, 2))
    lost = np.concatenate([np.zeros((750, 2)), np.full((250, 2), NAN)])
    assert apart(lost, draws).estimate == pytest.approx(0.25)
    assert apart(np.full((1000, 2), NAN), draws).estimate == 1


def test_equal_laws_are_seldom_said_to_differ() -> None:
    """At a level of 90% the lower end is above 0 for at most 5%, but for a binomial's 4 standard errors.

    Broken specimen: with draws that only half of them know (the same points twice) it is above 0 more often.
    """
    random = np.random.default_rng(6)
    trials, found, broken = 300, 0, 0
    for _ in range(trials):
        ours, theirs = random.uniform(size=(2, 200, 1))
        found += apart(ours, theirs, level=LEVEL).low > 0
        shown = np.repeat(random.uniform(size=(10, 1)), 20, axis=0)
        broken += apart(ours, shown, level=LEVEL).low > 0
    limit = trials * 0.05 + 4 * np.sqrt(trials * 0.05 * 0.95)
    assert found <= limit < broken


def test_draws_of_equal_weight_stand_for_a_weighted_measure() -> None:
    """Each mass is kept to one draw, in every run; a run without points is left out."""
    random = np.random.default_rng(3)
    weights = random.dirichlet(np.full(50, 0.3))
    points = np.arange(50.0)[:, None]
    found, shares, run_of = drawn(measure_of(points, weights), 1000)
    assert run_of is None
    assert shares == pytest.approx(1 / 1000)
    counts = np.bincount(found[:, 0].astype(int), minlength=50)
    assert np.abs(counts / 1000 - weights).max() <= 1 / 1000 + 1e-12

    of_run = np.repeat([0, 1, 3], [20, 20, 10])
    found, shares, run_of = drawn(measure_of(points, weights, of_run, 4), 80)
    assert run_of is not None
    assert set(run_of) == {0, 1, 3}
    assert shares.sum() == pytest.approx(1)
    for run in (0, 1, 3):
        assert shares[run_of == run].sum() == pytest.approx(weights[of_run == run].sum())
        assert np.ptp(shares[run_of == run]) == 0


def measure_of(points: Array, weights: Array, run_of: Runs = None, runs: int = 1) -> Measure:
    return Measure(points, weights, 0.0, 0.0, 0.0, 1.0, True, 0, run_of=run_of, runs=runs)
