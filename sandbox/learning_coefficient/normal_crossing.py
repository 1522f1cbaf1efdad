"""The learning coefficient λ (real log canonical threshold) and its multiplicity m of a loss at a point of W0.

The value is exact if one of two theorems applies, else None; nothing is guessed.
- Normal crossing: if K = u(w) prod_i p_i^{k_i} with u > 0, and the differentials of those p_i that vanish at the point
  are independent, the p_i are coordinates, λ = min 1/k_i and m counts the minima (Watanabe 2009, section 2.4).
- Morse-Bott: if W0 is a manifold of codimension r near the point and the Hessian of K has rank r, K is a sum of r
  squares in suitable coordinates, λ = r/2 and m = 1. A regular model is the case r = D.
K depends on the model through an ideal: with f - f0 = sum_k c_k(w) psi_k(x) and independent psi_k, K is bounded above
and below by multiples of sum_k c_k^2 (Lin, "Ideal-theoretic strategies ...", 1003.5338): of c_1^2 if there is only c_1.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import sympy

from sandbox.expressions.calculus import gradient
from sandbox.expressions.evaluation import numpy_function
from sandbox.learning_coefficient.coefficient import LearningCoefficient
from sandbox.learning_coefficient.ideal_of_loss import squares_of
from sandbox.model.loss import Loss
from sandbox.model.strata import ZeroSet
from sandbox.tools.arrays import Array

_TOLERANCE = 1e-7
"""A factor below this counts as zero; so does a singular value, relative to the largest."""


def by_normal_crossing(loss: Loss, point: Array, codimension: int | None) -> LearningCoefficient | None:
    """Return λ and m of K at a point of W0, shape (D,); None if neither theorem applies.

    `loss` is the population's or a potential; `codimension` is that of W0 near the point, None unless W0 is known to be
    a manifold there.
    """
    return _normal_crossing(loss, point) or _morse_bott(loss, point, codimension)


def codimension(zero_set: ZeroSet, k: int, point: Array) -> int | None:
    """Return the codimension of stratum k at a point (D,) if its expressions have independent differentials, else None.

    Fewer independent differentials than expressions do not bound it: {w1 = 0, w2^2 = 0} has one, and codimension two.
    """
    stratum = zero_set.strata[k]
    symbols = zero_set._symbols
    slopes = numpy_function(symbols, [d for e in stratum.zero for d in gradient(e, symbols)])(*point)
    rank = int(np.linalg.matrix_rank(np.array(slopes).reshape(len(stratum.zero), -1), tol=_TOLERANCE))
    return rank if rank == len(stratum.zero) else None


def _normal_crossing(loss: Loss, point: Array) -> LearningCoefficient | None:
    factors = _factors(loss)
    if factors is None:
        return None
    # A generator that no input reaches (f = w1 x with x = 0 only) bounds nothing: K must be positive somewhere near.
    near = point + np.outer([0.1, -0.07, 0.03], np.cos(np.arange(len(point))))
    if not (loss.excess(near) > 0).any():
        return None
    vanishing = [(p, k) for p, k in factors if abs(numpy_function(loss.symbols, [p])(*point)[0]) < _TOLERANCE]
    if not vanishing or len(vanishing) > len(point):
        return None
    slopes = np.array([numpy_function(loss.symbols, gradient(p, loss.symbols))(*point) for p, _ in vanishing])
    scale = np.linalg.norm(slopes, axis=1)
    if scale.min() < _TOLERANCE or np.linalg.svd(slopes / scale[:, None], compute_uv=False).min() < _TOLERANCE:
        return None
    largest = max(k for _, k in vanishing)
    multiplicity = sum(k == largest for _, k in vanishing)
    product = " ".join(f"({p})^{k}" for p, k in vanishing)
    return LearningCoefficient(
        Fraction(1, largest),
        multiplicity,
        "normal crossing",
        f"near here K behaves as {product}: λ = 1/{largest}, m = {multiplicity}",
    )


def _factors(loss: Loss) -> list[tuple[Any, int]] | None:
    """Return the factors of K with exponents, up to factors without zeros near W0; None if K is no product."""
    expression, power = loss.sample_loss, 1
    if loss.data_symbols:
        squares = squares_of(loss)
        if squares is None or len(squares.generators) != 1:
            return None
        expression, power = squares.generators[0], 2
    if not expression.is_polynomial(*loss.symbols):
        return None
    return [(p, int(k) * power) for p, k in sympy.factor_list(expression, *loss.symbols)[1]]


def _morse_bott(loss: Loss, point: Array, codimension: int | None) -> LearningCoefficient | None:
    curvatures = np.linalg.eigvalsh(loss.hessian(point[None])[0])
    rank = int((curvatures > _TOLERANCE * max(curvatures.max(), 1e-300)).sum()) if curvatures.max() > 0 else 0
    if rank == 0 or rank != codimension:
        return None
    size = len(point)
    kind = "regular" if rank == size else "Morse-Bott"
    return LearningCoefficient(
        Fraction(rank, 2),
        1,
        kind,
        f"the Hessian has rank {rank} on a stratum of codimension {rank}: λ = {rank}/2, m = 1",
    )
