"""λ and m where the misfit vanishes on coordinate planes through a point: an exact case for any analytic model.

With u = w - point, let f_o(u, x) be the misfits f - f0 of a regression, or the contrast log q - log p of another model.
If u^k divides all of them, and the h_o = f_o / u^k are not 0 at the point for almost every x, then K = u^2k (c + o(1))
with c proportional to E sum_o h_o^2 > 0: a normal crossing, λ = min 1 / (2 k_j), and m counts the minima (Watanabe
2009, section 2.4). So it is if a potential K itself is such a product. For a contrast this needs E exp(-f) = 1, so that
K = E[f + exp(-f) - 1] and c = E h^2 / 2; K near the point is compared with that. The walls of the prior's box are
coordinate planes too, so that they change neither.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import sympy

from sandbox.expressions.evaluation import numpy_function
from sandbox.expressions.functions import KINKED
from sandbox.learning_coefficient.coefficient import LearningCoefficient
from sandbox.model.loss import Loss

_MOST = 4
"""The highest order to which the misfit may vanish on a coordinate plane."""
_NEAR = (2.0**-4, 2.0**-5, 2.0**-6)
"""The distances at which K of a contrast is compared with its leading term."""
_CLOSE = 0.25
"""The largest relative difference at the last distance; before it must fall, or be a tenth of this."""


def by_axes(loss: Loss, point: Sequence[Fraction]) -> LearningCoefficient | None:
    """Return λ and m at a rational point of W0; None where the misfits are not powers of axes times a unit."""
    here = dict(zip(loss.symbols, map(sympy.Rational, point), strict=True))
    if not loss.data_symbols:
        orders = _orders((loss.sample_loss,), here)
        is_product = orders is not None and _unit(loss.sample_loss, here, orders).is_positive
        return _crossing(here, orders) if orders is not None and is_product else None
    contrast = loss.sample_loss.xreplace(dict(zip(loss.columns, loss.column_expressions, strict=True)))
    misfits = loss.misfits or (contrast,)
    orders = _orders(misfits, here)
    if orders is None:
        return None
    inputs = loss.data_symbols[: len(loss.data_symbols) - len(loss.misfits)]
    size = _size(loss, [_unit(misfit, here, orders) for misfit in misfits], inputs)
    if not 0 < size < np.inf or not (loss.misfits or _leads(loss, point, orders, size / 2)):
        return None
    return _crossing(here, [2 * k for k in orders])


def _orders(expressions: Sequence[Any], here: dict[Any, Any]) -> list[int] | None:
    """Return the order, at least 0, to which all of them vanish on each coordinate plane through a point.

    None if they vanish on no plane, to an order above _MOST, or have kinks.
    """
    if any(expression.has(*KINKED) for expression in expressions):
        return None
    found = [
        [_order(expression, w, place) for w, place in here.items()] for expression in expressions if expression != 0
    ]
    orders = [min(column) for column in zip(*found, strict=True)]
    return orders if any(orders) and max(orders) <= _MOST else None


def _crossing(here: dict[Any, Any], orders: Sequence[int]) -> LearningCoefficient:
    """Return λ and m of prod |w_j - c_j|^orders_j."""
    largest = max(orders)
    value, count = Fraction(1, largest), list(orders).count(largest)
    product = " ".join(f"({w - c})^{k}" for (w, c), k in zip(here.items(), orders, strict=True) if k)
    explanation = f"near here K is {product} times a positive factor: λ = {value}, m = {count}"
    return LearningCoefficient(value, count, "normal crossing", explanation)


def _order(misfit: Any, w: Any, place: Any) -> int:
    """Return the order to which an expression vanishes on the plane w = place; more than _MOST if none is found."""
    for order in range(_MOST + 1):
        if sympy.expand(misfit.xreplace({w: place})) != 0:
            return order
        misfit = sympy.diff(misfit, w)
    return _MOST + 1


def _unit(misfit: Any, here: dict[Any, Any], orders: Sequence[int]) -> Any:
    """Return misfit / u^k at the point, an expression in the inputs."""
    for w, k in zip(here, orders, strict=True):
        misfit = sympy.diff(misfit, w, k) / math.factorial(k)
    return misfit.xreplace(here)


def _size(loss: Loss, units: Sequence[Any], inputs: Sequence[Any]) -> float:
    """Return E sum_o h_o^2, a value relative to its largest term below the rounding error as 0; inf if undefined."""
    columns = numpy_function(inputs, units)(*loss.data[:, : len(inputs)].T)
    total = float(sum(loss.weights @ np.broadcast_to(column, len(loss.weights)) ** 2 for column in columns))
    return total if np.isfinite(total) and total > 1e-20 else 0.0


def _leads(loss: Loss, point: Sequence[Fraction], orders: Sequence[int], factor: float) -> bool:
    """Return whether K / u^2k comes close to `factor` as the point is approached."""
    centre = np.array([float(c) for c in point])
    for sign in (1.0, -1.0):
        steps = np.array(_NEAR)
        heights = loss.excess(centre + sign * steps[:, None] * np.ones(len(centre)))
        off = np.abs(heights / (factor * steps ** (2 * sum(orders))) - 1)
        if np.isfinite(off).all() and off[-1] < _CLOSE and (np.diff(off) < _CLOSE / 10).all():
            return True
    return False
