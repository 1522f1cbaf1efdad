"""The posterior near a point w: local free energy F and local learning coefficient λ_n, at several radii and nbeta.

    F(w)   = -log [ (1/Z) ∫ exp(-nbeta K(u)) k_r(u - w) φ(u) du ]     lower is simpler
    λ_n(w) = nbeta E_local[K]     E_local weights u with exp(-nbeta K(u)) k_r(u - w) φ(u)

k_r is the normal density with standard deviation r, in units of each parameter's prior scale. K is the loss of the
population, so both numbers belong to the place w and not to a data set. λ_n is nbeta dF / d nbeta with Z left out; it
tends to the learning coefficient λ at w as nbeta r^(2k) grows, where 2k is the order of K at w (Watanabe 2009, ch. 4).
Places that the posterior does not reach have no value (nan): it has less than 10^-5 of its mass beyond them, or
less than e^-25 of its largest density there, or its draws nearby are few.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.distance import cdist

from sandbox.posterior.measure import Measure
from sandbox.tools.arrays import Array
from sandbox.tools.parallel import end_if_stopped, in_threads

Single = npt.NDArray[np.float32]

NBETA_FACTORS = (1.0, 4.0)
"""The multiples of nbeta at which places are scored: an answer should not depend on nbeta."""
RADII = (0.05, 0.1, 0.2)
"""The radii of the kernel, in prior scales: an answer should not depend on the radius."""
RESOLVED, FEWEST = 0.9, 5.0
"""Radii are enlarged until this share of the posterior's draws has this effective number of other draws nearby."""

_QUIET = 25.0
"""The largest F, above the least F of a map, that is resolved."""
_REACH = 8.0
"""The number of radii beyond which a kernel counts as 0: there it is below e^-32."""
_FINE = 2
"""The grid's points per radius; a cubic spline between them is exact to about 1e-4."""
_BEYOND, _MARGIN, _BORDER = 1e-5, 4.0, 3.0
"""The posterior mass beyond each side of the grid, the grid's margin around the rest inside the prior's bounds, and a
border for the splines, whose ends are flat; both in radii."""
_BLOCK = 64
_POINTS = 512
"""The number of points whose distances from all draws are computed together."""
_ENLARGEMENTS = 12


class Scores(NamedTuple):
    """F and λ_n of N points, shape (NBETA_FACTORS, radii, N, parts).

    Without parts the last axis has length 1. With parts, entry k leaves out part k of the posterior's draws, and one
    more entry, the last, uses all parts: so no draw counts towards its own score.
    """

    free_energy: Array
    coefficient: Array


class LocalPosterior(Protocol):
    """A map from points to their scores."""

    @property
    def radii(self) -> tuple[float, ...]:
        """The kernel's radii, in prior scales."""

    def scores(self, points: Array) -> Scores:
        """Return the scores of points (N, D), given in prior scales."""


@dataclass(frozen=True, eq=False)
class ByConvolution:
    """Scores in one or two parameters: convolutions of quadrature nodes with the kernel, on a grid, interpolated.

    `measures` are the posteriors at each of NBETA_FACTORS, by quadrature with intervals of few radii; `energies` are
    nbeta K at their nodes. `scale` and `bounds` are the prior's, (D,) and (D, 2).
    """

    measures: Sequence[Measure]
    energies: Sequence[Array]
    scale: Array
    bounds: Array
    radii: tuple[float, ...] = RADII

    def scores(self, points: Array) -> Scores:
        """Return the scores of points (N, D), in prior scales; nan beyond the map."""
        found = np.full((2, len(self.measures), len(self.radii), len(points), 1), np.nan)
        known = np.isfinite(points).all(axis=1)
        for f in range(len(self.measures)):
            for r, (axes, splines) in enumerate(self._maps[f]):
                steps = [axis[1] - axis[0] for axis in axes]
                place = [(x - axis[0]) / step for x, axis, step in zip(points[known].T, axes, steps, strict=True)]
                values = [ndimage.map_coordinates(s, place, order=3, prefilter=False, mode="mirror") for s in splines]
                beyond = [(x < 0) | (x > len(axis) - 1) for x, axis in zip(place, axes, strict=True)]
                quiet = np.any(beyond, axis=0) | ~(values[0] <= _QUIET + self._least(f, r))
                found[:, f, r, known, 0] = np.where(quiet, np.nan, values)
        return Scores(*found)

    def surface(self, axes: Sequence[Array], radius: float) -> tuple[Array, Array]:
        """Return F and λ_n at nbeta on the grid of `axes` (D arrays, in prior scales), each of the grid's shape."""
        return _surface(self.measures[0].points / self.scale, self.measures[0].weights, self.energies[0], axes, radius)

    def extent(self, r: int) -> Array:
        """Return the parameters' range (D, 2) in which the posterior is, with a margin, inside the prior's bounds."""
        axes, _ = self._values[0][r]
        ends = np.array([[axis[0], axis[-1]] for axis in axes]) * self.scale[:, None]
        return np.clip(ends, self.bounds[:, :1], self.bounds[:, 1:])

    def _least(self, f: int, r: int) -> float:
        return float(self._values[f][r][1][0].min())

    @functools.cached_property
    def _values(self) -> list[list[tuple[list[Array], tuple[Array, Array]]]]:
        """F and λ_n on a grid for each nbeta and radius, with the grid's axes."""
        works = [
            partial(self._value, measure, energies, radius)
            for measure, energies in zip(self.measures, self.energies, strict=True)
            for radius in self.radii
        ]
        found = in_threads(works)
        return [found[f : f + len(self.radii)] for f in range(0, len(found), len(self.radii))]

    def _value(self, measure: Measure, energies: Array, radius: float) -> tuple[list[Array], tuple[Array, Array]]:
        nodes, bounds = measure.points / self.scale, self.bounds / self.scale[:, None]
        axes = [_axis(values, measure.weights, side, radius) for values, side in zip(nodes.T, bounds, strict=True)]
        return axes, _surface(nodes, measure.weights, energies, axes, radius)

    @functools.cached_property
    def _maps(self) -> list[list[tuple[list[Array], list[Array]]]]:
        """The coefficients of cubic splines through `_values`, with the grid's axes."""
        return [
            [(axes, [ndimage.spline_filter(values, order=3) for values in surfaces]) for axes, surfaces in rows]
            for rows in self._values
        ]


def _axis(values: Array, weights: Array, bounds: Array, radius: float) -> Array:
    """Return the grid's points along one parameter: around the posterior's mass, inside the prior's bounds."""
    order = np.argsort(values)
    ends = values[order][np.searchsorted(np.cumsum(weights[order]), [_BEYOND, 1 - _BEYOND]).clip(max=len(order) - 1)]
    aside = radius * np.array([-1.0, 1.0])
    low, high = np.clip(ends + _MARGIN * aside, *bounds) + _BORDER * aside
    return np.linspace(low, high, 2 + math.ceil((high - low) / radius * _FINE))


def _surface(
    nodes: Array, weights: Array, energies: Array, axes: Sequence[Array], radius: float
) -> tuple[Array, Array]:
    """Return F and λ_n on the grid of `axes`, from nodes (M, D) with weights (M,) and nbeta K (M,)."""
    heavy = _sums(nodes, np.stack([weights, weights * energies], axis=1), axes, radius)
    mass = heavy[..., 0] * (math.sqrt(2 * math.pi) * radius) ** -len(axes)
    floor = mass.max() * math.exp(-(_REACH**2) / 2)
    # Below the floor both are continued as constants, so that a spline has no jump to follow.
    with np.errstate(divide="ignore", invalid="ignore"):
        coefficient = np.where(mass > floor, heavy[..., 1] / heavy[..., 0], 0.0)
    return -np.log(np.maximum(mass, floor)), coefficient


def _sums(nodes: Array, columns: Array, axes: Sequence[Array], radius: float) -> Array:
    """Return the sums over nodes of each column times exp(-distance^2 / 2 r^2), on the grid, shape (..., columns).

    The kernel is a product over the parameters, so a block of the grid is a product of matrices.
    """
    if len(axes) == 1:
        # A second parameter without extent.
        return _sums(np.column_stack([nodes, np.zeros(len(nodes))]), columns, [axes[0], np.zeros(1)], radius)[:, 0]
    found = np.zeros((len(axes[0]), len(axes[1]), columns.shape[1]))
    for i in range(0, len(axes[0]), _BLOCK):
        rows = axes[0][i : i + _BLOCK]
        end_if_stopped()
        strip = _within(nodes[:, 0], rows, radius)
        for j in range(0, len(axes[1]), _BLOCK):
            across = axes[1][j : j + _BLOCK]
            near = strip[_within(nodes[strip, 1], across, radius)]
            first, second = (
                np.exp(-(((nodes[near, d] - values[:, None]) / radius) ** 2) / 2)
                for d, values in enumerate((rows, across))
            )
            for c in range(columns.shape[1]):
                found[i : i + _BLOCK, j : j + _BLOCK, c] = (first * columns[near, c]) @ second.T
    return found


def _within(values: Array, block: Array, radius: float) -> npt.NDArray[np.intp]:
    return np.flatnonzero((values > block[0] - _REACH * radius) & (values < block[-1] + _REACH * radius))


@dataclass(frozen=True, eq=False)
class ByDraws:
    """Scores in any number of parameters, from the posterior's own draws.

    `draws` (J, D) are in prior scales. `weights` (NBETA_FACTORS, J) make them represent each posterior, `energies` (J,)
    are K there, `parts` (J,) say which independent part a draw belongs to. Points with an effective number of nearby
    draws below FEWEST have no score.
    """

    draws: Array
    weights: Array
    energies: Array
    nbeta: float
    parts: npt.NDArray[np.int64]
    radii: tuple[float, ...] = RADII

    def resolving(self) -> ByDraws:
        """Return the scores at RADII, all enlarged by the least power of sqrt(2) that resolves enough of the draws."""
        order = np.random.Generator(np.random.Philox(0)).permutation(len(self.draws))[:_POINTS]
        for k in range(_ENLARGEMENTS):
            found = dataclasses.replace(self, radii=tuple(radius * 2 ** (k / 2) for radius in RADII))
            own = found.scores(self.draws[order]).free_energy[:, 0, np.arange(len(order)), self.parts[order]]
            # The coldest posterior has the fewest effective draws; the smallest radius has the fewest nearby.
            if np.isfinite(own).mean(axis=-1).min() >= RESOLVED:
                break
        return found

    def scores(self, points: Array) -> Scores:
        """Return the scores of points (N, D), in prior scales, without each part and with all."""
        # One column per nbeta and choice of parts: all but each, then all. Leaving out by subtraction would cancel.
        chosen = np.column_stack([self.parts[:, None] != np.arange(self.parts.max() + 1), np.ones(len(self.draws))])
        mass = np.hstack([each[:, None] * chosen for each in self.weights])
        factors = np.repeat(NBETA_FACTORS, chosen.shape[1])
        energy = mass * self.nbeta * factors * self.energies[:, None]
        known = (np.hstack([mass, energy]).astype(np.float32), (mass**2).astype(np.float32), mass.sum(axis=0))
        found = np.empty((2, len(self.radii), len(points), mass.shape[1]))
        for i in range(0, len(points), _POINTS):
            exponent = (cdist(points[i : i + _POINTS], self.draws, "sqeuclidean") / -2).astype(np.float32)
            for r, radius in enumerate(self.radii):
                log_norm = -len(points.T) * math.log(math.sqrt(2 * math.pi) * radius)
                kernel = np.exp(exponent * np.float32(radius**-2))
                found[:, r, i : i + _POINTS] = _ratios(kernel, *known, log_norm)
        apiece = found.reshape(2, len(self.radii), len(points), len(self.weights), -1)
        return Scores(*np.moveaxis(apiece, 3, 1))


def _ratios(kernel: Single, linear: Single, squared: Single, share: Array, log_norm: float) -> Array:
    """Return F and λ_n, shape (2, points, columns), from the kernel (points, draws) and the draws' columns.

    `linear` are the columns of masses and then of energies, `squared` the squares of the masses, `share` their sums.
    """
    mass, energy = np.split((kernel @ linear).astype(np.float64), 2, axis=1)
    squares = kernel**2 @ squared
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.stack([-np.log(mass / share) - log_norm, energy / mass])
        # Squares that single precision cannot hold are those of draws at least 9 radii away.
        enough = (squares > np.finfo(np.float32).tiny) & (mass**2 >= FEWEST * squares)
    found[:, ~enough] = np.nan
    return found
