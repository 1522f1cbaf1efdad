"""Warnings of steps above an edge: where the step overshoots, and not where the loss itself falls away."""

from __future__ import annotations

import pytest
from support.checks import sgd
from support.small_runs import small

from sandbox.comparison.edges import growth_and_edge, unstable, with_error
from sandbox.dynamics.gradients.full import Full
from sandbox.dynamics.gradients.minibatch import Minibatch
from sandbox.dynamics.population import Population
from sandbox.dynamics.stability.map import NUMBERS, thresholds

BENT = """\
question: Is w = 0 a minimum of the loss on samples?
parameters: {u: "uniform(-1, 1)", w: "uniform(-1, 1)"}
loss: {model: w * x + SIZE * u * w**2 * x, truth: 0, inputs: {x: "normal(0, 1)"}, noise: 1.0, samples: 50}
strata: {line: {zero: [w]}}
populations: {sgd: {rule: sgd, learning_rate: 1, gradient: full, start: prior}}
nbeta: 50
steps: 10
"""
NOISY = BENT.replace("w * x + SIZE * u * w**2 * x", "w * u * x").replace("samples: 50", "samples: population")
NOISY = NOISY.replace("{line: {zero: [w]}}", "{crossing: {zero: [u, w]}, line: {zero: [w]}}")


def bent(negative):
    """Return a scenario in which a share of the line has a negative curvature, and the curvature as a function of u.

    It is m - 2 s u c on u in [-1, 1], with m and c the means of x^2 and of x times the residual, and s the SIZE.
    """
    x, residual = small(BENT.replace("SIZE", "1")).problem.loss.data.T
    m, c = (x * x).mean(), (x * residual).mean()
    size = abs(m / (2 * c)) / (1 - 2 * negative)
    return small(BENT.replace("SIZE", f"{size:.12g}")), lambda u: m - 2 * size * u * c


def near(scenario, rate, gradient):
    return thresholds(scenario.problem, Population("p", sgd(rate), gradient, None), 10)


def test_where_the_loss_on_samples_falls_away_no_step_overshoots():
    """A quarter of the line has a negative curvature; the step is a tenth of the edge at the sharpest point."""
    scenario, curvature = bent(0.25)
    sharpest = max(curvature(-1), curvature(1))
    found = near(scenario, 0.2 / sharpest, Full())
    assert unstable(found) == [""]
    row = found.sel(stratum="line", notion="deterministic")
    assert float(row.stable_share) == pytest.approx(0.75, abs=1 / 32)
    # A warning from the growth at all points and the edge at the median point would be false here.
    assert float(row.threshold) > 1


@pytest.mark.parametrize("over", [0.1, 0.4])
def test_the_share_and_the_edge_are_those_of_the_points_at_which_the_step_overshoots(over):
    scenario, curvature = bent(0.25)
    least, sharpest = sorted(curvature(u) for u in (-1, 1))
    # The curvature is even between its ends.
    rate = 2 / (sharpest - over * (sharpest - least))
    found = near(scenario, rate, Full())
    share = float(found.unstable_share.sel(stratum="line", notion="deterministic"))
    assert share == pytest.approx(over, abs=1 / 32)
    (said,) = unstable(found)
    edge = float(found.unstable_threshold.sel(stratum="line", notion="deterministic"))
    assert edge == pytest.approx(2 / (rate * sharpest), rel=0.05)
    assert f"a step overshoots at {share:.0%} of the points of line" in said
    assert f"the edge is {edge:.3g} times this step size" in said


def test_mean_squares_that_grow_by_the_length_of_the_step_alone_are_warned_of():
    """B = 1: on the line they grow if eta u^2 > 2/3; at the crossing at any step, as noise does not vanish there."""
    found = near(small(NOISY), 1.0, Minibatch(minibatch=1, draw="fresh"))
    at_crossing, on_line = unstable(found)
    assert at_crossing == ""
    assert float(found.stable_share.sel(stratum="crossing", notion="mean square")) == 0
    share = float(found.unstable_share.sel(stratum="line", notion="mean square"))
    assert share == pytest.approx(1 - (2 / 3) ** 0.5, abs=1 / 32)
    assert f"mean squares grow at {share:.0%} of the points of line (a step without noise" in on_line
    assert "a typical particle is driven away at none of them" in on_line
    assert unstable(near(small(NOISY), 0.6, Minibatch(minibatch=1, draw="fresh"))) == ["", ""]


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (-0.2769, 0.0054, "-0.277 ± 0.011"),
        (2.4504, 0.018, "2.45 ± 0.035"),
        (-1.1662e-7, 2e-9, "-1.166e-07 ± 3.9e-09"),
        (0.001, 0.5, "0 ± 0.98"),
        (123456.0, 1000.0, "1.235e+05 ± 2e+03"),
        (2.0, 0.0, "2"),
        (2.123456, None, "2.123"),
        (None, 0.1, "none"),
    ],
)
def test_a_number_has_the_digits_that_its_error_allows(value, error, text):
    assert with_error(value, error) == text


def test_simulated_growth_is_shown_with_its_error_and_exact_growth_without():
    found = near(small(NOISY), 1.0, Minibatch(minibatch=1, draw="fresh")).sel(stratum="line")
    row = {name: dict(zip(map(str, found.notion.values), found[name].values, strict=True)) for name in NUMBERS}
    assert growth_and_edge(row, "almost sure").count("±") == 2
    assert "±" not in growth_and_edge(row, "mean square")
    assert growth_and_edge({key: dict.fromkeys(values) for key, values in row.items()}, "mean square") == "- (-)"
