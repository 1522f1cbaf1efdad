"""λ and m of an expression at a point: its analytic branch there, moved to the origin, and the theorem that applies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import sympy

from sandbox.expressions.functions import KINKED, Absolute, Maximum, Minimum, Relu, Sign, Step
from sandbox.learning_coefficient.analytic import TAYLOR_DEGREE, comparable
from sandbox.learning_coefficient.coefficient import LearningCoefficient
from sandbox.learning_coefficient.ideals import of_ideal
from sandbox.learning_coefficient.ideals.polynomials import is_polynomial
from sandbox.learning_coefficient.plane import of_polynomial
from sandbox.learning_coefficient.sign import check_at_points, check_sign
from sandbox.tools.errors import InputError


class NotAnalyticError(InputError):
    """An error: no theorem applies, for instance because the expression has a kink at the point."""


def at(
    expression: Any, symbols: Sequence[Any], point: Sequence[Fraction], exponents: Sequence[Fraction] | None = None
) -> LearningCoefficient:
    """Return λ and m of K = `expression` >= 0 at a zero, under a prior that behaves as prod |w_j - point_j|^h_j there.

    `exponents` are the h_j > -1, by default 0. Raises NotAnalyticError at a kink or without a usable Taylor polynomial,
    and InputError if K is not 0 at the point or is found negative nearby.
    """
    exact = [sympy.Rational(c) for c in point]
    _check_zero(expression, symbols, point)
    move = {w: w + c for w, c in zip(symbols, exact, strict=True)}
    try:
        smooth = _without_kinks(expression, symbols, exact)
    except NotAnalyticError:
        check_at_points(expression.xreplace(move), symbols, point)
        raise
    powers = tuple(exponents or (Fraction(0),) * len(symbols))
    moved = smooth.xreplace(move)
    if moved.is_zero or not moved.free_symbols:
        raise InputError("K is zero everywhere near the point: it has no learning coefficient")
    check_at_points(moved, symbols, point)
    pair = _pair(moved, symbols)
    if moved.free_symbols <= {*pair} and is_polynomial(moved, pair, algebraic=True):
        K = sympy.Poly(moved, *pair, extension=True)
        fault = of_polynomial.negativity(K)
        if fault:
            raise InputError(
                f"K is negative near {spelled(symbols, point)}: {fault}. A loss is never negative near its zero; "
                "for λ of f**2 write (f)**2"
            )
        if fault is None:
            check_sign(moved, symbols, point)
        prior = dict(zip(symbols, powers, strict=True))
        return of_polynomial.at_origin(K, (prior.get(pair[0], Fraction(0)), prior.get(pair[1], Fraction(0))))
    check_sign(moved, symbols, point)
    if is_polynomial(moved, symbols):
        return of_ideal.of_function(moved, symbols, powers)
    return _of_analytic(moved, symbols, powers)


def _pair(expression: Any, symbols: Sequence[Any]) -> list[Any]:
    """Return two symbols among which are, if there are at most two, all symbols of the expression."""
    used = [w for w in symbols if expression.has(w)]
    return [*used, sympy.Dummy("u", real=True), sympy.Dummy("v", real=True)][:2]


def over_box(
    expression: Any, symbols: Sequence[Any], bounds: Sequence[tuple[Fraction, Fraction]], exponents: Sequence[Fraction]
) -> LearningCoefficient:
    """Return λ and m of K over a compact box: the least λ of its zeros there, under a prior prod |w_j|^h_j.

    K is a polynomial over Q in one or two parameters. Raises InputError for others and if K has no zero in the box.
    """
    if not is_polynomial(expression, symbols) or len(symbols) > 2:
        kind = "polynomials with rational coefficients in one or two parameters"
        raise InputError(f"over a box λ is derived for {kind}; give a point instead")
    K = sympy.Poly(expression, *symbols, domain="QQ")
    if len(symbols) == 2:
        return of_polynomial.over_box(K, (bounds[0], bounds[1]), (exponents[0], exponents[1]))
    (low, high), h = bounds[0], exponents[0]
    found = []
    for factor, order in K.factor_list()[1]:
        for root in sympy.real_roots(factor, multiple=True):
            if sympy.Rational(low) <= root <= sympy.Rational(high):
                found.append(((h + 1 if root == 0 else Fraction(1)) / order, root, order))
    if not found:
        raise InputError("K has no zero in the box")
    value, root, order = min(found, key=lambda row: row[0])
    words = f"of {len(found)} zeros in the box, {symbols[0]} = {root} of order {order} has the least λ = {value}"
    return LearningCoefficient(value, 1, "one parameter", words)


def _check_zero(expression: Any, symbols: Sequence[Any], point: Sequence[Fraction]) -> None:
    """Raise InputError unless K is 0 at the point."""
    level = expression.xreplace({w: sympy.Rational(c) for w, c in zip(symbols, point, strict=True)})
    number = level.evalf(30) if level.is_zero is None else level
    if not (number.is_real and number.is_finite):
        raise InputError(f"K has no finite value at {spelled(symbols, point)}: λ belongs to a zero of K")
    if level.is_zero is False or abs(number) > 1e-20:
        raise InputError(f"K = {float(number):.6g} at {spelled(symbols, point)}: λ belongs to a zero of K")


def spelled(symbols: Sequence[Any], point: Sequence[Fraction]) -> str:
    """Return text such as "x = 0, y = 1/2"."""
    return ", ".join(f"{w} = {c}" for w, c in zip(symbols, point, strict=True))


def _of_analytic(moved: Any, symbols: Sequence[Any], powers: tuple[Fraction, ...]) -> LearningCoefficient:
    """Return λ and m of a comparable polynomial; if none is found, use the Taylor polynomial."""
    whole = comparable(moved, symbols)
    if whole is None:
        return _of_taylor(moved, symbols, powers)
    found = of_ideal.of_function(sympy.expand(whole), symbols, powers)
    return replace(found, explanation=f"up to factors that do not vanish, K is {whole}; {found.explanation}")


def _of_taylor(moved: Any, symbols: Sequence[Any], powers: tuple[Fraction, ...]) -> LearningCoefficient:
    """Return a bracket whose explanation states the Taylor polynomial's λ; the remainder's effect is not decided."""
    here = dict.fromkeys(symbols, sympy.Integer(0))
    for root in moved.atoms(sympy.Pow):
        if root.exp.is_Rational and not root.exp.is_Integer and root.base.xreplace(here).is_zero:
            raise NotAnalyticError(f"K is not analytic there: {root} has its branch point (coordinates from the point)")
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
    if not is_polynomial(polynomial, symbols):
        raise NotAnalyticError("K has coefficients that are no rational numbers: no exact value is derived")
    found = of_ideal.of_function(polynomial, symbols, powers)
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
    while expression.has(*KINKED):
        inner = next(f for f in expression.atoms(*KINKED) if not any(a.has(*KINKED) for a in f.args))
        expression = expression.xreplace({inner: rules[inner.func](inner, *inner.args)})
    return expression
