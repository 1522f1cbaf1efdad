"""λ and m from the zeta function: ζ(z) = int K^z φ has its largest pole at -λ, of order m (Watanabe 2009, section 6.1).

ζ'/ζ has a simple pole there with the residue -m, so m is measured too. To the right of the pole, ζ is the Mellin
transform of the evidence. The quadrature gives the evidence over many decades of n:

    Gamma(1 - z) ζ(z) = - int_0^inf n^-z (dZ / dn) dn = int exp(-z x) Z E[n K] dx,  x = log n,  -λ < Re z < 1.

A rational function through values on a line and along the real axis continues ζ'/ζ to the left (AAA: Nakatsukasa,
Sete, Trefethen 2018, 1612.00337). Continuation magnifies errors. So it is repeated from several distances to the pole
and to several tolerances; λ is trusted as far as the continuations agree and their residues are whole numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import scipy
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import special

from sandbox.measurements.base import with_theory
from sandbox.measurements.loss.splitting import Energy
from sandbox.measurements.loss.thermodynamics import SMALL_N, OverSizes, Thermodynamics, thermodynamics
from sandbox.model.labelled import labelled
from sandbox.model.problem import Problem
from sandbox.posterior.quadrature.posteriors import Prior
from sandbox.tools.errors import RunError

if TYPE_CHECKING:
    from scipy.interpolate import AAA

Complex = NDArray[np.complex128]

FEWEST = 12
"""The least number of sizes n that the transform needs."""

MARGINS = (7.0, 8.5, 10.0, 12.0, 14.0)
"""Distances from the pole to the values, times log n: a part exp(-margin) of the integral is beyond the largest n."""

TOLERANCES = (1e-5, 3e-6, 1e-6)
"""Relative tolerances of the rational function at the values; the transform is accurate to about 1e-6."""

_RIGHT = 0.9  # the largest real z: at 1 the factor Gamma(1 - z) has a pole of its own
_HEIGHT = 1.5  # largest imaginary part on the line of complex z
_REAL, _UPRIGHT = 40, 25  # values along the real axis, and on each half of the line
_PER_PIECE = 12  # Gauss nodes between two sizes n
_ON_AXIS = 0.05  # imaginary part below which a pole counts as real
_LEAST_RESIDUE = 0.3  # a pole with a smaller residue comes from the fit, not from the function
_WHOLE = 0.05  # tolerated deviation of a residue from a whole number
_TRUSTED = 0.1  # mean deviation below which the answer is called trustworthy
_BASE = 0.01  # least weight of a continuation: if its residue is not a whole number
_SAFETY = 2.0  # half the 95% interval, in units of the standard deviation of the continuations


@dataclass(frozen=True)
class Pole:
    """The largest pole of one continuation: λ, the residue's modulus m, and the continuation's margin and tolerance."""

    learning_coefficient: float
    residue: float
    margin: float
    tolerance: float


class Transform:
    """A function that computes ζ'/ζ at complex z, right of the pole, from a table of the evidence."""

    def __init__(self, table: Thermodynamics):
        self._table, x = table, table.log_n
        # log Z and two derivatives at each size give an interpolation of sixth order between the sizes
        log_z = scipy.interpolate.BPoly.from_derivatives(
            x, np.column_stack([table.log_evidence, -table.heat, -table.bend])
        )
        nodes, weights = np.polynomial.legendre.leggauss(_PER_PIECE)
        half = 0.5 * np.diff(x)
        self._x = (x[:-1, None] + half[:, None] * (1.0 + nodes)).ravel()
        self._mass = (half[:, None] * weights).ravel() * -log_z.derivative()(self._x) * np.exp(log_z(self._x))

    def __call__(self, z: Complex) -> Complex:
        """Return ζ'/ζ at z (Z,), shape (Z,)."""
        kernel = np.exp(-np.outer(z, self._x)) * self._mass
        whole, slope = kernel.sum(axis=1), -(kernel * self._x).sum(axis=1)
        for part in (self._below(z), self._beyond(z)):
            whole, slope = whole + part[0], slope + part[1]
        return np.asarray(slope / whole + special.digamma(1.0 - z))

    def _below(self, z: Complex) -> tuple[Complex, Complex]:
        """Return the integral's part below the smallest n and its derivative: there Z E[n K] = n E K - n^2 E K^2."""
        n = float(self._table.n[0])
        first = float(self._table.heat[0] + self._table.variance[0]) / n
        second = float(self._table.variance[0]) / n**2 + first**2
        whole, slope = np.zeros_like(z), np.zeros_like(z)
        for power, moment in ((1, first), (2, -second)):
            term = moment * n ** (power - z) / (power - z)
            whole, slope = whole + term, slope + term * (1.0 / (power - z) - np.log(n))
        return whole, slope

    def _beyond(self, z: Complex) -> tuple[Complex, Complex]:
        """Return the integral's part beyond the largest n, and its derivative, to second order in E[n K]'s slope."""
        x, heat, bend = float(self._table.log_n[-1]), float(self._table.heat[-1]), float(self._table.bend[-1])
        gap = z + heat
        scale = np.exp(self._table.log_evidence[-1] - z * x)
        whole = scale * (heat / gap + bend / gap**2 - heat * bend / gap**3)
        slope = scale * (-heat / gap**2 - 2.0 * bend / gap**3 + 3.0 * heat * bend / gap**4)
        return whole, slope - x * whole


def zeta(
    energy: Energy,
    prior: Prior,
    *,
    n: ArrayLike | None = None,
    cuts: Sequence[ArrayLike] = (),
    table: Thermodynamics | None = None,
) -> xr.Dataset:
    """Return λ and m from the largest pole of the zeta function, for one to three parameters.

    energy: points (N, D) -> K >= 0, (N,). n: sizes of the table, rising from far below 1 (by default 1e-3 to 1e15).
    table: the result of `thermodynamics`, if it has been computed. cuts: as for `posterior`.

    The Dataset has `log_derivative`, ζ'/ζ over `z` (real, right of the pole); `continued`, the best continuation over
    `z_continued` (left and right of the pole); and, over `continuation`, its `pole` (λ), `residue` (m), `margin`,
    `tolerance`, `weight`. Attributes: `estimate`; `low`, `high` (twice the spread of the continuations, weighted by
    how near to whole numbers their residues are); `multiplicity`, `residue`, `trustworthy` (1 or 0), `note` (why).
    Raises InputError as `posterior` does; RunError if the table is too short or no continuation has a real pole.
    """
    table = thermodynamics(energy, prior, n, cuts=cuts) if table is None else table
    if len(table.n) < FEWEST or table.n[0] > SMALL_N[0] * 10:
        raise RunError(f"{len(table.n)} sizes n from {table.n[:1]} are not enough; stopped {table.stopped}")
    transform = Transform(table)
    poles, fits = [], []
    for margin in MARGINS:
        values, start = _samples(table, margin)
        seen = transform(values)
        for tolerance in TOLERANCES:
            # No clean-up of poles without residue: `_largest` ignores them, and the clean-up loads all of scipy.stats.
            rational = scipy.interpolate.AAA(values, seen, rtol=tolerance, clean_up=False)
            pole = _largest(rational, start, margin, tolerance)
            if pole is not None:
                poles.append(pole)
                fits.append(rational)
    if not poles:
        raise RunError("no continuation of the zeta function has a pole on the real axis")
    return _record(table, transform, poles, fits)


def _samples(table: Thermodynamics, margin: float) -> tuple[Complex, float]:
    """Return the complex z (Z,) at which values are taken, and their least real part."""
    start = float(margin / table.log_n[-1] - table.heat[-1])
    real = start + np.geomspace(0.01, _RIGHT - start + 0.01, _REAL) - 0.01
    up = 1j * np.linspace(_HEIGHT / _UPRIGHT, _HEIGHT, _UPRIGHT)
    return np.concatenate([real.astype(np.complex128), start + up, start - up]), start


def _largest(rational: AAA, start: float, margin: float, tolerance: float) -> Pole | None:
    poles, residues = rational.poles(), rational.residues()
    real = (np.abs(poles.imag) < _ON_AXIS) & (poles.real < start) & (residues.real < -_LEAST_RESIDUE)
    if not real.any():
        return None
    k = np.flatnonzero(real)[np.argmax(poles.real[real])]
    return Pole(-float(poles[k].real), -float(residues[k].real), margin, tolerance)


def _record(table: Thermodynamics, transform: Transform, poles: list[Pole], fits: list[AAA]) -> xr.Dataset:
    values, residues = np.array([p.learning_coefficient for p in poles]), np.array([p.residue for p in poles])
    off = residues - np.maximum(np.round(residues), 1.0)
    weights = np.exp(-0.5 * (off / _WHOLE) ** 2) + _BASE
    weights = weights / weights.sum()
    estimate, residue = float(weights @ values), float(weights @ residues)
    error = float(np.sqrt(weights @ (values - estimate) ** 2))
    deviation = float(weights @ np.abs(off))
    whole = deviation < _TRUSTED
    if not whole:
        # The continuations did not tell neighbouring poles apart: λ may be anywhere among them.
        error = float(np.ptp(values))
    multiplicity = max(round(residue), 1)
    best = fits[int(np.argmax(weights))]
    right = np.linspace(_samples(table, MARGINS[0])[1], _RIGHT, 60)
    left = np.linspace(-2.0 * estimate, _RIGHT, 241)
    data = {
        "log_derivative": labelled("z", transform(right.astype(np.complex128)).real, "ζ'/ζ by quadrature"),
        "continued": labelled("z_continued", best(left.astype(np.complex128)).real, "ζ'/ζ continued"),
        "pole": labelled("continuation", values, "λ: minus the largest pole"),
        "residue": labelled("continuation", residues, "m: minus the residue there"),
        "margin": labelled("continuation", np.array([p.margin for p in poles]), "distance to the pole times log n"),
        "tolerance": labelled("continuation", np.array([p.tolerance for p in poles]), "rational function's tolerance"),
        "weight": labelled("continuation", weights, "weight in the mean"),
    }
    note = "residues are whole numbers" if whole else "residues are no whole numbers: poles lie too close to tell apart"
    attrs = {
        "method": "zeta",
        "estimate": estimate,
        "low": max(estimate - _SAFETY * error, 0.0),
        "high": estimate + _SAFETY * error,
        "standard_error": error,
        "multiplicity": multiplicity,
        "residue": residue,
        "residue_deviation": deviation,
        "trustworthy": int(whole),
        "note": note,
        "stopped": table.stopped,
    }
    return xr.Dataset(
        data,
        {
            "z": labelled("z", right, "argument of ζ"),
            "z_continued": labelled("z_continued", left, "argument of the continued ζ"),
        },
        attrs,
    )


class Zeta(OverSizes):
    """ζ(z) = int K^z φ, continued to its largest pole, which is at -λ and has order m."""

    name: ClassVar[str] = "zeta"

    def measure(self, problem: Problem) -> xr.Dataset:
        """Return the record of `zeta`."""
        found = zeta(problem.population_loss.excess, problem.prior, table=self.table(problem))
        return with_theory(found, problem, "the largest pole of ζ(z)")
