"""Descending points find the parts of W0 that no stratum names, and `sandbox check` says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_runs import ARMS, sandbox, small

from sandbox.coverage import POINTS, coverage
from sandbox.descent import descend
from sandbox.loss import potential


def test_every_point_lands_and_none_is_missed() -> None:
    scenario = small(ARMS)
    found = coverage(scenario.population_loss, scenario.prior, scenario.zero_set)
    assert found.landed == POINTS
    assert len(found.missed) == 0


def test_a_forgotten_arm_is_found() -> None:
    scenario = small(ARMS, ("  sharp_arm: {zero: [w1], along: w2}\n", ""))
    found = coverage(scenario.population_loss, scenario.prior, scenario.zero_set)
    assert len(found.missed) > POINTS / 10
    assert np.abs(found.missed[:, 0]).max() < 1e-3
    assert np.abs(found.missed[:, 1]).min() > scenario.zero_set.tube


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
