"""The answer is plain data and one page: every number of a run, and nothing that JSON cannot say."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest
import xarray as xr
from support.small_runs import ARMS, WELLS, record_of, small

from sandbox import run
from sandbox.comparison.occupancy import compare
from sandbox.comparison.record import assemble
from sandbox.comparison.references import REFERENCES, References, coefficients
from sandbox.comparison.report import answer, markdown
from sandbox.comparison.verdict import MEANING, decide
from sandbox.dynamics.stability.map import stability_map
from sandbox.scenario.scenario import Scenario

NAN = float("nan")


def tree_of(scenario: Scenario, records: dict[str, xr.Dataset]) -> xr.DataTree:
    """Return a run's tree from records made by hand, with what only a simulation adds."""
    for name, record in records.items():
        population = next(p for p in scenario.populations if p.name == name)
        records[name] = record.assign(excess_error=("time", [NAN, NAN])).assign_attrs(
            rule=population.rule.rule,
            settings=json.dumps(population.rule.model_dump()),
            gradient=json.dumps({"estimator": population.gradient.name}),
            particles=int(record["count"][0].sum()),
        )
    references = References(scenario)
    truth, found = compare(references, references.posterior(), records, coefficients(scenario))
    judged = {
        p.name: decide(scenario, p, found[p.name], truth, stability_map(scenario.problem, p, scenario.sizes.steps))
        for p in scenario.populations
    }
    return assemble(scenario, records, truth, judged, {})


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
def test_a_learning_coefficient_is_shown_as_the_fraction_that_it_is(value: float | None, text: str) -> None:
    strata = {"tip": {"learning_coefficient": value, "multiplicity": None, "posterior_mass": None}}
    posterior = {"nbeta": 1.0, "log_evidence": 0.0, "evidence_error": 0.0, "mean_excess": 0.0}
    population = {
        "against": {},
        "warnings": [],
        "occupancy": {},
        "moves": {},
        "diverged": 0,
        "stability": {},
        "unstable": [],
        "no_linearisation": "",
    }
    population["against"] = {name: {"verdict": "same", "reason": "-", "mass": {}} for name in REFERENCES}
    found = {"title": "", "question": "", "strata": strata, "posterior": posterior, "measurements": {}}
    assert f"| λ (m) | {text} (-) |" in markdown(found | {"populations": {"sgd": population}})


@pytest.mark.parametrize("name", ["wells", "arms"])
def test_the_page_names_populations_strata_and_coefficients(trees: dict[str, xr.DataTree], name: str) -> None:
    found = answer(trees[name])
    page = markdown(found)
    for population in found["populations"].values():
        for row in population["against"].values():
            assert row["reason"] in page
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
    # Shares, moves, stability: each with as many columns in every row.
    assert [len(set(table)) for table in tables if table] == [1, 1, 1]


def test_a_step_above_the_edge_is_said_in_the_first_line(trees: dict[str, xr.DataTree]) -> None:
    """Wells of curvature 4 and 0 under a step of 1: all of one stratum is above the edge, none of the other."""
    calm = answer(trees["wells"])
    assert all(not population["unstable"] for population in calm["populations"].values())
    scenario = small(WELLS, ("learning_rate: 0.05", "learning_rate: 1"))
    page = markdown(answer(run(scenario)))
    first = next(line for line in page.splitlines() if line.startswith("- "))
    assert first.startswith("- Above the edge of stability, **sgd**: a step overshoots, at 100% of the points of sharp")
    assert "of flat" not in first
    assert "the edge is at 0.5 times this step size" in first
