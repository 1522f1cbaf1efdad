"""Exact (λ, m) compared with the tables of the literature, and no claim if no theorem applies."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy import special, stats
from support.checks import prior_of

from sandbox.expressions.parsing import parse
from sandbox.learning_coefficient.normal_crossing import by_normal_crossing
from sandbox.learning_coefficient.of_strata import of_stratum
from sandbox.model.prior import Distribution
from sandbox.model.regression import Regression, potential
from sandbox.model.strata import Stratum, ZeroSet

HALF = Fraction(1, 2)


def names(size):
    return tuple(f"w{j + 1}" for j in range(size))


def population(size, model, truth="0", **inputs):
    models, truths = (model, truth) if isinstance(model, tuple) else ((model,), (truth,))
    texts = inputs or {"x": "normal(0, 1)"}
    return Regression(names(size), models, truths, {k: Distribution.parse(v) for k, v in texts.items()}).population()


def found(loss, point, codimension=None):
    answer = by_normal_crossing(loss, np.array(point, dtype=float), codimension)
    return answer and (answer.value, answer.multiplicity)


def check_table(loss, point, codimension, value, multiplicity):
    assert found(loss, point, codimension) == (value, multiplicity)


# Watanabe 2009, section 2.4: K = prod w_j^(2 k_j) has λ = min 1 / (2 k_j), m = the number of minima.

CROSSINGS = [
    (1, "w1", (0,), HALF, 1),
    (1, "w1**3", (0,), Fraction(1, 6), 1),
    (2, "w1", (0, 0.3), HALF, 1),
    (2, "w1 * w2", (0, 0), HALF, 2),
    (2, "w1 * w2", (0, 0.4), HALF, 1),
    (2, "w1 * w2", (-0.7, 0), HALF, 1),
    (2, "w1 * w2**2", (0, 0), Fraction(1, 4), 1),
    (2, "w1 * w2**2", (0.5, 0), Fraction(1, 4), 1),
    (2, "w1 * w2**2", (0, 0.5), HALF, 1),
    (2, "w1**2 * w2**2", (0, 0), Fraction(1, 4), 2),
    (2, "w1 * w2**3", (0, 0), Fraction(1, 6), 1),
    (3, "w1 * w2 * w3", (0, 0, 0), HALF, 3),
    (3, "w1 * w2 * w3", (0, 0, 0.2), HALF, 2),
    (3, "w1 * w2**2 * w3**2", (0, 0, 0), Fraction(1, 4), 2),
    (4, "w1 * w2 * w3 * w4", (0, 0, 0, 0), HALF, 4),
    # Other coordinates: a vanishing factor need not be a parameter.
    (2, "w1**2 - w2**2", (0, 0), HALF, 2),
    (2, "w1**2 - w2**2", (0.3, -0.3), HALF, 1),
    (2, "(w2 - w1**2)**2", (0.5, 0.25), Fraction(1, 4), 1),
    (2, "w2 - w1**2", (0, 0), HALF, 1),
    (2, "(w2 - w1**2) * w1", (0, 0), HALF, 2),
    (2, "(w2 - w1**2) * (1 + w1**2)", (0.5, 0.25), HALF, 1),
    (2, "(w1 + 0.5) * (w1 - 0.5)**2", (0.5, 0.1), Fraction(1, 4), 1),
    (2, "(w1 + 0.5) * (w1 - 0.5)**2", (-0.5, 0.1), HALF, 1),
    (2, "w1 * w2 - 1/4", (0.5, 0.5), HALF, 1),
]


@pytest.mark.parametrize(("size", "product", "point", "value", "multiplicity"), CROSSINGS)
def test_normal_crossings_as_a_model_and_as_a_potential(size, product, point, value, multiplicity):
    check_table(population(size, f"({product}) * x"), point, None, value, multiplicity)
    check_table(potential(names(size), f"({product})**2 / 2"), point, None, value, multiplicity)
    with pytest.raises(AssertionError):
        # The trap: the exponent of f instead of that of K = f^2.
        check_table(potential(names(size), f"({product})**4"), point, None, value, multiplicity)


@pytest.mark.parametrize(("powers", "value", "multiplicity"), [((2, 2), HALF, 2), ((2, 4), Fraction(1, 4), 1)])
def test_the_table_is_the_law_of_volumes(powers, value, multiplicity):
    """-log K under U[0, 1]^2 is a sum of exponentials with rates 1 / k_j: V(eps) = P(K < eps) decays with these λ, m.

    The exact law by KS (p > 1e-4) of 20000 draws, then its own slope: V ~ eps^λ (log 1/eps)^(m - 1).
    """
    k = np.array(powers, dtype=float)
    w = np.random.default_rng(4).uniform(size=(20_000, 2))
    t = -np.log(w) @ k

    def tail(t):
        if powers[0] == powers[1]:
            return special.gammaincc(2, t / k[0])
        a, b = 1 / k
        return (b * np.exp(-a * t) - a * np.exp(-b * t)) / (b - a)

    assert stats.kstest(t, lambda s: 1 - tail(s)).pvalue > 1e-4
    far = np.array([200.0, 400.0])
    slope = np.diff(np.log(tail(far) / far ** (multiplicity - 1)))[0] / 200.0
    assert slope == pytest.approx(-float(value), rel=1e-2)
    check_table(potential(("w1", "w2"), f"w1**{powers[0]} * w2**{powers[1]}"), (0, 0), None, value, multiplicity)


# Hessian of full rank across W0.

MORSE_BOTT = [
    ("regular", potential(names(2), "w1**2 + w1*w2 + w2**2"), (0, 0), 2, Fraction(1), 1),
    ("regular model", population(3, "w1 + w2 * x + w3 * x**2"), (0, 0, 0), 3, Fraction(3, 2), 1),
    ("regular tanh", population(2, "w1 * tanh(w2 * x)", "tanh(x)"), (1, 1), 2, Fraction(1), 1),
    ("flat direction", population(3, "w1 + (w2 + w3) * x"), (0, 0.3, -0.3), 2, Fraction(1), 1),
    ("circle", potential(names(2), "(w1**2 + w2**2 - 1)**2"), (0.6, 0.8), 1, HALF, 1),
    ("circle of a model", population(2, "sqrt(w1**2 + w2**2) * x", "x"), (0.6, 0.8), 1, HALF, 1),
    ("sphere", potential(names(3), "(w1**2 + w2**2 + w3**2 - 1)**2"), (0.6, 0, 0.8), 1, HALF, 1),
    ("circle in space", potential(names(3), "(w1**2 + w2**2 - 1)**2 + w3**2"), (0.6, 0.8, 0), 2, Fraction(1), 1),
    ("tanh arm", population(2, "w1 * tanh(w2 * x)"), (0.5, 0), 1, HALF, 1),
    ("two outputs", population(2, ("w1 * x", "w2 * x"), ("0", "0")), (0, 0), 2, Fraction(1), 1),
    # Aoyagi and Watanabe 2005: reduced rank (1, 1, 2; rank 1) is regular across its hyperbola, λ = 2/2.
    ("reduced rank", population(3, ("w1 * w3 * x", "w2 * w3 * x"), ("x", "x")), (1, 1, 1), 2, Fraction(1), 1),
]


@pytest.mark.parametrize(("loss", "point", "codimension", "value", "multiplicity"), [row[1:] for row in MORSE_BOTT])
def test_nondegenerate_zero_sets(loss, point, codimension, value, multiplicity):
    check_table(loss, point, codimension, value, multiplicity)
    with pytest.raises(AssertionError):
        check_table(loss, point, codimension, Fraction(codimension), multiplicity)


# If neither theorem applies, the only allowed claim is the true value, listed here with W0's codimension (None:
# W0 is not a manifold there).

HARD = [
    ("cusp", potential(names(2), "(w1**2 - w2**3)**2"), (0, 0), None, Fraction(5, 12), 1),
    ("D4", potential(names(2), "(w1**2 * w2 - w2**3)**2"), (0, 0), None, Fraction(1, 3), 1),
    ("A3", potential(names(2), "(w1**2 - w2**4)**2"), (0, 0), None, Fraction(3, 8), 1),
    ("touching", potential(names(2), "(w2 * (w2 - w1**2))**2"), (0, 0), None, Fraction(3, 8), 1),
    ("E6", potential(names(2), "(w1**3 + w2**4)**2"), (0, 0), None, Fraction(7, 24), 1),
    ("triple", potential(names(2), "(w1 * w2 * (w1 - w2))**2"), (0, 0), None, Fraction(1, 3), 1),
    ("isolated", potential(names(2), "w1**2 + w2**4"), (0, 0), 2, Fraction(3, 4), 1),
    ("fourth power of r", potential(names(2), "(w1**2 + w2**2)**2"), (0, 0), 2, HALF, 1),
    ("tanh node", population(2, "w1 * tanh(w2 * x)"), (0, 0), None, HALF, 2),
    ("two tanh nodes", population(4, "w1*tanh(w2*x) + w3*tanh(w4*x)"), (0, 0, 0, 0), None, Fraction(2, 3), 1),
    ("matrix factors", population(3, ("w1 * w3 * x", "w2 * w3 * x"), ("0", "0")), (0, 0, 0), None, HALF, 1),
]


@pytest.mark.parametrize(("loss", "point", "codimension", "value", "multiplicity"), [row[1:] for row in HARD])
def test_never_wrong(loss, point, codimension, value, multiplicity):
    assert found(loss, point, codimension) in (None, (value, multiplicity))


def test_the_cusp_is_not_taken_for_its_smooth_branch():
    """Its factor has no differential at the origin; away from it the branch is smooth and λ = 1/2."""
    cusp = potential(names(2), "(w1**2 - w2**3)**2")
    assert found(cusp, (0, 0), None) is None
    assert found(cusp, (1, 1), 1) == (HALF, 1)


def test_points_off_the_zero_set_have_no_coefficient():
    assert found(potential(names(2), "(w1 * w2)**2"), (0.5, 0.5)) is None


def test_a_loss_that_is_zero_everywhere_has_no_coefficient():
    """f = w1 x on the input 0: the generator w1 does not bound K."""
    assert found(population(1, "w1 * x", x=0), (0.0,)) is None


# Strata.

SQUARE = prior_of(w1="uniform(-1, 1)", w2="uniform(-1, 1)")


def strata(*zeros):
    made = tuple(Stratum(f"s{k}", tuple(parse(text, names(2)) for text in texts)) for k, texts in enumerate(zeros))
    return ZeroSet(names(2), made, 0.05)


def of_strata(loss, zero_set):
    answers = [of_stratum(loss, SQUARE, zero_set, k) for k in range(len(zero_set.strata))]
    return [a and (a.value, a.multiplicity) for a in answers]


@pytest.mark.parametrize("loss", [population(2, "w1 * w2**2 * x"), potential(names(2), "w1**2 * w2**4")])
def test_uneven_crossing_stratum_by_stratum(loss):
    assert of_strata(loss, strata(("w1", "w2"), ("w2",), ("w1",))) == [
        (Fraction(1, 4), 1),
        (Fraction(1, 4), 1),
        (HALF, 1),
    ]


def test_even_crossing_line_circle_and_parabola():
    crossing = strata(("w1", "w2"), ("w2",), ("w1",))
    assert of_strata(population(2, "w1 * w2 * x"), crossing) == [(HALF, 2), (HALF, 1), (HALF, 1)]
    assert of_strata(population(2, "w1 * x"), strata(("w1",))) == [(HALF, 1)]
    circle = strata(("w1**2 + w2**2 - 1",))
    assert of_strata(population(2, "(w1**2 + w2**2) * x", "x"), circle) == [(HALF, 1)]
    assert of_strata(population(2, "tanh((w2 - w1**2) * x)"), strata(("w2 - w1**2",))) == [(HALF, 1)]
    # tanh node: the arms are Morse-Bott, the crossing (1/2, 2) is beyond both theorems.
    assert of_strata(population(2, "w1 * tanh(w2 * x)"), crossing) == [(HALF, 2), (HALF, 1), (HALF, 1)]


def test_a_stratum_whose_equations_are_not_independent_is_the_point_that_it_is():
    """{w1 = 0, w2^2 = 0} is the origin; its one independent differential would give K = w1^2 + w2^4 a line's 1/2."""
    loss = potential(names(2), "w1**2 + w2**4")
    assert of_strata(loss, strata(("w1", "w2**2"))) == [(Fraction(3, 4), 1)]


def test_a_stratum_that_is_not_the_same_everywhere_is_undecided():
    """On w1 w2 = 0 of K = w1^2 w2^4 the arms differ."""
    assert of_strata(potential(names(2), "w1**2 * w2**4"), strata(("w1 * w2",))) == [None]


def test_simpler_sorts_first():
    """Lower λ is simpler; of equal λ the higher m."""
    table = [found_rank("w1**2*w2**2", (0, 0)), found_rank("w1**2*w2**2", (0, 1)), found_rank("w1**2*w2**4", (0, 0))]
    assert sorted(range(3), key=lambda k: table[k]) == [2, 0, 1]


def found_rank(text, point):
    answer = by_normal_crossing(potential(names(2), text), np.array(point, dtype=float), None)
    assert answer is not None
    return answer.rank
