"""Free energies, their slopes, λ and m against closed forms and theory."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from scipy import special
from support.measured_cases import case, prior, table

from sandbox.measurements.loss.free_energy import Form, free_energy
from sandbox.measurements.loss.thermodynamics import Thermodynamics, thermodynamics
from sandbox.tools.errors import InputError, RunError

NAMES = ("x2y2", "x2y4", "cusp A2", "A4 bent", "bent crossing", "r4")


def closed_form(law: str, n: float) -> tuple[float, float]:
    """Return log Z and E[n K] if -log K is a sum of exponentials of the rates 1/2, 1/2 or 1/4, 1/2.

    x2y2: Z = 2F2(1/2, 1/2; 3/2, 3/2; -n), from the series of exp(-n K), whose moments are 1 / (2 k + 1)^2.
    x2y4: Z = (l1 l2 / (l2 - l1)) (n^-l1 gamma(l1, n) - n^-l2 gamma(l2, n)), gamma the lower incomplete one.
    """
    with mp.workdps(40):
        if law == "x2y2":

            def z(x: mp.mpf) -> mp.mpf:
                return mp.hyp2f2(0.5, 0.5, 1.5, 1.5, -mp.exp(x))
        else:

            def z(x: mp.mpf) -> mp.mpf:
                one, two = (mp.exp(-r * x) * mp.gammainc(r, 0, mp.exp(x)) for r in (mp.mpf(1) / 4, mp.mpf(1) / 2))
                return (one - two) / 2

        x = mp.log(n)
        return float(mp.log(z(x))), float(-mp.diff(lambda s: mp.log(z(s)), x))


@pytest.mark.parametrize("name", ["x2y2", "x2y4"])
@pytest.mark.parametrize("n", [0.1, 1.0, 10.0, 1e3, 1e6, 1e12])
def test_the_table_is_the_closed_form(name: str, n: float) -> None:
    found = table(name)
    k = int(np.argmin(np.abs(np.log(found.n / n))))
    log_z, slope = closed_form(name, float(found.n[k]))
    assert found.log_evidence[k] == pytest.approx(log_z, abs=3e-8)
    assert found.heat[k] == pytest.approx(slope, abs=3e-7)


def test_published_values_of_a_crossing() -> None:
    """Z(10) and Z(1000) of K = w1^2 w2^2, to 12 digits from 2F2."""
    found = dict(zip(table("x2y2").n.round(3).tolist(), np.exp(table("x2y2").log_evidence), strict=True))
    assert found[10.0] == pytest.approx(0.597785737365, rel=1e-8)
    assert found[1000.0] == pytest.approx(0.124308410282, rel=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_the_slope_is_the_derivative_and_the_bend_the_second(name: str) -> None:
    """The thermodynamic identity, by trapezoids with end corrections, to the order h^4, from the table alone."""
    t = table(name).above(1e6)
    h = np.diff(t.log_n)
    change = h / 2 * (t.heat[1:] + t.heat[:-1]) - h**2 / 12 * np.diff(t.bend)
    np.testing.assert_allclose(-np.diff(t.log_evidence), change, rtol=2e-4)


@pytest.mark.parametrize("name", NAMES)
def test_learning_coefficient_and_multiplicity(name: str) -> None:
    found = free_energy(case(name).energy, prior(2), table=table(name))
    exact = float(case(name).learning_coefficient)
    assert found.attrs["multiplicity"] == case(name).multiplicity
    assert found.attrs["multiplicity_probability"] > 0.95
    assert found.attrs["estimate"] == pytest.approx(exact, rel=1e-3)
    assert found.attrs["low"] <= exact <= found.attrs["high"]
    residual = found["residual"].values[np.isfinite(found["residual"].values)]
    assert len(residual) >= 6
    assert np.abs(residual).max() < 1e-3


def test_one_parameter() -> None:
    """K = w^6: λ = 1/6, and F_n = -log(λ n^-λ gamma(λ, n))."""
    found = free_energy(lambda w: w[:, 0] ** 6, prior(1))
    n = found.n.values
    exact = -np.log(n ** (-1 / 6) / 6 * special.gamma(1 / 6) * special.gammainc(1 / 6, n))
    np.testing.assert_allclose(found.free_energy, exact, atol=1e-7)
    assert found.attrs["estimate"] == pytest.approx(1 / 6, rel=1e-6)


# Broken specimens


def test_without_the_logarithm_the_crossing_is_missed() -> None:
    found = free_energy(case("x2y2").energy, prior(2), table=table("x2y2"), multiplicity=1, poles=0).attrs
    assert abs(found["estimate"] - 0.5) > 0.01


def test_without_the_next_pole_the_cusp_is_missed() -> None:
    found = free_energy(case("cusp A2").energy, prior(2), table=table("cusp A2"), multiplicity=1, poles=0).attrs
    right = free_energy(case("cusp A2").energy, prior(2), table=table("cusp A2"), multiplicity=1).attrs
    assert abs(found["estimate"] - 5 / 12) > 100 * abs(right["estimate"] - 5 / 12)


def test_regular_theory_misses() -> None:
    """BIC's D/2 log n differs from F_n by (D/2 - λ) log n."""
    found = free_energy(case("x2y4").energy, prior(2), table=table("x2y4"))
    gap = (found.bic - found.free_energy).diff("n") / np.diff(np.log(found.n))
    assert gap[-1].item() == pytest.approx(1 - 1 / 4, abs=1e-3)


def test_a_table_that_is_short_gives_a_wide_interval() -> None:
    """With the same loss to n = 1e5 only, less is known, and the record says so."""
    short = free_energy(case("bent crossing").energy, prior(2), n=10.0 ** np.arange(1, 5.1, 0.5)).attrs
    whole = free_energy(case("bent crossing").energy, prior(2), table=table("bent crossing")).attrs
    assert short["high"] - short["low"] > 10 * (whole["high"] - whole["low"])
    assert short["low"] <= 0.5 <= short["high"]


# The forms


@pytest.mark.parametrize("form", [Form(m, q) for m in (1, 2, 3) for q in (0, 1, 2)], ids=str)
def test_derivatives_of_a_form_are_its_finite_differences(form: Form) -> None:
    parameters = np.array([0.4, *([1.3] * (form.multiplicity > 1)), *(0.3, -1.5, -0.2, 0.1)[: 2 * form.poles]])
    x = np.linspace(0.0, 20.0, 9)
    _, slopes = form(parameters, x)
    for k in range(len(parameters)):
        step = 1e-6 * np.eye(len(parameters))[k]
        numeric = (form(parameters + step, x)[0] - form(parameters - step, x)[0]) / 2e-6
        np.testing.assert_allclose(slopes[:, k], numeric, rtol=1e-5, atol=1e-8)
    bend = np.gradient(form(parameters, np.linspace(5, 5.01, 3))[0][:3], 0.005)[1]
    assert form(parameters, np.array([5.005]))[0][1] == pytest.approx(bend, rel=1e-4, abs=1e-9)


# Losses that cannot be measured


def test_rounding_ends_the_table() -> None:
    """(y - x^2)^2 multiplied out is known to 1e-16 only: n K is noise from about n = 1e10."""
    found = thermodynamics(
        lambda p: p[:, 1] ** 2 - 2 * p[:, 1] * p[:, 0] ** 2 + p[:, 0] ** 4, prior(2), 10.0 ** np.arange(1, 16, 2)
    )
    assert found.n[-1] < 1e12
    assert found.stopped.startswith("before")


def test_too_few_sizes() -> None:
    with pytest.raises(RunError, match="not enough"):
        free_energy(case("x2y2").energy, prior(2), n=[10.0, 100.0])


@pytest.mark.parametrize("n", [[], [[1.0]], [1.0, 1.0], [-1.0, 1.0], [1.0, np.inf]])
def test_wrong_sizes(n: list[float]) -> None:
    with pytest.raises(InputError, match="n must be"):
        thermodynamics(case("x2y2").energy, prior(2), n)


def test_wrong_settings() -> None:
    with pytest.raises(InputError, match="multiplicity"):
        free_energy(case("x2y2").energy, prior(2), multiplicity=3)
    with pytest.raises(InputError, match="1 to 3 parameters"):
        thermodynamics(lambda w: w[:, 0] ** 2, prior(4))


def test_part_of_a_table() -> None:
    part = table("x2y2").above(10.0)
    assert isinstance(part, Thermodynamics)
    assert part.n[0] == pytest.approx(10.0)
    assert len(part.heat) == len(part.n)
