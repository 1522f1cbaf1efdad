"""Losses with known λ and m, shared by the tests of measurements."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from sandbox.measurements.loss.thermodynamics import Thermodynamics, thermodynamics
from sandbox.model.prior import Distribution, Prior
from sandbox.tools.arrays import Array


def prior(dimension: int, text: str = "uniform(-1, 1)") -> Prior:
    return Prior(tuple(f"w{k + 1}" for k in range(dimension)), (Distribution.parse(text),) * dimension)


@dataclass(frozen=True)
class Case:
    """K in two parameters x, y on [-1, 1]^2, with λ, m, and their source."""

    name: str
    energy: Callable[[Array], Array]
    learning_coefficient: Fraction
    multiplicity: int
    source: str


def _plane(f: Callable[[Array, Array], Array]) -> Callable[[Array], Array]:
    return lambda points: f(points[:, 0], points[:, 1])


WATANABE = "normal crossing: min (h + 1) / 2k and how often it is attained; Watanabe 2009, section 2.4 and theorem 6.6"
COXETER = "K = f^2, f simple: λ = 1/4 + 1/(2h), h the Coxeter number; lct(f) = 1/2 + 1/h, Arnold et al. 1988, II.13"
WEIGHTS = "quasi-homogeneous: sum of the weights of K, of degree 1; Watanabe 2009, remark 2.14"

CASES = (
    Case("x2y2", _plane(lambda x, y: x**2 * y**2), Fraction(1, 2), 2, WATANABE),
    Case("x2y4", _plane(lambda x, y: x**2 * y**4), Fraction(1, 4), 1, WATANABE),
    Case("x4y4", _plane(lambda x, y: x**4 * y**4), Fraction(1, 4), 2, WATANABE),
    Case(
        "A1",
        _plane(lambda x, y: (x * x - y * y) ** 2),
        Fraction(1, 2),
        2,
        "x^2 - y^2 is a crossing turned by 45 degrees",
    ),
    Case("cusp A2", _plane(lambda x, y: (x * x - y**3) ** 2), Fraction(5, 12), 1, COXETER),
    Case("A3", _plane(lambda x, y: (x * x + y**4) ** 2), Fraction(3, 8), 1, COXETER),
    Case("A3 real", _plane(lambda x, y: (x * x - y**4) ** 2), Fraction(3, 8), 1, COXETER),
    Case("D4", _plane(lambda x, y: (x * x * y - y**3) ** 2), Fraction(1, 3), 1, COXETER),
    Case("E6", _plane(lambda x, y: (x**3 + y**4) ** 2), Fraction(7, 24), 1, COXETER),
    Case("E8", _plane(lambda x, y: (x**3 + y**5) ** 2), Fraction(4, 15), 1, COXETER),
    Case(
        "curve",
        _plane(lambda x, y: (y - x * x) ** 2),
        Fraction(1, 2),
        1,
        "W0 smooth of codimension 1, Hessian of rank 1",
    ),
    Case(
        "A4 bent",
        _plane(lambda x, y: ((y - x * x) ** 2 - x**5) ** 2),
        Fraction(7, 20),
        1,
        "A4 in z = y - x^2: Coxeter number 5",
    ),
    Case("x2+y4", _plane(lambda x, y: x**2 + y**4), Fraction(3, 4), 1, WEIGHTS),
    Case("r4", _plane(lambda x, y: (x * x + y * y) ** 2), Fraction(1, 2), 1, WEIGHTS),
    Case(
        "bent crossing",
        _plane(lambda x, y: ((y - x * x) * (y - 0.3)) ** 2),
        Fraction(1, 2),
        2,
        "two smooth curves that cross away from the axes",
    ),
)


def case(name: str) -> Case:
    return next(c for c in CASES if c.name == name)


def crossing_volume(level: float, rates: tuple[float, ...]) -> float:
    """Return V(e) on [-1, 1]^d exactly, for -log K a sum of independent exponentials of these rates, all equal
    or two: K = prod w_j^(2 k_j), rate 1 / (2 k_j)."""
    t = -np.log(level)
    if len(set(rates)) == 1:
        terms = np.cumprod([1.0, *(rates[0] * t / i for i in range(1, len(rates)))])
        return float(np.exp(-rates[0] * t) * terms.sum())
    one, two = rates
    return float((two * np.exp(-one * t) - one * np.exp(-two * t)) / (two - one))


@functools.cache
def table(name: str) -> Thermodynamics:
    """Return the evidence of a case over 18 decades; some seconds each."""
    return thermodynamics(case(name).energy, prior(2))
