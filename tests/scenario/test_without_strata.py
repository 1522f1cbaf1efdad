"""Strata are optional: a scenario without them checks, runs, answers and draws; what needs them says so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from support.record_table import check_documented
from support.small_runs import ARMS, WELLS, sandbox, small

from sandbox.comparison.record import open_result
from sandbox.scenario.scenario import loads
from sandbox.tools.errors import InputError


def bare(text: str) -> str:
    """Return the text of a scenario without its strata."""
    found, count = re.subn(r"strata:\n(?:  .*\n)+", "", text)
    assert count == 1
    return found


CUBE = """\
question: Does it need strata in three parameters?
parameters: {a: "uniform(-1, 1)", b: "normal(0, 0.5)", c: "uniform(0.5, 1)"}
loss: {model: a * b * c * x, truth: 0, inputs: {x: "normal(0, 1)"}, samples: 50}
populations: {sgd: {rule: sgd, learning_rate: 0.05, gradient: {minibatch: 8, draw: with_replacement}}}
measurements: {volume: {particles: 512, decades: 20}, sharpness: {frames: 4, particles: 20}}
witness: {particles: 64, runs: 2}
particles: 200
steps: 50
record: {frames: 6, bins: 4}
"""


@pytest.mark.parametrize("text", [bare(WELLS), CUBE], ids=["one parameter", "three parameters"])
def test_a_scenario_without_strata_checks_runs_answers_and_draws(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bare.yaml").write_text(text)
    said = sandbox("check", "bare.yaml")
    assert said.exit_code == 0
    assert "strata      none" in said.stdout
    assert "warning" not in said.stdout
    assert sandbox("run", "bare.yaml", "--quick", "--no-progress").exit_code == 0
    folder = Path("results/bare")
    files = {path.name for path in folder.iterdir()} - {"measurements.png"}
    assert files == {"run.zarr", "answer.json", "answer.md", "simplicity.png", "figure.png", "animation.gif"}
    check_documented(open_result(folder))
    answered = sandbox("answer", str(folder))
    assert answered.exit_code == 0
    assert "Does SGD reach simple solutions here?" in answered.stdout
    # Nothing is said of strata, which are not there.
    assert "Shares of all particles" not in answered.stdout
    assert "Near each stratum" not in answered.stdout
    assert list(json.loads((folder / "answer.json").read_text())["strata"]) == ["elsewhere"]


def test_the_verdict_does_not_depend_on_strata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strata refine the quadrature of the references; the verdicts and the particles' scores are the same."""
    monkeypatch.chdir(tmp_path)
    found = []
    for name, text in (("with", WELLS), ("without", bare(WELLS))):
        Path(f"{name}.yaml").write_text(text)
        assert sandbox("run", f"{name}.yaml", "--no-progress").exit_code == 0
        found.append(open_result(Path("results") / name))
    one, other = found
    xr.testing.assert_equal(one["comparison"].verdict, other["comparison"].verdict)
    for score in ("free_energy", "local_learning_coefficient"):
        pair = [tree["populations/sgd"][score].values for tree in found]
        np.testing.assert_allclose(*pair, atol=1e-3)


@pytest.mark.parametrize(
    ("added", "key"),
    [
        ("measurements: {flatness: }\n", "measurements.flatness"),
        ("measurements: {passage: }\n", "measurements.passage"),
        ("measurements: {phases: {samples: [10, 100]}}\n", "measurements.phases"),
        ("decomposition: {population: sgd}\n", "decomposition"),
    ],
)
def test_what_needs_strata_says_so(added: str, key: str) -> None:
    assert small(ARMS + added).problem.zero_set.strata
    with pytest.raises(InputError, match=rf"{key}: {key.split('.')[-1]} needs `strata`; this scenario lists none"):
        loads(bare(ARMS) + added)


@pytest.mark.parametrize("radii", ["[0.1, 0.2]", "[0.1, 0.2, 0]", "[0.1, 0.2, 11]", "0.1"])
def test_three_positive_radii_are_needed(radii: str) -> None:
    assert small(WELLS + "verdict: {radii: [0.1, 0.2, 0.4]}\n").verdict.radii == (0.1, 0.2, 0.4)
    with pytest.raises(InputError, match=r"verdict\.radii"):
        loads(WELLS + f"verdict: {{radii: {radii}}}\n")
