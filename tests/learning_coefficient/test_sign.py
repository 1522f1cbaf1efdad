"""A loss that is negative near its zero has no λ: it is refused, however thin the region is."""

from __future__ import annotations

import os
import random
from fractions import Fraction

import pytest
import sympy
from support.generated import changed, polynomial

from sandbox import InputError, rlct
from sandbox.expressions.parsing import MAX_LENGTH, parse, symbol
from sandbox.learning_coefficient.plane.branches import both_signs
from sandbox.learning_coefficient.plane.real_field import RATIONALS
from sandbox.learning_coefficient.sign import check_at_points, check_sign

CASES = int(os.environ.get("SANDBOX_NEGATIVE_CASES", "40"))
"""The number of generated losses; a recorded run takes 1,000."""


def negative_somewhere(seed):
    """Return f^2 - g in 2 to 5 parameters with f = 0 on a graph into the origin, on which the small g is positive."""
    rng = random.Random(seed)
    size = rng.randint(2, 5)
    w = sympy.symbols(f"w1:{size + 1}", real=True)
    least = 2 if size > 2 and rng.random() < 0.3 else 1
    first, others = w[:least], w[least:]
    graphs = [v - polynomial(rng, others, 1, 3) for v in first]
    f = sum(graph**2 for graph in graphs) if least == 2 else graphs[0] * rng.choice([1, 1, 1 + w[0], w[-1] - 2 * w[0]])
    power = 2 * int(sympy.Poly(f, *w).total_degree()) + rng.randint(1, 5)
    g = rng.choice([1, 3, Fraction(1, 5)]) * rng.choice(others) ** power
    K = (f**2 - g).xreplace(changed(rng, w)) if rng.random() < 0.7 else f**2 - g
    expanded = sympy.expand(K)
    return expanded if rng.random() < 0.5 and len(str(expanded)) < MAX_LENGTH else K


@pytest.mark.parametrize("seed", range(CASES))
def test_negative_somewhere_is_refused(seed):
    with pytest.raises(InputError, match="never negative near its zero"):
        rlct(str(negative_somewhere(seed)))


def test_random_points_alone_miss_thin_regions():
    """The broken specimen: the points that were the whole check."""
    w = sympy.symbols("x y z", real=True)
    x, y, z = w
    check_at_points((x + y + z) ** 2 - z**8, w, [Fraction(0)] * 3)
    with pytest.raises(InputError, match="never negative"):
        rlct("(x + y + z)**2 - z**8")


@pytest.mark.parametrize(
    ("K", "signs"),
    [
        ("(y - x**2)**2 - x**8", True),
        ("(y - x**2)**2 + x**8", False),
        ("(y**2 - 2*x**2)**2 + x**7", True),
        ("(y**2 - 2*x**2)**2 + x**8", False),
        ("((y - x**2)**2 - x**5)**2 - x**30", True),
        ("((y - x**2)**2 - x**5)**2 + x**30", False),
        ("((y**2 - 2*x**2)**2 - x**7)**2 - x**17*y", True),
        ("((y**2 - 2*x**2)**2 - x**7)**2 + x**18*y**2", False),
        ("x**2 + y**3", True),
        ("x**2 + x*y**3 + y**6", False),
        ("x**2 + 3*x*y**3 + y**6", True),
    ],
)
def test_real_branches_decide_in_the_plane(K, signs):
    x, y = sympy.symbols("x y")
    terms = dict(sympy.Poly(sympy.sympify(K), x, y, domain="QQ").terms())
    assert both_signs(RATIONALS, terms) is signs


@pytest.mark.parametrize(
    "K",
    [
        "x**2 + y**2 + z**2 - 100*z**3",
        "(x**2 + y**2 - z*w)**2 + x**4 + y**4 + w**4 + z**4",
        "x**2 - 2*x*y + y**2 + 2*x*z - 2*y*z + z**2",
        "x**4 - 4*x**2*y*z + 4*y**2*z**2 + z**6*x**2 - 2*x*z**6 + z**6",
        "sin(x + y)**2 + (exp(z) - 1)**2 - x**2*z**2/4",
    ],
)
def test_what_is_nowhere_negative_is_accepted(K):
    """The first is negative, but not within 1/100 of the point."""
    names = [name for name in "xyzw" if name in K.replace("exp", "")]
    w = [symbol(name) for name in names]
    check_sign(parse(K, names), w, [Fraction(0)] * len(w))
