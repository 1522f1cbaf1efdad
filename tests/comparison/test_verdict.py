"""Verdicts follow from the numbers by stated rules; warnings name what could mislead."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import xarray as xr
from support.small_runs import ARMS, PARABOLA, WELLS, small

from sandbox.comparison.law import Law
from sandbox.comparison.local_posterior import NBETA_FACTORS, RADII
from sandbox.comparison.occupancy import BOUNDS
from sandbox.comparison.references import REFERENCES
from sandbox.comparison.simplicity import SCORES
from sandbox.comparison.verdict import (
    EQUAL,
    FLATTER,
    LESS_SINGULAR,
    MEANING,
    MORE_SINGULAR,
    SHARPER,
    UNDECIDED,
    decide,
    judge,
)
from sandbox.dynamics.stability.map import stability_map, step_times_sharpness
from sandbox.scenario.scenario import Scenario

STRATA = ["flat", "sharp", "elsewhere", "diverged"]
NAN = float("nan")
Bounds = tuple[float, float, float]
ABOVE, BELOW, WITHIN, WIDE = (0.3, 0.2, 0.4), (-0.3, -0.4, -0.2), (0.0, -0.03, 0.03), (0.03, -0.1, 0.16)


def comparison(
    free_energy: Bounds = ABOVE,
    coefficient: Bounds = ABOVE,
    *,
    last: tuple[float, float, float, float] = (0.6, 0.2, 0.2, 0),
    half: tuple[float, float, float, float] = (0.6, 0.2, 0.2, 0),
    capped: bool = False,
    converged: tuple[bool, bool, bool] = (True, True, True),
    exists: bool = True,
    agreement: Bounds = (0.0, -0.1, 0.1),
    changed: dict[tuple[str, float, float], Bounds] | None = None,
) -> xr.Dataset:
    """Return a comparison as `compare` does, the same for every reference; `changed` are single preferences.

    The margins are the scenario's defaults.
    """
    three = len(REFERENCES)
    preference = np.empty((three, len(SCORES), len(NBETA_FACTORS), len(RADII), 3))
    preference[:, 0], preference[:, 1] = free_energy, coefficient
    for (score, factor, radius), bounds in (changed or {}).items():
        preference[:, SCORES.index(score), NBETA_FACTORS.index(factor), RADII.index(radius)] = bounds
    medians = [1.5, 0.25]
    return xr.Dataset(
        {
            "preference": (("reference", "score", "nbeta_factor", "radius", "bound"), preference),
            "reference_score": (("reference", "score"), [[2.5, NAN]] * three),
            "median_score": ("score", medians),
            "agreement": ("bound", list(agreement)),
            "reference_mass": (("reference", "stratum"), [[0.4, 0.4, 0.2, 0] if exists else [NAN] * 4] * three),
            "capped": ("reference", [False, capped, False]),
            "mean_excess": ("reference", [1e-3] * three),
            "converged": ("reference", list(converged)),
            "occupancy": (("time", "stratum", "bound"), np.repeat(np.array([half, half, last])[..., None], 3, axis=2)),
        },
        coords={
            "reference": list(REFERENCES),
            "score": list(SCORES),
            "nbeta_factor": list(NBETA_FACTORS),
            "radius": list(RADII),
            "bound": list(BOUNDS),
            "time": [0, 50, 100],
            "stratum": STRATA,
        },
    )


def decided(found: xr.Dataset, scenario: Scenario | None = None) -> dict[str, Any]:
    """Return the texts that `decide` adds: verdicts and reasons by reference, warnings, and unstable strata."""
    scenario = scenario or small(WELLS)
    population = scenario.populations[0]
    near = stability_map(scenario.problem, population, scenario.sizes.steps)
    judged = decide(scenario, population, found, near, Law("a law", "it holds"))
    assert (judged.law.item(), judged.law_words.item()) == ("a law", "it holds")
    by_reference = {
        name: dict(zip(judged.reference.values, judged[name].values, strict=True))
        for name in ("verdict", "reason", "hindrance", "deciding_score")
    }
    return by_reference | {
        "agreement": judged.agreement_words.item(),
        "warnings": [text for text in judged.warning.values if text],
        "unstable": [text for text in judged.unstable.values if text],
    }


SIGNS = {
    "above": np.full((2, 3, 3), ABOVE),
    "below": np.full((2, 3, 3), BELOW),
    "mixed": np.array([[ABOVE] * 3, [BELOW] * 3]),
    "within": np.full((2, 3, 3), WITHIN),
    "unsure": np.full((2, 3, 3), WIDE),
}
"""The signs of a preference."""
VERDICTS = {
    # by λ_n: by F above, below, mixed, within, unsure
    "above": (MORE_SINGULAR, UNDECIDED, UNDECIDED, MORE_SINGULAR, MORE_SINGULAR),
    "below": (UNDECIDED, LESS_SINGULAR, UNDECIDED, LESS_SINGULAR, LESS_SINGULAR),
    "mixed": (UNDECIDED, UNDECIDED, UNDECIDED, UNDECIDED, UNDECIDED),
    "within": (FLATTER, SHARPER, UNDECIDED, EQUAL, UNDECIDED),
    "unsure": (FLATTER, SHARPER, UNDECIDED, UNDECIDED, UNDECIDED),
}
"""The verdict by the sign of λ_n, then by that of F, in the order of SIGNS."""


@pytest.mark.parametrize(("singular", "free"), list(product(SIGNS, SIGNS)))
def test_the_verdict_of_every_combination_of_signs(singular: str, free: str) -> None:
    word, score, why = judge(np.stack([SIGNS[free], SIGNS[singular]]), 0.05)
    assert word == VERDICTS[singular][list(SIGNS).index(free)]
    decides = {MORE_SINGULAR: SCORES[1], LESS_SINGULAR: SCORES[1], FLATTER: SCORES[0], SHARPER: SCORES[0]}
    assert score == decides.get(word, "")
    assert why or word != UNDECIDED
    mirror = {"above": "below", "below": "above"}
    opposite = {MORE_SINGULAR: LESS_SINGULAR, FLATTER: SHARPER} | {LESS_SINGULAR: MORE_SINGULAR, SHARPER: FLATTER}
    other = judge(np.stack([SIGNS[mirror.get(free, free)], SIGNS[mirror.get(singular, singular)]]), 0.05)
    # Exchanging both sides exchanges the verdict.
    assert other == (opposite.get(word, word), score, why)


@pytest.mark.parametrize(("singular", "free"), list(product(SIGNS, SIGNS)))
def test_where_theory_knows_that_all_are_equally_singular_f_alone_decides(singular: str, free: str) -> None:
    """On an orbit of the rescaling of a ReLU λ_n changes its sign with the radius; its limit λ is the same."""
    found = judge(np.stack([SIGNS[free], SIGNS[singular]]), 0.05, equally_singular=True)
    assert found == judge(np.stack([SIGNS[free], SIGNS["within"]]), 0.05)


@pytest.mark.parametrize(
    ("changes", "verdict", "score", "reason"),
    [
        ({}, MORE_SINGULAR, SCORES[1], "λ_n 0.25 against not reached; preference +0.30 [+0.20, +0.40]"),
        ({"free_energy": BELOW, "coefficient": BELOW}, LESS_SINGULAR, SCORES[1], "-0.30 [-0.40, -0.20]"),
        ({"coefficient": WITHIN}, FLATTER, SCORES[0], "F 1.5 against 2.5 nat; preference +0.30 [+0.20, +0.40]"),
        ({"coefficient": WIDE}, FLATTER, SCORES[0], "λ_n is undecided"),
        ({"free_energy": BELOW, "coefficient": WITHIN}, SHARPER, SCORES[0], "F 1.5 against 2.5 nat"),
        ({"free_energy": WITHIN, "coefficient": WITHIN}, EQUAL, "", "all intervals are within the margin"),
        ({"free_energy": BELOW}, UNDECIDED, "", "the two scores have opposite signs"),
        ({"free_energy": WIDE, "coefficient": WIDE}, UNDECIDED, "", "no sign is sure at every radius and n"),
        # One radius, or one n, of six.
        ({"changed": {(SCORES[1], 4.0, 0.2): BELOW}}, UNDECIDED, "", "the sign by λ_n changes with radius or n"),
        ({"changed": {(SCORES[0], 1.0, 0.05): BELOW}}, UNDECIDED, "", "the sign by F changes with radius or n"),
        ({"changed": {(SCORES[1], 4.0, 0.2): WIDE}}, FLATTER, SCORES[0], "λ_n is undecided"),
        ({"changed": {(SCORES[0], 4.0, 0.2): WIDE}}, MORE_SINGULAR, SCORES[1], "preference +0.30"),
        ({"last": (0.6, 0.2, 0.189, 0.011)}, UNDECIDED, "", "1.10% of the particles diverged; at most 1.00%"),
        ({"last": (0.6, 0.2, 0.191, 0.009)}, MORE_SINGULAR, SCORES[1], "preference +0.30"),
        ({"exists": False}, UNDECIDED, "", "no such law exists"),
        ({"converged": (False, False, False)}, UNDECIDED, "", "the posterior method did not converge"),
    ],
)
def test_the_verdict_follows_from_the_numbers(changes: dict[str, Any], verdict: str, score: str, reason: str) -> None:
    said = decided(comparison(**changes))
    assert list(said["verdict"]) == list(REFERENCES)
    assert set(said["verdict"].values()) == {verdict}
    assert set(said["deciding_score"].values()) == {score}
    assert all(reason in text for text in said["reason"].values())
    assert all(bool(text) or verdict != UNDECIDED for text in said["hindrance"].values())
    assert verdict in MEANING


def test_a_certain_but_small_difference_counts_as_none() -> None:
    """The margin comes first: both scores within it are equally simple, however sure the sign."""
    small_one = (0.03, 0.02, 0.04)
    assert set(decided(comparison(small_one, small_one))["verdict"].values()) == {EQUAL}


def test_a_method_that_failed_once_spoils_that_reference_only() -> None:
    said = decided(comparison(converged=(True, False, True)))
    assert list(said["verdict"].values()) == [MORE_SINGULAR, UNDECIDED, MORE_SINGULAR]


def test_the_thresholds_are_the_scenarios() -> None:
    wide = small(WELLS + "verdict: {margin: 0.5, diverged: 0.5}\n")
    said = decided(comparison(WIDE, WIDE, last=(0.3, 0.2, 0.1, 0.4)), wide)
    assert set(said["verdict"].values()) == {EQUAL}


@pytest.mark.parametrize(
    ("agreement", "said"),
    [
        ((0.4, 0.3, 0.5), "is not where the posterior is: at least 40% [30%, 50%] of it"),
        ((0.02, -0.01, 0.05), "is where the posterior is along W0, as far as is seen (at most 5%"),
        ((-0.2, -0.3, -0.1), "is where the posterior is along W0, as far as is seen (at most 0%"),
    ],
)
def test_whether_the_particles_are_where_the_posterior_is_stands_beside_the_verdict(
    agreement: Bounds, said: str
) -> None:
    found = decided(comparison(WITHIN, WITHIN, agreement=agreement))
    assert found["agreement"].startswith(said)
    assert set(found["verdict"].values()) == {EQUAL}


def test_a_quiet_run_has_no_warnings() -> None:
    assert decided(comparison())["warnings"] == []


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"last": (0.6, 0.2, 0.19, 0.01)}, "3 of 300 particles diverged"),
        ({"half": (0.5, 0.2, 0.3, 0)}, "still moving: 10.0% of it changed strata over the last half"),
        ({"half": (0.7, 0.1, 0.2, 0)}, "still moving: 10.0% of it changed strata over the last half"),
        ({"capped": True}, "its mean loss is below 0.001, where the references at its loss stop"),
    ],
)
def test_warnings_name_what_could_mislead(changes: dict[str, Any], warning: str) -> None:
    (found,) = decided(comparison(**changes))["warnings"]
    assert warning in found


def test_a_sampler_of_another_posterior_is_judged_with_a_warning() -> None:
    """Its own nbeta is not the scenario's: what it misses is not for want of time."""
    alone = ("  sgd: {rule: sgd, learning_rate: 0.05, gradient: noisy}\n", "")
    own = small(WELLS, alone, ("step_size: 1e-4}", "step_size: 1e-4, nbeta: 7}"))
    (found,) = decided(comparison(), own)["warnings"]
    assert found == "it follows the posterior at nbeta = 7; the one it is judged by is at 50"
    same = small(WELLS, alone, ("step_size: 1e-4}", "step_size: 1e-4, nbeta: 50}"))
    assert decided(comparison(), same)["warnings"] == []


@pytest.mark.parametrize(("rate", "warned"), [(0.49, []), (0.51, ["sharp"]), (1e3, ["sharp"])])
def test_a_step_above_the_edge_of_stability_is_named(rate: float, warned: list[str]) -> None:
    """The curvature of (w - 1)^2 (w + 1)^4 / 8 is 4 at the sharp well and 0 at the flat one."""
    scenario = small(WELLS, ("learning_rate: 0.05", f"learning_rate: {rate}"))
    said = decided(comparison(), scenario)["unstable"]
    assert [name for name in STRATA[:2] if any(f"points of {name};" in text for text in said)] == warned


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("{rule: sgd, learning_rate: 0.7, gradient: full}", 0.7 * 3),
        # Schedules fall: the first step is the longest.
        ("{rule: sgd, learning_rate: 0.7, gradient: full, schedule: {cosine: {final: 0}}}", 0.7 * 3),
        ("{rule: langevin, step_size: 1e-3}", 1e-3 * 100 * 3),
        ("{rule: langevin, step_size: 1e-3, nbeta: 7}", 1e-3 * 7 * 3),
    ],
)
def test_step_size_times_sharpness_on_a_parabola(rule: str, expected: float) -> None:
    text = PARABOLA.replace("w**2 / 2", "3 * w**2 / 2").replace("{rule: langevin, step_size: 1e-4}", rule)
    scenario = small(text)
    products = step_times_sharpness(scenario.problem, scenario.populations[0], scenario.sizes.steps)
    assert products == pytest.approx(np.array([[expected, expected]]), rel=1e-12)


def test_median_and_largest_sharpness_along_an_arm() -> None:
    """On w2 = 0 the Hessian of w1^2 w2^2 / 2 has the eigenvalue w1^2: median 1/4, largest 1, for w1 even on [-1, 1]."""
    text = ARMS.replace("w1 * w2**2 * x", "w1 * w2 * x").replace("samples: 100", "samples: population")
    scenario = small(
        text + "nbeta: 100\n",
        ("  sgd: {rule: sgd, learning_rate: 0.05, gradient: {minibatch: 8, draw: with_replacement}}\n", ""),
    )
    origin, flat, sharp = step_times_sharpness(scenario.problem, scenario.populations[0], scenario.sizes.steps)
    assert origin == pytest.approx([0, 0], abs=1e-12)
    for median, largest in (flat, sharp):
        assert [median, largest] == pytest.approx([0.1 / 4, 0.1], rel=0.02)
