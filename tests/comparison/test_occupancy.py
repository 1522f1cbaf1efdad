"""The comparison against arithmetic: preference, intervals, references in closed form, positions along W0."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
import xarray as xr
from scipy import special, stats
from support.checks import check_share
from support.small_runs import ARMS, PARABOLA, WELLS, Array, record_of, simulated, small

from sandbox.comparison.occupancy import RESAMPLED, compare, preference, resampled_shares, share_interval
from sandbox.comparison.references import REFERENCES, References, coefficients
from sandbox.comparison.verdict import LESS_SIMPLE, SAME, SIMPLER, UNDECIDED, decide
from sandbox.dynamics.stability.map import stability_map
from sandbox.scenario.scenario import Scenario
from sandbox.tools.errors import InputError

Rank = tuple[Fraction, int]

QUARTER, HALF = (Fraction(1, 4), -1), (Fraction(1, 2), -1)


def judged(scenario: Scenario, record: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset, dict[str, str]]:
    """Return posterior, comparison and verdicts of one population's record."""
    population, references = scenario.populations[0], References(scenario)
    posterior, comparisons = compare(
        references, references.posterior(), {population.name: record}, coefficients(scenario)
    )
    decided = decide(
        scenario,
        population,
        comparisons[population.name],
        posterior,
        stability_map(scenario.problem, population, scenario.sizes.steps),
    )
    return posterior, decided, dict(zip(decided.reference.values, decided.verdict.values, strict=True))


def wells_at(flat: int, sharp: int, elsewhere: int = 0) -> Array:
    """Return particles a little off each well of WELLS, and some between them."""
    return np.repeat([[-0.95], [1.05], [0.1]], [flat, sharp, elsewhere], axis=0)


@pytest.mark.parametrize(
    ("shares", "reference", "ranks", "expected"),
    [
        ([1, 0], [0, 1], [QUARTER, HALF], 1),
        ([0, 1], [1, 0], [QUARTER, HALF], -1),
        ([1, 0], [0, 1], [HALF, QUARTER], -1),
        # P(simpler) - P(less simple) = 0.3 * 0.4 - 0.7 * 0.6.
        ([0.3, 0.7], [0.6, 0.4], [QUARTER, HALF], 0.3 * 0.4 - 0.7 * 0.6),
        # Only what lies on W0 counts.
        ([0.03, 0.07], [6, 4], [QUARTER, HALF], 0.3 * 0.4 - 0.7 * 0.6),
        # The higher multiplicity at the same λ is the simpler one.
        ([1, 0], [0, 1], [(Fraction(1, 2), -2), (Fraction(1, 2), -1)], 1),
        # Ties, by value or by ignorance.
        ([1, 0], [0, 1], [HALF, HALF], 0),
        ([1, 0], [0, 1], [QUARTER, None], 0),
        # Three strata, two of them tied: 0.5 * 0.8 on the first against the rest, less 0.5 * 0.2.
        ([0.5, 0.25, 0.25], [0.2, 0.5, 0.3], [QUARTER, HALF, HALF], 0.5 * 0.8 - 0.5 * 0.2),
    ],
)
def test_preference_in_closed_cases(
    shares: Sequence[float], reference: Sequence[float], ranks: Sequence[Rank | None], expected: float
) -> None:
    found = preference(np.array(shares, float), np.array(reference, float), ranks)
    assert float(found) == pytest.approx(expected, abs=1e-15)


def test_preference_is_antisymmetric_and_zero_against_itself() -> None:
    random = np.random.default_rng(0)
    ranks = [(Fraction(int(a), 12), -int(m)) for a, m in random.integers(1, 4, (5, 2))]
    for one, other in random.dirichlet(np.ones(5), (20, 2)):
        assert preference(one, one, ranks) == pytest.approx(0, abs=1e-15)
        assert preference(one, other, ranks) == pytest.approx(-preference(other, one, ranks), abs=1e-15)


def test_preference_is_the_effect_size_of_mann_and_whitney() -> None:
    """Against scipy's U on the particles themselves, ties counted half."""
    counts, other = np.array([30, 5, 15]), np.array([10, 20, 20])
    ranks = [QUARTER, HALF, (Fraction(1, 2), -2)]
    order = np.array([0, 2, 1])
    u = stats.mannwhitneyu(np.repeat(order, counts), np.repeat(order, other)).statistic
    assert preference(counts, other, ranks) == pytest.approx(1 - 2 * u / (50 * 50), abs=1e-12)


def test_a_difference_of_means_is_no_preference() -> None:
    """Broken specimen: weighing λ instead of ordering it is caught by the closed cases."""

    def mean_difference(shares: Array, reference: Array, ranks: list[tuple[Fraction, int]]) -> float:
        return float((reference - shares) @ np.array([float(value) for value, _ in ranks]))

    assert mean_difference(np.array([1.0, 0]), np.array([0, 1.0]), [QUARTER, HALF]) != 1


def test_without_anything_on_w0_there_is_no_preference() -> None:
    assert np.isnan(preference(np.zeros(2), np.ones(2), [QUARTER, HALF]))
    assert np.isnan(preference(np.ones(2), np.zeros(2), [QUARTER, HALF]))


TRUE_SHARES, REFERENCE = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.4, 0.4, 0.2])
RANKS = [QUARTER, HALF, (Fraction(3, 4), -1)]


def covered(inflation: int) -> int:
    """Return how often of 600 times a 90% interval holds the true preference; `inflation` 1 is the honest one."""
    truth = float(preference(TRUE_SHARES[:3], REFERENCE, RANKS))
    random = np.random.default_rng(5)
    hits = 0
    for trial in range(600):
        counts = random.multinomial(500, TRUE_SHARES)
        draws = preference(resampled_shares(inflation * counts, trial)[:, :3], REFERENCE, RANKS)
        low, high = np.quantile(draws, [0.05, 0.95])
        hits += low <= truth <= high
    return hits


def test_intervals_of_the_preference_cover_at_the_stated_rate() -> None:
    """|z| < 4 over 600 samples of 500 particles; intervals for twice as many particles are too short and fail."""
    check_share(covered(1), 600, 0.9)
    with pytest.raises(AssertionError):
        check_share(covered(2), 600, 0.9)


def test_drawn_shares_are_those_of_a_dirichlet_law() -> None:
    """Against its moments (4 standard errors), with half a count added to each stratum."""
    counts = np.array([10, 0, 30])
    shares = resampled_shares(counts, 3)
    assert shares.shape == (RESAMPLED, 3)
    assert np.allclose(shares.sum(axis=1), 1, atol=1e-12)
    assert (shares == resampled_shares(counts, 3)).all()
    mean = (counts + 0.5) / 41.5
    spread = np.sqrt(mean * (1 - mean) / 42.5)
    assert (np.abs(shares.mean(axis=0) - mean) < 4 * spread / np.sqrt(RESAMPLED)).all()
    # What no particle did is not impossible: the rule of three says up to 3 / 40 at 95%.
    assert 0 < np.quantile(shares[:, 1], 0.95) < 3 / 40


def together_covered(level: float, truth: Array, particles: int, trials: int = 2000) -> int:
    """Return in how many of the trials all intervals of the shares hold the true ones."""
    counts = np.random.default_rng(8).multinomial(particles, truth, trials)
    low, high = share_interval(counts, level)
    return int(((low <= truth) & (truth <= high)).all(axis=1).sum())


@pytest.mark.parametrize("truth", [[0.5, 0.3, 0.15, 0.05], [0.999, 0.001, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]])
def test_intervals_of_shares_hold_together(truth: list[float]) -> None:
    """Coverage of all at once is at least the level, less 4 standard errors; intervals one by one fail for four even
    shares."""
    trials, level = 2000, 0.95
    floor = trials * level - 4 * np.sqrt(trials * level * (1 - level))
    assert together_covered(level, np.array(truth), 1000) > floor
    single = 1 - (1 - level) * len(truth)
    assert together_covered(single, np.full(4, 0.25), 1000) < floor


def test_a_share_of_all_or_none_has_an_interval_with_a_width() -> None:
    low, high = share_interval(np.array([1000, 0]), 0.99)
    assert (low[1], high[0]) == (0, 1)
    assert 0.99 < low[0] < 1 - 1e-3
    assert 1e-3 < high[1] < 0.01


def test_coefficients_are_derived_or_as_stated() -> None:
    crossing, flat, sharp = coefficients(small(ARMS))
    assert crossing is not None
    assert flat is not None
    assert sharp is not None
    assert [crossing.rank, flat.rank, sharp.rank] == [QUARTER, QUARTER, HALF]
    stated = small(ARMS, ("[w1], along: w2", "[w1], along: w2, learning_coefficient: 1/2, multiplicity: 1"))
    found = coefficients(stated)[2]
    assert found is not None
    assert (found.rank, found.method) == (HALF, "stated")


@pytest.mark.parametrize("said", ["learning_coefficient: 1/4", "learning_coefficient: 1/2, multiplicity: 2"])
def test_a_stated_coefficient_that_theory_contradicts_is_refused_where_it_stands(said: str) -> None:
    scenario = small(ARMS, ("[w1], along: w2", f"[w1], along: w2, {said}"))
    with pytest.raises(InputError, match=r"small\.yaml:15:\d+: strata\.sharp_arm\.learning_coefficient: λ = .* stated"):
        coefficients(scenario)


def test_references_of_a_parabola_in_closed_form() -> None:
    """K = w^2 / 2: the tempered posterior has nbeta = 1 / (2 E K), the level set {K <= l} is |w| <= sqrt(2 l)."""
    scenario, level = small(PARABOLA), 0.02
    posterior, found, verdicts = judged(scenario, record_of(scenario, np.full((50, 1), 0.05), excess=level))

    def within(nbeta: float) -> float:
        return float(special.erf(0.1 * np.sqrt(nbeta / 2)))

    assert posterior.mass[0] == pytest.approx(within(100), abs=1e-6)
    assert posterior.mean_excess == pytest.approx(1 / 200, rel=1e-6)
    assert posterior.log_evidence == pytest.approx(np.log(np.sqrt(2 * np.pi / 100) / 20), abs=1e-6)
    row = found.sel(stratum="minimum")
    expected = [within(100), within(1 / (2 * level)), 0.1 / np.sqrt(2 * level)]
    assert row.reference_mass.values == pytest.approx(expected, abs=1e-3)
    assert row.nbeta.values[:2] == pytest.approx([100, 25], rel=1e-5)
    assert np.isnan(row.nbeta.values[2])
    # The flat prior below the level has the mean level / 3.
    assert row.mean_excess.values == pytest.approx([1 / 200, level, level / 3], rel=1e-3)
    assert set(verdicts.values()) == {SAME}


def test_the_level_set_of_two_wells_by_arithmetic() -> None:
    """{(w - 1)^2 (w + 1)^4 <= 8 l} is bounded by the roots of two cubics; the masses are lengths."""
    scenario, level = small(WELLS), 1e-3
    _, found, _ = judged(scenario, record_of(scenario, wells_at(50, 50), excess=level))
    ends = []
    for sign in (1, -1):
        roots = np.roots([1, 1, -1, -1 - sign * np.sqrt(8 * level)])
        ends += [float(root.real) for root in roots if abs(root.imag) < 1e-9]
    low, high, sharp_low, sharp_high = sorted(ends)
    lengths = [min(high, -0.8) - max(low, -1.2), min(sharp_high, 1.2) - max(sharp_low, 0.8)]
    total = high - low + sharp_high - sharp_low
    mass = found.reference_mass.sel(reference="level_set").values
    assert mass[:2] == pytest.approx(np.array(lengths) / total, abs=3e-3)
    expected = 0.5 * mass[1] / mass[:2].sum() - 0.5 * mass[0] / mass[:2].sum()
    assert found.preference.sel(reference="level_set", bound="estimate") == pytest.approx(expected, abs=1e-12)


def test_langevin_on_a_parabola_agrees_with_the_posterior() -> None:
    """The tube's share of 20,000 particles after 40 relaxation times: ULA's variance is 1 / (a (1 - h a / 2))."""
    scenario = small(
        PARABOLA + "particles: 20000\nrecord: {frames: 2}\n",
        ("step_size: 1e-4", "step_size: 1e-3, start: {w: 0}"),
        ("steps: 10", "steps: 400"),
    )
    record = simulated(scenario)["langevin"]
    spread = np.sqrt(1 / (100 * (1 - 1e-3 * 100 / 2)))
    check_share(int(record["count"][-1, 0]), 20000, float(special.erf(0.1 / spread / np.sqrt(2))))
    with pytest.raises(AssertionError):
        check_share(int(record["count"][-1, 0]), 20000, float(special.erf(0.1 / (1.1 * spread) / np.sqrt(2))))
    _, _, verdicts = judged(scenario, record)
    assert verdicts["posterior"] == SAME


def posterior_draws(scenario: Scenario, count: int) -> Array:
    """Return independent draws from the posterior of one parameter, by inverting its distribution function."""
    low, high = scenario.problem.prior.bounds[0]
    w = np.linspace(low, high, 200_001)
    density = np.exp(-scenario.problem.nbeta * scenario.problem.loss.excess(w[:, None]))
    uniforms = np.random.default_rng(2).uniform(size=count)
    draws: Array = np.interp(uniforms, np.cumsum(density) / density.sum(), w)[:, None]
    return draws


def test_particles_drawn_from_the_posterior_are_as_simple_as_it() -> None:
    scenario = small(WELLS)
    posterior, found, verdicts = judged(scenario, record_of(scenario, posterior_draws(scenario, 20_000)))
    assert [verdicts[name] for name in ("posterior", "tempered")] == [SAME, SAME]
    assert found.nbeta.values[:2] == pytest.approx([50, 50], rel=0.05)
    assert 0.1 < float(posterior.mass[0]) < 0.9
    _, low, high = found.preference.sel(reference="posterior").values
    assert low < 0 < high


@pytest.mark.parametrize(
    ("points", "gone", "expected"),
    [
        (wells_at(500, 0), 0, SIMPLER),
        (wells_at(0, 500), 0, LESS_SIMPLE),
        (wells_at(3, 2), 0, UNDECIDED),
        (wells_at(500, 0), 50, UNDECIDED),
        (wells_at(100, 0, 900), 0, UNDECIDED),
        (wells_at(0, 0, 100), 0, UNDECIDED),
    ],
    ids=["on the simpler", "on the other", "few particles", "many diverged", "most elsewhere", "none on W0"],
)
def test_verdicts_on_particles_placed_by_hand(points: Array, gone: int, expected: str) -> None:
    scenario = small(WELLS)
    _, found, verdicts = judged(scenario, record_of(scenario, points, gone=gone))
    assert verdicts["posterior"] == expected
    last = found.occupancy.isel(time=-1)
    assert float(last.sel(bound="estimate").sum()) == pytest.approx(1)
    assert (last.sel(bound="low") <= last.sel(bound="estimate") + 1e-12).all()
    assert (last.sel(bound="high") >= last.sel(bound="estimate") - 1e-12).all()


def test_where_every_particle_diverged_only_the_posterior_is_left() -> None:
    scenario = small(WELLS)
    _, found, verdicts = judged(scenario, record_of(scenario, np.empty((0, 1)), excess=np.nan, gone=40))
    assert set(verdicts.values()) == {UNDECIDED}
    assert np.isnan(found.preference.values).all()
    assert np.isnan(found.reference_mass.sel(reference=["tempered", "level_set"])).all()


def test_a_loss_that_no_posterior_has_is_said_to_be_out_of_reach() -> None:
    """Particles exactly on W0 have K = 0: the tempered posterior is followed as far as it goes."""
    scenario = small(WELLS)
    _, found, verdicts = judged(scenario, record_of(scenario, np.full((100, 1), 1.0)))
    assert bool(found.capped.sel(reference="tempered"))
    assert "below that of the tempered" in found.warning.sel(cause="capped").item()
    assert verdicts["posterior"] == LESS_SIMPLE


def test_distances_along_w0_of_known_histograms() -> None:
    """The posterior along a degenerate line is the prior: the distance of one full bin from four equal ones."""
    text = ARMS.replace("w1 * w2**2 * x", "w1 * x").replace("  crossing: {zero: [w1, w2]}\n", "")
    scenario = small(text, ("  flat_arm: {zero: [w2], along: w1}\n", ""))
    points = np.column_stack([np.full(100, 0.01), np.full(100, 0.1)])
    _, found, _ = judged(scenario, record_of(scenario, points))
    assert found.distance_along.sel(reference="posterior").item() == pytest.approx((1 + 0.5 + 0 + 0.5) / 4, abs=1e-6)
    even = np.column_stack([np.zeros(400), np.repeat([-0.75, -0.25, 0.25, 0.75], 100)])
    _, found, _ = judged(scenario, record_of(scenario, even, excess=1e-3))
    assert found.distance_along.sel(reference="posterior").item() == pytest.approx(0, abs=1e-6)
    _, found, _ = judged(scenario, record_of(scenario, even + np.array([0.5, 0]), excess=1e-3))
    assert np.isnan(found.distance_along.sel(reference="posterior").item())


def test_preference_over_time_is_that_of_each_time() -> None:
    scenario = small(WELLS)
    record = record_of(scenario, wells_at(100, 100))
    record["count"][0] = [200, 0, 0, 0]
    posterior, found, _ = judged(scenario, record)
    mass = posterior.mass.values[:2] / posterior.mass.values[:2].sum()
    assert found.preference_over_time.values == pytest.approx([mass[1], 0.5 * mass[1] - 0.5 * mass[0]], abs=1e-9)


def test_references_follow_each_population_of_its_own() -> None:
    scenario = small(WELLS)
    references = References(scenario)
    hot, cold = (record_of(scenario, wells_at(50, 50), excess=level) for level in (0.1, 1e-3))
    _, found = compare(references, references.posterior(), {"sgd": hot, "langevin": cold}, coefficients(scenario))
    nbeta = [float(found[name].nbeta.sel(reference="tempered")) for name in ("sgd", "langevin")]
    assert nbeta[0] < nbeta[1]
    assert tuple(found["sgd"].reference.values) == REFERENCES
