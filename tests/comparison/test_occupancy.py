"""The comparison against arithmetic: shares, references in closed form, positions along W0, verdicts by hand."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import xarray as xr
from scipy import special
from support.checks import check_share
from support.small_runs import ARMS, PARABOLA, WELLS, Array, record_of, simulated, small

from sandbox.comparison.law import Law
from sandbox.comparison.occupancy import RESAMPLED, compare, resampled_shares, share_interval
from sandbox.comparison.references import REFERENCES, References, coefficients
from sandbox.comparison.verdict import EQUAL, LESS_SINGULAR, MORE_SINGULAR, UNDECIDED, decide
from sandbox.dynamics.stability.map import stability_map
from sandbox.scenario.scenario import Scenario
from sandbox.tools.errors import InputError
from sandbox.tools.progress import Silent

QUARTER, HALF = (Fraction(1, 4), -1), (Fraction(1, 2), -1)


def judged(scenario: Scenario, record: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset, dict[str, str]]:
    """Return posterior, comparison and verdicts of one population's record."""
    population, references = scenario.populations[0], References(scenario)
    posterior, _, comparisons = compare(
        references, references.posterior(), {population.name: record}, coefficients(scenario)
    )
    near = stability_map(scenario.problem, population, scenario.sizes.steps)
    decided = decide(scenario, population, comparisons[population.name], near, Law("", ""))
    return posterior, decided, dict(zip(decided.reference.values, decided.verdict.values, strict=True))


def wells_at(flat: int, sharp: int, elsewhere: int = 0) -> Array:
    """Return particles a little off each well of WELLS, and some between them."""
    return np.repeat([[-0.95], [1.05], [0.1]], [flat, sharp, elsewhere], axis=0)


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
    posterior, found, verdicts = judged(scenario, record_of(scenario, np.full((1000, 1), 0.05), excess=level))

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
    assert set(verdicts.values()) == {EQUAL}


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
    # A particle at the flat well is simpler than a weight on the sharp one's side of the barrier at 1/3.
    sharp = (sharp_high - sharp_low) / total
    chosen = found.preference.sel(reference="level_set", bound="estimate", score="local_learning_coefficient")
    assert chosen.sel(nbeta_factor=1).isel(radius=1) == pytest.approx(0.5 * sharp - 0.5 * (1 - sharp), abs=1e-3)


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
    assert verdicts["posterior"] == EQUAL


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
    assert [verdicts[name] for name in ("posterior", "tempered")] == [EQUAL, EQUAL]
    assert found.nbeta.values[:2] == pytest.approx([50, 50], rel=0.05)
    assert 0.1 < float(posterior.mass[0]) < 0.9
    table = found.preference.sel(reference="posterior")
    assert (table.sel(bound="low") < 0).all()
    assert (table.sel(bound="high") > 0).all()
    assert float(found.agreement.sel(bound="low")) < 0


@pytest.mark.parametrize(
    ("points", "gone", "expected"),
    [
        (wells_at(500, 0), 0, MORE_SINGULAR),
        (wells_at(0, 500), 0, LESS_SINGULAR),
        (wells_at(3, 2), 0, UNDECIDED),
        (wells_at(500, 0), 50, UNDECIDED),
        # The barrier between the wells is at 1/3: these descend to the flat one.
        (wells_at(0, 0, 500), 0, MORE_SINGULAR),
    ],
    ids=["on the simpler", "on the other", "few particles", "many diverged", "above the simpler"],
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
    # A diverged particle is not reached by the posterior: it is less simple than every draw.
    assert (found.preference.sel(reference="posterior", bound="estimate") == -1).all()
    assert np.isnan(found.preference.sel(reference=["tempered", "level_set"])).all()
    assert float(found.not_reached) == pytest.approx(1)
    assert float(found.agreement.sel(bound="estimate")) == pytest.approx(1)
    assert np.isnan(found.reference_mass.sel(reference=["tempered", "level_set"])).all()


def test_a_loss_that_no_posterior_has_is_said_to_be_out_of_reach() -> None:
    """Particles exactly on W0 have K = 0: the tempered posterior is followed as far as it goes."""
    scenario = small(WELLS)
    _, found, verdicts = judged(scenario, record_of(scenario, np.full((100, 1), 1.0)))
    assert bool(found.capped.sel(reference="tempered"))
    assert "where the references at its loss stop" in found.warning.sel(cause="capped").item()
    assert verdicts["posterior"] == LESS_SINGULAR


@pytest.mark.parametrize("level", [0.0, 1e-30, 1e-3])
def test_references_stop_at_a_floor(level: float) -> None:
    """Below 1e-12 of the typical loss the references are those of the floor, and say so; above it, their own."""
    references = References(small(WELLS))
    below = level < references.floor
    found = references.at_level(level, Silent())
    assert {each.measure.capped for each in found.values()} == {below}
    highest = references.energy(found["level_set"].measure.points).max()
    assert 0.5 * max(level, references.floor) < highest <= max(level, references.floor)
    typical = np.median(references.energy(references.scenario.problem.prior.draw(4096, 1, "typical")))
    assert references.floor == pytest.approx(1e-12 * typical, rel=0.5)


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


def test_references_follow_each_population_of_its_own() -> None:
    scenario = small(WELLS)
    references = References(scenario)
    hot, cold = (record_of(scenario, wells_at(50, 50), excess=level) for level in (0.1, 1e-3))
    _, _, found = compare(references, references.posterior(), {"sgd": hot, "langevin": cold}, coefficients(scenario))
    nbeta = [float(found[name].nbeta.sel(reference="tempered")) for name in ("sgd", "langevin")]
    assert nbeta[0] < nbeta[1]
    assert tuple(found["sgd"].reference.values) == REFERENCES
