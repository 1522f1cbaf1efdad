"""(λ, m) over a box, at irrational points and at edges; the explanations, and the refusals."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction

import pytest
import sympy
from sympy import Poly, sqrt

from sandbox.learning_coefficient.plane import real_field
from sandbox.learning_coefficient.plane.of_polynomial import at_origin, at_point, over_box
from sandbox.tools.errors import InputError

F = Fraction
X, Y = sympy.symbols("x y")
FLAT = (F(0), F(0))
SQUARE = ((F(-1), F(1)), (F(-1), F(1)))


def poly(expression):
    return Poly(expression, X, Y)


def translated(K, point):
    """Return K(x + a, y + b), which moves the rational point (a, b) to the origin."""
    return K.set_domain(sympy.QQ).shift_list([sympy.Rational(value.numerator, value.denominator) for value in point])


def rank(answer):
    assert answer.is_exact, answer
    return answer.value, answer.multiplicity


def box(x_low, x_high, y_low, y_high):
    return (F(x_low), F(x_high)), (F(y_low), F(y_high))


UPPER, LOWER, RIGHT = box(-1, 1, 0, 1), box(-1, 1, -1, 0), box(0, 1, -1, 1)
U = 2 * X - 1
CIRCLE = X**2 + Y**2 - F(1, 4)

# (description, K, box, prior exponents, λ, m), by hand.
BOXES = [
    ("the axis of power 4", X**2 * Y**4, SQUARE, FLAT, F(1, 4), 1),
    ("a crossing", X**2 * Y**2, SQUARE, FLAT, F(1, 2), 2),
    ("the crossing at a corner", X**2 * Y**2, box(0, 1, -1, 0), FLAT, F(1, 2), 2),
    ("the crossing left out", X**2 * Y**2, box("1/2", 1, -1, 1), FLAT, F(1, 2), 1),
    ("an oval inside", CIRCLE**2, SQUARE, FLAT, F(1, 2), 1),
    ("two ovals of two powers", CIRCLE**2 * (16 * X**2 + 16 * Y**2 - 9) ** 4, SQUARE, FLAT, F(1, 4), 1),
    ("an isolated zero: r^6", ((X - F(1, 3)) ** 2 + (Y - F(1, 7)) ** 2) ** 3, SQUARE, FLAT, F(1, 3), 1),
    ("four irrational zeros: 1/2 + 1/2", (2 * X**2 - 1) ** 2 + (3 * Y**2 - 1) ** 2, SQUARE, FLAT, F(1), 1),
    ("irrational crossings", (2 * X**2 - 1) ** 2 * (3 * Y**2 - 1) ** 2, SQUARE, FLAT, F(1, 2), 2),
    ("an irrational zero on the edge", (X**2 - 2) ** 2 + Y**4, box(-2, 2, 0, 1), FLAT, F(3, 4), 1),
    ("cusps at irrational points", ((2 * X**2 - 1) ** 2 - (3 * Y**3 - 1) ** 3) ** 2, SQUARE, FLAT, F(5, 12), 1),
    ("a figure eight", (X**2 * (1 - X**2) - Y**2) ** 2, SQUARE, FLAT, F(1, 2), 2),
    ("half of it, away from the node", (X**2 * (1 - X**2) - Y**2) ** 2, box("1/10", 2, -1, 1), FLAT, F(1, 2), 1),
    ("the oval of a cubic alone", (Y**2 - X**3 + X) ** 2, box("-3/2", "1/2", -1, 1), FLAT, F(1, 2), 1),
    # Touched from outside, K is (|y| + x^2)^2 in the box: 1/2 + 1/4; from inside the curve itself counts.
    ("a parabola from below", (Y - X**2) ** 2, LOWER, FLAT, F(3, 4), 1),
    ("a parabola from above", (Y - X**2) ** 2, UPPER, FLAT, F(1, 2), 1),
    ("an odd curve from below", (Y - X**3) ** 2, LOWER, FLAT, F(1, 2), 1),
    ("an odd curve in the empty quadrant: 1/2 + 1/6", (Y - X**3) ** 2, box(0, 1, -1, 0), FLAT, F(2, 3), 1),
    ("a line through a corner alone", (X + Y) ** 2, box(0, 1, 0, 1), FLAT, F(1), 1),
    ("a line through the box", (X + Y) ** 2, box(0, 1, -1, 0), FLAT, F(1, 2), 1),
    ("a cusp from behind: no branch, E counts", (Y**2 - X**3) ** 2, box(-1, 0, -1, 1), FLAT, F(5, 12), 1),
    ("an irrational touching point", (Y - (X**2 - 2) ** 2) ** 2, box(0, 2, -1, 0), FLAT, F(3, 4), 1),
    ("along an edge", Y**4 * (1 + X**2), UPPER, FLAT, F(1, 4), 1),
    # Priors: on the axis only.
    ("a prior away from its axis", CIRCLE**2, SQUARE, (F(3), F(3)), F(1, 2), 1),
    ("a prior along the axis: 2/4", X**4, SQUARE, (F(1), F(0)), F(1, 2), 1),
    ("a prior that makes a crossing equal", X**4 * (2 * Y - 1) ** 2, SQUARE, (F(1), F(0)), F(1, 2), 2),
    ("a prior that blows up: (1/2)/4", X**4, SQUARE, (F(-1, 2), F(0)), F(1, 8), 1),
    ("a curve that touches the axis: (1 + 2/4)/4", (Y - X**2) ** 2, SQUARE, (F(0), F(-3, 4)), F(3, 8), 1),
    ("touched away from the origin", (Y - (2 * X - 1) ** 2) ** 2, SQUARE, (F(5), F(-3, 4)), F(3, 8), 1),
    # f = u^2 - x^5 with u = y - x^2 has no zero in x < 0: (6 + 2)/8 and (2 8 + 1)/20; in x > 0 its branches have 1/2.
    ("the side without a branch", ((Y - X**2) ** 2 - X**5) ** 2, box(-1, 0, -1, 1), (F(5), F(0)), F(17, 20), 1),
    ("the side with branches", ((Y - X**2) ** 2 - X**5) ** 2, RIGHT, (F(5), F(0)), F(1, 2), 1),
    ("lines that meet on an axis: (1 + 1/4)/6", (U - Y) ** 2 * (U + Y) ** 4, SQUARE, (F(0), F(-3, 4)), F(5, 24), 1),
    ("an axis as an edge", Y**2, UPPER, (F(0), F(1)), F(1), 1),
]


@pytest.mark.parametrize(
    ("what", "K", "bounds", "exponents", "value", "multiplicity"), BOXES, ids=[b[0] for b in BOXES]
)
def test_boxes_by_hand(what, K, bounds, exponents, value, multiplicity):
    """The answer is the same with the axes exchanged, and mirrored in either axis."""
    for x, y in itertools.product((X, -X), (Y, -Y)):
        moved = tuple(
            (low, high) if z in (X, Y) else (-high, -low) for z, (low, high) in zip((x, y), bounds, strict=True)
        )
        here, turned = ({X: x, Y: y}, moved, exponents), ({X: Y * x / X, Y: X * y / Y}, moved[::-1], exponents[::-1])
        for change, box, prior in (here, turned):
            changed = poly(sympy.expand(K).subs(change, simultaneous=True))
            assert rank(over_box(changed, box, prior)) == (value, multiplicity)


def test_the_whole_neighbourhood_is_the_wrong_answer_at_an_edge():
    """The broken specimen: the answer of the open plane, taken at a point on an edge."""
    for K, bounds in (((Y - X**2) ** 2, LOWER), ((X + Y) ** 2, box(0, 1, 0, 1)), ((Y - X**3) ** 2, box(0, 1, -1, 0))):
        assert at_origin(poly(K)).rank != over_box(poly(K), bounds).rank


@pytest.mark.parametrize(
    "K", [CIRCLE**2 + 1, (X**2 + Y**2 - 4) ** 2, poly(3).as_expr(), X * Y - 5, (X**2 - 3) ** 2 * 7]
)
def test_a_box_without_a_zero_is_refused(K):
    with pytest.raises(InputError, match="no zero in the box"):
        over_box(poly(K), SQUARE)


def ranks(K, bounds, exponents):
    """Return (λ, -m) over a box in a list, empty if K has no zero there."""
    try:
        return [over_box(K, bounds, exponents).rank]
    except InputError:
        return []


PARTS = [X, Y, X - Y, Y - X**2, Y**2 - X**3, CIRCLE, X**2 + Y**2, 2 * X**2 - Y**2, X - F(1, 2), Y**2 - 2 * X + 1]
PARTS += [(Y - X**2) ** 2 - X**5, X * Y - F(1, 8), (2 * X**2 - 1) ** 2 + Y**2, (X - Y) ** 2 + Y**4, Y + F(1, 2)]


@pytest.mark.parametrize("seed", range(40))
def test_a_box_is_the_least_of_its_two_halves(seed):
    """The integral over a box is the sum over its halves, all positive: also if the cut meets a singularity."""
    rng = random.Random(seed)
    K = poly(sympy.prod(p ** rng.randint(1, 3) for p in rng.sample(PARTS, rng.randint(1, 2))))
    exponents = rng.choice([FLAT, FLAT, (F(1), F(-1, 2))])
    low, cut, high = F(-1), rng.choice([F(0), F(1, 2), F(-1, 2), F(1, 3)]), F(1)
    axis = rng.randint(0, 1)
    halves = [(low, cut), (cut, high)]
    boxes = [(half, (low, high)) if axis == 0 else ((low, high), half) for half in halves]
    parts = [one for half in boxes for one in ranks(K, half, exponents)]
    assert ranks(K, SQUARE, exponents) == ([min(parts)] if parts else [])


@pytest.mark.parametrize("seed", range(10))
def test_a_moved_box_with_a_moved_loss_is_the_same(seed):
    rng = random.Random(seed)
    K = poly(sympy.prod(p ** rng.randint(1, 2) for p in rng.sample(PARTS, 2)))
    a, b = F(rng.randint(-5, 5), 3), F(rng.randint(-5, 5), 4)
    moved = ((F(-1) - a, F(1) - a), (F(-1) - b, F(1) - b))
    assert ranks(translated(K, (a, b)), moved, FLAT) == ranks(K, SQUARE, FLAT)


def test_a_box_beyond_the_largest_degree_has_an_honest_bracket(monkeypatch):
    K = poly(((2 * X**2 - 1) ** 2 - (3 * Y**3 - 1) ** 3) ** 2)
    monkeypatch.setattr(real_field, "LARGEST_DEGREE", 3)
    answer = over_box(K, SQUARE)
    assert (answer.value, answer.multiplicity) == (None, None)
    assert answer.bracket[0] < F(5, 12) < answer.bracket[1] == F(1, 2)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [(box(1, 1, 0, 1), "lower < upper"), (box(0, 1, 1, 0), "lower < upper"), (((0.0, F(1)), (F(0), F(1))), "no exact")],
)
def test_wrong_bounds_are_refused(bounds, message):
    with pytest.raises(InputError, match=message):
        over_box(poly(X**2), bounds)


# Real algebraic numbers.


def test_signs_roots_and_towers_are_exact():
    """Over Q(sqrt 2), the roots of (t^2 - 3 - sqrt 2)(t^2 - 3 - 2 sqrt 2)(t^2 + sqrt 2)(t - sqrt 2)."""
    root = real_field.adjoined(real_field.RATIONALS, sqrt(2))
    field, a, three = root.field, root.value, root.field.of(F(3))
    zero, one = field.domain.zero, field.domain.one
    parts = [[-three - a, zero, one], [-three - a - a, zero, one], [a, zero, one], [-a, one]]
    product = sympy.prod(field.poly(part) for part in parts)
    assert real_field.count(field, product) == 5
    assert real_field.count(field, product, F(0)) == 3
    roots = list(real_field.real_roots(field, product, F(0), None))
    # 3 + 2 sqrt 2 is a square in the field, 3 + sqrt 2 is not.
    assert sorted((r.field.degree, round(r.field.approximately(r.value), 9)) for r in roots) == [
        (2, round(2**0.5, 9)),
        (2, round(1 + 2**0.5, 9)),
        (4, round((3 + 2**0.5) ** 0.5, 9)),
    ]
    tower = next(r for r in roots if r.field.degree == 4)
    assert tower.field.sign(tower.value**2 - tower.embed(three + a)) == 0
    assert tower.field.sign(tower.value**2 - tower.embed(three + a) - tower.field.of(F(1, 10**30))) == -1


# Explanations and refusals.


def test_the_explanation_names_the_steps():
    words = at_origin(poly(((Y - X**2) ** 2 - X**5) ** 2)).explanation
    for step in (
        "weights (1, 2)",
        "ν = 3, N = 8",
        "x = s1, y = s1^2 (1 + t1)",
        "weights (2, 1)",
        "ν = 7, N = 20",
        "7/20",
    ):
        assert step in words


def test_a_point_may_be_irrational():
    K = poly(((X**2 - 2) ** 2 + (Y**3 - X) ** 4) * (Y - 5))
    cube = sympy.root(2, 6)
    assert rank(at_point(K, (sqrt(2), cube))) == (F(3, 4), 1)
    assert rank(at_point(K, (-sqrt(2), -cube))) == (F(3, 4), 1)
    assert rank(at_point(poly((X**2 + Y**2 - 3) ** 2), (sqrt(2), 1), (F(5), F(5)))) == (F(1, 2), 1)
    with pytest.raises(InputError, match="not zero at"):
        at_point(K, (sqrt(2), -cube))


def test_translation():
    K = poly((Y - 3 - (X - F(1, 2)) ** 2) ** 2 * (X - F(1, 2)) ** 6)
    moved = translated(K, (F(1, 2), F(3)))
    assert moved.as_expr() == poly((Y - X**2) ** 2 * X**6).as_expr()
    assert at_origin(moved).rank == at_point(K, (F(1, 2), F(3))).rank


@pytest.mark.parametrize(
    ("K", "exponents", "message"),
    [
        (poly(X + 1), FLAT, "not zero at"),
        (poly(0), FLAT, "zero everywhere"),
        (poly(7), FLAT, "not zero at"),
        (Poly(X**2, X), FLAT, "two are needed"),
        (poly(0.5 * X**2), FLAT, "rational"),
        (poly(sqrt(2) * X**2), FLAT, "rational"),
        (poly(X**2), (F(-1), F(0)), "not above -1"),
        (poly(X**2), (0.5, F(0)), "no exact number"),
    ],
)
def test_wrong_input_is_refused(K, exponents, message):
    with pytest.raises(InputError, match=message):
        at_origin(K, exponents)


@pytest.mark.parametrize("number", [0.5, sympy.Float("0.5"), sympy.pi, sympy.I, "0"])
def test_a_point_must_be_exact(number):
    with pytest.raises(InputError, match="no exact number"):
        at_point(poly(X**2), (0, number))


def test_beyond_the_largest_degree_there_is_an_honest_bracket(monkeypatch):
    K = poly(((X**2 - 2 * Y**2) ** 2 - Y**5) ** 2)
    exact = at_origin(K, (F(1), F(0))).value
    monkeypatch.setattr(real_field, "LARGEST_DEGREE", 1)
    answer = at_origin(K, (F(1), F(0)))
    assert (answer.value, answer.multiplicity) == (None, None)
    assert answer.bracket[0] < exact < answer.bracket[1]
    assert "too high degree" in answer.explanation
    # If the root does not decide, the answer stays exact.
    assert rank(at_origin(K)) == (F(1, 4), 2)
