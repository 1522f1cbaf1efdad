"""Regular theory where it breaks: Laplace's evidence, BIC, Hessian and Fisher information, and flatness along W0.

Regular theory puts a positive definite Hessian at the minimum: then log Z = -nbeta K_n(w^) + log φ(w^) +
(D/2) log(2 pi / nbeta) - 1/2 log det H, F_n = n L_n(w^) + (D/2) log n (Schwarz 1978), and flatness is a spectrum. On
a singular W0 det H = 0: Laplace's evidence is infinite where the true one is finite, BIC charges D/2 for λ <= D/2, and
two points of equal spectrum may differ in λ. What is infinite is returned as infinite here, beside the true number.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import xarray as xr

from sandbox.errors import InputError
from sandbox.loss import Loss
from sandbox.measured.labelled import Array, labelled, scalar
from sandbox.measured.local import llc_quadrature, quadratic_llc
from sandbox.measured.minimum import Minimum, minimise
from sandbox.posterior import posterior
from sandbox.prior import Prior
from sandbox.zero_set import ZeroSet

FLAT = 1e-6
"""A curvature below this part of the loss's typical curvature counts as zero."""

_TRIED = 256
"""Draws from the prior at which the typical curvature is taken."""


def typical_curvature(loss: Loss, prior: Prior) -> float:
    """Return the median over the prior of the Hessian's largest |eigenvalue|, in nats per sample per w^2.

    Raises InputError where it is zero or not finite: the loss has no scale then.
    """
    hessian = loss.hessian(prior.draw(_TRIED, 0, "typical curvature"))
    finite = hessian[np.isfinite(hessian).all(axis=(1, 2))]
    typical = float(np.median(np.abs(np.linalg.eigvalsh(finite)).max(axis=1))) if len(finite) else 0.0
    if not typical > 0:
        raise InputError("the loss has no curvature on most of the prior: nothing says which curvatures are small")
    return typical


def laplace(
    loss: Loss,
    prior: Prior,
    nbeta: float | None = None,
    *,
    start: Array | None = None,
    tolerance: float | None = None,
) -> xr.Dataset:
    """Return Laplace's approximation of log int exp(-nbeta K_n) φ at the minimiser of K_n, beside the exact one.

    nbeta: unless given n of the loss's samples. start: where the minimiser is sought from, shape (D,); unless given
    the lowest minimum is taken. tolerance: as for `posterior`. One to three parameters.

    The Dataset has `minimiser` (parameter), `minimum_excess`, `at_wall` (the minimiser is on the prior's box, where
    the formula does not hold); `hessian_eigenvalue` (eigenvalue), ascending; `rank`; `log_evidence_laplace`: +inf
    where an eigenvalue is zero, nan where one is negative (a minimum only because of the wall); `log_evidence`, exact;
    and `laplace_error`, the first minus the second.
    """
    nbeta = _nbeta(loss, nbeta)
    minimum = minimise(loss, prior, start)
    values, rank, guess = _laplace(loss, prior, nbeta, minimum)
    exact = posterior(loss.excess, prior, nbeta, tolerance=tolerance).log_evidence
    return xr.Dataset(
        {
            "minimiser": labelled("parameter", minimum.point, "minimiser of K_n"),
            "minimum_excess": scalar(minimum.excess, "K_n at the minimiser", "nat per sample"),
            "at_wall": scalar(minimum.at_wall, "whether the minimiser is on the prior's box"),
            "hessian_eigenvalue": labelled("eigenvalue", values, "curvatures of K_n there", "nat per sample"),
            "rank": scalar(rank, "curvatures that are not zero"),
            "log_evidence_laplace": scalar(guess, "Laplace's log evidence", "nat"),
            "log_evidence": scalar(exact, "log evidence, by quadrature", "nat"),
            "laplace_error": scalar(guess - exact, "Laplace's log evidence minus the exact one", "nat"),
        },
        coords={"parameter": np.array(loss.parameters, dtype=object)},
        attrs={"nbeta": nbeta},
    )


def flatness(
    loss: Loss,
    prior: Prior,
    zero_set: ZeroSet,
    k: int,
    *,
    count: int = 32,
    level: float = 1e-3,
    learning_coefficient: float | None = None,
) -> xr.Dataset:
    """Return curvature and Fisher information along stratum k of W0, with the measures of flatness made from them.

    loss: the population's, or a potential: there W0 is where it vanishes. count: points of the stratum looked at.

    Dimensions `point` (in the order of the position along the stratum, where it has one), `parameter`, `eigenvalue`
    (ascending). `position`; `along`; `hessian_eigenvalue`; `fisher_eigenvalue` and `fisher_difference`, the largest
    |H - I| (zero on W0; both for a model only); `rank`; `trace`; `sharpness`, the largest eigenvalue;
    `log_determinant`, -inf where singular; `log_pseudo_determinant` of the nonzero part; `log_basin_volume`, of the
    ellipsoid {v^T H v / 2 <= level}, +inf where singular; `regular_learning_coefficient`, rank / 2, what a spectrum
    can say of λ; and λ itself as `learning_coefficient`, where it is given.
    Raises InputError for a loss on samples, or a stratum without a point inside the prior's box.
    """
    points = _points(loss, prior, zero_set, k, count)
    hessians = loss.hessian(points)
    values = np.asarray(np.linalg.eigvalsh(hessians), dtype=np.float64)
    threshold = FLAT * typical_curvature(loss, prior)
    rank, log_determinant = _rank_and_log_determinant(values, threshold)
    known = np.where(values > threshold, values, 1.0)
    dimension = values.shape[1]
    ball = dimension / 2 * math.log(2 * math.pi * level) - math.lgamma(dimension / 2 + 1)
    data = {
        "position": labelled(("point", "parameter"), points, "point of W0"),
        "hessian_eigenvalue": labelled(("point", "eigenvalue"), values, "curvatures of K", "nat per sample"),
        "rank": labelled("point", rank, "curvatures that are not zero"),
        "trace": labelled("point", values.sum(axis=1), "trace of the Hessian", "nat per sample"),
        "sharpness": labelled("point", values[:, -1], "largest curvature", "nat per sample"),
        "log_determinant": labelled("point", log_determinant, "log determinant of the Hessian"),
        "log_pseudo_determinant": labelled("point", np.log(known).sum(axis=1), "log product of nonzero curvatures"),
        "log_basin_volume": labelled("point", ball - log_determinant / 2, f"log volume of the basin below {level:g}"),
        "regular_learning_coefficient": labelled("point", rank / 2, "half the rank of the Hessian"),
    }
    if loss.residual_jacobian:
        fisher = loss.fisher_information(points)
        data["fisher_eigenvalue"] = labelled(
            ("point", "eigenvalue"), np.linalg.eigvalsh(fisher), "eigenvalues of the Fisher information"
        )
        data["fisher_difference"] = labelled("point", np.abs(hessians - fisher).max(axis=(1, 2)), "largest |H - I|")
    if zero_set.strata[k].along is not None:
        data["along"] = labelled("point", zero_set.along(points, k), "position along the stratum")
    if learning_coefficient is not None:
        data["learning_coefficient"] = labelled(
            "point", np.full(len(points), float(learning_coefficient)), "learning coefficient λ"
        )
    return xr.Dataset(
        data,
        coords={"parameter": np.array(loss.parameters, dtype=object)},
        attrs={"stratum": zero_set.strata[k].name, "level": level},
    )


def llc_along(
    loss: Loss,
    prior: Prior,
    zero_set: ZeroSet,
    k: int,
    nbeta: float,
    localization: float,
    *,
    count: int = 12,
    tolerance: float = 1e-4,
) -> xr.Dataset:
    """Return the local learning coefficient along stratum k beside what the curvatures alone would make it.

    `llc` (point) is exact at this nbeta and γ, by quadrature; `llc_quadratic`, 1/2 sum_i nbeta h_i / (nbeta h_i + γ),
    is half MacKay's effective number of parameters (1992): what regular theory predicts of it. Where they part, the
    higher orders of K speak. `position`, `along` and the dimensions are those of `flatness`; errors too.
    """
    points = _points(loss, prior, zero_set, k, count)
    inside = points[np.isfinite(prior.log_density(points))]
    found = [
        float(llc_quadrature(loss, prior, point, nbeta=nbeta, localization=localization, tolerance=tolerance)["llc"])
        for point in inside
    ]
    values = np.maximum(np.linalg.eigvalsh(loss.hessian(inside)), 0.0)
    data = {
        "position": labelled(("point", "parameter"), inside, "point of W0"),
        "llc": labelled("point", np.array(found), "local learning coefficient, by quadrature"),
        "llc_quadratic": labelled("point", quadratic_llc(values, nbeta, localization), "the same from curvatures"),
    }
    if zero_set.strata[k].along is not None:
        data["along"] = labelled("point", zero_set.along(inside, k), "position along the stratum")
    return xr.Dataset(
        data,
        coords={"parameter": np.array(loss.parameters, dtype=object)},
        attrs={"stratum": zero_set.strata[k].name, "nbeta": nbeta, "localization": localization},
    )


def _laplace(loss: Loss, prior: Prior, nbeta: float, minimum: Minimum) -> tuple[Array, int, float]:
    """Return the curvatures at the minimum, how many are not zero, and Laplace's log evidence there."""
    at = minimum.point[None]
    values = np.asarray(np.linalg.eigvalsh(loss.hessian(at)[0]), dtype=np.float64)
    rank, log_determinant = _rank_and_log_determinant(values[None], FLAT * typical_curvature(loss, prior))
    height = -nbeta * minimum.excess + float(prior.log_density(at)[0])
    width = len(values) / 2 * math.log(2 * math.pi / nbeta) - float(log_determinant[0]) / 2
    return values, int(rank[0]), height + width


def _points(loss: Loss, prior: Prior, zero_set: ZeroSet, k: int, count: int) -> Array:
    """Return up to `count` points of stratum k in the order of their position along it, (M, D)."""
    if loss.samples is not None:
        raise InputError(f"W0 is where the population's loss vanishes; here is a loss on {loss.samples} samples")
    points = np.unique(zero_set.sample(prior, k, count), axis=0)
    if not len(points):
        raise InputError(f"no point of the stratum '{zero_set.strata[k].name}' was found inside the prior's box")
    if zero_set.strata[k].along is None:
        return points
    return points[np.argsort(zero_set.along(points, k), kind="stable")]


def _rank_and_log_determinant(values: Array, threshold: float) -> tuple[npt.NDArray[np.int64], Array]:
    """Return how many curvatures (N, D) are not zero, and log det: -inf with a zero one, nan with a negative one."""
    flat, negative = np.abs(values) <= threshold, values < -threshold
    logs = np.log(np.where(flat | negative, 1.0, values)).sum(axis=1)
    logs = np.where(flat.any(axis=1), -np.inf, logs)
    return (~flat).sum(axis=1), np.where(negative.any(axis=1), np.nan, logs)


def _nbeta(loss: Loss, nbeta: float | None) -> float:
    value = loss.samples if nbeta is None else nbeta
    if value is None or not (math.isfinite(value) and value > 0):
        raise InputError(f"nbeta is {value}; it must be finite and above 0, and be given where there are no samples")
    return float(value)
