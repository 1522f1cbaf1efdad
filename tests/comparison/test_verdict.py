"""Verdicts follow from the numbers by stated rules; warnings name what could mislead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from support.small_runs import ARMS, PARABOLA, WELLS, small

from sandbox.comparison.occupancy import BOUNDS
from sandbox.comparison.references import REFERENCES
from sandbox.comparison.verdict import LESS_SIMPLE, SAME, SIMPLER, UNDECIDED, decide
from sandbox.dynamics.observer import TUBE_FACTORS
from sandbox.dynamics.stability.map import stability_map, step_times_sharpness
from sandbox.scenario.scenario import Scenario

STRATA = ["flat", "sharp", "elsewhere", "diverged"]
NAN = float("nan")


def comparison(
    preference: tuple[float, float, float] = (0.3, 0.2, 0.4),
    *,
    by_tube: tuple[float, float, float] = (0.3, 0.3, 0.3),
    last: tuple[float, float, float, float] = (0.6, 0.2, 0.2, 0),
    expected_elsewhere: float = 0.2,
    over_time: tuple[float, float, float] = (0.0, 0.3, 0.3),
    capped: bool = False,
    converged: tuple[bool, bool, bool] = (True, True, True),
    slack: float = 0.0,
    shift: float = NAN,
    exists: bool = True,
) -> xr.Dataset:
    """Return a comparison as `compare` does, the same for every reference; the margins are the scenario's defaults."""
    rest = (1 - expected_elsewhere) / 2
    three = len(REFERENCES)
    return xr.Dataset(
        {
            "preference": (("reference", "bound"), [preference] * three),
            "preference_by_tube": (("reference", "tube_factor"), [by_tube] * three),
            "preference_over_time": ("time", list(over_time)),
            "reference_mass": (
                ("reference", "stratum"),
                [[rest, rest, expected_elsewhere, 0] if exists else [NAN] * 4] * three,
            ),
            "reference_slack": ("reference", [slack] * three),
            "distance_along": (("reference", "along_stratum"), [[shift]] * three),
            "capped": ("reference", [False, capped, False]),
            "converged": ("reference", list(converged)),
            "occupancy": (("time", "stratum", "bound"), np.repeat(np.array([last] * 3)[..., None], 3, axis=2)),
        },
        coords={
            "reference": list(REFERENCES),
            "bound": list(BOUNDS),
            "tube_factor": list(TUBE_FACTORS),
            "time": [0, 50, 100],
            "stratum": STRATA,
            "along_stratum": ["flat"],
        },
    )


def posterior(*, sharp: float = 0.5, multiplicity: float = 1) -> xr.Dataset:
    """Return what decides about the strata: λ = 1/4, m = 1 at the flat one, as said at the sharp one."""
    return xr.Dataset(
        {
            "learning_coefficient": ("stratum", [0.25, sharp, NAN, NAN]),
            "multiplicity": ("stratum", [1, multiplicity, NAN, NAN]),
        },
        coords={"stratum": STRATA},
        attrs={"posterior_method": "tempered SMC, 4 runs"},
    )


def decided(found: xr.Dataset, scenario: Scenario | None = None, truth: xr.Dataset | None = None) -> dict[str, Any]:
    """Return the texts that `decide` adds: verdicts and reasons by reference, warnings, and unstable strata."""
    scenario = scenario or small(WELLS)
    population = scenario.populations[0]
    near = stability_map(scenario.problem, population, scenario.sizes.steps)
    judged = decide(scenario, population, found, posterior() if truth is None else truth, near)
    return {
        "verdicts": dict(zip(judged.reference.values, judged.verdict.values, strict=True)),
        "reasons": dict(zip(judged.reference.values, judged.reason.values, strict=True)),
        "warnings": [text for text in judged.warning.values if text],
        "unstable": [text for text in judged.unstable.values if text],
    }


@pytest.mark.parametrize(
    ("changes", "truth", "verdict", "reason"),
    [
        ({}, {}, SIMPLER, "+0.300, 99% interval [+0.200, +0.400] lies above 0"),
        ({"preference": (-0.3, -0.4, -0.2), "by_tube": (-0.3,) * 3}, {}, LESS_SIMPLE, "lies below 0"),
        ({"preference": (0.01, -0.02, 0.04)}, {}, SAME, "within the margin of 0.05"),
        # A difference that is certain but small counts as none.
        ({"preference": (0.03, 0.02, 0.04)}, {}, SAME, "within the margin of 0.05"),
        ({"preference": (0.03, -0.1, 0.16)}, {}, UNDECIDED, "holds 0 and exceeds the margin"),
        ({"preference": (0.03, -0.01, 0.07)}, {}, UNDECIDED, "holds 0 and exceeds the margin"),
        ({"preference": (0.06, 0.01, 0.11)}, {}, SIMPLER, "lies above 0"),
        ({"by_tube": (-0.1, 0.3, 0.3)}, {}, UNDECIDED, "its sign changes with the tubes' radius"),
        ({"by_tube": (0.3, 0.3, 0.0)}, {}, UNDECIDED, "its sign changes with the tubes' radius"),
        ({"by_tube": (NAN, 0.3, 0.3)}, {}, UNDECIDED, "its sign changes with the tubes' radius"),
        ({"preference": (NAN, NAN, NAN)}, {}, UNDECIDED, "nothing of the population or of the reference lies on W0"),
        ({"last": (0.6, 0.2, 0.189, 0.011)}, {}, UNDECIDED, "1.10% of the particles diverged; at most 1.00%"),
        ({"last": (0.6, 0.2, 0.191, 0.009)}, {}, SIMPLER, "lies above 0"),
        ({"last": (0.3, 0.2, 0.5, 0)}, {}, UNDECIDED, "50.0% of the particles but 20.0% of the reference"),
        ({"last": (0.3, 0.2, 0.5, 0), "expected_elsewhere": 0.3}, {}, SIMPLER, "lies above 0"),
        ({}, {"sharp": NAN}, UNDECIDED, "λ is neither known nor stated for sharp"),
        ({}, {"sharp": 0.25}, SAME, "all strata have the same λ and m"),
        ({"shift": 0.25}, {"sharp": 0.25}, SAME, "; mean distance of positions along flat 0.25"),
        ({"exists": False}, {}, UNDECIDED, "no such law exists"),
        ({}, {"sharp": 0.25, "multiplicity": 2}, SIMPLER, "lies above 0"),
        (
            {"converged": (False, False, False)},
            {},
            UNDECIDED,
            "the posterior method did not converge (tempered SMC, 4 runs)",
        ),
    ],
)
def test_the_verdict_follows_from_the_numbers(
    changes: dict[str, Any], truth: dict[str, Any], verdict: str, reason: str
) -> None:
    said = decided(comparison(**changes), truth=posterior(**truth))
    assert list(said["verdicts"]) == list(REFERENCES)
    assert set(said["verdicts"].values()) == {verdict}
    assert all(reason in text for text in said["reasons"].values())


def test_a_method_that_failed_once_spoils_that_reference_only() -> None:
    said = decided(comparison(converged=(True, False, True)))
    assert list(said["verdicts"].values()) == [SIMPLER, UNDECIDED, SIMPLER]


def test_the_thresholds_are_the_scenarios() -> None:
    wide = small(WELLS + "verdict: {margin: 0.5, diverged: 0.5, level: 0.9}\n")
    said = decided(comparison(last=(0.3, 0.2, 0.1, 0.4)), wide)
    assert set(said["verdicts"].values()) == {SAME}
    assert "90% interval" in said["reasons"]["posterior"]


def test_a_quiet_run_has_no_warnings() -> None:
    assert decided(comparison())["warnings"] == []


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"last": (0.6, 0.2, 0.19, 0.01)}, "3 of 300 particles diverged"),
        ({"over_time": (0.0, 0.2, 0.3)}, "still moving: the preference changed by +0.100"),
        ({"over_time": (0.0, 0.4, 0.3)}, "still moving: the preference changed by -0.100"),
        ({"capped": True}, "below that of the tempered posterior at its largest nbeta"),
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
    assert [name for name in STRATA[:2] if any(f"points of {name} " in text for text in said)] == warned


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


@pytest.mark.parametrize(
    ("preference", "slack", "advice"),
    [
        # 300 particles have a half-width of 0.1. To leave out 0 it must be 0.05: four times as many.
        ((0.05, -0.05, 0.15), 0, "about 1,200 particles would decide it"),
        # To lie within the margin of 0.05 from 0 it must be 0.05 too.
        ((0.0, -0.1, 0.1), 0, "about 1,200 particles would decide it"),
        # The reference's error of 0.02 does not shrink: 0.08 must become 0.03.
        ((0.05, -0.05, 0.15), 0.02, "about 2,200 particles would decide it"),
        ((0.03, -0.1, 0.16), 0.06, "more particles would not decide it"),
    ],
)
def test_an_undecided_answer_says_what_would_decide_it(
    preference: tuple[float, float, float], slack: float, advice: str
) -> None:
    said = decided(comparison(preference, slack=slack))
    assert all(advice in reason for reason in said["reasons"].values())
