"""Where SGD parts from the posterior: contributions add up, and each rung moves what only it can move."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from sandbox import run
from sandbox.comparison.decomposition import LONGER, RUNGS, contributions
from sandbox.model.strata import DIVERGED
from sandbox.scenario.scenario import load
from sandbox.tools.errors import InputError

FOLDER = Path(__file__).parents[2] / "scenarios"
SMALL = ("particles=4000", "steps=400", "record.frames=9", "measurements.phases.samples=[10, 100]")


def posterior_of(mass, error=0.0):
    return xr.Dataset({"mass": ("stratum", np.array(mass)), "share_error": error})


def counts_of(shares, particles=10_000):
    return np.round(np.array(shares) * particles).astype(np.int64)


MASS = [0.5, 0.3, 0.2, 0.0]
SHARES = [
    [0.2, 0.6, 0.2, 0],
    [0.2, 0.6, 0.2, 0],
    [0.3, 0.5, 0.2, 0],
    [0.3, 0.5, 0.1, 0.1],
    [0.1, 0.7, 0.1, 0.1],
    [0, 1, 0, 0],
]


def test_contributions_add_up_to_the_total_variation_distance():
    found = contributions(counts_of(SHARES), posterior_of(MASS), 0.99, 1)
    distance = np.abs(np.array(SHARES[4]) - MASS).sum() / 2
    assert found[: len(RUNGS), 0].sum() == pytest.approx(distance, abs=1e-12)
    # A rung that goes back towards the posterior takes away; one that changes nothing contributes nothing.
    np.testing.assert_allclose(found[:, 0], [0.3, 0, -0.1, 0.1, 0.2, 0.2], atol=1e-12)
    assert np.abs(np.diff(SHARES, axis=0, prepend=[MASS])).sum() / 2 > distance + 0.1


def test_intervals_hold_the_truth_as_often_as_they_say():
    """300 repetitions at 90%: all six hold together at least that often, but for a binomial's 4 standard errors."""
    rng = np.random.default_rng(5)
    truth = contributions(counts_of(SHARES, 10**9), posterior_of(MASS), 0.9, 1)[:, 0]
    held = narrow = 0
    for repetition in range(300):
        counts = np.array([rng.multinomial(2000, row) for row in SHARES])
        estimate, low, high = contributions(counts, posterior_of(MASS), 0.9, repetition).T
        held += bool(((low <= truth) & (truth <= high)).all())
        third = (high - low) / 6
        narrow += bool((np.abs(estimate - truth) <= third).all())
    limit = 300 * (0.9 - 4 * np.sqrt(0.09 / 300))
    assert held >= limit > narrow


def test_the_posteriors_own_error_is_in_the_first_rung_alone():
    sure, unsure = (contributions(counts_of(SHARES), posterior_of(MASS, error), 0.99, 1) for error in (0.0, 0.02))
    widened = (unsure[:, 2] - unsure[:, 1]) - (sure[:, 2] - sure[:, 1])
    np.testing.assert_allclose(widened, [0.08, 0, 0, 0, 0, 0], atol=1e-12)


@pytest.fixture(scope="module")
def uneven():
    return run(FOLDER / "uneven_crossing.yaml", overrides=SMALL)


def test_rungs_of_the_uneven_crossing(uneven):
    """The flow ends by its charge, the last rung but one is the population itself, to the particle."""
    found = uneven["measurements/decomposition"].to_dataset()
    counts = uneven["populations/sgd/count"].isel(time=-1)
    share = found.share.sel(rung="minibatch_sgd", bound="estimate")
    assert np.array_equal(share.values, (counts / counts.sum()).values)
    flow = uneven["populations/gradient_flow/count"].isel(time=-1).values / 4000
    # Substeps of the flow: 32 here, 8 there; their ends differ by less than a particle in a thousand.
    assert np.abs(found.share.sel(rung="gradient_flow", bound="estimate").values - flow).max() < 1e-3
    assert float(found.distance) == pytest.approx(
        np.abs(share.values - found.posterior_share.values).sum() / 2, abs=1e-12
    )
    assert list(found.rung.values) == [*RUNGS, LONGER]
    assert "10 times as many steps" in found.attrs["summary"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("decomposition.population=nobody", "unknown population 'nobody'; known: gradient_flow"),
        ("decomposition.population=langevin", "'langevin' follows langevin"),
        ("decomposition.population=gradient_flow", "'gradient_flow' follows gradient_descent"),
        ("populations.sgd.momentum=0.5", "follows sgd with momentum or clip"),
        ("populations.sgd.gradient=full", "models the noise of a minibatch; found 'full'"),
        ("decomposition.longer=1", "decomposition.longer"),
    ],
)
def test_what_cannot_be_taken_apart(override, said):
    with pytest.raises(InputError, match=said):
        load(FOLDER / "uneven_crossing.yaml", [override])


def test_the_diverged_are_counted_on_every_rung_by_where_they_came_from():
    """Far above the edge, with no walls: the step sends particles away, the flow none; nobody is lost count of."""
    tree = run(FOLDER / "uneven_crossing.yaml", overrides=(*SMALL, "populations.sgd.learning_rate=2", "box.walls=open"))
    found = tree["measurements/decomposition"].to_dataset()
    gone = found.diverged_from.sum("stratum")
    shown = found.share.sel(stratum=DIVERGED, bound="estimate")
    np.testing.assert_allclose(gone / 4000, shown, atol=1e-12)
    assert gone.sel(rung="gradient_flow") == 0 < gone.sel(rung="minibatch_sgd") < 4000
    assert (found.diverged_from.values >= 0).all()
    assert found.diverged_from.sel(rung="minibatch_sgd", stratum="flat_arm") > 0
    for rung in found.rung.values:
        said = f"{int(gone.sel(rung=rung)):,} diverged at {rung} (from "
        assert (said in found.attrs["summary"]) == bool(gone.sel(rung=rung) > 0)
