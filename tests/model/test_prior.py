"""Distributions compared with scipy, quadrature and random numbers; the prior over all parameters; refusals."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from support.checks import check_close, check_law, check_mean, prior_of

from sandbox.expressions.evaluation import numpy_function
from sandbox.model.prior import WINDOW_TAIL, Distribution, Prior
from sandbox.tools.errors import InputError

LAW = settings(max_examples=60, deadline=None, derandomize=True, database=None)

PLAIN = {
    "uniform(-1, 3)": stats.uniform(-1, 4),
    "normal(0.5, 2)": stats.norm(0.5, 2),
    "laplace(-1, 0.5)": stats.laplace(-1, 0.5),
}
BOXES = [(-0.5, 0.7), (-math.inf, 0.2), (0.1, math.inf), (-math.inf, math.inf)]
CUT = [(text, box) for text in PLAIN for box in BOXES]


def cut(text, box):
    return Distribution.parse(text).truncated(*box)


def cut_cdf(text, box):
    """Return the truncated law from scipy's untruncated one."""
    law = PLAIN[text]
    low, high = law.cdf(box[0]), law.cdf(box[1])
    return lambda x: np.clip((law.cdf(x) - low) / (high - low), 0, 1)


def check_normalised(log_density, low, high, breaks):
    """The density integrates to 1."""
    pieces = sorted({low, high, *(b for b in breaks if low < b < high)})
    total = sum(
        integrate.quad(lambda x: math.exp(log_density(np.asarray(x))), a, b, epsabs=1e-12, limit=200)[0]
        for a, b in pairwise(pieces)
    )
    check_close(np.asarray(total), 1.0, 1.0, 1e-9)


@pytest.mark.parametrize(("text", "box"), CUT)
def test_densities_are_normalised_also_when_cut(text, box):
    d = cut(text, box)
    low, high = d.window
    check_normalised(d.log_density, low, high, d.kinks)
    assert d.log_density(np.array([low - 100, high + 100])).max() < -100
    if math.isfinite(box[0]):
        with pytest.raises(AssertionError):
            check_normalised(PLAIN[text].logpdf, low, high, d.kinks)


def check_inverse(quantile, cdf):
    u = np.concatenate([[1e-9, 1 - 1e-9], np.linspace(0.001, 0.999, 201)])
    check_close(cdf(quantile(u)), u, 1.0, 1e-12)


@pytest.mark.parametrize(("text", "box"), CUT)
def test_quantile_inverts_the_distribution_function(text, box):
    d = cut(text, box)
    check_inverse(d.quantile, cut_cdf(text, box))
    inside = d.quantile(np.linspace(1e-12, 1 - 1e-12, 1001))
    assert inside.min() >= d.low
    assert inside.max() <= d.high
    assert (np.diff(inside) > 0).all()
    if box != BOXES[-1]:
        with pytest.raises(AssertionError):
            check_inverse(PLAIN[text].ppf, cut_cdf(text, box))


def test_a_cut_far_above_the_centre_keeps_its_precision():
    """Beyond 8 sigma the mass is 1e-16 of a distribution function near 1; the mirror image is the reference."""
    above = Distribution.parse("normal(0, 1)").truncated(8.5, 9.5)
    below = Distribution.parse("normal(0, 1)").truncated(-9.5, -8.5)
    u = np.linspace(0.01, 0.99, 50)
    check_close(above.quantile(u), -below.quantile(1 - u), 1.0, 1e-12)
    check_close(above.log_density(above.quantile(u)), below.log_density(-above.quantile(u)), 1.0, 1e-12)
    check_normalised(above.log_density, 8.5, 9.5, ())


@pytest.mark.parametrize("text", PLAIN)
def test_window_leaves_out_what_it_says(text):
    d, law = Distribution.parse(text), PLAIN[text]
    low, high = d.window
    outside = (law.cdf(low), law.sf(high))
    if text.startswith("uniform"):
        assert outside == (0, 0)
    else:
        check_close(np.array(outside), WINDOW_TAIL, WINDOW_TAIL, 1e-6)


# Gauss nodes.


def double_factorial(k):
    return math.prod(range(k, 0, -2))


def moments(text, degree):
    """E x^k for k <= degree, by hand: binomial sums of the central moments."""
    if text.startswith("choice"):
        return [np.mean(np.array([-1.0, 0.5, 2.0]) ** k) for k in range(degree + 1)]
    centre, scale, central = {
        "uniform(-1, 3)": (1, 2, lambda k: 1 / (k + 1)),
        "normal(0.5, 2)": (0.5, 2, lambda k: double_factorial(k - 1)),
        "laplace(-1, 0.5)": (-1, 0.5, math.factorial),
    }[text]
    return [
        sum(math.comb(k, j) * centre ** (k - j) * scale**j * central(j) for j in range(0, k + 1, 2))
        for k in range(degree + 1)
    ]


def check_nodes(x, weights, text, degree):
    found = np.array([weights @ x**k for k in range(degree + 1)])
    check_close(
        found, np.array(moments(text, degree)), np.array([weights @ np.abs(x) ** k for k in range(degree + 1)]), 1e-11
    )


@pytest.mark.parametrize("text", [*PLAIN, "choice(-1, 0.5, 2)"])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_nodes_are_exact_for_polynomials(text, count):
    """Exact to degree 2 count - 1; a choice to any degree."""
    d = Distribution.parse(text)
    x, weights = d.nodes(count)
    assert math.isclose(weights.sum(), 1, rel_tol=1e-12)
    degree = 12 if text.startswith("choice") else 2 * count - 1
    check_nodes(x, weights, text, degree)
    with pytest.raises(AssertionError):
        check_nodes(x + 1e-4, weights, text, degree)


# Random numbers in kernels.


@pytest.mark.parametrize("text", [*PLAIN, "choice(-1, 0.5, 2)", 1.5])
def test_standard_draws_become_draws_of_the_family(text):
    """KS at p > 1e-4 and the mean at |z| < 4 of 20000 values; those of a choice are equally likely (z < 4)."""
    d = Distribution.parse(text)
    rng = np.random.default_rng(12)
    draw = rng.standard_normal(20_000) if d.standard == "normal" else rng.uniform(size=20_000)
    symbol = sympy.Symbol("d", real=True)
    numbers = [sympy.Float(a) for a in d.arguments]
    values = numpy_function([symbol], [sympy.sympify(d.from_standard(symbol, numbers))])(draw)[0]
    if d.family != "choice":
        check_law(values, PLAIN[text].cdf)
        with pytest.raises(AssertionError):
            check_law(values + 0.1 * d.scale, PLAIN[text].cdf)
        return
    assert set(np.unique(values)) == set(d.arguments)
    if len(d.arguments) > 1:
        for value in d.arguments:
            check_mean(values == value, 1 / len(d.arguments))


@pytest.mark.parametrize("text", PLAIN)
def test_potential_gradient_is_minus_the_slope_of_the_log_density(text):
    d = Distribution.parse(text)
    x = sympy.Symbol("x", real=True)
    slope = d.potential_gradient(x, [sympy.Float(a) for a in d.arguments])
    at = np.linspace(-0.93, 2.9, 40)
    found = numpy_function([x], [slope])(at)[0]
    exact = -(d.log_density(at + 1e-5) - d.log_density(at - 1e-5)) / 2e-5
    check_close(found, exact, 1.0, 1e-8)
    if not text.startswith("uniform"):
        with pytest.raises(AssertionError):
            check_close(-found, exact, 1.0, 1e-8)


# The prior over all parameters.


def test_prior_multiplies_its_densities_and_draws_each_alone():
    prior = prior_of(a="normal(0, 2)", b="uniform(-1, 3)")
    points = np.array([[0.3, 0.5], [1.0, 4.0]])
    expected = stats.norm(0, 2).logpdf(points[:, 0]) + stats.uniform(-1, 4).logpdf(points[:, 1])
    assert prior.log_density(points)[0] == pytest.approx(expected[0], rel=1e-14)
    assert prior.log_density(points)[1] == -math.inf
    u = np.random.default_rng(1).uniform(size=(50, 2))
    draws = prior.quantile(u)
    check_close(draws[:, 0], stats.norm(0, 2).ppf(u[:, 0]), 1.0, 1e-12)
    check_close(draws[:, 1], -1 + 4 * u[:, 1], 1.0, 1e-12)
    assert prior.bounds.tolist() == [[-math.inf, math.inf], [-1, 3]]
    assert prior.centre.tolist() == [0, 1]
    assert prior.scale.tolist() == [2, 2]
    assert prior.window()[1].tolist() == [-1, 3]


def test_kinks_are_those_of_laplace_inside_its_box():
    whole = Distribution.parse("laplace(0.5, 1)")
    assert (whole.kinks, whole.truncated(0, 1).kinks, whole.truncated(0.6, 1).kinks) == ((0.5,), (0.5,), ())
    names = ("a", "b")
    assert Prior(names, (whole, Distribution.parse("normal(0, 1)"))).kinks == ((0.5,), ())


def test_quantile_of_a_choice_gives_each_value_its_share():
    u = (np.arange(9) + 0.5) / 9
    assert Distribution.parse("choice(3, 1, 2)").quantile(u).tolist() == [3] * 3 + [1] * 3 + [2] * 3
    assert Distribution.parse(4).quantile(np.array([0.0, 1 - 1e-17])).tolist() == [4, 4]


@LAW
@given(st.sampled_from(list(PLAIN)), st.floats(-2, 2), st.floats(0.01, 5), st.floats(1e-6, 1 - 1e-6))
def test_cutting_law(text, low, width, u):
    """For any box with mass the quantile is in it, and the cut density is the plain one up to a constant."""
    low, high = (max(low, -1.0), max(low, -1.0) + width) if text.startswith("uniform") else (low, low + width)
    d = cut(text, (low, high))
    x = d.quantile(np.array([u, 0.5]))
    assert ((x >= low) & (x <= high)).all()
    plain = PLAIN[text].logpdf(x)
    check_close(np.diff(d.log_density(x)), np.diff(plain), 1.0, 1e-9)


# From text to text, and refusals.


@pytest.mark.parametrize("text", ["uniform(-1, 3)", "normal(0.5, 2)", "laplace(-1, 0.5)", "choice(-1, 0.5, 2)"])
def test_text_and_distribution_are_each_other(text):
    assert str(Distribution.parse(text)) == text
    assert Distribution.parse(f"  {text} ") == Distribution.parse(text)


def test_numbers_are_fixed_values():
    assert Distribution.parse(2) == Distribution.parse("choice(2)")
    assert str(Distribution.parse(2.5)) == "2.5"
    assert Distribution.parse("normal(-1e-3, +2)").arguments == (-1e-3, 2.0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("unifrom(0, 1)", "did you mean 'uniform'"),
        ("gaussian(0, 1)", "allowed: uniform(low, high)"),
        ("Normal(0, 1)", "did you mean 'normal'"),
        ("normal", "is not a distribution"),
        ("", "is not a distribution"),
        ("normal(0, 1", "is not a distribution"),
        ("normal(mean=0, sd=1)", "is not a distribution"),
        ("np.random.normal(0, 1)", "is not a distribution"),
        ("normal(0, 1) + 1", "is not a distribution"),
        ("normal(0)", "has 1 arguments; allowed: normal(mean, standard_deviation)"),
        ("uniform(0, 1, 2)", "has 3 arguments"),
        ("uniform(1, 1)", "low must be below high"),
        ("uniform(2, 1)", "low must be below high"),
        ("normal(0, 0)", "must be positive"),
        ("laplace(0, -1)", "must be positive"),
        ("normal(0, x)", "must be numbers; found 'x'"),
        ("normal(0, 1 + 1)", "must be numbers; found '1 + 1'"),
        ("normal(0, True)", "must be numbers"),
        ("normal(0, 1j)", "must be numbers"),
        ("normal(*[0, 1])", "must be numbers"),
        ("normal(0, 1e999)", "must be finite"),
        ("choice()", "has no values"),
        (math.inf, "must be finite"),
        (math.nan, "must be finite"),
        (True, "is not a distribution"),
        ("(" * 400, "is not a distribution"),
        ("normal(0, " + "-" * 600 + "1)", "is too long"),
        ("normal(0, 1)\0", "is not a distribution"),
    ],
)
def test_what_is_refused_and_why(text, says):
    with pytest.raises(InputError) as caught:
        Distribution.parse(text)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "box", "says"),
    [
        ("uniform(0, 1)", (2, 3), "holds none of the mass"),
        ("uniform(0, 1)", (1, 1), "holds none of the mass"),
        ("normal(0, 1)", (1, 0), "holds none of the mass"),
        ("normal(0, 1)", (60, 61), "holds none of the mass"),
        ("choice(0, 1)", (0, 1), "is discrete"),
    ],
)
def test_empty_boxes_are_refused(text, box, says):
    with pytest.raises(InputError, match=says):
        Distribution.parse(text).truncated(*box)
