"""Moments of intervals: the integrals of x^k, or of data columns, over a data set or a density between two kinks.

A measure is a data set with weights (prefix sums over its sorted inputs) or a density (closed forms). Both return the
point at which a line changes sign, in their own coordinate (a rank, or x itself), and the moments between two such
bounds. The mean of an expression by pieces is a sum over the intervals between its kinks, linear in their moments.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy
from scipy import special

from sandbox.expressions.calculus import gradient
from sandbox.expressions.evaluation import numpy_function
from sandbox.expressions.functions import Absolute, Sign
from sandbox.expressions.pieces import Pieces
from sandbox.model.prior import Distribution
from sandbox.tools.arrays import Array

Bounds = npt.NDArray[Any]
Evaluate = Callable[..., list[Array]]

REACH = 1e3
"""The distance from the centre, in scales, beyond which normal and Laplace densities are zero in floating point."""

_CHUNK = 1024
"""The most points evaluated at once: their arrays stay in the cache."""

_NARROW = 0.5
_NODES, _WEIGHTS = special.roots_legendre(12)
"""Gauss's rule for intervals below half a scale: a difference of closed forms would leave 1e-16 at any width.
It is exact there to rounding; for uniform inputs 12 nodes are exact up to degree 23."""


@dataclass(frozen=True)
class PrefixSums:
    """A data set: sorted inputs, shape (n,), and prefix sums of C weighted columns, shape (n + 1, C).

    The sums are `high + low`; `low` holds the rounding errors of `high`. So the moments of a short interval are as
    accurate as a direct sum.
    """

    inputs: Array
    high: Array
    low: Array

    @classmethod
    def of(cls, inputs: Array, columns: Sequence[Array], weights: Array) -> PrefixSums:
        """Return the prefix sums of `columns` (each of shape (n,)) times `weights` in the order of `inputs`."""
        order = np.argsort(inputs, kind="stable")
        terms = np.stack([column * weights for column in columns], axis=1)[order]
        sums = np.concatenate([np.zeros((1, len(columns))), np.cumsum(terms, axis=0)])
        # The rounding error of each addition (Knuth, The Art of Computer Programming 2, 4.2.2, theorem B).
        before, after = sums[:-1], sums[1:]
        added = after - before
        errors = (before - (after - added)) + (terms - added)
        low = np.concatenate([np.zeros((1, len(columns))), np.cumsum(errors, axis=0)])
        return cls(inputs[order], sums, low)

    @property
    def support(self) -> tuple[int, int]:
        """The first and the last bound."""
        return 0, len(self.inputs)

    def bounds(self, slopes: Array, offsets: Array) -> Bounds:
        """Return the number of inputs below the change of sign of each line, in the shape of `slopes`.

        It counts the computed signs at the inputs. Rounding keeps them monotone, so each input is on the side on which
        evaluating the line puts it.
        """
        last = len(self.inputs) - 1
        with np.errstate(all="ignore"):
            guess = np.searchsorted(self.inputs, -offsets / slopes)
        fits = (guess == 0) | self._is_below(slopes, offsets, np.maximum(guess - 1, 0))
        fits &= (guess > last) | ~self._is_below(slopes, offsets, np.minimum(guess, last))
        if not fits.all():
            guess[~fits] = self._bisected(slopes[~fits], offsets[~fits])
        return guess

    def _is_below(self, slopes: Array, offsets: Array, rank: Bounds) -> npt.NDArray[np.bool_]:
        """Return whether the input of each rank lies below the change of sign."""
        with np.errstate(all="ignore"):
            return np.asarray((slopes * self.inputs[rank] + offsets > 0) != (slopes >= 0))

    def _bisected(self, slopes: Array, offsets: Array) -> Bounds:
        bounds = np.zeros(slopes.shape, dtype=np.int64)
        length = len(self.inputs)
        while length > 0:
            half = (length + 1) // 2
            bounds += half * self._is_below(slopes, offsets, bounds + half - 1)
            length -= half
        return bounds

    def between(self, edges: Bounds) -> Array:
        """Return the C weighted sums over ranks from edges[i] up to edges[i + 1], shape (C, edges - 1, ...)."""
        high, low = (np.take(sums, edges, axis=1) for sums in self._by_column)
        return (high[:, 1:] - high[:, :-1]) + (low[:, 1:] - low[:, :-1])

    @functools.cached_property
    def _by_column(self) -> tuple[Array, Array]:
        return np.ascontiguousarray(self.high.T), np.ascontiguousarray(self.low.T)


@dataclass(frozen=True)
class Density:
    """A distribution with a density, and the degrees k of its moments of x^k."""

    distribution: Distribution
    degrees: tuple[int, ...]

    @property
    def support(self) -> tuple[float, float]:
        """The first and the last bound: the support, cut at the points beyond which an unbounded density is zero."""
        centre, reach = self.distribution.centre, REACH * self.distribution.scale
        return max(self.distribution.low, centre - reach), min(self.distribution.high, centre + reach)

    def bounds(self, slopes: Array, offsets: Array) -> Bounds:
        """Return the zero of each line, clipped to the support, in the shape of `slopes`."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            crossing = np.where(slopes == 0, np.where(offsets > 0, -np.inf, np.inf), -offsets / slopes)
        return np.clip(crossing, *self.support)

    def between(self, edges: Bounds) -> Array:
        """Return E[x^k; edges[i] < x < edges[i + 1]] for each degree k, shape (C, edges - 1, ...)."""
        values = np.diff(np.stack(self._primitives(edges)), axis=1) / self.mass
        start, width = edges[:-1], np.diff(edges, axis=0)
        narrow = (width > 0) & (width < _NARROW * self.distribution.scale)
        half = width[narrow] / 2
        x = start[narrow] + half * (1 + _NODES[:, None])
        mass = half * _WEIGHTS[:, None] * self.at(x)
        values[:, narrow] = (mass * self.powers(x)).sum(axis=1)
        return values

    def at(self, x: Array) -> Array:
        """Return the density at x (any shape)."""
        return np.exp(self.distribution.log_density(x))

    def powers(self, x: Array) -> Array:
        """Return x^k for each degree k, shape (C, ...)."""
        return np.stack([x**k for k in self.degrees])

    @functools.cached_property
    def mass(self) -> float:
        """The mass of the untruncated density inside the support."""
        (whole,) = cumulative(self.distribution.family, _T, self.distribution.arguments, [0])
        low, high = (float(whole.xreplace({_T: sympy.Float(end)})) for end in self.support)
        return high - low

    @functools.cached_property
    def _primitives(self) -> Any:
        return numpy_function([_T], cumulative(self.distribution.family, _T, self.distribution.arguments, self.degrees))


Measure = PrefixSums | Density

_T = sympy.Symbol("_t", real=True)


def cumulative(family: str, x: Any, arguments: Sequence[Any], degrees: Sequence[int]) -> list[Any]:
    """Return a primitive of y^k times the family's untruncated density at `x` for each degree k, as expressions.

    Let z be the standard variable. For normals, I_k = (k - 1) I_{k-2} - z^{k-1} phi(z) by parts; for Laplace densities,
    the incomplete gamma function of whole order, k! (1 - exp(-|z|) sum_{j<=k} |z|^j / j!) / 2 on each side.
    """
    if family == "uniform":
        low, high = arguments
        return [x ** (k + 1) / ((k + 1) * (high - low)) for k in degrees]
    location, scale = arguments
    z = (x - location) / scale
    standard = {"normal": _normal, "laplace": _laplace}[family](z, max(degrees))
    return [
        sum((math.comb(k, j) * location ** (k - j) * scale**j * standard[j] for j in range(k + 1)), sympy.S.Zero)
        for k in degrees
    ]


def _normal(z: Any, degree: int) -> list[Any]:
    density = sympy.exp(-(z**2) / 2) / sympy.sqrt(2 * sympy.pi)
    primitives = [sympy.erf(z / sympy.sqrt(2)) / 2, -density]
    for k in range(2, degree + 1):
        primitives.append((k - 1) * primitives[k - 2] - z ** (k - 1) * density)
    return primitives


def _laplace(z: Any, degree: int) -> list[Any]:
    size, side = Absolute(z), Sign(z)
    primitives = []
    for k in range(degree + 1):
        series = sum((size**j / math.factorial(j) for j in range(k + 1)), sympy.S.Zero)
        inside = math.factorial(k) * (1 - sympy.exp(-size) * series) / 2
        primitives.append(inside * side if k % 2 == 0 else inside)
    return primitives


def intervals(measure: Measure, slopes: Array, offsets: Array) -> tuple[Array, Array]:
    """Return the moments of the intervals between the zeros of m lines, and each line's step on the intervals.

    `slopes` and `offsets` have shape (m, N), the moments (C, m + 1, N), and the steps (m, m + 1, N). A kink of the
    density is a bound too, which adds an interval. Intervals may be empty.
    """
    bounds = measure.bounds(slopes, offsets)
    first, last = measure.support
    kinks = measure.distribution.kinks if isinstance(measure, Density) else ()
    fixed = np.array([first, *kinks, last])[:, None] + np.zeros_like(bounds[:1])
    edges = np.sort(np.concatenate([fixed, bounds]), axis=0)
    return measure.between(edges), _steps(edges[:-1], bounds[:, None], slopes[:, None])


def _steps(x: Bounds, bounds: Bounds, slopes: Array) -> Array:
    """Return 1.0 where a line is positive just above `x`: above a rising line's bound, below any other line's bound."""
    positive: Array = ((x >= bounds) == (slopes >= 0)).astype(np.float64)
    return positive


@dataclass(frozen=True)
class PiecewiseMean:
    """A function that returns means of expressions: sums over the intervals, from their moments and steps."""

    symbols: tuple[Any, ...]
    pieces: Pieces
    measure: Measure

    def __call__(self, evaluate: Evaluate, points: Array) -> list[Array]:
        """Return the sums over the intervals of the results of `evaluate` (parameters, moments, steps), each (N,)."""
        parts = []
        for k in range(0, len(points) or 1, _CHUNK):
            w = points[k : k + _CHUNK].T
            moments, steps = intervals(self.measure, *self._lines(w))
            parts.append([values.sum(axis=0) for values in evaluate(*w, *moments, *steps)])
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def motion(self, slope: Evaluate, points: Array) -> Array:
        """Return the term that the kinks' motion adds to the Hessian of a density's mean, (N, D, D), at points (N, D).

        `slope` is the integrand's gradient. By Leibniz's rule an end t(w) of intervals adds (g- - g+) p(t) dt/dw; g-
        and g+ are the gradients below and above t, p is the density, and t is the zero of slope t + offset. The terms
        vanish where the model is true. Raises TypeError for a data set.
        """
        measure = self.measure
        if not isinstance(measure, Density):
            raise TypeError("a data set's mean has no second derivative where a kink passes a sample")
        w, (low, high) = points.T, measure.support
        slopes, offsets = self._lines(w)
        bounds = measure.bounds(slopes, offsets)
        result = np.zeros((len(points), len(w), len(w)))
        for i, t in enumerate(bounds[: self.pieces.moving]):
            steps = _steps(t, bounds, slopes)
            steps[i] = 1
            positive = np.stack(slope(*w, *measure.powers(t), *steps))
            steps[i] = 0
            jump = positive - np.stack(slope(*w, *measure.powers(t), *steps))
            with np.errstate(all="ignore"):
                weight = np.where((low < t) & (t < high), measure.at(t) / np.abs(slopes[i]), 0.0)
            result += np.einsum("n,jn,ln->njl", weight, jump, np.stack(self._speeds[i](*w, t)))
        return result

    def _lines(self, w: Array) -> tuple[Array, Array]:
        """Return the slopes and the offsets of the lines whose zeros are the kinks, each of shape (m, N)."""
        slopes, offsets = np.split(np.stack(self._line_functions(*w)), 2)
        return slopes, offsets

    @functools.cached_property
    def _line_functions(self) -> Evaluate:
        slopes, offsets = zip(*self.pieces.kinks, strict=True)
        return numpy_function(self.symbols, [*slopes, *offsets])

    @functools.cached_property
    def _speeds(self) -> list[Evaluate]:
        """The gradient of each moving line with respect to the parameters, at x."""
        x = self.pieces.variable
        moving = self.pieces.kinks[: self.pieces.moving]
        return [
            numpy_function((*self.symbols, x), gradient(slope * x + offset, self.symbols)) for slope, offset in moving
        ]
