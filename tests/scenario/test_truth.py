"""The parts of a scenario in terms of its parameters: conditions of strata, symmetries, derived quantities, moves."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from support.checks import check_close, prior_of
from support.scenario_texts import GOOD

from sandbox.dynamics.observer import QUANTILES, Observer, quantiles
from sandbox.expressions.conditions import parse_conditions
from sandbox.expressions.parsing import parse
from sandbox.expressions.quantity import Quantity
from sandbox.model.strata import Stratum, Symmetry, ZeroSet
from sandbox.scenario.scenario import load, loads
from sandbox.tools.errors import InputError

NAMES = ("a", "b")
EXCHANGE = Symmetry((1, 0), (1, 1))
TURN = Symmetry((1, 0), (-1, 1))

NET = """
question: Which?
parameters: {a: "normal(0, 1)", b: "normal(0, 1)", p: "normal(0, 1)", q: "normal(0, 1)"}
loss:
  model: a * relu(b * x) + p * relu(q * x)
  truth: relu(x)
  inputs: {x: "uniform(-1, 2)"}
  noise: 0.5
  samples: 100
symmetries: {exchange: {a: p, p: a, b: q, q: b}}
derived: {gain: a * b, twice: 2 * gain, width: x_max - x_min + 0 * a}
view: [gain, p]
strata:
  dead: {zero: [gain - 1, p], where: [b > 0]}
  two: {zero: [gain + p * q - 1], where: ["b > 0", q > 0], along: twice}
populations:
  sgd: {rule: sgd, learning_rate: 0.05, gradient: {minibatch: 8, draw: reshuffled}}
steps: 100
"""


def made(*zero, where=(), along=None, symmetries=(), tube=0.1):
    conditions = tuple(e for text in where for e in parse_conditions(text, NAMES))
    equations = tuple(parse(text, NAMES) for text in zero)
    stratum = Stratum("s", equations, parse(along, NAMES) if along else None, where=conditions)
    return ZeroSet(NAMES, (stratum,), tube, symmetries)


def some(count=300, low=-2.0, high=2.0, seed=5):
    return np.random.default_rng(seed).uniform(low, high, (count, 2))


# Conditions.


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a > b", "a - b"),
        ("a >= b", "a - b"),
        ("a < 1 - b", "1 - b - a"),
        ("a<=b", "b - a"),
    ],
)
def test_a_condition_is_what_must_not_be_negative(text, wanted):
    assert parse_conditions(text, NAMES) == (parse(wanted, NAMES),)


def test_a_chain_is_several_conditions():
    assert parse_conditions("-1 < a < b", NAMES) == (parse("a + 1", NAMES), parse("b - a", NAMES))


@pytest.mark.parametrize(
    ("text", "says", "column"),
    [
        ("a", "found no <, <=, > or >=", None),
        ("a = 1", "an equation belongs into `zero`", None),
        ("a > c", "unknown name 'c'", 4),
        ("b * > 1", "ends where a number", None),
        ("a > > 1", "empty", None),
        ("a > 1 +", "ends where a number", None),
        ("x.y > 1", "not allowed", None),
        (3, "text of at most", None),
        ("a >" * 2000, "text of at most", None),
    ],
)
def test_what_is_no_condition_is_refused(text, says, column):
    with pytest.raises(InputError) as caught:
        parse_conditions(text, NAMES)
    assert says in str(caught.value)
    if column is not None:
        assert caught.value.problems[0].column == column


def test_the_distance_to_half_a_line_is_to_its_end_where_the_foot_is_beyond():
    points = some()
    a, b = points.T
    true = np.where(a > 0, np.abs(b), np.hypot(a, b))
    check_close(made("b", where=["a > 0"]).distance(points, 0), true, 1.0, 1e-9)
    with pytest.raises(AssertionError):
        check_close(made("b").distance(points, 0), true, 1.0, 1e-9)


def test_the_distance_to_a_quarter_of_a_circle_is_to_an_end_where_it_is_nearer():
    points = some()
    points = points[np.linalg.norm(points, axis=1) > 0.2]
    a, b = points.T
    ends = np.minimum(np.hypot(a - 1, b), np.hypot(a, b - 1))
    true = np.where((a > 0) & (b > 0), np.abs(np.hypot(a, b) - 1), ends)
    found = made("a**2 + b**2 - 1", where=["a > 0", "b > 0"]).distance(points, 0)
    # Behind the centre the two edges do not meet the circle together: the distance is infinite, which is safe.
    near = true < 0.5
    assert near.sum() > 30
    check_close(found[near], true[near], 1.0, 1e-6)
    assert (found >= true - 1e-9).all()


def test_points_given_up_early_change_no_label():
    rng = np.random.default_rng(1)
    zeros = made("a**2 * b - b**3 / 3 - 0.1", where=["a + b > -1"], symmetries=(Symmetry((0, 1), (-1, 1)),))
    points = rng.uniform(-1.5, 1.5, (4000, 2))
    for tube in (0.02, 0.1, 0.4):
        assert np.array_equal(zeros.strata_of(points, tube) == 0, zeros.distance(points, 0) < tube)


def test_samples_are_inside_not_piled_up_at_edges():
    points = made("b", where=["a > 0.9"]).sample(prior_of(a="uniform(-1, 1)", b="uniform(-1, 1)"), 0, 1000)
    assert (points[:, 0] > 0.9).all()
    assert np.std(points[:, 0]) == pytest.approx(0.1 / math.sqrt(12), rel=0.1)


# Symmetries.


def test_a_stratum_holds_its_images():
    points = some()
    a, b = points.T
    zeros = made("a - 1", along="b", symmetries=(EXCHANGE,))
    check_close(zeros.distance(points, 0), np.minimum(np.abs(a - 1), np.abs(b - 1)), 1.0, 1e-12)
    check_close(zeros.along(points, 0), np.where(np.abs(b - 1) < np.abs(a - 1), a, b), 1.0, 1e-12)
    with pytest.raises(AssertionError):
        check_close(made("a - 1").distance(points, 0), np.minimum(np.abs(a - 1), np.abs(b - 1)), 1.0, 1e-12)


def test_symmetries_undo_and_follow_each_other():
    points = some()
    check_close(TURN.inverse(TURN(points)), points, 1.0, 0)
    check_close(TURN.after(EXCHANGE)(points), TURN(EXCHANGE(points)), 1.0, 0)
    assert TURN.after(TURN) == Symmetry((0, 1), (-1, -1))


def test_labels_do_not_change_under_a_symmetry():
    scenario = loads(NET, "net.yaml")
    points = scenario.problem.prior.draw(2000, 1, "test")
    zeros = scenario.problem.zero_set
    assert len(zeros.symmetries) == 1
    assert np.array_equal(zeros.strata_of(points), zeros.strata_of(zeros.symmetries[0](points)))
    alone = replace(zeros, symmetries=())
    assert not np.array_equal(alone.strata_of(points), alone.strata_of(zeros.symmetries[0](points)))


def test_half_the_samples_of_a_stratum_lie_on_its_image():
    scenario = loads(NET, "net.yaml")
    points = scenario.problem.zero_set.sample(scenario.problem.prior, 0, 400)
    silent = np.isclose(points[:, 2], 0)
    assert silent.mean() == pytest.approx(0.5, abs=0.01)
    assert np.abs(scenario.problem.population_loss.excess(points)).max() < 1e-12


def test_declared_symmetries_generate_a_group():
    text = NET.replace(
        "exchange: {a: p, p: a, b: q, q: b}", "one: {a: p, p: a, b: q, q: b}, two: {a: p, p: a, b: q, q: b}"
    )
    assert len(loads(text, "net.yaml").problem.zero_set.symmetries) == 1
    even = text.replace("relu(b * x)", "b * x").replace("relu(q * x)", "q * x").replace("relu(x)", "x")
    even = even.replace('["b > 0", q > 0]', "b > -99").replace(", where: [b > 0]", "")
    signs = even.replace("two: {a: p, p: a, b: q, q: b}", "flip: {a: -a, b: -b}")
    assert len(loads(signs, "net.yaml").problem.zero_set.symmetries) == 7


# Derived quantities and the view.


def test_derived_quantities_build_on_each_other_and_on_the_support():
    scenario = loads(NET, "net.yaml")
    points = scenario.problem.prior.draw(50, 2, "test")
    gain, twice, width = (quantity(points) for quantity in scenario.problem.derived)
    check_close(gain, points[:, 0] * points[:, 1], 1.0, 1e-15)
    check_close(twice, 2 * gain, 1.0, 1e-15)
    check_close(width, 3.0, 1.0, 1e-12)
    assert [quantity.name for quantity in scenario.view] == ["gain", "p"]
    assert str(scenario.problem.zero_set.strata[1].along) == "2*a*b"


def test_quantiles_of_a_measure_are_those_of_its_copies():
    points = some(40)
    weights = np.random.default_rng(0).integers(1, 6, 40)
    derived = (Quantity("a", parse("a", NAMES), NAMES), Quantity("log", parse("log(b)", NAMES), NAMES))
    copies = quantiles(derived, np.repeat(points, weights, axis=0))
    check_close(quantiles(derived, points, weights / weights.sum()), copies, 1.0, 1e-15)
    with pytest.raises(AssertionError):
        check_close(quantiles(derived, points), copies, 1.0, 1e-15)


@pytest.mark.parametrize(
    ("change", "path", "says"),
    [
        (("gain: a * b", "a: a * b"), "derived.a", "has a meaning already"),
        (("gain: a * b", "x_min: a * b"), "derived.x_min", "has a meaning already"),
        (("gain: a * b", "x: a * b"), "derived.x", "has a meaning already"),
        (("gain: a * b", "gain: a * later"), "derived.gain", "unknown name 'later'"),
        (("view: [gain, p]", "view: [gain]"), "view.1", "this key is missing"),
        (("view: [gain, p]", "view: [gain, p + x]"), "view", "unknown name 'x'"),
        (("{a: p, p: a, b: q, q: b}", "{a: p, p: a}"), "symmetries.exchange", "does not leave the loss as it is"),
        (("{a: p, p: a, b: q, q: b}", "{a: p}"), "symmetries.exchange", "not an exchange"),
        (("{a: p, p: a, b: q, q: b}", "{a: 2 * p}"), "symmetries.exchange.a", "allowed: a parameter or its negative"),
        (("{a: p, p: a, b: q, q: b}", "{z: p}"), "symmetries.exchange.z", "unknown parameter 'z'"),
        (("[b > 0]", "[b]"), "strata.dead.where", "found no <"),
        (("[b > 0]", "[b > y_min]"), "strata.dead.where", "unknown name 'y_min'"),
        (("[b > 0]", "[b < 0]"), "strata.dead.zero", "not zero on this stratum"),
        (("[b > 0]", "[b > 0, b < -1]"), "strata.dead.zero", "no point of this stratum"),
        (("[b > 0]", "[b > 0], excess: 0.1"), "strata.dead.zero", "the loss is not 0.1 on this stratum"),
    ],
)
def test_what_is_wrong_is_said_where_it_stands(change, path, says):
    assert change[0] in NET
    with pytest.raises(InputError) as caught:
        loads(NET.replace(*change), "net.yaml")
    assert any(path in str(problem) and says in str(problem) for problem in str(caught.value).split("\n")), caught.value


def test_a_local_minimum_may_lie_above_w0():
    text = """
question: Which well?
parameters: {w: "uniform(-2, 2)"}
loss: {potential: w**2 * (w - 1)**2 + 0.01 * w**2 * (3 - 2 * w)}
nbeta: 100
strata: {low: {zero: [w]}, high: {zero: [w - 1], excess: 0.01}}
measurements: {laplace: }
"""
    assert loads(text, "wells.yaml").problem.zero_set.strata[1].excess == 0.01
    with pytest.raises(InputError, match="not zero"):
        loads(text.replace(", excess: 0.01", ""), "wells.yaml")


# Moves between strata.


def test_moves_are_counted_from_the_stratum_a_particle_was_on_last():
    scenario = loads(GOOD, "good.yaml").changed("particles=5", "steps=3", "record={frames: 4}")
    flat, sharp, away, gone = (0.5, 0.0), (0.0, 0.5), (0.7, 0.7), (1e30, 0.0)
    frames = [
        (flat, flat, sharp, away, flat),
        (away, sharp, sharp, away, gone),
        (sharp, away, flat, flat, gone),
        (sharp, flat, flat, flat, flat),
    ]
    observer = Observer(scenario.problem, scenario.sizes)
    for k, points in enumerate(frames):
        observer.record(k, np.array(points))
    observer.finish()
    assert observer.names == ("flat", "sharp", "elsewhere", "diverged")
    # Rows: from flat, from sharp; columns: to flat, to sharp, elsewhere (never), diverged.
    assert observer.moves.tolist() == [
        [[0, 0, 0, 0], [0, 0, 0, 0]],
        [[0, 1, 0, 1], [0, 0, 0, 0]],
        [[0, 2, 0, 1], [1, 0, 0, 0]],
        [[0, 2, 0, 1], [2, 0, 0, 0]],
    ]


def test_quantiles_in_a_record_are_those_of_the_derived_values():
    scenario = loads(NET, "net.yaml").changed("particles=400", "steps=1", "record={frames: 2}")
    points = scenario.problem.prior.draw(400, 3, "test")
    observer = Observer(scenario.problem, scenario.sizes)
    observer.record(0, points)
    observer.finish()
    gain = np.sort(points[:, 0] * points[:, 1])
    for value, level in zip(observer.quantile[0, 0], QUANTILES, strict=True):
        assert (gain < value).mean() <= level <= (gain <= value).mean()


def test_the_shipped_net_counts_images_as_one():
    scenario = load("relu_two_neurons_one")
    points = scenario.problem.zero_set.sample(scenario.problem.prior, 0, 500)
    assert set(scenario.problem.zero_set.strata_of(points)) == {0}
    assert set(scenario.problem.zero_set.strata_of(scenario.problem.zero_set.symmetries[0](points))) == {0}
