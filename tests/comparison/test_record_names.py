"""Every variable of the record has a name in words and units, stands in docs/record.md, and collides with no name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from support.record_table import check_documented, documented, recorded
from support.small_runs import EVERYTHING, WELLS, small

from sandbox.commands import run as run_job
from sandbox.comparison.page import markdown
from sandbox.comparison.record import assemble, open_result
from sandbox.comparison.report import answer
from sandbox.measurements.registry import MEASUREMENTS
from sandbox.pictures.figure import figure
from sandbox.pictures.loss_panels import measurement_figure
from sandbox.pictures.scene import Scene
from sandbox.scenario.scenario import Scenario, loads
from sandbox.tools.errors import InputError

NAMES = sorted({name for (_, variable), (dims, *_) in documented().items() for name in (variable, *dims)})
"""Every variable and dimension of the record."""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run with every measurement, whose names are those of dimensions, variables and groups."""
    folder = tmp_path_factory.mktemp("results") / "everything"
    run_job.run(small(EVERYTHING), out=folder)
    return folder


def test_the_record_and_its_documentation_hold_the_same_variables(stored: Path) -> None:
    tree = open_result(stored)
    assert set(tree["measurements"].children) == {*MEASUREMENTS, "decomposition"}
    check_documented(tree)
    assert set(documented()) == set(recorded(tree)), "a row is left of a variable that is gone"


def test_a_variable_without_words_or_row_is_noticed(stored: Path) -> None:
    for name, variable in (("mass", xr.Variable("stratum", np.zeros(5))), ("news", xr.Variable((), 1.0))):
        tree = open_result(stored)
        tree["posterior"] = tree["posterior"].assign({name: variable})
        with pytest.raises(AssertionError):
            check_documented(tree)


def test_names_of_dimensions_are_answered_and_drawn(stored: Path) -> None:
    tree = open_result(stored)
    found = answer(tree)
    assert found == json.loads((stored / "answer.json").read_text())
    assert list(found["populations"]) == ["time", "population"]
    assert list(found["strata"]) == ["source", "stratum", "start", "elsewhere"]
    assert {"simplicity.png", "figure.png", "animation.gif", "measurements.png"} <= {
        path.name for path in stored.iterdir()
    }
    assert f"along {Scene.of(tree).along_strata[0]}" in [axes.get_title() for axes in figure(tree).axes]
    passage = tree["measurements/passage"].to_dataset()
    # The stratum `start` is another departure than the start of the run.
    assert list(passage.departure.values) == ["the start", "source", "stratum", "start"]
    assert measurement_figure(tree).axes


def of_every_name(**parts: str) -> Scenario:
    """Return a scenario on the line w2 = 0 with the given parts of its text."""
    text = """\
question: Do names collide?
parameters: {w1: "uniform(-1, 1)", w2: "uniform(-1, 1)"}
loss: {potential: w2**2 / 2}
nbeta: 10
witness: {method: sampling, particles: 64, runs: 2, sweeps: 12}
particles: 16
steps: 2
record: {frames: 2, bins: 2, positions: 4}
populations: {sgd: {rule: gradient_descent, learning_rate: 0.1}}
strata: {line: {zero: [w2], along: w1}}
"""
    changed = loads(text).changed(*(f"{key}={value}" for key, value in parts.items()))
    assert changed != loads(text)
    return changed


def test_a_population_may_have_any_name_of_the_record() -> None:
    """One population's record under every name: a coordinate at the root would be inherited beside these names."""
    rule = "{rule: gradient_descent, learning_rate: 0.1}"
    names = [name for name in NAMES if name != "posterior"]
    scenario = of_every_name(populations=f"{{{', '.join(f'{name}: {rule}' for name in names)}}}")
    one = run_job.record(of_every_name(steps="3"))
    data, posterior = one["populations/sgd"].to_dataset(), one["posterior"].to_dataset()
    judged = one["comparison"].to_dataset().isel(population=0, drop=True)
    tree = assemble(scenario, dict.fromkeys(names, data), posterior, dict.fromkeys(names, judged), {})
    found = answer(tree)
    assert list(found["populations"]) == names
    page = markdown(found)
    assert all(f"**{name}**" in page for name in names)
    assert list(Scene.of(tree).populations) == names
    root = tree.to_dataset().assign_coords(time=data.time)
    with pytest.raises(KeyError, match="time"):
        xr.DataTree.from_dict({"/": root, **{f"/populations/{name}": data for name in names}})


def test_strata_and_derived_quantities_may_have_any_name_of_the_record() -> None:
    """Points on the line, and shifts of a parameter."""
    strata = ", ".join(f"{name}: {{zero: [w2, w1 - {k}/{len(NAMES)}]}}" for k, name in enumerate(NAMES))
    # A function's name is refused for a quantity.
    quantities = [name for name in NAMES if name != "step"]
    derived = ", ".join(f"{name}: w1 + {k}" for k, name in enumerate(quantities))
    tree = run_job.record(of_every_name(strata=f"{{{strata}}}", derived=f"{{{derived}}}"))
    assert list(answer(tree)["strata"]) == [*NAMES, "elsewhere"]
    middle = tree["posterior"].derived_quantile.sel(quantile=0.5)
    assert list(middle.derived.values) == quantities
    np.testing.assert_allclose(np.diff(middle), 1, atol=1e-9)


def test_the_name_of_the_posterior_samples_is_refused() -> None:
    with pytest.raises(InputError, match="'posterior' is the name for the posterior samples"):
        small(WELLS, ("  sgd: {rule", "  posterior: {rule"))
