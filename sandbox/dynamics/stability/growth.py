"""The growth rate of small distances under a random linear step, in three senses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from sandbox.dynamics.stability.noise import STEPS, Law
from sandbox.tools.arrays import Array

Measure = Callable[[Array, Array, Law], tuple[Array, Array]]
"""(A, G, law of H_hat) -> the log growth per step of J = A + G H_hat and its standard error, each (N,)."""

NEUTRAL = 1e-12
"""Growth up to this counts as none: a distance that neither grows nor shrinks is stable."""

_SETTLING = STEPS // 4
"""Steps at the start of a simulated product that are left out, until its directions are stationary."""
_TOGETHER = STEPS // 8
"""Steps whose growth is computed at once, after the directions of all of them."""
_FEWEST = 8
_NUMBERS = 250_000
"""Fewest products at a point; and most numbers in the products at all points, unless these are then fewer."""
_TILT = 1e-6
"""Noise, relative to J, in the matrix that gives the directions: it separates those that are equal for the mean."""
_SKEW = 1e8
"""Condition number above which the eigenvectors of J are not used as a basis."""
_AT_ONCE = 0.05
"""Most noise, as a variance relative to J, by which a direction moves at once."""
_LEAST = 1e-12
"""Noise, relative to J, that counts as none."""
_TINY = np.finfo(np.float64).tiny


def deterministic(a: Array, g: Array, law: Law) -> tuple[Array, Array]:
    """Return the log spectral radius of J at the mean Hessian, and its error 0, each (N,)."""
    radius = np.abs(np.linalg.eigvals(_mean(a, g, law))).max(axis=1, initial=0.0)
    return np.log(np.maximum(radius, _TINY)), np.zeros(len(radius))


def mean_square(a: Array, g: Array, law: Law) -> tuple[Array, Array]:
    """Return half the log spectral radius of S -> E[J S J^T] on symmetric matrices, and its error 0, each (N,)."""
    if not law.covariance.any():
        return deterministic(a, g, law)
    mean, m = _mean(a, g, law), law.mean.shape[-1]
    size = mean.shape[-1]
    moved = np.einsum("...ij,...kl->...ikjl", mean, mean)
    # E[dH_ab dH_cd], where dJ = G dH on the position's plane.
    spread = law.covariance.reshape(-1, m, m, m, m)
    moved[..., :m, :m] += np.einsum("...ia,...kc,...abcd->...ikbd", g, g, spread, optimize=True)
    basis = _symmetric(size)
    operator = basis.T @ moved.reshape(len(moved), size**2, size**2) @ basis
    radius = np.abs(np.linalg.eigvals(operator)).max(axis=1, initial=0.0)
    return np.log(np.maximum(radius, _TINY)) / 2, np.zeros(len(radius))


def almost_sure(a: Array, g: Array, law: Law) -> tuple[Array, Array]:
    """Return the top Lyapunov exponent, by independent products of random J, and its error from their spread.

    The exponent is the mean of log |J u| over directions u in their stationary law (Furstenberg and Khasminskii). If
    noise is small, directions reach this law slowly. So they move k times as fast, by the mean and the noise of k steps
    at once; to leading order in the noise of k steps, their law stays the same. k is 1 if noise is large or directions
    separate fast. The starts are the eigenvectors of J at the mean Hessian, and the largest mean over starts is taken:
    without mixing by noise, a start need not find the fastest direction. In the basis of these vectors, a complex pair
    does not make lengths oscillate. The noise's first-order effect has mean 0 given the past; regression removes it.
    """
    if not law.covariance.any():
        return deterministic(a, g, law)
    mean, m = _mean(a, g, law), law.mean.shape[-1]
    products = max(_FEWEST, min(law.most, int(_NUMBERS / (mean.size * STEPS))))
    deviations = law.deviations(products)
    # A combination of draws without any special shape.
    typical = np.einsum("t,tabn->nab", np.cos(np.arange(STEPS)), deviations[..., 0, :])
    to, back = _directions(mean, g @ typical)
    turned, left, right = back @ mean @ to, back @ g, to[:, :m]
    pairs = law.covariance.reshape(-1, m, m, m, m)
    scattered = [left, left.conj(), right, right.conj(), pairs]
    spread = np.einsum("...ia,...ic,...bj,...dj,...abcd->...", *scattered, optimize=True).real[:, None]
    top, faster = _speed(turned, spread)
    stays, drift, diffusion = ((1 - faster)[:, 0, 0], (faster / top)[:, 0, 0], (np.sqrt(faster) / top)[:, 0, 0])
    # Rows and columns first, products and points last: so each operation below runs through adjacent memory.
    turned, left, right = (_for_each(products, matrices) for matrices in (turned, left, right))
    noise, one = _times(_times(left, deviations), right), _for_each(products, np.eye(len(turned))[None])
    vectors = np.broadcast_to(one, turned.shape).astype(turned.dtype)
    squares, first_order = np.empty((2, STEPS, *vectors.shape[1:]))
    for first in range(0, STEPS, _TOGETHER):
        steps = slice(first, first + _TOGETHER)
        moves, met = stays * one + drift * turned + diffusion * noise[steps], np.empty_like(noise[steps])
        for move, here in zip(moves, met, strict=True):
            here[:] = vectors
            vectors = _times(move, vectors)
            vectors /= np.sqrt(np.maximum(_squares(vectors), _TINY))
        expected, added = _times(turned, met), _times(noise[steps], met)
        squares[steps] = _squares(expected + added)
        # Divided by the expected length, not the actual one: given the past, the mean must stay 0.
        first_order[steps] = _dots(expected, added) / (_squares(expected) + spread[:, 0] + _TINY)
    growth = np.log(np.maximum(squares[_SETTLING:], _TINY)) / 2
    return _top(growth, first_order[_SETTLING:])


def _speed(turned: Array, spread: Array) -> tuple[Array, Array]:
    """Return the eigenvalue of largest modulus, and k, the number of steps to take at once, each (N, 1, 1)."""
    diagonal = np.diagonal(turned, axis1=-2, axis2=-1)
    top = np.take_along_axis(diagonal, np.abs(diagonal).argmax(axis=1)[:, None], axis=1)[:, :, None]
    top = np.where(np.abs(top) > 0, top, 1.0)
    apart = np.abs(turned / top - np.eye(turned.shape[-1])).max(axis=(1, 2))[:, None, None]
    noise = spread[:, :, None] / np.abs(top) ** 2
    return top, np.maximum(
        1.0, np.minimum(_AT_ONCE / np.maximum(noise, _LEAST), 2 * _AT_ONCE / np.maximum(apart, _LEAST))
    )


def _for_each(products: int, matrices: Array) -> Array:
    """Return matrices (N, rows, columns) repeated for each product, shape (rows, columns, products, N)."""
    last = np.moveaxis(matrices, 0, -1)[:, :, None]
    return np.repeat(last, products, axis=2)


def _times(matrices: Array, columns: Array) -> Array:
    """Return the products of matrices (..., rows, P, products, N) and columns (..., P, columns, products, N)."""
    result = matrices[..., :, 0, None, :, :] * columns[..., None, 0, :, :, :]
    for k in range(1, columns.shape[-4]):
        result += matrices[..., :, k, None, :, :] * columns[..., None, k, :, :, :]
    return np.asarray(result)


def _squares(vectors: Array) -> Array:
    """Return the squared length of each column of (..., P, columns, products, N)."""
    return _dots(vectors, vectors)


def _dots(one: Array, other: Array) -> Array:
    """Return the real part of the inner product of each column of (..., P, columns, products, N)."""
    return np.asarray((one.conj() * other).real.sum(axis=-4))


def _top(growth: Array, first_order: Array) -> tuple[Array, Array]:
    """Return the largest mean growth over the starts and its error (N,), from (steps, starts, products, N) each."""
    draws = (0, 2)
    away = first_order - first_order.mean(axis=draws, keepdims=True)
    # Noise below the rounding of the logarithms is rounding itself and explains no growth.
    noise = np.maximum((away**2).mean(axis=draws), _LEAST**2)
    share = (away * growth).mean(axis=draws) / noise
    each = (growth - share[:, None] * first_order).mean(axis=0)
    exponents, errors = each.mean(axis=1), each.std(axis=1, ddof=1) / np.sqrt(each.shape[1])
    top = np.argmax(exponents, axis=0)[None]
    return np.take_along_axis(exponents, top, axis=0)[0], np.take_along_axis(errors, top, axis=0)[0]


def _mean(a: Array, g: Array, law: Law) -> Array:
    """Return J at the mean Hessian: A (N, P m, P m) plus G (N, P m, m) times that Hessian in the position's columns."""
    m = law.mean.shape[-1]
    added = g @ law.mean
    result = np.broadcast_to(a, (len(added), *a.shape[1:])).copy()
    result[:, :, :m] += added
    return result


def _directions(mean: Array, tilt: Array) -> tuple[Array, Array]:
    """Return the eigenvectors of J as columns, and the inverse; the identity if they are not a basis."""
    m = tilt.shape[-1]
    sizes = [np.maximum(np.linalg.norm(x, axis=(1, 2), keepdims=True), _TINY) for x in (mean, tilt)]
    tilted = mean.copy()
    tilted[:, :, :m] += _TILT * sizes[0] * tilt / sizes[1]
    vectors = np.linalg.eig(tilted)[1]
    one = np.eye(mean.shape[-1])
    vectors[np.linalg.cond(vectors) > _SKEW] = one
    return vectors, np.linalg.solve(vectors, np.broadcast_to(one, vectors.shape))


def _symmetric(size: int) -> Array:
    """Return an orthonormal basis of the symmetric matrices, flattened: shape (size^2, size (size + 1) / 2)."""
    rows, columns = np.triu_indices(size)
    basis = np.zeros((size, size, len(rows)))
    which = np.arange(len(rows))
    basis[rows, columns, which] += 0.5
    basis[columns, rows, which] += 0.5
    flat = basis.reshape(size**2, -1)
    return np.asarray(flat / np.linalg.norm(flat, axis=0))


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {"deterministic": deterministic, "mean square": mean_square, "almost sure": almost_sure}
)
NOTIONS = tuple(MEASURES)
"""The three senses in which a step may be stable."""
