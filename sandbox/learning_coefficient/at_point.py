"""λ and m of an expression at a point: its analytic branch there, moved to the origin, and the theorem that applies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import sympy

from sandbox.expressions.functions import Absolute, Maximum, Minimum, Relu, Sign, Step
from sandbox.learning_coefficient.coefficient import LearningCoefficient
from sandbox.learning_coefficient.ideals import of_ideal
from sandbox.learning_coefficient.plane import of_polynomial
from sandbox.tools.errors import InputError

_KINKED = (Absolute, Maximum, Minimum, Relu, Sign, Step)
_PROBES = 64
_SCALES = (10, 20, 30, 40, 60)
"""The sign of K is checked at coordinates of size up to 2^-s, for these s."""
TAYLOR_DEGREE = 12
"""The degree to which an expression that is no polynomial is expanded."""


class NotAnalyticError(InputError):
    """An error: no theorem applies, for instance because the expression has a kink at the point."""


def at(
    expression: Any, symbols: Sequence[Any], point: Sequence[Fraction], exponents: Sequence[Fraction] | None = None
) -> LearningCoefficient:
    """Return λ and m of K = `expression` >= 0 at a zero, under a prior that behaves as prod |w_j - point_j|^h_j there.

    `exponents` are the h_j > -1, by default 0. Raises NotAnalyticError at a kink or without a usable Taylor polynomial,
    and InputError if K is not 0 at the point or is found negative nearby.
    """
    exact = [_rational(c) for c in point]
    smooth = _without_kinks(expression, symbols, exact)
    powers = tuple(exponents or (Fraction(0),) * len(symbols))
    moved = smooth.xreplace({w: w + c for w, c in zip(symbols, exact, strict=True)})
    level = sympy.simplify(moved.xreplace(dict.fromkeys(symbols, sympy.Integer(0))))
    if level.is_zero is False or (level.is_zero is None and abs(level.evalf(30)) > 1e-20):
        raise InputError(f"K = {float(level):.6g} at {spelled(symbols, point)}: λ belongs to a zero of K")
    _check_sign(moved, symbols, point)
    if _is_rational_polynomial(moved, symbols):
        return _of_polynomial(moved, symbols, powers)
    return _of_analytic(moved, symbols, powers)


def over_box(
    expression: Any, symbols: Sequence[Any], bounds: Sequence[tuple[Fraction, Fraction]], exponents: Sequence[Fraction]
) -> LearningCoefficient:
    """Return λ and m of K over a compact box: the least λ of its zeros there, under a prior prod |w_j|^h_j.

    K is a polynomial over Q in one or two parameters. Raises InputError for others and if K has no zero in the box.
    """
    if not _is_rational_polynomial(expression, symbols) or len(symbols) > 2:
        kind = "polynomials with rational coefficients in one or two parameters"
        raise InputError(f"over a box λ is derived for {kind}; give a point instead")
    K = sympy.Poly(expression, *symbols, domain="QQ")
    if len(symbols) == 2:
        return of_polynomial.over_box(K, (bounds[0], bounds[1]), (exponents[0], exponents[1]))
    (low, high), h = bounds[0], exponents[0]
    found = []
    for factor, order in K.factor_list()[1]:
        for root in sympy.real_roots(factor, multiple=True):
            if _rational(low) <= root <= _rational(high):
                found.append(((h + 1 if root == 0 else Fraction(1)) / order, root, order))
    if not found:
        raise InputError("K has no zero in the box")
    value, root, order = min(found, key=lambda row: row[0])
    words = f"of {len(found)} zeros in the box, {symbols[0]} = {root} of order {order} has the least λ = {value}"
    return LearningCoefficient(value, 1, "one parameter", words)


def _is_rational_polynomial(expression: Any, symbols: Sequence[Any]) -> bool:
    """Return whether the expression is a polynomial in the symbols with rational coefficients."""
    if not expression.is_polynomial(*symbols):
        return False
    return all(c.is_Rational for c in sympy.Poly(expression, *symbols).coeffs())


def _rational(value: Fraction) -> Any:
    return sympy.Rational(value.numerator, value.denominator)


def spelled(symbols: Sequence[Any], point: Sequence[Fraction]) -> str:
    """Return text such as "x = 0, y = 1/2"."""
    return ", ".join(f"{w} = {c}" for w, c in zip(symbols, point, strict=True))


def _of_polynomial(moved: Any, symbols: Sequence[Any], powers: tuple[Fraction, ...]) -> LearningCoefficient:
    if len(symbols) == 2:
        return of_polynomial.at_origin(sympy.Poly(moved, *symbols, domain="QQ"), (powers[0], powers[1]))
    return of_ideal.of_function(moved, symbols, powers)


def _of_analytic(moved: Any, symbols: Sequence[Any], powers: tuple[Fraction, ...]) -> LearningCoefficient:
    """Replace factors by equivalent polynomials and return their λ and m; if that fails, use the Taylor polynomial.

    Terms that are never negative may be replaced one by one: their sums are comparable if the terms are.
    """
    whole = _product(sympy.factor(moved), symbols)
    if whole is None and moved.is_Add:
        terms = [_product(term, symbols) if _is_square(term) else None for term in moved.args]
        whole = None if None in terms else sympy.Add(*terms)
    if whole is None:
        return _of_taylor(moved, symbols, powers)
    found = _of_polynomial(sympy.expand(whole), symbols, powers)
    return replace(found, explanation=f"up to factors that do not vanish, K is {whole}; {found.explanation}")


def _product(expression: Any, symbols: Sequence[Any]) -> Any | None:
    """Return a polynomial that is the product times an analytic unit near 0, else None."""
    product = sympy.Integer(1)
    for factor in sympy.Mul.make_args(expression):
        base, exponent = factor.as_base_exp()
        equivalent = _equivalent(base, symbols)
        if equivalent == 1:
            continue
        if equivalent is None or not (exponent.is_Integer and exponent.is_positive):
            return None
        product *= equivalent**exponent
    return product


def _is_square(term: Any) -> bool:
    """Return whether a product is a positive number times even powers."""
    factors = [factor.as_base_exp() for factor in sympy.Mul.make_args(term)]
    return all(e.is_even or (b.is_number and b.is_positive) for b, e in factors)


def _equivalent(base: Any, symbols: Sequence[Any]) -> Any | None:
    """Return a polynomial that is `base` times an analytic unit near 0, else None."""
    if base.subs(dict.fromkeys(symbols, 0)).is_zero is False:
        return sympy.Integer(1)
    if _is_rational_polynomial(base, symbols):
        return base
    # g(u) with g analytic, such as exp(x y) - 1, is u^k times a unit.
    here, u = dict.fromkeys(symbols, sympy.Integer(0)), sympy.Dummy("u", real=True)
    for inner in [*base.free_symbols, *(f.args[0] for f in base.atoms(sympy.Function, sympy.Pow))]:
        level = inner.xreplace(here)
        outer = base.xreplace({inner: level + u})
        if outer.free_symbols == {u}:
            equivalent, order = _product(sympy.factor(inner - level), symbols), _order(outer, u)
            return equivalent**order if equivalent is not None and order is not None else None
    return None


def _order(function: Any, w: Any) -> int | None:
    """Return the order to which an analytic function of one parameter vanishes at 0, None if it is not found."""
    slope = function
    for order in range(TAYLOR_DEGREE + 1):
        value = sympy.simplify(slope.xreplace({w: sympy.Integer(0)}))
        if value.is_zero is False:
            return order if value.is_finite else None
        if value.is_zero is None:
            return None
        slope = sympy.diff(slope, w)
    return None


def _of_taylor(moved: Any, symbols: Sequence[Any], powers: tuple[Fraction, ...]) -> LearningCoefficient:
    """Return a bracket whose explanation states the Taylor polynomial's λ; the remainder's effect is not decided."""
    t = sympy.Dummy("t")
    along = moved.xreplace({w: t * w for w in symbols})
    try:
        series = sympy.series(along, t, 0, TAYLOR_DEGREE + 1).removeO()
    except (sympy.PoleError, NotImplementedError, ValueError) as error:
        raise NotAnalyticError(
            f"no Taylor expansion was found at the point ({error}): λ is not derived there"
        ) from None
    polynomial = sympy.expand(series.subs(t, 1))
    if polynomial == 0:
        raise NotAnalyticError(f"all derivatives up to order {TAYLOR_DEGREE} vanish: λ is not derived")
    if not _is_rational_polynomial(polynomial, symbols):
        raise NotAnalyticError("K has coefficients that are no rational numbers: no exact value is derived")
    found = _of_polynomial(polynomial, symbols, powers)
    value = f"λ = {found.value}, m = {found.multiplicity}" if found.is_exact else "no exact λ"
    explanation = (
        f"K is no polynomial; its Taylor polynomial of degree {TAYLOR_DEGREE} has {value} ({found.explanation}); "
        "whether the remainder changes that is not decided"
    )
    size = Fraction(len(symbols), 2)
    return LearningCoefficient(None, None, "Taylor polynomial, not proved", explanation, (Fraction(0), size))


def _without_kinks(expression: Any, symbols: Sequence[Any], point: Sequence[Any]) -> Any:
    """Replace |u|, relu(u), ... by the branch taken near the point. Raises NotAnalyticError at a kink."""
    here = dict(zip(symbols, point, strict=True))

    def side(argument: Any, function: Any) -> bool:
        value = argument.xreplace(here)
        if value.is_zero or (value.is_zero is None and abs(value.evalf(30)) < 1e-20):
            if argument.is_zero:
                return True
            raise NotAnalyticError(f"{function} has its kink at {', '.join(f'{w} = {c}' for w, c in here.items())}")
        return bool(value > 0)

    rules: dict[Any, Callable[..., Any]] = {
        Absolute: lambda f, u: u if side(u, f) else -u,
        Relu: lambda f, u: u if side(u, f) else sympy.Integer(0),
        Step: lambda f, u: sympy.Integer(1 if side(u, f) else 0),
        Sign: lambda f, u: sympy.Integer(1 if side(u, f) else -1),
        Maximum: lambda f, a, b: a if side(a - b, f) else b,
        Minimum: lambda f, a, b: b if side(a - b, f) else a,
    }
    while expression.has(*_KINKED):
        inner = next(f for f in expression.atoms(*_KINKED) if not any(a.has(*_KINKED) for a in f.args))
        expression = expression.xreplace({inner: rules[inner.func](inner, *inner.args)})
    return expression


def _check_sign(moved: Any, symbols: Sequence[Any], point: Sequence[Fraction]) -> None:
    """Raise InputError if K is negative, or no real number, at one of some exact points very near the origin.

    Each coordinate has a scale of its own, so that the points also meet a thin region such as that of x^2 < y^3.
    """
    for k in range(_PROBES):
        rng = np.random.default_rng(k)
        scales, parts = rng.choice(_SCALES, len(symbols)), rng.integers(-99, 100, len(symbols))
        near = {
            w: sympy.Rational(int(part), 99 * 2 ** int(scale))
            for w, part, scale in zip(symbols, parts, scales, strict=True)
        }
        value = moved.xreplace(near)
        there = ", ".join(f"{w} = {float(near[w] + c):.4g}" for w, c in zip(symbols, point, strict=True))
        if value.is_real is False or not value.is_finite:
            raise InputError(f"K is no real number at {there}: λ needs a loss that is defined around the point")
        if bool(value < 0):
            raise InputError(
                f"K = {float(value):.4g} at {there}: a loss is never negative near its zero. For λ of f**2 write (f)**2"
            )
