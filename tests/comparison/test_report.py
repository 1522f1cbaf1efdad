"""The answer is plain data: every number of a run, and nothing that JSON cannot say. Its tables hold the numbers."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest
import xarray as xr
from support.small_runs import ARMS, WELLS, record_of, small, tree_of

from sandbox import run
from sandbox.comparison.page import markdown
from sandbox.comparison.references import REFERENCES
from sandbox.comparison.report import answer
from sandbox.comparison.verdict import MEANING

NAN = float("nan")


@pytest.fixture(scope="module")
def trees() -> dict[str, xr.DataTree]:
    """Runs with something missing in each: no loss at all, no diverged, nothing on an arm."""
    wells, arms = small(WELLS), small(ARMS)
    lost = record_of(wells, np.empty((0, 1)), excess=NAN, gone=300)
    fine = record_of(wells, np.repeat([[-0.95], [1.05]], 150, axis=0))
    on_one_arm = record_of(arms, np.tile([0.5, 0.01], (300, 1)))
    far = record_of(arms, np.tile([0.5, 0.5], (300, 1)))
    return {
        "wells": tree_of(wells, {"sgd": lost, "langevin": fine}),
        "arms": tree_of(arms, {"sgd": on_one_arm, "langevin": far}),
    }


@pytest.mark.parametrize("name", ["wells", "arms"])
def test_the_answer_is_plain_data_without_nan(trees: dict[str, xr.DataTree], name: str) -> None:
    found = answer(trees[name])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    for population in found["populations"].values():
        assert list(population["against"]) == list(REFERENCES)
        for row in population["against"].values():
            assert row["verdict"] in MEANING
            assert row["reason"]


def test_the_answer_holds_the_numbers(trees: dict[str, xr.DataTree]) -> None:
    found = answer(trees["wells"])
    assert found["strata"]["flat"] | {"posterior_mass": 0} == {
        "learning_coefficient": 0.25,
        "learning_coefficient_method": trees["wells"]["posterior"].learning_coefficient_method[0].item(),
        "multiplicity": 1,
        "posterior_mass": 0,
    }
    lost, fine = found["populations"]["sgd"], found["populations"]["langevin"]
    assert lost["diverged"] == 300
    assert lost["mean_excess"] is None
    assert lost["occupancy"]["diverged"]["estimate"] == 1
    assert "300 of 300 particles diverged" in lost["warnings"]
    assert fine["occupancy"]["flat"]["estimate"] == 0.5
    assert fine["against"]["posterior"]["nbeta"] == 50
    assert found["posterior"]["nbeta"] == 50
    assert found["question"] == "Which well?"
    assert (found["reading"], found["is_look"]) == ("", False)
    assert found["scores"] == {"radii": [0.05, 0.1, 0.2], "nbeta": [50, 200]}
    # A population that the posterior does not reach has no median, and no law.
    assert lost["simplicity"].pop("not_reached") == pytest.approx(1)
    assert lost["simplicity"] == {"free_energy": None, "local_learning_coefficient": None}
    assert lost["law"] is None
    assert lost["agreement"]["estimate"] == 1
    against = fine["against"]["posterior"]
    assert against["preference"] == against["preferences"][against["score"]]
    assert fine["simplicity"]["not_reached"] == 0
    assert (lost["kind"], lost["is_sgd"], fine["kind"], fine["is_sgd"]) == ("sgd", True, "sampler", False)
    assert found["headline"]["question"] == "Does SGD reach simple solutions here?"
    assert found["headline"]["answer"] == "Undecided"
    assert {p["steps"] for p in found["populations"].values()} == {50}
    assert lost["moves"] == {"flat": {"sharp": 1, "diverged": 1}, "sharp": {}}
    assert fine["moves"] == {"flat": {"sharp": 1}, "sharp": {}}


def test_every_diverged_particle_stands_in_the_page_with_where_it_came_from(trees: dict[str, xr.DataTree]) -> None:
    page = markdown(answer(trees["wells"]))
    assert "| sgd | flat | sharp 1, diverged 1 |" in page
    assert "| sgd | on no stratum before | diverged 299 |" in page
    assert "| langevin | flat | sharp 1 |" in page


@pytest.mark.parametrize(
    ("value", "text"), [(1 / 6, "1/6"), (5 / 12, "5/12"), (0.5, "1/2"), (1.0, "1"), (0.41667, "0.4167"), (None, "-")]
)
def test_a_learning_coefficient_is_shown_as_the_fraction_that_it_is(
    trees: dict[str, xr.DataTree], value: float | None, text: str
) -> None:
    found = answer(trees["wells"])
    found["strata"]["flat"] |= {"learning_coefficient": value, "multiplicity": None}
    assert f"| λ (m) | {text} (-) | 1/2 (1) |" in markdown(found)


@pytest.mark.parametrize("name", ["wells", "arms"])
def test_the_page_names_populations_strata_and_coefficients(trees: dict[str, xr.DataTree], name: str) -> None:
    found = answer(trees[name])
    page = markdown(found, glossary=None)
    for population in found["populations"].values():
        for row in population["against"].values():
            assert f"| {row['verdict']} |" in page
            assert row["hindrance"] in page
        for warning in population["warnings"]:
            assert warning in page
    for population in found["populations"]:
        assert f"**{population}**" in page
    for stratum, values in found["strata"].items():
        assert f" {stratum} |" in page
        if values["learning_coefficient"] is not None:
            assert f"{Fraction(values['learning_coefficient'])} ({values['multiplicity']:g})" in page
    tables = [[]]
    for line in page.splitlines():
        if line.startswith("|"):
            tables[-1].append(line.count("|"))
        elif tables[-1]:
            tables.append([])
    # Verdicts, shares, moves, stability: each with as many columns in every row.
    assert [len(set(table)) for table in tables if table] == [1, 1, 1, 1]


def test_a_step_above_the_edge_is_said_below_the_stability_map(trees: dict[str, xr.DataTree]) -> None:
    """Wells of curvature 4 and 0 under a step of 1: all of one stratum is above the edge, none of the other."""
    calm = answer(trees["wells"])
    assert all(not population["unstable"] for population in calm["populations"].values())
    assert "Above the edge" not in markdown(calm)
    scenario = small(WELLS, ("learning_rate: 0.05", "learning_rate: 1"))
    page = markdown(answer(run(scenario)))
    (line,) = (line for line in page.splitlines() if line.startswith("- Above the edge"))
    assert line.startswith("- Above the edge of stability, sgd: a step overshoots at 100% of the points of sharp")
    assert "of flat" not in line
    assert "at the least stable of them the edge is 0.5 times this step size" in line
