"""λ and m where a model vanishes on coordinate planes: mixtures, units, irrational coefficients, points on walls."""

from fractions import Fraction

import pytest
import sympy

from sandbox.expressions.parsing import symbol
from sandbox.learning_coefficient.axes import by_axes
from sandbox.learning_coefficient.ideal_of_loss import squares_of
from sandbox.learning_coefficient.of_strata import at_rational, of_stratum
from sandbox.model.prior import Distribution, Prior
from sandbox.model.regression import Contrast, Regression
from sandbox.model.regression import potential as potential_of
from sandbox.model.strata import ZeroSet

NAMES = ("a", "b")
NORMAL = {"x": Distribution.parse("normal(0, 1)")}
MIXTURE = "-log(1 - a + a*exp(b*x - b**2/2))"
ORIGIN = (Fraction(0), Fraction(0))


def regression(model, truth="0"):
    return Regression(NAMES, (model,), (truth,), NORMAL).population()


def at_crossing(loss, **priors):
    prior = Prior.parse({name: priors.get(name, "uniform(-2, 2)") for name in NAMES})
    found = of_stratum(loss, prior, ZeroSet.parse(NAMES, {"o": ["a", "b"]}), 0)
    return found and (found.value, found.multiplicity)


@pytest.mark.parametrize(
    ("model", "value", "multiplicity"),
    [
        ("a*erf(b*x)", "1/2", 2),
        ("a*(erf(b*x) + tanh(b*x))", "1/2", 2),
        ("sqrt(2)*a*b**2*x", "1/4", 1),
        ("pi*a*b*x + a**3*b*x**2", "1/2", 2),
        ("a*x + sqrt(2)*b**2*x**2", "3/4", 1),
        ("e*(a**2 - 2*b**2)*x", "1/2", 2),
        ("(exp(a*b) - 1)*x", "1/2", 2),
        ("a**2*sin(b*x)*exp(a + b*x)", "1/4", 1),
    ],
)
def test_irrational_coefficients_and_units_change_nothing(model, value, multiplicity):
    assert at_crossing(regression(model)) == (Fraction(value), multiplicity)


@pytest.mark.parametrize("a", ["uniform(0, 1)", "uniform(-0.000001, 1)", "uniform(0, 0.5)"])
@pytest.mark.parametrize(("power", "value", "multiplicity"), [(1, "1/2", 2), (2, "1/4", 1)])
def test_a_mixture_crosses_at_the_edge_of_its_weight_too(a, power, value, multiplicity):
    loss = Contrast(NAMES, MIXTURE.replace("b", f"b**{power}") if power > 1 else MIXTURE, NORMAL).population()
    assert at_crossing(loss, a=a) == (Fraction(value), multiplicity)


@pytest.mark.parametrize("contrast", [MIXTURE.replace("b**2/2", "b**2/3"), "a*b*x + a**2*b**2", "a*b*x**2"])
def test_a_contrast_that_is_no_log_ratio_gets_no_value(contrast):
    """K then has another leading term than E h^2 / 2."""
    assert by_axes(Contrast(NAMES, contrast, NORMAL).population(), ORIGIN) is None


def test_a_misfit_that_vanishes_elsewhere_too_is_left_to_other_theorems():
    assert by_axes(regression("a*x + b*x**2"), ORIGIN) is None
    assert by_axes(regression("(a - b)*x"), ORIGIN) is None
    assert by_axes(regression("a*(b + x*b**2 - b*x**2*a)*(a + b)*x"), ORIGIN) is None
    assert by_axes(regression("a*relu(b*x)"), ORIGIN) is None


def test_generators_with_one_irrational_factor_become_rational():
    for generator in squares_of(regression("a*erf(b*x) + pi*a**3*x**2")).generators:
        assert all(c.is_Rational for c in sympy.Poly(generator, *map(symbol, NAMES)).coeffs())


@pytest.mark.parametrize("prior", ["uniform(0, 2)", "uniform(-2, 0)", "uniform(0, 1e-3)", "uniform(0, 50)"])
@pytest.mark.parametrize("zero", ["a", "sin(a) + a**3", "exp(a) - 1"])
def test_a_stratum_on_the_edge_of_a_prior_has_points(prior, zero):
    window = Prior.parse({"a": prior, "b": "normal(0, 1)"})
    points = ZeroSet.parse(NAMES, {"wall": [zero]}).sample(window, 0, 20)
    assert len(points)
    assert (points[:, 0] == 0).all() or abs(points[:, 0]).max() < 1e-6 * window.scale[0]
    assert len(ZeroSet.parse(NAMES, {"beyond": ["a - 3000000"]}).sample(window, 0, 20)) == 0


@pytest.mark.parametrize(
    ("potential", "a", "b", "value"),
    [
        # At a corner {a >= 0, b <= 0} the line a = b leaves one point of W0: λ is 1, and 1/2 without the walls.
        ("(a - b)**2", "uniform(0, 1)", "uniform(-1, 0)", None),
        ("(a - b)**2", "uniform(-1, 1)", "uniform(-1, 1)", (Fraction(1, 2), 1)),
        ("(a - b**2)**2", "uniform(-1, 0)", "uniform(-1, 1)", None),
        # Coordinate planes are cut by walls into equal parts.
        ("a**2*b**2", "uniform(0, 1)", "uniform(-1, 0)", (Fraction(1, 2), 2)),
        ("a**2*b**4*(1 + a)", "uniform(0, 1)", "uniform(-1, 1)", (Fraction(1, 4), 1)),
        ("a**2", "uniform(0, 2)", "normal(0, 1)", (Fraction(1, 2), 1)),
    ],
)
def test_walls_through_a_point_count(potential, a, b, value):
    loss = potential_of(NAMES, potential)
    found = at_rational(loss, ORIGIN, Prior.parse({"a": a, "b": b}))
    assert (found and (found.value, found.multiplicity)) == value
