"""Scenarios: a valid text is built as it says, and a second reading gives the same."""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scenario_texts import FLOW, GOOD, POTENTIAL

from sandbox.dynamics.frames import frame_steps
from sandbox.dynamics.rules.langevin import Langevin
from sandbox.dynamics.rules.sgd import Sgd
from sandbox.scenario.document import read
from sandbox.scenario.files import available, find
from sandbox.scenario.messages import allowed_keys
from sandbox.scenario.scenario import load, loads
from sandbox.scenario.schema import schema
from sandbox.tools.errors import InputError

FOLDER = Path(__file__).parents[2] / "scenarios"
SHIPPED = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def test_a_scenario_holds_what_its_text_says():
    scenario = loads(GOOD, "folder/name.yaml")
    assert scenario.name == "name"
    assert scenario.problem.prior.names == ("w1", "w2")
    assert scenario.problem.prior.bounds.tolist() == [[-1, 1], [-np.inf, np.inf]]
    assert (scenario.problem.loss.samples, scenario.problem.nbeta, scenario.problem.walls) == (100, 100.0, "reflecting")
    assert scenario.problem.population_loss.samples is None
    sgd, langevin = scenario.populations
    assert isinstance(sgd.rule, Sgd)
    assert isinstance(langevin.rule, Langevin)
    assert (sgd.gradient.minibatch, sgd.start, langevin.gradient.name) == (8, None, "full")
    assert (scenario.sizes.particles, scenario.sizes.record.frames, scenario.sizes.record.bins) == (10_000, 50, 60)


def test_a_potential_has_its_noise_start_and_temperature():
    scenario = loads(POTENTIAL, "f.yaml")
    assert scenario.problem.loss is scenario.problem.population_loss
    assert scenario.problem.nbeta == 100
    assert np.array(scenario.problem.loss.gradient_noise, dtype=float).tolist() == [[0.5, 0], [0, 0.5]]
    assert [str(start) for start in scenario.populations[0].start] == ["0.5", "uniform(-1, 1)"]
    assert scenario.problem.zero_set.strata[0].learning_coefficient == 0.5


def test_a_box_cuts_the_prior_and_the_starts():
    scenario = loads(GOOD + "box: {walls: open, bounds: {w2: [-2, 0.5]}}\n", "f.yaml")
    assert scenario.problem.walls == "open"
    assert scenario.problem.prior.bounds.tolist() == [[-1, 1], [-2, 0.5]]
    text = scenario.text.replace("step_size: 1e-4", 'step_size: 1e-4\n    start: {w1: "normal(0, 1)", w2: 0}')
    start = loads(text, "f.yaml").populations[1].start
    assert (start[0].low, start[0].high) == (-1, 1)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_scenarios_are_right(name):
    scenario = load(FOLDER / f"{name}.yaml")
    assert scenario.name == name
    assert scenario.question
    assert scenario.answer
    assert len(scenario.text.splitlines()) < 80
    problem = scenario.problem
    for k, stratum in enumerate(problem.zero_set.strata):
        points = problem.zero_set.sample(problem.prior, k, 200)
        excess = problem.population_loss.excess(points)
        # The excess that a local minimum above W0 states is a decimal number.
        assert np.abs(excess - stratum.excess).max() < max(1e-15, 1e-4 * stratum.excess)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_text_of_a_scenario_reproduces_it(name):
    scenario = load(FOLDER / f"{name}.yaml", ["seed=123", "record.frames=9", "verdict.margin=0.1"])
    again = loads(scenario.text, scenario.filename)
    assert again == scenario
    assert np.array_equal(again.problem.loss.data, scenario.problem.loss.data)
    assert loads(scenario.text.replace("seed: 123", "seed: 124"), scenario.filename) != scenario


def test_scenarios_are_frozen():
    scenario = loads(GOOD, "f.yaml")
    with pytest.raises(dataclasses.FrozenInstanceError):
        scenario.text = ""


def test_flow_style_says_the_same_as_block_style():
    """The uneven crossing in a brief form, as in the manual, equals the shipped one."""
    shipped = load(FOLDER / "uneven_crossing.yaml")
    brief = loads(FLOW, shipped.filename)
    for part in ("question", "populations", "sizes", "measurements", "view", "witness", "verdict"):
        assert getattr(brief, part) == getattr(shipped, part), part
    for part in ("prior", "zero_set", "nbeta", "seed", "derived", "walls", "model"):
        assert getattr(brief.problem, part) == getattr(shipped.problem, part), part


def test_json_schema_knows_the_keys_of_every_scenario():
    """Compare each shipped text with the schema: every key must be known there, or be the user's choice."""
    for name in SHIPPED:
        data = read((FOLDER / f"{name}.yaml").read_text(), name).data
        for path in _mappings(data, ()):
            allowed = allowed_keys(path, data)
            value = functools.reduce(lambda inner, key: inner[key], path, data)
            chosen = {("parameters",), ("strata",), ("populations",), ("loss", "inputs"), ("derived",), ("symmetries",)}
            free = path in chosen or path[-1:] == ("start",) or path[:1] == ("symmetries",)
            assert free or set(value) <= set(allowed), path


def _mappings(value, path):
    if isinstance(value, dict):
        yield path
        for key, inner in value.items():
            yield from _mappings(inner, (*path, key))


def test_every_setting_is_described_in_the_schema():
    for title, model in {**schema()["$defs"], "Scenario": schema()}.items():
        for name, prop in model["properties"].items():
            reference = "$ref" in prop or "const" in prop
            assert reference or prop.get("description"), f"{title}.{name}"


def test_scenarios_are_found_by_path_and_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(FOLDER.parent)
    assert find("crossing") == Path("scenarios/crossing.yaml")
    assert find("scenarios/crossing.yaml") == Path("scenarios/crossing.yaml")
    with pytest.raises(InputError, match=r"no scenario 'crosing' \(did you mean 'crossing'\?\)"):
        find("crosing")
    with pytest.raises(InputError, match="did you mean 'crossing'"):
        find("scenarios/crosing.yaml")
    monkeypatch.chdir(tmp_path)
    assert find("crossing").samefile(FOLDER / "crossing.yaml")
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "crossing.yaml").write_text(GOOD)
    assert find("crossing") == available()["crossing"] == Path("scenarios/crossing.yaml")
    (tmp_path / "line").mkdir()
    assert find("line").samefile(FOLDER / "line.yaml")
    for name in ("x" * 5000, "a\0b"):
        with pytest.raises(InputError):
            find(name)


def test_files_that_cannot_be_read_are_input_errors(tmp_path):
    file = tmp_path / "s.yaml"
    file.write_bytes(b"question: a\nsource: caf\xe9\n")
    with pytest.raises(InputError, match=r"s.yaml:2:12: byte 0xe9 is not UTF-8"):
        load(file)
    file.write_text("a: " + "x" * 5_000_000)
    with pytest.raises(InputError, match="allowed are 1000000"):
        load(file)
    with pytest.raises(InputError, match="it is a folder"):
        load(tmp_path)
    file.write_text("")
    with pytest.raises(InputError, match=r"s.yaml:1:1: a mapping"):
        load(file)


@settings(deadline=None, max_examples=300)
@given(st.integers(1, 10**6), st.integers(2, 300), st.sampled_from(["log", "linear"]))
def test_frames_are_as_many_as_asked_and_span_the_run(steps, frames, spacing):
    times = frame_steps(steps, frames, spacing)
    assert times[0] == 0
    assert times[-1] == steps
    assert len(times) == min(frames, steps + 1)
    assert (np.diff(times) > 0).all()


def test_log_frames_are_geometric_where_steps_are_fine_enough():
    times = frame_steps(10**6, 61, "log")
    late = times[times > 100]
    ratios = late[1:] / late[:-1]
    assert ratios.max() / ratios.min() < 1.02
    assert np.ptp(np.diff(frame_steps(10**6, 61, "linear"))) <= 1


def test_the_law_of_frames_catches_plain_rounding():
    """Broken specimen: rounded geometric times repeat, so removing repeats leaves fewer than asked."""
    rounded = np.unique(np.round(np.geomspace(1, 1000, 99))).astype(int)
    assert len([0, *rounded]) < 100 == len(frame_steps(1000, 100, "log"))
