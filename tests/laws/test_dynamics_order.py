"""The order in the step of the samplers' errors, and the time that particles stay in a degenerate or a regular well.

The real kernels; moments to |z| < 4 (false alarm 6e-5), orders and times to 4 errors; fixed seeds.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from scipy import integrate
from support.checks import Z_LIMIT, moved, prior_of, rule_of

from sandbox.compiled import random_numbers
from sandbox.dynamics import kernel
from sandbox.dynamics.gradients.full import Full
from sandbox.dynamics.rules.langevin import Langevin, LeimkuhlerMatthews
from sandbox.dynamics.rules.mala import Mala
from sandbox.dynamics.rules.underdamped import Underdamped
from sandbox.measurements.particles.passage import Passage
from sandbox.measurements.tracks import Track
from sandbox.model.regression import potential
from sandbox.scenario.scenario import loads

# Weak order, on a potential that is not quadratic: the bias of E cos 2w at stationarity.

COUNT = 2_000_000
WAVY = potential(("w",), "w**2 / 2 + cos(2*w) / 2")
WIDE = prior_of(w="uniform(-9, 9)")
GRID = np.linspace(-9, 9, 200_001)
BELOW = integrate.cumulative_simpson(np.exp(-(GRID**2) / 2 - np.cos(2 * GRID) / 2), x=GRID, initial=0)
EXACT = float(integrate.simpson(np.gradient(BELOW, GRID) * np.cos(2 * GRID), x=GRID)) / BELOW[-1]


@functools.cache
def bias(kind, h, steps):
    """Return E cos 2w less its exact value after steps of size h from the law itself, and its standard error."""
    start = np.interp((np.arange(COUNT) + 0.5) / COUNT * BELOW[-1], BELOW, GRID)
    end = moved(WAVY, rule_of(kind, step_size=h), Full(), start[:, None], (0, steps), WIDE, nbeta=1.0)
    values = np.cos(2 * end[:, 0])
    return values.mean() - EXACT, values.std() / math.sqrt(COUNT)


def check_order(kind, h, time, order):
    """Halving h divides the bias by 2^order, to 4 errors and a third, as the next order is not zero."""
    (coarse, its_error), (fine, error) = (bias(kind, h / k, round(k * time / h)) for k in (1, 2))
    assert abs(fine) > 4 * error
    spread = math.hypot(its_error / coarse, error / fine) / math.log(2)
    assert abs(math.log2(coarse / fine) - order) < 4 * spread / 2 + 1 / 3


@pytest.mark.parametrize(
    ("kind", "h", "time", "order"), [(Langevin, 0.16, 6, 1), (LeimkuhlerMatthews, 0.5, 6, 2), (Underdamped, 0.7, 15, 2)]
)
def test_samplers_have_their_weak_order(kind, h, time, order):
    """Leimkuhler and Matthews 2013: averaged noise and BAOAB have second order, ULA first."""
    check_order(kind, h, time, order)
    with pytest.raises(AssertionError):
        check_order(kind, h, time, 3 - order)


def test_judged_steps_have_no_bias():
    value, error = bias(Mala, 0.4, 15)
    assert abs(value) < Z_LIMIT * error
    value, error = bias(Langevin, 0.16, 38)
    assert abs(value) > 50 * error


# Passage from a degenerate well to a regular one and back, K = (w + 1)^4 (w - 1)^2 (Corlouer and Mace 2024).

WELLS = """
question: How long in which well?
parameters: {w: "uniform(-4, 4)"}
loss: {potential: (w + 1)**4 * (w - 1)**2}
nbeta: 2
tube: 0.2
strata: {flat: {zero: [w + 1]}, sharp: {zero: [w - 1]}}
measurements: {volume: {}}
"""
NBETA = 2.0


def passage_time(begin, end):
    """Return (1/T) int_begin^end e^{U(y)/T} int_{-inf}^y e^{-U(z)/T}, left to right or mirrored; U = K, T = 1/2."""
    side = 1.0 if end > begin else -1.0
    x = np.linspace(-4.0, side * end, 400_001)
    height = NBETA * (side * x + 1) ** 4 * (side * x - 1) ** 2
    below = integrate.cumulative_simpson(np.exp(-height), x=x, initial=0)
    inside = x >= side * begin - 1e-12
    return NBETA * float(integrate.simpson(np.exp(height[inside]) * below[inside], x=x[inside]))


@functools.cache
def passages_found(h=0.005, every=2, frames=15_000, particles=400):
    """Return the passages of averaged Langevin steps of length h in time, from 200 particles at each minimum."""
    scenario = loads(WELLS, "wells.yaml")
    rule = rule_of(LeimkuhlerMatthews, step_size=h / NBETA)
    built = kernel.build(scenario.problem.loss, scenario.problem.prior, rule, Full(), nbeta=NBETA)
    blocks, key = built.pack(np.repeat([[-1.0], [1.0]], particles // 2, axis=0)), random_numbers.key(3, "law")
    found = np.empty((frames, particles, 1))
    for k in range(frames):
        found[k] = built.unpack(blocks, particles)
        built.advance(blocks, (0, len(blocks)), (k * every, (k + 1) * every), frames * every, key)
    times = h * every * np.arange(frames, dtype=float)
    tracks = {"langevin": Track(found, times), "posterior": Track(found[-1:])}
    return Passage().measure_particles(scenario.problem, tracks).sel(source="langevin")


def check_stay(origin, goal, shortest, longest):
    """Assert that the mean is between these, to 4 errors and the gap between frames."""
    row = passages_found().sel(departure=origin, destination=goal)
    slack = Z_LIMIT * float(row["mean_error"])
    assert float(row["mean_error"]) < 0.05 * longest
    assert float(row["mean_low"]) - slack < longest
    assert shortest < float(row["mean_high"]) + slack


def test_passages_out_of_either_well_take_the_time_of_their_integral():
    """A passage begins at the tube's edge or, the first time, at the minimum: its time is between those of the two.

    A path seen every 0.01 ends as it would with the goal's edge 0.5826 sqrt(2 T 0.01) further in (Siegmund
    1985).
    """
    edge = 0.8 + 0.5826 * math.sqrt(2 / NBETA * 0.01)
    times = {
        ("flat", "sharp"): (passage_time(-0.8, edge), passage_time(-1.0, edge)),
        ("sharp", "flat"): (passage_time(0.8, -edge), passage_time(1.0, -edge)),
    }
    for (origin, goal), (shortest, longest) in times.items():
        assert shortest < longest < 1.1 * shortest
        check_stay(origin, goal, shortest, longest)
        for factor in (0.75, 1.3):
            with pytest.raises(AssertionError):
                check_stay(origin, goal, factor * shortest, factor * longest)


def test_passage_integrals_tend_to_the_ratio_of_the_wells_masses(monkeypatch):
    """T -> 0: tau(flat -> sharp) / tau(sharp -> flat) = Z_flat / Z_sharp, which grows like T^(1/4 - 1/2)."""
    ratios = []
    for nbeta in (20.0, 80.0):
        monkeypatch.setitem(globals(), "NBETA", nbeta)
        w = np.linspace(-3, 3, 400_001)
        mass = np.exp(-nbeta * (w + 1) ** 4 * (w - 1) ** 2)
        flat, sharp = (float(integrate.simpson(mass[side], x=w[side])) for side in (w <= 1 / 3, w >= 1 / 3))
        ratios.append(passage_time(-1.0, 1.0) / passage_time(1.0, -1.0))
        assert ratios[-1] == pytest.approx(flat / sharp, rel=1e-3)
    assert math.log(ratios[1] / ratios[0]) / math.log(4) == pytest.approx(0.25, abs=0.03)
