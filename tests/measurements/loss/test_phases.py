"""The posterior's share of each stratum over n, compared with direct integration."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate
from support.checks import check_close, prior_of

from sandbox.expressions.parsing import parse
from sandbox.measurements.loss.phases import phases
from sandbox.model.regression import potential
from sandbox.model.strata import Stratum, ZeroSet
from sandbox.posterior.method import Quadrature
from sandbox.posterior.sampling.smc import Smc

PRIOR = prior_of(w="uniform(-2, 1.5)")
WELLS = "1/50 + (w + 1)**4 * ((w - 1)**2 / 16 + (w - 1) / 400 - 1/800)"
SAMPLES = (3, 30, 100, 300, 1000)


def by_quadrature(samples):
    """Return the phases of the wells, integrated."""
    loss = potential(("w",), WELLS)
    return phases(Quadrature(loss.excess, PRIOR, wells().cuts(), 1e-3), loss, wells(), samples)


def wells(names=("w",)):
    regular, flat = (Stratum(n, (parse(e, names),)) for n, e in (("regular", "w - 1"), ("flat", "w + 1")))
    return ZeroSet(names, (regular, flat), 0.7)


def direct(n):
    """Return the masses of (0.3, 1.5) and (-1.7, -0.3) by quadrature of our own."""

    def weight(w):
        return np.exp(-n * (1 / 50 + (w + 1) ** 4 * ((w - 1) ** 2 / 16 + (w - 1) / 400 - 1 / 800)))

    def part(low, high):
        return sum(
            integrate.quad(weight, a, b, epsabs=0, epsrel=1e-10)[0]
            for a, b in zip(np.linspace(low, high, 41)[:-1], np.linspace(low, high, 41)[1:], strict=True)
        )

    return np.array([part(0.3, 1.5), part(-1.7, -0.3)]) / part(-2.0, 1.5)


def test_shares_are_those_of_direct_integration():
    found = by_quadrature(SAMPLES)
    truth = np.array([direct(n) for n in SAMPLES])
    assert found["converged"].all()
    check_close(found["share"].to_numpy()[:, :2], truth, 1.0, 2e-3)
    with pytest.raises(AssertionError):
        check_close(found["share"].to_numpy()[:, :2], truth[::-1], 1.0, 2e-3)


def test_it_says_where_one_phase_gives_way_to_another():
    """The flat, wrong well leads at first; at the n of equal shares, direct integration agrees to 10%."""
    found = by_quadrature((3, *np.geomspace(20, 300, 12)))
    said = found.attrs["summary"]
    assert said.startswith("flat leads at n = 3; regular takes over near n = ")
    level = float(said.split("; ")[1].rpartition(" ")[2])
    # Of two wells with all of the mass, the flat one has 1 less the share of the regular one.
    told = said.partition("of the mass in the tubes at n = ")[2].partition(": ")[2].split("; ")
    held = {part.split(" ", 1)[0]: [float(v) for v in part.split(" ", 1)[1].split(", ")] for part in told}
    assert set(held) == {"flat", "regular"}
    np.testing.assert_allclose(np.add(held["flat"], held["regular"]), 1.0, atol=1.1e-3)
    np.testing.assert_allclose(held["flat"][0], direct(3)[1] / sum(direct(3)), atol=2e-3)
    grid = np.geomspace(0.9 * level, 1.1 * level, 3)
    signs = [np.sign(np.subtract(*direct(n))) for n in grid]
    assert (signs[0], signs[-1]) == (-1, 1)


def test_beyond_three_parameters_shares_are_sampled():
    """Three further parameters, which only the prior holds, change no share."""
    names = ("w", "p", "q", "r")
    prior = prior_of(w="uniform(-2, 1.5)", **dict.fromkeys(names[1:], "normal(0, 1)"))
    loss = potential(names, WELLS)
    witness = Smc(loss.excess, loss.gradient, prior, seed=0, particles=256)
    found = phases(witness, loss, wells(names), (30, 300))
    truth = np.array([direct(n) for n in (30, 300)])
    error = found["share_error"].to_numpy()[:, None]
    assert (error < 0.05).all()
    # Errors are half-widths of 95% intervals of a t with 7 degrees of freedom: three times that fails once in 5,000.
    assert (np.abs(found["share"].to_numpy()[:, :2] - truth) < 3 * error).all()
