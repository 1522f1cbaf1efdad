"""Measurements of particles, from the scenario to the answer: on recorded tracks, in record, answer and picture."""

from __future__ import annotations

from pathlib import Path

import pytest
import xarray as xr
from support.small_runs import small

from sandbox.commands.run import record
from sandbox.comparison.page import markdown
from sandbox.comparison.record import open_result, save
from sandbox.comparison.report import answer
from sandbox.measurements.base import OfParticles
from sandbox.measurements.registry import MEASUREMENTS
from sandbox.pictures.loss_panels import measurement_figure
from sandbox.scenario.scenario import Scenario
from sandbox.tools.errors import InputError
from sandbox.tools.parallel import limited

DOUBLE_WELL = """\
question: How long from well to well?
parameters: {x: "uniform(-2, 2)"}
loss: {potential: (x**2 - 1)**2 / 4, gradient_noise: {isotropic: 1}}
nbeta: 20
tube: 0.4
strata: {left: {zero: [x + 1]}, right: {zero: [x - 1]}}
derived: {size: x**2}
populations:
  langevin: {rule: langevin, step_size: 1e-2, start: {x: -1}}
  sgd: {rule: sgd, learning_rate: 0.1, gradient: noisy}
particles: 300
steps: 3000
record: {frames: 61, spacing: linear, positions: 200}
measurements:
  sharpness: {frames: 4}
  conserved:
  passage:
  mixing:
  current: {plane: [x, size]}
  temperature: {expected: 0.05}
seed: 1
"""
ASKED = ("sharpness", "conserved", "passage", "mixing", "current", "temperature")


def asked() -> Scenario:
    return small(DOUBLE_WELL)


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    return record(asked())


def test_all_that_look_at_motion_take_part(tree: xr.DataTree) -> None:
    of_motion = {name for name, m in MEASUREMENTS.items() if issubclass(m, OfParticles)} - {"local_llc"}
    assert set(tree["measurements"].children) == set(ASKED) == of_motion


def test_passages_are_those_of_the_recorded_positions(tree: xr.DataTree) -> None:
    """The counts agree with counts from the record itself, particle by particle."""
    found = tree["measurements/passage"].to_dataset().sel(departure="left", destination="right")
    for name in ("langevin", "sgd"):
        arrived = under_way = 0
        for path in tree[f"populations/{name}"]["position"].values[..., 0].T:
            begun = False
            for x in path:
                arrived += begun and abs(x - 1) <= 0.4
                begun = (begun and abs(x - 1) > 0.4) or abs(x + 1) <= 0.4
            under_way += begun
        assert int(found["arrivals"].sel(source=name)) == arrived > 20
        assert int(found["passages"].sel(source=name)) == arrived + under_way


def test_step_sizes_are_those_of_the_populations(tree: xr.DataTree) -> None:
    """Langevin follows the posterior: its step follows the loss with step_size times nbeta."""
    found = tree["measurements/sharpness"].to_dataset().sel(level=0.5).isel(step=-1)
    for name, rate in (("langevin", 0.2), ("sgd", 0.1)):
        row = found.sel(source=name)
        assert float(row["step_times_sharpness"]) == pytest.approx(rate * float(row["sharpness"]), rel=1e-12)
        if name == "langevin":
            assert float(row["step_times_sharpness"]) != pytest.approx(0.01 * float(row["sharpness"])), "without nbeta"


def test_the_expected_temperature_is_of_those_who_follow_the_loss(tree: xr.DataTree) -> None:
    expected = tree["measurements/temperature"]["expected"]
    assert {str(s): float(expected.sel(source=s)) for s in expected.source.values} == {
        "langevin": 1 / 20, "sgd": 0.05, "posterior": 1 / 20,
    }  # fmt: skip


def test_the_answer_has_each_number_by_name_and_survives_the_disk(tree: xr.DataTree, tmp_path: Path) -> None:
    found = answer(tree)
    page = markdown(found, glossary=None)
    for name in ASKED:
        assert f"- **{name}**: {found['measurements'][name]['summary']}." in page
    values = {name: found["measurements"][name]["values"] for name in ASKED}
    assert values["passage"]["arrivals"]["sgd"]["left"]["right"] > 20
    assert values["mixing"]["r_hat"]["langevin"]["size"] == float(
        tree["measurements/mixing"]["r_hat"].sel(source="langevin", quantity="size")
    )
    assert set(values["temperature"]["temperature"]["posterior"]) == {"equipartition", "gradient"}
    assert set(values["current"]["z"]) == {"langevin", "sgd"}
    assert values["conserved"]["rate"]["sgd"].keys() == {"size"}
    # A curve is in the record only.
    assert "survival" not in values["passage"]
    save(tree, tmp_path / "run.zarr")
    assert answer(open_result(tmp_path)) == found


def test_every_panel_shows_something(tree: xr.DataTree) -> None:
    axes = [a for a in measurement_figure(tree).axes if a.axison]
    assert len(axes) == 3 + 2 + 2 + 2 + 2 + 1
    for panel in axes:
        assert panel.get_title()
        assert panel.get_xlabel()
        assert panel.lines or panel.collections
        assert not panel.texts, "nothing to show"


def test_a_run_in_another_number_of_threads_measures_the_same(tree: xr.DataTree) -> None:
    with limited(3):
        again = record(asked())
    for name in ASKED:
        xr.testing.assert_identical(
            again[f"measurements/{name}"].to_dataset(), tree[f"measurements/{name}"].to_dataset()
        )


MOVING = (
    "populations:\n"
    "  langevin: {rule: langevin, step_size: 1e-2, start: {x: -1}}\n"
    "  sgd: {rule: sgd, learning_rate: 0.1, gradient: noisy}\n"
    "particles: 300\nsteps: 3000\n"
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("spacing: linear, ", ""), r"small.yaml:\d+:\d+: measurements.mixing: .*found record.spacing: log; allowed"),
        (("frames: 61", "frames: 5"), "measurements.mixing: the second half of 5 frames is too short"),
        (("derived: {size: x**2}\n", ""), "measurements.conserved: no quantity to follow"),
        (("  conserved:\n", "  conserved: {quantities: [sise]}\n"), r"conserved.quantities: unknown 'sise' \(did you"),
        (("plane: [x, size]", "plane: [x, x]"), "measurements.current.plane: a plane has two different axes"),
        ((MOVING, ""), "measurements.passage: this looks at particles over time; found no populations"),
        (("expected: 0.05", "expected: 0"), "measurements.temperature.expected: found the number 0; allowed"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_run(change: tuple[str, str], message: str) -> None:
    text = DOUBLE_WELL
    if change[0] == MOVING:
        # Other errors would come first.
        for line in ("  conserved:\n", "  mixing:\n", "  current: {plane: [x, size]}\n"):
            text = text.replace(line, "")
    with pytest.raises(InputError, match=message):
        small(text, change)
