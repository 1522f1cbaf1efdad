"""Strata: the stratum of a point, its distance, the position along it; the refusals of the check."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import spatial
from support.checks import check_close, prior_of

from sandbox.expressions.parsing import parse
from sandbox.model import projection
from sandbox.model.prior import Distribution
from sandbox.model.regression import Regression, potential
from sandbox.model.strata import Stratum, ZeroSet
from sandbox.tools.errors import InputError

NAMES = ("w1", "w2")
SQUARE = prior_of(w1="uniform(-1, 1)", w2="uniform(-1, 1)")
LAW = settings(max_examples=15, deadline=None, derandomize=True, database=None)


def stratum(name, *zero, along=None, names=NAMES):
    return Stratum(name, tuple(parse(text, names) for text in zero), parse(along, names) if along else None)


def zero_set(*strata, tube=0.1, names=NAMES):
    return ZeroSet(names, strata, tube)


CROSSING = zero_set(
    stratum("crossing", "w1", "w2"), stratum("flat", "w2", along="w1"), stratum("sharp", "w1", along="w2")
)
CIRCLE = zero_set(stratum("circle", "w1**2 + w2**2 - 1", along="w1 / w2"))
PARABOLA = zero_set(stratum("parabola", "w2 - w1**2", along="w1"))
CUSP = zero_set(stratum("branch", "w1**2 - w2**3", along="w1"), tube=0.2)


def some(count=200, seed=3, low=-1.0, high=1.0, size=2):
    return np.random.default_rng(seed).uniform(low, high, (count, size))


# Distances.


def test_distance_to_points_and_lines_is_exact():
    points = some()
    a, b = points.T
    for k, exact in enumerate((np.hypot(a, b), np.abs(b), np.abs(a))):
        assert np.array_equal(CROSSING.distance(points, k), exact) or np.allclose(
            CROSSING.distance(points, k), exact, rtol=1e-15, atol=0
        )
    shifted = zero_set(stratum("line", "2 * w1 - 1"), stratum("oblique", "w1 + 2 * w2 - 1"))
    check_close(shifted.distance(points, 0), np.abs(a - 0.5), 1.0, 1e-15)
    check_close(shifted.distance(points, 1), np.abs(a + 2 * b - 1) / math.sqrt(5), 1.0, 1e-12)


def test_distance_to_a_circle_is_exact():
    """Gauss-Newton moves along the radius, so symmetry makes it exact."""
    points = some(low=-2, high=2)
    radius = np.linalg.norm(points, axis=1)
    points, radius = points[radius > 0.05], radius[radius > 0.05]
    check_close(CIRCLE.distance(points, 0), np.abs(radius - 1), 1.0, 1e-9)
    with pytest.raises(AssertionError):
        check_close(CIRCLE.distance(points, 0), np.abs(radius**2 - 1), 1.0, 1e-9)


def excess_over_search(zeros, points, curve):
    """Return by how much a distance to a curve exceeds that to the nearest of a dense set of its points (N, D)."""
    found = zeros.distance(points, 0)
    true = spatial.cKDTree(curve).query(points)[0]
    assert (found >= true - 1e-9).all()
    return found - true


def test_distance_to_a_curve_is_near_the_true_one(monkeypatch):
    """The parabola w2 = w1^2, from points on its normals; Gauss-Newton steps alone are a hundred times as far off."""
    base = np.stack([np.linspace(-0.9, 0.9, 60), np.linspace(-0.9, 0.9, 60) ** 2], axis=1)
    normal = np.stack([-2 * base[:, 0], np.ones(60)], axis=1)
    normal /= np.linalg.norm(normal, axis=1)[:, None]
    position = np.linspace(-1.5, 1.5, 400_001)
    curve = np.stack([position, position**2], axis=1)
    with_corrections = np.max(excess_over_search(PARABOLA, base + 0.1 * normal, curve))
    assert with_corrections < 1e-5
    monkeypatch.setattr(projection, "_CORRECTIONS", 0)
    assert np.max(excess_over_search(PARABOLA, base + 0.1 * normal, curve)) > 100 * with_corrections


def test_masses_near_a_cusps_branch_are_those_of_true_distances(monkeypatch):
    """Of the posterior at n = 100, points beyond 0.2 of the tip and within 0.2 of w1^2 = w2^3, to 0.003."""
    axis = np.linspace(-1, 1, 200)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    points = points[np.linalg.norm(points, axis=1) >= 0.2]
    weight = np.exp(-100 * (points[:, 0] ** 2 - points[:, 1] ** 3) ** 2 / 2)
    position = np.linspace(-1.5, 1.5, 20_001)
    true = spatial.cKDTree(np.stack([position**3, position**2], axis=1)).query(points)[0]

    def check_mass():
        near = CUSP.strata_of(points) == 0
        assert abs((weight * near).sum() - (weight * (true < 0.2)).sum()) < 0.003 * weight.sum()

    check_mass()
    monkeypatch.setattr(projection, "_CORRECTIONS", 0)
    with pytest.raises(AssertionError):
        check_mass()


def check_on_stratum(points, *residuals):
    """Points satisfy the stratum's equations."""
    for residual in residuals:
        check_close(residual(*points.T), 0.0, 1.0, 1e-8)


def test_projections_lie_on_their_stratum():
    check_on_stratum(CIRCLE.project(some(seed=9) + 0.01, 0), lambda a, b: a**2 + b**2 - 1)
    check_on_stratum(PARABOLA.project(some(), 0), lambda a, b: b - a**2)
    both = zero_set(stratum("points", "w1**2 + w2**2 - 1", "w1 - w2"))
    check_on_stratum(both.project(some(seed=4) + 2, 0), lambda a, b: a**2 + b**2 - 1, lambda a, b: a - b)
    with pytest.raises(AssertionError):
        check_on_stratum(some(), lambda a, b: b - a**2)


@pytest.mark.parametrize(
    ("zero", "point"),
    [
        (("w1**2 + w2**2 - 1",), (0.0, 0.0)),  # no slope at the centre
        (("1e-12 * (w1**2 + w2**2 - 1)",), (0.0, 0.0)),
        (("w1**2 + 1",), (0.4, 0.2)),  # empty
        (("w1", "w1 - 1"), (0.3, 0.3)),  # contradictory
        (("sqrt(w1) - 0.5",), (-0.3, 0.0)),  # outside the domain
        (("w1**2 - 1",), (math.nan, 0.0)),
        (("w1",), (math.inf, 0.0)),
        (("w1",), (0.0, math.inf)),
        (("w2 - w1**2",), (math.inf, math.inf)),
    ],
)
def test_failed_descents_are_infinitely_far(zero, point):
    zeros = zero_set(stratum("s", *zero), tube=1e9)
    both = np.array([point, (0.7, 0.4)])
    assert zeros.distance(both, 0)[0] == math.inf
    assert zeros.strata_of(both)[0] == 1


def test_a_failed_descent_leaves_its_neighbours_alone():
    points = np.array([[0.0, 0.0], [2.0, 0.0], [math.nan, 1.0], [0.0, 3.0]])
    check_close(CIRCLE.distance(points, 0)[[1, 3]], np.array([1.0, 2.0]), 1.0, 1e-9)
    assert np.isinf(CIRCLE.distance(points, 0)[[0, 2]]).all()


# The stratum of a point.


def test_labels_go_to_the_first_stratum_within_the_tube():
    points = np.array([[0.05, 0.05], [0.5, 0.05], [0.05, -0.5], [0.5, 0.5], [0.09, 0.09], [math.nan, 0.0]])
    # The fifth is within both arms' tubes but 0.127 from the crossing: the flat arm comes first.
    assert CROSSING.strata_of(points).tolist() == [0, 1, 2, 3, 1, 3]
    assert CROSSING.names == ("crossing", "flat", "sharp", "elsewhere")
    swapped = zero_set(*reversed(CROSSING.strata))
    assert swapped.strata_of(points[:5]).tolist() == [0, 1, 0, 3, 0]


def test_the_tube_can_be_told():
    points = np.array([[0.5, 0.15], [0.5, 0.05], [0.5, 0.0]])
    assert CROSSING.strata_of(points, 0.2).tolist() == [1, 1, 1]
    assert CROSSING.strata_of(points, 0.02).tolist() == [3, 3, 1]
    assert CROSSING.strata_of(points, 0.0).tolist() == [3, 3, 3]


def check_invariance(zeros, points, other, image):
    """A map of the plane that keeps distances takes one stratum and its distances to another."""
    check_close(other.distance(image, 0), zeros.distance(points, 0), 1.0, 1e-8)


@LAW
@given(st.integers(0, 62), st.integers(-4, 4), st.integers(-4, 4), st.integers(0, 1000))
def test_distance_is_invariant_under_rigid_motions(tenths, left, up, seed):
    angle, left, up = tenths / 10, left / 8, up / 8
    points = some(20, seed) * 0.9 + np.array([2.0, 0.0])
    c, s = math.cos(angle), math.sin(angle)
    image = points @ np.array([[c, s], [-s, c]]) + np.array([left, up])
    a = f"({c!r} * (w1 - ({left!r})) + ({s!r}) * (w2 - ({up!r})))"
    b = f"(({-s!r}) * (w1 - ({left!r})) + ({c!r}) * (w2 - ({up!r})))"
    other = zero_set(stratum("ellipse", f"{a}**2 / 2 + {b}**2 - 1"))
    check_invariance(zero_set(stratum("ellipse", "w1**2 / 2 + w2**2 - 1")), points, other, image)
    with pytest.raises(AssertionError):
        check_invariance(zero_set(stratum("ellipse", "w1**2 / 2 + w2**2 - 1")), points, other, 1.1 * image)


# Along a stratum, and the data for other modules.


def test_position_along():
    points = some()
    assert np.array_equal(CROSSING.along(points, 1), points[:, 0])
    check_close(CIRCLE.along(points, 0), points[:, 0] / points[:, 1], 1 + np.abs(points[:, 0] / points[:, 1]), 1e-15)
    assert [CROSSING.along_axis(k) for k in range(3)] == [None, 0, 1]
    assert CIRCLE.along_axis(0) is None


def test_cuts_are_the_edges_of_axis_parallel_tubes():
    zeros = zero_set(stratum("a", "w1 - 1/2"), stratum("b", "w2", "w1"), stratum("c", "w1 + w2"), tube=0.25)
    assert zeros.cuts() == ((-0.25, 0.25, 0.75), (-0.25, 0.25))
    # The stratum of a point changes at each edge: just inside and just outside.
    for edge in (0.25, 0.75):
        inside, outside = (zeros.strata_of(np.array([[edge + s * 1e-9, 5.0]]))[0] for s in (1, -1))
        assert (inside, outside) in {(0, 3), (3, 0)}


@pytest.mark.parametrize("zeros", [CROSSING, CIRCLE, PARABOLA])
def test_samples_lie_on_the_stratum_inside_the_window(zeros):
    for k in range(len(zeros.strata)):
        points = zeros.sample(SQUARE, k, 100)
        assert 1 <= len(points) <= 100
        assert np.abs(points).max() <= 1
        assert zeros.distance(points, k).max() < 1e-8
        assert np.array_equal(points, zeros.sample(SQUARE, k, 100))


# The check.


def check(zeros, loss, prior=SQUARE):
    zeros.check(loss, prior)


def regression(parameters, model, truth="0", **inputs):
    texts = inputs or {"x": "normal(0, 1)"}
    return Regression(parameters, (model,), (truth,), {k: Distribution.parse(v) for k, v in texts.items()}).population()


GOOD = {
    "crossing": (CROSSING, regression(NAMES, "w1 * w2**2 * x")),
    "crossing as potential": (CROSSING, potential(NAMES, "w1**2 * w2**4 / 2")),
    "circle": (CIRCLE, regression(NAMES, "(w1**2 + w2**2) * x", "x")),
    "parabola": (PARABOLA, regression(NAMES, "tanh((w2 - w1**2) * x)")),
    "undefined on half the square": (zero_set(stratum("h", "w1 * w2 - 1/4")), potential(NAMES, "log(4 * w1 * w2)**2")),
    "zero on most of the square": (
        zero_set(stratum("arc", "w1**2 + w2**2 - 1.8")),
        potential(NAMES, "relu(1e7 * (w1**2 + w2**2 - 1.8))**2"),
    ),
    "hyperbola": (zero_set(stratum("h", "w1 * w2 - 1/4")), regression(NAMES, "w1 * w2 * x", "x / 4")),
}


@pytest.mark.parametrize("name", GOOD)
def test_the_loss_is_zero_on_every_stratum(name):
    zeros, loss = GOOD[name]
    check(zeros, loss)
    for k in range(len(zeros.strata)):
        check_close(loss.excess(zeros.sample(SQUARE, k, 50)), 0.0, 1.0, 1e-12)


@pytest.mark.parametrize(
    ("zeros", "loss", "where", "says"),
    [
        (zero_set(stratum("arm", "w2 - 0.1")), GOOD["crossing"][1], [("arm", "zero")], "K = "),
        (zero_set(stratum("arm", "w2 - 1e-3")), regression(NAMES, "w2 * x"), [("arm", "zero")], "w2 = 0.001"),
        (zero_set(stratum("far", "w2 - 3")), GOOD["crossing"][1], [("far", "zero")], "no point"),
        (zero_set(stratum("never", "w2**2 + 1")), GOOD["crossing"][1], [("never", "zero")], "no point"),
        (zero_set(stratum("both", "w1", "w1 - 1")), GOOD["crossing"][1], [("both", "zero")], "no point"),
        (
            zero_set(stratum("one", "w1 - w2"), stratum("two", "w1"), stratum("three", "w1 - 7")),
            GOOD["crossing"][1],
            [("one", "zero"), ("three", "zero")],
            "not zero on this stratum",
        ),
        (zero_set(stratum("pole", "w1")), potential(NAMES, "w2**2 + log(w1)"), [("pole", "zero")], "not zero"),
    ],
)
def test_the_check_names_each_wrong_stratum_and_where(zeros, loss, where, says):
    with pytest.raises(InputError) as caught:
        check(zeros, loss)
    assert [problem.where for problem in caught.value.problems] == where
    assert says in caught.value.problems[0].message
