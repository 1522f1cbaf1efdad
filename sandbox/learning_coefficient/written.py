"""Properties that the written form of K shows: sums of squares, powers, and factors that are units at the zero."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import Any

import sympy


def is_sum_of_squares(expression: Any) -> bool:
    """Return whether an expression is, as written, a sum of even powers times positive numbers, or a power of one."""
    return all(is_square(term) for term in sympy.Add.make_args(expression))


def is_square(term: Any) -> bool:
    """Return whether a product is a positive number times even powers, and powers of sums of squares."""
    factors = [factor.as_base_exp() for factor in sympy.Mul.make_args(term)]
    return all(
        e.is_even or (b.is_number and b.is_positive) or (e.is_Integer and b.is_Add and is_sum_of_squares(b))
        for b, e in factors
    )


def without_powers(K: Any, symbols: Sequence[Any]) -> tuple[Any, int]:
    """Return L >= 0 and p with K = L^p times a unit, as K is written: λ(L^p) = λ(L) / p."""
    if isinstance(K, sympy.Poly):
        return K, 1
    here = dict.fromkeys(symbols, sympy.Integer(0))
    powers = [factor.as_base_exp() for factor in sympy.Mul.make_args(K)]
    values = [b.xreplace(here) for b, _ in powers]
    vanishing = [(b, int(e)) for (b, e), value in zip(powers, values, strict=True) if e.is_Integer and value.is_zero]
    others = sympy.Mul(*(value**e for (_, e), value in zip(powers, values, strict=True) if not value.is_zero))
    if not vanishing or not others.is_positive or any(not e.is_Integer for b, e in powers if not b.is_number):
        return K, 1
    common = gcd(*(e for _, e in vanishing))
    root = sympy.Mul(*(b ** (e // common) for b, e in vanishing))
    if common % 2 or is_sum_of_squares(root):
        return root, common
    return root**2, common // 2
