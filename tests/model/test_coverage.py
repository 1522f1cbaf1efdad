"""Descending points find the parts of W0 that are in no stratum, and `sandbox check` reports them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.small_runs import ARMS, sandbox, small

from sandbox.model.coverage import POINTS, coverage
from sandbox.model.descent import descend
from sandbox.model.regression import potential


def test_every_point_lands_and_none_is_missed() -> None:
    scenario = small(ARMS)
    found = coverage(scenario.problem.population_loss, scenario.problem.prior, scenario.problem.zero_set)
    assert found.landed == POINTS
    assert len(found.missed) == 0


def test_a_forgotten_arm_is_found() -> None:
    scenario = small(ARMS, ("  sharp_arm: {zero: [w1], along: w2}\n", ""))
    found = coverage(scenario.problem.population_loss, scenario.problem.prior, scenario.problem.zero_set)
    assert len(found.missed) > POINTS / 10
    assert np.abs(found.missed[:, 0]).max() < 1e-3
    assert np.abs(found.missed[:, 1]).min() > scenario.problem.zero_set.tube


@pytest.mark.parametrize("text", ["(w1**2 + w2**2 - 1)**2", "w1**8 + w2**2", "(w2 - w1**2)**4"])
def test_degenerate_zeros_are_reached(text: str) -> None:
    loss = potential(("w1", "w2"), text)
    points = np.random.default_rng(0).uniform(-2, 2, (100, 2))
    assert loss.excess(descend(loss, points, np.array([[-2.0, 2.0]] * 2))).max() < 1e-12


def test_check_prints_dimension_and_the_most_singular_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = ARMS.replace("  crossing: {zero: [w1, w2]}\n", "").replace("  sharp_arm: {zero: [w1], along: w2}\n", "")
    (tmp_path / "arms.yaml").write_text(ARMS)
    (tmp_path / "one.yaml").write_text(text)
    said = sandbox("check", "arms.yaml")
    assert said.exit_code == 0, said.stderr
    assert "dimension 1; generic: λ = 1/4, m = 1" in said.stdout
    assert "dimension 0" in said.stdout
    assert "most singular, w1 = 0, w2 = 0: λ = 1/4, m = 1" in said.stdout
    assert f"{POINTS} of {POINTS} random points descended onto W0, 0 of them outside all strata" in said.stdout
    assert "warning: the strata miss a part of W0, for example near w1 = " in sandbox("check", "one.yaml").stdout


KINK = """\
question: What is the learning coefficient of a kink?
parameters:
  w1: uniform(-1, 1)
  w2: uniform(-1, 1)
loss: {potential: abs(w1)**3 + w2**2}
nbeta: 100
strata:
  kink: {zero: [w1, w2], learning_coefficient: 5/6, multiplicity: 1}
measurements: {laplace: {}}
"""


def test_check_holds_a_stated_coefficient_against_the_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1/3 + 1/2 by the sum of weights; no theorem of the package covers a kink."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "right.yaml").write_text(KINK)
    (tmp_path / "wrong.yaml").write_text(KINK.replace("5/6", "3/4"))
    said = sandbox("check", "right.yaml")
    assert said.exit_code == 0, said.stderr
    assert "by volume around w1 = 0, w2 = 0: λ = 0.8" in said.stdout
    assert "warning" not in said.stdout
    assert "warning: λ = 0.75 is stated, outside this interval" in sandbox("check", "wrong.yaml").stdout
