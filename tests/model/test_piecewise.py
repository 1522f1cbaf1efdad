"""Means over intervals between kinks compared with direct sums, exact fractions, quadrature, differences and twins."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from fractions import Fraction

import numpy as np
import pytest
from scipy import integrate, stats
from support import checks as laws
from support import twins
from support.checks import check_close, check_gradient, check_mean
from support.kernel_cases import Case, sgd

from sandbox.dynamics.gradients.full import Full
from sandbox.expressions.parsing import parse, symbol
from sandbox.expressions.pieces import MAX_KINKS, split
from sandbox.model.piecewise import Density, PrefixSums, intervals
from sandbox.model.prior import Distribution
from sandbox.model.regression import Regression

NET = ("a1", "b1", "c1", "a2", "b2", "c2", "d")
NET_TEXT = "a1*relu(b1*x + c1) + a2*relu(b2*x + c2) + d"
BUMP = "relu(x + 1/2) - relu(x - 1/2)"
LAWS = ("uniform(-1, 1)", "normal(0.1, 1)", "laplace(0.1, 0.7)")

# parameters, model, truth
MODELS = {
    "net, zero": (NET, NET_TEXT, "0"),
    "net, one neuron": (NET, NET_TEXT, "relu(x)"),
    "net, bump": (NET, NET_TEXT, BUMP),
    "rescaled": (("a", "b"), "a*relu(b*x)", "relu(x)"),
    "absolute": (("w", "c"), "abs(w*x - c)*relu(c)", "abs(x)"),
    "max and min": (("a", "b", "c"), "max(a*x, b*x + c) + x*min(b, a*x)", "step(x - 1/2)*x + sign(x)/4"),
    "three neurons": (
        (*NET, "a3", "b3", "c3"),
        NET_TEXT + " + a3*relu(b3*x + c3)**2",
        "max(x, 1/4)",
    ),
    "power": (("a", "b"), "a*relu(x - b)*x**2 + b*x**3", "x**2"),
}
BROKEN = "net, bump"
"""The model of the broken specimens."""
every_model = pytest.mark.parametrize("name", MODELS)


def regression(name, law="uniform(-1, 1)", noise=0.5):
    parameters, model, truth = MODELS[name]
    return Regression(parameters, (model,), (truth,), {"x": Distribution.parse(law)}, noise)


def points(loss, count=40, seed=3):
    """Return random points and special ones: zeros, equal numbers, kinks exactly on a sample or its mirror image."""
    rng = np.random.default_rng(seed)
    w = rng.uniform(-1.3, 1.3, (count, len(loss.parameters)))
    w[0] = 0
    w[1] = 1
    w[2, 1::3] = 0
    w[3, 1::3], w[3, 2::3] = 0, -0.3
    for k, (slope, x) in enumerate(zip((1, -1, 0.5, -2), rng.choice(loss.data[:, 0], 4), strict=True)):
        w[4 + k, 1::3], w[4 + k, 2::3] = slope, -slope * x
        w[8 + k] = x
    return w


def raw(loss):
    """Return the same loss as a sum over its samples (or Gauss nodes)."""
    return dataclasses.replace(loss, pieces=None)


# Data sets.


def check_direct(loss, direct, w, tolerance=1e-10):
    for found, expected in (
        (loss.excess(w), direct.excess(w)),
        (loss.gradient(w), direct.gradient(w)),
        (loss.hessian(w), direct.hessian(w)),
    ):
        check_close(found, expected, np.abs(expected).max(), tolerance)


@every_model
def test_means_are_sums_over_samples(name):
    """The sums agree, with kinks on samples, dead neurons and equal kinks."""
    for count in (1, 7, 1000) if name == BROKEN else (64,):
        loss = regression(name).sampled(count, 5)
        assert loss.pieces is not None
        check_direct(loss, raw(loss), points(loss))


def test_a_misplaced_kink_is_caught():
    loss = regression(BROKEN).sampled(64, 5)
    (slope, offset), *others = loss.pieces.kinks
    moved = dataclasses.replace(loss.pieces, kinks=((slope, offset + 0.01), *others))
    with pytest.raises(AssertionError):
        check_direct(dataclasses.replace(loss, pieces=moved), raw(loss), points(loss))


def test_a_flag_of_the_wrong_kink_is_caught():
    loss = regression(BROKEN).sampled(64, 5)
    flags = loss.pieces.flags
    mixed = dataclasses.replace(loss.pieces, flags=(*flags[1:], flags[0]))
    with pytest.raises(AssertionError):
        check_direct(dataclasses.replace(loss, pieces=mixed), raw(loss), points(loss))


def test_data_functions_and_repeated_and_chosen_inputs():
    """sin(x) in the truth, a second input besides the one with kinks, and inputs with three values only."""
    inputs = {"x": Distribution.parse("choice(-1, 0, 0.5)"), "z": Distribution.parse("normal(0, 1)")}
    model = Regression(("a", "b"), ("a*z*relu(x - b)", "a*relu(b*x)"), ("sin(x)*relu(z)", "exp(x)"), inputs, 0.7)
    loss = model.sampled(100, 2)
    assert loss.pieces is not None
    w = np.array([[0.3, 0.5], [1.0, -1.0], [-0.4, 0.0], [0.8, -0.3]])
    check_direct(loss, raw(loss), w)
    chosen = regression("net, bump", "choice(-1, 0, 0.25, 2)").population()
    check_direct(chosen, raw(chosen), points(chosen))


def test_no_points_give_no_values_and_lost_ones_no_number():
    for loss in (regression("rescaled").sampled(9, 1), *(regression("rescaled", law).population() for law in LAWS)):
        assert loss.excess(np.zeros((0, 2))).shape == (0,)
        assert loss.gradient(np.zeros((0, 2))).shape == (0, 2)
        w = np.array([[0.3, 0.4], [np.nan, 1], [1, np.nan], [np.inf, 1], [1, -np.inf]])
        for found in (loss.excess(w), loss.gradient(w), loss.hessian(w)):
            assert np.isfinite(found[0]).all()
            assert not any(np.isfinite(row).all() for row in found[1:])


# Precision.


def exact_excess(w, data, noise):
    """Return K_n of the two-neuron net with the truth `bump`, in fractions."""
    a1, b1, c1, a2, b2, c2, d = (Fraction(float(v)) for v in w)
    total = Fraction(0)
    for x, e in ((Fraction(float(x)), Fraction(float(e))) for x, e in data):
        f = a1 * max(b1 * x + c1, 0) + a2 * max(b2 * x + c2, 0) + d
        m = f - max(x + Fraction(1, 2), 0) + max(x - Fraction(1, 2), 0)
        total += m**2 - 2 * m * e
    return total / len(data) / (2 * Fraction(noise) ** 2)


@pytest.mark.parametrize("residuals", [0.0, 1.0])
def test_excess_near_the_truth_has_the_precision_of_its_parameters(residuals):
    """At a distance of 1e-4 and 1e-6 from W0: only the rounding of a*b - 1 is lost, 1e-16 of the distance."""
    loss = regression("net, bump").sampled(150, 4)
    loss = dataclasses.replace(loss, data=loss.data * [1, residuals])
    for distance in (1e-4, 1e-6):
        w = np.array([1, 1, 0.5, -1, 1, -0.5, 0]) + distance * np.random.default_rng(1).uniform(-1, 1, 7)
        expected = float(exact_excess(w, loss.data, 0.5))
        check_close(loss.excess(w[None]), expected, abs(expected), 1e-14 / distance)
    with pytest.raises(AssertionError):
        check_close(loss.excess(w[None]) + 1e-18 / distance, expected, abs(expected), 1e-14 / distance)


def test_population_near_the_truth_is_positive_and_quadratic():
    """K(w0 + t u) / t^2 tends to u H u / 2 with the Hessian at w0: to 3 t of it, for any small t."""
    rng = np.random.default_rng(2)
    u = rng.uniform(-1, 1, (50, 7))
    w0 = np.array([1, 1, 0.5, -1, 1, -0.5, 0])
    for law in LAWS:
        loss = regression("net, bump", law).population()
        half = np.einsum("ni,ij,nj->n", u, loss.hessian(w0[None])[0], u) / 2
        for t in (1e-3, 1e-5, 1e-7):
            check_close(loss.excess(w0 + t * u) / t**2, half, np.abs(u).max() ** 3 * half.max(), 3 * t + 1e-8)


def check_short_interval(sums, terms):
    """Each single term, from the difference of two sums, is right to rounding."""
    check_close(sums.between(np.arange(len(terms) + 1)), terms.T, np.abs(terms.T), 1e-13)


def test_short_intervals_keep_their_precision_in_large_sums():
    """The last terms are 1e-13 of the sum before them."""
    terms = np.column_stack([np.geomspace(1e6, 1e-6, 5000), np.geomspace(1, 1e-3, 5000) ** 2])
    sums = PrefixSums.of(np.arange(5000.0), list(terms.T), np.ones(5000))
    check_short_interval(sums, terms)
    with pytest.raises(AssertionError):
        check_short_interval(dataclasses.replace(sums, low=np.zeros_like(sums.low)), terms)


# Densities.


def segments(law, breaks):
    """Return nodes and weights of Gauss's rule on each part of the line between kinks of model, truth and density."""
    distribution = Distribution.parse(law)
    low, high = distribution.window
    breaks = [b for b in (*breaks, *distribution.kinks, *np.linspace(low, high, 9)) if low <= b <= high]
    edges = np.unique(breaks)
    x, weight = np.polynomial.legendre.leggauss(40)
    half = np.diff(edges)[:, None] / 2
    nodes = ((edges[:-1] + edges[1:])[:, None] / 2 + half * x).ravel()
    return nodes, (half * weight).ravel() * np.exp(distribution.log_density(nodes))


def net_output(w, x):
    return w[0] * np.maximum(w[1] * x + w[2], 0) + w[3] * np.maximum(w[4] * x + w[5], 0) + w[6]


def bump(x):
    return np.maximum(x + 0.5, 0) - np.maximum(x - 0.5, 0)


def net_breaks(w):
    return [-c / b for b, c in ((w[1], w[2]), (w[4], w[5])) if b != 0] + [-0.5, 0.5]


def check_quadrature(law, w, K):
    """Compare with adaptive quadrature between the kinks."""
    source = Distribution.parse(law)
    low, high = source.window
    breaks = sorted({low, high, *(b for b in (*net_breaks(w), source.centre) if low < b < high)})
    value = sum(
        integrate.quad(
            lambda x: (net_output(w, x) - bump(x)) ** 2 * np.exp(source.log_density(np.float64(x))) / (2 * 0.5**2),
            a,
            b,
            epsabs=1e-13,
            epsrel=1e-12,
        )[0]
        for a, b in itertools.pairwise(breaks)
    )
    check_close(np.asarray(K), value, value, 1e-10)


@pytest.mark.parametrize("law", LAWS)
def test_population_is_the_integral(law):
    loss = regression("net, bump", law).population()
    w = points(loss, 16)
    for point, K in zip(w, loss.excess(w), strict=True):
        check_quadrature(law, point, K)
    with pytest.raises(AssertionError):
        check_quadrature(law, w[-1], raw(loss).excess(w[-1:])[0])


@pytest.mark.parametrize(("name", "law"), [*zip(MODELS, (*LAWS, *LAWS, *LAWS), strict=False), ("net, bump", LAWS[0])])
def test_derivatives_are_differences(name, law):
    loss = regression(name, law).population()
    assert isinstance(loss.measure, Density)
    # A slope near 0 moves its kink so fast that higher derivatives dominate the differences.
    w = np.sign(points(loss)[12:]) * (0.3 + np.abs(points(loss)[12:]))
    check_gradient(loss, w, loss.gradient(w))
    numeric = differences(loss, w)
    check_close(loss.hessian(w), numeric, 1 + np.abs(numeric), 3e-4)
    if name == BROKEN:
        with pytest.raises(AssertionError):
            check_gradient(loss, w, raw(loss).gradient(w))
        fixed = np.stack(loss._mean(loss._hessian, w), axis=1).reshape(numeric.shape)
        with pytest.raises(AssertionError):
            check_close(fixed, numeric, 1 + np.abs(numeric), 3e-4)


def differences(loss, w, step=1e-5):
    """The Hessian agrees with differences; K's third derivative jumps if two kinks meet or leave the support."""
    axes = np.eye(w.shape[1])
    return np.stack([(loss.gradient(w + step * u) - loss.gradient(w - step * u)) / (2 * step) for u in axes], axis=1)


@pytest.mark.parametrize("law", LAWS)
def test_population_is_what_samples_tend_to(law):
    """The mean of 20,000 sample losses and gradients by hand is K_n's, and K's to |z| < 4: 8 numbers each."""
    model, w = regression("net, bump", law), np.array([0.9, -1.1, 0.2, 0.7, 0.8, -0.4, 0.1])
    loss, K = model.sampled(20_000, 3), model.population()
    x, e = loss.data.T
    misfit = net_output(w, x) - bump(x)
    slopes = np.broadcast_arrays(*(column for column in TWIN.jacobian(w, x[None])[0]), x)[:-1]
    each = np.stack([(misfit**2 - 2 * misfit * e) / 0.5, *(4 * (misfit - e) * slope for slope in slopes)], axis=1)
    found, limit = (np.append(each.excess(w[None]), each.gradient(w[None])) for each in (loss, K))
    check_close(each.mean(axis=0), found, np.abs(found).max(), 1e-12)
    check_mean(each, limit)
    with pytest.raises(AssertionError):
        check_mean(each, 1.2 * limit)


FROZEN = {"uniform": lambda a, b: stats.uniform(a, b - a), "normal": stats.norm, "laplace": stats.laplace}


@pytest.mark.parametrize("text", ["uniform(-1, 3)", "normal(0.5, 2)", "laplace(-0.3, 0.8)"])
def test_interval_moments_are_integrals(text):
    """E[x^k; a < x < b], k = 0 ... 5, for long, short and far intervals, and for truncated densities."""
    for source in (Distribution.parse(text), Distribution.parse(text).truncated(-0.9, 2.5)):
        measure = Density(source, tuple(range(6)))
        free = FROZEN[source.family](*source.arguments)
        mass = free.cdf(source.high) - free.cdf(source.low)
        for a, b in ((-0.8, 2.4), (0.3, 0.301), (-0.9, -0.85), (1.0, 2.5), (-0.9, 2.4)):
            found = measure.between(np.array([a, b]))[:, 0]
            for k in range(6):
                value = integrate.quad(
                    lambda x, k=k, free=free: x**k * free.pdf(x), a, b, points=[source.centre], epsabs=0
                )[0]
                check_close(found[k], value / mass, abs(value) + 1e-3 * (b - a), 1e-10)
        whole = measure.between(np.array(measure.support))[:, 0]
        assert whole[0] == pytest.approx(1, abs=1e-14)


def test_intervals_share_out_everything():
    """Moments add up to the whole; a step is 1 exactly on the inputs for which its line is positive."""
    rng = np.random.default_rng(0)
    x = np.round(rng.normal(size=50), 1)
    sums = PrefixSums.of(x, [np.ones(50), x], np.full(50, 1 / 50))
    slopes, offsets = np.round(rng.normal(size=(2, 4, 30)), 1)
    slopes[:, :3] = 0
    moments, steps = intervals(sums, slopes, offsets)
    check_close(moments.sum(axis=1), np.array([1, x.mean()])[:, None], 1.0, 1e-15)
    positive = slopes[..., None] * np.sort(x) + offsets[..., None] > 0
    check_close((moments[0] * steps).sum(axis=1), positive.mean(axis=-1), 1.0, 1e-15)
    with pytest.raises(AssertionError):
        check_close((moments[0] * steps).sum(axis=1), (~positive).mean(axis=-1), 1.0, 1e-15)


# Expressions that are piecewise, and others.


def pieces(text, data="x z e"):
    names = ("a", "b", "c", *data.split())
    return split(parse(text, names), [symbol(name) for name in data.split()])


@pytest.mark.parametrize(
    "text",
    [
        "a*x + b",  # no kink
        "relu(a)*x",  # no kink in the data
        "a*step(x - b)",  # a jump that moves
        "sign(a*x)*x",
        "relu(a*relu(x - b) - c)",  # a kink inside a kink
        "relu(a*x**2 - b)",  # not affine in x
        "relu(a*x + b*z)",
        "relu(a*x) + relu(b*z)",
        "tanh(a*relu(x))",
        "relu(x - a) + tanh(b*x)",
        " + ".join(f"relu(a*x - {k})" for k in range(MAX_KINKS + 1)),
    ],
)
def test_other_models_are_not_split(text):
    assert pieces(text) is None


@pytest.mark.parametrize(
    ("text", "kinks", "moving"),
    [
        ("relu(a*x) + b*relu(a*x)*x", 1, 1),
        ("abs(x - a)", 2, 2),
        ("a*step(x - 1/2) + relu(b*x)", 2, 1),
        ("relu(relu(x) - 1)*relu(b*x)", 1, 1),
        ("z*relu(x - a)*e", 1, 1),
        ("exp(a)*relu(x*sin(a) - b*c)", 1, 1),
    ],
)
def test_kinks_are_counted_once(text, kinks, moving):
    found = pieces(text)
    assert (len(found.kinks), found.moving) == (kinks, moving)


def test_other_losses_keep_their_samples_and_nodes():
    """A jump that moves, and a truth that is not polynomial between kinks, for the population."""
    x = {"x": Distribution.parse("normal(0, 1)")}
    jump = Regression(("a", "b"), ("a*step(x - b)",), ("0",), x)
    assert jump.sampled(9, 1).pieces is None
    assert jump.population().pieces is None
    wave = Regression(("a", "b"), ("a*relu(x - b)",), ("sin(x)",), x)
    assert wave.sampled(9, 1).pieces is not None
    assert wave.population().pieces is None
    # A kink of the truth alone leaves a data set's moments sufficient, but not the population's nodes.
    kinked = Regression(("a",), ("a*x",), ("relu(x)",), x)
    assert kinked.sampled(9, 1).pieces is None
    assert kinked.population().excess(np.array([[0.5]]))[0] == pytest.approx(1 / 8, rel=1e-14)


# Kernels.

TWIN = twins.Model(
    lambda w, x: [net_output(w, x[0])],
    lambda w, x: [
        [
            np.maximum(w[1] * x[0] + w[2], 0),
            w[0] * x[0] * (w[1] * x[0] + w[2] > 0),
            w[0] * (w[1] * x[0] + w[2] > 0),
            np.maximum(w[4] * x[0] + w[5], 0),
            w[3] * x[0] * (w[4] * x[0] + w[5] > 0),
            w[3] * (w[4] * x[0] + w[5] > 0),
            1,
        ]
    ],
    lambda x: [bump(x[0])],
    0.5,
)
NEURON = Regression(("a", "b", "c"), ("a*relu(b*x + c)",), ("relu(x)",), {}, 0.5)
NEURON_TWIN = twins.Model(
    lambda w, x: [w[0] * max(w[1] * x[0] + w[2], 0)],
    lambda w, x: [
        [max(w[1] * x[0] + w[2], 0), w[0] * x[0] * (w[1] * x[0] + w[2] > 0), w[0] * (w[1] * x[0] + w[2] > 0)]
    ],
    lambda x: [max(x[0], 0)],
    0.5,
)


def over_density(law):
    """Return the twin's full gradient for a density: Gauss's rule between the kinks, which move with w."""

    def estimate(w, key, particle, step):
        nodes, weights = segments(law, [0, *([-w[2] / w[1]] if w[1] else [])])
        return twins.full(NEURON_TWIN, np.column_stack([nodes, 0 * nodes]), weights)(w, key, particle, step)

    return estimate


def full_case(loss, estimate):
    priors = (("normal", (0.0, 1.0)),) * len(loss.parameters)
    return Case(loss, sgd(0.1), Full(), estimate, lambda t: 0.1, priors=priors, reflecting=False)


def over_data():
    loss = regression("net, bump", "normal(0, 1)").sampled(61, 3)
    return full_case(loss, twins.full(TWIN, loss.data, loss.weights))


def over(law):
    loss = dataclasses.replace(NEURON, inputs={"x": Distribution.parse(law)}).population()
    return full_case(loss, over_density(law))


def check_twin(case, factor=1.0):
    """Four steps with dead and with equal neurons, with b = 0 and with any b, at the edges of two blocks."""
    start = np.random.default_rng(6).uniform(-1, 1, (130, len(case.loss.parameters)))
    start[0, 1] = 0
    start[1, [1, 2]] = 0
    start[127, 3:6] = start[127, :3] if start.shape[1] > 3 else ()
    moving, key = case.kernel(), np.array([3, 4], dtype=np.uint32)
    blocks = moving.pack(start)
    moving.advance(blocks, (0, len(blocks)), (0, 4), 4, key)
    ends = moving.unpack(blocks, len(start))
    for particle in (0, 1, 2, 127, 129):
        expected = case.twin.trajectory((3, 4), particle, factor * start[particle], 4)[-1]
        np.testing.assert_allclose(ends[particle], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("build", [over_data, functools.partial(over, LAWS[0])])
def test_kernel_equals_its_twin(build):
    case = build()
    check_twin(case)
    with pytest.raises(AssertionError):
        check_twin(case, 1 + 1e-9)


@pytest.mark.parametrize(
    ("model", "truth", "law", "gradient"),
    [
        ("a*x", "relu(x)", "normal(0, 1)", lambda a: a - 1 / 2),
        ("a*relu(a*x)", "0", "laplace(0, 1)", lambda a: 2 * a**3),
    ],
)
def test_kernel_without_moving_or_without_fixed_kinks(model, truth, law, gradient):
    """K = (a^2 - a)/2 + 1/4 with noise 1; and a^4/2, as E[x^2; x > 0] = 1."""
    loss = Regression(("a",), (model,), (truth,), {"x": Distribution.parse(law)}).population()
    a = np.linspace(-1, 1, 130)
    found = laws.moved(loss, laws.sgd(1.0), Full(), a[:, None], (0, 1))[:, 0]
    check_close(found, a - gradient(a), 1.0, 1e-14)
    with pytest.raises(AssertionError):
        check_close(found, a - 1.001 * gradient(a), 1.0, 1e-14)
