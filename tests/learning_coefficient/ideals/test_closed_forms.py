"""Closed forms compared with published values and an independent count of dimensions; recognition of such ideals."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest
import sympy

from sandbox.learning_coefficient.ideals.closed_forms import deep_linear, recognise, reduced_rank, regular, tanh
from sandbox.tools.errors import InputError

HALF = Fraction(1, 2)


def pair(found):
    return found.value, found.multiplicity


# Aoyagi and Watanabe 2005, main theorem, one row or more for each of its cases: inputs, hidden, outputs, rank.
REDUCED_RANK = [
    ((1, 1, 1, 0), HALF, 2),
    ((1, 2, 1, 0), HALF, 1),
    ((2, 1, 2, 0), Fraction(1), 2),
    ((2, 2, 2, 0), Fraction(3, 2), 1),
    ((2, 2, 2, 1), Fraction(2), 2),
    ((2, 1, 2, 1), Fraction(3, 2), 1),
    ((1, 1, 3, 0), HALF, 1),  # M + H < N + r: H M / 2
    ((3, 1, 1, 0), HALF, 1),  # N + H < M + r: H N / 2
    ((1, 3, 1, 0), HALF, 1),  # M + N < H + r: M N / 2
    ((2, 5, 2, 1), Fraction(2), 1),  # M + N < H + r: M N / 2
]


@pytest.mark.parametrize(("sizes", "value", "multiplicity"), REDUCED_RANK)
def test_reduced_rank_regression(sizes, value, multiplicity):
    assert pair(reduced_rank(*sizes)) == (value, multiplicity)


def least_codimension(widths, rank):
    """Return the codimension of the fibre of the multiplication map (Lehalleur and Rimanyi, 2411.19920).

    A quadratic program; with sorted widths less the rank, d: the least of sum_{j <= i} e_i (e_j + d_j - d_{j-1}) over
    natural e_1 .. e_N with sum d_0, plus rank (d_first + d_last - rank).
    """
    d = sorted(width - rank for width in widths)
    layers = len(d) - 1
    counts = [e for e in product(range(d[0] + 1), repeat=layers) if sum(e) == d[0]]
    free = min(sum(e[i] * (e[j] + d[j + 1] - d[j]) for i in range(layers) for j in range(i + 1)) for e in counts)
    return free + rank * (widths[0] + widths[-1] - rank)


def check_fibre(found, widths, rank):
    """λ = codimension / 2 (Lehalleur and Rimanyi, 2411.19920)."""
    assert found.value == Fraction(least_codimension(widths, rank), 2)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_deep_linear_networks_have_half_the_codimension_of_the_fibre(depth):
    for widths in product(range(1, 5), repeat=depth + 1):
        for rank in range(min(widths) + 1):
            check_fibre(deep_linear(widths, rank), widths, rank)


def test_two_layers_are_reduced_rank_regression():
    """The formulas of 2005 and 2024 have different derivations: all 3-tuples of widths up to 6."""
    for inputs, hidden, outputs in product(range(1, 7), repeat=3):
        for rank in range(min(inputs, hidden, outputs) + 1):
            one = reduced_rank(inputs, hidden, outputs, rank)
            assert pair(one) == pair(deep_linear((inputs, hidden, outputs), rank))


def test_a_formula_with_a_slip_is_caught():
    """Without the (l - 1) / 4l term the deep formula misses the fibre's codimension."""
    found = deep_linear((2, 2, 2), 0)
    slipped = type(found)(found.value + Fraction(1, 4), found.multiplicity, found.method, found.explanation)
    with pytest.raises(AssertionError):
        check_fibre(slipped, (2, 2, 2), 0)


@pytest.mark.parametrize(
    ("widths", "rank", "value", "multiplicity"),
    [
        ((1, 1), 0, HALF, 1),
        ((1,) * 5, 0, HALF, 4),  # w1 w2 w3 w4
        ((2, 2, 2, 2, 2), 0, Fraction(3, 2), 5),
        ((3, 3), 0, Fraction(9, 2), 1),
        ((3, 3, 3, 3, 3), 0, Fraction(3), 4),  # codimension d (d + 1) / 2 for depth > d
    ],
)
def test_deep_linear_networks(widths, rank, value, multiplicity):
    assert pair(deep_linear(widths, rank)) == (value, multiplicity)


def test_the_order_of_widths_does_not_matter_for_truth_zero():
    assert pair(deep_linear((2, 4, 3, 1))) == pair(deep_linear((1, 3, 4, 2))) == pair(deep_linear((4, 2, 1, 3)))


@pytest.mark.parametrize(
    ("hidden", "value", "multiplicity"),
    [(1, HALF, 2), (2, Fraction(2, 3), 1), (3, Fraction(5, 6), 1), (4, Fraction(1), 2), (5, Fraction(11, 10), 1)],
)
def test_tanh_units(hidden, value, multiplicity):
    """Aoyagi and Watanabe 2006."""
    assert pair(tanh(hidden)) == (value, multiplicity)


def test_regular_models():
    assert pair(regular(5)) == (Fraction(5, 2), 1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: reduced_rank(2, 1, 2, 2), "rank is 2"),
        (lambda: reduced_rank(0, 1, 2), "inputs is 0"),
        (lambda: deep_linear((3,)), "at least 2"),
        (lambda: deep_linear((3, 2), 3), "rank is 3"),
        (lambda: tanh(0), "hidden is 0"),
        (lambda: regular(0), "size is 0"),
    ],
)
def test_impossible_models_are_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()


def matrices(*widths):
    """Return matrices of distinct symbols with widths[0] x widths[1], widths[1] x widths[2], ..., and the symbols."""
    made, symbols = [], []
    for layer, (rows, columns) in enumerate(pairwise(widths)):
        names = sympy.symbols(f"w{layer}_:{rows * columns}")
        made.append(sympy.Matrix(rows, columns, names))
        symbols += names
    return made, symbols


def multiplied(made):
    total = made[0]
    for matrix in made[1:]:
        total = total * matrix
    return total


@pytest.mark.parametrize("widths", [(2, 2, 2), (2, 1, 2), (3, 2, 2), (1, 3, 1), (2, 3, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_two_matrices_are_recognised_in_any_order(widths, seed):
    made, symbols = matrices(*widths)
    rng = np.random.default_rng(seed)
    entries = [
        int(s) * e for s, e in zip(rng.choice([-1, 1], size=widths[0] * widths[2]), multiplied(made), strict=True)
    ]
    rng.shuffle(entries)
    rng.shuffle(symbols)
    found = recognise(entries, symbols)
    assert found is not None
    assert found.at_origin
    assert pair(found.coefficient) == pair(reduced_rank(widths[2], widths[1], widths[0]))


@pytest.mark.parametrize("widths", [(2, 2, 2, 2), (1, 2, 3, 1), (2, 1, 2, 1)])
def test_chains_are_recognised(widths):
    made, symbols = matrices(*widths)
    found = recognise(list(multiplied(made)), symbols)
    assert found is not None
    assert pair(found.coefficient) == pair(deep_linear(widths))
    backward = [s for matrix in reversed(made) for s in matrix]
    assert pair(recognise(list(multiplied(made)), backward).coefficient) == pair(deep_linear(widths))


@pytest.mark.parametrize(("constant", "rank"), [([[1, 0], [0, 0]], 1), ([[1, 2], [2, 4]], 1), ([[0, 1], [1, 0]], 2)])
def test_a_constant_matrix_gives_the_least_value_over_w0_and_not_the_value_at_the_origin(constant, rank):
    for widths in ((2, 2, 2), (2, 2, 2, 2)):
        made, symbols = matrices(*widths)
        found = recognise(list(multiplied(made) - sympy.Matrix(constant)), symbols)
        assert found is not None
        assert (found.rank, found.at_origin) == (rank, False)
        assert pair(found.coefficient) == pair(deep_linear(widths, rank))


def test_what_is_no_product_of_matrices_is_not_recognised():
    a, b, c, d = symbols = sympy.symbols("a b c d")
    for generators in (
        [a * b + c * d, a * d],
        [a * b + 2 * c * d],
        [a * b + a * c],
        [a * b - c * d],
        [a**2],
        [a * b, c],
        [a * b, c * d],
        [a * b, b * c, c * a],
        [a + b],
        [a * b, a * b],
    ):
        assert recognise(generators, symbols) is None
