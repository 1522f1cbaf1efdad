"""A refusal of K that is negative somewhere near its zero, found by branches in two parameters and by descent beyond.

An exact negative value is the evidence. It is sought at some points with coordinates of many sizes, then by descent.
If K < 0 on an arc into the zero, some coordinate w_j is the largest on it. So, for each j, w_j is held at +-t and K is
minimised over the others in |w_i| <= 2 t. Thin regions, such as that of f^2 < w^20, lie at the bottom of the valley
f = 0, to which Newton's steps lead. Minima at one t are followed to smaller t with many digits: a loss is refused only
if it is negative there, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt
import sympy

from sandbox.expressions.evaluation import numpy_function
from sandbox.expressions.functions import Sigmoid, Softplus
from sandbox.learning_coefficient.ideals.polynomials import factors, is_polynomial, to_ring
from sandbox.learning_coefficient.ideals.torus import squares
from sandbox.learning_coefficient.written import is_sum_of_squares, without_powers
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError

_PROBES = 64
_SCALES = (10, 20, 30, 40, 60)
"""The sign of K is checked at coordinates of size up to 2^-s, for these s."""
_STARTS = 24
_STEPS = 50
_FIRST = (4, 6)
"""The descent begins with the largest coordinate at 2^-s, for these s, ..."""
_THEN = (8, 10, 12)
"""... and follows a minimum to these."""
_FOLLOWED = 2
_LOW = 1e-9
"""A minimum counts as a place where K may be negative if it is below this share of the median of K at the starts."""
_MOST_OPERATIONS = 100_000
"""The most operations of K times D^2, the size of its second derivatives, for a descent."""
_DIGITS = 60
_ROUNDED = mpmath.mpf(10) ** -50
"""A value below this share of the slopes is not followed further."""
_SIDE = 2.0
_END = mpmath.mpf(2)
_MULTIPLES = np.array([7.0, 3.0, 1.0, 0.25, 1 / 32, 1 / 1024])
"""The best of these multiples of a step is taken; at a minimum of order 2 k, Newton's step is due 2 k - 1 times."""
_REACH = 0.5
_FLAT = 1e-12
"""The least curvature, relative to the largest, that a step divides by."""
_POLISHING_STEPS = 30


def check_sign(moved: Any, symbols: Sequence[Any], point: Sequence[Fraction]) -> None:
    """Raise InputError if K, `moved` so that its zero is the origin, is found negative near it."""
    K, _ = without_powers(moved, symbols)
    if not is_sum_of_squares(K) and is_polynomial(K, symbols):
        K = _doubtful(K, symbols)
    if is_sum_of_squares(K) or sympy.count_ops(K) * len(symbols) ** 2 > _MOST_OPERATIONS:
        return
    near = _Descent(K, symbols).negative_point()
    if near is not None:
        _refuse_negative(moved, symbols, point, near)


def has_both_signs(f: Any, symbols: Sequence[Any]) -> bool:
    """Return whether a polynomial, 0 at the origin, certainly has both signs near it. False decides nothing."""
    used = [w for w in symbols if f.has(w)]
    return all(_Descent(side * f, used).negative_point() is not None for side in (1, -1))


def _doubtful(K: Any, symbols: Sequence[Any]) -> Any:
    """Return a polynomial with the sign of K: the factors of odd multiplicity that are not shown to have one sign."""
    known = factors(to_ring([K], symbols)[0])
    found = [f for f, k in known if k % 2 and squares(f) is None and squares(-f) is None]
    if len(found) == len(known):
        # The form as written loses fewer digits.
        return K
    part = sympy.Mul(*(f.as_expr(*symbols) for f in found))
    somewhere = {w: sympy.Rational(1, 2**20 + j) for j, w in enumerate(symbols)}
    return part * sympy.sign(K.xreplace(somewhere) * part.xreplace(somewhere))


def check_at_points(moved: Any, symbols: Sequence[Any], point: Sequence[Fraction]) -> None:
    """Raise InputError if K is negative, or no real number, at one of some exact points very near the origin.

    Each coordinate has a scale of its own, so that the points also meet a thin region such as that of x^2 < y^3.
    """
    for k in range(_PROBES):
        rng = np.random.default_rng(k)
        scales, parts = rng.choice(_SCALES, len(symbols)), rng.integers(-99, 100, len(symbols))
        near = [sympy.Rational(int(part), 99 * 2 ** int(scale)) for part, scale in zip(parts, scales, strict=True)]
        _refuse_negative(moved, symbols, point, near)


def _refuse_negative(moved: Any, symbols: Sequence[Any], point: Sequence[Fraction], near: Sequence[Any]) -> None:
    value = moved.xreplace(dict(zip(symbols, near, strict=True)))
    there = ", ".join(f"{w} = {float(n + c):.4g}" for w, n, c in zip(symbols, near, point, strict=True))
    if value.is_real is False or not value.is_finite:
        raise InputError(f"K is no real number at {there}: λ needs a loss that is defined around the point")
    if bool(value < 0):
        raise InputError(
            f"K = {float(value):.4g} at {there}: a loss is never negative near its zero. For λ of f**2 write (f)**2"
        )


Exact = Callable[[list[Any]], list[Any] | None]
"""A function of a point with many digits; None stands for values that are no real numbers."""


class _Descent:
    """The minima of K with one coordinate held at +-t; coordinates are in units of t."""

    def __init__(self, K: Any, symbols: Sequence[Any]):
        self.K, self.symbols = K, list(symbols)
        slopes = [sympy.diff(K, w) for w in symbols]
        self.parts = [*slopes, *(sympy.diff(s, w) for s in slopes for w in symbols)]
        self.level = numpy_function(self.symbols, [K])
        self.slopes = numpy_function(self.symbols, self.parts)

    def negative_point(self) -> list[Any] | None:
        """Return an exact point near the origin at which K is negative, None if none is found."""
        size = len(self.symbols)
        exact = _with_digits(self.symbols, [self.K]), _with_digits(self.symbols, self.parts)
        with mpmath.workdps(_DIGITS), np.errstate(all="ignore"):
            for s in _FIRST:
                for held in range(size):
                    for side in (-1.0, 1.0):
                        for start in self._minima(held, side, 2.0**-s):
                            near = self._followed(exact, start, held, s)
                            if near is not None:
                                return near
        return None

    def _minima(self, held: int, side: float, t: float) -> Array:
        """Return the lowest minima found, shape (M, D)."""
        size = len(self.symbols)
        rng = np.random.default_rng(held)
        u = rng.uniform(-1, 1, (_STARTS, size)) * 2.0 ** -rng.choice([0, 1, 3, 6], (_STARTS, size))
        u[:, held] = side
        value = self.level(*(t * u).T)[0]
        low = _LOW * float(np.median(np.abs(value)))
        for _ in range(_STEPS):
            slope, curvature = self._slopes(u, t)
            step = _newton(slope, curvature, _held(u, slope, held))
            tried = np.clip(u + _MULTIPLES[:, None, None] * step, -_SIDE, _SIDE)
            new = np.nan_to_num(self.level(*(t * tried.reshape(-1, size)).T)[0], nan=np.inf).reshape(tried.shape[:2])
            best = new.argmin(axis=0), np.arange(_STARTS)
            lower = new[best] < value
            if not lower.any():
                break
            u, value = np.where(lower[:, None], tried[best], u), np.where(lower, new[best], value)
        lowest = np.argsort(value)[:_FOLLOWED]
        return np.asarray(u[lowest[value[lowest] < low]])

    def _slopes(self, u: Array, t: float) -> tuple[Array, Array]:
        size = len(self.symbols)
        slopes = np.nan_to_num(np.stack(self.slopes(*(t * u).T), axis=1))
        return slopes[:, :size] / t, slopes[:, size:].reshape(-1, size, size)

    def _followed(self, exact: tuple[Exact, Exact], start: Array, held: int, s: int) -> list[Any] | None:
        u = [mpmath.mpf(float(c)) for c in start]
        for scale in (s, *_THEN):
            found = _polished(exact, u, held, mpmath.mpf(2) ** -scale)
            if found is None:
                return None
            u = found
        near = [_exact(c) / 2**scale for c in u]
        # Many digits may still be too few.
        return near if bool(self.K.xreplace(dict(zip(self.symbols, near, strict=True))) < 0) else None


def _held(u: Array, slope: Array, held: int) -> npt.NDArray[np.bool_]:
    """Return which coordinates of the points (N, D) stay: the one that is held, and those that are pushed outwards."""
    fixed = (np.abs(u) >= _SIDE) & (slope * u <= 0)
    fixed[:, held] = True
    return fixed


def _newton(slope: Array, curvature: Array, fixed: npt.NDArray[np.bool_]) -> Array:
    """Return steps (N, D) of at most _REACH along each axis of the curvature, downhill where it is negative, too."""
    slope = np.where(fixed, 0, slope)
    curvature = np.where(fixed[:, :, None] | fixed[:, None, :], 0, curvature)
    scale = np.maximum(np.abs(curvature).max(axis=(1, 2)), 1e-300)
    bends, axes = np.linalg.eigh(curvature / scale[:, None, None])
    along = np.einsum("nij,ni->nj", axes, slope / scale[:, None])
    return np.asarray(
        -np.einsum("nij,nj->ni", axes, np.clip(along / np.maximum(np.abs(bends), _FLAT), -_REACH, _REACH))
    )


def _polished(exact: tuple[Exact, Exact], u: list[Any], held: int, t: Any) -> list[Any] | None:
    """Return a point at which K is negative, by Newton's steps from u with many digits; None if they find none."""
    size = len(u)
    level, slopes = exact
    value = level([t * c for c in u])
    for _ in range(_POLISHING_STEPS):
        if value is None or value[0] < 0:
            return value and u
        parts = slopes([t * c for c in u])
        top = max(map(abs, parts or [mpmath.mpf(0)]))
        if parts is None or value[0] <= _ROUNDED * top * t**2:
            return None
        scaled = np.array([float(part / top) for part in parts])
        slope, curvature = scaled[None, :size] / float(t), scaled[size:].reshape(1, size, size)
        step = _newton(slope, curvature, _held(np.array([list(map(float, u))]), slope, held))[0]
        best = None
        for multiple in _MULTIPLES:
            tried = [min(max(c + float(multiple * s), -_END), _END) for c, s in zip(u, step, strict=True)]
            new = level([t * c for c in tried])
            if new is not None and new[0] < value[0]:
                best, value = tried, new
        if best is None:
            return None
        u = best
    return None


def _exact(number: Any) -> Any:
    size, exponent = number.man_exp
    return sympy.sign(number) * sympy.Integer(size) * sympy.Integer(2) ** exponent


def _with_digits(symbols: Sequence[Any], parts: Sequence[Any]) -> Exact:
    """Return the function that gives the values of some expressions."""
    plain = {
        Sigmoid: lambda u: 1 / (1 + sympy.exp(-u)),
        Softplus: lambda u: sympy.log(1 + sympy.exp(u)),
    }
    for function, written in plain.items():
        parts = [part.replace(function, written) for part in parts]
    evaluate = sympy.lambdify(symbols, parts, modules="mpmath", cse=True)

    def at(point: list[Any]) -> list[Any] | None:
        try:
            values = [mpmath.mpmathify(value) for value in evaluate(*point)]
        except (ZeroDivisionError, ValueError):
            # K is not defined there: near its zero it is, but this point may be too far away.
            return None
        return values if all(isinstance(value, mpmath.mpf) and mpmath.isfinite(value) for value in values) else None

    return at
