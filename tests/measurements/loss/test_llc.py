"""The local learning coefficient compared with closed forms, its chains with quadrature, and each bias by itself.

Chains: |z| < 4 (false alarm 6e-5 each), fixed seeds. The laws are those of the tempered posterior at finite nbeta.
"""

from __future__ import annotations

import dataclasses
import math

import mpmath
import numpy as np
import pytest
from scipy import special
from support.checks import Z_LIMIT, check_close, check_mean, prior_of
from support.closed_forms import crossing_llc

from sandbox.dynamics.gradients.minibatch import Minibatch
from sandbox.measurements.loss.chains import ChainSettings, default_nbeta, drift_z, localised, unmixed
from sandbox.measurements.loss.llc import (
    Llc,
    Localised,
    llc_chains,
    llc_quadrature,
    llc_report,
    quadratic_llc,
    step_bias,
)
from sandbox.measurements.loss.minimum import minimise
from sandbox.model.prior import Distribution
from sandbox.model.problem import Problem
from sandbox.model.regression import Regression, potential
from sandbox.model.strata import ZeroSet
from sandbox.tools.errors import InputError

NBETA = default_nbeta(1000)
LINE = prior_of(w="uniform(-1, 1)")
SQUARE = prior_of(w1="uniform(-1, 1)", w2="uniform(-1, 1)")
CROSSING = potential(("w1", "w2"), "w1**2 * w2**2")
STANDARD = {"x": Distribution.parse("normal(0, 1)")}
SHORT = ChainSettings(particles=1024, burn_in=3000, draws=50, thinning=60, seed=3)


def llc_of(loss, prior, reference, **options):
    return float(llc_quadrature(loss, prior, reference, **options)["llc"])


def check_z(estimate, error, target):
    assert abs(estimate - target) < Z_LIMIT * error, f"{estimate} +- {error}, target {target}"


# Quadrature against closed forms.


@pytest.mark.parametrize(
    ("samples", "published"), [(100, 0.301646), (1000, 0.355879), (10_000, 0.388312), (1_000_000, 0.423973)]
)
def test_crossing_at_finite_n_is_far_below_one_half(samples, published):
    """E[nbeta K] from Z = 2F2(1/2, 1/2; 3/2, 3/2; -nbeta), by quadrature, by the phase-type law, and as tabulated."""
    nbeta = default_nbeta(samples)
    upper, lower = (mpmath.hyp2f2(a, a, a + 1, a + 1, -nbeta) for a in (1.5, 0.5))
    exact = float(nbeta / 9 * upper / lower)
    assert abs(exact - published) < 1e-6
    for found in (llc_of(CROSSING, SQUARE, [0, 0], nbeta=nbeta), crossing_llc([0.5, 0.5], nbeta)):
        assert abs(found - exact) < 1e-7
        assert abs(found - 0.5) > 0.07


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("nbeta", [3.0, 100.0, 1e4])
def test_power_on_an_interval(k, nbeta):
    """K = w^(2k): l - nbeta^l e^-nbeta / gamma(l, nbeta), l = 1/(2k)."""
    pole = 1 / (2 * k)
    exact = pole - nbeta**pole * math.exp(-nbeta) / (special.gammainc(pole, nbeta) * special.gamma(pole))
    assert abs(llc_of(potential(("w",), f"w**{2 * k}"), LINE, [0], nbeta=nbeta) - exact) < 1e-7
    assert abs(crossing_llc([pole], nbeta) - exact) < 1e-10


def test_unequal_poles_by_quadrature_and_by_their_law():
    """K = w1^2 w2^4 and a D = 3 crossing, by two computations that share nothing."""
    uneven = potential(("w1", "w2"), "w1**2 * w2**4")
    assert abs(llc_of(uneven, SQUARE, [0, 0], nbeta=500.0) - crossing_llc([0.5, 0.25], 500.0)) < 1e-6
    cube = prior_of(a="uniform(-1, 1)", b="uniform(-1, 1)", c="uniform(-1, 1)")
    triple = potential(("a", "b", "c"), "(a * b * c)**2")
    found = llc_of(triple, cube, [0, 0, 0], nbeta=100.0, tolerance=1e-3)
    assert abs(found - crossing_llc([0.5, 0.5, 0.5], 100.0)) < 1e-4
    assert abs(found - crossing_llc([0.5, 0.5], 100.0)) > 0.05


def test_multiplicity_bias_is_one_over_log_n():
    """m = 2: l - 1 / (log nbeta - psi(l)) up to e^-nbeta; without psi it is off."""
    for nbeta in (1e2, 1e4, 1e8):
        found = crossing_llc([0.5, 0.5], nbeta)
        assert abs(found - (0.5 - 1 / (math.log(nbeta) - special.psi(0.5)))) < 1e-9
        assert abs(found - (0.5 - 1 / math.log(nbeta))) > 0.005


def test_homogeneous_loss_has_the_same_value_at_any_temperature():
    """Degree q on R^D under a flat prior: E[nbeta K] = D / q, with the variance of nbeta K equal to it."""
    quartic = potential(("w1", "w2"), "w1**4 + w1**2 * w2**2 + 2 * w2**4")
    wide = prior_of(w1="uniform(-9, 9)", w2="uniform(-9, 9)")
    for nbeta in (1.0, 50.0):
        found = llc_quadrature(quartic, wide, [0, 0], nbeta=nbeta)
        check_close(np.array([found["llc"], found["llc_variance"]]), 0.5, 1.0, 1e-6)
    assert abs(llc_of(quartic, SQUARE, [0, 0], nbeta=1.0) - 0.5) > 0.1, "the walls of a small box are felt"


def test_localiser_on_a_quadratic():
    """1/2 sum nbeta h / (nbeta h + γ); without the localization it would be D / 2."""
    loss = potential(("w1", "w2"), "3 * w1**2 / 2 + w2**2 / 10")
    wide = prior_of(w1="uniform(-9, 9)", w2="uniform(-9, 9)")
    exact = float(quadratic_llc([3.0, 0.2], 100.0, 50.0))
    assert exact == pytest.approx((300 / 350 + 20 / 70) / 2)
    assert abs(llc_of(loss, wide, [0, 0], nbeta=100.0, localization=50.0) - exact) < 1e-7
    assert abs(llc_of(loss, wide, [0, 0], nbeta=100.0) - 1.0) < 1e-7


def test_flat_direction_carries_no_loss():
    assert float(quadratic_llc([[2.0, 0.0], [0.0, 0.0]], 100.0)[0]) == 0.5
    assert quadratic_llc([[2.0, 0.0], [0.0, 0.0]], 100.0).tolist() == [0.5, 0.0]


def test_both_forms_of_the_localised_prior_agree():
    """The product of densities and the conjugate normal differ by a constant, inside the box and at its edge."""
    prior = prior_of(a="uniform(-1, 2)", b="normal(0.5, 0.7)")
    reference = np.array([0.3, -0.2])
    points = np.random.default_rng(0).uniform(-0.9, 1.9, (50, 2))
    difference = Localised(prior, reference, 4.0).log_density(points) - localised(prior, reference, 4.0).log_density(
        points
    )
    assert np.ptp(difference) < 1e-12
    outside = np.array([[2.1, 0.0]])
    assert Localised(prior, reference, 4.0).log_density(outside) == -np.inf
    assert localised(prior, reference, 4.0).log_density(outside) == -np.inf
    assert localised(prior, reference, 0.0) is prior


def test_window_of_the_localiser_may_be_widened_where_it_is_no_wall():
    """With a reference away from W0 the posterior leaves the nine deviations, and the window follows it."""
    loss = potential(("w",), "(w - 0.9)**2 / 2")
    nbeta, gamma = 1e6, 1e4
    # The product of two normals: precision nbeta + γ, mean between the centres.
    mean, variance = 0.9 * nbeta / (nbeta + gamma), 1 / (nbeta + gamma)
    exact = nbeta / 2 * ((mean - 0.9) ** 2 + variance - 0.81)
    assert abs(llc_of(loss, LINE, [0.0], nbeta=nbeta, localization=gamma) / exact - 1) < 1e-6


# Data: which reference.


def test_reference_decides_at_order_one():
    """f = w x: with the minimiser 1/2 on every data set; with the truth (1 - beta)/2 on average: 0.4276 at n = 1000.

    The published .41 and .43 for this model (Lau et al. 2308.12108) are right, not an error of the sampler.
    """
    model = Regression(("w",), ("w * x",), ("0",), STANDARD)
    truth, minimiser = [], []
    for seed in range(150):
        loss = model.sampled(1000, seed)
        truth.append(llc_of(loss, LINE, [0.0]))
        if seed < 20:
            minimiser.append(llc_of(loss, LINE, minimise(loss, LINE).point))
    check_close(np.array(minimiser), 0.5, 1.0, 1e-6)
    beta = 1 / math.log(1000)
    check_mean(np.array(truth), (1 - beta) / 2)
    with pytest.raises(AssertionError):
        check_mean(np.array(truth), 0.5)
    with pytest.raises(AssertionError):
        check_close(np.array(truth[:20]), 0.5, 1.0, 1e-6)


def test_truth_as_reference_gives_the_closed_form_of_each_data_set():
    """1/2 - nbeta s w^2 / 2 with s the inputs' mean square and w^ the least-squares estimate."""
    loss = Regression(("w",), ("w * x",), ("0",), STANDARD).sampled(1000, 4)
    x, e = loss.data.T
    s, estimate = (x * x).mean(), (x * e).mean() / (x * x).mean()
    assert abs(llc_of(loss, LINE, [0.0]) - (0.5 - NBETA * s * estimate**2 / 2)) < 1e-7
    found = llc_quadrature(loss, LINE, [0.0])
    assert float(found["init_loss"]) == pytest.approx(loss.entropy, abs=1e-15)
    assert float(found["llc"]) == pytest.approx(NBETA * float(found["mean_loss"] - found["init_loss"]), abs=1e-9)


# Chains.


def test_chains_on_the_crossing_find_the_exact_value_and_reject_lambda():
    found = llc_report(CROSSING, SQUARE, [0, 0], 0.5, nbeta=NBETA)
    estimate, error = float(found["llc"]), float(found["llc_standard_error"])
    assert abs(float(found["sampler_z"])) < Z_LIMIT
    assert error < 0.01
    assert float(found["llc_exact"]) == pytest.approx(0.355879, abs=1e-6)
    assert abs(float(found["drift"])) < Z_LIMIT
    parts = found["sampler_error"] + found["step_bias"] + found["finite_n_bias"]
    assert float(parts) == pytest.approx(estimate - 0.5, abs=1e-12)
    for broken in (0.5, float(crossing_llc([0.5, 0.5], 1000.0))):
        with pytest.raises(AssertionError):
            check_z(estimate, error, broken)


def test_chains_in_four_dimensions():
    """(w1 w2 w3 w4)^2, m = 4: too many parameters for quadrature, but the phase-type law gives the value."""
    names = ("a", "b", "c", "d")
    loss = potential(names, "(a * b * c * d)**2")
    prior = prior_of(**dict.fromkeys(names, "uniform(-1, 1)"))
    settings = ChainSettings(particles=2048, burn_in=4000, draws=40, thinning=100, step_size=3e-4, seed=1)
    found = llc_chains(loss, prior, np.zeros(4), nbeta=NBETA, settings=settings)
    check_z(float(found["llc"]), float(found["llc_standard_error"]), crossing_llc([0.5] * 4, NBETA))
    with pytest.raises(AssertionError):
        check_z(float(found["llc"]), float(found["llc_standard_error"]), crossing_llc([0.5] * 3, NBETA))


@pytest.mark.parametrize("localization", [0.0, 40.0])
def test_step_size_bias_on_a_quadratic_is_the_closed_one(localization):
    """var = 1 / (a (1 - h a / 2)) with a = nbeta h + γ: at h a = 1/2 a third too much, as the step bias states."""
    loss = potential(("w",), "w**2")
    wide = prior_of(w="uniform(-9, 9)")
    step = 0.5 / (2 * 100.0 + localization)
    settings = ChainSettings(particles=4096, burn_in=100, draws=50, thinning=10, step_size=step)
    found = llc_chains(loss, wide, [0.0], nbeta=100.0, localization=localization, settings=settings)
    estimate, error = float(found["llc"]), float(found["llc_standard_error"])
    check_z(estimate, error, float(quadratic_llc([2.0], 100.0, localization, step)))
    assert float(found["step_times_curvature"]) == pytest.approx(0.5)
    for broken in (float(quadratic_llc([2.0], 100.0, localization)), float(quadratic_llc([2.0], 100.0, 0.0))):
        with pytest.raises(AssertionError):
            check_z(estimate, error, broken)


def test_first_order_step_bias_of_a_quadratic():
    """The expansion in h: step_bias is the derivative at 0 of the closed form."""
    loss = potential(("w1", "w2"), "3 * w1**2 / 2 + w2**2 / 10")
    wide = prior_of(w1="uniform(-9, 9)", w2="uniform(-9, 9)")
    step = 1e-6
    exact = float(quadratic_llc([3.0, 0.2], 100.0, 50.0, step) - quadratic_llc([3.0, 0.2], 100.0, 50.0))
    found = step_bias(loss, wide, np.zeros(2), 100.0, 50.0, step)
    assert found == pytest.approx(exact, rel=1e-3)


def test_step_bias_where_nothing_is_quadratic():
    """A localised chain on the crossing with a coarse step: exact + step bias fits, exact alone does not."""
    settings = SHORT.model_copy(update={"particles": 4096, "step_size": 3e-4})
    found = llc_report(CROSSING, SQUARE, [0.5, 0], 0.5, nbeta=NBETA, localization=100.0, settings=settings)
    estimate, error = float(found["llc"]), float(found["llc_standard_error"])
    assert abs(float(found["sampler_z"])) < Z_LIMIT
    with pytest.raises(AssertionError):
        check_z(estimate, error, float(found["llc_exact"]))
    with pytest.raises(AssertionError):
        check_z(estimate, error, llc_of(CROSSING, SQUARE, [0.5, 0], nbeta=NBETA))


def test_minibatch_chains_carry_the_noise_of_their_gradients():
    """x = 1, batch B: S (2 h a - h^2 a^2) = 2 h + h^2 nbeta^2 s^2 / B (Lyapunov); the full gradient's law is not."""
    errors = np.random.default_rng(2).normal(0, 1, 100)
    errors -= errors.mean()
    model = Regression(("w",), ("w * x",), ("0",), STANDARD)
    loss = dataclasses.replace(model.sampled(100, 1), data=np.stack([np.ones(100), errors], axis=1))
    nbeta, batch = 50.0, 4
    step = 0.2 / nbeta
    settings = ChainSettings(particles=4096, burn_in=100, draws=50, thinning=10, step_size=step)
    gradient = Minibatch(minibatch=batch, draw="with_replacement")
    wide = prior_of(w="uniform(-9, 9)")
    found = llc_chains(loss, wide, [0.0], nbeta=nbeta, settings=settings, gradient=gradient)
    noise = 2 * step + step**2 * nbeta**2 * errors.var() / batch
    exact = nbeta / 2 * noise / (2 * step * nbeta - step**2 * nbeta**2)
    check_z(float(found["llc"]), float(found["llc_standard_error"]), exact)
    with pytest.raises(AssertionError):
        check_z(float(found["llc"]), float(found["llc_standard_error"]), float(quadratic_llc([1.0], nbeta, 0.0, step)))
    assert found.attrs["gradient"] == "minibatch"


def test_report_tells_data_from_population():
    """f = w1 w2 x on data: the four parts add up, and the population's part is that of K = w1^2 w2^2 / 2."""
    model = Regression(("w1", "w2"), ("w1 * w2 * x",), ("0",), STANDARD)
    found = llc_report(model.sampled(1000, 1), SQUARE, [0, 0], 0.5, population=model.population(), settings=SHORT)
    parts = sum(float(found[name]) for name in ("sampler_error", "step_bias", "data_effect", "finite_n_bias"))
    assert parts == pytest.approx(float(found["llc"]) - 0.5, abs=1e-12)
    assert float(found["llc_population"]) == pytest.approx(crossing_llc([0.5, 0.5], NBETA / 2), abs=1e-7)
    assert found["excess"].dims == ("chain", "draw")
    assert found.attrs["nbeta"] == NBETA


def test_diverged_chains_are_not_dropped():
    """Beyond the stability edge without walls the estimate is not finite, and the record gives the reason."""
    loss = potential(("w",), "w**4")
    settings = ChainSettings(particles=128, burn_in=0, draws=10, thinning=20, step_size=1.0)
    found = llc_chains(loss, prior_of(w="normal(0, 1)"), [0.0], nbeta=100.0, settings=settings)
    assert not np.isfinite(float(found["llc"]))
    assert float(found["step_times_curvature"]) == math.inf


def test_chains_that_have_not_arrived_are_seen():
    """Chains that start at w* with too few steps to leave it: the drift is many standard errors."""
    settings = ChainSettings(particles=1024, burn_in=0, draws=20, thinning=5, step_size=1e-5)
    found = llc_chains(CROSSING, SQUARE, [0, 0], nbeta=NBETA, settings=settings)
    assert float(found["drift"]) > 10
    still = found["excess"] * 0
    assert drift_z(still) == 0


@pytest.mark.parametrize("power", [3, 5, 7])
def test_the_default_step_fits_the_working_temperature_of_a_steep_box(power):
    """w1^2 + w2^2k has λ̂ = 1/2 + 1/2k at any nbeta; with a step for the curvature at the walls it is not found."""
    loss = potential(("w1", "w2"), f"(w1**2 + w2**{2 * power}) / 2")
    box = prior_of(w1="uniform(-2, 2)", w2="uniform(-2, 2)")
    settings = ChainSettings(particles=256)
    found = llc_report(loss, box, [0, 0], 0.5, nbeta=1000.0, settings=settings)
    assert float(found["llc_exact"]) == pytest.approx(0.5 + 0.5 / power, abs=1e-6)
    assert abs(float(found["sampler_z"])) < Z_LIMIT
    assert float(found["llc_standard_error"]) < 0.02
    assert unmixed(found["excess"], float(found["sampler_z"])) == ""
    steep = 0.02 / np.abs(np.linalg.eigvalsh(1000.0 * loss.hessian(np.array([[2.0, 2.0]])))).max()
    slow = llc_report(loss, box, [0, 0], 0.5, nbeta=1000.0, settings=settings.model_copy(update={"step_size": steep}))
    assert unmixed(slow["excess"], float(slow["sampler_z"])) != ""


def test_the_sentence_says_that_chains_have_not_mixed():
    """Too few steps, a result far from the exact one and a diverged chain are all said; good chains are silent."""
    words = "the chains have not mixed"
    settings = ChainSettings(particles=256, burn_in=0, draws=20, thinning=5, step_size=1e-5)
    slow = llc_chains(CROSSING, SQUARE, [0, 0], nbeta=NBETA, settings=settings)["excess"]
    assert "drift" in unmixed(slow)
    assert "R-hat" in unmixed(slow)
    good = slow.copy(data=np.random.default_rng(0).exponential(size=slow.shape))
    assert unmixed(good) == ""
    assert unmixed(good, -8.0) == f"{words}: they are 8.0 standard errors from the exact value"
    assert unmixed(good.where(good < 3)) == "a chain has diverged"
    problem = Problem(CROSSING, SQUARE, ZeroSet(("w1", "w2"), (), 0.1), NBETA)
    for chains, said in ((settings, True), (ChainSettings(particles=512), False)):
        measured = Llc(nbeta=NBETA, chains=chains).measure(problem)
        assert (words in measured.attrs["summary"]) == said


def test_chains_are_a_function_of_the_seed():
    runs = [
        llc_chains(CROSSING, SQUARE, [0, 0], nbeta=NBETA, settings=SHORT.model_copy(update={"seed": s}))
        for s in (1, 1, 2)
    ]
    assert runs[0].identical(runs[1])
    assert not np.array_equal(runs[0]["excess"], runs[2]["excess"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "nbeta = n / log n needs n"),
        ({"nbeta": 0.0}, "nbeta is 0.0"),
        ({"nbeta": math.nan}, "nbeta is nan"),
        ({"nbeta": 10.0, "localization": -1.0}, "localization is -1.0"),
        ({"nbeta": 10.0, "reference": [0.0]}, "shape (1,)"),
        ({"nbeta": 10.0, "reference": [0.0, 1.5]}, "outside the prior's support"),
    ],
)
def test_wrong_input_is_said(options, words):
    options = {"reference": [0.0, 0.0]} | options
    for function in (llc_quadrature, llc_chains):
        with pytest.raises(InputError) as error:
            function(CROSSING, SQUARE, options["reference"], **{k: v for k, v in options.items() if k != "reference"})
        assert words in str(error.value)


def test_other_wrong_input_is_said():
    with pytest.raises(InputError, match="uniform and normal priors only, found laplace"):
        localised(prior_of(w="laplace(0, 1)"), np.zeros(1), 1.0)
    flat = potential(("w",), "0 * w")
    with pytest.raises(InputError, match="give a step size"):
        llc_chains(flat, LINE, [0.0], nbeta=10.0)
