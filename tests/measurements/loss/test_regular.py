"""Regular theory agrees with closed forms for regular losses, and fails as stated for singular ones."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from support.checks import check_close, prior_of

from sandbox.expressions.parsing import parse
from sandbox.measurements.loss.free_energy import FreeEnergy
from sandbox.measurements.loss.minimum import minimise
from sandbox.measurements.loss.regular import flatness, laplace, llc_along, typical_curvature
from sandbox.model.prior import Distribution
from sandbox.model.regression import Regression, potential
from sandbox.model.strata import Stratum, ZeroSet
from sandbox.posterior.quadrature.posteriors import level_set
from sandbox.scenario.scenario import loads
from sandbox.tools.errors import InputError

SCENARIO = """
question: BIC?
parameters: {{w1: "uniform(-1, 1)", w2: "uniform(-1, 1)"}}
loss: {{model: {model}, truth: 0, inputs: {{x: "normal(0, 1)"}}, samples: 1000}}
strata: {{origin: {{zero: [w1, w2]}}}}
measurements: {{free_energy: }}
"""
NAMES = ("w1", "w2")
LINE = prior_of(w="uniform(-1, 1)")
SQUARE = prior_of(w1="uniform(-1, 1)", w2="uniform(-1, 1)")
STANDARD = {"x": Distribution.parse("normal(0, 1)")}
PRODUCT = Regression(NAMES, ("w1 * w2 * x",), ("0",), STANDARD)
AFFINE = Regression(NAMES, ("w1 * x + w2",), ("0.2 * x",), STANDARD)


def strata(**zero):
    """Return a zero set: name=(expressions, along or None)."""
    return ZeroSet(
        NAMES,
        tuple(
            Stratum(name, tuple(parse(t, NAMES) for t in texts), None if along is None else parse(along, NAMES))
            for name, (texts, along) in zero.items()
        ),
        0.1,
    )


ARMS = strata(crossing=(("w1", "w2"), None), arm=(("w2",), "w1"), other=(("w1",), "w2"))


# Along W0.


@pytest.mark.parametrize(
    ("model", "truth", "zero"),
    [
        ("w1 * w2 * x", "0", "w2"),
        ("w1 * w2**2 * x", "0", "w1"),
        ("w1 * tanh(w2 * x)", "0", "w2"),
        ("(w1**2 + w2**2) * x", "0.25 * x", "w1**2 + w2**2 - 0.25"),
    ],
)
def test_hessian_is_the_fisher_information_on_w0_only(model, truth, zero):
    """Both are E[grad f grad f^T] if f = f0 (sigma = 0.5); away from W0 the curvature of f enters one of them."""
    population = Regression(NAMES, (model,), (truth,), STANDARD, noise=0.5).population()
    found = flatness(population, SQUARE, strata(s=((zero,), None)), 0)
    assert found.sizes["point"] > 10
    assert float(found["fisher_difference"].max()) < 1e-9
    check_close(found["fisher_eigenvalue"].to_numpy(), found["hessian_eigenvalue"].to_numpy(), 1.0, 1e-9)
    broken = flatness(population, SQUARE, strata(s=((f"{zero} - 0.2",), None)), 0)
    assert float(broken["fisher_difference"].max()) > 1e-3


def test_spectrum_along_an_arm():
    """f = w1 w2 x on w2 = 0: curvatures 0 and w1^2; determinants, basin and rank follow."""
    found = flatness(PRODUCT.population(), SQUARE, ARMS, 1, learning_coefficient=0.5)
    w1 = found["along"].to_numpy()
    assert (np.diff(w1) > 0).all()
    check_close(found["position"].to_numpy(), np.stack([w1, 0 * w1], axis=1), 1.0, 1e-15)
    check_close(found["hessian_eigenvalue"].to_numpy(), np.stack([0 * w1, w1**2], axis=1), 1.0, 1e-12)
    for name in ("trace", "sharpness"):
        check_close(found[name].to_numpy(), w1**2, 1.0, 1e-12)
    check_close(found["log_pseudo_determinant"].to_numpy(), 2 * np.log(np.abs(w1)), 1.0, 1e-9)
    assert np.isneginf(found["log_determinant"]).all()
    assert np.isposinf(found["log_basin_volume"]).all()
    assert (found["rank"] == 1).all()
    assert (found["regular_learning_coefficient"] == found["learning_coefficient"]).all()


def test_spectrum_says_nothing_of_lambda_where_it_vanishes():
    """f = w1 w2^2 x: on w2 = 0 the Hessian is zero and λ = 1/4; on w1 = 0 its rank is 1 and λ = 1/2."""
    population = Regression(NAMES, ("w1 * w2**2 * x",), ("0",), STANDARD).population()
    flat, sharp = (flatness(population, SQUARE, ARMS, k) for k in (1, 2))
    assert (flat["rank"] == 0).all()
    assert (flat["regular_learning_coefficient"] == 0).all()
    assert (sharp["rank"] == 1).all()
    check_close(sharp["sharpness"].to_numpy(), sharp["along"].to_numpy() ** 4, 1.0, 1e-12)


def test_basin_of_a_regular_minimum_is_its_ellipse():
    """The log volume is that of the level set, by quadrature; with the ball of another dimension it is not."""
    loss = potential(NAMES, "3 * (w1 - 0.1)**2 / 2 + w1 * w2 / 2 - w2 / 20 + w2**2")
    level = 0.02
    found = flatness(loss, SQUARE, strata(point=(("w1 - 0.1", "w2"), None)), 0, level=level)
    exact = level_set(loss.excess, SQUARE, level).log_evidence + math.log(4)
    assert found.sizes["point"] == 1
    assert float(found["log_basin_volume"][0]) == pytest.approx(exact, abs=1e-4)
    assert abs(float(found["log_basin_volume"][0]) + float(found["log_determinant"][0]) / 2 - exact) > 0.1
    assert "fisher_eigenvalue" not in found


def test_llc_along_a_line_is_that_of_its_curvature():
    """K = 3 w2^2: 1/2 nbeta h / (nbeta h + γ) everywhere; on w1^2 w2^2 the crossing has more than that."""
    line = llc_along(potential(NAMES, "3 * w2**2"), SQUARE, ARMS, 1, 100.0, 300.0, count=4)
    check_close(line["llc"].to_numpy(), 0.5 * 600 / 900, 1.0, 1e-6)
    check_close(line["llc"].to_numpy(), line["llc_quadratic"].to_numpy(), 1.0, 1e-6)
    centre = llc_along(PRODUCT.population(), SQUARE, ARMS, 0, 1000.0, 100.0)
    assert float(centre["llc_quadratic"][0]) == 0
    # Both coordinates are N(0, 1/γ) before the data: Z = e^z K_0(z) sqrt(z) up to a constant, z = γ^2 / (4 nbeta).
    z = mpmath.mpf(100.0**2) / (4 * 1000.0)
    log_z = lambda s: s + mpmath.log(mpmath.besselk(0, s)) + mpmath.log(s) / 2  # noqa: E731
    assert float(centre["llc"][0]) == pytest.approx(float(z * mpmath.diff(log_z, z)), abs=1e-4)


# Laplace.


@pytest.mark.parametrize("seed", [1, 2])
def test_laplace_is_exact_on_a_quadratic(seed):
    """Flat prior, linear model: only the box makes Laplace's evidence an approximation."""
    found = laplace(AFFINE.sampled(400, seed), SQUARE)
    assert float(found["laplace_error"]) == pytest.approx(0.0, abs=1e-7)
    assert int(found["rank"]) == 2
    assert not bool(found["at_wall"])


def test_laplace_of_a_regular_potential_is_off_by_one_over_n():
    """K = w^2/2 + w^3/6 + w^4/4: log Z - Laplace = (5/24 - 6/8) / nbeta + ... (third and fourth derivative 1, 6)."""
    loss = potential(("w",), "w**2 / 2 + w**3 / 6 + w**4 / 4")
    for nbeta in (1e3, 1e4):
        found = laplace(loss, LINE, nbeta)
        assert -nbeta * float(found["laplace_error"]) == pytest.approx(5 / 24 - 6 / 8, rel=30 / nbeta)


@pytest.mark.parametrize("loss", [PRODUCT.population(), PRODUCT.sampled(1000, 1), potential(NAMES, "w1**4 + w2**2")])
def test_laplace_is_infinite_where_the_hessian_is_singular(loss):
    """The exact evidence is finite; +inf and the rank state the failure."""
    found = laplace(loss, SQUARE, 1000.0)
    assert int(found["rank"]) == 1
    assert float(found["log_evidence_laplace"]) == np.inf
    assert float(found["laplace_error"]) == np.inf
    assert np.isfinite(float(found["log_evidence"]))


def test_laplace_misses_a_finite_amount_on_data():
    """f = w^2 x: data make both minima regular, but Laplace sees one of the two and a wrong shape, at any n."""
    model = Regression(("w",), ("w**2 * x",), ("0",), STANDARD)
    regular = Regression(("w",), ("w * x + w**2 / 4",), ("0",), STANDARD)

    def typical_error(model, n):
        return np.median([abs(float(laplace(model.sampled(n, seed), LINE)["laplace_error"])) for seed in range(12)])

    assert min(typical_error(model, n) for n in (1000, 100_000)) > 0.2
    assert typical_error(regular, 100_000) < 1e-3


def test_laplace_at_a_wall():
    """K = w - w^2/4 on [0, 1]: a minimum by the wall alone, with negative curvature: no Laplace."""
    found = laplace(potential(("w",), "w - w**2 / 4"), prior_of(w="uniform(0, 1)"), 50.0)
    assert bool(found["at_wall"])
    assert float(found["minimiser"][0]) == 0
    assert np.isnan(float(found["log_evidence_laplace"]))


# The minimiser.


def test_minimiser_is_the_least_squares_estimate():
    loss = AFFINE.sampled(300, 4)
    x, e = loss.data.T
    estimate = np.linalg.lstsq(np.stack([x, np.ones_like(x)], axis=1), 0.2 * x + e, rcond=None)[0]
    found = minimise(loss, SQUARE)
    check_close(found.point, estimate, 1.0, 1e-10)
    assert found.slope < 1e-12


def test_minimiser_on_a_curve_of_minima():
    """f = w1 w2 x: every point with w1 w2 = least-squares slope, with K_n = -slope^2 s / 2."""
    loss = PRODUCT.sampled(500, 2)
    x, e = loss.data.T
    slope = (x * e).sum() / (x * x).sum()
    found = minimise(loss, SQUARE)
    assert found.point.prod() == pytest.approx(slope, abs=1e-9)
    assert found.excess == pytest.approx(-(slope**2) * (x * x).mean() / 2, abs=1e-14)


def test_minimiser_of_high_order_wells_and_walls():
    assert abs(minimise(potential(("w",), "(w - 0.3)**8"), LINE).point[0] - 0.3) < 1e-8
    wells = potential(("w",), "(w**2 - 0.25)**2 + w / 10")
    deep, shallow = minimise(wells, LINE), minimise(wells, LINE, np.array([0.6]))
    roots = np.sort(np.roots([4, 0, -1, 0.1]).real)
    assert deep.point[0] == pytest.approx(roots[0], abs=1e-9)
    assert shallow.point[0] == pytest.approx(roots[2], abs=1e-9)
    cornered = minimise(potential(NAMES, "w1 * w2 + (w1 - 3)**2 + w2**2"), SQUARE)
    check_close(cornered.point, np.array([1.0, -0.5]), 1.0, 1e-9)
    assert cornered.at_wall
    assert cornered.slope < 1e-9
    with pytest.raises(InputError, match="not finite at any point"):
        minimise(potential(("w",), "log(-1 - w**2)"), LINE)


# Free energies over n.


def test_bic_against_the_free_energy_of_a_regular_model():
    """K = (w1^2 + w2^2) / 2: F - BIC is a constant, Laplace is exact, and F is log n less that of 2 pi / 4."""
    found = FreeEnergy().measure(loads(SCENARIO.format(model="w1 * x + w2"), "regular.yaml").problem)
    large = found.sel(n=found["n"][found["n"] > 1e3])
    check_close((large["free_energy"] - np.log(large["n"])).to_numpy(), math.log(4 / (2 * math.pi)), 1.0, 1e-6)
    assert np.ptp((large["free_energy"] - large["bic"]).to_numpy()) < 1e-6
    check_close(large["laplace"].to_numpy(), large["free_energy"].to_numpy(), 1.0, 1e-6)
    check_close(large["singular"].to_numpy(), np.log(large["n"].to_numpy()), 1.0, 1e-12)


def test_bic_charges_too_much_where_the_model_is_singular():
    """K = w1^2 w2^2 / 2: F from 2F2; BIC with D/2 = 1 departs from it, the singular law does not, Laplace is -inf."""
    found = FreeEnergy().measure(loads(SCENARIO.format(model="w1 * w2 * x"), "singular.yaml").problem)
    large = found.sel(n=found["n"][found["n"] > 100])
    exact = [-float(mpmath.log(mpmath.hyp2f2(0.5, 0.5, 1.5, 1.5, -mpmath.mpf(n) / 2))) for n in large["n"].values]
    check_close(large["free_energy"].to_numpy(), np.array(exact), 1.0, 1e-6)
    assert np.isneginf(large["laplace"]).all()
    off = {name: np.ptp((large[name] - large["free_energy"]).to_numpy()) for name in ("bic", "singular")}
    assert off["bic"] > 4
    assert off["singular"] < 0.6
    forgotten = large["singular"] + np.log(np.log(large["n"]))
    assert np.ptp((forgotten - large["free_energy"]).to_numpy()) > 2 * off["singular"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: laplace(PRODUCT.population(), SQUARE), "nbeta is None"),
        (lambda: laplace(PRODUCT.population(), SQUARE, -1.0), "nbeta is -1.0"),
        (lambda: typical_curvature(potential(NAMES, "0 * w1"), SQUARE), "no curvature on most of the prior"),
        (lambda: flatness(PRODUCT.sampled(10, 1), SQUARE, ARMS, 0), "a loss on 10 samples"),
        (
            lambda: flatness(PRODUCT.population(), SQUARE, strata(far=(("w1 - 5",), None)), 0),
            "no point of the stratum 'far'",
        ),
    ],
)
def test_wrong_input_is_said(call, words):
    with pytest.raises(InputError) as error:
        call()
    assert words in str(error.value)
