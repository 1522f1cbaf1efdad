"""Newton polyhedra compared with linear programming and brute force; valid and invalid conclusions from them."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import sympy
from scipy.optimize import linprog

from sandbox.learning_coefficient.ideals.nondegenerate import toric
from sandbox.learning_coefficient.ideals.polyhedron import NewtonPolyhedron
from sandbox.learning_coefficient.ideals.polynomials import Budget, UndecidedError, factors, groebner, rank, to_ring
from sandbox.learning_coefficient.ideals.torus import (
    changes_sign_on_torus,
    has_no_torus_zero,
    no_common_torus_zero,
    squares,
)

HALF = Fraction(1, 2)


def random_support(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 6))
    return [tuple(map(int, row)) for row in rng.integers(0, 6, size=(int(rng.integers(1, 9)), size)) if row.any()] or [
        (1,) * size
    ]


def elements(texts, names="x y z t"):
    symbols = sympy.symbols(names)
    table = dict(zip(names.split(), symbols, strict=True))
    return to_ring([spelled(text, table) for text in texts], symbols)


def spelled(text, table):
    """Return the polynomial of a text, through the package's own parser."""
    from sandbox.expressions.parsing import parse

    return parse(text, tuple(table)).xreplace({sympy.Symbol(n, real=True): s for n, s in table.items()})


def polyhedron_says(texts, names="x y z t", prior=None):
    generators = elements(texts, names)
    size = len(names.split())
    weights = tuple(map(Fraction, prior or (0,) * size))
    return toric(generators, (0,) * size, weights, range(size), (), Budget(100_000))


def check_hit(support, hit):
    """The ratio is the value of a linear program: min (1 . w) with w . v >= 1 and w >= 0."""
    points = np.array(support, dtype=float)
    found = linprog(np.ones(points.shape[1]), A_ub=-points, b_ub=-np.ones(len(points)), method="highs")
    assert float(hit.ratio) == pytest.approx(found.fun, rel=1e-9)


@pytest.mark.parametrize("seed", range(40))
def test_the_ray_leaves_where_linear_programming_says(seed):
    support = random_support(seed)
    hit = NewtonPolyhedron.of(support).hit([Fraction(1)] * len(support[0]))
    check_hit(support, hit)


def test_a_polyhedron_without_its_lowest_point_is_caught():
    support = [(2, 0), (0, 4), (3, 3)]
    with pytest.raises(AssertionError):
        check_hit(support, NewtonPolyhedron.of(support[1:]).hit([Fraction(1)] * 2))


@pytest.mark.parametrize("seed", range(20))
def test_what_a_positive_weight_picks_out_is_a_compact_face_and_every_compact_face_is_picked(seed):
    support = random_support(seed)
    polyhedron = NewtonPolyhedron.of(support)
    faces = {face.points for face in polyhedron.compact_faces}
    rng = np.random.default_rng(seed + 1000)
    for weights in rng.integers(1, 12, size=(150, polyhedron.dimension)):
        values = [int(np.dot(weights, v)) for v in polyhedron.points]
        assert frozenset(i for i, value in enumerate(values) if value == min(values)) in faces
    for face in polyhedron.compact_faces:
        weights = np.sum([polyhedron.facets[k][0] for k in face.facets], axis=0)
        values = [int(np.dot(weights, v)) for v in polyhedron.points]
        assert weights.min() > 0
        assert frozenset(i for i, value in enumerate(values) if value == min(values)) == face.points


@pytest.mark.parametrize(
    ("support", "ratio", "codimension"),
    [
        ([(2, 0), (0, 4)], Fraction(3, 4), 1),
        ([(1, 1)], Fraction(1), 2),
        ([(4, 0), (2, 2), (0, 4)], Fraction(1, 2), 1),
        ([(6, 0), (2, 2), (0, 6)], Fraction(1, 2), 2),
        ([(2, 2, 2)], Fraction(1, 2), 3),
        ([(2, 0, 0), (0, 2, 0), (0, 0, 2)], Fraction(3, 2), 1),
    ],
)
def test_rays_that_can_be_drawn_by_hand(support, ratio, codimension):
    """The pair y^4 + y^2 z^2 + z^4 and y^6 + y^2 z^2 + z^6 differs in m alone (Watanabe 2009, chapter 2)."""
    hit = NewtonPolyhedron.of(support).hit([Fraction(1)] * len(support[0]))
    assert (hit.ratio, hit.codimension) == (ratio, codimension)


@pytest.mark.parametrize(
    ("generators", "value", "multiplicity"),
    [
        (["x**2 - y**3"], Fraction(5, 12), 1),  # cusp: (1/2 + 1/3) / 2 (Varchenko 1976)
        (["x**2 - y**2"], HALF, 2),  # two lines cross
        (["x**2 + y**2"], HALF, 1),  # a point; the complex lines do not count
        (["x**3 + x*y**3"], Fraction(5, 18), 1),  # E7: 1/4 + 1/(2h), h = 18
        (["x**2 + y**2 - z**2"], HALF, 1),  # a real cone is a surface, 1/2 < 3/4
        (["x**2 + y**2 + z**2"], Fraction(3, 4), 1),
        (["x*y + z*t"], HALF, 1),
        (["x*z", "x*t", "y*z", "y*t"], Fraction(1), 2),  # product of two planes' ideals
    ],
)
def test_non_degenerate_ideals(generators, value, multiplicity):
    found = polyhedron_says(generators)
    assert found.is_exact
    assert (found.upper, found.multiplicity) == (value, multiplicity)


def check_naive(generators, value):
    """Return the conclusion from the polyhedron alone, without a check of zeros off the axes."""
    symbols = to_ring(generators, sympy.symbols("x y z"))
    hit = NewtonPolyhedron.of(m for g in symbols for m in g).hit([HALF] * 3)
    assert hit.ratio == value


def test_the_polyhedron_alone_is_wrong_on_degenerate_ideals_and_is_not_believed():
    """(x - y^2)^2 + z^2 is a sum of two squares of coordinates: its square has λ = 1/2, its polyhedron gives 5/8."""
    x, y, z = sympy.symbols("x y z")
    degenerate = (x - y**2) ** 2 + z**2
    with pytest.raises(AssertionError):
        check_naive([degenerate], Fraction(1, 2))
    check_naive([degenerate], Fraction(5, 8))
    found = polyhedron_says(["(x - y**2)**2 + z**2"], "x y z")
    assert not found.is_exact
    assert found.lower <= Fraction(1, 2) <= found.upper


def test_bounds_of_the_polyhedron_hold_where_it_is_not_exact():
    found = polyhedron_says(["x*y + z*t", "x*y**3 + z*t**3"])
    assert not found.is_exact
    assert found.lower <= Fraction(2, 3) <= found.upper  # two tanh units


@pytest.mark.parametrize(
    ("text", "certain"),
    [
        ("x**2 + y**2", True),
        ("x**2 - x*y + y**2", True),
        ("x**4 + y**2*z**2", True),
        ("x*y**2", True),
        ("x**2 - 2*y**2", False),
        ("x**3 + y**3", False),
        ("x**2 - 2*x*y + y**2", False),
        ("x**6 + x**3*y + y**2", True),
    ],
)
def test_real_zeros_off_the_axes(text, certain):
    (p,) = elements([text])
    assert has_no_torus_zero(p) == certain
    if not certain and text != "x**2 - 2*x*y + y**2":
        assert changes_sign_on_torus(p)


@pytest.mark.parametrize(
    ("texts", "certain"),
    [
        (["x - y", "x + y"], True),
        (["x - y", "x**2 + y**2 - 2*z**2"], False),
        (["x*y - z**2", "x + y"], True),  # over the complex numbers y = -x, x = i z is a zero
        (["x + y + z", "x*y + y*z + z*x"], True),  # then x^2 + y^2 + z^2 = 0
    ],
)
def test_common_real_zeros_off_the_axes(texts, certain):
    assert no_common_torus_zero(elements(texts), Budget(20_000)) == certain


def test_sums_of_squares_add_up_where_they_are_found():
    """One Gram matrix of many is tried, so some sums are missed; a returned sum is checked by expansion."""
    x, y, z = symbols = sympy.symbols("x y z")
    monomials = [x, y, z, x * y, y * z**2]
    found = 0
    for seed in range(15):
        rows = np.random.default_rng(seed).integers(-2, 3, size=(2, len(monomials)))
        total = sum(sum(int(c) * m for c, m in zip(row, monomials, strict=True)) ** 2 for row in rows)
        (p,) = to_ring([sympy.expand(total)], symbols)
        terms = squares(p)
        if terms is not None:
            found += 1
            assert all(c > 0 for c, _ in terms)
            assert sum(sympy.QQ(c.numerator, c.denominator) * q**2 for c, q in terms) == p
    assert found > 5


def test_what_is_no_sum_of_squares_has_no_certificate():
    """Motzkin's polynomial is >= 0 and no sum of squares (Motzkin 1967)."""
    (motzkin, negative) = elements(["x**4*y**2 + x**2*y**4 - 3*x**2*y**2*z**2 + z**6", "x**2 - y**2"])
    assert squares(motzkin) is None
    assert squares(negative) is None


@pytest.mark.parametrize("text", ["(x**2 - y**2)*z*(x + z**2)", "(x + y)**2*(x - z)", "(x**2 + y**2)**2*z", "x**2 - y"])
def test_factors_are_those_of_sympy(text):
    (p,) = elements([text])
    found = factors(p)
    wanted = p.factor_list()[1]
    assert sorted((len(f), k) for f, k in found) == sorted((len(f), k) for f, k in wanted)
    assert not any(p.rem(f**k) for f, k in found)


def test_groebner_basis_is_that_of_sympy():
    texts = ["x**2 + y*z", "x*y - z**2", "y**3 - x"]
    generators = elements(texts)
    found = groebner(generators, Budget(100_000))
    wanted = sympy.groebner(
        [g.as_expr() for g in generators], *generators[0].ring.symbols, order="grevlex", domain="QQ"
    )
    assert {g.as_expr() for g in found} == {g.as_expr() for g in wanted.polys}


def test_a_budget_that_runs_out_says_so():
    with pytest.raises(UndecidedError, match="used up"):
        groebner(elements(["x**2 + y*z", "x*y - z**2", "y**3 - x"]), Budget(5))


def test_rank_is_that_of_sympy():
    rng = np.random.default_rng(3)
    for _ in range(30):
        rows = rng.integers(-3, 4, size=(int(rng.integers(1, 5)), 4))
        rows[0] = rows[-1] * 2
        assert rank([tuple(map(int, row)) for row in rows]) == sympy.Matrix(rows.tolist()).rank()


def test_every_orthant_is_looked_at_for_a_change_of_sign():
    for signs in product((1, -1), repeat=2):
        (p,) = elements([f"{signs[0]}*x + {signs[1]}*y - 1"], "x y")
        assert changes_sign_on_torus(p)
