"""The ideal of a loss: generators for which K is bounded above and below by multiples of their sum of squares.

With f - f0 = sum_k c_k(w) psi_k(x) and psi_k linearly independent under the law of the inputs, K = E (f - f0)^2 / 2 is
comparable to sum_k c_k^2 (Lin, "Ideal-theoretic strategies for asymptotic approximation of marginal likelihood
integrals", 1003.5338; Watanabe 2009, section 6). A model that does not separate parameters from inputs, such as a
tanh(b x), is first expanded in its inputs (Aoyagi and Watanabe 2006).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy

from sandbox.expressions.evaluation import numpy_function
from sandbox.expressions.separation import separate
from sandbox.model.loss import Loss

TAYLOR_ORDER = 9
"""The order in the inputs to which a model without such a separation is expanded."""

_INDEPENDENT = 1e-10
"""The least singular value, relative to the largest, of statistics that count as independent."""


@dataclass(frozen=True)
class Squares:
    """Generators whose sum of squares is comparable to K; `note` says how they were found."""

    generators: tuple[Any, ...]
    note: str


def squares_of(loss: Loss) -> Squares | None:
    """Return the generators of a regression's K; None for other losses, a piecewise model, or if none were found."""
    if loss.pieces is not None:
        # The parameters move the kinks, so f has no power series at the points that matter.
        return None
    generators: list[Any] = []
    notes = []
    inputs = loss.data_symbols[: len(loss.data_symbols) - len(loss.misfits)]
    for misfit in loss.misfits:
        found = _separated(misfit, inputs, loss) or _expanded(misfit, inputs, loss.symbols)
        if found is None:
            return None
        generators += (_monic(g, loss.symbols) if g.is_polynomial(*loss.symbols) else g for g in found.generators)
        notes.append(found.note)
    return Squares(tuple(generators), "; ".join(dict.fromkeys(n for n in notes if n))) if generators else None


def _separated(misfit: Any, inputs: Sequence[Any], loss: Loss) -> Squares | None:
    separated = separate(misfit, inputs)
    if separated is None:
        return None
    zero = dict.fromkeys(separated.symbols, sympy.Integer(0))
    pairs = [(sympy.S.One, separated.expression.xreplace(zero))]
    slopes = (sympy.diff(separated.expression, s) for s in separated.symbols)
    pairs += zip(separated.statistics, slopes, strict=True)
    pairs = [(psi, c) for psi, c in pairs if sympy.expand(c) != 0]
    if not _independent([psi for psi, _ in pairs], inputs, loss):
        return None
    return Squares(tuple(c for _, c in pairs), "")


def _independent(statistics: Sequence[Any], inputs: Sequence[Any], loss: Loss) -> bool:
    """Return whether no combination of the statistics vanishes under the law of the inputs."""
    columns = numpy_function(inputs, statistics)(*loss.data[:, : len(inputs)].T) if statistics else []
    if not columns:
        return False
    rows = np.stack([np.broadcast_to(c, len(loss.weights)) for c in columns], axis=1) * np.sqrt(loss.weights)[:, None]
    scale = np.linalg.norm(rows, axis=0)
    if scale.min() == 0:
        return False
    values = np.linalg.svd(rows / scale, compute_uv=False)
    return len(statistics) <= len(rows) and bool(values.min() > _INDEPENDENT * values.max())


# The same series is needed at each point of W0.
@functools.lru_cache(maxsize=32)
def _expanded(misfit: Any, inputs: tuple[Any, ...], symbols: tuple[Any, ...]) -> Squares | None:
    """Return the Taylor coefficients in the inputs that generate all others up to TAYLOR_ORDER, else None."""
    t = sympy.Dummy("t")
    try:
        series = sympy.series(misfit.xreplace({x: t * x for x in inputs}), t, 0, TAYLOR_ORDER + 1).removeO()
    except (sympy.PoleError, NotImplementedError, ValueError):
        return None
    by_degree = sympy.Poly(sympy.expand(series), t, *inputs).as_dict()
    ordered = [sympy.expand(c) for _, c in sorted(by_degree.items())]
    if not ordered or not all(c.is_polynomial(*symbols) for c in ordered):
        return None
    ordered = [_monic(c, symbols) for c in ordered]
    if not all(a.is_Rational for c in ordered for a in sympy.Poly(c, *symbols).coeffs()):
        return None
    kept: list[Any] = []
    basis = None
    for coefficient in ordered:
        if basis is None or not basis.contains(coefficient):
            kept.append(coefficient)
            basis = sympy.groebner(kept, *symbols, order="grevlex", domain="QQ")
    note = (
        f"Taylor coefficients in the inputs to order {TAYLOR_ORDER}; those kept generate the others, "
        "which is checked to that order"
    )
    return Squares(tuple(kept), note)


def _monic(polynomial: Any, symbols: Sequence[Any]) -> Any:
    """Return the polynomial divided by its leading coefficient, if that is irrational: this changes no ideal."""
    whole = sympy.Poly(polynomial, *symbols, extension=True)
    if whole.LC().is_Rational:
        return polynomial
    terms = whole.to_field().monic().terms()
    return sympy.Add(*(sympy.simplify(c) * sympy.Mul(*map(sympy.Pow, symbols, powers)) for powers, c in terms))
