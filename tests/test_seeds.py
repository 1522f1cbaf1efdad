"""Neighbouring seeds share nothing: data sets, repeats and chains derive from (seed, purpose, index) by hashing."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from support.small_runs import small

from sandbox.comparison import decomposition
from sandbox.comparison.occupancy import resampled_shares
from sandbox.compiled.random_numbers import derived_seed
from sandbox.model.prior import Distribution
from sandbox.model.regression import Regression

LINE = """\
question: Which data?
parameters: {w: "normal(0, 1)"}
loss: {model: w * x, truth: 0, inputs: {x: "normal(0, 1)"}, noise: 1.0, samples: 10}
strata: {point: {zero: [w]}}
measurements: {waic: {samples: 20, data_sets: 5}}
"""
SEEDS = (0, 1, 2, 11, 12, 2**32 - 1, 2**32, 2**32 + 11, 2**64 - 2, 2**64 - 1)
SOURCES = sorted((Path(__file__).parents[1] / "sandbox").rglob("*.py"))


def check_distinct(rows):
    """Assert that no two rows are the same."""
    assert len({np.asarray(row).tobytes() for row in rows}) == len(rows)


def first_data(seed):
    """Return the inputs and residuals of a data set of two samples."""
    model = Regression(("w",), ("w * x",), ("0 * x",), {"x": Distribution("normal", (0.0, 1.0))})
    return model.sampled(2, seed).data


def test_derived_seeds_and_their_data_sets_are_distinct():
    grid = [(seed, name, k) for seed in SEEDS for name in ("waic", "wai", "", "rung") for k in range(25)]
    derived = [derived_seed(*place) for place in grid]
    assert all(0 <= seed < 2**63 for seed in derived)
    assert [derived_seed(*place) for place in grid[:9]] == derived[:9]
    check_distinct(np.array(derived)[:, None])
    check_distinct([first_data(seed) for seed in derived])
    with pytest.raises(AssertionError):
        check_distinct([first_data(seed + k) for seed in (11, 12) for k in range(25)])


def test_waic_of_neighbouring_seeds_has_no_data_set_in_common():
    found = []
    for seed in (11, 12, 13):
        scenario = small(LINE + f"seed: {seed}\n")
        (waic,) = scenario.measurements
        found.append(waic.measure(scenario.problem)["entropy"].values)
    check_distinct(np.concatenate(found))


def test_rungs_of_neighbouring_seeds_resample_on_their_own(monkeypatch):
    counts = np.tile([50, 50, 0], (len(decomposition.RUNGS) + 1, 1))
    posterior = xr.Dataset({"mass": ("stratum", np.array([0.4, 0.6, 0.0])), "share_error": 0.0})
    rows = []
    monkeypatch.setattr(
        decomposition, "resampled_shares", lambda row, seed: rows.append(resampled_shares(row, seed)) or rows[-1]
    )
    for seed in range(4):
        decomposition.contributions(counts, posterior, 0.9, seed)
    assert len(rows) == 4 * len(counts)
    check_distinct(rows)


def arithmetic_on_seeds(text):
    """Return the lines of a file that add to a seed, or count on from it."""

    def is_seed(node):
        return "seed" in (getattr(node, "id", ""), getattr(node, "attr", ""))

    def operands(node):
        if isinstance(node, ast.BinOp):
            return [node.left, node.right]
        return node.args if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("range", "arange") else []

    return [node.lineno for node in ast.walk(ast.parse(text)) if any(map(is_seed, operands(node)))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: "/".join(path.parts[-3:]))
def test_nothing_is_added_to_a_seed(path):
    assert arithmetic_on_seeds(path.read_text()) == []


@pytest.mark.parametrize("broken", ["f(seed + k)", "g(k ^ problem.seed)", "range(self.seed, 9)"])
def test_an_addition_to_a_seed_is_noticed(broken):
    assert arithmetic_on_seeds(broken) == [1]
