"""The zeta function compared with its closed form, its largest pole and residue with theory."""

from __future__ import annotations

import numpy as np
import pytest
from support.measured_cases import Array, case, prior, table

from sandbox.measurements.loss.thermodynamics import Thermodynamics
from sandbox.measurements.loss.zeta import Transform, zeta
from sandbox.tools.errors import RunError

RATES = {"x2y2": (0.5, 0.5), "x2y4": (0.5, 0.25)}


def logarithmic_derivative(z: Array, rates: tuple[float, ...]) -> Array:
    """Return ζ = prod l / (l + z), for -log K a sum of independent exponentials of the rates l."""
    return np.asarray(-sum(1 / (rate + z) for rate in rates))


def shortened(found: Thermodynamics, most: float) -> Thermodynamics:
    keep = found.n <= most
    parts = (found.n, found.log_evidence, found.heat, found.variance, found.error)
    return Thermodynamics(*(p[keep] for p in parts), "for a test")


Z = np.array([0.1 + 0j, 0.3, 0.5, 0.8, 0.3 + 0.5j, 0.3 - 1j])


@pytest.mark.parametrize(("name", "rates"), RATES.items())
def test_the_transform_is_the_closed_form(name: str, rates: tuple[float, ...]) -> None:
    seen = Transform(table(name))(Z)
    np.testing.assert_allclose(seen, logarithmic_derivative(Z, rates), rtol=1e-4)
    # The broken specimens: another law, and an integral cut off inside the range of the power law.
    assert np.abs(seen / logarithmic_derivative(Z, (*rates, 2.0)) - 1).max() > 0.1
    assert np.abs(Transform(shortened(table(name), 1.0))(Z) / seen - 1).max() > 1e-3


def test_moments_are_values_of_zeta() -> None:
    """The other computation: log ζ(0.9) - log ζ(0.1) by Gauss nodes in z, and E K^z by Gauss nodes in the plane."""
    nodes, weights = np.polynomial.legendre.leggauss(12)
    integral = 0.4 * weights @ Transform(table("r4"))((0.5 + 0.4 * nodes).astype(complex)).real
    x, w = np.polynomial.legendre.leggauss(400)
    energies = case("r4").energy(np.stack(np.meshgrid(x, x), axis=-1).reshape(-1, 2))
    moments = [np.outer(w, w).ravel() / 4 @ energies**z for z in (0.9, 0.1)]
    assert integral == pytest.approx(np.log(moments[0] / moments[1]), abs=1e-5)


@pytest.mark.parametrize("name", ["x2y2", "x2y4", "A4 bent", "bent crossing", "r4"])
def test_the_largest_pole(name: str) -> None:
    found = zeta(case(name).energy, prior(2), table=table(name)).attrs
    exact = float(case(name).learning_coefficient)
    assert found["trustworthy"]
    assert found["estimate"] == pytest.approx(exact, rel=0.01)
    assert found["low"] <= exact <= found["high"]
    assert found["multiplicity"] == case(name).multiplicity
    assert found["residue"] == pytest.approx(case(name).multiplicity, abs=0.1)


def test_poles_that_are_not_told_apart_are_not_trusted() -> None:
    """The cusp has poles at -5/12 and -1/2: continued from n <= 1e15, the residues are between 1 and 2."""
    found = zeta(case("cusp A2").energy, prior(2), table=table("cusp A2")).attrs
    assert found["low"] <= 5 / 12 <= found["high"]
    assert found["trustworthy"] or found["high"] - found["low"] > 0.02
    short = zeta(case("cusp A2").energy, prior(2), table=shortened(table("cusp A2"), 1e6)).attrs
    assert not short["trustworthy"]
    assert short["low"] <= 5 / 12 <= short["high"]
    assert short["high"] - short["low"] > 0.02


def test_the_continuation_agrees_right_of_the_pole() -> None:
    found = zeta(case("x2y4").energy, prior(2), table=table("x2y4"))
    exact = logarithmic_derivative(found.z_continued.values, RATES["x2y4"])
    right = found.z_continued.values > -0.2
    np.testing.assert_allclose(found.continued.values[right], exact[right], rtol=1e-3)


def test_a_short_table_is_refused() -> None:
    with pytest.raises(RunError, match="not enough"):
        zeta(case("x2y2").energy, prior(2), table=table("x2y2").above(10.0))
