"""User input to `sandbox rlct` and `sandbox.rlct`: answers and refusals."""

from __future__ import annotations

import json
import re
from fractions import Fraction

import pytest
from support.small_runs import sandbox

from sandbox import InputError, rlct


@pytest.mark.parametrize(
    ("expression", "value", "multiplicity"),
    [
        ("(a * tanh(b))**2 + a**4", "1/2", 2),
        ("1 - cos(x * y)", "1/2", 2),
        ("(exp(x*y) - 1)**2 + x**4", "1/2", 2),
        ("log(1 + x**2 * y**2)", "1/2", 2),
        ("log(1 + x**2) + log(1 + y**4)", "3/4", 1),
        ("log(1 + x**2) - log(1 - y**2 * z**2)", "1", 2),
        ("sqrt(1 + x**2) - 1 + y**4", "3/4", 1),
        ("x**2 / (1 + y**2)", "1/2", 1),
        ("tanh(x + y)**2 + (y - x)**4", "3/4", 1),
        ("sin(x)**6 * exp(y)", "1/6", 1),
        ("pi * x**2 * y**4", "1/4", 1),
    ],
)
def test_analytic_factors_are_replaced_by_what_they_are_comparable_to(
    expression: str, value: str, multiplicity: int
) -> None:
    """Each loss is a polynomial of the table's kind times functions that do not vanish."""
    found = rlct(expression)
    assert (found.value, found.multiplicity) == (Fraction(value), multiplicity)


def test_the_point_may_lie_anywhere() -> None:
    assert rlct("(x**2 + y**2 - 1)**2", at={"x": "3/5", "y": "4/5"}).value == Fraction(1, 2)
    assert rlct("x**2 * (y - 0.5)**4", at={"y": 0.5}).value == Fraction(1, 4)
    assert rlct("relu(x - 1)**2 + y**2").value == Fraction(1, 2)
    assert rlct("abs(x)**3 * y**2", at={"x": 1}).value == Fraction(1, 2)


def test_over_a_box_the_deepest_point_decides() -> None:
    assert rlct("x**2 * (y - 1/2)**4", box={"x": (-1, 1), "y": (0, 1)}).value == Fraction(1, 4)
    assert rlct("x**2 * (y - 1/2)**4", box={"x": (-1, 1), "y": (-1, 0)}).value == Fraction(1, 2)
    assert rlct("(x + 1)**4 * (x - 1)**2", box={"x": (0, 2)}).value == Fraction(1, 2)
    with pytest.raises(InputError, match="no zero in the box"):
        rlct("(x + 1)**4 * (x - 1)**2", box={"x": (2, 3)})


def test_json_has_the_promised_keys() -> None:
    said = sandbox("rlct", "(x**2 - y**3)**2", "--json")
    assert said.exit_code == 0, said.stderr
    found = json.loads(said.stdout)
    assert found["learning_coefficient"] == "5/12"
    assert found["multiplicity"] == 1
    assert found["bracket"] == ["5/12", "5/12"]
    assert found["method"]
    assert "5/12" in found["explanation"]


def test_the_command_takes_point_prior_and_box() -> None:
    assert "λ = 1/2, m = 1" in sandbox("rlct", "x**2 * y**4", "--at", "x=0,y=1/2").stdout
    assert "λ = 1, m = 1" in sandbox("rlct", "x**2", "--prior", "x").stdout
    assert "λ = 1/4, m = 1" in sandbox("rlct", "x**2 * (y - 1)**4", "--box", "x=-1:1,y=0:2").stdout


@pytest.mark.parametrize(("expression", "exponent"), [("abs(x)**3 + y**2", 1 / 3 + 1 / 2), ("relu(x)**2 + y**2", 0.5)])
def test_what_is_not_analytic_is_measured_instead_and_said_so(expression: str, exponent: float) -> None:
    """|x|^3 + y^2: weights add up. relu(x)^2 + y^2: for x < 0 a line of zeros, 1/2. Within 3 standard errors."""
    found = rlct(expression)
    assert found.value is None
    assert found.bracket is None
    assert "kink" in found.explanation
    assert found.estimate is not None
    value, low, high = found.estimate
    assert abs(value - exponent) < 1.5 * (high - low) / 2
    assert high - low < 0.1 * exponent


@pytest.mark.parametrize(
    ("expression", "value", "multiplicity"),
    [
        ("(x - sqrt(2) * y)**2 * (x**2 + y**2)", "1/2", 2),
        ("(sqrt(2) * x * y + y**2)**2", "1/2", 2),
        ("((sqrt(3) * y - sqrt(2) * x**2)**2 - x**5)**2", "7/20", 1),
        ("sqrt(2) * x**4", "1/4", 1),
    ],
)
def test_algebraic_coefficients_are_not_rounded(expression: str, value: str, multiplicity: int) -> None:
    """As with rational coefficients: only the places of real roots differ."""
    found = rlct(expression)
    assert (found.value, found.multiplicity) == (Fraction(value), multiplicity)


def test_what_is_not_proved_is_not_claimed() -> None:
    found = rlct("exp(x**2 + y**4) - 1 - x * y**3 + cos(y) * x**6")
    assert found.value is None
    assert found.multiplicity is None
    assert "3/4" in found.explanation
    assert "not decided" in found.explanation


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x**2 + 1"], r"K = 1 at x = 0: λ belongs to a zero"),
        (["x**2", "--at", "x=1"], r"K = 1 at x = 1"),
        (["x * y"], r"never negative near its zero\. For λ of f\*\*2 write \(f\)\*\*2"),
        (["1 + abs(x)"], r"K = 1 at x = 0: λ belongs to a zero"),
        (["abs(x) - y**2"], r"never negative near its zero"),
        (["1/x"], r"no finite value at x = 0"),
        (["x**2/y"], r"no finite value at x = 0, y = 0"),
        (["log(y)"], r"no finite value at y = 0"),
        (["x**1e-200"], r"with a denominator up to"),
        (["(a*b*c*d*e)**2"], r"'e' is Euler's number, never a parameter"),
        (["x**2", "--at", "e=1"], r"'e' is Euler's number"),
        (["x^2"], r"write \*\*"),
        (["3"], r"has no parameters"),
        (["x**2", "--at", "y=1"], r"'y' is no parameter of the expression; it has x"),
        (["width**2", "--at", "widht=1"], r"did you mean 'width'"),
        (["x**2", "--at", "x=one"], r"at x: found 'one'; allowed: a number such as"),
        (["x**2", "--at", "x"], r"--at: found 'x'; allowed: name=value"),
        (["x**2", "--prior", "1 + x"], r"the prior must be a product of powers"),
        (["x**2", "--prior", "abs(x)**-2"], r"powers must exceed -1"),
        (["x**2", "--box", "x=1:0"], r"box x: found \[1, 0\]"),
        (["x**2", "--box", "x=1"], r"--box x: found '1'; allowed: low:high"),
        (["x**2 * y**2", "--box", "x=0:1"], r"no interval for 'y'"),
        (["x**2", "--at", "x=0", "--box", "x=0:1"], r"at a point or over a box"),
        (["sqrt(x)"], r"K is no real number at x = -"),
        (["__import__('os').system('x')"], r"'__import__' is not a name"),
    ],
)
def test_wrong_input_is_refused_in_one_message(arguments: list[str], message: str) -> None:
    said = sandbox("rlct", *arguments)
    assert said.exit_code == 2
    assert re.search(message, said.stderr), said.stderr
    assert "Traceback" not in said.stderr
    assert said.stdout == ""
