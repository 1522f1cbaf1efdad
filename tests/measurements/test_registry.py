"""Measurements in scenarios: in YAML, in the record, in the answer, and in pictures with the exact value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from support.small_runs import ARMS, WELLS, small

from sandbox.commands.run import record, run
from sandbox.comparison.page import markdown
from sandbox.comparison.report import answer
from sandbox.measurements.registry import MEASUREMENTS
from sandbox.pictures.loss_panels import PANELS, measurement_figure, save_measurements
from sandbox.scenario.scenario import Scenario
from sandbox.tools.errors import InputError

WITHOUT_PARTICLES = ("""populations:
  sgd: {rule: sgd, learning_rate: 0.05, gradient: {minibatch: 8, draw: with_replacement}}
  langevin: {rule: langevin, step_size: 1e-3}
particles: 300
steps: 200
record: {frames: 6, bins: 4}
""", "")  # fmt: skip

LIGHT = """seed: 3
measurements:
  volume: {particles: 1024, decades: 20}
  llc: {chains: {particles: 128, burn_in: 500, draws: 10, thinning: 20}}
  wbic: {samples: [100, 1000]}
  waic: {samples: 30, data_sets: 3}
  laplace: {bins: 20}
  flatness: {points: 4}
"""


def asked() -> Scenario:
    return small(ARMS, WITHOUT_PARTICLES, ("seed: 3\n", LIGHT))


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    return record(asked())


def test_every_measurement_has_its_panels() -> None:
    # The decomposition is not a measurement of a problem: it runs populations of its own.
    assert set(PANELS) == {*MEASUREMENTS, "decomposition"}
    assert all(MEASUREMENTS[name].name == name for name in MEASUREMENTS)


def test_the_record_holds_what_was_asked_for_and_no_particles(tree: xr.DataTree) -> None:
    assert set(tree["measurements"].children) == {"volume", "llc", "wbic", "waic", "laplace", "flatness"}
    assert "populations" not in tree.children
    assert "comparison" not in tree.children


def test_what_is_measured_is_near_what_is_exact(tree: xr.DataTree) -> None:
    """K = w1^2 w2^4 / 2: λ = 1/4. The volume's 95% interval is taken twice as wide here."""
    volume = tree["measurements/volume"].attrs
    assert volume["exact"] == 0.25
    assert volume["exact_multiplicity"] == 1
    width = volume["high"] - volume["low"]
    assert volume["low"] - width < 0.25 < volume["high"] + width
    flatness = tree["measurements/flatness"].to_dataset()
    assert list(flatness.stratum.values) == ["crossing", "flat_arm", "sharp_arm"]
    assert np.nanmax(flatness["rank"].sel(stratum="flat_arm")) == 0
    assert np.nanmin(flatness["rank"].sel(stratum="sharp_arm")) == 1
    assert float(flatness["fisher_difference"].max()) < 1e-12
    assert float(tree["measurements/laplace"]["log_evidence_laplace"]) == np.inf


@pytest.mark.parametrize("name", ["free_energy", "zeta"])
def test_a_table_too_short_for_the_asymptotics_is_refused_before_the_run(name: str) -> None:
    least = f"measurements: {{{name}: {{largest_n: 1e8}}}}\n"
    small(ARMS, WITHOUT_PARTICLES, ("seed: 3\n", "seed: 3\n" + least))
    with pytest.raises(InputError, match=rf"{name}\.largest_n: found 1e\+07; allowed: 1e\+08 or more"):
        small(ARMS, WITHOUT_PARTICLES, ("seed: 3\n", "seed: 3\n" + least.replace("1e8", "1e7")))


def test_no_size_exceeds_the_largest_asked_for() -> None:
    asked = "measurements: {free_energy: {largest_n: 2e9}}\n"
    found = record(small(ARMS, WITHOUT_PARTICLES, ("seed: 3\n", "seed: 3\n" + asked)))
    table = found["measurements/free_energy"].to_dataset()
    assert table.n.values.max() == 1e9
    assert table.attrs["low"] < 0.25 < table.attrs["high"]


def test_the_answer_says_each_in_a_sentence(tree: xr.DataTree) -> None:
    found = answer(tree)
    page = markdown(found, glossary=None)
    for name, measured in found["measurements"].items():
        assert f"- **{name}**: {measured['summary']}." in page
    assert found["populations"] == {}


def test_every_panel_has_a_title_labels_and_something_in_it(tree: xr.DataTree) -> None:
    drawn = measurement_figure(tree)
    axes = [a for a in drawn.axes if a.axison]
    assert len(axes) == 2 + 1 + 2 + 2 + 2 + 3
    for panel in axes:
        assert panel.get_title()
        assert panel.get_xlabel()
        assert panel.lines or panel.collections or panel.patches


def test_a_run_writes_the_picture_instead_of_figure_and_animation(tmp_path: Path) -> None:
    scenario = small(ARMS, WITHOUT_PARTICLES, ("seed: 3\n", "measurements:\n  laplace:\nseed: 3\n"))
    tree = run(scenario, out=tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "run.zarr",
        "answer.json",
        "answer.md",
        "measurements.png",
    }
    save_measurements(tree, tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "out" / "measurements.png").read_bytes()


def test_particles_and_measurements_go_together() -> None:
    tree = record(small(ARMS, ("seed: 3\n", "measurements: {laplace: {}}\nseed: 3\n")))
    assert set(tree.children) == {"populations", "posterior", "comparison", "measurements"}


@pytest.mark.parametrize(
    ("text", "change", "message"),
    [
        (
            ARMS,
            ("seed: 3\n", "measurements: {volumes: {}}\n"),
            r"unknown key 'volumes' \(did you mean 'volume'",
        ),
        (
            ARMS,
            ("seed: 3\n", "measurements: {volume: {particles: 3}}\n"),
            "found the number 3; allowed: a number of at l",
        ),
        (ARMS, ("seed: 3\n", "measurements: {llc: {at: {w3: 1}}}\n"), "unknown parameter 'w3'; known: w1, w2"),
        (WELLS, ("seed: 1\n", "measurements: {waic: {}}\n"), "WAIC needs a model with data; here is a bare potential"),
        (WELLS, ("seed: 1\n", "measurements: {llc: {}}\n"), "give nbeta"),
        (ARMS, WITHOUT_PARTICLES, "nothing to compute; allowed: populations, measurements, or both"),
    ],
)
def test_wrong_requests_are_refused(text: str, change: tuple[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        small(text, change)
