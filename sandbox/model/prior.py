"""Distributions of single numbers (priors, inputs, starting points) and the prior φ(w) over all parameters."""

from __future__ import annotations

import ast
import functools
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy
from scipy import special

from sandbox.compiled import random_numbers
from sandbox.expressions.functions import Absolute, Sign, Step
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError, nearest

SIGNATURES = {
    "uniform": "uniform(low, high)",
    "normal": "normal(mean, standard_deviation)",
    "laplace": "laplace(centre, scale)",
    "choice": "choice(value, value, ...)",
}
"""The families and their arguments. `choice` (equally likely values) is for inputs and starts, not for priors."""

WINDOW_TAIL = 1e-18
"""The prior mass that a `window` may leave out on each side of an unbounded density."""


FAR = 1e6
"""The distance from the prior's centre, in prior scales, beyond which a particle has diverged."""


@dataclass(frozen=True)
class Distribution:
    """The distribution of one number: a family with its arguments, truncated to [low, high] and renormalised.

    A single `choice` is a fixed value.
    """

    family: str
    arguments: tuple[float, ...]
    low: float = -math.inf
    high: float = math.inf

    @classmethod
    def parse(cls, text: str | float) -> Distribution:
        """Return the distribution of a text like "normal(0, 1)", or of a number (a fixed value). Raises InputError."""
        if isinstance(text, (int, float)) and not isinstance(text, bool):
            return cls("choice", (_finite(text, str(text)),))
        family, arguments = _read_call(str(text))
        _check_arguments(family, arguments, str(text))
        low, high = arguments if family == "uniform" else (-math.inf, math.inf)
        return cls(family, arguments, low, high)

    def truncated(self, low: float, high: float) -> Distribution:
        """Return the density cut to [low, high]. Raises InputError if no mass is left there, or if it is discrete."""
        if self.family == "choice":
            raise InputError(f"{self} is discrete: it cannot be cut to a box")
        ends = max(low, self.low), min(high, self.high)
        # A part of a uniform is a uniform with other arguments; the other families keep their arguments.
        cut = replace(self, arguments=ends if self.family == "uniform" else self.arguments, low=ends[0], high=ends[1])
        if not cut.low < cut.high or not cut._mass > 0:
            raise InputError(f"the box [{low:g}, {high:g}] holds none of the mass of {self}")
        return cut

    def __str__(self) -> str:
        if self.family == "choice" and len(self.arguments) == 1:
            return f"{self.arguments[0]:g}"
        return f"{self.family}({', '.join(f'{a:g}' for a in self.arguments)})"

    @functools.cached_property
    def _mass(self) -> float:
        """The mass of the untruncated density inside [low, high]."""
        # From the nearer tail: far above the centre, a difference of distribution functions is only rounding error.
        if self.low > self.centre:
            return self._above(self.low) - self._above(self.high)
        return self._below(self.high) - self._below(self.low)

    def _below(self, x: float) -> float:
        """Return the untruncated family's mass below x. SciPy's distributions would take half a second to import."""
        if self.family == "uniform":
            low, high = self.arguments
            return min(max((x - low) / (high - low), 0.0), 1.0)
        centre, scale = self.arguments
        away = (x - centre) / scale
        if self.family == "normal":
            return float(special.ndtr(away))
        tail = math.exp(-abs(away)) / 2
        return tail if away < 0 else 1 - tail

    def _above(self, x: float) -> float:
        """Return the untruncated family's mass above x, without cancellation: all families are symmetric."""
        return self._below(2 * self.centre - x)

    def _at(self, below: Array) -> Array:
        """Return the point below which the untruncated family has this mass, any shape."""
        if self.family == "uniform":
            low, high = self.arguments
            return np.asarray(below * (high - low) + low)
        centre, scale = self.arguments
        if self.family == "normal":
            return np.asarray(special.ndtri(below) * scale + centre)
        tail = np.log(2 * np.minimum(below, 1 - below))
        return np.asarray(np.where(below < 0.5, tail, -tail) * scale + centre)

    def log_density(self, x: Array) -> Array:
        """Return the log density at `x` (any shape), -inf outside [low, high]."""
        inside = (x >= self.low) & (x <= self.high)
        return np.where(inside, self._log_shape(x) - math.log(self._mass), -np.inf)

    def _log_shape(self, x: Array) -> Array:
        """Return the untruncated log density at `x`; written out, as SciPy's checks cost ten times as much."""
        if self.family == "uniform":
            return np.full(np.shape(x), -math.log(self.arguments[1] - self.arguments[0]))
        centre, scale = self.arguments
        away = (x - centre) / scale
        if self.family == "normal":
            return np.asarray(-away * away / 2 - math.log(scale * math.sqrt(2 * math.pi)))
        return np.asarray(-np.abs(away) - math.log(2 * scale))

    def log_density_slope(self, x: Array) -> Array:
        """Return the derivative of the log density at `x` (any shape), inside the support."""
        if self.family == "uniform":
            return np.zeros_like(x)
        centre, scale = self.arguments
        slope: Array = (centre - x) / scale**2 if self.family == "normal" else np.sign(centre - x) / scale
        return slope

    def quantile(self, u: Array) -> Array:
        """Return the inverse distribution function at `u` in (0, 1), any shape."""
        if self.family == "choice":
            values = np.array(self.arguments)
            return values[np.minimum((u * len(values)).astype(np.intp), len(values) - 1)]
        if self.scale == 0:
            # A label without noise has scale 0.
            return np.full(np.shape(u), self.centre)
        if self.low > self.centre:
            free = 2 * self.centre - self._at(self._above(self.low) - u * self._mass)
        else:
            free = self._at(self._below(self.low) + u * self._mass)
        draws: Array = np.clip(free, self.low, self.high)
        return draws

    @property
    def window(self) -> tuple[float, float]:
        """An interval that holds all but about WINDOW_TAIL of the mass on each side; all of it for a uniform."""
        if self.family == "uniform":
            return self.low, self.high
        low = float(self._at(np.array(WINDOW_TAIL)))
        return max(low, self.low), min(2 * self.centre - low, self.high)

    @property
    def centre(self) -> float:
        """The median of the untruncated density (for a `choice`, its first value)."""
        return sum(self.arguments) / 2 if self.family == "uniform" else self.arguments[0]

    @property
    def scale(self) -> float:
        """The length over which the density varies: half the width of a uniform, else the scale parameter."""
        if self.family == "choice":
            return max(1.0, max(abs(a) for a in self.arguments))
        return (self.high - self.low) / 2 if self.family == "uniform" else self.arguments[1]

    @property
    def kinks(self) -> tuple[float, ...]:
        """The points inside the support at which the density is not smooth."""
        centre = self.arguments[0]
        return (centre,) if self.family == "laplace" and self.low < centre < self.high else ()

    def nodes(self, count: int) -> tuple[Array, Array]:
        """Return `count` Gauss nodes and their weights (sum 1): exact for polynomials up to degree 2 count - 1.

        A Laplace density has `count` Gauss-Laguerre nodes on each side of its centre; a choice has its own values.
        """
        if self.family == "choice":
            return np.array(self.arguments), np.full(len(self.arguments), 1 / len(self.arguments))
        if self.family == "uniform":
            x, weight = special.roots_legendre(count)
            return self.centre + self.scale * x, weight / 2
        location, scale = self.arguments
        if self.family == "normal":
            x, weight = special.roots_hermitenorm(count)
            return location + scale * x, weight / weight.sum()
        x, weight = special.roots_laguerre(count)
        return np.concatenate([location - scale * x[::-1], location + scale * x]), np.concatenate(
            [weight[::-1], weight]
        ) / 2

    @property
    def standard(self) -> str:
        """The random number, "normal" or "uniform" on (0, 1), that `from_standard` transforms."""
        return "normal" if self.family == "normal" else "uniform"

    def from_standard(self, draw: Any, arguments: Sequence[Any]) -> Any:
        """Return the expression that turns a standard random number into a draw of this family (untruncated)."""
        if self.family == "normal":
            return arguments[0] + arguments[1] * draw
        if self.family == "uniform":
            return arguments[0] + (arguments[1] - arguments[0]) * draw
        if self.family == "laplace":
            side = draw - sympy.Rational(1, 2)
            return arguments[0] - arguments[1] * Sign(side) * sympy.log(1 - 2 * Absolute(side))
        steps = zip(range(1, len(arguments)), arguments, arguments[1:], strict=False)
        return arguments[0] + sum((b - a) * Step(draw * len(arguments) - k) for k, a, b in steps)

    def potential_gradient(self, x: sympy.Symbol, arguments: Sequence[sympy.Expr]) -> sympy.Expr:
        """Return d(-log density)/dx inside the support, with symbols standing for the family's arguments."""
        if self.family == "normal":
            return (x - arguments[0]) / arguments[1] ** 2
        if self.family == "laplace":
            return Sign(x - arguments[0]) / arguments[1]
        return sympy.Integer(0)


@dataclass(frozen=True)
class Prior:
    """The prior φ(w): independent distributions, one per parameter, each with a density."""

    names: tuple[str, ...]
    distributions: tuple[Distribution, ...]

    @classmethod
    def parse(cls, texts: Mapping[str, str | float]) -> Prior:
        """Return the prior of {"w1": "uniform(-1, 1)", ...}, in that order. Raises InputError."""
        return cls(tuple(texts), tuple(Distribution.parse(text) for text in texts.values()))

    @property
    def bounds(self) -> Array:
        """The support's box, shape (D, 2); infinite where the prior is unbounded."""
        return np.array([[d.low, d.high] for d in self.distributions])

    @property
    def centre(self) -> Array:
        """Each parameter's median, shape (D,)."""
        return np.array([d.centre for d in self.distributions])

    @property
    def scale(self) -> Array:
        """Each parameter's length scale, shape (D,)."""
        return np.array([d.scale for d in self.distributions])

    @property
    def kinks(self) -> tuple[tuple[float, ...], ...]:
        """Per parameter, the points at which the density is not smooth."""
        return tuple(d.kinks for d in self.distributions)

    def window(self) -> Array:
        """Return a finite box, shape (D, 2), that holds all but a negligible part of the mass."""
        return np.array([d.window for d in self.distributions])

    def log_density(self, points: Array) -> Array:
        """Return log φ at points of shape (N, D); -inf outside the support."""
        parts = (d.log_density(points[:, at]).sum(axis=1) for d, at in self._alike)
        return sum(parts, np.zeros(len(points)))

    def log_density_gradient(self, points: Array) -> Array:
        """Return the gradient of log φ inside the support at points (N, D), shape (N, D)."""
        gradient = np.empty(np.shape(points))
        for d, at in self._alike:
            gradient[:, at] = d.log_density_slope(points[:, at])
        return gradient

    @functools.cached_property
    def _alike(self) -> list[tuple[Distribution, list[int]]]:
        """Each distinct distribution with its coordinates, so that one call serves all equal distributions."""
        return [
            (one, [k for k, d in enumerate(self.distributions) if d == one])
            for one in dict.fromkeys(self.distributions)
        ]

    def diverged(self, points: Array) -> npt.NDArray[np.bool_]:
        """Return whether each of the points (N, D) has diverged: it is beyond FAR, or not a number; shape (N,)."""
        near = np.ones(len(points), np.bool_)
        # One parameter at a time: a NumPy reduction over such a short axis takes several times as long.
        for values, centre, scale in zip(points.T, self.centre, self.scale, strict=True):
            near &= np.abs(values - centre) <= FAR * scale
        return ~near

    def quantile(self, uniforms: Array) -> Array:
        """Return draws from the prior, shape (N, D), made from uniforms of shape (N, D) in (0, 1)."""
        return np.stack([d.quantile(uniforms[:, k]) for k, d in enumerate(self.distributions)], axis=1)

    def draw(self, count: int, seed: int, purpose: str) -> Array:
        """Return `count` draws, shape (count, D), a pure function of seed and purpose (see `draws.key`)."""
        key = random_numbers.key(seed, purpose)
        return self.quantile(
            random_numbers.uniforms(key, random_numbers.STREAM_START, np.arange(count), 0, len(self.names))
        )


def _read_call(text: str) -> tuple[str, tuple[float, ...]]:
    allowed = ", ".join(SIGNATURES.values())
    if len(text) > 500:
        raise InputError(f"a distribution of {len(text)} characters is too long; allowed: {allowed}")
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise InputError(f"'{text}' is not a distribution; allowed: {allowed}") from None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.keywords:
        raise InputError(f"'{text}' is not a distribution; allowed: {allowed}")
    if call.func.id not in SIGNATURES:
        raise InputError(
            f"unknown distribution '{call.func.id}'{nearest(call.func.id, SIGNATURES)}; allowed: {allowed}"
        )
    return call.func.id, tuple(_number(node, text) for node in call.args)


def _number(node: ast.expr, text: str) -> float:
    sign = 1.0
    while isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
        sign = -sign if isinstance(node.op, ast.USub) else sign
        node = node.operand
    if not isinstance(node, ast.Constant) or isinstance(node.value, bool) or not isinstance(node.value, (int, float)):
        raise InputError(f"the arguments of '{text}' must be numbers; found '{ast.unparse(node)}'")
    return sign * _finite(node.value, text)


def _finite(value: float, text: str) -> float:
    # Compare first: an integer may be too large to convert to a float.
    if not abs(value) <= sys.float_info.max:
        raise InputError(f"'{text[:60]}': the numbers must be finite")
    return float(value)


def _check_arguments(family: str, arguments: tuple[float, ...], text: str) -> None:
    if family == "choice":
        if not arguments:
            raise InputError(f"'{text}' has no values; allowed: {SIGNATURES[family]}")
        return
    if len(arguments) != 2:
        raise InputError(f"'{text}' has {len(arguments)} arguments; allowed: {SIGNATURES[family]}")
    if family == "uniform" and not arguments[0] < arguments[1]:
        raise InputError(f"'{text}' is empty: low must be below high")
    if family != "uniform" and not arguments[1] > 0:
        raise InputError(f"'{text}': the second argument must be positive")
